"""Options told from the words of a question: "A. text", "A: text", "(A) text" or "A) text", a line each or in a row."""

import re
from collections.abc import Mapping, Sequence

from gmai_vl.foundation import BadItem

_MARK = r"(?:\((?P<round>[A-Z])\)|(?P<plain>[A-Z])[ \t]?[.:)．：）、])"
_AT_LINE_START = re.compile(rf"^[ \t]*{_MARK}[ \t]*", re.M)
_AFTER_BLANK = re.compile(rf"(?<!\S){_MARK}[ \t]+(?=\S)")

_HEADING = re.compile(r"\n[ \t]*(?:options|choices|answer choices|选项)[ \t]*[:：]?[ \t]*\Z", re.I)
_INSTRUCTION = re.compile(
    r"\W*(?:please|answer|choose|select|pick|reply|respond|give|state|provide|return|output|think|only|your\s+answer)\b"
    r"|[请只仅]",
    re.I,
)
"""How a line below the options begins that says how to answer, and no longer what is asked."""


def in_words(stem: str, options: Mapping[str, str]) -> str:
    """Return a question as one text, its options below it."""
    return "\n".join([stem, *(f"{letter}. {text}" for letter, text in options.items())])


def parted(text: str) -> tuple[str, dict[str, str]]:
    """Return a question's words and its options, letter -> text. Raises BadItem if there are not two that can be told.

    The last A begins the options, so that a stem may have lines of its own that look like them. Below the options, a
    line that says how to answer is left out, others after a blank line belong to the question.
    """
    run = _run(list(_AT_LINE_START.finditer(text)))
    if len(run) < 2:
        run = _run(list(_AFTER_BLANK.finditer(text)))
    if len(run) < 2:
        raise BadItem("no options can be told from its words")
    ends = [*(mark.start() for mark in run[1:]), len(text)]
    texts = [text[mark.end() : end] for mark, end in zip(run, ends, strict=True)]
    texts[-1], further = _without_instruction(texts[-1])
    options = {_letter(mark): " ".join(option.split()) for mark, option in zip(run, texts, strict=True)}
    if empty := [letter for letter, option in options.items() if not option]:
        raise BadItem(f"one of its options is empty: {empty[0]}")
    stem = _HEADING.sub("", text[: run[0].start()].rstrip()).strip()
    return "\n".join(filter(None, [stem, further])), options


def _letter(mark: re.Match[str]) -> str:
    return mark["round"] or mark["plain"]


def _run(marks: Sequence[re.Match[str]]) -> Sequence[re.Match[str]]:
    """Return the marks from the last A on; nothing where there is none."""
    found = [_letter(mark) for mark in marks]
    if "A" not in found:
        return ()
    run = marks[len(found) - 1 - found[::-1].index("A") :]
    letters = "".join(map(_letter, run))
    if not "ABCDEFGHIJKLMNOPQRSTUVWXYZ".startswith(letters):
        raise BadItem(f"its options are not lettered A, B, C in this order: {', '.join(letters)}"[:120])
    return run


def _without_instruction(last: str) -> tuple[str, str]:
    """Return the text of the last option, and what below it belongs to the question."""
    option, *lines = last.split("\n")
    further: list[str] = []
    after_blank = False
    for line in map(str.strip, lines):
        if not line:
            after_blank = True
        elif _INSTRUCTION.match(line):
            continue
        elif after_blank:
            further.append(line)
        else:
            option += f" {line}"
    return option, "\n".join(further)
