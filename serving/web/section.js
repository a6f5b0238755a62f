// What the three sections share: a field's text goes to the task, its answer is drawn and announced.

import { onLanguage, Problem } from "./language.js";
import { latest } from "./latest.js";

const PAUSE = 800; // milliseconds without typing, until a screen reader is told

/**
 * Args:
 *   root: The section: a textarea, and a .problem, a .loading, an .answer and a .status.
 *   start: Of `root` and what asks anew, a promise of the task. `answer(text, outdated)` promises
 *     an answer; `draw(answer)` puts it on the page, and returns it in a sentence.
 */
export async function startSection(root, start) {
  const [field, problem, shown, status] = ["textarea", ".problem", ".answer", ".status"].map(
    (what) => root.querySelector(what),
  );
  let task, answer, wrong, timer;

  function draw() {
    clearTimeout(timer); // an answer that is gone is not told
    problem.hidden = !wrong;
    problem.textContent = wrong ? wrong.said() : "";
    field.setAttribute("aria-invalid", Boolean(wrong));
    shown.hidden = !answer;
    if (!answer) return;
    const said = task.draw(answer);
    timer = setTimeout(() => (status.textContent = said), PAUSE);
  }

  async function attempt(work) {
    [answer, wrong] = [null, null];
    try {
      answer = await work();
    } catch (error) {
      if (!(error instanceof Problem)) console.error(error);
      wrong = error instanceof Problem ? error : new Problem("failed", error.message);
    }
  }

  const ask = latest(async (text, outdated) => {
    root.setAttribute("aria-busy", "true");
    await attempt(() => task.answer(text, outdated));
    if (outdated()) return;
    draw();
    root.setAttribute("aria-busy", "false");
  });

  await attempt(async () => {
    task = await start(root, () => ask(field.value));
  });
  root.querySelector(".loading").remove();
  onLanguage(draw);
  if (wrong) {
    root.setAttribute("aria-busy", "false");
    return draw();
  }
  field.addEventListener("input", () => ask(field.value));
  return ask(field.value);
}
