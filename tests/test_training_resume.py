"""A training that is killed goes on to the weights and the log of one that never was."""

import json
import os
import random
import resource
import shutil
import signal
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from many_ranks import outcomes
from phantoms import build_phantoms
from PIL import Image

from gmai_vl.corpus import Corpus
from gmai_vl.foundation import UserError
from gmai_vl.training import read_recipe, train
from gmai_vl.training.telemetry import RunLog, read_log

RECIPE = """\
name: trial
out: run
model: {preset: tiny}
state: {every: 2, keep: 2}
packing: bfd
pack_length: 1024
stages:
  - name: align
    train: [vision, projector]
    learning_rate: 1.0e-3
    global_batch: 2
    max_steps: 3
    mixture: [{corpus: corpus, subsets: [caption]}]
  - name: instruct
    train: [vision, projector, language]
    learning_rate: 1.0e-3
    global_batch: 3
    max_steps: 7
    validation: {every: 3, samples: 4, keep: best}
    mixture: [{corpus: corpus, ratio: 0.5}]
"""
STAGES = ("align", "instruct")

Moment = tuple[Literal["event", "file"], int, int]
"""After so many events of the log, or file operations below OUT, of one rank; 0 for never."""

NEVER: Moment = ("event", 0, 0)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    build_phantoms(folder)
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


def train_and_die(base: Path, out: str, moment: Moment) -> int:
    """Train, or go on; be killed at `moment`. Returns how many events or file operations there were."""
    kind, count, rank = moment
    seen = 0

    def one_more() -> None:
        nonlocal seen
        seen += 1
        if seen == count and int(os.environ["RANK"]) == rank:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir") and str(arguments[0]).startswith(
            str(base / out)
        ):
            one_more()

    if kind == "file":
        sys.addaudithook(watch)
    else:
        write = RunLog.write

        def write_and_count(self: RunLog, *arguments: Any, **values: Any) -> None:
            write(self, *arguments, **values)
            one_more()

        RunLog.write = write_and_count  # type: ignore[method-assign]
    train(read_recipe(base / "recipe.yaml", [f"out={out}"]), base=base, resume=True)
    return seen


def weights(base: Path, out: str) -> list[str]:
    return [sha256((base / out / stage / "model.safetensors").read_bytes()).hexdigest() for stage in STAGES]


def events(base: Path, out: str) -> list[dict[str, Any]]:
    """Return the log without what a clock says."""
    rows = [json.loads(line) for line in (base / out / "log.jsonl").read_text().splitlines()]
    measured = ("time", "seconds", "per_second", "bytes")
    return [{key: value for key, value in row.items() if not key.endswith(measured)} for row in rows]


@pytest.fixture(scope="module")
def whole(base: Path) -> dict[int, tuple[int, int]]:
    """Number of ranks -> events and file operations of a training that is not killed; it lies in `whole-N`."""
    counts = {}
    for world in (1, 2):
        (first, *_) = outcomes(world, train_and_die, base, f"whole-{world}", ("event", 0, 0))
        (again, *_) = outcomes(world, train_and_die, base, f"files-{world}", ("file", 0, 0))
        assert not first.error and not again.error, first.error + again.error
        assert weights(base, f"whole-{world}") == weights(base, f"files-{world}")
        counts[world] = (first.result, again.result)
    return counts


def check_moment(base: Path, world: int, moment: Moment) -> None:
    """Kill a training at `moment`, let it go on, and hold the end against that of the one that was not killed."""
    out = f"killed-{world}-{'-'.join(map(str, moment))}"
    shutil.rmtree(base / out, ignore_errors=True)
    killed = outcomes(world, train_and_die, base, out, moment)
    assert killed[moment[2]].code == -signal.SIGKILL
    for outcome in outcomes(world, train_and_die, base, out, NEVER):
        assert outcome.code == 0, outcome.error
    assert weights(base, out) == weights(base, f"whole-{world}")
    assert events(base, out) == events(base, f"whole-{world}")
    assert not list((base / out).glob("state/*"))


