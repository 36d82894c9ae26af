"""What a run tells while it runs: log.jsonl, TensorBoard, and a bar or plain lines for people."""

import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from torch.utils.tensorboard import SummaryWriter

from gmai_vl.foundation import UserError, say, write_text
from gmai_vl.foundation.progress import SECONDS_BETWEEN_LINES

LOG = "log.jsonl"


class RunLog:
    """Events of a run: one JSON object per line in OUT/log.jsonl, and their numbers as TensorBoard scalars."""

    def __init__(self, out: Path, *, writes: bool = True, tracker: Any = None) -> None:
        """Go on with the log in `out`, or begin one; without `writes`, on all ranks but one, do nothing.

        `tracker`, as `open_tracker` gives it, is told what is new.
        """
        self._lines = self._scalars = None
        self._tracker = tracker
        self._rows = 0
        if writes:
            shutil.rmtree(out / "tensorboard", ignore_errors=True)
            self._scalars = SummaryWriter(out / "tensorboard")
            for row in read_log(out):
                self._show(row)
            self._lines = (out / LOG).open("a", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (self._lines, self._scalars):
            if stream is not None:
                stream.close()
        if self._tracker is not None:
            self._tracker.finish()

    def write(self, event: str, stage: str, step: int, **values: Any) -> None:
        """Write an event with its finite `values`; `step` counts the optimizer steps of `stage` that are done."""
        if self._lines is None:
            return
        row = {"event": event, "stage": stage, "step": step, **values, "time": datetime.now(UTC).isoformat()}
        try:
            self._lines.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
            self._lines.flush()
        except OSError as error:
            raise UserError(
                f"{self._lines.name}: cannot be written: {error.strerror}; make room and go on with --resume"
            ) from error
        shown = self._show(row)
        if self._tracker is not None and shown:
            self._tracker.log(shown, step=self._rows)

    def _show(self, row: dict[str, Any]) -> dict[str, float]:
        """Show the numbers of a row on the board; return them by the names that they have there."""
        assert self._scalars is not None
        self._rows += 1
        values = {name: value for name, value in row.items() if name != "step"}
        shown = {f"{row['stage']}/{row['event']}/{name}": value for name, value in _numbers(values)}
        for name, value in shown.items():
            self._scalars.add_scalar(name, value, row["step"])
        return shown


def read_log(out: Path) -> list[dict[str, Any]]:
    """Return the events of the log in `out`, without a last line that was not written to its end."""
    if not (out / LOG).exists():
        return []
    lines = (out / LOG).read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def cut_log(out: Path, stages: Collection[str], stage: str | None, steps: int) -> None:
    """Keep what the log in `out` tells of `stages`, and of the first `steps` steps of `stage`."""
    kept = [row for row in read_log(out) if row["stage"] in stages or (row["stage"] == stage and row["step"] <= steps)]
    write_text(out / LOG, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))


def _numbers(values: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, int | float):
            yield name, value
        elif isinstance(value, dict):
            yield from ((f"{name}/{inner}", number) for inner, number in _numbers(value))


@contextmanager
def step_display(label: str, steps: int, *, shown: bool = True) -> Iterator[Callable[[int, str], None]]:
    """Give a function that shows how many of `steps` are done, with a note: a bar on a terminal, else plain lines."""
    if not shown:
        yield lambda done, note: None
    elif sys.stderr.isatty():
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
