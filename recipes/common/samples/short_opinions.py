"""Short opinions made up by rules, from which a network learns what order says.

Whole reviews don't teach it: one label for 230 words. The rules are the ones by which English turns
a judgement round (Polanyi & Zaenen 2006, Contextual valence shifters): it is denied ("not good"),
outweighed ("good, but dull"), or compared with what was hoped for. In each pair of texts good and
bad words are exchanged, so the words themselves say nothing.
"""

import random

GOOD = """adorable amazing amusing appealing authentic beautiful believable brilliant
captivating charming clever compelling convincing cool creative delightful effective elegant
engaging enjoyable entertaining excellent exceptional exciting fabulous fantastic
fascinating fine flawless fresh fun funny good gorgeous great gripping haunting hilarious
honest imaginative impressive incredible inspired inspiring intelligent interesting
intriguing likable lovely magnificent marvelous masterful memorable moving nice original
outstanding perfect pleasant powerful refreshing remarkable riveting sensitive sharp smart
solid splendid strong stunning stylish subtle superb sweet terrific thrilling touching
unforgettable watchable witty wonderful"""
BAD = """abysmal annoying appalling atrocious awful awkward bad bland boring cheap cheesy
clumsy confused confusing contrived crappy cringe depressing dire disappointing disgusting
dreadful dreary dull dumb embarrassing empty fake flat forced forgettable hideous hollow
horrible horrendous idiotic incoherent inept insulting irritating laughable lame lazy lousy
ludicrous mediocre mindless moronic nasty obnoxious offensive overrated painful pathetic
pointless poor predictable pretentious repetitive ridiculous rotten sad shallow silly sloppy
slow stale stupid tedious terrible tiresome tired trashy ugly unbearable unconvincing
uninspired uninteresting unfunny unwatchable weak worthless wooden"""
NOUNS = """film movie story plot acting ending music script cast dialogue picture direction
show comedy thriller drama humor photography performance beginning idea soundtrack
production romance"""

