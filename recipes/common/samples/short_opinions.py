"""Short opinions made up by rules, from which a network learns what order says.

Whole reviews don't teach it: one label for 230 words. The rules are the ones by which English turns
a judgement round (Polanyi & Zaenen 2006, Contextual valence shifters): it is denied ("not good"),
outweighed ("good, but dull"), or compared with what was hoped for. In each pair of texts good and
bad words are exchanged, so what a word says depends on the rule.
"""

import random
import re

GOOD = """adorable amazing amusing appealing authentic beautiful believable brilliant
captivating charming clever compelling convincing cool creative delightful effective elegant
engaging enjoyable entertaining excellent exceptional exciting fabulous fantastic
fascinating fine flawless fresh fun funny good gorgeous great gripping haunting hilarious
imaginative impressive incredible inspired inspiring intelligent interesting
intriguing likable lovely magnificent marvelous masterful memorable moving nice original
outstanding perfect pleasant powerful refreshing remarkable riveting sensitive sharp smart
solid splendid strong stunning stylish subtle superb sweet terrific thrilling touching
unforgettable watchable witty wonderful"""
BAD = """abysmal annoying appalling atrocious awful awkward bad bland boring cheap cheesy
clumsy confused confusing contrived crappy dire disappointing disgusting
dreadful dreary dull dumb embarrassing empty fake flat forced forgettable hideous hollow
horrible horrendous idiotic incoherent inept insulting irritating laughable lame lazy lousy
ludicrous mediocre mindless moronic nasty obnoxious offensive overrated painful pathetic
pointless poor predictable pretentious repetitive ridiculous rotten shallow silly sloppy
stale stupid tedious terrible tiresome tired trashy ugly unbearable unconvincing
uninspired uninteresting unfunny unwatchable weak worthless wooden"""
WHOLES = ["film", "movie", "picture", "show", "comedy", "thriller", "drama", "production"]
WHOLES += ["romance"]
PARTS = ["story", "plot", "acting", "ending", "music", "script", "cast", "dialogue", "direction"]
PARTS += ["humor", "photography", "performance", "beginning", "idea", "soundtrack"]

