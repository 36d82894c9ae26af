"""Sides of the split: whole patients, shares held, the same whatever the order."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gmai_vl.corpus.split import assign_sides

SHARES = st.sampled_from(
    [
        {"train": 0.8, "val": 0.1, "test": 0.1},
        {"train": 0.5, "val": 0.25, "test": 0.25},
        {"train": 0.9, "val": 0.0, "test": 0.1},
        {"train": 0.0, "val": 0.0, "test": 1.0},
    ]
)
UNITS = st.lists(st.integers(0, 12).map(lambda number: f"p{number}"), min_size=1, max_size=80)
SOURCES = st.dictionaries(st.sampled_from("abc"), UNITS, min_size=1)


@given(SOURCES, SHARES, st.integers(0, 3), st.randoms(use_true_random=False))
def test_sides_depend_on_names_only(sources, shares, seed, order) -> None:
    shuffled = [(source, order.sample(units, len(units))) for source, units in sources.items()]
    order.shuffle(shuffled)
    assert assign_sides(sources, shares, seed) == assign_sides(dict(shuffled), shares, seed)


@given(SOURCES, SHARES, st.integers(0, 3))
def test_every_unit_gets_a_side_that_has_a_share(sources, shares, seed) -> None:
    sides = assign_sides(sources, shares, seed)
    assert sides.keys() == {unit for units in sources.values() for unit in units}
    assert all(shares[side] > 0 for side in sides.values())


@given(UNITS, SHARES, st.integers(0, 3))
def test_from_three_patients_on_no_side_with_a_share_is_empty(units, shares, seed) -> None:
    sides = assign_sides({"a": units}, shares, seed)
    if len(set(units)) >= 3:
        assert set(sides.values()) == {side for side, share in shares.items() if share > 0}


@given(UNITS, SHARES, st.integers(0, 3))
def test_shares_hold_as_far_as_whole_patients_allow(units, shares, seed) -> None:
    sides = assign_sides({"a": units}, shares, seed)
    cases = Counter(sides[unit] for unit in units)
    largest = max(Counter(units).values())
    for side, share in shares.items():
        # Every unit goes where most is missing: off by at most two of the largest, three for a side filled by hand.
        assert abs(cases[side] - share * len(units)) <= 3 * largest


@given(st.integers(10, 200), st.integers(0, 3))
def test_shares_of_single_images_are_exact_to_one(number, seed) -> None:
    shares = {"train": 0.8, "val": 0.1, "test": 0.1}
    sides = assign_sides({"a": [f"image {index}" for index in range(number)]}, shares, seed)
    cases = Counter(sides.values())
    assert all(abs(cases[side] - share * number) <= 1 for side, share in shares.items())


def test_seeds_give_different_splits() -> None:
    units = [f"p{number}" for number in range(20)]
    shares = {"train": 0.5, "val": 0.25, "test": 0.25}
    assert len({tuple(sorted(assign_sides({"a": units}, shares, seed).items())) for seed in range(5)}) == 5
