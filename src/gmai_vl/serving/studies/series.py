"""What belongs together of an upload, ready to be leafed through: a volume, frames, or one picture."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gmai_vl.foundation import BadItem
from gmai_vl.serving.refusals import Refusal
from gmai_vl.serving.studies.windows import AUTO

Kind = Literal["volume", "frames", "picture"]
Note = Literal["burned_in", "recognizable"]

Shown = Callable[[str, int, str], NDArray[np.uint8]]
"""Gives the pixels of (plane, slice, window); all three exist. Raises BadItem where a file turns out to be damaged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stack:
    """The slices of a series in one plane."""

    name: str
    """axial, coronal or sagittal of a volume; `stored` of all else."""

    slices: int

    width: int
    height: int

    pixel_mm: tuple[float, float] | None = None
    """Pitch of rows and of columns."""

    @property
    def first(self) -> int:
        """The slice to begin with: the middle one."""
        return self.slices // 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """One series of a study. Nothing of it names a person, apart from the pixels where a note says so."""

    shown: Shown

    number: int = 0
    """Its place in the study."""

    modality: str | None = None
    """A name of the vocabulary; None where the header tells none."""

    kind: Kind
    planes: tuple[Stack, ...]

    windows: tuple[str, ...] = ()
    """Those that apply, the default first; none for colour and 8-bit grey."""

    notes: tuple[Note, ...] = ()
    """What the header warns of: text in the pixels, a face that can be recognized."""

    nbytes: int = 0
    """Memory that it holds."""

    files: frozenset[Path] = frozenset()
    """What slices are read from; these have to stay where they are."""

    def slice(self, plane: str, index: int, window: str | None = None) -> NDArray[np.uint8]:
        """Return the pixels of a slice as trainings show it, [H, W] or [H, W, 3].

        Without a window it is the series' first; `auto` always exists. Raises Refusal (422) for a plane, slice or
        window that the series has not, and for pixels that turn out to be damaged.
        """
        stack = next((each for each in self.planes if each.name == plane), None)
        if stack is None:
            raise Refusal(422, f"plane: one of {', '.join(each.name for each in self.planes)}", param="plane")
        if not 0 <= index < stack.slices:
            raise Refusal(422, f"slice: from 0 to {stack.slices - 1}", param="slice")
        default = self.windows[0] if self.windows else AUTO
        if window not in (None, default, *self.windows):
            raise Refusal(422, f"window: one of {', '.join(self.windows or (AUTO,))}", param="window")
        try:
            return np.ascontiguousarray(self.shown(plane, index, window or default))
        except BadItem as bad:
            raise Refusal(422, f"slice: {bad}") from None
