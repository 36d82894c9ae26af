"""The store of all answers of a teacher, raw.jsonl: it only grows, so that a run that was killed asks nothing twice."""

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pydantic import AliasChoices, ConfigDict, Field, NonNegativeInt, ValidationError

from gmai_vl.foundation import Settings, UserError, canonical_json

Key = tuple[str, int]
"""Id of a question and number of a try, from 1."""


class Answer(Settings):
    """What came of one try; a line of raw.jsonl."""

    model_config = ConfigDict(strict=True)

    id: str
    """Of the question."""

    number: int = Field(serialization_alias="try", validation_alias=AliasChoices("number", "try"), ge=1)
    """Of the try, from 1."""

    response: str
    """Empty where it was refused."""

    cut_off: bool = False
    """Whether it was still going on at its longest length."""

    refused: str | None = None
    """Why a server would not answer; such a try is asked again by the next run."""

    model: str
    """As the server names it, or the hash of a checkpoint."""

    prompt_tokens: NonNegativeInt | None = None
    """As the server counts them, or an upper bound where it does not; None of a checkpoint."""

    answer_tokens: NonNegativeInt | None = None

    seconds: float = 0.0
    """From the line before it, or the beginning of the run: those of all lines are what all runs took."""

    @property
    def key(self) -> Key:
        """Name of the try."""
        return self.id, self.number


def latest(lines: Sequence[Answer]) -> dict[Key, Answer]:
    """Return the last line of every try: an answer comes after the refusals before it."""
    return {line.key: line for line in lines}


@dataclass(slots=True)
class Kept:
    """The store, open to go on with."""

    _answered: set[Key]
    _stream: IO[bytes]
    _since: float

    def lacks(self, key: Key) -> bool:
        """Say whether a try has no answer yet."""
        return key not in self._answered

    def add(self, answers: Sequence[Answer]) -> None:
        """Append answers and flush them to disk."""
        now = time.perf_counter()
        each = round((now - self._since) / len(answers), 4)
        self._since = now
        lines = [answer.model_copy(update={"seconds": each}) for answer in answers]
        self._stream.write("".join(canonical_json(line.model_dump(by_alias=True)) + "\n" for line in lines).encode())
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._answered |= {line.key for line in lines if line.refused is None}


@contextmanager
def open_answers(path: Path) -> Iterator[Kept]:
    """Open the store to go on with; a last line that was cut off is dropped.

    Raises UserError if the file holds anything but answers, or another run writes to it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{path}: another run is at work here; wait for it, or give another `out`") from None
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
        answered = {line.key for line in read_answers(path) if line.refused is None}
        yield Kept(answered, stream, time.perf_counter())


def read_answers(path: Path) -> list[Answer]:
    """Return all lines; a last one that was cut off is none. Raises UserError, with the line, for what is no answer."""
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    answers = []
    for number, line in enumerate(lines, start=1):
        try:
            answers.append(Answer.model_validate_json(line))
        except ValidationError:
            raise UserError(f"{path}:{number}: is no answer of a teacher; move the file away") from None
    return answers
