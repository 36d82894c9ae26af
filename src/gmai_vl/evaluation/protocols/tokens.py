"""Measures that several references share: words in common, yes and no as parts of a text, the most similar string."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher


@dataclass(frozen=True, slots=True)
class Overlap:
    """How two bags of words agree, 0-1 each; 0 where there is nothing to divide by."""

    precision: float
    """Words in common over words said."""

    recall: float
    """Words in common over words wanted."""

    @property
    def f1(self) -> float:
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def overlap(said: Iterable[str], wanted: Iterable[str]) -> Overlap:
    """Compare words as often as they stand in both; give sets where a word counts once."""
    said_counts, wanted_counts = Counter(said), Counter(wanted)
    common = (said_counts & wanted_counts).total()
    return Overlap(common / (said_counts.total() or 1), common / (wanted_counts.total() or 1))


def contained_yes_no(text: str) -> set[str]:
    """Return which of "yes" and "no" stand in the text, also inside other words ("normal", "not")."""
    return {word for word in ("yes", "no") if word in text}


def most_similar(options: Mapping[str, str], text: str) -> tuple[str, float]:
    """Return the letter of the option most similar to `text`, and how similar; the first of equals.

    difflib's ratio with the option as the first sequence and the defaults, so that in a text of 200 characters or more
    frequent characters count as junk.
    """
    ratios = {letter: SequenceMatcher(None, option, text).ratio() for letter, option in options.items()}
    best = max(ratios, key=lambda letter: ratios[letter])
    return best, ratios[best]
