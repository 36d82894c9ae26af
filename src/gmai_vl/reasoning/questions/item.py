"""A question on its way into a folder: what must be true of it, and the name that its content gives it."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from gmai_vl.evaluation import Question
from gmai_vl.evaluation.benchmarks.own import LETTERS
from gmai_vl.evaluation.prompts import IMAGE_MARK
from gmai_vl.foundation import BadItem, canonical_json, sha256_of_text
from gmai_vl.reasoning.items import About, Side

_OF_OTHERS = re.compile(
    r"\b(?:all|none|both|neither|either|any|one|two)\s+of\s+(?:the\s+)?(?:above|below|other|others|options)\b"
    r"|上述|下述|以上(?:都|皆|均|全|所有|各|选|几|两|三)"
    r"|\b(?:options?|choices?|answers?)\s+\(?(?-i:[A-I])\b"
    r"|\A(?:both\s+|either\s+|neither\s+|only\s+)?\(?(?-i:[A-I])\)?"
    r"(?:\s*(?:,|&|\+|/|、|和|及|或|and|or|nor)\s*\(?(?-i:[A-I])\)?)+\Z",
    re.I,
)
"""What makes sense in one order of the options only: "all of the above", "A and C"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """A question with one right answer out of several, and where it is from."""

    question: Question
    """One image, by the hash of its pixels; its id is `content_id`. `stem` is what is asked, without the options."""

    side: Side
    license: str | None
    about: About

    picture: Path
    """The file that holds the image."""

    place: str
    """Where it was read, for messages: the id of a sample, or a row."""

    @property
    def id(self) -> str:
        """Of the question."""
        return self.question.id

    @property
    def image(self) -> str:
        """Hash of the pixels of its image."""
        return self.question.images[0]

    @property
    def options(self) -> Mapping[str, str]:
        """Letter -> text."""
        assert self.question.options is not None, self.id
        return self.question.options


LeftOut = tuple[Item, str]
"""An item that is not taken, and why."""


def sound(question: Question) -> Question:
    """Return a question with its options in one line each and `content_id` as its id. Raises BadItem if it cannot be.

    It must ask about one image and have two to nine options that differ, one of them right; and their order must not
    matter, since it will be another one.
    """
    if len(question.images) != 1:
        raise BadItem("has no image" if not question.images else "has several images")
    options = {letter: " ".join(text.split()) for letter, text in (question.options or {}).items()}
    stem = question.stem.strip()
    if not stem:
        raise BadItem("has no question besides its options")
    if len(options) < 2:
        raise BadItem("has fewer than two options")
    if len(options) > len(LETTERS):
        raise BadItem(f"has more than {len(LETTERS)} options")
    if not all(map(alike, options.values())):
        raise BadItem("one of its options is empty")
    if len(set(map(alike, options.values()))) < len(options):
        raise BadItem("two of its options read alike")
    if question.answer not in options:
        raise BadItem("its answer is none of its options")
    if any(map(_OF_OTHERS.search, options.values())):
        raise BadItem("one of its options speaks of the others")
    if any(mark[1] != "1" for text in (stem, *options.values()) for mark in IMAGE_MARK.finditer(text)):
        raise BadItem("it marks an image that it does not have")
    # What was asked with it before, options and all, no longer holds once they are shuffled.
    bare = replace(question, stem=stem, options=options, turns=())
    return replace(bare, id=content_id(question.images[0], stem, options.values()))


def alike(text: str) -> str:
    """Return what two options must not share: the text but for case, width of characters, blanks and a final dot."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).rstrip(".。 ")


def content_id(image: str, stem: str, options: Iterable[str]) -> str:
    """Return 16 hexadecimal digits: equal for the same image, words and set of options, wherever they were read."""
    texts = sorted(map(alike, options))
    return sha256_of_text(canonical_json([image, " ".join(stem.casefold().split()), texts]))[:16]
