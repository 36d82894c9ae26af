"""Short reinforcements of tiny checkpoints, and what they leave, for tests of GRPO."""

import json
from pathlib import Path

import torch
from reasoning_items import write_side
from safetensors.torch import load_file

from gmai_vl.model import ModelSettings, build_model, save_model
from gmai_vl.reasoning.grpo import GrpoRecipe
from gmai_vl.reasoning.rewards import Rewarded

STEPS = 4


def write_base(folder: Path) -> Path:
    """Write questions and a tiny checkpoint."""
    for seed, (side, count) in enumerate((("train", 24), ("val", 8), ("test", 8))):
        write_side(folder / "questions", side, count, seed)
    save_model(build_model(ModelSettings(preset="tiny"), seed=0), folder / "model")
    return folder


def recipe(**changes):
    """A run whose rewards differ from answer to answer though the model has learnt nothing: by length."""
    fields = {
        "name": "r",
        "out": "out",
        "model": {"init": "model"},
        "questions": "questions",
        "group": 4,
        "questions_per_step": 2,
        "max_new_tokens": 8,
        "max_steps": STEPS,
        "learning_rate": 1e-3,
        "warmup_ratio": 0,
        "micro_batch": 4,
        "precision": "fp32",
        "drop_settled": False,
    }
    return GrpoRecipe(**fields | changes)


def rewards_by_letters(question, response):
    """Something that every answer has its own value of: a stand-in for knowledge that a tiny model has not."""
    return Rewarded(parts={"accuracy": min(1.0, len(set(response)) / 8)}, total=len(set(response)) / 8)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def log(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
