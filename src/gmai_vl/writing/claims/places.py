"""Holds against a case where a text puts things: in the picture, in the patient, and by each other.

Only what is clearly wrong counts: a thing near the middle is neither left nor right, and may be called both.
"""

import re
from collections.abc import Iterator, Sequence

from gmai_vl.records import Box, Case, Finding
from gmai_vl.vocabulary import Language
from gmai_vl.writing.claims.reading import Statement, said_at
from gmai_vl.writing.claims.relations import relation_faults
from gmai_vl.writing.claims.subjects import Subjects, relation_at
from gmai_vl.writing.laterality import MIDLINE, OFF_MIDDLE, own_side, shows_whole_width

_MIDDLE = 0.06
"""Share of the image by which the centre of a thing may be on the other side of the middle."""

_CORNER = 0.46
_THIRD = 0.42
_CENTER = (0.25, 0.75)

_ORGANS_EN = (
    r"(?:lungs?|lobes?|kidneys?|breasts?|hemispheres?|eyes?|atri\w+|ventric\w+|hemi\w+|costo\w+|"
    r"ovar\w+|femur|femoral|hips?|"
    r"knees?|shoulders?|arms?|legs?|adrenal|temporal|frontal|parietal|occipital|cerebr\w+|cerebell\w+|"
    r"lateral|hil\w+|pleura\w*|"
    r"basal|apical|thora\w+|chest|abdom\w+|ears?|bronch\w+|colon|flank|cheek|hands?|foot|iliac|renal|hepatic|clavicle|"
    r"ribs?|scapula|optic|psoas|paracolic|hypochondri\w+|side of (?:the |his |her )?(?:patient|body|"
    r"chest|abdomen|brain|"
    r"head|pelvis|thorax)|half of the (?:patient|body|chest|abdomen|brain|head))"
)
_PATIENT: dict[Language, re.Pattern[str]] = {
    "en": re.compile(
        r"(?:patient's|patients'|patient s|anatomical(?:ly)?|anatomic|subject's|person's) (?:own )?(?P<a>left|right)"
        rf"|\b(?P<b>left|right) (?:(?:sided|upper|lower|middle) )*{_ORGANS_EN}\b"
        r"|\b(?P<c>left|right) sided\b|\b(?P<d>left|right) of the (?:patient|body|midline of the patient)"
    ),
    "zh": re.compile(
        r"(?:患者|病人|人体|解剖学?|身体|受检者)(?:的|自身)*(?P<a>左|右)|(?P<b>左|右)侧?(?:上|下|中)?"
        r"(?:肺|肾|乳|眼|脑|大脑|小脑|半球|心[房室]|叶|胸|腹|髋|膝|肩|额|颞|顶|枕|输尿管|卵巢|肢|膈|肋|锁骨|肝|基底|腰)"
    ),
}

_BILATERAL: dict[Language, re.Pattern[str]] = {
    "en": re.compile(r"\bbilateral\w*\b|\bon both sides\b|\bin both lungs\b"),
    "zh": re.compile("双侧|两侧"),
}

