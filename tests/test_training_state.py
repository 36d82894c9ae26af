"""The state of a training: it goes on where it stopped, whatever stopped it, on as many ranks as there are then."""

import json
import os
import random
import re
import resource
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from many_ranks import outcomes, run_ranks
from rank_loop import Trial, begin, mean_loss, step_of, train_step

from gmai_vl.foundation import UserError
from gmai_vl.model import set_trainable
from gmai_vl.training.ranks import Ranks, start_ranks
from gmai_vl.training.sharding import whole, whole_weights
from gmai_vl.training.state import StateWriter, latest, load_state, seed_chance

ALONE = Ranks(device=torch.device("cpu"))
CLIP = Trial(preset="tiny-clip")
SMALL = Trial(preset="tiny-clip", micro_batches=2, texts=1)

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


def go(out: Path, trial: Trial, until: int) -> dict[str, Any]:
    """Begin or go on, with a state after every step; tell of each step and of what there is in the end."""
    with start_ranks() as ranks, StateWriter(out, ranks) as states:
        vlm, learner, optimizer = begin(trial, ranks)
        seed_chance(0, ranks.rank)
        done = 0
        if found := latest(out, "trial"):
            done = load_state(found, vlm.model, optimizer, ranks, seed=0)["done"]
        steps = []
        for number in range(done, until):
            told = train_step(trial, vlm, learner, optimizer, step_of(trial, number, vlm))
            held_out = mean_loss(trial, vlm, learner, step_of(trial, -1, vlm))
            steps.append((*told, held_out, draw()))
            states.save("trial", number + 1, vlm.model, optimizer, {"done": number + 1})
        return {"steps": steps, "weights": whole_weights(learner), "moments": moments_of(optimizer), "next": draw()}


def draw() -> tuple[float, float, float]:
    return random.random(), np.random.rand(), float(torch.rand(()))


