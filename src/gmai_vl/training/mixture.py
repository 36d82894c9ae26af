"""The mixture: which samples of which corpora a stage learns from and is validated on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gmai_vl.corpus import Corpus
from gmai_vl.corpus.review.record import passed_sources
from gmai_vl.foundation import UserError, stable_fraction
from gmai_vl.records import Sample, Split
from gmai_vl.training.recipe import MixturePart, Stage


@dataclass(frozen=True, slots=True)
class Example:
    """A sample and the corpus that holds its images."""

    corpus: Corpus
    sample: Sample


def take(names: Sequence[str], ratio: float, seed: int) -> list[int]:
    """Return indices of round(ratio * n) of the n names: whole passes, then a rest without repetition.

    The rest depends on names and seed, not on the order, and that of a smaller ratio is part of that of a larger one.
    """
    passes, rest = divmod(round(ratio * len(names)), len(names)) if names else (0, 0)
    by_chance = sorted(range(len(names)), key=lambda index: stable_fraction(seed, "mixture", names[index]))
    return list(range(len(names))) * passes + by_chance[:rest]


def training_examples(stage: Stage, corpora: Mapping[str, Corpus], seed: int) -> list[Example]:
    """Return the examples of one epoch of `stage`, part after part.

    `corpora` has the recipe's names as keys. Raises UserError if a part of the mixture comes to nothing.
    """
    examples = []
    for number, part in enumerate(stage.mixture):
        found = _filtered(part, corpora, "train")
        chosen = take([sample.id for sample in found], part.ratio, seed)
        if not chosen:
            raise UserError(
                f"stage {stage.name}: mixture[{number}]: ratio {part.ratio:g} of the {len(found)} training samples of "
                f"{part.corpus} that pass the filters is none; widen them or remove the part"
            )
        examples += [Example(corpora[part.corpus], found[index]) for index in chosen]
    return examples


def validation_examples(stage: Stage, corpora: Mapping[str, Corpus], seed: int) -> list[Example]:
    """Return the examples that `stage` is validated on: val samples that pass the mixture's filters, each once.

    Empty where the stage asks for no validation. Raises UserError if it asks and there is no such sample.
    """
    if stage.validation is None:
        return []
    found = {
        (part.corpus, sample.id): Example(corpora[part.corpus], sample)
        for part in stage.mixture
        for sample in _filtered(part, corpora, "val")
    }
    if not found:
        raise UserError(
            f"stage {stage.name}: validation: no val sample passes the mixture's filters; remove `validation`"
        )
    by_chance = sorted(found, key=lambda key: stable_fraction(seed, "validation", key[1]))
    return [found[key] for key in by_chance[: stage.validation.samples]]


def _filtered(part: MixturePart, corpora: Mapping[str, Corpus], split: Split) -> list[Sample]:
    """Return the samples of one side that pass the filters. Raises UserError if `quality` asks what no review tells."""
    corpus = corpora[part.corpus]
    samples = corpus.samples(split=split, subsets=part.subsets, languages=part.languages)
    if part.forms is not None:
        samples = [sample for sample in samples if sample.provenance.facts.get("form") in part.forms]
    if part.quality == "pass":
        passed = passed_sources(corpus)
        samples = [sample for sample in samples if sample.source in passed]
    return samples
