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
_ABBREVIATION = re.compile(r"\b(e\.g|i\.e|approx|ca|vs|dr|mr|mrs|fig)\.")


def plain_text(text: str) -> str:
    """Return text in lower case, in American spelling, without hyphens in words or full-width signs."""
    plain = text.lower().translate(str.maketrans("’‘“”（）％：，；！？　", "''\"\"()%:,;!? "))
    for british, american in words()["spelling"].items():
        plain = plain.replace(british, american)
    plain = _HYPHEN.sub(" ", plain)
    return " ".join(_ABBREVIATION.sub(r"\1", plain).split())
