// The next steps of a pasted series, as recipes/forecasting.py learned it.

import { drawChart, linePath, short, ticks } from "./chart.js";
import { parseCsv, writeCsv } from "./csv.js";
import { html, svg } from "./elements.js";
import { Problem, say } from "./language.js";
import { load } from "./model.js";

export async function startForecast(root, ask) {
  const { about, run } = await load("forecasting");
  const { channels, lookback, levels, mean, std } = about;
  const [field, file, example, choice, chosen, chart, note, numbers, copy] = [
    ...["textarea", "input[type=file]", ".example", ".choice", "select", ".chart", ".note"],
    ...[".numbers", ".copy"],
  ].map((what) => root.querySelector(what));

  /** {names, past: [step][channel], levels: [[step][channel] for each], middle: which of them} */
  async function answer(text) {
    const { names, rows } = inOrder(parseCsv(text), channels);
    const width = rows[0].length;
    if (width !== channels.length) throw new Problem("wrongWidth", width, channels);
    if (rows.length < lookback) throw new Problem("tooShort", rows.length, lookback);
    const past = rows.slice(-lookback);
    const window = ["float32", Float32Array.from(past.flat()), [1, lookback, width]];
    const [{ data, dims }] = Object.values(await run({ window }));
    const horizon = dims.at(-2);
    const value = (level, step, i) =>
      data[(level * horizon + step) * width + i] * std[i] + mean[i];
    const each = Array.from({ length: levels.length || 1 }, (_, level) =>
      Array.from({ length: horizon }, (_, step) => channels.map((_, i) => value(level, step, i))),
    );
    if (!each.flat(2).every(Number.isFinite)) throw new Problem("tooLarge");
    const distance = levels.map((level) => Math.abs(level - 0.5));
    const middle = levels.length ? distance.indexOf(Math.min(...distance)) : 0;
    return { names: names ?? channels, past, left: rows.length - lookback, levels: each, middle };
  }

  let last;

  function draw(found) {
    last = found;
    const { names, past, left, levels: each, middle } = found;
    const before = chosen.selectedIndex;
    chosen.replaceChildren(...names.map((name) => html("option", {}, name)));
    chosen.selectedIndex = before < 0 ? names.length - 1 : before;
    choice.hidden = names.length < 2;
    note.hidden = !left;
    note.textContent = say("leftOut", lookback, past.length + left);
    const levelOf = (k) => (levels.length ? ` q${short(100 * levels[k])}` : "");
    const columns = each.flatMap((_, k) => names.map((name) => name + levelOf(k)));
    const steps = each[0].map((_, step) => each.flatMap((level) => level[step].map(short)));
    numbers.value = writeCsv(["step", ...columns], steps.map((row, i) => [i + 1, ...row]));
    drawChosen();
    return say("forecastSaid", each[middle].length, names);
  }

  function drawChosen() {
    const i = chosen.selectedIndex;
    const series = (rows) => rows.map((row) => row[i]);
    const each = last.levels.map(series);
    const band = levels.length > 1 ? [each[0], each.at(-1)] : null;
    const shown = { name: last.names[i], past: series(last.past), next: each[last.middle], band };
    drawChart(chart, (width) => picture(shown, width));
  }

  function put(text) {
    field.value = text;
    ask();
  }

  chosen.addEventListener("change", drawChosen);
  example.addEventListener("click", () => put(about.example));
  file.addEventListener("change", async () => {
    const [one] = file.files;
    file.value = ""; // the same one may come again, changed
    if (one) put(await one.text().catch((error) => `${one.name}: ${error.message}`));
  });
  copy.addEventListener("click", async () => {
    numbers.select();
    try {
      await navigator.clipboard.writeText(numbers.value);
      root.querySelector(".status").textContent = say("copied");
      copy.textContent = say("copied");
      setTimeout(() => (copy.textContent = say("copy")), 2000);
    } catch {
      // They are selected: the browser's own command copies them.
    }
  });
  if (!field.value) field.value = about.example;
  return { answer, draw };
}

/** The columns that the model reads, in its order, if they are named so. */
function inOrder({ names, rows }, channels) {
  const lacking = channels.filter((name) => !names?.includes(name));
  const elsewhere = names?.some((name, i) => channels.includes(name) && channels[i] !== name);
  if (lacking.length && elsewhere) throw new Problem("lacking", lacking);
  if (lacking.length || new Set(names).size < names.length) return { names, rows };
  const places = channels.map((name) => names.indexOf(name));
  return { names: channels, rows: rows.map((row) => places.map((i) => row[i])) };
}

function picture({ name, past, next, band }, width) {
  const height = 300;
  const values = [...past, ...next, ...(band ?? []).flat()];
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const [bottom, top] = low < high ? [low, high] : [low - 1, high + 1];
  const upright = ticks(bottom, top, 5);
  const longest = Math.max(...upright.map((one) => short(one).length));
  const [left, right, above, below] = [34 + 7 * longest, 14, 26, 44];
  const steps = past.length + next.length - 1;
  const x = (step) => left + ((width - left - right) * (step + past.length - 1)) / steps; // 0: now
  const y = (value) => above + ((height - above - below) * (top - value)) / (top - bottom);
  const ahead = (each) => [[0, past.at(-1)], ...each.map((value, i) => [i + 1, value])];
  const path = (pairs) => linePath(pairs.map(([step, value]) => [x(step), y(value)]));
  const text = (at, kind, said) => svg("text", { class: kind, ...at }, said);

  const drawing = svg("svg", {
    width,
    height,
    role: "img",
    "aria-label": say("chartLabel", name, past.length, next.map(short)),
  });
  for (const value of upright) {
    const line = { x1: left, x2: width - right, y1: y(value), y2: y(value), class: "rule" };
    const at = { x: left - 8, y: y(value), dy: "0.35em", "text-anchor": "end" };
    drawing.append(svg("line", line), text(at, "tick", short(value)));
  }
  for (const step of ticks(1 - past.length, next.length, width / 60)) {
    const at = { x: x(step), y: height - below + 18, "text-anchor": "middle" };
    drawing.append(text(at, "tick", step > 0 ? `+${step}` : short(step).replace("-", "−")));
  }
  if (band) {
    const [lower, upper] = band.map(ahead);
    const around = `${path(lower)}L${path(upper.toReversed()).slice(1)}Z`;
    drawing.append(svg("path", { d: around, class: "band" }));
  }
  const middle = (above + height - below) / 2;
  const turned = { transform: `translate(13 ${middle}) rotate(-90)`, "text-anchor": "middle" };
  const under = { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" };
  drawing.append(
    svg("line", { x1: x(0), x2: x(0), y1: above, y2: height - below, class: "now" }),
    svg("path", { d: path(past.map((value, i) => [i + 1 - past.length, value])), class: "past" }),
    svg("path", { d: path(ahead(next)), class: "future" }),
    text({ x: x(0) - 8, y: 14, "text-anchor": "end" }, "tick", say("past")),
    text({ x: x(0) + 8, y: 14 }, "tick ahead", say("forecast")),
    text(turned, "tick", name),
    text(under, "tick", say("stepsFromNow")),
  );
  return drawing;
}
