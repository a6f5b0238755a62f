// What pictures share: they are drawn anew for the width they have, so that letters keep their size.

const drawn = new WeakMap();
const watcher = new ResizeObserver((entries) => entries.forEach(({ target }) => again(target)));

/** Fills `place` with `picture(width)`, now and whenever its width changes. */
export function drawChart(place, picture) {
  if (!drawn.has(place)) watcher.observe(place);
  drawn.set(place, { picture });
  again(place);
}

function again(place) {
  const kept = drawn.get(place);
  const width = place.clientWidth;
  if (!width || kept.width === width) return;
  kept.width = width;
  place.replaceChildren(kept.picture(width));
}

export function linePath(points) {
  return points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
}

/** Round numbers, about `count` of them, from `low` to `high`. */
export function ticks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((size) => size >= rough * 0.999);
  const found = [];
  for (let n = Math.ceil(low / step); n * step <= high; n++) found.push(n * step);
  return found;
}

/** A number as a reader wants it: six digits, no tail of zeros. */
export function short(number) {
  return String(Number(number.toPrecision(6)));
}
