"""What goes into a GGUF file: a description, and weights with their names, shapes and precision there."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter
from numpy.typing import NDArray

Precision = Literal["f16", "q8_0"]

Values = NDArray[np.float32]

_BLOCK = GGML_QUANT_SIZES[GGMLQuantizationType.Q8_0][0]

_HALF_STEP, _HALF_SMALLEST = 2.0**-11, 2.0**-25
"""Largest rounding error of a half-precision number: relative, and absolute where numbers are subnormal."""

_HALF_LARGEST = 65504.0

LARGEST = {
    GGMLQuantizationType.F32: float(np.finfo(np.float32).max),
    GGMLQuantizationType.F16: _HALF_LARGEST,
    GGMLQuantizationType.Q8_0: 127 * _HALF_LARGEST,
}
"""Largest value that each kind can hold."""


def as_it_stands(values: Values) -> Values:
    """Return the values."""
    return values


@dataclass(frozen=True, slots=True)
class Weight:
    """One weight on its way from a checkpoint into a GGUF file."""

    ours: str
    """Name in the model in memory."""

    theirs: str
    """Name in the GGUF file."""

    shape: tuple[int, ...]
    change: Callable[[Values], Values] = as_it_stands
    """From the values of the checkpoint to those of the file, of the same shape."""


@dataclass(frozen=True, slots=True)
class Part:
    """One GGUF file: language model, or vision tower with projector."""

    architecture: str
    describe: Callable[[GGUFWriter], None]
    weights: list[Weight]


def kind_in_file(weight: Weight, precision: Precision) -> GGMLQuantizationType:
    """Return how a weight is kept: matrices in the precision asked for, norms, biases and positions in full.

    Rows that are no multiple of 32 long have no form in q8_0 and are kept in f16.
    """
    if len(weight.shape) == 1 or weight.theirs == "v.position_embd.weight":
        return GGMLQuantizationType.F32
    if precision == "q8_0" and len(weight.shape) == 2 and weight.shape[-1] % _BLOCK == 0:
        return GGMLQuantizationType.Q8_0
    return GGMLQuantizationType.F16


def largest_rounding(values: Values, kind: GGMLQuantizationType) -> NDArray[np.float64]:
    """Return the largest error that each value may have in a file, [...] as `values`.

    q8_0 keeps blocks of 32 values as whole numbers from -127 to 127 times one half-precision scale.
    """
    size = np.abs(values, dtype=np.float64)
    if kind == GGMLQuantizationType.F32:
        return np.zeros_like(size)
    if kind == GGMLQuantizationType.F16:
        return np.maximum(size * _HALF_STEP, _HALF_SMALLEST)
    scale = size.reshape(-1, _BLOCK).max(axis=1, keepdims=True) / 127
    of_block = scale / 2 + 127 * np.maximum(scale * _HALF_STEP, _HALF_SMALLEST)
    # Arithmetic in single precision on the way.
    return np.broadcast_to(of_block * (1 + 1e-5), (len(of_block), _BLOCK)).reshape(values.shape)
