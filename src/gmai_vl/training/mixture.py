"""The mixture: which samples of which corpora a stage learns from and is validated on."""

# N samples · M samples of one store

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gmai_vl.corpus import Corpus
from gmai_vl.corpus.review.record import passed_sources
from gmai_vl.foundation import UserError, stable_keys
from gmai_vl.records import Split
from gmai_vl.training.recipe import MixturePart, Stage
from gmai_vl.training.tokens import Stored, TokenStore

Confidence = Callable[["Mixture"], NDArray[np.float64]]
"""Gives of each sample of a mixture how sure a model is of its answers, 0-1."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """Samples of token stores, in an order; one may stand several times."""

    stores: tuple[TokenStore, ...]

    store_N: NDArray[np.int16]
    """Which of the stores holds each sample."""

    row_N: NDArray[np.int64]
    """In which row."""

    def __len__(self) -> int:
        return len(self.row_N)

    def __getitem__(self, chosen: NDArray[Any] | slice) -> "Mixture":
        """Return some of the samples: a slice, indices, or a mask [N]."""
        return Mixture(self.stores, self.store_N[chosen], self.row_N[chosen])

    def read(self, index: int) -> Stored:
        """Return one conversation as tokens."""
        return self.stores[self.store_N[index]].read(int(self.row_N[index]))

    def corpus(self, index: int) -> Corpus:
        """Return the corpus of one sample."""
        return self.stores[self.store_N[index]].corpus

    def numbers(self, column: str) -> NDArray[np.int64]:
        """Return a column of numbers of the stores, of each sample [N]."""
        values_N = np.empty(len(self), np.int64)
        for number, store in enumerate(self.stores):
            held_N = self.store_N == number
            values_N[held_N] = store.numbers(column)[self.row_N[held_N]]
        return values_N

    def kinds(self) -> list[str]:
        """Return the kind of each sample: caption, mcq, closed, ..."""
        places = zip(self.store_N.tolist(), self.row_N.tolist(), strict=True)
        return [self.stores[number].table["kind"][row].as_py() for number, row in places]

    def ids(self, chosen: Sequence[int] | NDArray[Any]) -> list[str]:
        """Return the ids of the chosen samples."""
        return [self.stores[self.store_N[index]].ids(self.row_N[[index]])[0] for index in chosen]


def joined(mixtures: Sequence[Mixture]) -> Mixture:
    """Put mixtures over the same stores one after the other."""
    stores = [mixture.store_N for mixture in mixtures]
    return Mixture(mixtures[0].stores, np.concatenate(stores), np.concatenate([mixture.row_N for mixture in mixtures]))


def take(chance_M: NDArray[np.uint64], ratio: float, seed: int) -> NDArray[np.int64]:
    """Return indices of round(ratio * M) of M samples: whole passes, then a rest without repetition.

    The rest depends on the samples' own chance and the seed, not on their order, and that of a smaller ratio is part of
    that of a larger one.
    """
    count = len(chance_M)
    passes, rest = divmod(round(ratio * count), count) if count else (0, 0)
    by_chance = np.argsort(stable_keys(chance_M, seed, "mixture"), kind="stable")
    return np.concatenate([np.tile(np.arange(count), passes), by_chance[:rest]])


def training_mixture(
    stage: Stage, stores: Mapping[str, TokenStore], seed: int, confidence: Confidence | None = None
) -> Mixture:
    """Return the samples of one epoch of `stage`, part after part.

    `stores` has the recipe's names of the corpora as keys. Without `confidence` nothing is filtered by it.
    Raises UserError if a part of the mixture comes to nothing.
    """
    parts = []
    for number, part in enumerate(stage.mixture):
        found = _filtered(part, stores, "train")
        if part.min_confidence is not None and confidence is not None:
            found = found[confidence(found) >= part.min_confidence]
        chosen = take(found.numbers("chance").view(np.uint64), part.ratio, seed)
        if not len(chosen):
            raise UserError(
                f"stage {stage.name}: mixture[{number}]: ratio {part.ratio:g} of the {len(found)} training samples of "
                f"{part.corpus} that pass the filters is none; widen them or remove the part"
            )
        parts.append(found[chosen])
    return joined(parts)


def validation_mixture(stage: Stage, stores: Mapping[str, TokenStore], seed: int) -> Mixture | None:
    """Return the samples that `stage` is validated on: val samples that pass the mixture's filters, each once.

    None where the stage asks for no validation. Raises UserError if it asks and there is no such sample.
    """
    if stage.validation is None:
        return None
    found = joined([_filtered(part, stores, "val") for part in stage.mixture])
    _, first = np.unique(np.stack([found.store_N, found.row_N]), axis=1, return_index=True)
    found = found[np.sort(first)]
    if not len(found):
        raise UserError(
            f"stage {stage.name}: validation: no val sample passes the mixture's filters; remove `validation`"
        )
    chance_N = stable_keys(found.numbers("chance").view(np.uint64), seed, "validation")
    return found[np.argsort(chance_N, kind="stable")[: stage.validation.samples]]


def _filtered(part: MixturePart, stores: Mapping[str, TokenStore], split: Split) -> Mixture:
    """Return the samples of one side that pass the filters. Raises UserError if `quality` asks what no review tells."""
    number, store = list(stores).index(part.corpus), stores[part.corpus]
    wanted = {"split": (split,), "subset": part.subsets, "language": part.languages, "form": part.forms}
    if part.quality == "pass":
        wanted["source"] = tuple(passed_sources(store.corpus))
    passes = np.ones(len(store), bool)
    for column, values in wanted.items():
        if values is not None:
            passes &= pc.is_in(store.table[column], pa.array(values, pa.string())).to_numpy()
    if part.min_words is not None:
        passes &= store.numbers("words") >= part.min_words
    row_N = np.flatnonzero(passes)
    return Mixture(tuple(stores.values()), np.full(len(row_N), number, np.int16), row_N)
