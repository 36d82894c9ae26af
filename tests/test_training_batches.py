"""Batches of like length and the learning rate over a stage."""

import math
import random
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmai_vl.training.batches import Step, Steps, StepSize, pack_steps, sample_steps
from gmai_vl.training.packing import PackLimits, pack
from gmai_vl.training.schedule import learning_rate_factor

LENGTHS = st.lists(st.integers(1, 300), max_size=200)


def planned(lengths: list[int], seed: int = 0, global_batch: int = 16, tokens: int = 1000, epochs: int = 20) -> Steps:
    return sample_steps(
        np.array(lengths, np.int64),
        size=StepSize(global_batch, "units"),
        micro_batch_tokens=tokens,
        seed=seed,
        epochs=epochs,
    )


def cut(lengths: list[int], seed: int = 0, epoch: int = 0, global_batch: int = 16, tokens: int = 1000) -> list[Step]:
    steps = planned(lengths, seed, global_batch, tokens)
    return list(steps.after(0))[epoch * steps.per_epoch : (epoch + 1) * steps.per_epoch]


@given(LENGTHS, st.integers(1, 40), st.integers(1, 600), st.integers(0, 3))
def test_an_epoch_holds_each_sample_once_in_steps_of_the_global_batch(
    lengths: list[int], global_batch: int, tokens: int, epoch: int
) -> None:
    steps = cut(lengths, epoch=epoch, global_batch=global_batch, tokens=tokens)
    sizes = [sum(map(len, step)) for step in steps]
    whole, left_over = divmod(len(lengths), global_batch)
    assert sorted(index for step in steps for micro in step for index in micro) == list(range(len(lengths)))
    assert Counter(sizes) == Counter([global_batch] * whole + [left_over] * bool(left_over))
    assert len(steps) == planned(lengths, global_batch=global_batch).per_epoch


@given(st.lists(st.integers(1, 300), min_size=1, max_size=200), st.integers(0, 500), st.integers(0, 2))
def test_steps_by_tokens_hold_each_sample_once_and_are_never_a_sample_away_from_their_size(
    lengths: list[int], more: int, epoch: int
) -> None:
    largest, batch = max(lengths), max(lengths) + more
    steps = sample_steps(
        np.array(lengths), size=StepSize(batch, "tokens"), micro_batch_tokens=1000, seed=0, epochs=epoch + 1
    )
    assert steps.per_epoch == math.ceil(sum(lengths) / batch)
    cut = list(steps.after(epoch * steps.per_epoch))
    assert sorted(index for step in cut for micro in step for index in micro) == list(range(len(lengths)))
    tokens = [sum(lengths[index] for micro in step for index in micro) for step in cut]
    assert min(tokens) > 0
    assert all(abs(sum(tokens[:number]) - number * batch) < largest for number in range(1, len(tokens)))


def test_packs_make_steps_by_tokens_too() -> None:
    lengths = np.array([random.Random(index).randrange(10, 99) for index in range(300)])
    limits = PackLimits(packing="bfd", length=128, most_images=4, too_long="cut")
    packs = pack(lengths, np.zeros(300), limits, seed=0)
    steps = pack_steps(packs, lengths, size=StepSize(1000, "tokens"), seed=0, epochs=1)
    assert steps.per_epoch == math.ceil(lengths.sum() / 1000)
    held = {packs[number] for number in range(len(packs))}
    cut = list(steps.after(0))
    assert sorted(index for step in cut for micro in step for index in micro) == list(range(300))
    assert all(micro in held for step in cut for micro in step)
    assert all(abs(sum(lengths[list(micro)].sum() for micro in step) - 1000) < 256 for step in cut[:-1])


@given(LENGTHS, st.integers(1, 40), st.integers(1, 600))
def test_no_micro_batch_passes_the_token_budget(lengths: list[int], global_batch: int, tokens: int) -> None:
    for step in cut(lengths, global_batch=global_batch, tokens=tokens):
        for micro in step:
            assert len(micro) == 1 or sum(lengths[index] for index in micro) <= tokens


@given(LENGTHS, st.integers(1, 40), st.integers(1, 600))
def test_samples_of_like_length_stand_together_and_none_apart_that_had_room(
    lengths: list[int], global_batch: int, tokens: int
) -> None:
    for step in cut(lengths, global_batch=global_batch, tokens=tokens):
        in_order = [lengths[index] for micro in step for index in micro]
        assert in_order == sorted(in_order, reverse=True)
        for micro, following in pairwise(step):
            assert sum(lengths[index] for index in micro) + lengths[following[0]] > tokens


def test_steps_are_as_mixed_in_length_as_chance_makes_them() -> None:
    lengths = [10] * 500 + [200] * 500
    steps = cut(lengths)
    shares = [sum(lengths[index] == 10 for micro in step for index in micro) / 16 for step in steps[:62]]
    assert 0.4 < sum(shares) / len(shares) < 0.6
    assert all(0 < share < 1 for share in shares)


def test_batches_depend_on_seed_and_epoch_only() -> None:
    lengths = [random.Random(index).randrange(10, 99) for index in range(100)]
    assert cut(lengths, seed=1, epoch=2) == cut(lengths, seed=1, epoch=2)
    assert cut(lengths, seed=1, epoch=2) != cut(lengths, seed=1, epoch=3)
    assert cut(lengths, seed=1, epoch=2) != cut(lengths, seed=2, epoch=2)


def test_the_smaller_step_is_of_samples_that_chance_chose() -> None:
    lengths = list(range(10, 110))
    left_over = {
        step for epoch in range(20) for step in cut(lengths, epoch=epoch, global_batch=33) if len(step[0]) == 1
    }
    assert len(left_over) > 5


def test_schedule_against_a_hand_computation() -> None:
    # 10 steps, 3 of them warm-up: quarters, then a cosine over 7 steps.
    expected = [0.25, 0.5, 0.75, *(0.5 + 0.5 * math.cos(math.pi * k / 7) for k in range(7))]
    assert [learning_rate_factor(step, 10, 0.3) for step in range(10)] == pytest.approx(expected)
    assert learning_rate_factor(10, 10, 0.3) == pytest.approx(0)
    assert learning_rate_factor(0, 1, 0.03) == 1


@given(st.integers(1, 500), st.floats(0, 0.99))
def test_schedule_rises_to_the_peak_then_falls_and_never_wastes_a_step(steps: int, warmup_ratio: float) -> None:
    factors = [learning_rate_factor(step, steps, warmup_ratio) for step in range(steps)]
    peak = factors.index(max(factors))
    assert max(factors) == 1
    assert min(factors) > 0
    assert factors == sorted(factors[:peak]) + sorted(factors[peak:], reverse=True)
