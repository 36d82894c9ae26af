"""A whole training on a tiny model: checkpoints, log, provenance, determinism, and what it refuses."""

import json
import math
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
import yaml
from phantoms import build_phantoms
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import CliRunner

from gmai_vl.cli.train import train as train_command
from gmai_vl.corpus import Corpus
from gmai_vl.foundation import UserError
from gmai_vl.model import Request, collate, encode, generate, load_model, loss_sum, parts, prepare_image
from gmai_vl.records import Sample
from gmai_vl.training import TrainRecipe, train
from gmai_vl.training.telemetry import read_log

RECIPE = """\
name: trial
out: run
model: {preset: tiny}
stages:
  - name: align
    train: [projector]
    learning_rate: 1.0e-3
    global_batch: 8
    max_steps: 4
    warmup_ratio: 0.5
    mixture: [{corpus: corpus, subsets: [caption]}]
  - name: instruct
    train: [projector, language]
    learning_rate: {projector: 1.0e-3, language: 1.0e-4}
    global_batch: 8
    micro_batch_tokens: 1000
    max_steps: 3
    validation: {every: 3, samples: 4}
    mixture: [{corpus: corpus, ratio: 0.5}]
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe, its corpus, and the training that it describes."""
    folder = tmp_path_factory.mktemp("base")
    build_phantoms(folder)
    (folder / "recipe.yaml").write_text(RECIPE)
    assert command(folder).stdout == f"{folder.resolve() / 'run' / 'final'}\n"
    return folder


def command(folder: Path, *arguments: str) -> Any:
    app = typer.Typer()
    app.command()(train_command)
    return CliRunner().invoke(app, [str(folder / "recipe.yaml"), *arguments])


def weights(folder: Path) -> str:
    return sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def log(base: Path, event: str) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (base / "run" / "log.jsonl").read_text().splitlines()]
    return [row for row in rows if row["event"] == event]


def test_every_stage_is_a_checkpoint_that_loads_and_speaks(base: Path) -> None:
    corpus = Corpus(base / "corpus")
    sample = corpus.samples(split="test")[0]
    request = Request(sample.turns[:1], (corpus.image(sample.images[0]),))
    for name in ("align", "instruct"):
        (answer,) = generate(load_model(base / "run" / name), [request], max_new_tokens=3, batch_size=1)
        assert isinstance(answer, str)
    assert weights(base / "run" / "align") != weights(base / "run" / "instruct")


def test_final_is_a_relative_link_to_the_last_stage(base: Path) -> None:
    assert (base / "run" / "final").readlink() == Path("instruct")


def test_the_log_has_every_step_with_its_learning_rate_and_speed(base: Path) -> None:
    steps = log(base, "step")
    assert [(row["stage"], row["step"], row["steps"]) for row in steps] == [
        *(("align", step, 4) for step in (1, 2, 3, 4)),
        *(("instruct", step, 3) for step in (1, 2, 3)),
    ]
    # Two steps of warm-up, then a cosine over two.
    assert [row["learning_rate"]["projector"] for row in steps[:4]] == pytest.approx([1e-3 / 3, 2e-3 / 3, 1e-3, 5e-4])
    assert steps[4]["learning_rate"] == {"projector": 1e-3, "language": 1e-4}
    for row in steps:
        assert row["tokens"] > row["supervised_tokens"] > 0
        assert row["tokens_per_second"] * row["seconds"] == pytest.approx(row["tokens"])
        assert row["samples_per_second"] * row["seconds"] == pytest.approx(row["samples"])
        assert row["gradient_norm"] > 0
        assert 1e6 < row["flops_per_second"] < 1e13
        assert row["peak_memory_bytes"] > 1e8
    (validation,) = log(base, "validation")
    assert (validation["stage"], validation["step"], validation["samples"]) == ("instruct", 3, 4)
    assert math.isfinite(validation["loss"])


def test_tensorboard_shows_the_losses_of_the_log(base: Path) -> None:
    board = EventAccumulator(str(base / "run" / "tensorboard"))
    board.Reload()
    shown = [event.value for event in board.Scalars("align/step/loss")]
    assert shown == pytest.approx([row["loss"] for row in log(base, "step") if row["stage"] == "align"])