def moments_of(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    return {
        f"{number} {key}": whole(tensor)
        for number, weight in enumerate(weights)
        for key, tensor in optimizer.state[weight].items()
    }


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("trial", [Trial(kind=torch.float32), Trial(kind=torch.float32, preset="tiny-clip")])
def test_one_rank_goes_on_to_the_bit(tmp_path: Path, trial: Trial) -> None:
    (whole_way,) = run_ranks(1, go, tmp_path / "whole", trial, 5)
    (first,) = run_ranks(1, go, tmp_path / "parts", trial, 2)
    (second,) = run_ranks(1, go, tmp_path / "parts", trial, 5)
    assert first["steps"] + second["steps"] == whole_way["steps"]
    assert second["next"] == whole_way["next"]
    assert same(second["weights"], whole_way["weights"])
    assert same(second["moments"], whole_way["moments"])
    assert not same(first["weights"], whole_way["weights"])


def test_a_state_of_two_ranks_goes_on_on_one_and_on_four(tmp_path: Path) -> None:
    saved = run_ranks(2, go, tmp_path / "2", CLIP, 2)
    for world in (1, 4):
        shutil.copytree(tmp_path / "2", tmp_path / str(world))
    on_two, on_one, on_four = ({}, {}, {})
    for world, told in ((1, on_one), (4, on_four)):
        told["loaded"] = run_ranks(world, go, tmp_path / str(world), CLIP, 2)
        assert same(told["loaded"][0]["weights"], saved[0]["weights"])
        for of_rank in told["loaded"]:
            assert same(of_rank["moments"], saved[0]["moments"])
    # Chance goes on on the ranks that were there; the others begin with theirs.
    assert [of_rank["next"] for of_rank in on_one["loaded"]] == [saved[0]["next"]]
    assert [of_rank["next"] for of_rank in on_four["loaded"][:2]] == [of_rank["next"] for of_rank in saved]
    for rank in (2, 3):
        seed_chance(0, rank)
        assert on_four["loaded"][rank]["next"] == draw()
    assert len({of_rank["next"] for of_rank in on_four["loaded"]}) == 4

    on_two["steps"] = run_ranks(2, go, tmp_path / "2", CLIP, 4)[0]["steps"]
    for world in (1, 4):
        steps = run_ranks(world, go, tmp_path / str(world), CLIP, 4)[0]["steps"]
        for one, other in zip(steps, on_two["steps"], strict=True):
            assert one[:3] == pytest.approx(other[:3], rel=1e-9)


def test_a_state_that_lacks_what_one_rank_wrote_is_refused(tmp_path: Path) -> None:
    run_ranks(2, go, tmp_path, SMALL, 1)
    folder = tmp_path / "state" / "trial-1"
    first, _ = sorted(folder.glob("*.safetensors"))
    first.unlink()
    vlm, _, optimizer = begin(SMALL, ALONE)
    with pytest.raises(UserError, match="files are missing"):
        load_state(folder, vlm.model, optimizer, ALONE, seed=0)


def learn_one_step(out: Path, ranks: Ranks) -> tuple[torch.nn.Module, torch.optim.AdamW]:
    """Save a state after one step, and return what has learned another one."""
    vlm, learner, optimizer = begin(SMALL, ranks)
    with StateWriter(out, ranks) as states:
        train_step(SMALL, vlm, learner, optimizer, step_of(SMALL, 0, vlm))
        states.save("trial", 1, vlm.model, optimizer, {"done": 1})
    train_step(SMALL, vlm, learner, optimizer, step_of(SMALL, 1, vlm))
    return vlm.model, optimizer


def die_at(watched: Path, moment: int) -> None:
    """Have this process end, as `kill -9` ends it, at file operation number `moment` below `watched`."""
    seen = 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        changes = event in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod")
        if changes and str(arguments[0]).startswith(str(watched)):
            seen += 1
            if seen == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def die_everywhere(out: Path) -> list[int]:
    """Die at every file operation of a save; return which state was found after each."""
    model, optimizer = learn_one_step(out / "first", ALONE)
    found = []
    while True:
        folder = out / str(len(found))
        shutil.copytree(out / "first", folder)
        if (child := os.fork()) == 0:
            die_at(folder, len(found) + 1)
            with StateWriter(folder, ALONE, keep=1) as states:
                states.save("trial", 2, model, optimizer, {"done": 2})
            os._exit(0)
        _, status = os.waitpid(child, 0)
        state = latest(folder, "trial")
        assert state is not None
        vlm, _, fresh = begin(SMALL, ALONE)
        numbers = load_state(state, vlm.model, fresh, ALONE, seed=0)
        found.append(numbers["done"])
        assert same(dict(vlm.model.named_parameters()), dict(model.named_parameters())) == (numbers["done"] == 2)
        StateWriter(folder, ALONE)
        assert not any(entry.name.startswith(".") for entry in (folder / "state").iterdir())
        if os.WIFEXITED(status):
            return found


def test_killed_at_any_moment_it_finds_a_whole_state(tmp_path: Path) -> None:
    (found,) = run_ranks(1, die_everywhere, tmp_path)
    assert len(found) > 10
    assert found == sorted(found)
    assert set(found) == {1, 2}


def save_while_one_dies(out: Path) -> None:
    with start_ranks() as ranks:
        model, optimizer = learn_one_step(out, ranks)
        if ranks.rank == 1:
            die_at(out, 1)
        with StateWriter(out, ranks) as states:
            states.save("trial", 2, model, optimizer, {"done": 2})


def test_where_one_rank_is_killed_the_others_end_and_the_state_before_stays(tmp_path: Path) -> None:
    ended = outcomes(2, save_while_one_dies, tmp_path)
    assert ended[1].code == -signal.SIGKILL
    assert ended[0].code not in (0, -signal.SIGKILL)
    assert latest(tmp_path, "trial") == tmp_path / "state" / "trial-1"


def save_on_a_full_disk(out: Path) -> None:
    with start_ranks() as ranks:
        model, optimizer = learn_one_step(out, ranks)
        with StateWriter(out, ranks) as states:
            if ranks.rank == ranks.world - 1:
                resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
            states.save("trial", 2, model, optimizer, {"done": 2})


@pytest.mark.parametrize("world", [1, 2])
def test_a_full_disk_is_told_and_leaves_the_states_before(tmp_path: Path, world: int) -> None:
    ended = outcomes(world, save_on_a_full_disk, tmp_path)
    told = [outcome.error.strip().splitlines()[-1] for outcome in ended]
    place = f"{tmp_path}/state/trial-2: the training state cannot be saved: File too large; "
    assert sum(place in line for line in told) == 1
    assert all("UserError: " in line or line == "SystemExit: 1" for line in told)
    assert [entry.name for entry in (tmp_path / "state").iterdir()] == ["trial-1"]


def test_a_state_is_what_was_when_it_was_asked_for(tmp_path: Path) -> None:
    trial = replace(SMALL, preset="tiny")
    vlm, learner, optimizer = begin(trial, ALONE)
    train_step(trial, vlm, learner, optimizer, step_of(trial, 0, vlm))
    kept = dict(vlm.model.state_dict())
    before, moments = ({name: tensor.clone() for name, tensor in of.items()} for of in (kept, moments_of(optimizer)))
    numbers = {"done": 1, "sums": [1.5]}
    with StateWriter(tmp_path, ALONE) as states:
        states.save("trial", 1, vlm.model, optimizer, numbers)
        for tensor in [*kept.values(), *moments_of(optimizer).values()]:
            tensor.zero_()
        numbers["sums"] = []
    folder = latest(tmp_path, "trial")
    assert folder is not None
    assert load_state(folder, vlm.model, optimizer, ALONE, seed=0) == {"done": 1, "sums": [1.5]}
    assert any("running_mean" in name for name in kept)
    assert same(kept, before)
    assert same(moments_of(optimizer), moments)


def test_the_last_states_of_a_stage_are_kept_and_the_newest_is_found(tmp_path: Path) -> None:
    vlm, _, optimizer = begin(SMALL, ALONE)
    with StateWriter(tmp_path, ALONE, keep=2) as states:
        for stage, step in (("align", 3), ("deep", 8), ("deep", 9), ("deep", 10), ("deep-2", 11)):
            states.save(stage, step, vlm.model, optimizer, {})
            states.wait()
            if stage == "deep":
                assert latest(tmp_path, "deep") == tmp_path / "state" / f"deep-{step}"
            if step == 10:
                assert {entry.name for entry in (tmp_path / "state").iterdir()} == {"deep-9", "deep-10"}
    assert {entry.name for entry in (tmp_path / "state").iterdir()} == {"deep-2-11"}
    assert latest(tmp_path, "deep") is None
    (tmp_path / "state" / "deep-2-12").mkdir()
    assert latest(tmp_path, "deep-2") == tmp_path / "state" / "deep-2-11"
    assert latest(tmp_path / "elsewhere", "deep") is None


def test_a_state_holds_tensors_and_numbers_and_nothing_that_could_run(tmp_path: Path) -> None:
    learn_one_step(tmp_path, ALONE)
    files = sorted(file for file in tmp_path.rglob("*") if file.is_file())
    assert [file.suffix for file in files] == [".safetensors", ".json"]
    header = files[0].read_bytes()[8 : 8 + int.from_bytes(files[0].read_bytes()[:8], "little")]
    names = json.loads(header).keys()
    assert {name.partition("/")[0] for name in names} == {"weights", "optimizer", "chance", "__metadata__"}
    assert sum("embed_tokens.weight" in name or "lm_head" in name for name in names) == 4  # weight, step, two moments


def cut_off(folder: Path) -> None:
    file = next(folder.glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-1])


