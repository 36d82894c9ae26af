"""GGUF for llama.cpp: a checkpoint with a CLIP tower as two files, language model, and vision tower with projector."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import (
    GGML_QUANT_VERSION,
    GGMLQuantizationType,
    GGUFReader,
    GGUFType,
    GGUFWriter,
    LlamaFileType,
)
from gguf.quants import dequantize, quant_shape_to_byte_shape, quantize
from numpy.typing import NDArray

from gmai_vl.foundation import UserError, atomic_file, progress
from gmai_vl.model.formats.gguf_language import language_part
from gmai_vl.model.formats.gguf_vision import vision_part
from gmai_vl.model.formats.gguf_weights import (
    LARGEST,
    Part,
    Precision,
    Values,
    Weight,
    kind_in_file,
    largest_rounding,
)
from gmai_vl.model.formats.names import names_in_files
from gmai_vl.model.formats.shards import read_weight, weight_files
from gmai_vl.model.outline import outline
from gmai_vl.model.presets import ModelSettings
from gmai_vl.model.vlm import Vlm

_FILE_TYPES: dict[Precision, LlamaFileType] = {
    "f16": LlamaFileType.MOSTLY_F16,
    "q8_0": LlamaFileType.MOSTLY_Q8_0,
}

_PIECE = 2**22
"""Values that are compared at a time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GgufFile:
    """One file that was written and read back."""

    path: Path
    size: int
    """Bytes."""

    tensors: int
    largest_error: float
    """Largest difference to the checkpoint, as a share of the largest value of its tensor."""


def export_gguf(checkpoint: Path, folder: Path, precisions: Sequence[Precision]) -> list[GgufFile]:
    """Write `model-P.gguf` and `mmproj-model-P.gguf` into `folder` for each precision P, read back and compared.

    Each file is whole or absent. Memory holds one weight at a time, a few times over. Raises UserError where the
    checkpoint is not complete, llama.cpp has no such model, or a value is too large for half precision.
    """
    vlm = outline(ModelSettings(init=str(checkpoint)))
    parts = {"model": language_part(vlm, checkpoint), "mmproj-model": vision_part(vlm, checkpoint)}
    source = _Source(checkpoint, vlm)
    return [
        _export(part, source, folder / f"{name}-{precision}.gguf", precision)
        for precision in precisions
        for name, part in parts.items()
    ]


class _Source:
    """The weights of a checkpoint, each read when it is asked for."""

    def __init__(self, checkpoint: Path, vlm: Vlm) -> None:
        self.checkpoint = checkpoint
        self._config = vlm.model.config
        self._files: Mapping[str, Path] = weight_files(checkpoint)

    def __call__(self, weight: Weight) -> Values:
        """Return the values that are to stand in the file. Raises UserError where they cannot be had."""
        names = [name for name in names_in_files(weight.ours, self._config) if name in self._files]
        if not names:
            raise UserError(f"{self.checkpoint}: weight {weight.ours} is missing; save it again")
        values: Values = read_weight(self._files[names[0]], names[0]).float().numpy()
        if values.shape != weight.shape:
            raise UserError(
                f"{self._files[names[0]]}: {names[0]} is {list(values.shape)}, not {list(weight.shape)}; save it again"
            )
        return weight.change(values)


def _export(part: Part, source: _Source, path: Path, precision: Precision) -> GgufFile:
    with atomic_file(path) as unfinished:
        _write(part, source, unfinished, path, precision)
        errors = list(_errors(part, source, unfinished, path))
        size = unfinished.stat().st_size
    return GgufFile(path=path, size=size, tensors=len(errors), largest_error=max(errors))


def _write(part: Part, source: _Source, unfinished: Path, path: Path, precision: Precision) -> None:
    writer = GGUFWriter(unfinished, part.architecture)
    writer.add_type(GGUFType.MMPROJ if part.architecture == "clip" else GGUFType.MODEL)
    writer.add_description("Research use only, not for diagnosis.")
    writer.add_file_type(_FILE_TYPES[precision])
    writer.add_quantization_version(GGML_QUANT_VERSION)
    part.describe(writer)
    for weight in part.weights:
        kind = kind_in_file(weight, precision)
        shape = quant_shape_to_byte_shape(weight.shape, kind)
        writer.add_tensor_info(weight.theirs, shape, np.dtype(np.uint8), int(np.prod(shape)), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    try:
        for weight in progress(part.weights, f"{path.name}: written", len(part.weights)):
            writer.write_tensor_data(_stored(weight, source, kind_in_file(weight, precision)))
    finally:
        writer.close()


def _stored(weight: Weight, source: _Source, kind: GGMLQuantizationType) -> NDArray[np.uint8]:
    values = source(weight)
    largest = float(np.abs(values).max())
    if not largest <= LARGEST[kind]:  # nor where it is no number
        raise UserError(
            f"{source.checkpoint}: weight {weight.ours} has values up to {largest:g}, which {kind.name} cannot hold"
        )
    return np.ascontiguousarray(quantize(values, kind)).view(np.uint8)


def _errors(part: Part, source: _Source, unfinished: Path, path: Path) -> Iterator[float]:
    """Yield the largest error of each tensor of a file, as a share of its largest value.

    Raises UserError where one differs from the checkpoint by more than rounding.
    """
    tensors = GGUFReader(unfinished).tensors
    assert [tensor.name for tensor in tensors] == [weight.theirs for weight in part.weights]
    pairs = zip(part.weights, tensors, strict=True)
    for weight, tensor in progress(pairs, f"{path.name}: read back", len(tensors)):
        values = source(weight)
        error = 0.0
        rows = max(1, len(values) * _PIECE // values.size)
        for first in range(0, len(values), rows):
            piece = values[first : first + rows]
            found = dequantize(tensor.data[first : first + rows], tensor.tensor_type).reshape(piece.shape)
            errors = np.abs(found.astype(np.float64) - piece)
            if (errors > largest_rounding(piece, tensor.tensor_type)).any():
                raise UserError(f"{path}: {weight.theirs} reads back otherwise than it was written; check the disk")
            error = max(error, float(errors.max()))
        largest = float(np.abs(values).max())
        yield error / largest if largest else 0.0
