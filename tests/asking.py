"""What the tests of the endpoint share: settings for a stub, questions, and asking many at once."""

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stub_server import Stub

from gmai_vl.endpoint import Client, EndpointSettings, Refusal, Reply, Request, in_order
from gmai_vl.endpoint.store import Store
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


def kept(store: Path, asked: Iterable[str]) -> set[str]:
    """The prompts whose replies are in the cache."""
    settings, opened = settings_for("http://any/v1"), Store(store)
    return {prompt for prompt in asked if opened.reply(question(prompt).key(settings)) is not None}


def threads_left() -> list[threading.Thread]:
    """The threads that clients and `in_order` have begun and not ended."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("endpoint")]


def child(script: str, *arguments: object) -> "subprocess.Popen[str]":
    """Begin to run `script` in a process of its own, which may import what the tests import.

    It minds Ctrl-C also where the tests run in the background of a shell, which has its processes ignore it.
    """
    minds = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    return subprocess.Popen(
        [sys.executable, "-c", minds + textwrap.dedent(script), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
