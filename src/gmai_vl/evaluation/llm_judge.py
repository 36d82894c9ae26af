"""An LLM as a second judge of responses, beside the rules of a protocol, and how far both agree.

The number of a score stays the protocol's. A response is right, wrong or failed: a reply that holds no verdict
(`llm_judge_request`) is counted and never guessed. An empty response is wrong unasked; grounding is left out.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, ValidationError

from gmai_vl.endpoint import Client, EndpointSettings, Refusal, Reply, Request, in_order, store_path
from gmai_vl.evaluation.llm_judge_request import prompt_sha256, prompt_version, request_for, verdict_in
from gmai_vl.evaluation.question import Question
from gmai_vl.evaluation.remote import PREFIX, endpoint_of
from gmai_vl.evaluation.score import Judged
from gmai_vl.evaluation.statistics import clustered
from gmai_vl.foundation import Settings, UserError, canonical_json, progress, sha256_of_text, write_text

OPINIONS = "judge.jsonl"
"""Name of the file in a run's folder."""

CONCURRENCY = 8

Outcome = Literal["right", "wrong", "failed"]


class Opinion(Settings):
    """What came of one response; a line of `judge.jsonl`."""

    model_config = ConfigDict(strict=True)

    id: str
    verdict: Outcome
    reason: str
    """The judge's, in one line; of a failure what is wrong with the reply, or why the server refused."""

    raw: str | None = None
    """The reply as it came; None where there was none: a refusal, or an empty response, which is wrong unasked."""

    model: str | None = None
    """As the server names it."""

    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    """As the server counts them, or upper bounds where it does not."""

    asked: str | None = None
    """Hash of model, prompt, question and response. Where all are the same again, so is the opinion."""


def judge_settings(name: str, key_env: str | None) -> EndpointSettings:
    """Return the server and model that `openai:URL#MODEL` names. Raises UserError where it names none."""
    if not name.startswith(PREFIX):
        raise UserError(f"--judge {name}: is no judge; give {PREFIX}URL#MODEL")
    return endpoint_of(name, concurrency=CONCURRENCY, key_env=key_env, option="--judge")


def judge_by_llm(
    settings: EndpointSettings, judged: Sequence[Judged], responses: Mapping[str, str], file: Path | None
) -> dict[str, Any]:
    """Have a model judge the responses that the rules have judged; return the block `judge` of a score.

    `share` is right ones of all that the judge stands for, failures among them, 0-1, with its interval clustered by
    patient; both None where there are none. `file` as in `opinions_of`. Raises UserError as that does.
    """
    words = [entry for entry in judged if entry.question.kind != "grounding"]
    opinions = opinions_of(settings, [entry.question for entry in words], responses, file)
    right = [opinion.verdict == "right" for opinion in opinions]
    patients = [entry.question.patient for entry in words]
    paid = {opinion.asked: opinion for opinion in opinions if opinion.raw is not None}.values()
    return {
        "model": settings.model,
        "url": settings.url,
        "version": prompt_version(),
        "prompt_sha256": prompt_sha256(),
        "temperature": 0,
        "n": len(words),
        "right": sum(right),
        "share": sum(right) / len(words) if words else None,
        "interval": list(clustered(right, patients)) if words else None,
        "n_failed": sum(opinion.verdict == "failed" for opinion in opinions),
        "n_empty": sum(_is_empty(responses[opinion.id]) for opinion in opinions),
        "n_grounding": len(judged) - len(words),
        "agreement": agreement(words, opinions),
        "tokens": {
            "prompt": sum(opinion.prompt_tokens or 0 for opinion in paid),
            "answer": sum(opinion.answer_tokens or 0 for opinion in paid),
        },
    }


def agreement(judged: Sequence[Judged], opinions: Sequence[Opinion]) -> dict[str, Any]:
    """Return how far a judge agrees with the rules on the same questions, failures left out; `by_kind` besides.

    `share` is 0-1, None of no question. `kappa` is Cohen's, at most 1, None where rules or judge say one thing only.
    """
    pairs = [
        (entry.question.kind, entry.correct, opinion.verdict == "right")
        for entry, opinion in zip(judged, opinions, strict=True)
        if opinion.verdict != "failed"
    ]
    kinds = sorted({kind for kind, _, _ in pairs})
    of_kind = {kind: _agreement([(rules, llm) for each, rules, llm in pairs if each == kind]) for kind in kinds}
    return _agreement([(rules, llm) for _, rules, llm in pairs]) | {"by_kind": of_kind}


