"""Before the first step: which samples of a mixture go into the model, how large they are, and in which steps."""

# N samples · M some of them

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import LlavaProcessor

from gmai_vl.foundation import UserError
from gmai_vl.model import IGNORED, SHORT_SEGMENT, cut_to
from gmai_vl.training.arithmetic import Load
from gmai_vl.training.batches import Step, Steps, pack_steps, sample_steps
from gmai_vl.training.mixture import Mixture
from gmai_vl.training.packing import PackLimits, Packs, pack
from gmai_vl.training.recipe import Stage


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the samples of a mixture are for the model."""

    tokens_N: NDArray[np.int64]
    """Text and image tokens."""

    supervised_N: NDArray[np.int64]
    """Tokens that the loss looks at."""

    images_N: NDArray[np.int64]

    def __getitem__(self, chosen: NDArray[np.bool_]) -> "Sizes":
        return Sizes(self.tokens_N[chosen], self.supervised_N[chosen], self.images_N[chosen])


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """A mixture as it is fed to the model."""

    mixture: Mixture
    sizes: Sizes
    """Of the samples of `mixture`, cut."""

    longest: int | None
    """Tokens that a sample is cut to; None where none is."""

    left_out: Mixture
    """Samples that go into no pack."""

    cut: Mixture
    """Samples of `mixture` that lose the end of an answer."""


def fitted(processor: LlavaProcessor, mixture: Mixture, limits: PackLimits | None, stage: str) -> Fit:
    """Return the samples that go into packs within `limits`, all where there are none, with their sizes.

    Of longer samples the last answer is cut or, as `limits` says, they are left out; so are those of which no word of
    an answer would be left, and those of too many images. Raises UserError, naming the `stage`, if no sample is left.
    """
    sizes = Sizes(*(mixture.numbers(column) for column in ("tokens", "supervised", "images")))
    if limits is None:
        return Fit(mixture=mixture, sizes=sizes, longest=None, left_out=mixture[:0], cut=mixture[:0])
    is_long_N = sizes.tokens_N > limits.length
    fits_N = ~is_long_N
    if limits.too_long == "cut":
        for index in np.flatnonzero(is_long_N).tolist():
            cut = cut_to(processor, mixture.read(index).encoded, limits.length)
            if cut is not None:
                fits_N[index] = True
                sizes.tokens_N[index] = len(cut.input_ids)
                sizes.supervised_N[index] = sum(label != IGNORED for label in cut.labels)
                sizes.images_N[index] = len(cut.images)
    fits_N &= sizes.images_N <= limits.most_images
    if not fits_N.any():
        raise UserError(
            f"stage {stage}: none of {len(mixture)} samples fits into a pack of {limits.length} tokens and "
            f"{limits.most_images} images; raise `pack_length` or `max_images_per_pack`"
        )
    return Fit(
        mixture=mixture[fits_N],
        sizes=sizes[fits_N],
        longest=limits.length,
        left_out=mixture[~fits_N],
        cut=mixture[fits_N & is_long_N],
    )


def check_batch(stage: Stage, sizes: Sizes, limits: PackLimits | None) -> None:
    """Raise UserError if one sample, or the room of one pack, is larger than the stage's `batch_tokens`."""
    largest = limits.length if limits else int(sizes.tokens_N.max())
    if stage.batch_tokens is not None and stage.batch_tokens < largest:
        what = "`pack_length` is" if limits else "its longest sample has"
        raise UserError(f"stage {stage.name}: `batch_tokens` is {stage.batch_tokens}, but {what} {largest}; raise it")


def packs_of(sizes: Sizes, limits: PackLimits | None, seed: int) -> Packs | None:
    """Return the packs of samples of `sizes`; None where there are no limits, and nothing is packed."""
    return pack(sizes.tokens_N, sizes.images_N, limits, seed=seed) if limits else None


def plan_steps(stage: Stage, sizes: Sizes, packs: Packs | None, seed: int) -> Steps:
    """Return the steps of a stage over samples of `sizes`: steps of `packs`, or of samples where there are none."""
    if packs is not None:
        return pack_steps(
            packs, sizes.tokens_N, size=stage.step_size, seed=seed, epochs=stage.epochs, max_steps=stage.max_steps
        )
    return sample_steps(
        sizes.tokens_N,
        size=stage.step_size,
        micro_batch_tokens=stage.micro_batch_tokens,
        seed=seed,
        epochs=stage.epochs,
        max_steps=stage.max_steps,
    )


def load_of_samples(sizes: Sizes, chosen: Sequence[int] | slice = slice(None)) -> Load:
    """Return what some samples are for the model, all by default."""
    tokens_M = sizes.tokens_N[chosen]
    short_M = tokens_M[tokens_M < SHORT_SEGMENT]
    return Load(
        tokens=int(tokens_M.sum()),
        squares=int((tokens_M**2).sum()),
        images=int(sizes.images_N[chosen].sum()),
        supervised=int(sizes.supervised_N[chosen].sum()),
        short=int(short_M.sum()),
        short_squares=int((short_M**2).sum()),
    )


def loads_of(step: Step, sizes: Sizes) -> list[Load]:
    """Return what each micro-batch of a step is for the model."""
    return [load_of_samples(sizes, list(micro)) for micro in step]
