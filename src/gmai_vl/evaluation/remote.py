"""Ask a model behind an OpenAI-compatible server, answers saved in the order of the questions."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from gmai_vl.endpoint import Client, EndpointSettings, Refusal, Request, in_order, store_path
from gmai_vl.evaluation.question import Question
from gmai_vl.evaluation.runner import MAX_NEW_TOKENS
from gmai_vl.evaluation.saved import saved_answers
from gmai_vl.foundation import UserError, load_settings, progress, visible

PREFIX = "openai:"
"""What the name of a model behind a server begins with: `openai:URL#MODEL`."""

PATIENCE_S = 20.0
"""For the list of models that a server has."""


def endpoint_of(name: str, *, concurrency: int, key_env: str | None, option: str = "--model") -> EndpointSettings:
    """Return the server and model that `openai:URL#MODEL` names; without #MODEL the one that the server has.

    Raises UserError, with the `option` that it was given by, where the address is none, the server cannot be asked for
    its models, or has several.
    """
    url, _, model = name.removeprefix(PREFIX).partition("#")
    told = {"url": url, "model": model or "-", "concurrency": concurrency, "key_env": key_env}
    settings = load_settings(EndpointSettings, told, option)
    if model:
        return settings
    return settings.model_copy(update={"model": _only_model(settings, option)})


def _only_model(settings: EndpointSettings, option: str) -> str:
    key = settings.key()
    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        response = httpx.get(f"{settings.url}/models", headers=headers, timeout=PATIENCE_S)
        response.raise_for_status()
        names = [str(entry["id"]) for entry in response.json()["data"]]
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
        reason = visible(str(error).splitlines()[0] if str(error) else type(error).__name__)
        raise UserError(f"{option}: {settings.url} does not list its models ({reason}); add #MODEL") from None
    if len(names) != 1:
        listed = visible(", ".join(names))[:300] or "none"
        raise UserError(f"{option}: {settings.url} has {len(names)} models ({listed}); add #MODEL")
    return names[0]


def ask_endpoint(
    settings: EndpointSettings,
    questions: Sequence[Question],
    image_of: Callable[[str], NDArray[np.uint8]],
    out: Path,
    *,
    max_new_tokens: int | None = None,
) -> dict[str, str]:
    """Ask every question that the predictions file `out` has no answer to, and return all answers: id -> response.

    Asked greedily, `settings.concurrency` at a time; answers are appended to `out` in the order of the questions. What
    a server has answered is in the cache of replies before it is in `out`, so a killed run pays for nothing twice. A
    question that the server will not answer has an empty response and its reason beside it. Raises EndpointError where
    the server cannot be reached.
    """
    with saved_answers(out) as saved:
        pending = [question for question in questions if question.id not in saved.responses]
        with Client(settings, store_path(), purse=f"eval {out.resolve()}") as client:

            def answer(question: Question) -> tuple[str, dict[str, Any]]:
                request = Request(
                    turns=question.turns,
                    images=tuple(image_of(name) for name in question.images),
                    max_tokens=max_new_tokens or MAX_NEW_TOKENS[question.kind],
                )
                outcome = client.ask(request)
                if isinstance(outcome, Refusal):
                    return "", {"refused": outcome.reason}
                return outcome.text, {"cut_off": True} if outcome.finish == "length" else {}

            answers = in_order(answer, pending, settings.concurrency)
            both = zip(pending, answers, strict=True)
            for question, (response, more) in progress(both, "asking", len(pending)):
                saved.add({question.id: response}, {question.id: more})
        return {question.id: saved.responses[question.id] for question in questions}