def test_a_checkpoint_says_where_it_comes_from_and_what_it_is_not_for(base: Path) -> None:
    facts = json.loads((base / "run" / "final" / "provenance.json").read_text())
    manifest = json.loads((base / "corpus" / "manifest.json").read_text())
    assert [stage["name"] for stage in facts["stages"]] == ["align", "instruct"]
    for stage in facts["stages"]:
        assert stage["corpora"][0]["fingerprint"] == manifest["fingerprint"]
        assert stage["corpora"][0]["licenses"] == ["Apache-2.0"]
    assert facts["stages"][1]["corpora"][0]["samples_per_epoch"] == round(
        0.5 * manifest["counts"]["samples_by_split"]["train"]
    )
    assert facts["origin"]["language"]["name"] == "random:llama"
    assert facts["use"] == "research use only, not for diagnosis"
    card = (base / "run" / "final" / "README.md").read_text()
    assert "not for diagnosis" in card
    assert manifest["fingerprint"][:12] in card


def recipe(**changes: Any) -> TrainRecipe:
    stage = {
        "name": "short",
        "train": ["vision", "projector", "language"],
        "learning_rate": 1e-3,
        "global_batch": 4,
        "max_steps": 3,
        "mixture": [{"corpus": "corpus"}],
    }
    return TrainRecipe.model_validate({"name": "t", "model": {"preset": "tiny"}, "stages": [stage]} | changes)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(base: Path, tmp_path: Path) -> None:
    runs = [
        train(recipe(out=str(tmp_path / name), seed=seed), base=base) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert weights(runs[0]) == weights(runs[1])
    assert weights(runs[0]) != weights(runs[2])


def test_a_training_goes_on_from_a_checkpoint_and_keeps_its_history(base: Path, tmp_path: Path) -> None:
    stage = recipe(out="x").stages[0].model_dump() | {"train": ["language"]}
    more = recipe(out=str(tmp_path / "more"), model={"init": "run/align"}, seed=9, stages=[stage])
    final = train(more, base=base)
    origin = json.loads((final / "provenance.json").read_text())["origin"]
    assert origin["provenance"]["stage"] == "align"
    trained, kept = (parts(load_model(path).model)["projector"] for path in (base / "run" / "align", final))
    assert all(torch.equal(a, b) for a, b in zip(trained.parameters(), kept.parameters(), strict=True))


@pytest.mark.parametrize("packing", ["none", "bfd"])
def test_steps_may_be_counted_in_tokens(base: Path, tmp_path: Path, packing: str) -> None:
    out = tmp_path / "run"
    stage = recipe(out="x").stages[0].model_dump() | {"global_batch": None, "max_steps": None, "epochs": 1}
    by_tokens = stage | {"batch_tokens": 3000}
    train(recipe(out=str(out), packing=packing, pack_length=512, stages=[by_tokens]), base=base)
    steps = [row for row in map(json.loads, (out / "log.jsonl").read_text().splitlines()) if row["event"] == "step"]
    tokens = [step["tokens"] for step in steps]
    assert len(tokens) == -(-sum(tokens) // 3000) > 2
    assert all(abs(count - 3000) < 1024 for count in tokens[:-1])
    assert (
        sum(step["samples"] for step in steps)
        == Corpus(base / "corpus").manifest["counts"]["samples_by_split"]["train"]
    )

    told = "stage short: `batch_tokens` is 60, but " + ("`pack_length` is 512" if packing == "bfd" else "its longest")
    too_few = recipe(
        out=str(tmp_path / "none"), packing=packing, pack_length=512, stages=[stage | {"batch_tokens": 60}]
    )
    with pytest.raises(UserError, match=told):
        train(too_few, base=base)
    assert not (tmp_path / "none").exists()


def test_an_earlier_run_is_kept_unless_the_user_says_otherwise(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    short = ["--set", f"out={out}", "--set", "stages.0.max_steps=1", "--set", "stages.1.max_steps=1"]
    assert command(base, *short).exit_code == 0
    before = weights(out / "final")
    assert "--overwrite" in str(command(base, *short, "--set", "seed=5").exception)
    assert weights(out / "final") == before
    assert command(base, *short, "--set", "seed=5", "--overwrite").exit_code == 0
    assert weights(out / "final") != before


def test_files_of_others_are_never_removed(base: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match=r"holds thesis\.tex, which no training wrote"):
        train(recipe(out=str(tmp_path)), base=base, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_the_checkpoint_that_a_training_goes_on_from_is_never_removed(base: Path) -> None:
    with pytest.raises(UserError, match=r"run: holds the checkpoint of `model\.init`; give another `out`"):
        train(recipe(out="run", model={"init": "run/final"}), base=base, overwrite=True)
    assert (base / "run" / "final" / "config.json").is_file()


def test_a_mistake_in_the_data_is_told_before_anything_is_written(base: Path, tmp_path: Path) -> None:
    stage = recipe(out="x").stages[0].model_dump() | {"mixture": [{"corpus": "nowhere"}]}
    with pytest.raises(UserError, match=r"nowhere: no finished corpus"):
        train(recipe(out=str(tmp_path / "run"), stages=[stage]), base=base)
    assert not (tmp_path / "run").exists()


def test_a_corpus_that_shares_with_the_test_set_is_not_trained_on(base: Path, tmp_path: Path) -> None:
    corpus = Corpus(base / "corpus")
    trained = next(row for row in corpus.rows("cases") if row["split"] == "train")
    (base / "tested").mkdir(exist_ok=True)
    picture = base / "corpus" / "images" / trained["image"][:2] / f"{trained['image']}.png"
    (base / "tested" / "a.png").write_bytes(picture.read_bytes())
    data = yaml.safe_load(RECIPE)
    data["stages"] = data["stages"][:1]
    stop = TrainRecipe.model_validate(data | {"out": "stopped", "leak_check": {"against": ["tested"]}})
    with pytest.raises(UserError, match=r"corpus shares 1 with tested, first .* \(same pixels as a.png\)"):
        train(stop, base=base)
    assert not (base / "stopped").exists()
    warn = {"leak_check": {"against": ["tested"], "on_leak": "warn"}}
    final = train(TrainRecipe.model_validate(data | {"out": str(tmp_path / "warned")} | warn), base=base)
    told = json.loads((final / "provenance.json").read_text())["origin"]["leak_check"]
    assert told == {"against": ["tested"], "compared": 1, "shared": {"phantoms": 1}}


def test_the_best_weights_of_a_stage_are_kept_where_the_recipe_asks_for_them(base: Path, tmp_path: Path) -> None:
    losses = {}
    for keep in ("best", "last"):
        stage = recipe(out="x").stages[0].model_dump() | {
            "learning_rate": 0.1,
            "max_steps": 8,
            "validation": {"every": 1, "samples": 12, "keep": keep},
        }
        final = train(recipe(out=str(tmp_path / keep), precision="fp32", stages=[stage]), base=base)
        rows = [row for row in read_log(tmp_path / keep) if row["event"] == "validation"]
        told = json.loads((final / "provenance.json").read_text())["stages"][0]
        losses[keep] = [row["loss"] for row in rows]
        assert told["validation_loss"] == (min(losses[keep]) if keep == "best" else losses[keep][-1])
        assert not list(tmp_path.glob("*/state/*"))
    assert losses["best"] == losses["last"]
    best = losses["best"].index(min(losses["best"])) + 1
    assert best < 8, "the trial must be one that gets worse again"
    assert json.loads((tmp_path / "best" / "final" / "provenance.json").read_text())["stages"][0]["best_step"] == best

    again = recipe(out="x").stages[0].model_dump() | {"learning_rate": 1e-30, "max_steps": 1}
    again |= {"validation": {"every": 1, "samples": 12}}
    model = {"init": str(tmp_path / "best" / "short")}
    train(recipe(out=str(tmp_path / "again"), precision="fp32", model=model, stages=[again]), base=base)
    (row,) = [row for row in read_log(tmp_path / "again") if row["event"] == "validation"]
    assert row["loss"] == pytest.approx(min(losses["best"]), rel=1e-5)


def test_a_tracker_is_told_the_numbers_of_the_log(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a stand-in for the library, which is not needed for anything else."""
    (tmp_path / "trackio.py").write_text(
        "told = []\n"
        "def init(**options): told.append(options)\n"
        "def log(values, step): told.append((step, values))\n"
        "def finish(): told.append('finished')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    train(recipe(out=str(tmp_path / "run"), tracker="trackio"), base=base)
    begun, *rows, ended = sys.modules.pop("trackio").told  # type: ignore[attr-defined]  # TRL would take it for its own
    assert (begun, ended) == ({"project": "gmai-vl", "name": "t"}, "finished")
    losses = [values["short/step/loss"] for _, values in rows if "short/step/loss" in values]
    assert losses == [row["loss"] for row in read_log(tmp_path / "run") if row["event"] == "step"]
    assert [step for step, _ in rows] == sorted({step for step, _ in rows})
    assert all(isinstance(value, int | float) for _, values in rows for value in values.values())


def test_a_tracker_that_is_not_installed_is_told_before_anything_is_written(base: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="tracker: wandb is not installed; `pip install wandb`, or leave `tracker` out"):
        train(recipe(out=str(tmp_path / "run"), tracker="wandb"), base=base)
    assert not (tmp_path / "run").exists()


def test_deterministic_kernels_give_the_weights_that_a_cpu_gives_anyway(base: Path, tmp_path: Path) -> None:
    exact = train(recipe(out=str(tmp_path / "exact"), deterministic=True), base=base)
    assert torch.are_deterministic_algorithms_enabled()
    usual = train(recipe(out=str(tmp_path / "usual")), base=base)
    assert not torch.are_deterministic_algorithms_enabled()
    assert weights(exact) == weights(usual)


def confidence_of(checkpoint: Path, sample: Sample, corpus: Corpus) -> float:
    """Return e to the mean log-probability of the tokens of the answers."""
    vlm = load_model(checkpoint, dtype=torch.float32)
    images = [prepare_image(vlm.processor, corpus.image(name)) for name in sample.images]
    with torch.no_grad():
        loss, count = loss_sum(vlm.model, collate(vlm.processor, [encode(vlm.processor, sample.turns)], images))
    return math.exp(-float(loss) / count)


def test_a_stage_leaves_out_what_the_one_before_it_is_unsure_of(base: Path, tmp_path: Path) -> None:
    def run(name: str, least: float | None) -> Path:
        first = recipe(out="x").stages[0].model_dump() | {"max_steps": 30, "learning_rate": 3e-3}
        part = {"corpus": "corpus", "forms": ["presence", "modality"], "min_confidence": least}
        second = first | {"name": "second", "epochs": 1, "max_steps": None, "mixture": [part]}
        train(recipe(out=str(tmp_path / name), precision="fp32", stages=[first, second]), base=base)
        return tmp_path / name

    (told,) = [row for row in read_log(run("all", 1e-9)) if row["event"] == "confidence"]
    least = told["deciles"][4]
    some = run("some", least)
    corpus = Corpus(base / "corpus")
    asked = [s for s in corpus.samples(split="train") if s.provenance.facts["form"] in ("presence", "modality")]
    sure = [confidence_of(some / "short", sample, corpus) for sample in asked]
    assert told["deciles"][0] == pytest.approx(min(sure), abs=1e-4)
    assert told["deciles"][-1] == pytest.approx(max(sure), abs=1e-4)
    learnt = sum(row["samples"] for row in read_log(some) if row["event"] == "step" and row["stage"] == "second")
    assert learnt == sum(share >= least for share in sure)
    assert 0 < learnt < len(asked)


def test_nothing_is_sure_before_the_first_stage() -> None:
    stage = recipe(out="x").stages[0].model_dump() | {"mixture": [{"corpus": "corpus", "min_confidence": 0.1}]}
    with pytest.raises(ValueError, match="`min_confidence` in the first stage: nothing has learnt yet"):
        recipe(out="x", stages=[stage])
    recipe(out="x", stages=[stage], model={"init": "run/final"})


def test_peak_memory_is_that_of_the_process_and_not_of_the_one_that_started_it() -> None:
    held = b"1" * 1_500_000_000
    asks = "import torch; from gmai_vl.training.memory import peak_memory; print(peak_memory(torch.device('cpu')))"
    told = subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True, check=True)
    assert 1e7 < int(told.stdout) < 1.2e9 < len(held)
