"""What a part of a training is worth: checkpoints on the same test questions, beside the most frequent answers.

    python benchmarks/ablation.py --corpora runs/ours runs/other --checkpoints runs/without-deep/instruct runs/smol/*

Asks every checkpoint the multiple-choice and yes/no questions of each corpus's test split (greedy, protocol `strict`)
and prints a table: share right with its interval clustered by patient, answers that could not be read, and how much
better the checkpoint is than the most frequent answers of the corpus's train split and than the last checkpoint
(paired bootstrap over patients). Answers are kept in CHECKPOINT/asked/, so that a run that was stopped goes on.
"""

import argparse
from pathlib import Path

from gmai_vl import __version__
from gmai_vl.corpus import Corpus
from gmai_vl.evaluation import (
    Judged,
    ask,
    checkpoint_sha256,
    claim,
    judge,
    majority_answers,
    paired_difference,
    questions_of,
    score,
)
from gmai_vl.model import load_model
from gmai_vl.records import Kind

CHOICES: tuple[Kind, ...] = ("mcq", "closed")
AT_ONCE = 64
MAJORITY = "most frequent answer"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", nargs="+", type=Path, required=True)
    parser.add_argument("--checkpoints", nargs="+", type=Path, required=True)
    options = parser.parse_args()
    print(f"gmai-vl {__version__}; intervals of 95 %, clustered by patient (or image, where no patient is named)\n")
    for path in options.corpora:
        corpus = Corpus(path)
        answered = answers(corpus, options.checkpoints)
        manifest = corpus.manifest
        count = len(answered[MAJORITY])
        print(f"{manifest['name']} ({manifest['fingerprint'][:12]}): {count} questions of its test split\n")
        print_table(answered)


def answers(corpus: Corpus, checkpoints: list[Path]) -> dict[str, list[Judged]]:
    """Return the judged answers of the most frequent answer and of each checkpoint to the corpus's test questions."""
    questions = questions_of(corpus, "test", CHOICES)
    guesses = majority_answers(questions_of(corpus, "train", CHOICES), questions)
    answered = {MAJORITY: judge(questions, guesses)}
    for checkpoint in checkpoints:
        out = checkpoint / "asked" / corpus.manifest["name"]
        claim(out, {"data": corpus.manifest["fingerprint"], "model": checkpoint_sha256(checkpoint)})
        vlm = load_model(checkpoint)
        responses = ask(vlm, questions, corpus.image, out / "predictions.jsonl", batch_size=AT_ONCE)
        answered["/".join(checkpoint.parts[-2:])] = judge(questions, responses)
    return answered


def print_table(answered: dict[str, list[Judged]]) -> None:
    """Print a Markdown table, a row each answerer."""
    last = next(reversed(answered))
    print(f"| | right | unread | against {MAJORITY} | against {last} |\n|---|---|---|---|---|")
    for name, judged in answered.items():
        result = score(judged, benchmark="corpus", variant="test")
        low, high = result["interval"]
        right = f"{100 * result['micro']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
        others = [gain(judged, answered[other]) if name != other else "" for other in (MAJORITY, last)]
        print(f"| {name} | {right} | {result['n_unparsed']} | {others[0]} | {others[1]} |")
    print()


def gain(one: list[Judged], other: list[Judged]) -> str:
    """Return how many points better `one` is than `other` on the same questions, with the interval."""
    patients = [entry.question.patient for entry in one]
    difference = paired_difference([entry.correct for entry in one], [entry.correct for entry in other], patients)
    low, high = difference.interval
    return f"{100 * difference.value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


if __name__ == "__main__":
    main()
