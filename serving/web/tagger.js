// A tag for each word of a sentence, as recipes/pos_tagging.py learned it.

import { html, percent } from "./elements.js";
import { Problem, say, sayLabel } from "./language.js";
import { load } from "./model.js";
import { colour } from "./tags.js";
import { Reader } from "./words.js";

const TOLD = 5; // of the probabilities
const LONGEST = 5000; // characters that are read at once

export async function startTagger(root) {
  const { about, run } = await load("tagging");
  const reader = new Reader(about);

  /** [{word, tag, each: [[a tag, its probability], …], the likeliest first}] */
  async function answer(text) {
    if (text.length > LONGEST) throw new Problem("tooLong", LONGEST);
    const words = reader.split(text);
    if (!words.length) return [];
    const { tags } = await run({
      numbers: ["int32", reader.numbers(words.map((word) => word.toLowerCase())), [1, words.length]],
      letters: ["int32", reader.spelling(words), [1, words.length, reader.longest]],
    });
    return words.map((word, i) => {
      const row = tags.data.slice(i * about.tags.length, (i + 1) * about.tags.length);
      const each = about.tags.map((tag, k) => [tag, row[k]]).sort((a, b) => b[1] - a[1]);
      return { word, tag: each[0][0], each };
    });
  }

  const list = root.querySelector(".words");
  const odds = root.querySelector(".odds");
  const legend = root.querySelector(".legend");

  function draw(found) {
    odds.hidden = true;
    list.replaceChildren(...found.map((one) => html("li", {}, drawn(one))));
    list.querySelector("button")?.setAttribute("tabindex", 0);
    legend.replaceChildren(
      ...about.tags.map((tag) => {
        const key = html("dt", { class: "tag" }, tag);
        colour(key, tag, about.tags);
        const name = sayLabel("tags", tag);
        return html("div", {}, key, html("dd", {}, name === tag ? "" : name));
      }),
    );
    const said = found.map(({ word, tag }) => `${word}: ${sayLabel("tags", tag)}`);
    return found.length ? said.join(", ") : say("nothingWritten");
  }

  function drawn({ word, tag, each }) {
    const text = html("span", { class: "text", lang: "" }, word);
    const button = html("button", { type: "button", class: "word", tabindex: -1 }, text);
    button.append(html("span", { class: "tag" }, tag));
    colour(button, tag, about.tags);
    const show = () => showOdds(button, each);
    const hide = () => (odds.hidden = true);
    for (const event of ["pointerenter", "focus", "click"]) button.addEventListener(event, show);
    for (const event of ["pointerleave", "blur"]) button.addEventListener(event, hide);
    return button;
  }

  function showOdds(button, each) {
    const rows = each.slice(0, TOLD).map(([tag, probability]) => {
      const bar = html("span", { class: "bar" });
      bar.style.setProperty("--share", probability);
      colour(bar, tag, about.tags);
      const number = html("data", { value: probability }, percent(probability));
      return html("div", {}, html("span", { class: "name" }, tag), bar, number);
    });
    odds.replaceChildren(...rows);
    odds.hidden = false;
    const room = odds.offsetParent.clientWidth - odds.offsetWidth;
    odds.style.left = `${Math.max(0, Math.min(button.offsetLeft, room))}px`;
    odds.style.top = `${button.offsetTop + button.offsetHeight + 6}px`;
    for (const one of list.querySelectorAll("button")) one.removeAttribute("aria-describedby");
    button.setAttribute("aria-describedby", odds.id);
  }

  // One stop for the Tab key; arrows go from word to word.
  list.addEventListener("keydown", (event) => {
    const words = [...list.querySelectorAll("button")];
    const at = words.indexOf(document.activeElement);
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: words.length - 1 }[event.key];
    if (event.key === "Escape") odds.hidden = true;
    if (at < 0 || !words[to]) return;
    event.preventDefault();
    words[at].tabIndex = -1;
    words[to].tabIndex = 0;
    words[to].focus();
  });

  return { answer, draw };
}
