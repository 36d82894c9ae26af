"""A plan tells beforehand what a training then does."""

import json
from pathlib import Path
from typing import Any

import pytest
from many_ranks import run_ranks
from phantoms import build_phantoms
from typer.testing import CliRunner

from gmai_vl.cli import app
from gmai_vl.model import count_parameters, load_model, set_trainable
from gmai_vl.training import read_recipe, train
from gmai_vl.training.telemetry import read_log

RECIPE = """\
name: trial
out: run
model: {preset: tiny}
packing: bfd
pack_length: 600
stages:
  - name: align
    train: [projector]
    learning_rate: 1.0e-3
    global_batch: 4
    epochs: 1
    mixture: [{corpus: corpus, subsets: [caption]}]
  - name: instruct
    train: [projector, language]
    lora: {parts: [language], rank: 4}
    learning_rate: 1.0e-3
    global_batch: 8
    max_steps: 5
    mixture: [{corpus: corpus, ratio: 0.5}]
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan")
    build_phantoms(folder)
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


def planned(base: Path, *arguments: str) -> tuple[list[dict[str, Any]], str]:
    done = CliRunner().invoke(
        app, ["plan", str(base / "recipe.yaml"), "--json", str(base / "plan.json"), *arguments], catch_exceptions=False
    )
    assert done.exit_code == 0
    return json.loads((base / "plan.json").read_text())["stages"], done.stdout


def train_here(base: Path) -> None:
    train(read_recipe(base / "recipe.yaml"), base=base)


def train_again(base: Path) -> None:
    train(read_recipe(base / "recipe.yaml", ["out=again"]), base=base)


def test_what_is_planned_is_what_is_done(base: Path) -> None:
    stages, shown = planned(base)
    run_ranks(1, train_here, base)
    rows = read_log(base / "run")
    for stage in stages:
        steps = [row for row in rows if row["event"] == "step" and row["stage"] == stage["name"]]
        assert stage["steps"] == len(steps)
        assert stage["epochs"] == pytest.approx(steps[-1]["epoch"], rel=0.2)
        assert f"{stage['samples']:,}" in shown
    whole = [row for row in rows if row["event"] == "step" and row["stage"] == "align"]
    for key in ("samples", "tokens", "supervised_tokens", "images"):
        assert stages[0][key] == sum(row[key] for row in whole)
    model = load_model(base / "run" / "align").model
    set_trainable(model, ["projector"])
    counts = count_parameters(model)
    assert stages[0]["learns"] == {"projector": counts["projector"].trainable}
    assert stages[0]["parameters"] == sum(count.total for count in counts.values())
    # Two layers; q, k, v, o, gate, up, down from 64 or 128 to 64, 32 or 128 numbers; rank 4.
    of_a_layer = 4 * ((64 + 64) + 2 * (64 + 32) + (64 + 64) + 3 * (64 + 128))
    assert stages[1]["learns"]["language"] == 2 * of_a_layer


def test_memory_is_less_on_more_devices_and_operations_are_those_that_the_log_counts(base: Path) -> None:
    (one, *_), shown = planned(base)
    (four, *_), _ = planned(base, "--devices", "4")
    parts = {name: count for name, count in one["memory"].items() if name != "total"}
    assert one["memory"]["total"] == sum(parts.values())
    assert f"{one['memory']['total'] / 2**20:,.0f}" in shown
    assert one["memory"]["weights"] == 4 * one["parameters"]
    assert four["memory"]["weights"] == one["parameters"]
    run_ranks(1, train_again, base)
    steps = [row for row in read_log(base / "again") if row["event"] == "step" and row["stage"] == "align"]
    assert one["flops"] == pytest.approx(sum(row["flops_per_second"] * row["seconds"] for row in steps))


def test_the_numbers_of_packs_add_up(base: Path) -> None:
    for packing in ("bfd", "next-fit"):
        stages, _ = planned(base, "--set", f"packing={packing}")
        for stage in stages:
            packs = stage["packs"]
            assert packs["packs"] * 600 == stage["tokens"] + packs["padding"]
            assert packs["fill"] == pytest.approx(stage["tokens"] / (packs["packs"] * 600))
            assert packs["samples_per_pack"] * packs["packs"] == pytest.approx(stage["samples"])
            assert packs["images_per_pack"] * packs["packs"] == pytest.approx(stage["images"])
            assert packs["images_per_pack"] <= packs["most_images"] <= 4
    stages, _ = planned(base, "--set", "packing=none")
    assert [stage["packs"] for stage in stages] == [None, None]


def test_what_is_cut_and_left_out_is_planned(base: Path) -> None:
    length = planned(base, "--set", "packing=none")[0][0]["longest"] - 1
    cut, left_out = (
        planned(base, "--set", f"pack_length={length}", "--set", f"too_long={policy}")[0][0]
        for policy in ("cut", "quarantine")
    )
    assert cut["cut"] == left_out["left_out"] > 0
    assert cut["longest"] == length > left_out["longest"]
    assert cut["samples"] == left_out["samples"] + left_out["left_out"]
