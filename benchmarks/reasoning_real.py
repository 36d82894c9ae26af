"""The comparison of GMAI-VL-R1 on real sets: a base model, taught on traces, reinforced, and both.

    python benchmarks/reasoning_real.py questions --corpora runs/ours runs/other ... --hold-out SOURCE ... --out runs/r1
    python benchmarks/reasoning_real.py base --init runs/smol/final --out runs/r1
    python benchmarks/reasoning_real.py traces|sft|rl|sft-rl|rl-facts|rl-shuffled|compare --out runs/r1

Each step is a call, so that those that do not need each other run side by side; one that was stopped goes on. `base`
learns the form from questions of the side train, answered with the first two sentences of a caption of their image as
the thought: it has to know it, or no answer earns anything. `traces` has the base answer each question four times and
keeps what is right, `sft` learns them; `rl` and `rl-facts`, which also pays for what the annotation bears out, go on
from the base, `sft-rl` from `sft`, and `rl-shuffled` from the base with labels drawn anew. Nothing but `compare` sees
the sets that are held out.
"""

import argparse
import json
import platform
import re
from pathlib import Path

import torch
import transformers
import trl

from gmai_vl import __version__
from gmai_vl.corpus import Corpus
from gmai_vl.foundation import canonical_json, code_identity, stable_rng, write_json, write_text
from gmai_vl.reasoning.compare import Model, compare_models
from gmai_vl.reasoning.grpo import GrpoRecipe, grpo
from gmai_vl.reasoning.items import asked_sha256, read_items
from gmai_vl.reasoning.questions import build_questions
from gmai_vl.reasoning.rewards import Weights
from gmai_vl.reasoning.sft import SftRecipe, sft
from gmai_vl.reasoning.synthesis import SynthesisRecipe, synthesize

LONGEST = 96
"""Tokens of an answer: two sentences and a letter have about 50."""

FORM_STEPS, FORM_RATE = 600, 3e-4
SFT_EPOCHS, SFT_RATE = 3, 1e-4
GRPO_STEPS, GRPO_RATE = 300, 2e-5
MODELS = ("base", "sft", "rl", "sft-rl", "rl-facts", "rl-shuffled")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("questions", "traces", "compare", *MODELS))
    parser.add_argument("--out", type=Path, required=True)
    help_corpora = "of `questions`; of `compare`: where the leak gate finds what the models learnt"
    parser.add_argument("--corpora", type=Path, nargs="+", default=[], help=help_corpora)
    parser.add_argument("--hold-out", nargs="+", default=[])
    parser.add_argument("--init", type=Path, help="of `base`: a checkpoint that was taught to see")
    parser.add_argument("--limit", type=int, help="of `questions`: at most so many of a side")
    parser.add_argument("--steps", type=int, help=f"of `base` ({FORM_STEPS}) or of GRPO ({GRPO_STEPS})")
    parser.add_argument("--questions-per-step", type=int, default=16, help="of GRPO, 8 answers each")
    parser.add_argument("--micro-batch", type=int, default=64, help="of GRPO")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    libraries = f"torch {torch.__version__}, transformers {transformers.__version__}, trl {trl.__version__}"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} threads"
    print(f"gmai-vl {__version__} {code_identity()}, {libraries}, Python {platform.python_version()}, {device}")
    out: Path = given.out
    if given.step == "questions":
        told = build_questions(given.corpora, out / "questions", hold_out=given.hold_out, limit=given.limit)
        print(json.dumps({"questions": told.questions, **told.manifest["baselines"]}))
    elif given.step == "base":
        write_form(out)
        learn(
            out,
            "base",
            traces="form",
            init=given.init.resolve(),
            seed=given.seed,
            rate=FORM_RATE,
            steps=given.steps or FORM_STEPS,
        )
    elif given.step == "traces":
        recipe = SynthesisRecipe(
            questions="questions", teacher="base/run/final", out="traces", max_new_tokens=LONGEST, seed=given.seed
        )
        print(json.dumps(synthesize(recipe, base=out).report, indent=1))
    elif given.step == "sft":
        learn(out, "sft", traces="traces", init="base/run/final", seed=given.seed, rate=SFT_RATE, epochs=SFT_EPOCHS)
    elif given.step == "compare":
        there = [name for name in MODELS if _checkpoint(out, name).is_dir()]
        models = [Model(name, _checkpoint(out, name)) for name in there]
        compare_models(
            models, out / "questions", out / "compared", max_new_tokens=LONGEST, corpora=tuple(given.corpora)
        )
        print((out / "compared" / "compare.md").read_text(encoding="utf-8"))
    else:
        reinforce(out, given)


