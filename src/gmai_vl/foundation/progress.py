"""Progress for people: a bar on a terminal, plain lines elsewhere; always on standard error."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")

SECONDS_BETWEEN_LINES = 10.0


def say(text: str) -> None:
    """Print one plain line to standard error."""
    # In one piece: print writes the end of the line for itself, and an interrupt may come in between.
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def progress(items: Iterable[T], label: str, total: int) -> Iterator[T]:
    """Yield `items`, showing how many of `total` are done."""
    yield from (_bar if sys.stderr.isatty() else _lines)(items, label, total)


def _bar(items: Iterable[T], label: str, total: int) -> Iterator[T]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        yield from bars.track(items, total=total, description=label)


def _lines(items: Iterable[T], label: str, total: int) -> Iterator[T]:
    last = time.monotonic()
    for done, item in enumerate(items):
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            say(f"{label}: {done} of {total}")
        yield item
    say(f"{label}: {total} of {total}")
