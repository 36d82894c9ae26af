"""DICOM files put together: evenly spaced parallel slices become a volume, all else frames."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gmai_vl.foundation import BadItem
from gmai_vl.serving.limits import Limits
from gmai_vl.serving.studies.dicom_file import DicomFile, read_dicom
from gmai_vl.serving.studies.series import Series, Stack
from gmai_vl.serving.studies.volumes import Bounds, always, check_voxels, fits_int16, volume_series
from gmai_vl.serving.studies.windows import AUTO, PRESETS, STORED
from gmai_vl.sources.geometry import AXIS_OF, is_oblique, percentile_window, to_ras

FEWEST_SLICES = 3
"""Of a volume."""

UNEVEN = 0.05
"""Share of the distance between slices by which one may be off its place: headers round positions."""


class Pile(NamedTuple):
    """Evenly spaced parallel slices, in the order of their places."""

    files: list[DicomFile]
    affine: NDArray[np.float64]
    """[4, 4], from (column, row, slice) to RAS+ mm."""


def read_series(paths: Sequence[Path], limits: Limits, room: int) -> tuple[list[Series], Counter[str]]:
    """Return the series that files belong to, whatever their order, and why files were left out.

    A volume beyond the limits, or the memory of `room` bytes, is shown slice by slice.
    """
    left_out: Counter[str] = Counter()
    groups: dict[tuple[Any, ...], list[DicomFile]] = defaultdict(list)
    for path in paths:
        try:
            file = read_dicom(path, limits)
        except BadItem as bad:
            left_out[str(bad)] += 1
            continue
        alone = file.order.uid if file.frames > 1 else ""
        groups[file.series, file.modality, file.height, file.width, file.is_deep, alone].append(file)
    series = []
    for files in sorted(groups.values(), key=lambda group: min(file.order for file in group)):
        try:
            one = _series(sorted(files, key=lambda file: file.order), limits, room)
        except BadItem as bad:
            left_out[str(bad)] += 1
            continue
        room -= one.nbytes
        series.append(one)
    return series, left_out


def _series(files: list[DicomFile], limits: Limits, room: int) -> Series:
    """Return one series. Raises BadItem for a single file that is damaged."""
    pile = pile_of(files)
    if pile is not None:
        try:
            check_voxels((len(files), files[0].height, files[0].width), limits, room)
            return _volume(pile)
        except BadItem:
            pass
    frames = _frames(files)
    if len(files) == 1:  # so that damage of it shows at once; of many, where one looks
        frames.shown("stored", frames.planes[0].first, frames.windows[0] if frames.windows else AUTO)
    return frames


def pile_of(files: Sequence[DicomFile]) -> Pile | None:
    """Return files as a pile if they are one: single frames, parallel, evenly spaced, at right angles, not oblique."""
    places = [file.place for file in files if file.place and file.is_deep and file.is_linear]
    if len(places) < max(len(files), FEWEST_SLICES):
        return None
    positions, cosines, pitches = (np.array(each) for each in zip(*places, strict=True))
    if np.ptp(cosines, axis=0).max() > 1e-3 or (np.ptp(pitches, axis=0) > 1e-3 * pitches[0]).any():
        return None
    across, down = cosines[0, :3], cosines[0, 3:]
    normal = np.cross(across, down)
    order = np.argsort(positions @ normal, kind="stable")
    positions = positions[order]
    step = (positions[-1] - positions[0]) / (len(files) - 1)
    distance = float(step @ normal)
    off = np.linalg.norm(positions - positions[0] - np.arange(len(files))[:, None] * step, axis=1)
    # A gantry that is tilted shifts each slice against the one before.
    drift = np.linalg.norm(step - distance * normal) * (len(files) - 1)
    if distance < 1e-3 or off.max() > UNEVEN * distance or drift > pitches[0].min() / 2:
        return None
    affine = np.eye(4)
    affine[:3] = np.column_stack([across * pitches[0, 1], down * pitches[0, 0], step, positions[0]])
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    return None if is_oblique(affine) else Pile([files[place] for place in order], affine)


def _volume(pile: Pile) -> Series:
    """Read all slices. Raises BadItem where one of them is damaged."""
    files = pile.files
    rows, columns = int(files[0].header.Rows), int(files[0].header.Columns)
    voxels = np.empty((len(files), rows, columns), np.int16)
    shown_as: list[tuple[float, float]] = []
    for place, file in enumerate(files):
        grey = file.grey(0)
        if grey.values.shape != (rows, columns) or not np.isfinite(grey.values).all():
            raise BadItem("is damaged")
        if voxels.dtype == np.int16 and not fits_int16(grey.values):
            voxels = voxels.astype(np.float32)
        voxels[place] = grey.values
        shown_as.append(grey.window or percentile_window(grey.values))
    turned, spacing = to_ras(voxels.transpose(2, 1, 0), pile.affine)
    windows: dict[str, Bounds] = {
        STORED: _stored(pile, shown_as),
        AUTO: always(percentile_window(voxels)),
        **{name: always(bounds) for name, bounds in PRESETS.items()},
    }
    names = _windows(files)
    return volume_series(
        turned,
        spacing,
        {name: windows[name] for name in names},
        modality=files[0].modality,
        notes=_notes(files),
    )


def _stored(pile: Pile, shown_as: Sequence[tuple[float, float]]) -> Bounds:
    """Return the window of each slice in the plane that was scanned; across it, that of the middle one."""
    places, _ = to_ras(np.arange(len(pile.files)).reshape(1, 1, -1), pile.affine)
    axis = int(np.argmax(places.shape))
    order = places.ravel()

    def bounds(plane: str, index: int) -> tuple[float, float]:
        is_scanned = AXIS_OF[plane] == axis  # type: ignore[index]
        return shown_as[int(order[index]) if is_scanned else len(shown_as) // 2]

    return bounds


def _frames(files: list[DicomFile]) -> Series:
    frames = [(file, frame) for file in files for frame in range(file.frames)]
    first = files[0]

    def shown(_plane: str, index: int, window: str) -> NDArray[np.uint8]:
        file, frame = frames[index]
        return file.shown(frame, window)

    pitch = first.pitch if all(file.pitch == first.pitch for file in files) else None
    return Series(
        kind="frames" if len(frames) > 1 else "picture",
        modality=first.modality,
        planes=(Stack(name="stored", slices=len(frames), width=first.width, height=first.height, pixel_mm=pitch),),
        windows=_windows(files),
        notes=_notes(files),
        shown=shown,
        files=frozenset(file.path for file in files),
    )


def _windows(files: Sequence[DicomFile]) -> tuple[str, ...]:
    """Return the windows that apply; first what the header tells, where it tells one."""
    if not files[0].is_deep:
        return ()
    both = (STORED, AUTO) if any(file.has_window for file in files) else (AUTO, STORED)
    return both + (tuple(PRESETS) if all(file.is_in_hounsfield for file in files) else ())


def _notes(files: Sequence[DicomFile]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(note for file in files for note in file.notes))
