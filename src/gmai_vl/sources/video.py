"""Videos: a frame every 1 / `fps` seconds, with the labels that a table gives to its time, or that of its folder."""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from gmai_vl.foundation import BadItem
from gmai_vl.records import Case, Finding, Rejected
from gmai_vl.sources.fields import Label
from gmai_vl.sources.files import file_of, list_files
from gmai_vl.sources.labels import look_up, negative_among, patient_of, severity_of, term_of, terms_of
from gmai_vl.sources.spans import Span, labels_at, moments_in, spans_of
from gmai_vl.sources.spec import VideoSource
from gmai_vl.vocabulary import Term

FORMAT_OF = {
    **dict.fromkeys((".mp4", ".m4v", ".mov"), "mov"),
    ".avi": "avi",
    **dict.fromkeys((".mkv", ".webm"), "matroska"),
    **dict.fromkeys((".mpg", ".mpeg"), "mpeg"),
    ".wmv": "asf",
}
"""Ending -> FFmpeg's name of the format: told, because one that is guessed may be a list of other files."""

MAX_PIXELS = 2**25
"""Of a frame: 7680 x 4320."""
MAX_FRAMES = 2_000_000
"""Of a video: 22 hours at 25 a second."""
MISSING_SECONDS = 1.0
"""So much may a video be shorter than its header says."""
ROUNDING = 1e-6
"""Seconds within which two times are one: files count in ticks of their own."""

av.logging.set_level(av.logging.PANIC)  # what is wrong with a video stands in the reason


def list_items(spec: VideoSource, root: Path) -> list[str]:
    """Return the videos below `root`, sorted. Raises UserError if there are none."""
    return list_files(spec.name, root, spec.images, tuple(FORMAT_OF))


def read_item(spec: VideoSource, root: Path, item: str) -> Iterator[Case | Rejected]:
    """Yield a case for every chosen frame, one in memory at a time, then what was left out, counted.

    A video that is damaged in the middle gives the frames before, and a reason.
    """
    left_out: Counter[tuple[str, str]] = Counter()
    try:
        path = file_of(root, item, spec.images)
        patient_id = patient_of(spec.patient, root, item) if spec.patient else item
        spans = spans_of(spec, root, item) if spec.annotations else (_whole(spec, root, item),)
        meaning = {name: look_up(name, spec.labels, spec.unknown_labels) for span in spans for name in span.labels}
        label_set = _label_set(spec, meaning)
        for frame in _frames(path, spec, spans):
            names = labels_at(spans, frame.at, frame.begin, frame.end)
            labels = {name: label for name in names if (label := meaning[name]) is not None}
            if not labels:
                why = (
                    ("excluded", "bear only labels that the recipe excludes")
                    if names
                    else ("unlabelled", "bear no label")
                )
                left_out[why] += 1
                continue
            yield _case(spec, f"{item}@t={round(frame.seconds, 3):.10g}", frame.pixels, labels, label_set, patient_id)
    except BadItem as bad:
        yield Rejected(item=item, outcome="quarantined", reason=str(bad))
    for (name, reason), count in sorted(left_out.items()):
        yield Rejected(item=f"{item}@{name}", outcome="excluded", reason=f"{count} frames {reason}")


def _whole(spec: VideoSource, root: Path, item: str) -> Span:
    """Return one span for the whole video, with the recipe's `label` or the name of the folder that it lies in."""
    folder = (root / item).parent
    if spec.label is None and folder in (root, root / spec.images):
        raise BadItem("lies in no class folder; give the source a `label`, or `annotations`")
    return Span(start=0, end=math.inf, labels=(spec.label or folder.name,))


def _label_set(spec: VideoSource, meaning: dict[str, Label | None]) -> tuple[Term, ...]:
    """Return what an annotator could have given: the columns of labels, all labels of the recipe, all of the video."""
    return terms_of((*spec.label_columns, *spec.labels, *meaning), spec.labels, spec.unknown_labels)


