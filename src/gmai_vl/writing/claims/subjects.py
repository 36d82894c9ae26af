"""Whom a statement is about: what it names and does not only compare with, what was named last, or all spoken of."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from gmai_vl.records import Finding
from gmai_vl.vocabulary import Language
from gmai_vl.writing.claims.labels import means
from gmai_vl.writing.claims.reading import Mention, Statement

_RELATION_EN = (
    (re.compile(r"\b(left|right)(?: hand)?(?: side)? (?:of|from) (?:the |a |an |this |that )?$"), "side"),
    (
        re.compile(
            r"\b(above|superior to|cranial to|higher(?: \w+){0,3} than|on top of|over|cephalad to) (?:the |a |an )?$"
        ),
        "above",
    ),
    (
        re.compile(
            r"\b(below|beneath|under|underneath|inferior to|caudal to|lower(?: \w+){0,3} than) (?:the |a |an )?$"
        ),
        "below",
    ),
    (re.compile(r"\b(anterior to|in front of|ventral to) (?:the |a |an )?$"), "anterior"),
    (re.compile(r"\b(posterior to|behind|dorsal to) (?:the |a |an )?$"), "posterior"),
    (
        re.compile(
            r"\b(?:inside|within|surrounded by|enclosed by|enclosed in|contained (?:in|within)) (?:the |a |an )?$"
        ),
        "inside",
    ),
    (re.compile(r"\b(?:surrounds|surrounding|encloses|encircles|enclosing) (?:the |a |an )?$"), "surrounds"),
    (re.compile(r"\b(?:overlaps|overlapping|overlap)(?: with)? (?:the |a |an )?$"), "overlaps"),
    (re.compile(r"\b(?:touching|touches|touch|in contact with|abuts|abutting) (?:the |a |an )?$"), "touches"),
    (
        re.compile(
            r"\b(?:(?:larger|bigger|greater|wider)(?: \w+){0,3} than|exceeds?) (?:both |the |a |an |that of the )*$"
        ),
        "larger",
    ),
    (re.compile(r"\b(?:outnumber\w*|more numerous than|there (?:more|are more) [^,]+ than) (?:the )?$"), "more"),
    (
        re.compile(r"\b(?:(?:fewer|less numerous) (?:in number )?|there (?:fewer|are fewer) [^,]+ )than (?:the )?$"),
        "fewer",
    ),
    (re.compile(r"\bsmaller(?: \w+){0,3} than (?:both |the |a |an |that of the )*$"), "smaller"),
    (re.compile(r"\b(?:the same size as|as large as|equal in size to) (?:the |a |an )?$"), "equal"),
)
_RELATION_ZH = (
    (re.compile(r"^(?:的)?(左|右)(?:侧|方|边|面)"), "side"),
    (re.compile(r"^(?:的)?(?:正)?(上)(?:方|侧|面)"), "above"),
    (re.compile(r"^(?:的)?(?:正)?(下)(?:方|侧|面)"), "below"),
    (re.compile(r"^(?:的)?(前)(?:方|侧|面)"), "anterior"),
    (re.compile(r"^(?:的)?(后)(?:方|侧|面)"), "posterior"),
    (re.compile(r"^(?:的)?(?:内部|之内|里面|内(?!侧))"), "inside"),
    (re.compile(r"^(?:更|要|明显|略|稍)*靠近?(?:图像|画面)?的?(左|右)(?:侧|边)"), "further"),
    (re.compile(r"^(?:的?位置)?(?:更|要|明显|略|稍)*(?:高|靠上)"), "higher"),
    (re.compile(r"^(?:的?位置)?(?:更|要|明显|略|稍)*(?:低|靠下)"), "lower"),
    (re.compile(r"^(?:更|要|明显|略|稍)*大(?!小)"), "larger"),
    (re.compile(r"^(?:更|要|明显|略|稍)*小"), "smaller"),
    (re.compile(r"^(?:更|要|明显|略|稍)*多"), "more"),
    (re.compile(r"^(?:更|要|明显|略|稍)*少"), "fewer"),
    (re.compile(r"^(?:相接|接触|相连)"), "touches"),
    (re.compile(r"^(?:部分)?重叠"), "overlaps"),
    (re.compile(r"^(?:所)?(?:包绕|包围|环绕)"), "inside"),
)
_BEFORE_ZH = re.compile(r"(?:位于|在|于|居|处于|比|较|与|和|跟|被|由|为|靠)$")


def relation_at(text: str, start: int, end: int, language: Language) -> tuple[int, int, str, str] | None:
    """Return start, end, kind and word of the relation to the name at a place of a text; None if there is none."""
    if language == "en":
        for pattern, kind in _RELATION_EN:
            if match := pattern.search(text[:start]):
                return match.start(), end, kind, match[1] if match.groups() else ""
        return None
    for word, kind in (("大于", "larger"), ("小于", "smaller"), ("多于", "more"), ("少于", "fewer")):
        if text[:start].endswith(word):
            return start - len(word), end, kind, ""
    for pattern, kind in _RELATION_ZH:
        match = pattern.search(text[end:])
        before = _BEFORE_ZH.search(text[:start])
        if match and (before or (kind in ("side", "above", "below") and start <= 1)):
            return (before.start() if before else start), end + match.end(), kind, match[1] if match.groups() else ""
    return None


@dataclass
class Subjects:
    """The findings spoken of, from one statement to the next."""

    language: Language
    known: Sequence[Finding]
    """All findings of the case, as a text may place one by another."""

    about: Sequence[Finding]
    """The findings that the text is about."""

    before: list[Finding] = field(default_factory=list)
    """Those of the statements so far that named any, the last of them."""

    def findings_of(self, mention: Mention) -> list[Finding]:
        """Return the findings that a name may mean: not those that only lie in what it names."""
        return [one for one in self.known if means(mention, one.label, self.language)]

    def of(self, statement: Statement) -> list[Finding]:
        """Return the findings that a statement is about."""
        named = [
            one
            for mention in statement.mentions
            if mention.said != "denied"
            and relation_at(statement.text, mention.start, mention.end, self.language) is None
            for one in self.findings_of(mention)
            if one in self.about
        ]
        return list({id(one): one for one in named}.values()) or self.before or list(self.about)

    def go_on(self, statement: Statement) -> None:
        """Remember whom a statement named."""
        self.before = self.of(statement)
