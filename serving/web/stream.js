// A score after each word of a text. The state stays here: only what is new is read.

import { softmax } from "./model.js";
import { PADDING } from "./words.js";

export class Stream {
  /** `about` and `run` as in model.js. */
  constructor(about, run) {
    this.about = about;
    this.run = run;
    this.read = []; // [{number, states, probabilities}]: before the first word, and after each
  }

  /**
   * The probabilities of all classes before the first of the words with these `numbers`, and
   * after each; null as soon as `outdated()`. What was read is kept then, too.
   */
  async probabilities(numbers, outdated) {
    const wanted = [PADDING, ...numbers];
    const other = wanted.findIndex((number, i) => this.read[i]?.number !== number);
    this.read.length = other < 0 ? wanted.length : other;
    while (this.read.length < wanted.length) {
      if (this.read.length % 16 === 15) await new Promise((resume) => setTimeout(resume)); // drawn
      if (outdated()) return null;
      this.read.push(await this.step(wanted[this.read.length]));
    }
    return this.read.map((step) => step.probabilities);
  }

  async step(number) {
    const names = Object.keys(this.about.states);
    const before = this.read.at(-1)?.states ?? this.initial();
    const given = names.map((name) => [name, ["float32", before[name], [1, before[name].length]]]);
    const word = ["int32", Int32Array.of(number), [1, 1]];
    const found = await this.run({ numbers: word, ...Object.fromEntries(given) });
    const states = Object.fromEntries(names.map((name) => [name, found[`new_${name}`].data]));
    const scores = [...found.network.data];
    return { number, states, probabilities: softmax(scores.length === 1 ? [0, ...scores] : scores) };
  }

  initial() {
    const all = Object.entries(this.about.states);
    return Object.fromEntries(all.map(([name, [n, x]]) => [name, new Float32Array(n).fill(x)]));
  }
}
