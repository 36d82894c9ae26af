"""A text asked for, read and checked, and asked for again once where it cannot be used; what became of each."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from gmai_vl.endpoint import Client, Refusal, Request, parsed
from gmai_vl.records import Sample, Turn
from gmai_vl.vocabulary import Language
from gmai_vl.writing.llm.jobs import Rounds
from gmai_vl.writing.llm.prompts import prompt_template
from gmai_vl.writing.verify import check_sample
from gmai_vl.writing.verify_facts import MeasuredCase

TRIES = 2
"""A text that fails is written again once."""

_MOST_QUOTED = 2000
"""Characters of a failed text that stand in the request to write it again."""

Outcome = Literal["kept", "rewritten", "quarantined"]
"""Kept: good at once. Rewritten: good when written again. Quarantined: not good then either, or refused."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A text that could not be used."""

    text: str
    """As the model gave it; empty where the server refused to answer."""

    faults: dict[str, str]
    """Failed check -> reason."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """The history of one text."""

    sample_id: str
    case_id: str
    source: str
    route: str
    """As in prompts.py; `translate` for translations."""

    language: Language
    writer: str
    prompt_id: str
    outcome: Outcome
    failed: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class Drafted:
    """What came of one text."""

    sample: Sample | None
    """With its checks; None where no attempt could be used."""

    rounds: Rounds
    failed: tuple[Attempt, ...]

    @property
    def outcome(self) -> Outcome:
        """How it ended."""
        return "quarantined" if self.sample is None else "rewritten" if self.failed else "kept"


def draft(
    client: Client,
    request: Request,
    read: Callable[[dict[str, Any]], Rounds | str],
    put_together: Callable[[Rounds], Sample],
    case: MeasuredCase,
    *,
    tries: int,
) -> Drafted:
    """Ask, read the JSON of the answer, make a sample of it and check that; up to `tries` times.

    `read` returns what is wrong with the form of an answer as a string. Raises EndpointError.
    """
    failed: list[Attempt] = []
    for _ in range(tries):
        reply = client.ask(request)
        if isinstance(reply, Refusal):
            failed.append(Attempt("", {"refused": reply.reason}))
            break
        answer = parsed(reply)
        rounds = answer if isinstance(answer, str) else read(answer)
        if isinstance(rounds, str):
            faults = {"form": rounds}
        else:
            sample = put_together(rounds)
            checks = check_sample(sample, case)
            faults = {name: str(result) for name, result in checks.items() if result is not True}
            if not faults:
                whole = replace(sample, provenance=replace(sample.provenance, checks=checks))
                return Drafted(whole, rounds, tuple(failed))
        failed.append(Attempt(reply.text, faults))
        request = _again(request, reply.text, faults)
    return Drafted(None, (), tuple(failed))


def _again(request: Request, said: str, faults: dict[str, str]) -> Request:
    listed = "\n".join(f"- {name}: {reason}" for name, reason in sorted(faults.items()))
    wish = prompt_template("rewrite").format(faults=listed)
    before = request.turns[:2]  # a second rewriting would begin from the first request too
    return replace(request, turns=(*before, Turn("assistant", (said[:_MOST_QUOTED],)), Turn("user", (wish,))))
