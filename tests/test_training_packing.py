"""Packs: every sample once, whole, within the limits, and as full as a plain best fit decreasing makes them."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmai_vl.training.batches import StepSize, pack_steps
from gmai_vl.training.packing import Packing, PackLimits, Packs, pack

LENGTH, MOST_IMAGES = 64, 3
SAMPLES = st.lists(st.tuples(st.integers(1, LENGTH), st.integers(0, MOST_IMAGES)), max_size=150)
SEEDS = st.integers(0, 3)
METHODS: list[Packing] = ["bfd", "next-fit"]


def limits(packing: Packing, length: int = LENGTH, most_images: int = MOST_IMAGES) -> PackLimits:
    return PackLimits(packing=packing, length=length, most_images=most_images, too_long="cut")


def packed(samples: list[tuple[int, int]], packing: Packing, seed: int = 0) -> Packs:
    tokens, images = [tokens for tokens, _ in samples], [images for _, images in samples]
    return pack(tokens, images, limits(packing), seed=seed)


def contents(packs: Packs, samples: list[tuple[int, int]]) -> Counter[tuple[tuple[int, int], ...]]:
    return Counter(tuple(sorted(samples[index] for index in packs[number])) for number in range(len(packs)))


def plain_best_fit_decreasing(samples: list[tuple[int, int]]) -> Counter[tuple[tuple[int, int], ...]]:
    """Pack one sample after the other, looking at every pack."""
    packs: list[list[tuple[int, int]]] = []
    for tokens, images in sorted(samples, reverse=True):
        fitting = []
        for number, held in enumerate(packs):
            room, free = LENGTH - sum(one for one, _ in held), MOST_IMAGES - sum(one for _, one in held)
            if room >= tokens and free >= images:
                fitting.append((room, free, number))
        if fitting:
            packs[min(fitting)[2]].append((tokens, images))
        else:
            packs.append([(tokens, images)])
    return Counter(tuple(sorted(held)) for held in packs)


@pytest.mark.parametrize("packing", METHODS)
@given(samples=SAMPLES, seed=SEEDS)
def test_every_sample_stands_in_one_pack_and_no_pack_passes_its_limits(
    packing: Packing, samples: list[tuple[int, int]], seed: int
) -> None:
    packs = packed(samples, packing, seed)
    assert sorted(index for number in range(len(packs)) for index in packs[number]) == list(range(len(samples)))
    for number in range(len(packs)):
        held = [samples[index] for index in packs[number]]
        assert held
        assert sum(tokens for tokens, _ in held) <= LENGTH
        assert sum(images for _, images in held) <= MOST_IMAGES


@given(samples=SAMPLES, seed=SEEDS)
def test_best_fit_decreasing_makes_as_many_packs_as_the_plain_one(samples: list[tuple[int, int]], seed: int) -> None:
    plain = plain_best_fit_decreasing(samples)
    assert len(packed(samples, "bfd", seed)) == plain.total()


@given(samples=st.lists(st.tuples(st.integers(1, LENGTH), st.just(0)), max_size=150))
def test_of_text_alone_best_fit_decreasing_packs_as_the_plain_one_does(samples: list[tuple[int, int]]) -> None:
    def fills(packs: Counter[tuple[tuple[int, int], ...]]) -> list[int]:
        return sorted(sum(tokens for tokens, _ in held) for held in packs.elements())

    assert fills(contents(packed(samples, "bfd"), samples)) == fills(plain_best_fit_decreasing(samples))


@given(samples=SAMPLES, seed=SEEDS)
def test_next_fit_begins_a_pack_only_where_the_last_one_is_too_full(samples: list[tuple[int, int]], seed: int) -> None:
    packs = packed(samples, "next-fit", seed)
    for number in range(1, len(packs)):
        before, begun = [samples[index] for index in packs[number - 1]], samples[packs[number][0]]
        too_long = sum(tokens for tokens, _ in before) + begun[0] > LENGTH
        assert too_long or sum(images for _, images in before) + begun[1] > MOST_IMAGES


@pytest.mark.parametrize("packing", METHODS)
def test_chance_depends_on_the_seed_alone_and_decides_who_meets(packing: Packing) -> None:
    samples = [(10 + index % 7, index % 2) for index in range(100)]
    one, again, other = packed(samples, packing, 1), packed(samples, packing, 1), packed(samples, packing, 2)
    assert one.order_N.tolist() == again.order_N.tolist() and one.ends_P.tolist() == again.ends_P.tolist()
    assert one.order_N.tolist() != other.order_N.tolist()


def test_packs_come_in_another_order_every_epoch() -> None:
    packs = packed([(LENGTH, 0)] * 50, "bfd")
    steps = pack_steps(packs, np.full(50, LENGTH), size=StepSize(8, "units"), seed=0, epochs=2)
    first, again, second = (list(steps.after(0))[start : start + 7] for start in (0, 0, 7))
    assert len(steps) == 14
    for steps in (first, second):
        assert sorted(index for step in steps for pack in step for index in pack) == list(range(50))
        assert [len(step) for step in steps] == [8] * 6 + [2]
    assert first == again != second


@pytest.mark.parametrize(("tokens", "images"), [(LENGTH + 1, 0), (1, MOST_IMAGES + 1), (0, 0)])
def test_what_fits_into_no_pack_is_refused(tokens: int, images: int) -> None:
    with pytest.raises(ValueError, match="a sample has no token, or more than 64 tokens or 3 images"):
        packed([(1, 0), (tokens, images)], "bfd")


def test_best_fit_fills_rows_of_images_and_text_better_than_next_fit() -> None:
    tokens = 576 + np.clip(np.random.default_rng(0).lognormal(4.9, 0.75, 20_000), 8, 1400).astype(int)
    packs = {packing: len(pack(tokens, np.ones(20_000), limits(packing, 2048, 4), seed=0)) for packing in METHODS}
    assert packs["bfd"] < 0.95 * packs["next-fit"]


def test_the_benchmark_prints_a_fill_between_that_of_next_fit_and_its_bound() -> None:
    command = [sys.executable, Path(__file__).parent.parent / "benchmarks" / "packing.py", "3000"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [re.findall(r"([\d.]+)%", line) for line in printed.splitlines() if "%" in line and "bound" not in line]
    fills = [tuple(map(float, row)) for row in rows if len(row) == 3]
    assert len(fills) == 6
    assert all(next_fit < bfd <= bound for bfd, next_fit, bound in fills)
