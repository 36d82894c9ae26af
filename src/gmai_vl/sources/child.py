"""A child process for a decoder that a damaged file can crash or keep busy for ever: only the child is lost."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from gmai_vl.foundation import BadItem

SECONDS = 30
"""Processor time that a child may take for one answer: not a clock's, which a slow disk would count for."""

Buffer = bytes | memoryview
Answer = Callable[[Any], tuple[Any, Buffer]]
"""From a request to an answer, both JSON, and bytes that go with it."""

_children: dict[tuple[int, str], "subprocess.Popen[bytes]"] = {}
"""(Process id, module) -> child, started when first needed; by process: a fork must not talk to its parent's child."""

_turn = threading.Lock()
os.register_at_fork(after_in_child=lambda: globals().update(_turn=threading.Lock()))


def ask(module: str, request: Any) -> tuple[Any, bytearray]:
    """Send a JSON value to the child that runs `module`; return its answer. Threads take turns.

    Raises BadItem with what went wrong there, also where the child breaks down or takes more than `SECONDS`.
    """
    with _turn:
        return _asked(module, request)


def _asked(module: str, request: Any) -> tuple[Any, bytearray]:
    key = (os.getpid(), module)
    child = _children.get(key)
    if child is None or child.poll() is not None:
        child = _children[key] = _start(module)
    assert child.stdin is not None and child.stdout is not None
    try:
        child.stdin.write(json.dumps(request).encode() + b"\n")
        child.stdin.flush()
        head = json.loads(child.stdout.readline())
        data = bytearray(head["bytes"])
        if child.stdout.readinto(data) != len(data):  # type: ignore[attr-defined]
            raise EOFError
    except (OSError, EOFError, ValueError):  # a broken pipe, or no answer: it is gone
        child.kill()
        timed_out = child.wait() == -signal.SIGPROF
        fault = f"more than {SECONDS} s" if timed_out else "the decoder broke down"
        raise BadItem(f"cannot be decoded ({fault})") from None
    if head["fault"] is not None:
        raise BadItem(head["fault"])
    return head["answer"], data


def _start(module: str) -> "subprocess.Popen[bytes]":
    # Its complaints about damaged streams say nothing that the reason does not.
    command = [sys.executable, "-m", module]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # noqa: S603


def serve(answer: Answer) -> None:
    """Answer the requests of the parent until it ends. `answer` tells what is wrong with a file by BadItem."""
    # Decoders write to the standard output too; the answers keep it for themselves.
    with os.fdopen(os.dup(1), "wb") as own_output:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        for request in sys.stdin.buffer:
            data: Buffer = b""
            # The signal ends this process, whatever a decoder is busy with.
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            try:
                value, data = answer(json.loads(request))
                head = {"fault": None, "answer": value, "bytes": memoryview(data).nbytes}
            except BadItem as bad:
                head = {"fault": str(bad), "answer": None, "bytes": 0}
            signal.setitimer(signal.ITIMER_PROF, 0)
            own_output.write(json.dumps(head).encode() + b"\n")
            own_output.write(data)
            own_output.flush()
