"""The words of an answer as LLaVA-Med and MultiMedEval compare them, which both took from VQA's scorer.

In lower case. Each mark of `_MARKS` becomes a blank, unless one of its kind stands beside a blank or a comma stands
between digits anywhere: then all of its kind go without one, and "x-ray - seen" is "xray seen". The first 32 dots go
that no digit follows. Colons, apostrophes, signs of per cent and other marks stay. Number words become digits, "none"
as well; articles go; a contraction without its apostrophe gets it. Contractions of three words are left out here.
"""

import re

_ARTICLES = frozenset(("a", "an", "the"))
_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_DOT = re.compile(r"\.(?!\d)")
_DOTS = 32  # the number of a flag that the reference gives where a count belongs
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DENIED = "ai are ca could did does do had has have is might must need ought sha should was were wo would"
_ENDINGS = {  # ending, without and with its apostrophe -> what it is behind
    ("nt", "n't"): _DENIED,
    ("ve", "'ve"): "could might must not should they we what where who would you",
    ("d", "'d"): "he how it someone something there they where who you",
    ("ll", "'ll"): "how it somebody someone something they what who why you",
    ("s", "'s"): "he how somebody someone that there what when where who why",
    ("re", "'re"): "there they what why you",
}
_REPLACED = (
    {word: str(number) for number, word in enumerate(_NUMBERS)}
    | {stem + bare: stem + full for (bare, full), stems in _ENDINGS.items() for stem in stems.split()}
    | {"none": "0", "maam": "ma'am", "oclock": "o'clock", "twas": "'twas", "yall": "y'all", "somebody'd": "somebodyd"}
)


def words_of(text: str) -> list[str]:
    """Return the words of an answer as they are compared."""
    parted = text = text.lower()
    comma_in_number = bool(_COMMA_IN_NUMBER.search(text))
    for mark in _MARKS:
        joins = comma_in_number or f"{mark} " in text or f" {mark}" in text
        parted = parted.replace(mark, "" if joins else " ")
    words = _DOT.sub("", parted, count=_DOTS).split()
    return [_REPLACED.get(word, word) for word in words if word not in _ARTICLES]
