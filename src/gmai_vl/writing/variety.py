"""How varied texts are: shares of distinct runs of words, of repeated sentences and of texts that stand twice.

distinct-n is the number of different runs of n words over the number of all (Li et al., arXiv 1510.03055). It falls
with the number of texts, so groups are compared at the same number: texts over `most_texts` are thinned evenly.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from gmai_vl.records import Sample

COLUMNS = ("texts", "distinct-1", "distinct-2", "distinct-3", "same sentences", "same texts")
"""Columns of the table; shares are 0-1."""

MOST_TEXTS = 2000

# A Chinese character is a word here; numbers are all the same word, else a number that changes would pass for variety.
_WORD = re.compile(r"[a-zA-Z]+(?:[-'][a-zA-Z]+)*|\d+(?:\.\d+)?|[\u4e00-\u9fff]")
_SENTENCE_END = re.compile(r"(?<=[.?!])\s+|(?<=[。？！])|\n")
_MARKUP = re.compile(r"<box>[^<]*</box>")


def variety(
    texts_by_group: Mapping[str, Sequence[str]], *, most_texts: int = MOST_TEXTS
) -> dict[str, dict[str, float]]:
    """Return group -> column -> value, for the columns of `COLUMNS`.

    `same sentences` and `same texts` are the shares of those that equal another one of their group, the boxes in them
    apart. `texts` is the number given, before thinning.
    """
    return {group: _row(texts, most_texts) for group, texts in texts_by_group.items() if texts}


def variety_of(samples: Iterable[Sample]) -> dict[str, dict[str, float]]:
    """Return the table of a corpus, by language, subset and kind: "en caption caption said", "zh percept mcq asked".

    What is asked and what is said are apart, for an answer is often one of few words by its nature.
    """
    texts: dict[str, list[str]] = {}
    for sample in samples:
        for role, word in (("user", "asked"), ("assistant", "said")):
            text = "\n".join(turn.text for turn in sample.turns if turn.role == role)
            texts.setdefault(f"{sample.language} {sample.subset} {sample.kind} {word}", []).append(text)
    return variety(dict(sorted(texts.items())))


def _row(texts: Sequence[str], most_texts: int) -> dict[str, float]:
    step = max(1.0, len(texts) / most_texts)
    chosen = [_MARKUP.sub("<box>", texts[int(number * step)]) for number in range(min(len(texts), most_texts))]
    sentences = [part.strip() for text in chosen for part in _SENTENCE_END.split(text) if part.strip()]
    return {
        "texts": len(texts),
        **{f"distinct-{length}": _distinct(chosen, length) for length in (1, 2, 3)},
        "same sentences": _same(sentences),
        "same texts": _same(chosen),
    }


def _distinct(texts: Sequence[str], length: int) -> float:
    runs = Counter(chain.from_iterable(_runs(text, length) for text in texts))
    return len(runs) / runs.total() if runs else 0.0


def _runs(text: str, length: int) -> Iterable[tuple[str, ...]]:
    words = ["0" if word[0].isdigit() else word.lower() for word in _WORD.findall(text)]
    return zip(*(words[start:] for start in range(length)), strict=False)


def _same(texts: Sequence[str]) -> float:
    times = Counter(texts)
    return sum(count for count in times.values() if count > 1) / len(texts) if texts else 0.0
