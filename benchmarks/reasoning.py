"""Whether reinforcement learning raises what it should: a small task, three seeds, and a control of shuffled labels.

    python benchmarks/reasoning.py [--seeds 3] [--steps 200]

Discs that are darker than what is around them, or lighter; two options, always in one order, as many right As as Bs, so
that no letter is worth more than the other. The base is the preset `tiny`, taught for 600 steps to say what it sees
("<think>dark</think>") and to answer with a letter that is drawn: it begins at a coin's level, with the form. GRPO
then sees rewards only. Accuracy is that of greedy answers to 200 questions about other pictures, before and after, of
the true labels also where the rewards came from shuffled ones; intervals are Wilson's, of 95 %.
"""

import argparse
import json
import platform
import random
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers
import trl

from gmai_vl import __version__
from gmai_vl.evaluation import Question, judge, wilson
from gmai_vl.model import (
    ModelSettings,
    Request,
    Vlm,
    build_model,
    collate,
    encode,
    load_model,
    loss_sum,
    prepare_image,
    respond,
    save_model,
)
from gmai_vl.reasoning.grpo import GrpoRecipe, grpo
from gmai_vl.reasoning.items import Items, read_items
from gmai_vl.reasoning.rewards import format_reward
from gmai_vl.records import Turn

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from reasoning_items import write_side

TAUGHT_STEPS, TAUGHT_BATCH, TAUGHT_RATE = 600, 16, 1e-3
LONGEST = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    given = parser.parse_args()
    libraries = f"torch {torch.__version__}, transformers {transformers.__version__}, trl {trl.__version__}"
    print(f"gmai-vl {__version__}, {libraries}, Python {platform.python_version()}, {torch.get_num_threads()} threads")
    for seed in range(given.seeds):
        with tempfile.TemporaryDirectory() as folder:
            one_seed(Path(folder), seed, given.steps)


def one_seed(root: Path, seed: int, steps: int) -> None:
    for number, (side, count) in enumerate((("train", 256), ("val", 64), ("test", 200))):
        write_side(root / "questions", side, count, 10 * seed + number)
    train, test = (read_items(root / "questions", side) for side in ("train", "test"))
    start = time.perf_counter()
    save_model(taught(train, seed), root / "base")
    print(f"seed {seed}: base {told(load_model(root / 'base'), test)}, {time.perf_counter() - start:.0f} s", flush=True)
    for name, shuffled in (("true labels", False), ("shuffled labels", True)):
        recipe = GrpoRecipe(
            name=name,
            out=name,
            seed=seed,
            model={"init": "base"},
            questions="questions",
            shuffle_labels=shuffled,
            questions_per_step=8,
            max_new_tokens=LONGEST,
            learning_rate=4e-4,
            max_steps=steps,
            micro_batch=64,
            train=("vision", "projector", "language"),
            precision="fp32",
        )
        start = time.perf_counter()
        final = grpo(recipe, base=root)
        seconds = time.perf_counter() - start
        rows = [json.loads(line) for line in (root / name / "log.jsonl").read_text().splitlines()]
        rewards = [row["reward"] for row in rows if row["event"] == "step"]
        first, last = (sum(some) / len(some) for some in (rewards[:10], rewards[-10:]))
        reached = told(load_model(final), test)
        print(
            f"seed {seed}: {name} {reached}, mean reward of the first and last ten steps {first:.2f} and {last:.2f}, "
            f"{seconds:.0f} s, {rows[9]['memory_mib']} and {rows[-1]['memory_mib']} MiB",
            flush=True,
        )


def taught(items: Items, seed: int) -> Vlm:
    """Return a tiny model that says what it sees, and answers with a letter that means nothing."""
    vlm = build_model(ModelSettings(preset="tiny"), seed=seed)
    random.seed(seed)
    torch.manual_seed(seed)
    optimizer = torch.optim.AdamW(vlm.model.parameters(), lr=TAUGHT_RATE)
    for _ in range(TAUGHT_STEPS):
        some = random.sample(items.questions, TAUGHT_BATCH)
        conversations = [encode(vlm.processor, (*one.turns, Turn("assistant", (_drawn_answer(one),)))) for one in some]
        pictures = [prepare_image(vlm.processor, items.image(one.images[0])) for one in some]
        total, tokens = loss_sum(vlm.model, collate(vlm.processor, conversations, pictures))
        optimizer.zero_grad()
        (total / tokens).backward()
        optimizer.step()
    return vlm


def _drawn_answer(question: Question) -> str:
    assert question.options is not None
    seen = question.options[question.reference].split()[0]
    return f"<think>{seen}</think><answer>{random.choice('AB')}</answer>"


def told(vlm: Vlm, items: Items) -> str:
    asked = [Request(one.turns, (items.image(one.images[0]),)) for one in items.questions]
    answers = respond(vlm, asked, max_new_tokens=LONGEST, batch_size=32)
    said = {one.id: answer.text for one, answer in zip(items.questions, answers, strict=True)}
    right = sum(entry.correct for entry in judge(items.questions, said))
    low, high = wilson(right, len(said))
    seen = sum(one.options[one.reference].split()[0] in said[one.id] for one in items.questions if one.options)
    formed = sum(format_reward(one, said[one.id]) for one in items.questions) / len(said)
    share = f"{100 * right / len(said):.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
    return f"{share} right, {100 * formed:.0f} % well formed, {100 * seen / len(said):.0f} % see it right"


if __name__ == "__main__":
    main()
