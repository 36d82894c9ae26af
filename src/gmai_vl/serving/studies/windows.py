"""Windows on grey values: which values are black and white."""

from typing import Any

from numpy.typing import NDArray

AUTO = "auto"
"""Percentiles of the whole volume, or of one frame, as trainings show files that tell no window."""

STORED = "stored"
"""What the header tells for each slice, else its percentiles: what trainings show of DICOM files."""

PRESETS: dict[str, tuple[float, float]] = {
    name: (center - width / 2, center + width / 2)
    for name, center, width in (
        ("lung", -600, 1500),
        ("bone", 480, 2500),
        ("brain", 40, 80),
        ("soft-tissue", 40, 400),
    )
}
"""Name -> Hounsfield units that are black and white.

Centres and widths are those that the OHIF viewer offers for CT (its defaultWindowLevelPresets).
"""

LIKE_AIR = -500
"""A volume of unknown modality with a value as low as this may be in Hounsfield units: it holds air (-1000)."""


def can_be_hounsfield(values: NDArray[Any]) -> bool:
    """Say whether presets make sense for a volume whose header tells no modality."""
    return bool(values.min() <= LIKE_AIR)