def moments(whole: dict[int, tuple[int, int]], world: int, count: int, seed: int) -> list[Moment]:
    """Choose moments by chance, each once: half of them events, at which either of two ranks may die."""
    rng = random.Random(seed)
    steps, files = whole[world]
    at_events: list[Moment] = [("event", number, rank) for number in range(1, steps + 1) for rank in range(world)]
    at_files: list[Moment] = [("file", number, 0) for number in range(1, files + 1)]
    return [*rng.sample(at_events, count // 2), *rng.sample(at_files, count - count // 2)]


@pytest.mark.parametrize("world", [1, 2])
def test_a_killed_training_goes_on_to_the_same_weights(
    base: Path, whole: dict[int, tuple[int, int]], world: int
) -> None:
    for moment in moments(whole, world, 2, seed=world):
        check_moment(base, world, moment)


@pytest.mark.long
@pytest.mark.parametrize("world", [1, 2])
def test_a_training_killed_at_any_of_twenty_moments_goes_on_to_the_same_weights(
    base: Path, whole: dict[int, tuple[int, int]], world: int
) -> None:
    for moment in moments(whole, world, 20, seed=10 + world):
        check_moment(base, world, moment)


def test_states_are_saved_on_the_way_and_the_last_ones_kept(base: Path, whole: dict[int, tuple[int, int]]) -> None:
    last_step = next(
        number
        for number, row in enumerate(events(base, "whole-1"), 1)
        if (row["event"], row["stage"], row["step"]) == ("step", "instruct", 7)
    )
    outcomes(1, train_and_die, base, "stopped", ("event", last_step, 0))
    assert sorted(entry.name for entry in (base / "stopped" / "state").iterdir()) == ["instruct-4", "instruct-6"]


def train_with_little_room(base: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    train(read_recipe(base / "recipe.yaml", ["out=full", "state.every=100"]), base=base, resume=True)


def test_a_disk_that_is_full_when_a_checkpoint_is_saved_stops_a_training_that_can_go_on_later(
    base: Path, whole: object
) -> None:
    (ended,) = outcomes(1, train_with_little_room, base)
    line = ended.error.strip().splitlines()[-1]
    assert "UserError: " in line
    assert f"{base}/full/align: the checkpoint cannot be saved: " in line
    assert sorted(entry.name for entry in (base / "full").iterdir()) == ["log.jsonl", "run.json", "tensorboard"]
    for outcome in outcomes(1, train_and_die, base, "full", NEVER):
        assert outcome.code == 0, outcome.error
    assert weights(base, "full") == weights(base, "whole-1")
    assert events(base, "full") == events(base, "whole-1")


def write_much(out: Path) -> None:
    with RunLog(out) as log:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, resource.RLIM_INFINITY))
        for number in range(1000):
            log.write("step", "trial", number, loss=1.0)


def test_a_disk_that_is_full_when_the_log_is_written_is_told(tmp_path: Path) -> None:
    (ended,) = outcomes(1, write_much, tmp_path)
    assert f"UserError: {tmp_path}/log.jsonl: cannot be written: File too large; make room" in ended.error
    assert 10 < len(read_log(tmp_path)) < 1000


def changed_image(corpus: Corpus, name: str) -> Path:
    path = corpus.path / "images" / name[:2] / f"{name}.png"
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(path)
    return path


def test_an_image_that_changed_or_went_stops_the_run_where_it_is_needed_and_it_goes_on_once_it_is_back(
    base: Path, whole: object
) -> None:
    corpus = Corpus(base / "corpus")
    (name,) = corpus.samples(split="train", subsets=["caption"])[0].images
    before = (corpus.path / "images" / name[:2] / f"{name}.png").read_bytes()
    path = changed_image(corpus, name)
    recipe = read_recipe(base / "recipe.yaml", ["out=ill"])
    with pytest.raises(UserError, match=f"{name}.png: this image of the corpus holds other pixels than its name says"):
        train(recipe, base=base)
    path.unlink()
    with pytest.raises(UserError, match=f"{name}.png: this image of the corpus is missing"):
        train(recipe, base=base, resume=True)
    path.write_bytes(before)
    train(recipe, base=base, resume=True)
    assert weights(base, "ill") == weights(base, "whole-1")


def test_resuming_another_training_is_refused_and_names_what_differs(base: Path, whole: object) -> None:
    for change, key in (("stages.1.learning_rate=2e-3", "stages.1.learning_rate"), ("seed=1", "seed")):
        with pytest.raises(UserError, match=f"holds a training with another `{key}`; resume it with what it was begun"):
            train(read_recipe(base / "recipe.yaml", ["out=whole-1", change]), base=base, resume=True)
    free = read_recipe(base / "recipe.yaml", ["out=whole-1", "state.every=9"])
    assert train(free, base=base, resume=True) == base / "whole-1" / "final"


def test_resuming_over_other_data_is_refused(base: Path, whole: object) -> None:
    description = base / "whole-1" / "run.json"
    before = description.read_text()
    content = json.loads(before)
    content["corpora"]["corpus"] = "0" * 64
    description.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"holds a training with another `corpora\.corpus`"):
        train(read_recipe(base / "recipe.yaml", ["out=whole-1"]), base=base, resume=True)
    description.write_text(before)


def test_what_is_no_training_is_not_resumed(base: Path, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("")
    recipe = read_recipe(base / "recipe.yaml", [f"out={tmp_path}"])
    with pytest.raises(UserError, match=r"holds no training to resume \(run.json cannot be read\)"):
        train(recipe, base=base, resume=True)
    with pytest.raises(UserError, match="--overwrite and --resume: give one of them"):
        train(recipe, base=base, resume=True, overwrite=True)
