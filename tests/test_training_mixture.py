"""Which samples a stage takes, and how they reach the model."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

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
from gmai_vl.training.mixture import take, training_examples, validation_examples
from gmai_vl.training.optimizer import clip_gradients, make_optimizer, set_learning_rates
from gmai_vl.training.precision import resolve_precision
from gmai_vl.training.recipe import Stage

NAMES = st.lists(st.text(max_size=5), max_size=60, unique=True)


@given(NAMES, st.floats(0.01, 4), st.integers(0, 5))
def test_a_ratio_takes_its_exact_share_and_repeats_only_whole_passes(names: list[str], ratio: float, seed: int) -> None:
    taken = Counter(take(names, ratio, seed))
    assert taken.total() == round(ratio * len(names))
    assert all(0 <= index < len(names) for index in taken)
    if taken:
        every = [taken[index] for index in range(len(names))]
        assert max(every) - min(every) <= 1


def test_five_percent_of_a_thousand_are_fifty_others_with_another_seed() -> None:
    names = [f"sample {number}" for number in range(1000)]
    assert len(set(take(names, 0.05, seed=0))) == 50
    assert set(take(names, 0.05, seed=0)) != set(take(names, 0.05, seed=1))


@given(NAMES, st.randoms(use_true_random=False))
def test_the_choice_ignores_the_order_and_grows_with_the_ratio(names: list[str], rng: object) -> None:
    chosen = {names[index] for index in take(names, 0.3, seed=2)}
    rng.shuffle(names)  # type: ignore[attr-defined]
    assert {names[index] for index in take(names, 0.3, seed=2)} == chosen
    assert chosen <= {names[index] for index in take(names, 0.6, seed=2)}


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


def stage_of(corpus: Path, **filters: object) -> tuple[Stage, dict[str, Corpus]]:
    part = {"corpus": "c", **filters}
    keys = {"name": "s", "train": ["projector"], "learning_rate": 1e-3, "global_batch": 1, "epochs": 1}
    return Stage.model_validate(keys | {"validation": {"every": 1}, "mixture": [part]}), {"c": Corpus(corpus)}


def test_quality_takes_sources_that_passed_their_review_only(tmp_path: Path) -> None:
    corpus, _, sheets, review = handed_out(tmp_path)
    stage, corpora = stage_of(corpus.path, quality="pass")
    with pytest.raises(
        UserError, match=r"corpus: was never reviewed \(no review.json\); review it with `gmai data rev"
    ):
        training_examples(stage, corpora, 0)

    def verdicts_from(level_of: Callable[[str], int]) -> None:
        fill_in(sheets, review, "Ann", level_of)
        raters = read_scores(sheets, review).raters
        write_record(corpus, review, raters, verdicts(review, raters, [], 3.0), 3.0)

    verdicts_from(lambda source: 3 if source == "skin" else 4)
    every, _ = stage_of(corpus.path)
    for examples in (training_examples, validation_examples):
        wanted = [each.sample.id for each in examples(every, corpora, 0) if each.sample.source == "skin"]
        assert [each.sample.id for each in examples(stage, corpora, 0)] == wanted != []
    verdicts_from(lambda source: 4)
    with pytest.raises(UserError, match="of the 0 training samples of c that pass the filters is none"):
        training_examples(stage, corpora, 0)
    record = json.loads((corpus.path / "review.json").read_text())
    (corpus.path / "review.json").write_text(json.dumps(record | {"fingerprint": "f" * 64}))
    with pytest.raises(UserError, match=r"review.json: is of the corpus as it was before \(fingerprint ffffffffffff"):
        training_examples(stage, corpora, 0)