def _case(
    spec: VideoSource,
    item: str,
    pixels: NDArray[np.uint8],
    labels: dict[str, Label],
    label_set: tuple[Term, ...],
    patient_id: str,
) -> Case | Rejected:
    try:
        negative = negative_among(list(labels.items()))
    except BadItem as bad:
        return Rejected(item=item, outcome="quarantined", reason=str(bad))
    findings = [
        Finding(label=term_of(name, label), source_label=name) for name, label in labels.items() if not label.negative
    ]
    return Case(
        source=spec.name,
        item=item,
        pixels=pixels,
        modality=spec.modality,
        department=spec.department,
        clinical_task=spec.clinical_task,
        task="cls",
        findings=tuple(findings),
        negative=negative,
        label_set=label_set,
        severity=severity_of(spec.severity, spec.labels),
        patient_id=patient_id,
        license=spec.license,
        url=spec.url,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Frame:
    """A chosen frame."""

    seconds: float
    """The time that it was chosen for, from the first frame on."""

    at: float
    """The same in the source's unit: seconds, or the number of the frame, from 0 in the order of showing."""

    begin: float
    end: float
    """Since when and until when it is on show, in the source's unit."""

    pixels: NDArray[np.uint8]
    """[H, W] grey or [H, W, 3] RGB, as decoded: a note that says how to turn the picture is not followed."""


class _Decoded(NamedTuple):
    """A frame with its number and the seconds since the first one."""

    number: int
    seconds: float
    frame: Any


def _frames(path: Path, spec: VideoSource, spans: tuple[Span, ...]) -> Iterator[_Frame]:
    """Yield the frames on show at 0, 1 / fps, 2 / fps ... seconds and at moments that bear a label, each once.

    Where only moments bear labels, frames between them are not looked at. Raises BadItem, where the damage is met, for
    a video that cannot be decoded, is too large, or ends too early.
    """
    moments = moments_in(spans)
    step = math.inf if len(moments) == len(spans) > 0 else 1 / spec.fps
    due = math.inf if step == math.inf else 0.0
    for shown, until in _on_show(path):
        begin, end = (shown.seconds, until) if spec.unit == "seconds" else (shown.number, shown.number + 1)
        here = moments[bisect_left(moments, begin - ROUNDING) : bisect_left(moments, end - ROUNDING)]
        is_due = due < until - ROUNDING
        if not is_due and not here:
            continue
        seconds = due if is_due else here[0] if spec.unit == "seconds" else shown.seconds
        yield _Frame(
            seconds=seconds,
            at=seconds if spec.unit == "seconds" else shown.number,
            begin=begin - ROUNDING,
            end=end - ROUNDING,
            pixels=shown.frame.to_ndarray(format="gray" if shown.frame.format.name.startswith("gray") else "rgb24"),
        )
        if is_due:
            due = math.ceil((until - ROUNDING) / step) * step


def _on_show(path: Path) -> Iterator[tuple[_Decoded, float]]:
    """Yield every frame and the second until which it is on show."""
    last: _Decoded | None = None
    try:
        with path.open("rb") as stream, _opened(stream, path) as video:
            duration = _duration(video)
            for decoded in _decoded(video):
                if last is not None:
                    yield last, decoded.seconds
                last = decoded
            if last is None:
                raise BadItem("holds no frame")
            end = last.seconds + _frame_seconds(video)
            yield last, end
            if duration is not None and end < duration - MISSING_SECONDS:
                raise BadItem(f"ends after {end:.1f} of {duration:.1f} s")
    except (av.FFmpegError, OSError, ValueError, ArithmeticError, LookupError, AttributeError, MemoryError) as error:
        place = "" if last is None else f" after {last.seconds:.1f} s"
        raise BadItem(f"cannot be decoded{place} ({type(error).__name__})") from None


def _opened(stream: IO[bytes], path: Path) -> Any:
    # From an open file, so that nothing in it can name another file or address.
    return av.open(stream, format=FORMAT_OF[path.suffix.lower()], metadata_errors="replace")


def _decoded(video: Any) -> Iterator[_Decoded]:
    if not video.streams.video or video.streams.video[0].codec_context is None:
        raise BadItem("holds no stream of pictures that can be decoded")
    track = video.streams.video[0]
    if not 0 < track.width * track.height <= MAX_PIXELS:
        raise BadItem(f"{track.width} x {track.height} pixels a frame are none, or more than the limit of {MAX_PIXELS}")
    track.codec_context.thread_count = 1  # the workers of a build are the threads
    track.codec_context.options = {"err_detect": "explode", "max_pixels": str(MAX_PIXELS)}
    first, last = None, 0.0
    for number, frame in enumerate(video.decode(track)):
        if number >= MAX_FRAMES:
            raise BadItem(f"has more than {MAX_FRAMES} frames")
        if frame.width * frame.height > MAX_PIXELS:
            raise BadItem(f"{frame.width} x {frame.height} pixels a frame are more than the limit of {MAX_PIXELS}")
        time = frame.time
        first = time if first is None else first
        # Some AVI files give no times: then frames follow each other evenly.
        even = last + _frame_seconds(video) if number else 0.0
        seconds = even if time is None or first is None else float(time - first)
        # MPEG files may give two frames one time: then the first of them is never on show.
        if seconds < last - 2 * _frame_seconds(video):
            raise BadItem(f"its frames are out of order after {last:.1f} s")
        last = max(seconds, last)
        yield _Decoded(number, last, frame)


def _frame_seconds(video: Any) -> float:
    """Return how long a frame is on show on average."""
    rate = video.streams.video[0].average_rate
    return float(1 / rate) if rate else 0.04  # 25 a second: what such a file most likely was made with


def _duration(video: Any) -> float | None:
    """Return the length of the pictures in seconds, as the header tells; None where it does not."""
    track = video.streams.video[0] if video.streams.video else None
    if track is not None and track.duration is not None and track.time_base is not None:
        return float(track.duration * track.time_base)
    # Of a file with sound it may be the sound that is so long.
    return video.duration / av.time_base if video.duration is not None and len(video.streams) == 1 else None