def _agreement(pairs: Sequence[tuple[bool, bool]]) -> dict[str, Any]:
    n, both, neither = len(pairs), pairs.count((True, True)), pairs.count((False, False))
    rules, llm = sum(rules for rules, _ in pairs), sum(llm for _, llm in pairs)
    by_chance = rules * llm + (n - rules) * (n - llm)  # of n * n
    varied = 0 < rules < n and 0 < llm < n
    return {
        "n": n,
        "share": (both + neither) / n if n else None,
        "kappa": (n * (both + neither) - by_chance) / (n * n - by_chance) if varied else None,
        "both_right": both,
        "only_rules": rules - both,
        "only_judge": llm - both,
        "both_wrong": neither,
    }


def opinions_of(
    settings: EndpointSettings, questions: Sequence[Question], responses: Mapping[str, str], file: Path | None
) -> list[Opinion]:
    """Return the opinion on the response to every question, in their order.

    Lines are appended to `file` as replies come, and it holds exactly these opinions in the end. What was answered
    before, by its lines or by the cache of replies, is not asked again. Raises UserError where `file` holds anything
    else, and EndpointError where the server cannot be reached; what was answered is kept.
    """
    known = {} if file is None else _kept(file)
    requests = {question.id: request_for(question, responses[question.id]) for question in questions}
    names = {id: sha256_of_text(f"{prompt_version()} {request.key(settings)}") for id, request in requests.items()}
    found = {id: known[name].model_copy(update={"id": id}) for id, name in names.items() if name in known}
    found |= {id: _of_nothing(id) for id in names if _is_empty(responses[id])}
    pending = [id for id in requests if id not in found]
    purse = "eval judge" if file is None else f"eval judge {file.resolve()}"
    with ExitStack() as stack:
        stream = None
        if file is not None:
            _write(file, list(known.values()))  # without a line that a kill cut off
            stream = stack.enter_context(file.open("a", encoding="utf-8"))
        client = stack.enter_context(Client(settings, store_path(), purse))

        def ask(id: str) -> Opinion:
            return _opinion(id, names[id], _reply(client, requests[id]))

        asked = in_order(ask, pending, settings.concurrency)
        for opinion in progress(asked, "judging", len(pending)):
            found[opinion.id] = opinion
            if stream is not None:
                stream.write(canonical_json(opinion.model_dump()) + "\n")
                stream.flush()
    opinions = [found[question.id] for question in questions]
    if file is not None:
        _write(file, opinions)
    return opinions


def _reply(client: Client, request: Request) -> Reply | Refusal:
    """Ask; where a server refuses, by the words of the prompt alone: some know no schemas."""
    reply = client.ask(request)
    return client.ask(replace(request, schema=None)) if isinstance(reply, Refusal) else reply


def _opinion(id: str, asked: str, reply: Reply | Refusal) -> Opinion:
    if isinstance(reply, Refusal):
        return Opinion(id=id, verdict="failed", reason=f"refused: {reply.reason}")
    told = verdict_in(reply)
    outcome: tuple[Outcome, str] = ("failed", told) if isinstance(told, str) else told
    return Opinion(
        id=id,
        verdict=outcome[0],
        reason=outcome[1],
        raw=reply.text,
        model=reply.model,
        prompt_tokens=reply.prompt_tokens,
        answer_tokens=reply.answer_tokens,
        asked=asked,
    )


def _is_empty(response: str) -> bool:
    return not response.strip()


def _of_nothing(id: str) -> Opinion:
    return Opinion(id=id, verdict="wrong", reason="the response is empty")


def _kept(file: Path) -> dict[str, Opinion]:
    """Return the opinions of a file that rest on a reply, by what was asked; a last line that was cut off is none."""
    try:
        lines = file.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error}") from None
    kept = {}
    for number, line in enumerate(lines, start=1):
        try:
            opinion = Opinion.model_validate_json(line)
        except ValidationError:
            raise UserError(f"{file}:{number}: is no verdict of a judge; move the file away") from None
        if opinion.raw is not None and opinion.asked is not None:
            kept[opinion.asked] = opinion
    return kept


def _write(file: Path, opinions: Sequence[Opinion]) -> None:
    write_text(file, "".join(canonical_json(opinion.model_dump()) + "\n" for opinion in opinions))
