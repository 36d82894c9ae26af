"""A conversation with one model: what was said, which pictures were shown, and the next answer as it comes."""

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from gmai_vl import NOTICE
from gmai_vl.foundation import UserError, visible, write_json, write_text
from gmai_vl.model import Sampling, Vlm
from gmai_vl.records import ImageRef, Turn
from gmai_vl.serving.api.asking import Shown, prompt_of, room_after, shown
from gmai_vl.serving.engine import Asked, Engine, Piece
from gmai_vl.serving.limits import Limits
from gmai_vl.serving.refusals import Refusal
from gmai_vl.serving.studies import Series, open_study

_CHOICE = re.compile(
    r"^(?P<file>.+)@(?P<name>series|axial|coronal|sagittal|stored|frame)=(?P<number>\d{1,9})$", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that was chosen to be asked about."""

    told: str
    """What it is, for people: file, series, slice, window."""

    pixels: NDArray[np.uint8]
    """[H, W] or [H, W, 3]"""

    notes: tuple[str, ...] = ()
    """What its header warns of: `burned_in`, `recognizable`."""


def open_picture(text: str, window: str | None = None, limits: Limits | None = None) -> Picture:
    """Return the picture that `FILE` or `FILE@axial=12` names: a picture, or a slice of a DICOM series or a volume.

    FILE may be a folder or a zip of a series. Without a slice the middle one is taken, of several series the first, or
    that of `@series=1`. Raises UserError for what is not there or cannot be read.
    """
    path, chosen = _chosen(text)
    limits = limits or Limits()
    files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise UserError(
            f"{visible(str(path))}: no such file; give a picture, a DICOM file or folder, or a NIfTI volume"
        )
    with tempfile.TemporaryDirectory() as folder:
        try:
            study = open_study(files, limits, Path(folder))
            number = chosen.pop("series", 0)
            if number >= len(study.series):
                raise Refusal(422, f"series {number}: it has series 0 to {len(study.series) - 1}")
            return _picture_of(study.series[number], path.name, chosen, window)
        except Refusal as refusal:
            raise UserError(f"{visible(text)}: {refusal.line}") from None


def _chosen(text: str) -> tuple[Path, dict[str, int]]:
    """Return the file of a text like `FILE@series=1@axial=12`, and what is chosen of it."""
    chosen: dict[str, int] = {}
    while not Path(text).exists() and (found := _CHOICE.match(text)):
        chosen["stored" if found["name"] == "frame" else found["name"]] = int(found["number"])
        text = found["file"]
    return Path(text), chosen


def _picture_of(series: Series, name: str, chosen: dict[str, int], window: str | None) -> Picture:
    plane, index = next(iter(chosen.items()), (series.planes[0].name, series.planes[0].first))
    pixels = series.slice(plane, index, window)
    told = [visible(name), *filter(None, [series.modality])]
    if series.kind != "picture":
        slices = next(stack.slices for stack in series.planes if stack.name == plane)
        told.append(f"{plane} {index} of 0 to {slices - 1}")
    if series.windows:
        told.append(f"window {window or series.windows[0]} of {', '.join(series.windows)}")
    return Picture("; ".join(told), pixels, series.notes)


class Chat:
    """A conversation. Leave it as a context, so that its engine ends."""

    def __init__(self, vlm: Vlm, *, max_tokens: int, sampling: Sampling | None = None) -> None:
        """Begin; without `sampling` answers are the most likely ones."""
        self._engine = Engine(vlm, running=1, waiting=1)
        self._max_tokens, self._sampling = max_tokens, sampling
        self.turns: tuple[Turn, ...] = ()
        self._pictures: list[Picture] = []
        self._seen: list[Shown] = []
        self._waiting: list[ImageRef] = []
        """Pictures that the next question shows."""

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the engine."""
        self._engine.close()

    def show(self, picture: Picture) -> None:
        """Show a picture with the next question."""
        self._waiting.append(ImageRef(len(self._pictures)))
        self._pictures.append(picture)
        self._seen.append(shown(picture.pixels, self._engine.vlm))

    def ask(self, question: str) -> Iterator[str]:
        """Yield the answer as it comes. An answer that is not heard to its end is kept as far as it was.

        Raises UserError where the conversation has grown too long for the model, or the model fails; then the question
        is not part of it.
        """
        vlm = self._engine.vlm
        asked = (*self.turns, Turn("user", (*self._waiting, question)))
        try:
            prompt = prompt_of(vlm, asked, self._seen)
        except Refusal as refusal:
            raise UserError(refusal.line) from None
        length = min(self._max_tokens, room_after(vlm, prompt))
        if length < 1:
            raise UserError(
                f"the conversation has {len(prompt.input_ids)} tokens, more than the model's context; /reset"
            )
        prepared = {one.sha256: one.prepared for one in self._seen}
        wanted = Asked(prompt=prompt, sampling=self._next_sampling(), prepared=prepared, max_tokens=length)
        came: SimpleQueue[Piece] = SimpleQueue()
        (ticket,) = self._engine.submit([wanted], [came.put])
        answer = ""
        try:
            while (piece := came.get()).finish is None:
                answer += piece.text
                yield piece.text
            if piece.finish == "failed":
                raise UserError(piece.fault or "the model failed")
        finally:
            ticket.cancel()
            if answer or ticket.tokens:
                self.turns = (*asked, Turn("assistant", (answer,)))
                self._waiting = []

    def reset(self) -> None:
        """Forget what was said and shown."""
        self.turns, self._pictures, self._seen, self._waiting = (), [], [], []

    def save(self, path: Path) -> None:
        """Write the conversation, as JSON or, where the name ends in .md, as Markdown; pictures by name and hash."""
        if path.suffix == ".md":
            lines = [f"*{NOTICE}*"]
            lines += [f"**{turn.role}**: {' '.join(map(str, self._told(turn)))}" for turn in self.turns]
            write_text(path, "\n\n".join(lines) + "\n")
        else:
            messages = [{"role": turn.role, "content": self._told(turn)} for turn in self.turns]
            write_json(path, {"notice": NOTICE, "messages": messages})

    def _told(self, turn: Turn) -> list[Any]:
        return [
            part
            if isinstance(part, str)
            else {"picture": self._pictures[part.index].told, "sha256": self._seen[part.index].sha256}
            for part in turn.content
        ]

    def _next_sampling(self) -> Sampling | None:
        """Return the sampling of the next answer: the same seed draws the same conversation again."""
        if self._sampling is None:
            return None
        return replace(self._sampling, seed=self._sampling.seed + len(self.turns))
