// A colour for each tag: words of like use have like ones. The tag is always written, too.

const HUES = {
  NOUN: 250, PROPN: 280, PRON: 215, VERB: 25, AUX: 50, ADJ: 150, ADV: 175, DET: 310, NUM: 335,
  ADP: 90, CCONJ: 70, SCONJ: 105, PART: 125, INTJ: 0,
};
const GREY = ["PUNCT", "SYM", "X", "_"];

export function colour(element, tag, tags) {
  const golden = (tags.indexOf(tag) * 137.5) % 360; // of other tag sets: far from the one before
  element.style.setProperty("--hue", HUES[tag] ?? golden);
  element.style.setProperty("--chroma", GREY.includes(tag) ? 0 : 1);
}
