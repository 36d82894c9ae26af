"""The page of the leak gate: what two sides have in common, side by side; one file that asks nothing of any network."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from gmai_vl.corpus.leaks import Leak, Shown
from gmai_vl.corpus.page import jpeg_uri, page
from gmai_vl.corpus.reader import Corpus
from gmai_vl.foundation import write_text
from gmai_vl.sources.images import read_image

MOST_SHOWN = 200
_SIDE = 240


def write_page(corpus: Path, leaks: Sequence[Leak], path: Path) -> None:
    """Write what `corpus` has in common with others; of more than 200 leaks the first."""
    text = page(
        "gmai_vl.corpus",
        "leaks",
        corpus=str(corpus),
        total=len(leaks),
        counts=dict(Counter(leak.evidence for leak in leaks)),
        leaks=[
            {
                "evidence": leak.evidence,
                "likeness": leak.likeness,
                "ours": _side(leak.ours),
                "theirs": _side(leak.theirs),
            }
            for leak in leaks[:MOST_SHOWN]
        ],
    )
    write_text(path, text)


def _side(shown: Shown) -> dict[str, Any]:
    return {"id": shown.id, "place": shown.place, "question": shown.question, "image": _thumbnail(shown)}


def _thumbnail(shown: Shown) -> str | None:
    if shown.pixels is None:
        return None
    place = Path(shown.place)
    is_corpus = (place / "manifest.json").exists()
    pixels = Corpus(place).image(shown.pixels) if is_corpus else read_image(place / shown.id)
    image = Image.fromarray(pixels)
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    return jpeg_uri(image)
