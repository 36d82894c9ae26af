"""Training on many ranks is training on one: the same losses, gradients and weights, however the work is dealt."""

import math
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from many_ranks import outcomes, run_ranks
from rank_loop import ALL, Trial, batch_of, begin, slots_of, step_of, supervised_tokens, train, train_step
from safetensors import safe_open
from torch.distributed.tensor import DTensor

from gmai_vl.foundation import UserError
from gmai_vl.model import ModelSettings, build_model, collate, load_model, loss_sum, words_loss_sum
from gmai_vl.training.dealing import IMAGE_COST, deal
from gmai_vl.training.optimizer import make_optimizer
from gmai_vl.training.ranks import Ranks, start_ranks, total, wait_for_all
from gmai_vl.training.sharding import Strategy, shard, whole_weights

micro_batches = st.lists(st.tuples(st.integers(1, 4096), st.integers(0, 4)), max_size=40)


@given(micro_batches, st.integers(1, 9))
def test_every_micro_batch_is_dealt_once_in_as_few_rounds_as_there_can_be(
    sizes: list[tuple[int, int]], world: int
) -> None:
    tokens, images = [size[0] for size in sizes], [size[1] for size in sizes]
    dealt = deal(tokens, images, world)
    assert len(dealt) == world
    assert {len(slots) for slots in dealt} == {-(-len(sizes) // world)}
    numbers = [slot.micro_batch for slots in dealt for slot in slots if slot.micro_batch is not None]
    assert sorted(numbers) == list(range(len(sizes)))


@given(micro_batches, st.integers(1, 9))
def test_ranks_get_like_work_and_rounds_with_images_are_few_and_last(sizes: list[tuple[int, int]], world: int) -> None:
    tokens, images = [size[0] for size in sizes], [size[1] for size in sizes]
    dealt = deal(tokens, images, world)
    costs = [
        sum(
            tokens[slot.micro_batch] + IMAGE_COST * images[slot.micro_batch]
            for slot in slots
            if slot.micro_batch is not None
        )
        for slots in dealt
    ]
    assert max(costs) - min(costs) <= max((t + IMAGE_COST * i for t, i in sizes), default=0)
    for together in zip(*dealt, strict=True):
        shown = any(images[slot.micro_batch] for slot in together if slot.micro_batch is not None)
        assert {slot.shows_image for slot in together} == {shown}
    shows = [slot.shows_image for slot in dealt[0]]
    assert shows == sorted(shows)
    assert sum(shows) == -(-sum(count > 0 for count in images) // world)


PRESETS = ("tiny", "tiny-clip")
PRECISE = [Trial(preset=preset, strategy=strategy) for preset in PRESETS for strategy in ("full", "zero2")]
SINGLE = [Trial(preset=preset, kind=torch.float32) for preset in PRESETS]
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}


def trained(world: int, trials: Sequence[Trial], steps: int, **environment: str) -> list[dict[str, Any]]:
    """Train every trial on so many ranks; return what rank 0 says of each."""
    told = run_ranks(world, train_all, list(trials), steps, **environment)
    for number in range(len(trials)):
        assert all(of_rank[number]["losses"] == told[0][number]["losses"] for of_rank in told)
        assert not any(of_rank[number]["weights"] for of_rank in told[1:])
    return told[0]


def train_all(trials: Sequence[Trial], steps: int) -> list[dict[str, Any]]:
    with start_ranks() as ranks:
        return [train(trial, ranks, steps) for trial in trials]


def alone(trials: Sequence[Trial], steps: int) -> list[dict[str, Any]]:
    return trained(1, trials, steps)


def assert_alike(trials: Sequence[Trial], told: Sequence[dict[str, Any]], expected: Sequence[dict[str, Any]]) -> None:
    for trial, one, other in zip(trials, told, expected, strict=True):
        near = partial(pytest.approx, rel=TOLERANCE[trial.kind], abs=1e-12)
        assert one["losses"] == near(other["losses"]), trial
        assert one["norms"] == near(other["norms"]), trial
        assert one["weights"].keys() == other["weights"].keys()
        if trial.kind == torch.float64:
            for name, weight in one["weights"].items():
                torch.testing.assert_close(weight, other["weights"][name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("world", "trials"),
    [
        (2, PRECISE),
        (4, [replace(trial, strategy="hybrid") for trial in PRECISE[::2]]),
        pytest.param(8, PRECISE[::2] + SINGLE, marks=pytest.mark.long),
    ],
)
def test_losses_gradients_and_weights_are_those_of_one_rank(world: int, trials: list[Trial]) -> None:
    # Of eight micro-batches three show no image, so in some round a rank has text where others have images.
    assert_alike(trials, trained(world, trials, steps=2, LOCAL_WORLD_SIZE="2"), alone(trials, steps=2))


def test_ranks_without_work_and_steps_without_images_change_nothing() -> None:
    words = partial(words_loss_sum, words_W=torch.arange(70, 90))
    trials = [
        Trial(micro_batches=3, texts=1),
        Trial(micro_batches=3, texts=1, parts=("vision", "projector")),
        Trial(micro_batches=1, texts=0, parts=("projector",)),
        Trial(micro_batches=3, texts=3, preset="tiny-clip"),
        Trial(micro_batches=3, texts=3, parts=("vision", "projector")),
        Trial(micro_batches=3, texts=0, parts=("vision", "projector"), loss_of=words),
        Trial(micro_batches=3, texts=0, parts=("vision", "projector"), loss_of=words, preset="tiny-clip"),
    ]
    expected = alone(trials, steps=2)
    assert [one["norms"][0] > 0 for one in expected] == [True, True, True, True, False, True, True]
    assert_alike(trials, trained(2, trials, steps=2), expected)


@pytest.mark.parametrize("preset", PRESETS)
def test_one_rank_computes_the_mean_loss_over_a_whole_step_as_one_batch_has_it(preset: str) -> None:
    ranks = Ranks(device=torch.device("cpu"))
    trial = Trial(preset=preset)
    vlm, learner, optimizer = begin(trial, ranks)
    step = step_of(trial, 0, vlm)
    batch = collate(vlm.processor, [encoded for encoded, _ in step], [image for _, shown in step for image in shown])
    assert batch.pixel_values is not None
    loss, count = loss_sum(vlm.model, replace(batch, pixel_values=batch.pixel_values.double()))
    assert count == supervised_tokens(step)
    (loss / count).backward()
    gradient = torch.cat([weight.grad.flatten() for weight in vlm.model.parameters() if weight.grad is not None])
    optimizer.zero_grad()
    mean, norm = train_step(trial, vlm, learner, optimizer, step)
    assert mean == pytest.approx(float(loss.detach()) / count, rel=1e-6)  # summed in float32
    assert norm == pytest.approx(float(gradient.norm()), rel=1e-9)


@pytest.mark.parametrize("steps", [5, pytest.param(50, marks=pytest.mark.long)])
def test_in_single_precision_two_ranks_go_the_way_of_one(steps: int) -> None:
    assert_alike(SINGLE, trained(2, SINGLE, steps), alone(SINGLE, steps))


def train_in_two_stages(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Let the projector learn, then everything, one step each: what is frozen while weights are first fetched."""
    told = []
    with start_ranks() as ranks:
        for trial in trials:
            vlm, learner, optimizer = begin(replace(trial, parts=("projector",)), ranks)
            first = train_step(trial, vlm, learner, optimizer, step_of(trial, 0, vlm))
            learner.learn(ALL)
            optimizer = make_optimizer(vlm.model, dict.fromkeys(ALL, 1e-3), 0.0)
            second = train_step(trial, vlm, learner, optimizer, step_of(trial, 1, vlm))
            losses, norms = zip(first, second, strict=True)
            told.append({"losses": losses, "norms": norms, "weights": whole_weights(learner)})
    return told


def test_what_was_frozen_learns_in_the_next_stage_and_bf16_computes_nearly_the_same() -> None:
    # As many micro-batches as ranks: gradients are reduced as they come, not gathered first.
    precise = [Trial(preset=preset, micro_batches=2, texts=0) for preset in PRESETS]
    rounded = [replace(trial, kind=torch.float32, precision="bf16") for trial in precise]
    (told, _), (expected,) = (run_ranks(world, train_in_two_stages, precise + rounded) for world in (2, 1))
    assert_alike(precise, told[:2], expected[:2])
    for one, bf16, exact in zip(told[2:], expected[2:], told[:2], strict=True):
        for key in ("losses", "norms"):
            assert one[key] == pytest.approx(bf16[key], rel=0.03)
            assert one[key] != pytest.approx(exact[key], rel=1e-5)
        assert {weight.dtype for weight in one["weights"].values() if weight.is_floating_point()} == {torch.float32}


def shares_held(strategies: Sequence[Strategy]) -> list[tuple[float, bool]]:
    """Return the share of all weights that this rank holds, and whether a layer stays whole after its forward."""
    told = []
    with start_ranks() as ranks:
        for strategy in strategies:
            trial = Trial(strategy=strategy)
            vlm, learner, _ = begin(trial, ranks)
            weights = [weight for weight in vlm.model.parameters() if isinstance(weight, DTensor)]
            share = sum(weight.to_local().numel() for weight in weights) / sum(weight.numel() for weight in weights)
            step = step_of(trial, 0, vlm)
            learner(loss_sum, batch_of(trial, vlm, step, slots_of(step, ranks)[-1]))
            weight = vlm.model.model.language_model.layers[0].mlp.up_proj.weight
            told.append((share, not isinstance(weight, DTensor)))
    return told


def test_each_rank_holds_its_share_and_a_strategy_says_for_how_long_weights_are_whole() -> None:
    for told in run_ranks(4, shares_held, ["full", "hybrid", "zero2"], LOCAL_WORLD_SIZE="2"):
        shares, stays_whole = zip(*told, strict=True)
        assert shares == pytest.approx((1 / 4, 1 / 2, 1 / 4), rel=0.02)
        assert stays_whole == (False, False, True)


def save_checkpoint(folder: Path) -> None:
    with start_ranks() as ranks:
        vlm, learner, optimizer = begin(Trial(kind=torch.float32), ranks)
        train_step(Trial(kind=torch.float32), vlm, learner, optimizer, step_of(Trial(), 0, vlm))
        weights = whole_weights(learner)
        if ranks.is_main:
            vlm.model.save_pretrained(folder, state_dict=weights)
            vlm.processor.save_pretrained(folder)


def test_what_two_ranks_learned_is_a_checkpoint_like_any_other(tmp_path: Path) -> None:
    run_ranks(2, save_checkpoint, tmp_path)
    saved = load_model(tmp_path).model
    (learned,) = alone([Trial(kind=torch.float32)], steps=1)
    assert type(saved).__name__ == saved.config.architectures[0] == "LlavaForConditionalGeneration"
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert not any("lm_head" in name for name in file.keys())  # it is the embedding  # noqa: SIM118
    for name, weight in saved.state_dict().items():
        torch.testing.assert_close(weight, learned["weights"][name], rtol=0, atol=3e-3)  # of a rate of 1e-3


def add_up_and_fail(failing: Sequence[int], how: str) -> None:
    with start_ranks() as ranks:
        sums = total([2, ranks.rank, math.nan if ranks.rank else 1, 1 if ranks.rank else math.inf], ranks)
        assert sums == pytest.approx([4, 1, math.nan, math.inf], nan_ok=True)
        if ranks.rank in failing:
            if how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise UserError("data.yaml: is not there")
        wait_for_all(ranks)


@pytest.mark.parametrize("failing", [[1], [0], [0, 1]])
def test_where_ranks_fail_all_end_and_one_of_them_says_why(failing: list[int]) -> None:
    ended = outcomes(2, add_up_and_fail, failing, "mistaken")
    told = {outcome.error.strip().splitlines()[-1].partition("UserError: ")[2] for outcome in ended}
    assert "" in told
    assert told - {""} in [{f"rank {rank}: data.yaml: is not there"} for rank in failing]


def test_where_a_rank_is_killed_the_others_end() -> None:
    ended = outcomes(2, add_up_and_fail, [1], "killed")
    assert [outcome.code for outcome in ended] == [1, -signal.SIGKILL]


def test_an_environment_that_is_not_torchruns_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with (
        pytest.raises(UserError, match="RANK: is `None`, not a number; start more than one rank with torchrun"),
        start_ranks(),
    ):
        pass
    with pytest.raises(UserError, match="strategy hybrid: 3 ranks are not 2 on each machine"):
        vlm = build_model(ModelSettings(preset="tiny"), seed=0)
        shard(vlm.model, Ranks(world=3, local_world=2, device=torch.device("cpu")), "hybrid", "fp32")


def test_torchrun_starts_ranks_and_ends_them(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import sys
        from gmai_vl.foundation import UserError
        from gmai_vl.training.ranks import start_ranks, total, wait_for_all

        try:
            with start_ranks() as ranks:
                # In one piece: both write to the same pipe.
                sys.stdout.write(f"rank {ranks.rank} of {ranks.world}: {total([ranks.rank + 1], ranks)}\\n")
                sys.stdout.flush()
                if ranks.rank == 1:
                    raise UserError("data.yaml: is not there")
                total([1], ranks)
        except UserError as error:
            sys.exit(f"gmai: {error}")
        """)
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(script)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert sorted(ended.stdout.splitlines()) == ["rank 0 of 2: [3.0]", "rank 1 of 2: [3.0]"]
    assert "RuntimeError" not in ended.stderr
    assert [line for line in ended.stderr.splitlines() if line.startswith("gmai: ")] == [
        "gmai: rank 1: data.yaml: is not there"
    ]