# {y} is the opinion's own sense, {x} the opposite; {y2}, {x2} are other words of the same. {noun}
# is a whole, {other} a part of one, {it} a whole, or a part where none is named besides.
PLAIN = [
    "{it} {is} {very}{y}.",
    "{it} {is} {very}{y} and {y2}.",
    "What a {y} {noun}!",
    "A {very}{y} {noun}, with a {y2} {other}.",
    "{y}, {y2} and {y3}.",
    "{y}. {y2}. {y3}.",
    "I found {it} {very}{y} from start to finish.",
    "{it} {is} so {y} that I told all my friends.",
    "{it} {is} {y}. The {other} {is} {y2}, too.",
    "I {love} {it}.",
    "I {loved} {it}.",
    "We {loved} every minute of this {y} {noun}.",
    "I {hoped} that {it} would be {y}, and it {is} {y}.",
]
NEGATION = [
    "{it} {isnt} {very}{x}.",
    "{it} {hardly} {x}.",
    "{it} {isnt} {x} or {x2}.",
    "{it} {isnt} a {x} {noun}.",
    "{it} {isnt} {x}, it {is} {y}.",
    "{it} {isnt} {x} but {y}.",
    "{it} {is} {y} and {hardly} {x}.",
    "{it} {is} neither {x} nor {x2}.",
    "{it} {is} {y} rather than {x}.",
    "{it} has no {x} {other}.",
    "{it} has {no} {x} scenes.",
    "Not {x}, {y}.",
    "Not {x}, not {x2}.",
    "Not a {x} {noun} by any means.",
    "{y}, never {x}.",
    "{y} instead of {x}: that is this {noun}.",
    "This {isnt} a {very}{x} {noun}.",
    "I {dont} think that {it} {is} {very}{x}.",
    "I {dont} think of {it} as {x}.",
    "I {dont} describe {it} as {x}.",
    "I {dont} consider {it} {x}.",
    "I {dont} feel that {it} {is} {x}.",
    "I {dont} {hate} {it}.",
    "{nobody} thought that {it} {is} {x}.",
    "{nobody} will find {it} {x}.",
    "{nobody} {hated} {it}.",
    "Nothing in {it} {is} {x}.",
    "Nothing here is {x}, and nothing is {x2}.",
    "I saw nothing {x} in {it}.",
    "Without anything {x} in it, {it} {is} {y}.",
    "A {noun} without a {x} minute.",
    "There isn't one {x} minute in {it}.",
    "Is {it} {x}? No.",
    "{x}? Not {it}.",
    "Did I {hate} {it}? Not for a minute.",
    "It is wrong to call {it} {x}.",
    "Don't believe that {it} {is} {x}.",
    "Hard to see how anyone could find {it} {x}.",
]
CONTRAST = [
    "The {other} {is} {very}{x}, {but} the {noun} {is} {very}{y}.",
    "The {other} {is} {x}. {still}, the {noun} {is} {very}{y}.",
    "{it} starts {x}, {but} it ends {y}.",
    "{it} {is} {x} at first, then {y}.",
    "{x} {other}, {but} a {y} {noun}.",
    "{although} it has a {x} {other}, I {loved} {it}.",
    "{although} the {other} {is} {x}, {it} {is} {very}{y}.",
    "{although} {x} in places, {it} {is} {y}.",
    "{it} {is} {very}{y}, {although} the {other} {is} {x}.",
    "{it} {is} a {y} {noun} {although} the {other} {is} {x}.",
    "{despite} a {x} {other}, {it} {is} {y}.",
    "{it} {is} {very}{y} {despite} the {x} {other}.",
    "The {other} may be {x}; {still}, this {noun} {is} {y}.",
    "The {other} {is} {x}, {but} I {loved} {it}.",
    "Sure, the {other} {is} {x}. {still}, {it} {is} {y}.",
    "They say that {it} {is} {x}. To me it {is} {y}.",
    "My friends {hated} it, {but} I {loved} it.",
    "My friends {hate} it. I {love} it.",
    "I had heard {it} {is} {x}; it {is} {y}.",
    "I used to think {it} {x}. Now I think it is {y}.",
    "I used to {hate} {it}. Now I {love} it.",
    "Critics called {it} {x}, I call it {y}.",
    "I thought that {it} would be {x}, {but} it {is} {y}.",
    "Apart from the {x} {other}, everything {is} {y}.",
    "{it} looks {x} and turns out to be {y}.",
    "One {x} scene can not change that {it} {is} {y}.",
    "The {other} {is} {x}, I admit, {but} all else {is} {y}.",
    "Some of it {is} {x}, most of it {is} {y}.",
    "The {other}, which {is} {x}, can not spoil or save it: {it} {is} {y}.",
]
COMPARISON = [
    "{it} {is} {much}less {x} {than}.",
    "{it} {isnt} {nearly}as {x} as {they} thought.",
    "{it} {isnt} {nearly}so {x} as the first one.",
    "{it} {is} {much}{better} {than}.",
    "{it} {isnt} {worse} {than}, it {is} {y}.",
    "This {is} {much}{better} {than}.",
    "More {y} than {x}.",
    "I {feared} that {it} would be {x}, and it {is} {y}.",
    "We {feared} to see something {x}, and saw something {y}.",
    "The last one {is} {x}. This one is {much}{better}.",
    "{much}{better} than its {x} {other} makes you think.",
    "I was told to expect something {x}; I saw something {y}.",
    "The {noun} we were promised {is} {x}, the one we saw {is} {y}.",
    "Compared to the {x} first part, this {is} {y}.",
    "{they} think {it} {x}. I disagree.",
    "{they} say that {it} {is} {x}. {they} are wrong.",
    "{they} thought {it} {x}, and I think otherwise.",
    "Too {y} to be called {x}.",
    "I have seen many {x} films; this one is different.",
    "Where others are {x}, {it} {is} {y}.",
    "{it} could have been {x}. It {is} {y}.",
]
TEMPLATES = {
    "plain": PLAIN,
    "negation": NEGATION,
    "contrast": CONTRAST,
    "comparison": COMPARISON,
}
# What a place in a template may be filled with …
FILLED = {
    "it": ["it", "the {noun}", "this {noun}", "the whole {noun}", "his new {noun}"],
    "is": ["is", "was", "is", "was", "seems", "seemed"],
    "very": ["", "", "", "very ", "really ", "truly ", "quite "],
    "isnt": ["isn't", "wasn't", "is not", "was not", "doesn't seem", "didn't seem"],
    "hardly": ["is never", "was never", "is hardly", "was hardly", "is in no way", "is far from",
               "was far from", "is by no means"],
    "dont": ["don't", "didn't", "do not", "did not", "can not", "couldn't", "wouldn't"],
    "no": ["no", "hardly any", "none of the"],
    "nobody": ["nobody", "no one", "none of us", "none of my friends", "hardly anyone"],
    "but": ["but", "but", "but then", "yet", "and yet"],
    "still": ["still", "however", "nevertheless", "even so", "overall"],
    "although": ["although", "though", "even though", "even if", "while"],
    "despite": ["despite", "in spite of"],
    "much": ["", "", "much ", "a lot "],
    "nearly": ["", "", "nearly ", "quite ", "half "],
    "than": ["than I expected", "than expected", "than I thought it would be", "than they told me",
             "than it sounds", "than I remembered"],
    "they": ["they", "my friends", "critics", "others"],
}  # fmt: skip
# … as (a positive text's, a negative one's).
SENSES = {
    "love": [("love", "hate"), ("like", "dislike"), ("enjoy", "hate")],
    "loved": [("loved", "hated"), ("liked", "disliked"), ("enjoyed", "hated")],
    "better": [("better", "worse")],
    "hoped": [("hoped", "feared")],
}
OPPOSITES = {"love": "hate", "loved": "hated", "better": "worse", "hoped": "feared"}
BESIDE = [  # what says nothing
    "I saw it on Sunday.",
    "It is two hours long.",
    "My brother had the tickets.",
    "It is set in Rome.",
    "It came out last year.",
    "I watched it twice.",
]


