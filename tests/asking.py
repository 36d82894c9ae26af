"""What the tests of the endpoint share: settings for a stub, questions, and asking many at once."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stub_server import Stub

from gmai_vl.endpoint import Client, EndpointSettings, Refusal, Reply, Request, in_order
from gmai_vl.records import Turn

PURSE = "tests"


def settings_for(stub: Stub | str, **changes: Any) -> EndpointSettings:
    """Settings that ask `stub`, or an address, without long waits."""
    url = stub if isinstance(stub, str) else stub.url
    return EndpointSettings(**{"url": url, "model": "m", "retry_wait_s": 0.01} | changes)


def question(prompt: str, **changes: Any) -> Request:
    """A request of one message."""
    return Request(**{"turns": (Turn("user", (prompt,)),), "max_tokens": 16} | changes)


def prompts(count: int) -> list[str]:
    return [f"what is in picture {number}" for number in range(count)]


def ask_all(settings: EndpointSettings, store: Path, asked: Iterable[str]) -> list[Reply | Refusal]:
    """Ask everything with as many threads as the settings allow requests; the outcomes in the order of the prompts."""
    with Client(settings, store, PURSE) as client:
        return list(in_order(lambda prompt: client.ask(question(prompt)), asked, settings.concurrency))


def texts(outcomes: Iterable[Reply | Refusal]) -> list[str]:
    """The texts of replies; fails on a refusal."""
    found = list(outcomes)
    assert all(isinstance(outcome, Reply) for outcome in found), found
    return [outcome.text for outcome in found if isinstance(outcome, Reply)]
