"""Answers on disk: appended line by line and flushed, so that a run that was killed goes on and asks nothing twice."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from gmai_vl.evaluation.predictions import read_predictions


@dataclass(frozen=True, slots=True)
class Saved:
    """A file of answers that grows."""

    responses: dict[str, str]
    """Id -> response of all that was answered, in this run and before."""

    _stream: IO[str]

    def add(self, answers: Mapping[str, str], more: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        """Append answers, id -> response, and flush them to disk; `more`: id -> further keys of its line."""
        lines = [{"id": id, "response": text, **(more or {}).get(id, {})} for id, text in answers.items()]
        self._stream.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self.responses.update(answers)


@contextmanager
def saved_answers(path: Path) -> Iterator[Saved]:
    """Open a file of predictions to go on with; a last line that was cut off is dropped.

    Raises UserError if the file holds anything but predictions.
    """
    _drop_torn_line(path)
    responses = read_predictions(path) if path.exists() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        yield Saved(responses, stream)


def _drop_torn_line(path: Path) -> None:
    if not path.exists():
        return
    with path.open("r+b") as stream:
        whole = stream.read().rfind(b"\n") + 1
        stream.truncate(whole)
