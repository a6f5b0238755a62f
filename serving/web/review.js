// A review scored word by word, as recipes/sentiment.py --unidirectional learned it.

import { drawChart, linePath } from "./chart.js";
import { html, percent, svg } from "./elements.js";
import { say, sayLabel } from "./language.js";
import { load } from "./model.js";
import { Stream } from "./stream.js";
import { Reader } from "./words.js";

const TOLD = 0.05; // a change from here on is written at its word

export async function startReview(root) {
  const { about, run } = await load("review");
  const reader = new Reader(about);
  const stream = new Stream(about, run);

  /** {words, unread, before: the probabilities of no words, each: those after each word, or `before`} */
  async function answer(text, outdated) {
    const all = reader.split(text.toLowerCase());
    const words = all.slice(0, about.longest);
    const found = await stream.probabilities(reader.numbers(words), outdated);
    const each = words.length ? found?.slice(1) : found;
    return { words, unread: all.length - words.length, before: found?.[0], each };
  }

  const [verdict, list, chart, unread] = [".verdict", ".words", ".chart", ".note"].map((name) =>
    root.querySelector(name),
  );

  function draw({ words, unread: rest, before, each }) {
    const last = each.at(-1);
    const best = last.indexOf(Math.max(...last));
    const followed = about.labels.length === 2 ? 1 : best; // the class that the line is about
    const line = each.map((probabilities) => probabilities[followed]);
    const name = (i) => sayLabel("labels", about.labels[i]);

    const number = html("data", { value: last[followed] }, percent(last[best]));
    verdict.replaceChildren(html("strong", {}, name(best)), " ", number);
    verdict.dataset.label = about.labels[best];
    const from = [before[followed], ...line];
    const spans = words.map((word, i) => tinted(word, from[i], line[i], name(followed)));
    list.replaceChildren(...spans.flatMap((span) => [span, " "]));
    unread.hidden = !rest;
    unread.textContent = say("unread", about.longest, rest);
    const ends = about.labels.length === 2 ? [name(1), name(0)] : [name(followed), ""];
    drawChart(chart, (width) => picture(line, width, ends, words.length));
    return words.length ? `${name(best)}, ${percent(last[best])}` : say("nothingWritten");
  }

  return { answer, draw };
}

function tinted(word, before, after, label) {
  const change = after - before;
  const title = say("afterThis", label, percent(after), points(change));
  const found = html("span", { class: change < 0 ? "word down" : "word up", title }, word);
  found.style.setProperty("--strength", Math.min(1, Math.abs(change) / 0.3));
  if (Math.abs(change) >= TOLD) found.append(html("small", {}, points(change)));
  return found;
}

function points(change) {
  const rounded = Math.round(100 * change);
  return rounded < 0 ? `−${-rounded}` : `+${rounded}`;
}

function picture(line, width, [top, bottom], count) {
  const [height, left, right, above, below] = [150, 62, 12, 10, 28];
  const x = (i) => left + ((width - left - right) * i) / Math.max(1, line.length - 1);
  const y = (p) => above + (height - above - below) * (1 - p);
  const path = linePath(line.map((p, i) => [x(i), y(p)]));
  const dot = svg("circle", { r: 4.5, class: "dot" });
  dot.style.transform = `translate(${x(line.length - 1)}px, ${y(line.at(-1))}px)`;
  const rule = (p) => svg("line", { x1: left, x2: width - right, y1: y(p), y2: y(p), class: "rule" });
  const at = (p, text) =>
    svg("text", { x: left - 8, y: y(p), class: "tick", "text-anchor": "end", dy: "0.35em" }, text);
  const under = { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" };
  const label = say("lineLabel", top, percent(line[0]), percent(line.at(-1)), count);
  return svg(
    "svg",
    { width, height, role: "img", "aria-label": label },
    ...[0, 0.5, 1].map(rule),
    ...[at(1, top), at(0.5, "50%"), at(0, bottom)],
    svg("text", { ...under, class: "tick" }, say("wordsRead", count)),
    svg("path", { d: path, class: "future" }),
    dot,
  );
}
