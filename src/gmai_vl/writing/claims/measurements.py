"""Holds against a case the lengths, areas and shares that a text gives: only what follows from box, mask and pitch."""

import re
from collections.abc import Callable, Sequence

from gmai_vl.records import Case, Finding
from gmai_vl.writing.measures import longest_diameter

_TOLERANCE = 0.03
"""Share by which a measurement may differ from the annotation's, besides half a unit of its last digit."""

_UNITS = {
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres", "毫米"), 1.0),
    **dict.fromkeys(("cm", "centimeter", "centimeters", "centimetre", "centimetres", "厘米", "公分"), 10.0),
}
"""Name of a unit -> millimetres."""

_UNIT = r"(?:mm|cm|millimet(?:er|re)s?|centimet(?:er|re)s?|毫米|厘米|公分)"
_N = r"\d+(?:\.\d+)?"
_AREA = re.compile(
    rf"(?P<n>{_N}) ?(?:square (?P<u1>millimet\w+|centimet\w+|mm|cm)|(?P<u2>mm|cm)(?:²|2|\^2)|平方(?P<u3>毫米|厘米))"
)
_LENGTHS = re.compile(
    rf"(?P<ns>{_N}(?: ?{_UNIT})?(?: ?(?:x|×|by|\*|乘以?) ?{_N}(?: ?{_UNIT})?)*) ?(?P<u>{_UNIT})(?![a-z²2])"
)
_PERCENT = re.compile(rf"(?P<n>{_N}) ?(?:%|percent|per cent)|百分之(?P<zh>{_N})")
_SHARES = (
    (
        re.compile(r"\bhalf (?:of )?(?:the |this )?(?:whole |entire )?(?:image|picture|frame|field)\b(?! side)"),
        0.4,
        0.6,
    ),
    (
        re.compile(r"\b(?:most|the majority) of the (?:image|picture|frame|field)\b|(?:大部分|多半)(?:图像|画面)"),
        0.5,
        1.0,
    ),
    (
        re.compile(r"\b(?:the whole|the entire|(?:almost |nearly )?all of the) (?:image|picture|frame|field)\b"),
        0.8,
        1.0,
    ),
)
"""Words for a share of the image, and between which shares they hold."""

_PIXELS = re.compile(rf"({_N}) ?(?:x|×|by) ?({_N}) ?(?:pixels?|像素)")
_OTHER_UNIT = re.compile(
    rf"{_N} ?(?:μm|um|micromet\w+|microns?|ml|cc|[cm]m[3³]|kg|g|degrees?|°|ms|s|mg|"
    r"微米|毫升|克|度|立方\w+)(?![a-z])"
)


_COVERS = re.compile(r"\b(?:cover\w*|occup\w+|fill\w*|takes? up|taking up)\b[^,]{0,20}$|(?:占|覆盖|充满)[^,]{0,6}$")


def measurement_faults(text: str, about: Sequence[Finding], case: Case) -> tuple[str, list[tuple[str, str]]]:
    """Return the text without its measurements, and check and reason for each that the annotation does not give."""
    faults: list[tuple[str, str]] = []
    kinds: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], bool]], ...] = (
        (_PIXELS, lambda match: {float(match[1]), float(match[2])} == {case.width, case.height}),
        (_AREA, lambda match: _is_area(match, about, case)),
        (_LENGTHS, lambda match: _are_lengths(match, about, case)),
        (_PERCENT, lambda match: _is_percent(match["n"] or match["zh"], about)),
        (_OTHER_UNIT, lambda match: False),
    )
    for pattern, holds in kinds:
        for match in pattern.finditer(text):
            if not holds(match):
                faults.append(("measurement", f"`{match[0]}` does not follow from the annotation"))
        text = pattern.sub(" \ue000 ", text)
    for pattern, least, most in _SHARES:
        for match in pattern.finditer(text):
            covers = _COVERS.search(text[: match.start()])
            if covers and not any(one.box and least <= (one.area_share or 0) <= most for one in about):
                faults.append(("measurement", f"`{match[0]}` is not its share"))
    return text, faults


def _is_area(match: re.Match[str], about: Sequence[Finding], case: Case) -> bool:
    unit = next(match[name] for name in ("u1", "u2", "u3") if match[name])
    factor = _UNITS[unit] ** 2
    if case.spacing_mm is None:
        return False
    pixel = case.spacing_mm[0] * case.spacing_mm[1] * case.width * case.height
    return any(
        one.mask is not None and one.area_share is not None and _close(match["n"], one.area_share * pixel / factor)
        for one in about
    )


def _are_lengths(match: re.Match[str], about: Sequence[Finding], case: Case) -> bool:
    if case.spacing_mm is None:
        return False
    factor, (row_mm, column_mm) = _UNITS[match["u"]], case.spacing_mm
    said = re.findall(_N, match["ns"])
    for one in about:
        if one.box is None:
            continue
        true = [(one.box[2] - one.box[0]) * column_mm / factor, (one.box[3] - one.box[1]) * row_mm / factor]
        if one.mask is not None:
            true.append(longest_diameter(one.mask, row_mm, column_mm) / factor)
        if all(any(_close(number, value) for value in true) for number in said):
            return True
    return False


def _is_percent(said: str, about: Sequence[Finding]) -> bool:
    return any(
        one.area_share is not None and one.box is not None and _close(said, 100 * one.area_share) for one in about
    )


def _close(said: str, value: float) -> bool:
    digits = len(said.partition(".")[2])
    return abs(float(said) - value) <= max(0.5001 * 10.0**-digits, _TOLERANCE * value)
