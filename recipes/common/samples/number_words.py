"""Numbers in English words, and in digits: "two thousand and six" is 2006."""

import random

ONES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
ONES += ["eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"]
ONES += ["nineteen"]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def pairs(count: int, seed: str) -> list[tuple[str, str]]:
    """`count` different numbers below a million, in words and in digits; short ones too."""
    r, numbers = random.Random(seed), {}
    while len(numbers) < count:
        numbers[r.randrange(10 ** r.randint(1, 6))] = None
    return [(words(n), str(n)) for n in numbers]


def words(n: int) -> str:
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10 - 2] + (f"-{ONES[n % 10]}" if n % 10 else "")
    unit, size = ("thousand", 1000) if n >= 1000 else ("hundred", 100)
    rest = n % size
    joined = " and " if 0 < rest < 100 else " "
    return f"{words(n // size)} {unit}" + (joined + words(rest) if rest else "")
