"""One's own scores, as `score.json` has them, checked before anything is said about them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from gmai_vl.foundation import Settings, UserError, load_settings, visible

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Interval = Annotated[tuple[Share, ...], Field(min_length=2, max_length=2)]


class Group(Settings, extra="ignore"):
    """The score of some of the questions."""

    n: Count
    accuracy: Share
    interval: Interval | None = None
    n_unparsed: Count = 0
    n_patients: Count | None = None


class WithoutLeaks(Settings, extra="ignore"):
    """The score of the questions that were not met in training."""

    n: Count
    micro: Share
    interval: Interval | None = None


class Leaks(Settings, extra="ignore"):
    """Whether the benchmark was met in training."""

    status: Literal["clean", "leaked", "unknown"] = "unknown"

    n: Count = 0
    """Questions that were."""

    why: str = ""
    """What was compared, or why nothing could be."""

    without: WithoutLeaks | None = None


class Bin(Settings, extra="ignore"):
    """Questions of about one confidence."""

    n: Count
    confidence: Share
    right: Share


class Calibration(Settings, extra="ignore"):
    """How well a model's probabilities of options fit the answers."""

    n: Count
    expected_calibration_error: Share
    brier: Annotated[float, Field(ge=0, le=2)]
    bins: list[Bin]


class Manifest(Settings, extra="ignore", protected_namespaces=()):
    """What was asked of whom, as far as tables tell it."""

    model: str = ""
    model_sha256: str = ""
    prompt: Any = None

    limit: int | None = None
    """How many questions were asked for, where not all were."""

    created: str = ""


class Run(Settings, extra="ignore"):
    """One score: a model on a benchmark under a protocol. Shares are 0-1."""

    place: str
    """The file that it was read from, or what else names it."""

    benchmark: str
    variant: str
    protocol: str
    n: Annotated[int, Field(ge=1)]
    n_unparsed: Count
    n_guessed: Count = 0
    n_cut_off: Count = 0
    n_patients: Count | None = None
    micro: Share
    macro: Share | None = None
    macro_over: str = "group"
    interval: Interval | None = None
    intervals: dict[str, Interval] = Field(default_factory=dict)
    groups: dict[str, dict[str, Group]] = Field(default_factory=dict)
    leaks: Leaks = Leaks()
    baselines: dict[str, Share] = Field(default_factory=dict)
    calibration: Calibration | None = None
    manifest: Manifest = Manifest()

    @property
    def model(self) -> str:
        """The name of the model, or of the folder of the score where the manifest has none."""
        return self.manifest.model or Path(self.place).parent.name or self.place

    @property
    def remarks(self) -> str:
        """What must be known to read the number: form of the data, limit, prompt, leaks, guesses."""
        leaked = {"clean": "no leaks found", "leaked": f"{self.leaks.n:,} leaked", "unknown": "leaks unknown"}
        parts = [self.variant, leaked[self.leaks.status]]
        if isinstance(self.manifest.prompt, str) and self.manifest.prompt:
            parts.insert(1, f"prompt {self.manifest.prompt}")
        if self.manifest.limit is not None:
            parts.insert(1, f"limit {self.manifest.limit:,}")
        if self.n_guessed:
            parts.append(f"{self.n_guessed:,} guessed")
        return ", ".join(parts)


def run_of(score: Mapping[str, Any], place: str) -> Run:
    """Check a score. Raises UserError with `place`, the key and what is wrong with it."""
    return load_settings(Run, {**score, "place": place}, place)


def read_run(path: Path) -> Run:
    """Read a score.json. Raises UserError naming the file if it is unreadable or no score."""
    try:
        score = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        told = visible(str(error))
        raise UserError(f"{path}: is no readable score: {told}; score the run anew, or move the file away") from None
    if not isinstance(score, dict):
        raise UserError(f"{path}: is no score but a JSON {type(score).__name__}; score the run anew, or move it away")
    return run_of(score, str(path))
