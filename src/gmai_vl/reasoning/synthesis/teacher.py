"""Ask a teacher, a checkpoint or a model behind a server, for several thoughts about each question."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gmai_vl.endpoint import Budget, Client, EndpointSettings, Refusal, Request, in_order, store_path
from gmai_vl.evaluation import Question, checkpoint_sha256
from gmai_vl.evaluation.benchmarks.benchmark import ImageOf
from gmai_vl.evaluation.remote import PREFIX, endpoint_of
from gmai_vl.evaluation.runner import BATCHES_PER_CALL
from gmai_vl.foundation import UserError, progress, stable_rng
from gmai_vl.reasoning.synthesis.answers import Answer, Kept, Key
from gmai_vl.reasoning.synthesis.recipe import SynthesisRecipe


@dataclass(frozen=True, slots=True)
class Try:
    """One answer that is asked for."""

    question: Question
    number: int
    """From 1."""

    @property
    def key(self) -> Key:
        """Name of the try."""
        return self.question.id, self.number


@dataclass(frozen=True, slots=True)
class Teacher:
    """Who is asked."""

    name: str
    """What answers depend on: model behind a server, wherever it stands, or hash of a checkpoint."""

    ask: Callable[[Sequence[Try], ImageOf, Kept], None]
    """Answers all tries that the store lacks, into the store."""


def seed_of(seed: int, key: Key) -> int:
    """Return the seed of a try, 0 to 2^31 - 1: the same in every run, and another for every try."""
    return stable_rng(seed, "try", *key).randrange(2**31)


def tries_of(questions: Sequence[Question], tries: int) -> list[Try]:
    """Return all tries, those of a question together, as its image and prompt are then read once."""
    return [Try(question, number) for question in questions for number in range(1, tries + 1)]


def teacher_of(recipe: SynthesisRecipe, base: Path, out: Path) -> Teacher:
    """Return the teacher of a recipe, whose paths count from `base`. Raises UserError if there is none of that name."""
    if recipe.is_remote:
        settings = endpoint_of(
            recipe.teacher, concurrency=recipe.concurrency, key_env=recipe.key_env, option="teacher"
        ).model_copy(
            update={
                "budget": Budget(requests=recipe.budget_requests),
                "prices": recipe.prices,
                "timeout_s": recipe.timeout_s,
            }
        )
        return Teacher(
            f"{PREFIX}{settings.model}",
            lambda tries, image, kept: _ask_server(recipe, settings, f"reason synthesize {out}", tries, image, kept),
        )
    folder = (base / recipe.teacher).resolve()
    if not folder.is_dir():
        raise UserError(f"teacher: {folder} is no folder; give one of a checkpoint, or {PREFIX}URL#MODEL")
    name = checkpoint_sha256(folder)
    return Teacher(name, lambda tries, image, kept: _ask_checkpoint(recipe, folder, name, tries, image, kept))


def _ask_server(
    recipe: SynthesisRecipe,
    settings: EndpointSettings,
    purse: str,
    tries: Sequence[Try],
    image: ImageOf,
    kept: Kept,
) -> None:
    """Ask `concurrency` tries at a time, kept in their order; a reply is in the cache of replies before it is kept."""
    pending = [each for each in tries if kept.lacks(each.key)]
    if not pending:
        return
    with Client(settings, store_path(), purse) as client:

        def answer(each: Try) -> Answer:
            request = Request(
                turns=each.question.turns,
                images=tuple(map(image, each.question.images)),
                max_tokens=recipe.max_new_tokens,
                temperature=recipe.temperature,
                seed=seed_of(recipe.seed, each.key),
            )
            outcome = client.ask(request)
            id, number = each.key
            if isinstance(outcome, Refusal):
                return Answer(id=id, number=number, response="", refused=outcome.reason, model=settings.model)
            return Answer(
                id=id,
                number=number,
                response=outcome.text,
                cut_off=outcome.finish == "length",
                model=outcome.model or settings.model,
                prompt_tokens=outcome.prompt_tokens,
                answer_tokens=outcome.answer_tokens,
            )

        for said in progress(in_order(answer, pending, settings.concurrency), "asking", len(pending)):
            kept.add([said])


def _ask_checkpoint(
    recipe: SynthesisRecipe, folder: Path, name: str, tries: Sequence[Try], image: ImageOf, kept: Kept
) -> None:
    """Ask in batches that depend on the tries alone, not on which of them are answered."""
    if not any(kept.lacks(each.key) for each in tries):
        return
    from gmai_vl.model import Request, Sampling, load_to_answer, respond, rows_at_once

    vlm = load_to_answer(folder)
    rows = rows_at_once(vlm)
    calls = list(_calls(tries, rows * BATCHES_PER_CALL))
    for call in progress(calls, "asking", len(calls)):
        pending = [each for each in call if kept.lacks(each.key)]
        if not pending:
            continue
        images = {name: image(name) for each in pending for name in each.question.images}
        requests = [
            Request(
                each.question.turns,
                tuple(images[name] for name in each.question.images),
                Sampling(temperature=recipe.temperature, top_p=recipe.top_p, seed=seed_of(recipe.seed, each.key)),
            )
            for each in pending
        ]
        said = respond(vlm, requests, max_new_tokens=recipe.max_new_tokens, batch_size=rows)
        kept.add(
            [
                Answer(
                    id=each.question.id,
                    number=each.number,
                    response=one.text,
                    cut_off=one.is_cut_off,
                    model=name,
                    answer_tokens=one.tokens,
                )
                for each, one in zip(pending, said, strict=True)
            ]
        )


def _calls(tries: Sequence[Try], size: int) -> Iterator[Sequence[Try]]:
    for first in range(0, len(tries), size):
        yield tries[first : first + size]
