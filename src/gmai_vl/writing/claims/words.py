"""The words by which free texts are read, from `words.yaml`."""

import re
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from gmai_vl.vocabulary import Language


@cache
def words() -> dict[str, Any]:
    """Return the data file."""
    data: dict[str, Any] = yaml.safe_load((files("gmai_vl.writing.claims") / "words.yaml").read_text(encoding="utf-8"))
    return data


@cache
def pattern(language: Language, name: str) -> re.Pattern[str]:
    """Return one pattern of a language, for text that `plain_text` has made plain."""
    return re.compile(words()[language][name])


@cache
def patterns_of(group: str) -> dict[str, re.Pattern[str]]:
    """Return the patterns of `modalities`, `planes`, `invented` or `residue` by their key."""
    entries: dict[str, str | list[str]] = words()[group]
    return {key: re.compile("|".join([entry] if isinstance(entry, str) else entry)) for key, entry in entries.items()}


@cache
def numerals(language: Language) -> dict[str, int]:
    """Return word -> number."""
    found: dict[str, int] = words()[f"numbers_{language}"]
    return found


_HYPHEN = re.compile(r"(?<=[a-z])[-‐‑–](?=[a-z0-9])|(?<=[0-9])[-‐‑](?=[a-z])")
_MOST_DIGITS = 12
_LONG_NUMBER = re.compile(rf"\d{{{_MOST_DIGITS + 1},}}")
"""No number of an annotation is as long, and thousands of digits would be read for minutes."""

_ABBREVIATION = re.compile(r"\b(e\.g|i\.e|approx|ca|vs|dr|mr|mrs|fig)\.")


_LANGUAGES: tuple[Language, ...] = ("en", "zh")


@cache
def _all_numerals() -> dict[str, int]:
    return numerals("en") | numerals("zh")


@cache
def _measured(language: Language) -> re.Pattern[str]:
    """Return a pattern of number words that stand before a unit."""
    longest_first = "|".join(sorted(numerals(language), key=len, reverse=True))
    edge = r"\b" if language == "en" else ""
    units = r"(?=[ -]?(?:mm|cm|millimet|centimet|percent|per cent|毫米|厘米|平方))"
    return re.compile(f"{edge}({longest_first}){edge}{units}")


def plain_text(text: str) -> str:
    """Return text in lower case, in American spelling, without hyphens in words or full-width signs."""
    plain = text.lower().translate(str.maketrans("’‘“”（）％：，；！？　", "''\"\"()%:,;!? "))
    for british, american in words()["spelling"].items():
        plain = plain.replace(british, american)
    for language in _LANGUAGES:
        plain = _measured(language).sub(lambda match: str(_all_numerals()[match[1]]), plain)
    plain = _LONG_NUMBER.sub("9" * _MOST_DIGITS, _HYPHEN.sub(" ", plain))
    return " ".join(_ABBREVIATION.sub(r"\1", plain).split())
