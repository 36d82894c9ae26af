"""How hard questions are for a model: it answers each several times, and the share of right answers is kept."""

from collections import Counter
from pathlib import Path

from gmai_vl.evaluation import Question, checkpoint_sha256
from gmai_vl.evaluation.saved import saved_answers
from gmai_vl.foundation import UserError, canonical_json, progress, sha256_of_text, stable_fraction, write_text
from gmai_vl.model import Request, Sampling, load_to_answer, respond, rows_at_once
from gmai_vl.reasoning.items import DIFFICULTY, Difficulty, Items, Side, asked_sha256, difficulty_line, read_items
from gmai_vl.reasoning.rewards import accuracy_reward

QUESTIONS_PER_CALL = 32
"""So many share image features, and are lost where a run is killed."""


def estimate_difficulty(
    folder: Path,
    model: Path,
    *,
    side: Side = "train",
    samples: int = 8,
    temperature: float = 1.0,
    max_new_tokens: int = 1024,
    seed: int = 0,
    prompt: str = "reason",
) -> dict[str, Difficulty]:
    """Have a checkpoint answer each question of a side `samples` times; return id -> how hard it was.

    Writes FOLDER/difficulty.jsonl, in place of the estimates of other models. Answers lie beside it, in a file for
    each model, all that is asked and way of asking, so that a run that was stopped goes on. A right answer is one that
    earns the accuracy reward, in tags as GRPO wants it. Answers are sampled at `temperature`, above 0, and have at most
    `max_new_tokens` tokens. Raises UserError where the model or the questions cannot be used.
    """
    items = read_items(folder, side, prompt)
    sha256 = checkpoint_sha256(model)
    vlm = load_to_answer(model)
    asked = {"model": sha256, "side": side, "prompt": prompt, "temperature": temperature, "seed": seed}
    asked["questions"] = asked_sha256(items.questions)
    name = sha256_of_text(canonical_json(asked | {"max_new_tokens": max_new_tokens}))[:16]
    tries = [(question, number) for question in items.questions for number in range(samples)]
    size = QUESTIONS_PER_CALL * samples
    calls = [tries[first : first + size] for first in range(0, len(tries), size)]
    with saved_answers(folder / f"answers-{name}.jsonl") as saved:
        for call in progress(calls, "answering", len(calls)):
            pending = [
                (question, number) for question, number in call if _name(question, number) not in saved.responses
            ]
            requests = [_request(items, question, number, temperature, seed) for question, number in pending]
            said = respond(vlm, requests, max_new_tokens=max_new_tokens, batch_size=rows_at_once(vlm))
            saved.add({_name(*asked): answer.text for asked, answer in zip(pending, said, strict=True)})
    right = Counter(
        question.id for question, number in tries if accuracy_reward(question, saved.responses[_name(question, number)])
    )
    estimates = {
        question.id: Difficulty(model_sha256=sha256, samples=samples, right=right[question.id])
        for question in items.questions
    }
    lines = [difficulty_line(question, estimates[question.id]) for question in items.questions]
    write_text(folder / DIFFICULTY, "".join(lines))
    return estimates


def _name(question: Question, number: int) -> str:
    return f"{question.id}#{number}"


def _request(items: Items, question: Question, number: int, temperature: float, seed: int) -> Request:
    chance = int(stable_fraction(seed, question.id, number) * 2**53)
    pixels = tuple(items.image(name) for name in question.images)
    return Request(question.turns, pixels, Sampling(temperature=temperature, seed=chance))


def spread(estimates: dict[str, Difficulty]) -> dict[str, int]:
    """Return how many questions are answered right in none, some and all of the tries."""
    if not estimates:
        raise UserError("no questions to estimate")
    counts = Counter(
        "never right" if not one.right else "always right" if one.right == one.samples else "sometimes right"
        for one in estimates.values()
    )
    return {name: counts[name] for name in ("never right", "sometimes right", "always right")}
