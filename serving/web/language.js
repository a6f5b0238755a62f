// English or Chinese: as the browser asks for, until one is chosen.

import { STRINGS } from "./strings.js";

const KEPT = "language";
const listeners = [];
let language = kept() ?? (navigator.language.startsWith("zh") ? "zh" : "en");

/** What strings.js has by this name. */
export function say(name, ...given) {
  const found = STRINGS[language][name] ?? name;
  return typeof found === "function" ? found(...given) : found;
}

export function sayLabel(kind, label) {
  return STRINGS[language][kind][label] ?? label;
}

/** An error that is told on the page, in the language that it has then. */
export class Problem extends Error {
  constructor(name, ...given) {
    super(name);
    this.said = () => say(name, ...given);
  }
}

export function onLanguage(listener) {
  listeners.push(listener);
}

/** Fills in all that index.html names, and makes its buttons choose. */
export function startLanguage() {
  for (const button of document.querySelectorAll("button[data-language]")) {
    button.addEventListener("click", () => choose(button.dataset.language));
  }
  fillIn();
}

function choose(chosen) {
  language = chosen;
  try {
    localStorage.setItem(KEPT, chosen);
  } catch {
    // Private windows may keep nothing.
  }
  fillIn();
  listeners.forEach((listener) => listener());
}

function kept() {
  try {
    const found = localStorage.getItem(KEPT);
    return found in STRINGS ? found : null;
  } catch {
    return null;
  }
}

function fillIn() {
  document.documentElement.lang = language;
  document.title = say("title");
  for (const element of document.querySelectorAll("[data-say]")) {
    element.textContent = say(element.dataset.say);
  }
  for (const element of document.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", say(element.dataset.label));
  }
  for (const button of document.querySelectorAll("button[data-language]")) {
    button.setAttribute("aria-pressed", button.dataset.language === language);
  }
}
