"""Which samples a stage takes, and how they reach the model."""

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from review_sheets import fill_in, handed_out

from gmai_vl.corpus import Corpus
from gmai_vl.corpus.review.record import write_record
from gmai_vl.corpus.review.scores import read_scores
from gmai_vl.corpus.review.verdict import verdicts
from gmai_vl.foundation import UserError
from gmai_vl.model import ModelSettings, build_model, parts, set_trainable
from gmai_vl.training.feed import one_ahead
from gmai_vl.training.mixture import Mixture, take, training_mixture, validation_mixture
from gmai_vl.training.optimizer import clip_gradients, make_optimizer, set_learning_rates
from gmai_vl.training.precision import resolve_precision
from gmai_vl.training.recipe import Stage
from gmai_vl.training.tokens import TokenStore, open_tokens

CHANCES = st.lists(st.integers(0, 2**64 - 1), max_size=60, unique=True)


def chosen(chances: list[int], ratio: float, seed: int) -> list[int]:
    return take(np.array(chances, np.uint64), ratio, seed).tolist()


@given(CHANCES, st.floats(0.01, 4), st.integers(0, 5))
def test_a_ratio_takes_its_exact_share_and_repeats_only_whole_passes(
    chances: list[int], ratio: float, seed: int
) -> None:
    taken = Counter(chosen(chances, ratio, seed))
    assert taken.total() == round(ratio * len(chances))
    assert all(0 <= index < len(chances) for index in taken)
    if taken:
        every = [taken[index] for index in range(len(chances))]
        assert max(every) - min(every) <= 1


def test_five_percent_of_a_thousand_are_fifty_others_with_another_seed() -> None:
    chances = list(range(1000))  # alike numbers are as good as any
    first, second = (set(chosen(chances, 0.05, seed)) for seed in (0, 1))
    assert len(first) == len(second) == 50
    assert len(first & second) < 10
    assert 300 < sum(first) / 50 < 700


@given(CHANCES, st.randoms(use_true_random=False))
def test_the_choice_ignores_the_order_and_grows_with_the_ratio(chances: list[int], rng: random.Random) -> None:
    first = {chances[index] for index in chosen(chances, 0.3, seed=2)}
    rng.shuffle(chances)
    assert {chances[index] for index in chosen(chances, 0.3, seed=2)} == first
    assert first <= {chances[index] for index in chosen(chances, 0.6, seed=2)}


@given(st.lists(st.integers()))
def test_reading_ahead_changes_neither_results_nor_order(keys: list[int]) -> None:
    assert list(one_ahead(lambda key: key * 2, keys)) == [key * 2 for key in keys]


def test_an_error_while_reading_ahead_comes_at_its_place() -> None:
    made = one_ahead(lambda key: 1 // key, [1, 1, 0, 1])
    assert [next(made), next(made)] == [1, 1]
    with pytest.raises(ZeroDivisionError):
        next(made)


def test_the_optimizer_holds_what_learns_once_and_decays_matrices_only() -> None:
    model = build_model(ModelSettings(preset="tiny"), seed=0).model
    set_trainable(model, ["projector", "language"])
    optimizer = make_optimizer(model, {"projector": 1e-3, "language": 1e-5}, weight_decay=0.1)
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    frozen = {id(parameter) for parameter in parts(model)["vision"].parameters()}
    assert len({id(parameter) for parameter in held}) == len(held)
    assert {id(parameter) for parameter in held} == {id(parameter) for parameter in model.parameters()} - frozen
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.1 if parameter.dim() == 2 else 0)
    assert set_learning_rates(optimizer, 0.5) == {"projector": 5e-4, "language": 5e-6}
    assert {(group["part"], group["lr"]) for group in optimizer.param_groups} == {
        ("projector", 5e-4),
        ("language", 5e-6),
    }


def test_clipping_scales_all_gradients_together() -> None:
    weights = [torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(1))]
    optimizer = torch.optim.SGD([{"params": [weight]} for weight in weights])
    weights[0].grad, weights[1].grad = torch.tensor([2.0, 3.0]), torch.tensor([6.0])
    assert clip_gradients(optimizer, None) == 7
    assert clip_gradients(optimizer, 3.5) == 7
    assert torch.cat([weight.grad for weight in weights]).tolist() == pytest.approx([1, 1.5, 3])


def test_bf16_is_taken_by_itself_only_where_the_processor_has_it() -> None:
    cpu = torch.device("cpu")
    assert [resolve_precision("bf16", cpu), resolve_precision("fp32", cpu)] == ["bf16", "fp32"]
    features = Path("/proc/cpuinfo")
    if not features.exists():
        pytest.skip("no /proc/cpuinfo to compare with")
    native = {"avx512_bf16", "amx_bf16", "bf16"} & set(features.read_text().split())
    assert resolve_precision("auto", cpu) == ("bf16" if native else "fp32")


def stage_of(corpus: Path, **filters: object) -> tuple[Stage, dict[str, TokenStore]]:
    part = {"corpus": "c", **filters}
    processor = build_model(ModelSettings(preset="tiny"), seed=0).processor
    keys = {"name": "s", "train": ["projector"], "learning_rate": 1e-3, "global_batch": 1, "epochs": 1}
    return Stage.model_validate(keys | {"validation": {"every": 1}, "mixture": [part]}), {
        "c": open_tokens(Corpus(corpus), processor)
    }


def ids(mixture: Mixture | None) -> list[str]:
    assert mixture is not None
    return mixture.ids(range(len(mixture)))


def test_quality_takes_sources_that_passed_their_review_only(tmp_path: Path) -> None:
    corpus, _, sheets, review = handed_out(tmp_path)
    stage, stores = stage_of(corpus.path, quality="pass")
    with pytest.raises(
        UserError, match=r"corpus: was never reviewed \(no review.json\); review it with `gmai data rev"
    ):
        training_mixture(stage, stores, 0)

    def verdicts_from(level_of: Callable[[str], int]) -> None:
        fill_in(sheets, review, "Ann", level_of)
        raters = read_scores(sheets, review).raters
        write_record(corpus, review, raters, verdicts(review, raters, [], 3.0), 3.0)

    verdicts_from(lambda source: 3 if source == "skin" else 4)
    every, _ = stage_of(corpus.path)
    for mixture in (training_mixture, validation_mixture):
        all_of_them, passed = ids(mixture(every, stores, 0)), ids(mixture(stage, stores, 0))
        skin = [name for name in all_of_them if corpus.sample(name).source == "skin"]
        assert sorted(passed) == sorted(skin) != []
        assert len(skin) < len(all_of_them)
    verdicts_from(lambda source: 4)
    with pytest.raises(UserError, match="of the 0 training samples of c that pass the filters is none"):
        training_mixture(stage, stores, 0)
    record = json.loads((corpus.path / "review.json").read_text())
    (corpus.path / "review.json").write_text(json.dumps(record | {"fingerprint": "f" * 64}))
    with pytest.raises(UserError, match=r"review.json: is of the corpus as it was before \(fingerprint ffffffffffff"):
        training_mixture(stage, stores, 0)