_GRID_EN = re.compile(
    r"\b(?P<v>upper|top|lower|bottom|middle|mid|central|superior|inferior)[ -]?(?P<h>left|right|"
    r"middle|center)\b(?: corner)?"
    r"|\b(?P<h2>left|right)[ -](?P<v2>upper|lower|top|bottom|middle|center)\b"
)
_SIDE_EN = re.compile(
    r"\b(?:on|in|to|at|toward|towards|along|near|from|into|occupies|within) (?:the |its |far |"
    r"very )*(?:extreme |far )?(?P<h>left|right)\b"
    r"|\b(?P<h2>left|right)(?: hand)? (?:half|side|part|portion|third|edge|margin|border|corner|area|"
    r"section|of (?:the )?"
    r"(?:image|picture|frame|field|slice|view|center|middle))\b|^(?:the )?(?P<h3>left|right)\.?$|"
    r"\b(?P<h4>left|right)most\b"
)
_LEVEL_EN = re.compile(
    r"\b(?P<v>upper|top|lower|bottom|uppermost|lowermost|topmost)(?:most)? (?:half|part|portion|third|"
    r"area|region|section|edge|"
    r"margin|border|of (?:the )?(?:image|picture|frame|field|slice|view)|end|quadrants?|zone)\b"
    r"|\b(?:at|near|in|toward|towards|on|to|along) the (?:very )?(?P<v2>top|bottom)\b"
)
_CENTER_EN = re.compile(
    r"\b(?:in|at|near|around|toward|towards|close to|occupies|on) (?:the |its )?(?:very |"
    r"exact )?(?:center|middle)\b(?! (?:left|right|third|lobe))"
    r"|\bcentral (?:part|portion|third|region|area|section|zone)\b|\bcentrally\b|^(?:the )?center\.?$"
    r"|\b(?:center|middle) of the (?:image|picture|frame|field|slice|view)\b|\bmiddle of the (?:image|picture)\b"
)
_GRID_ZH = re.compile(
    r"(?P<h>左|右)(?:侧)?(?P<v>上|下)(?:部|方|角|侧|象限|区|1/4|四分之一|半)?|(?P<v2>上|下)(?:部|方|半)?(?:偏|靠)?(?P<h2>左|右)|"
    r"(?P<v3>上|下)方中部|(?P<h3>左|右)侧中部"
)
_SIDE_ZH = re.compile(
    r"(?:图像|画面|影像|图中|图片|视野)?的?(?:偏|靠|最)?(?P<h>左|右)(?:侧|半|边|部|方|缘|面|三分之一|1/3)"
)
_LEVEL_ZH = re.compile(
    r"(?:图像|画面|影像|图片|视野)?的?(?:偏|靠|最)?(?P<v>上|下)(?:部|方|半|缘|侧|端|三分之一|1/3)|(?P<v2>顶|底)(?:部|端)"
)
_CENTER_ZH = re.compile(
    r"(?:图像|画面|影像|图片|视野)?(?:的)?(?:正)?(?:中央|(?<!其)中心|正中|中间)(?!静脉|凹|性|型|坏死|颜色|色素|灰度|较|偏|略)|中部(?!的肺)"
)


_JOINED = re.compile(r"(?:,| and|,? and|, as well as| as well as)? (?:the |a |an )?|[、和与及]|以及")
_ALL = re.compile(r"\b(?:both|all)\b|均|都|全部")


def place_faults(
    statement: Statement, language: Language, case: Case, subjects: Subjects, *, asked_of_patient: bool = False
) -> Iterator[tuple[str, str]]:
    """Yield check and reason for every place in a statement that is clearly not that of what is spoken of."""
    text = statement.text
    for mention in statement.mentions:  # a side in the name of a finding is no place
        if mention.said == "denied" or subjects.findings_of(mention):
            text = text[: mention.start] + "\ue000" * (mention.end - mention.start) + text[mention.end :]
    text, found = relation_faults(text, statement, language, case, subjects)
    yield from found
    about = subjects.of(statement)
    blanked = text

    def denied(match: re.Match[str]) -> bool:
        return said_at(statement, match.start(), match.end(), language) == "denied"

    for match in _PATIENT[language].finditer(text):
        side = _side(match)
        groups = _placed_by(match, text, statement, subjects) or [about]
        ok = all(any(_side_of_patient(one, case) == side for one in group) for group in groups)
        if ok == denied(match):
            yield "laterality", f"`{match[0]}` is not what is known of the patient's side"
        text = _blank(text, match)
    for match in _BILATERAL[language].finditer(text):
        if not denied(match):
            yield "laterality", f"`{match[0]}` is more than is known of the patient's sides"
    if asked_of_patient:
        for match in re.finditer(
            r"\b(left|right)\b(?!(?: hand)? (?:side|half|"
            r"part) of the image)(?<!image's left)(?<!image's right)|(?<!图像)(左|右)",
            text,
        ):
            side = "left" if match[0] in ("left", "左") else "right"
            if any(_side_of_patient(one, case) == side for one in about) == denied(match):
                yield "laterality", f"`{match[0]}` is not what is known of the patient's side"
        return
    for patterns, check in (((_GRID_EN, _GRID_ZH), "position"), ((_SIDE_EN, _SIDE_ZH), "side"),
                            ((_LEVEL_EN, _LEVEL_ZH), "position"), ((_CENTER_EN, _CENTER_ZH), "position")):  # fmt: skip
        for match in patterns[language == "zh"].finditer(text):
            groups = _placed_by(match, blanked, statement, subjects) or [about]
            if not any(groups):
                continue
            every = all if _ALL.search(statement.text[: match.start()]) else any
            holds = all(
                bool(boxes) and every(_lies(box, match, case) for box in boxes)
                for boxes in ([one.box for one in group if one.box] for group in groups)
            )
            if holds == denied(match):
                yield check, f"`{match[0].strip()}` is not where it is"
            text = _blank(text, match)


