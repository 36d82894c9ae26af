"""What a reinforcement learning tells while it runs, in log.jsonl and to people; and the states it goes on from."""

import json
import math
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Self

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from gmai_vl.foundation import say, write_text
from gmai_vl.model import Vlm
from gmai_vl.training.memory import peak_memory

LOG = "log.jsonl"

FAULT = "fault_"
"""Before the name of what a part of the reward raised."""

MIB = 2**20

_NAMES = {
    "loss": "loss",
    "grad_norm": "gradient_norm",
    "learning_rate": "learning_rate",
    "reward": "reward",
    "reward_std": "reward_deviation",
    "entropy": "entropy",
    "kl": "kl",
    "completions/mean_length": "tokens",
    "completions/max_length": "most_tokens",
    "completions/clipped_ratio": "cut_off",
    "settled_groups": "settled_groups",
    "faults": "faults",
}
"""TRL's name of a number -> ours; those of rewards, hacks and faults keep theirs."""


class Log(TrainerCallback):
    """A line for each step and each validation in OUT/log.jsonl. Use as a context."""

    def __init__(self, out: Path, vlm: Vlm, validated: Callable[[int], dict[str, Any] | None]) -> None:
        """Log a run into `out`; `validated` gives the numbers of a validation at a step, where it is time for one."""
        self._file, self._vlm, self._validated = out / LOG, vlm, validated
        self._lines: IO[str] | None = None
        self._started = time.perf_counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._lines is not None:
            self._lines.close()

    def begin(self, step: int) -> None:
        """Open the log, without what it has of steps behind `step`: they are to come again."""
        kept = [line for line in _lines(self._file) if json.loads(line)["step"] <= step] if step else []
        write_text(self._file, "".join(line + "\n" for line in kept))
        self._lines = self._file.open("a", encoding="utf-8")
        if not step:
            self._validate(0)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
        """Write a step, and validate where it is time."""
        if "reward" not in (logs or {}):
            return
        told = {_NAMES.get(name, name): value for name, value in logs.items() if name in _NAMES or _is_ours(name)}
        seconds, self._started = time.perf_counter() - self._started, time.perf_counter()
        memory = peak_memory(self._vlm.model.device) / MIB
        self._write("step", state.global_step, **told, seconds=round(seconds, 3), memory_mib=round(memory))
        say(f"{state.global_step} of {state.max_steps}: reward {logs['reward']:.3f}, {seconds:.1f} s")
        self._validate(state.global_step)

    def _validate(self, step: int) -> None:
        if numbers := self._validated(step):
            self._write("validation", step, **numbers)
            say(f"validation at {step}: {numbers['accuracy']:.1%} right, {numbers['format']:.1%} well formed")

    def _write(self, event: str, step: int, **values: Any) -> None:
        assert self._lines is not None
        finite = {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
        self._lines.write(json.dumps({"event": event, "step": step, **finite}, sort_keys=False) + "\n")
        self._lines.flush()
        os.fsync(self._lines.fileno())


def _is_ours(name: str) -> bool:
    return name.startswith(("reward_", "hack_", FAULT))


def _lines(file: Path) -> list[str]:
    """Return the whole lines of a log; what a kill cut off is none."""
    if not file.is_file():
        return []
    return [line for line in file.read_text(encoding="utf-8").split("\n")[:-1] if line]


def faults_of(out: Path) -> dict[str, int]:
    """Return what the parts of the reward raised in a whole run, also one that was stopped, as its log tells."""
    faults: Counter[str] = Counter()
    for line in _lines(out / LOG):
        told = json.loads(line).items()
        faults.update({name.removeprefix(FAULT): round(number) for name, number in told if name.startswith(FAULT)})
    return dict(faults)


def last_state(folder: Path) -> Path | None:
    """Return the last whole state below a folder, and remove those that a kill left half written."""
    whole = None
    for state in sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2])):
        if _is_whole(state):
            whole = state
        else:
            shutil.rmtree(state)
    return whole


def _is_whole(state: Path) -> bool:
    """Say whether transformers came to the file that it writes last, and to its end."""
    try:
        json.loads((state / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True