def opinions(count: int, seed: int) -> tuple[list[str], list[int]]:
    """`count` (texts, labels), by turns negative and positive; a label is 1 for positive."""
    r, texts = random.Random(seed), []
    while len(texts) < count:
        texts += pair(r.choice(TEMPLATES[r.choice([*TEMPLATES])]), r)
    return texts[:count], [i % 2 for i in range(count)]


def pair(template: str, r: random.Random) -> list[str]:
    """(a negative text, a positive one)."""
    named = "{noun}" in template or "{other}" in template
    filled = {name: r.choice(choices) for name, choices in FILLED.items()}
    filled["noun"], filled["other"] = r.choice(WHOLES if named else WHOLES + PARTS), r.choice(PARTS)
    filled["it"] = filled["it"].format(noun=filled["noun"])
    good, bad = r.sample(GOOD.split(), 3), r.sample(BAD.split(), 3)
    positive = dict(zip(("y", "y2", "y3", "x", "x2"), good + bad))
    negative = dict(zip(("y", "y2", "y3", "x", "x2"), bad + good))
    for name, choices in SENSES.items():
        both = r.choice(choices)
        positive[name], negative[name] = both
        negative[OPPOSITES[name]], positive[OPPOSITES[name]] = both
    texts = [written(template.format(**filled, **senses)) for senses in (negative, positive)]
    if r.random() < 0.3:
        beside, before = r.choice(BESIDE), r.random() < 0.5
        texts = [f"{beside} {text}" if before else f"{text} {beside}" for text in texts]
    return texts


def written(text: str) -> str:
    """`text`, with "an" where it must be, and sentences that begin with a capital."""
    text = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)
    return re.sub(r"(^|[.?!] )([a-z])", lambda found: found[1] + found[2].upper(), text)