def lose_a_file(folder: Path) -> None:
    next(folder.glob("*.safetensors")).unlink()


def spoil_the_header(folder: Path) -> None:
    file = next(folder.glob("*.safetensors"))
    file.write_bytes(b"\xff" * 8 + file.read_bytes()[8:])


def spoil_an_offset(folder: Path) -> None:
    file = next(folder.glob("*.safetensors"))
    file.write_bytes(file.read_bytes().replace(b"saved_offsets", b"saved_offsetz"))


def spoil_the_chance(folder: Path) -> None:
    file = next(folder.glob("*.safetensors"))
    one_less = re.sub(rb'(?<="torch": \[)\d+, ', lambda found: b" " * len(found[0]), file.read_bytes())
    file.write_bytes(one_less)


def spoil_the_numbers(folder: Path) -> None:
    (folder / "state.json").write_text("[" * 100_000)


@pytest.mark.parametrize(
    "spoil", [cut_off, lose_a_file, spoil_the_header, spoil_an_offset, spoil_the_chance, spoil_the_numbers]
)
def test_a_state_that_is_not_whole_is_refused(tmp_path: Path, spoil: Any) -> None:
    model, optimizer = learn_one_step(tmp_path, ALONE)
    folder = tmp_path / "state" / "trial-1"
    spoil(folder)
    with pytest.raises(UserError) as error:
        load_state(folder, model, optimizer, ALONE, seed=0)
    assert str(error.value).startswith(f"{folder}: cannot be read as a training state: ")
    assert "\n" not in str(error.value)


def test_a_state_of_other_weights_is_refused(tmp_path: Path) -> None:
    learn_one_step(tmp_path, ALONE)
    vlm, _, optimizer = begin(SMALL, ALONE)
    set_trainable(vlm.model, ["projector"])
    with pytest.raises(UserError, match="other weights learned then than are to learn now"):
        load_state(tmp_path / "state" / "trial-1", vlm.model, optimizer, ALONE, seed=0)
