"""What a phantom is: a family's description, and one drawn study with its exact annotation."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from gmai_vl.vocabulary import Term


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """One drawn study of one patient: a picture or a volume, and what is where in it."""

    image: NDArray[np.uint8] | NDArray[np.int16]
    """Picture: uint8 [H, W] or [H, W, 3]. Volume: int16 [X, Y, Z] in RAS+ order (x to the patient's right)."""

    labels: NDArray[np.uint8]
    """[H, W] or [X, Y, Z]: 0, or 1 + index into `Family.terms`. Separate lesions never touch."""

    healthy: bool
    """Whether the patient has no lesion."""

    spacing_mm: tuple[float, float, float] | None = None
    """Volume: size of a voxel along each axis."""

    window: tuple[float, float] = (0, 255)
    """Values that are shown as black and as white."""

    lesion_site: NDArray[np.bool_] | None = None
    """Volume: where the lesion is, or in a healthy patient would have been: slices are cut there in both."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """One kind of study: how it is described and how it is drawn."""

    name: str
    """As a recipe and item names write it."""

    modality: str
    department: str
    clinical_task: str
    body_part: Term

    lesions: tuple[Term, ...]
    """The kinds of lesion; a patient has one kind at most."""

    anatomy: tuple[Term, ...] = ()
    """Organs that are annotated wherever they are seen."""

    healthy_share: float = 0.28
    """Chance that a patient has no lesion."""

    draw: Callable[[Generator, int, bool, int], Study]
    """draw(rng, index of the lesion kind, healthy, size) -> Study. A healthy one has no lesion."""

    volume: bool = False
    """Whether studies are volumes."""

    @property
    def terms(self) -> tuple[Term, ...]:
        """All labels: lesions, then anatomy."""
        return self.lesions + self.anatomy
