"""Bars of what is in a corpus, with what GMAI-VL-5.5M holds beside them."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

_MOST_BARS = 30
_BAR_INCHES, _TITLE_INCHES = 0.34, 0.5
_INK, _SOFT, _BAR, _PAPER = "#1d2733", "#5d6b7a", "#0b6e99", "#a4471b"


def plot(column: str, numbers: Mapping[str, int], paper: Mapping[str, float], path: Path) -> None:
    """Write a PNG with a bar for each of `numbers`, most frequent first as they come; the rest is one bar.

    `paper` holds per cent of GMAI-VL-5.5M, drawn as diamonds on the scale of the shares. What only the paper has gets a
    line without a bar.
    """
    total = sum(numbers.values())
    shown = list(numbers.items())[:_MOST_BARS]
    rest = len(numbers) - len(shown)
    if rest:
        shown.append((f"{rest} others", total - sum(number for _, number in shown)))
    shown += [(name, 0) for name in paper if name not in numbers]
    shares = [100 * number / total for _, number in shown]
    marks = {place: paper[name] for place, (name, _) in enumerate(shown) if name in paper}
    widest = max([*shares, *marks.values()])

    bars = _BAR_INCHES * len(shown)
    figure = plt.figure(figsize=(6.4, bars + _TITLE_INCHES))
    axis = figure.add_axes((0.25, 0, 0.75, bars / (bars + _TITLE_INCHES)))
    places = range(len(shown))
    axis.barh(places, shares, color=_BAR, height=0.66)
    if marks:
        axis.scatter(
            marks.values(), marks.keys(), marker="D", s=26, facecolor="white", edgecolor=_PAPER, zorder=3, clip_on=False
        )
    axis.set_yticks(places)
    axis.set_yticklabels([_short(name) for name, _ in shown], color=_INK, parse_math=False)
    axis.set_ylim(len(shown) - 0.5, -0.5)
    # Numbers stand in columns of their own: beside a bar they would run into the diamonds.
    columns = [
        (1.24, _SOFT, [f"{number:,}" for _, number in shown]),
        (1.43, _INK, [f"{share:.1f} %" for share in shares]),
    ]
    if marks:
        columns.append((1.62, _PAPER, [f"{marks[place]:.1f} %" if place in marks else "" for place in places]))
    for right, colour, texts in columns:
        for place, text in zip(places, texts, strict=True):
            axis.text(right * widest, place, text, ha="right", va="center", color=colour, fontsize=9)
    if marks:
        axis.text(columns[-1][0] * widest, -0.62, "GMAI-VL-5.5M ◇", ha="right", va="bottom", color=_PAPER, fontsize=8)
    axis.set_title(f"samples by {column.replace('_', ' ')}", loc="left", fontsize=12, color=_INK, pad=8)
    axis.set_xlim(0, columns[-1][0] * widest)
    axis.set_xticks([])
    axis.tick_params(length=0)
    for side in axis.spines.values():
        side.set_visible(False)
    figure.savefig(path, format="png", dpi=130, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)


def _short(name: str) -> str:
    return name if len(name) <= 40 else name[:39] + "…"
