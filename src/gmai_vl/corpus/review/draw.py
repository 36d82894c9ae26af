"""Draw the pairs to be reviewed: as many of every source, each subset and language with its share, by the seed."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gmai_vl.corpus.reader import Corpus
from gmai_vl.foundation import UserError, sha256_of_text, stable_fraction
from gmai_vl.records import Sample

_CANDIDATES = 8
"""Samples remembered for each pair wanted of a stratum, so that most of them can be of different cases."""

_Stratum = tuple[str, str]
"""Subset and language."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """A sample with its image, under a name that tells nothing of the patient."""

    name: str
    """16 hexadecimal digits, the same wherever the same sample of the same corpus is drawn."""

    sample: Sample


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """The pairs of one review, in the order in which they are shown."""

    corpus: str
    """Name of the corpus."""

    fingerprint: str
    seed: int

    per_source: int
    """Pairs asked for of every source; small sources have fewer."""

    pairs: tuple[Pair, ...]

    @property
    def sources(self) -> dict[str, int]:
        """Source -> number of its pairs."""
        return dict(sorted(Counter(pair.sample.source for pair in self.pairs).items()))


def draw(corpus: Corpus, per_source: int, seed: int) -> Draw:
    """Return `per_source` pairs of every source, or all where it has fewer; the sources are mixed.

    Within a source every subset and language has its share, at least one pair where there is room, and no case gives
    a second pair while others of the stratum have given none. Raises UserError if the corpus holds no sample.
    """
    fingerprint = corpus.manifest["fingerprint"]
    chosen = _choose(corpus.rows("samples", ("id", "source", "subset", "language", "case_id")), per_source, seed)
    if not chosen:
        raise UserError(f"{corpus.path}: holds no samples to review")
    samples = corpus.samples_by_id(chosen)
    pairs = [Pair(name=pair_name(fingerprint, each), sample=samples[each]) for each in chosen]
    pairs.sort(key=lambda pair: stable_fraction(seed, "review order", pair.sample.id))
    return Draw(
        corpus=corpus.manifest["name"],
        fingerprint=fingerprint,
        seed=seed,
        per_source=per_source,
        pairs=tuple(pairs),
    )


def pair_name(fingerprint: str, sample_id: str) -> str:
    """Return the name of a sample on the sheets; ids name files, and files may be named after patients."""
    return sha256_of_text(f"{fingerprint}|{sample_id}")[:16]


def shares(sizes: Mapping[_Stratum, int], number: int) -> dict[_Stratum, int]:
    """Return how many of `number` each stratum gives: one each while there is room, then where most is missing.

    `sizes`: stratum -> number of its samples, above 0. Of equal needs the larger stratum, then the earlier name goes
    first.
    """
    total = sum(sizes.values())
    number = min(number, total)
    order = sorted(sizes, key=lambda stratum: (-sizes[stratum], stratum))
    given = dict.fromkeys(order, 0) | dict.fromkeys(order[:number], 1)
    for _ in range(number - sum(given.values())):
        free = [stratum for stratum in order if given[stratum] < sizes[stratum]]
        given[max(free, key=lambda stratum: number * sizes[stratum] / total - given[stratum])] += 1
    return given


def _choose(heads: Iterable[Mapping[str, Any]], per_source: int, seed: int) -> list[str]:
    """Return the ids of the samples drawn. Only candidates are held in memory: corpora have millions of samples."""
    sizes: dict[str, Counter[_Stratum]] = defaultdict(Counter)
    candidates: dict[tuple[str, _Stratum], list[tuple[float, str, str]]] = defaultdict(list)
    for head in heads:
        source, stratum = head["source"], (head["subset"], head["language"])
        sizes[source][stratum] += 1
        waiting = candidates[source, stratum]
        entry = (-stable_fraction(seed, "review", head["id"]), head["id"], head["case_id"])
        if len(waiting) < _CANDIDATES * per_source:
            heapq.heappush(waiting, entry)
        else:
            heapq.heappushpop(waiting, entry)  # those with the smallest fractions stay
    chosen: list[str] = []
    for source in sorted(sizes):
        used: set[str] = set()
        for stratum, number in sorted(shares(sizes[source], per_source).items()):
            ordered = sorted(candidates[source, stratum], reverse=True)
            fresh = _one_of_each_case(ordered, used)
            again = [entry for entry in ordered if entry not in fresh]
            taken = (fresh + again)[:number]
            used |= {case_id for _, _, case_id in taken}
            chosen += [sample_id for _, sample_id, _ in taken]
    return chosen


def _one_of_each_case(ordered: list[tuple[float, str, str]], used: set[str]) -> list[tuple[float, str, str]]:
    """Return the first entry of every case that is not among `used`."""
    first: dict[str, tuple[float, str, str]] = {}
    for entry in ordered:
        if entry[2] not in used:
            first.setdefault(entry[2], entry)
    return list(first.values())
