"""What a run tells while it runs: log.jsonl, TensorBoard, and a bar or plain lines for people."""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from torch.utils.tensorboard import SummaryWriter

from gmai_vl.foundation import say
from gmai_vl.foundation.progress import SECONDS_BETWEEN_LINES


class RunLog:
    """Events of a run: one JSON object per line in OUT/log.jsonl, and their numbers as TensorBoard scalars."""

    def __init__(self, out: Path) -> None:
        self._lines = (out / "log.jsonl").open("a", encoding="utf-8")
        self._scalars = SummaryWriter(out / "tensorboard")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._scalars.close()

    def write(self, event: str, stage: str, step: int, **values: Any) -> None:
        """Write an event with its finite `values`; `step` counts the optimizer steps of `stage` that are done."""
        row = {"event": event, "stage": stage, "step": step, **values, "time": datetime.now(UTC).isoformat()}
        self._lines.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
        self._lines.flush()
        for name, value in _numbers(values):
            self._scalars.add_scalar(f"{stage}/{event}/{name}", value, step)


def _numbers(values: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, int | float):
            yield name, value
        elif isinstance(value, dict):
            yield from ((f"{name}/{inner}", number) for inner, number in _numbers(value))


@contextmanager
def step_display(label: str, steps: int) -> Iterator[Callable[[int, str], None]]:
    """Give a function that shows how many of `steps` are done, with a note: a bar on a terminal, else plain lines."""
    if sys.stderr.isatty():
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=Console(stderr=True)) as bars:
            bar = bars.add_task(label, total=steps, note="")
            yield lambda done, note: bars.update(bar, completed=done, note=note)
    else:
        last = -math.inf

        def show(done: int, note: str) -> None:
            nonlocal last
            if done == steps or time.monotonic() - last >= SECONDS_BETWEEN_LINES:
                last = time.monotonic()
                say(f"{label}: {done} of {steps}, {note}")

        yield show


def duration(seconds: float) -> str:
    """Return a duration for people: `48 s`, `12 min`, `3 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