# {y} is the opinion's own sense, {x} the opposite; {y2}, {x2} are other words of the same.
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
    "We {love} every minute of this {y} {noun}.",
    "One of the most {y} films of the year.",
]
NEGATION = [
    "{it} {isnt} {very}{x}.",
    "{it} {isnt} {x} or {x2}.",
    "{it} {isnt} a {x} {noun}.",
    "{it} {isnt} {x}, it {is} {y}.",
    "{it} {isnt} {x} but {y}.",
    "{it} {is} {y} and {isnt} {x}.",
    "{it} {is} neither {x} nor {x2}.",
    "{it} {is} {y} rather than {x}.",
    "{it} {is} {far} {x}.",
    "{it} {is} everything but {x}.",
    "{it} has {no} {x} {other}.",
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
    "I {dont} believe that {it} {is} {x}.",
    "I {dont} {hate} {it}.",
    "{nobody} thought that {it} {is} {x}.",
    "{nobody} will find {it} {x}.",
    "{nobody} told me that {it} {is} {x}.",
    "Nothing in {it} {is} {x}.",
    "Nothing here is {x}, and nothing is {x2}.",
    "I saw nothing {x} in {it}.",
    "Without anything {x} in it, {it} {is} {y}.",
    "A {noun} without a {x} minute.",
    "There {isnt} one {x} minute in {it}.",
    "Is {it} {x}? No.",
    "{x}? Not {it}.",
    "Did I {hate} {it}? Not for a minute.",
    "It is wrong to call {it} {x}.",
    "Don't believe that {it} {is} {x}.",
    "Hard to see how anyone could find {it} {x}.",
]
CONTRAST = [
    "The {other} {is} {very}{x}, {but} the {noun} {is} {very}{y}.",
    "The {other} {is} {x}. {still}, {it} {is} {very}{y}.",
    "{it} starts {x}, {but} it ends {y}.",
    "{it} {is} {x} at first, then {y}.",
    "{x} {other}, {but} a {y} {noun}.",
    "{although} it has a {x} {other}, I {love} {it}.",
    "{although} the {other} {is} {x}, {it} {is} {very}{y}.",
    "{although} {x} in places, {it} {is} {y}.",
    "{it} {is} {very}{y}, {although} the {other} {is} {x}.",
    "{it} {is} a {y} {noun} {although} the {other} {is} {x}.",
    "{despite} a {x} {other}, {it} {is} {y}.",
    "{it} {is} {very}{y} {despite} the {x} {other}.",
    "The {other} may be {x}; {still}, this {is} {y}.",
    "The {other} {is} {x}, {but} I {love} {it}.",
    "Sure, the {other} {is} {x}. {still}, {it} {is} {y}.",
    "They say that {it} {is} {x}. To me it {is} {y}.",
    "My friends {hate} it, {but} I {love} it.",
    "I had heard {it} {is} {x}; it {is} {y}.",
    "I used to think {it} {x}. Now I think it is {y}.",
    "Critics called {it} {x}, I call it {y}.",
    "I thought that {it} would be {x}, {but} it {is} {y}.",
    "Apart from the {x} {other}, everything {is} {y}.",
    "{it} looks {x} and turns out to be {y}.",
    "One {x} scene can not change that {it} {is} {y}.",
    "The {other} {is} {x}, I admit, {but} all else {is} {y}.",
    "Some of it {is} {x}, most of it {is} {y}.",
    "The {other}, which {is} {x}, can not change that {it} {is} {y}.",
]
COMPARISON = [
    "{it} {is} {much}less {x} {than}.",
    "{it} {is} {much}less {x} than the {other}.",
    "{it} {isnt} {nearly}as {x} as {they} thought.",
    "{it} {isnt} {nearly}so {x} as the first one.",
    "{it} {isnt} {nearly}as {x} as the {other}.",
    "{it} {is} {much}more {y} {than}.",
    "{it} {is} {much}more {y} than {x}.",
    "{it} {is} {much}{better} {than}.",
    "This {is} {much}{better} {than}.",
    "I {feared} that {it} would be {x}, and it {is} {y}.",
    "We {feared} for something {x}, and saw something {y}.",
    "I {feared} for a {x} {noun}; what we were shown {is} {y}.",
    "The last one {is} {x}. This one is {much}{better}.",
    "{it} {is} {much}{better} than the {x} book.",
    "{much}{better} than its {x} {other} makes you think.",
    "I was told to expect something {x}; I saw something {y}.",
    "The {noun} we were promised {is} {x}, the one we saw {is} {y}.",
    "Compared to the {x} original, this {is} {y}.",
    "{they} think {it} {x}. I disagree.",
    "{they} say that {it} {is} {x}. {they} are wrong.",
    "{they} thought {it} {x}, and I think otherwise.",
    "Too {y} to be called {x}.",
    "I have seen many {x} films; this one is different.",
    "Where others are {x}, {it} {is} {y}.",
    "{it} could have been {x}. It {is} {y}.",
    "Last year's {noun} {is} {much}more {x} than this one.",
]
TEMPLATES = {
    "plain": PLAIN,
    "negation": NEGATION,
    "contrast": CONTRAST,
    "comparison": COMPARISON,
}
# What a place in a template may be filled with.
FILLED = {
    "it": ["it", "the {noun}", "this {noun}", "the whole {noun}", "his new {noun}"],
    "is": ["is", "was", "is", "was", "seems", "seemed"],
    "very": ["", "", "", "very ", "really ", "so ", "rather ", "quite ", "truly "],
    "isnt": ["isn't", "wasn't", "is not", "was not", "is never", "was never", "is hardly",
             "doesn't seem", "is in no way"],
    "dont": ["don't", "didn't", "do not", "did not", "can not", "couldn't", "wouldn't", "would not",
             "never"],
    "no": ["no", "not any", "hardly any"],
    "far": ["far from", "by no means", "in no way", "nowhere near"],
    "nobody": ["nobody", "no one", "none of us", "none of my friends", "hardly anyone"],
    "but": ["but", "but", "but then", "yet", "and yet"],
    "still": ["still", "however", "nevertheless", "even so", "overall"],
    "although": ["although", "though", "even though", "even if", "while"],
    "despite": ["despite", "in spite of"],
    "much": ["", "", "much ", "a lot ", "a little "],
    "nearly": ["", "", "nearly ", "quite ", "half "],
    "than": ["than I expected", "than expected", "than I thought it would be", "than most",
             "than they told me", "than it sounds", "than I remembered"],
    "they": ["they", "my friends", "critics", "others"],
}  # fmt: skip
# Words that come with the sense of {y}.
NEGATIVE = {"love": "hated", "hate": "love", "better": "worse", "feared": "hoped"}
POSITIVE = {"love": "loved", "hate": "hate", "better": "better", "feared": "feared"}
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
    good, bad = r.sample(GOOD.split(), 3), r.sample(BAD.split(), 3)
    noun, other = r.sample(NOUNS.split(), 2)
    filled = {name: r.choice(choices) for name, choices in FILLED.items()}
    filled["it"] = filled["it"].format(noun=noun)
    texts = []
    for y, x, more in ((bad, good, NEGATIVE), (good, bad, POSITIVE)):
        senses = {"y": y[0], "y2": y[1], "y3": y[2], "x": x[0], "x2": x[1], **more}
        text = template.format(noun=noun, other=other, **filled, **senses)
        texts.append(text[0].upper() + text[1:])
    if r.random() < 0.3:
        beside, before = r.choice(BESIDE), r.random() < 0.5
        texts = [f"{beside} {text}" if before else f"{text} {beside}" for text in texts]
    return texts