def _placed_by(match: re.Match[str], text: str, statement: Statement, subjects: Subjects) -> list[list[Finding]]:
    """Return what a place belongs to: the names joined right before it, or the name after it where it comes first.

    Of each name the findings that it may mean.
    """
    opens = max(text.rfind(",", 0, match.start()), text.rfind(":", 0, match.start())) + 1
    named = [
        (mention, found)
        for mention in statement.mentions
        if mention.said != "denied"
        and relation_at(statement.text, mention.start, mention.end, subjects.language) is None
        and (found := [one for one in subjects.findings_of(mention) if one in subjects.about])
    ]
    before = [(mention, found) for mention, found in named if mention.end <= match.start()]
    after = [found for mention, found in named if mention.start >= match.end()]
    if before and (before[-1][0].start >= opens or not after):
        joined = [before[-1][1]]
        for (one, found), (next_one, _) in zip(before[-2::-1], before[:0:-1], strict=True):
            if not _JOINED.fullmatch(statement.text[one.end : next_one.start]):
                break
            joined.append(found)
        return joined
    return after[:1]


def _side_of_patient(one: Finding, case: Case) -> str | None:
    """Return the patient's side that a finding is clearly on: by its name, or by a slice across the whole body.

    Here the centre decides; `side_of_patient`, which tells what a writer may say unasked, wants all of it there.
    """
    if side := own_side(one.label):
        return side
    if case.plane not in ("axial", "coronal") or not shows_whole_width(case) or one.label.en.lower() in MIDLINE:
        return None
    shown = {id(each): _half(each, case) for each in case.findings}
    if any((side := own_side(each.label)) and shown[id(each)] not in (None, side) for each in case.findings):
        return None  # the picture is turned, or the body
    return shown.get(id(one))


def _half(one: Finding, case: Case) -> str | None:
    """Return the patient's side that the centre of a finding is clearly on; slices show the right on the left."""
    if one.box is None:
        return None
    x = (one.box[0] + one.box[2]) / 2 / case.width
    return "right" if x <= 0.5 - OFF_MIDDLE else "left" if x >= 0.5 + OFF_MIDDLE else None


def _lies(box: Box, match: re.Match[str], case: Case) -> bool:
    """Say whether a box is about where a match of one of the patterns of places says."""
    x, y = (box[0] + box[2]) / 2 / case.width, (box[1] + box[3]) / 2 / case.height
    said = {name[0]: value for name, value in match.groupdict().items() if value}
    across, down = said.get("h", ""), said.get("v", "")
    words = match[0]
    half = (
        _CORNER
        if "corner" in words or "角" in words
        else _THIRD
        if "third" in words or "1/3" in words or "三分" in words
        else 0.5 + _MIDDLE
    )
    if not across and not down:
        return _CENTER[0] <= x <= _CENTER[1] and _CENTER[0] <= y <= _CENTER[1]
    if "方中部" in words:
        across = "middle"
    if "侧中部" in words:
        down = "middle"
    fine = True
    if across in ("left", "左"):
        fine &= x <= half
    elif across in ("right", "右"):
        fine &= x >= 1 - half
    elif across:
        fine &= _CENTER[0] <= x <= _CENTER[1]
    if down in ("upper", "top", "superior", "uppermost", "topmost", "上", "顶"):
        fine &= y <= half
    elif down in ("lower", "bottom", "inferior", "lowermost", "下", "底"):
        fine &= y >= 1 - half
    elif down:
        fine &= _CENTER[0] <= y <= _CENTER[1]
    return fine


def _side(match: re.Match[str]) -> str:
    word = next(value for value in match.groups() if value in ("left", "right", "左", "右"))
    return "left" if word in ("left", "左") else "right"


def _blank(text: str, match: re.Match[str]) -> str:
    return text[: match.start()] + "\ue000" * (match.end() - match.start()) + text[match.end() :]


def largest_or_smallest(text: str, about: Sequence[Finding], language: Language) -> list[Finding]:
    """Return of what is spoken of the one that a text calls the larger or the smaller, else all."""
    sized = [one for one in about if one.area_share is not None]
    big = r"\b(?:larger|largest|bigger|biggest)\b(?! than)" if language == "en" else "较大|最大(?!径)|更大"
    small = r"\b(?:smaller|smallest)\b(?! than)" if language == "en" else "较小|最小|更小"
    if len(sized) > 1 and re.search(big, text) and re.search(small, text):
        return list(about)
    if len(sized) > 1 and re.search(big, text):
        return [max(sized, key=lambda one: one.area_share or 0)]
    if len(sized) > 1 and re.search(small, text):
        return [min(sized, key=lambda one: one.area_share or 0)]
    return list(about)
