// Texts to words and their numbers, by the rules of about.json. serving/onnx_query.py does the same.

export const PADDING = 0;
export const UNKNOWN = 1; // those that are known follow

export class Reader {
  constructor(about) {
    this.rules = about.rules.map(([pattern, by]) => [new RegExp(pattern, "gu"), inJavaScript(by)]);
    this.words = numbered(about.words);
    this.letters = numbered(about.letters ?? []);
    this.longest = about.longest;
  }

  split(text) {
    for (const [pattern, by] of this.rules) text = text.replace(pattern, by);
    return text.split(/[\t\n\v\f\r ]+/).filter(Boolean);
  }

  /** One for each word. */
  numbers(words) {
    return Int32Array.from(words, (word) => this.words.get(word) ?? UNKNOWN);
  }

  /** `longest` for each word, padded. */
  spelling(words) {
    const found = new Int32Array(words.length * this.longest).fill(PADDING);
    words.forEach((word, row) => {
      const letters = [...word].slice(0, this.longest); // characters, not UTF-16
      found.set(letters.map((one) => this.letters.get(one) ?? UNKNOWN), row * this.longest);
    });
    return found;
  }
}

function numbered(all) {
  return new Map(all.map((one, place) => [one, place + UNKNOWN + 1]));
}

function inJavaScript(replacement) {
  return replacement.replaceAll("$", "$$$$").replace(/\\(\d)/g, "$$$1");
}