def write_form(out: Path) -> None:
    """Write OUT/form: a trace for each question of train whose image has a caption."""
    items = read_items(out / "questions", "train")
    captions: dict[tuple[str | None, str], str] = {}
    for name in sorted({about.corpus for about in items.about.values() if about.corpus}):
        for row in Corpus(out / "questions" / name).rows("samples"):
            if row["kind"] == "caption" and row["language"] == "en":
                said = " ".join(part["text"] for part in row["messages"][-1]["content"] if part["type"] == "text")
                captions.setdefault((name, row["case_id"]), said)
    rows = []
    for question in items.questions:
        about = items.about[question.id]
        if said := captions.get((about.corpus, str(about.case_id))):
            thought = " ".join(re.split(r"(?<=[.])\s+", said)[:2])
            told = {"id": f"{question.id}#0", "question": question.id, "thought": thought}
            rows.append(told | {"answer": question.reference})
    stable_rng(0, "form").shuffle(rows)
    (out / "form").mkdir(exist_ok=True)
    write_json(out / "form" / "run.json", {"side": "train", "questions": asked_sha256(items.questions)})
    write_text(out / "form" / "traces.jsonl", "".join(canonical_json(row) + "\n" for row in rows))


def learn(
    out: Path,
    name: str,
    *,
    traces: str,
    init: Path | str,
    seed: int,
    rate: float,
    steps: int | None = None,
    epochs: int | None = None,
) -> None:
    recipe = SftRecipe(
        name=name,
        out=name,
        seed=seed,
        model={"init": str(init)},
        traces=traces,
        questions="questions",
        learning_rate=rate,
        max_steps=steps,
        epochs=epochs,
        stop_at_leap=None,
    )
    print(sft(recipe, base=out, resume=(out / name / "run" / "run.json").is_file()))


def reinforce(out: Path, given: argparse.Namespace) -> None:
    recipe = GrpoRecipe(
        name=given.step,
        out=given.step,
        seed=given.seed,
        model={"init": "sft/run/final" if given.step == "sft-rl" else "base/run/final"},
        questions="questions",
        shuffle_labels=given.step == "rl-shuffled",
        rewards=Weights(facts=0.5 if given.step == "rl-facts" else 0),
        questions_per_step=given.questions_per_step,
        max_new_tokens=LONGEST,
        learning_rate=GRPO_RATE,
        max_steps=given.steps or GRPO_STEPS,
        micro_batch=given.micro_batch,
        validation={"every": 50, "questions": 220},
    )
    grpo(recipe, base=out, resume=(out / given.step / "run.json").is_file())
    rows = [json.loads(line) for line in (out / given.step / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [row for row in rows if row["event"] == "step"]
    seconds = sorted(row["seconds"] for row in steps[len(steps) // 10 :])
    median = seconds[len(seconds) // 2]
    answers = recipe.answers_per_step / median
    print(f"{given.step}: {median:.2f} s a step, {answers:.1f} answers/s, peak {steps[-1]['memory_mib']} MiB")


def _checkpoint(out: Path, name: str) -> Path:
    return out / name / ("run/final" if name in ("base", "sft") else "final")


if __name__ == "__main__":
    main()
