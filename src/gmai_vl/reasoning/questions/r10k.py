"""The two record forms of GMAI-Reasoning10K: a question with the letter of its answer, and with the reasoning to it.

Both are LLaVA's: {"image": path, "conversations": [{"from": "human", "value": "<image>\\n" question, options},
{"from": "gpt", "value": ...}]}. In `reasoning_mcq_rl.jsonl` the last value is a letter; in `reasoning_mcq_sft.jsonl` it
is written here as `<think>...</think><answer>A</answer>`, and read in any words that state one answer.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from gmai_vl.evaluation import extract
from gmai_vl.foundation import BadItem
from gmai_vl.reasoning.questions.wording import in_words, parted
from gmai_vl.sources.dialogue import MAX_CHARACTERS, PLACEHOLDER, ROLES, cleaned, messages_of
from gmai_vl.sources.entries import Entry

RL_FILE = "reasoning_mcq_rl.jsonl"
SFT_FILE = "reasoning_mcq_sft.jsonl"

COLUMNS = ("image", "conversations")

_THOUGHT = re.compile(r"\A\s*<think>(.*?)</think>", re.S | re.I)
_TAGGED = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.S | re.I)
_LETTER = re.compile(r"[\s*(\[]*([A-Za-z])[\s*)\].:]*")
_TAG = re.compile(r"</?(?:think|answer)>", re.I)


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """A question in either form."""

    image: str
    """Path of the image, below the folder of the images."""

    stem: str
    """What is asked, without the options."""

    options: dict[str, str]
    """Letter -> text."""

    answer: str
    """A letter."""

    reasoning: str | None = None
    """What led to the answer; None where only the answer is given."""

    @property
    def modality(self) -> str | None:
        """The fourth part of the image's path, `images/2d/cls/MODALITY/DATASET/...`; None where it has no more."""
        return self._folder(3)

    @property
    def dataset(self) -> str | None:
        """The fifth part of the image's path; None where that is the file itself."""
        return self._folder(4)

    def _folder(self, place: int) -> str | None:
        folders = PurePosixPath(self.image).parts[:-1]
        return folders[place] if len(folders) > place else None


def rl_entry(record: Record) -> Entry:
    """Return a record of `reasoning_mcq_rl`: the answer is the letter alone."""
    return _entry(record, record.answer)


def sft_entry(record: Record) -> Entry:
    """Return a record of `reasoning_mcq_sft`. Raises BadItem if there is no reasoning, or it holds the tags itself."""
    reasoning = (record.reasoning or "").strip()
    if not reasoning:
        raise BadItem("has no reasoning")
    if found := _TAG.search(reasoning):
        raise BadItem(f"its reasoning holds the tag {found[0]}")
    return _entry(record, f"<think>{reasoning}</think><answer>{record.answer}</answer>")


def record_of(entry: Entry) -> Record:
    """Return what an entry of either form says. Raises BadItem, what is wrong first and the value after a colon."""
    image = entry.get("image")
    named = [cleaned(each, "its image") for each in (image if isinstance(image, list) else [image])]
    if len(named) != 1 or named[0] is None:
        raise BadItem("names no image" if len(named) < 2 else "names several images")
    turns = [message for message in messages_of(entry.get("conversations")) if _role(message) != "system"]
    if [_role(turn) for turn in turns] != ["user", "assistant"]:
        raise BadItem("is not one question with one answer")
    asked, said = (cleaned(turn.get("value"), what) for turn, what in zip(turns, ("the question", "the answer")))  # noqa: B905
    if asked is None or said is None:
        raise BadItem("its question is empty" if asked is None else "its answer is empty")
    if len(asked) + len(said) > MAX_CHARACTERS:
        raise BadItem(f"is longer than {MAX_CHARACTERS} characters")
    if asked.count(PLACEHOLDER) > 1:
        raise BadItem("shows more than one image")
    stem, options = parted(asked.replace(PLACEHOLDER, "", 1).strip())
    answer, reasoning = _answered(said, stem, options)
    return Record(image=named[0], stem=stem, options=options, answer=answer, reasoning=reasoning)


def _entry(record: Record, said: str) -> Entry:
    # A stem that holds the mark of an image itself gets blanks into it, as readers would look for one more image.
    asked = in_words(record.stem, record.options).replace(
        PLACEHOLDER, PLACEHOLDER.replace("<", "< ").replace(">", " >")
    )
    return {
        "image": record.image,
        "conversations": [
            {"from": "human", "value": f"{PLACEHOLDER}\n{asked}"},
            {"from": "gpt", "value": said},
        ],
    }


def _role(message: Entry) -> Any:
    said_by = message.get("from")
    return ROLES.get(said_by.strip().lower()) if isinstance(said_by, str) else None


def _answered(said: str, stem: str, options: Mapping[str, str]) -> tuple[str, str | None]:
    """Return the letter that a text answers, and the reasoning before it; None where it is an answer and no more."""
    tagged = _TAGGED.findall(said)
    letter = _LETTER.fullmatch(tagged[-1] if tagged else said)
    if letter and letter[1].upper() not in options:
        raise BadItem(f"its answer is none of its options: {letter[1]}, of {', '.join(options)}")
    answer = extract("mcq", stem, options, said).choice
    if answer is None:
        raise BadItem(f"no answer can be read out of its words: ...{said[-60:]!r}")
    if thought := _THOUGHT.search(said):
        return answer, thought[1].strip() or None
    if tagged:
        return answer, said[: said.lower().index("<answer>")].strip() or None
    bare = {answer, options[answer], f"{answer} {options[answer]}"}
    return answer, None if _bare(said) in set(map(_bare, bare)) else said


def _bare(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))
