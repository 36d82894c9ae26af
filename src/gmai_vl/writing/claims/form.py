"""Holds a text against what any text must be: in its language, whole, of sane length, free of prompts and loops."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Literal

from gmai_vl.records import Case
from gmai_vl.vocabulary import Language
from gmai_vl.writing.claims.reading import names_of
from gmai_vl.writing.claims.words import pattern, patterns_of, plain_text
from gmai_vl.writing.markup import parse_boxes, share_box
from gmai_vl.writing.phrases import REGION_BEGINS

Role = Literal["caption", "region-caption", "answer", "question"]

MOST_WORDS = 300
"""Of one text; Chinese characters count as half a word."""

FEWEST_WORDS = 3
BOX_TOLERANCE = 0.0101

_CJK = re.compile(r"[\u3400-\u9fff]")
_LATIN_WORD = re.compile(r"[A-Za-zÀ-ÿ]{2,}")
_MARKUP = re.compile(r"</?(?:ref|box)>")
_BOX = re.compile(r"<box>[^<>]*</box>|</?ref>")
_LIST = re.compile(r"[^,，、]+(?:[,，、][^,，、]+){2,}")
_SENTENCE = re.compile(r"[^.!?。！？;；\n]+")
_ENDS = re.compile(r"[.!?。！？;；)）\]\"”’'>]\s*$")
_DANGLING = re.compile(
    r"\b(?:a|an|the|of|in|on|at|and|or|with|to|is|are|by|for|that|which|as|from|its|this)$|[,，、:：(（]$|(?<=.)[的和与在是为及或]$"
)

_COMMON = re.compile(
    r"\b(?:the|a|an|is|are|of|in|and|with|this|to|no|on|it|yes|there|that|be|can|these|here|visible|seen)\b",
    re.IGNORECASE,
)
_MAY_BE_LATIN = frozenset(
    {"ct", "mr", "mri", "oct", "pet", "mm", "cm", "he", "hcc", "covid", "sars", "cov", "rgb", "ii", "iii", "iv"}
)


def form_faults(text: str, role: Role, language: Language, case: Case) -> Iterator[tuple[str, str]]:
    """Yield check and reason for everything that is wrong with a text whatever it is about."""
    bare = _BOX.sub(" ", text)
    yield from _language(bare, language, case)
    for match in patterns_of("residue")[language].finditer(plain_text(_MARKUP.sub(" ", text))):
        yield "residue", f"`{match[0]}` speaks of the task"
    yield from _length(bare, role, language)
    yield from _repetition(bare, language)
    if role == "region-caption" and not text.startswith(REGION_BEGINS[language]):
        yield "begins", f"does not begin with `{REGION_BEGINS[language]}`"
    yield from _markup(text, language, case)


def _language(text: str, language: Language, case: Case) -> Iterator[tuple[str, str]]:
    if language == "en":
        if match := _CJK.search(text):
            yield "language", f"`{match[0]}` in an English text"
        latin = _LATIN_WORD.findall(text)
        if len(latin) >= 10 and text.count(",") * 6 < len(latin) and not _COMMON.search(text):
            yield "language", "reads as no English"
        foreign = sum(bool(re.search(r"[À-ÿ]", word)) for word in latin)
        if foreign * 8 > len(latin):
            yield "language", "reads as no English"
        return
    names = " ".join(
        name for label in (*case.label_set, *(f.label for f in case.findings)) for name in (label.zh or label.en,)
    )
    allowed = _MAY_BE_LATIN | {word.lower() for word in _LATIN_WORD.findall(names)}
    strange = [word for word in _LATIN_WORD.findall(text) if word.lower() not in allowed]
    if strange:
        yield "language", f"`{strange[0]}` in a Chinese text"
    if not _CJK.search(text) and not _LATIN_WORD.search(text) and not text.strip(" .。").isdecimal():
        yield "language", "is no Chinese"


def _length(text: str, role: Role, language: Language) -> Iterator[tuple[str, str]]:
    count = len(_CJK.findall(text)) / 2 + len(_LATIN_WORD.findall(text))
    if count > MOST_WORDS:
        yield "length", f"{count:.0f} words"
    is_caption = role in ("caption", "region-caption")
    if (is_caption and count < FEWEST_WORDS) or not text.strip():
        yield "length", "too short"
    is_sentence = count > 12 and pattern(language, "verb").search(text.lower())
    if ((is_caption or is_sentence) and not _ENDS.search(text)) or _DANGLING.search(text.strip()):
        yield "residue", "ends in the middle of a sentence"


def _repetition(text: str, language: Language) -> Iterator[tuple[str, str]]:
    sentences = [" ".join(sentence.lower().split()) for sentence in _SENTENCE.findall(text)]
    long = [sentence for sentence in sentences if len(sentence) > (5 if language == "zh" else 15)]
    twice = [sentence for sentence in long if long.count(sentence) > 1]
    if twice:
        yield "repetition", f"`{twice[0][:60]}` stands twice"
        return
    units = _CJK.findall(text) if language == "zh" else re.findall(r"\w+", text.lower())
    for size, times in ((16, 2), (8, 3), (6, 4)) if language == "zh" else ((14, 2), (6, 4), (4, 6)):
        runs = Counter(tuple(units[index : index + size]) for index in range(len(units) - size + 1))
        for run, count in runs.most_common(1):
            if count >= times:
                yield "repetition", f"`{('' if language == 'zh' else ' ').join(run)}` stands {count} times"
                return
    for one, two, three in zip(units, units[1:], units[2:], strict=False):
        if one == two == three:
            yield "repetition", f"`{one}` three times in a row"
            return


def _markup(text: str, language: Language, case: Case) -> Iterator[tuple[str, str]]:
    if "<" not in text and ">" not in text and "[[" not in text:
        return
    found = parse_boxes(text)
    boxes = len(re.findall(r"\[\s*[-\d.]+\s*(?:,\s*[-\d.]+\s*)*\]", text))
    pairs_closed = all(text.count(f"<{tag}>") == text.count(f"</{tag}>") for tag in ("ref", "box"))
    strange = re.sub(r"</?(?:ref|box)>", "", text)
    if not pairs_closed or len(found) != boxes or not found or "<" in strange or ">" in strange:
        yield "markup", "is not well formed"
        return
    if text.count("<ref>") != text.count("<box>"):
        yield "markup", "a name without its box, or a box without its name"
    for label, shares in found:
        own = [
            finding
            for finding in case.findings
            if finding.box and (label is None or plain_text(label) in names_of(finding.label, language))
        ]
        true = [share_box(finding.box, case.width, case.height) for finding in own if finding.box]
        if not any(
            all(abs(said - right) <= BOX_TOLERANCE for said, right in zip(shares, one, strict=True)) for one in true
        ):
            yield "markup", f"the box {list(shares)} is not that of `{label}`"
