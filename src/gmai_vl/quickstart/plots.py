"""The plots of the report, as data URIs: losses of the stages, accuracy by question form."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

INK, SOFT, LINE = "#1d2733", "#5d6b7a", "#dde3ea"
STAGE_COLOURS = ("#7fb7be", "#3a86a8", "#0b4f6c")
ANSWERER_COLOURS = {
    "trained": "#0b6e99",
    "images exchanged": "#e08e45",
    "untrained": "#b8c4cf",
    "majority": "#5d6b7a",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """An accuracy and its interval, 0-1."""

    value: float
    low: float
    high: float


def loss_curves(log: Sequence[Mapping[str, object]]) -> str:
    """Plot training loss (line) and validation loss (dots) over optimizer steps, the stages side by side.

    `log` holds the rows of a run's log.jsonl.
    """
    stages = list(dict.fromkeys(str(row["stage"]) for row in log))
    figure, axes = plt.subplots(1, len(stages), figsize=(10, 2.9), sharey=True, squeeze=False)
    for axis, stage, colour in zip(axes[0], stages, STAGE_COLOURS * len(stages), strict=False):
        losses, held_out = (
            [(row["step"], row["loss"]) for row in log if row["stage"] == stage and row["event"] == event]
            for event in ("step", "validation")
        )
        axis.plot(*zip(*losses, strict=True), color=colour, linewidth=1.4, label="training")
        if held_out:
            axis.plot(*zip(*held_out, strict=True), "o", color="#e08e45", markersize=5, label="validation")
        axis.set_title(stage, loc="left", fontsize=11, color=INK)
        axis.set_xlabel("step", color=SOFT)
        axis.set_yscale("log")
        _bare(axis)
    axes[0][0].set_ylabel("loss per supervised token", color=SOFT)
    axes[0][-1].legend(frameon=False, fontsize=9)
    return _png(figure)


def accuracy_by_form(shares: Mapping[str, Mapping[str, Share]], counts: Mapping[str, int]) -> str:
    """Plot accuracy by question form. `shares`: answerer -> form -> share; `counts`: form -> number of questions."""
    forms = sorted(counts, key=lambda form: -counts[form])
    figure, axis = plt.subplots(figsize=(10, 0.5 * len(forms) + 1.2))
    for place, (answerer, by_form) in enumerate(shares.items()):
        shown = [form for form in forms if form in by_form]
        heights = [forms.index(form) - 0.26 + 0.17 * place for form in shown]
        values = [by_form[form].value for form in shown]
        below = [max(0.0, by_form[form].value - by_form[form].low) for form in shown]
        above = [max(0.0, by_form[form].high - by_form[form].value) for form in shown]
        colour = ANSWERER_COLOURS[answerer]
        axis.errorbar(
            values, heights, xerr=(below, above), fmt="o", color=colour, markersize=5, label=answerer, linewidth=1
        )
    axis.set_yticks(range(len(forms)), [f"{form}  ({counts[form]})" for form in forms], color=INK)
    axis.invert_yaxis()
    axis.set_xlim(-0.02, 1.02)
    axis.set_xlabel("accuracy, with 95 % interval clustered by patient", color=SOFT)
    axis.legend(frameon=False, ncols=len(shares), loc="lower left", bbox_to_anchor=(0, 1), fontsize=9)
    _bare(axis)
    axis.grid(axis="x", color=LINE)
    return _png(figure)


def thumbnail(pixels: NDArray[np.uint8], side: int = 240) -> str:
    """Return an image, [H, W] or [H, W, 3], as the data URI of a JPEG whose longer side is at most `side` pixels."""
    image = Image.fromarray(pixels).convert("RGB")
    image.thumbnail((side, side))
    stream = io.BytesIO()
    image.save(stream, format="JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def picture(path: Path) -> str:
    """Return a PNG file as a data URI."""
    return _data_uri(path.read_bytes())


def _bare(axis: plt.Axes) -> None:
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color(LINE)
    axis.tick_params(colors=SOFT, which="both")


def _png(figure: Figure) -> str:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=150, bbox_inches="tight")
    plt.close(figure)
    return _data_uri(stream.getvalue())


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
