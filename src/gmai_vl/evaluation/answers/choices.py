"""Which option a response chooses: mentions of letters and option texts, each asserted or rejected."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from gmai_vl.evaluation.answers.wording import (
    conclusions,
    corrected,
    first_statement,
    only_disclaims,
    plain,
    refuses,
    tagged_answers,
    without_questions,
    words,
)

_NOT_BEFORE = re.compile(
    r"(?:\b(?:not|no|never|neither|nor|without|rather\s+than|instead\s+of|except|excepting|other\s+than|unlike|cannot|excludes?|excluding"
    r"|rules?\s+out|ruled\s+out|ruling\s+out)|n't)\s+"
    r"(?:(?:an?|the|option|choice|answer|be|is|for|show|shows|likely|consistent|with|of|any|evidence|signs?|really|either|both|choose|pick|select|go|say)\s+){0,5}[(\[\"']*\Z"
    r"|(?:不应该选|不应选|不能选|不可选|不宜选|不会选|不选|不考虑|不支持|不像|不是|并非|而非|非|不属于|不符合|不|没有|没|无|未见|未|排除|除了|除)(?:选项|选择|选|是|有|见)?\s*[(\[\"']*\Z",
    re.I,
)
_NOT_AFTER = re.compile(
    r"[)\]\"'\s]*(?:(?:is|are|was|would\s+be|can\s+be|could\s+be|seems?|looks?)\s+)?(?:\w+ly\s+)?"
    r"(?:not\b|isn't|aren't|cannot|can't|wrong\b|incorrect\b|false\b|ruled\s+out|excluded|unlikely|less\s+likely|does\s+not|doesn't)"
    r"|[)\]\"'\s]*(?:选项|项)?\s*(?:均|都|皆|也)?(?:是)?(?:不正确|不对|不符合|不支持|未见|不是|错误|错|可以排除|可排除|被排除|应排除|排除)",
    re.I,
)
_JOINED = re.compile(
    r"[)\]\"'\s]*(?:,|/|&|、|;|\+|,?\s*\b(?:and|or|nor)\b|或者|或|和|与|及)?(?:\s*(?:option|选项))?[(\[\"'\s]*\Z", re.I
)

# A letter by itself: no part of a word, a number, "X-ray", "I'm", "e.g.".
_LETTER = re.compile(
    r"(?<![A-Za-z0-9])(?<![A-Za-z][-'.])([A-Za-z])(?![A-Za-z0-9])(?![-'][A-Za-z])(?!\.[A-Za-z](?![A-Za-z]))"
)
_LED = re.compile(
    r"(?:\b(?:answer|option|choice|letter|choose|chose|choosing|pick|picked|select|selected|selecting|with|is|be|was|say"
    r"|but|are|both|either|neither|between|probably|likely|possibly|maybe|perhaps|definitely|certainly|surely)|'s|[:=]|->|=>"
    r"|选项|选择|选|答案|而是|是|为|应为|可能|大概)\s*[\"'(\[]*\Z",
    re.I,
)
_ENDS = re.compile(
    r"\Z|[ \t]*[^\w\s]|[ \t]*\n|\s*[\u4e00-\u9fff]"
    r"|\s+(?:here|is|are|because|since|as|and|or|not|but|due|based|rather|instead|for|seems|looks|would|which|the|this|it|there)\b",
    re.I,
)
_CHINESE_TERM = re.compile(r"\s*(?:型|级|期|类|组|超|区|段|点|线|峰|波|环|族|链|酶|肝|细胞|淋巴|二聚)")
"""Behind a letter: it is part of a term, such as 乙型, A型血, B超, T波, and names no option."""

_ABOUT = re.compile(r"\s*(?:选项|项)|\s+(?:is|are|was|would|usually|can|could|may|might|shows?|has|have|does)\b", re.I)
"""Behind a letter that opens a response: something is said about the option, it is not yet chosen."""

_RIGHT = re.compile(
    r"\s*(?:is|are|seems|looks)\s+(?:the\s+)?(?:\w+ly\s+)?(?:correct|right|answer|best|most)\b"
    r"|\s*(?:选项|项)?(?:是)?(?:正确|对)",
    re.I,
)
_VERDICT = re.compile(
    r"^\W*(?:option|选项)?\s*([A-Z])\b.*?(?:(?<![A-Za-z不])(correct|right|yes|true|正确|对|符合|[✓✔√✅])"
    r"|(?<![A-Za-z])(incorrect|wrong|no|false|excluded|错误|错|不正确|不对|不符合|排除|[✗✘×❌]))[^\w✓✔√✅✗✘×❌]*$",
    re.I | re.M,
)
"""A line about one option that ends in its verdict."""

_PRAISED = re.compile(
    r"[)\]\"'\s]*(?:\s(?:is|are|seems|looks)\s+(?:the\s+)?(?:\w+ly\s+)?(?:correct|right|answer|best|most)\b|\s+(?:remains|is\s+left|is\s+the\s+only)\b|选项|项|(?:是)?正确|(?:是)?对)",
    re.I,
)


@dataclass(frozen=True, slots=True)
class _Mention:
    """An option spoken of at text[start:end]."""

    letter: str
    start: int
    end: int
    by_letter: bool
    rejected: bool = False


def choice_of(options: Mapping[str, str], response: str) -> str | None:
    """Return the letter of the one option that `response` chooses; None if it chooses none or several."""
    text = plain(response)
    chosen = {_choice_in(options, corrected(part)) for part in tagged_answers(text) or [text]}
    letter = chosen.pop()
    return letter if letter in options and not chosen else None


def _choice_in(options: Mapping[str, str], text: str) -> str | None:
    bare = set(re.findall(r"[^\W_]+", text.upper()))  # a model without an end repeats its letter
    if len(bare) == 1 and bare <= options.keys():
        return bare.pop()
    if verbatim := {letter for letter, option in options.items() if words(option) and words(option) == words(text)}:
        return _only(verbatim)

    patterns = _text_patterns(options)
    whole, text = text, _without_list(options, text)
    opening = first_statement(text)
    led = [mention for mention in _mentions(options, patterns, opening) if mention.by_letter]
    fallen = _fallen(_mentions(options, patterns, text))
    leads = (
        bool(led)
        and not _lists_options(options, text)
        and (not _ABOUT.match(opening[led[0].end :]) or _RIGHT.match(opening[led[0].end :]) is not None)
        and re.fullmatch(r"\W*(?:option|choice|letter|选项|选)?\W*", opening[: led[0].start], re.I) is not None
    )
    stated = [_asserted(_mentions(options, patterns, statement)) for statement in conclusions(text)]
    if not any(stated) and (verdict := _by_verdicts(options, whole)):
        return verdict
    if leads:
        stated.append(_asserted(led))
    lines = text.splitlines()
    alone = all(len(re.sub(r"[\W_]", "", line)) <= 1 for line in lines)
    if len(lines) > 1 and not alone and len(last := re.sub(r"[\W_]", "", lines[-1])) == 1 and last.upper() in options:
        stated.append({last.upper()})
    if any(stated):
        return _only(letter for letters in stated for letter in letters - fallen)
    if refuses(text):
        # An option may itself say that nothing can be told.
        undecided = [(letter, pattern) for letter, pattern in patterns if refuses(plain(options[letter]))]
        if told := {letter for letter, pattern in undecided if pattern.search(text)}:
            return _only(told)
        if not only_disclaims(text):
            return None
    return _only(_asserted(_mentions(options, patterns, without_questions(text))))


def _by_verdicts(options: Mapping[str, str], text: str) -> str | None:
    """Return the one option that a list of verdicts, a line each, finds right; None where there is no such list."""
    verdicts = {match[1].upper(): match[2] is not None for match in _VERDICT.finditer(text)}
    right = [letter for letter, is_right in verdicts.items() if is_right and letter in options]
    return right[0] if len(verdicts) > 1 and len(right) == 1 else None


def _only(letters: Iterable[str]) -> str | None:
    distinct = set(letters)
    return distinct.pop() if len(distinct) == 1 else None


def _asserted(mentions: list[_Mention]) -> set[str]:
    """Return the letters asserted; texts count only where no letter is named: explanations speak of other options."""
    fallen = _fallen(mentions)
    denied = {one.letter for one in mentions if one.rejected and one.by_letter}
    asserted = [
        one
        for one in mentions
        if not one.rejected and one.letter not in fallen and (one.by_letter or one.letter not in denied)
    ]
    return {mention.letter for mention in asserted if mention.by_letter} or {mention.letter for mention in asserted}


def _fallen(mentions: list[_Mention]) -> set[str]:
    """Return the options that what is said last of them rejects."""
    last = {mention.letter: mention for mention in mentions}
    return {letter for letter, mention in last.items() if mention.rejected}


def _lists_options(options: Mapping[str, str], text: str) -> bool:
    """Say whether a text goes through the options, several lines of one each: none of them is chosen by that."""
    begun = {match[1].upper() for match in re.finditer(r"^\W*([A-Z])\b", text, re.M | re.I)}
    return len(begun & options.keys()) > 1


def _text_patterns(options: Mapping[str, str]) -> list[tuple[str, re.Pattern[str]]]:
    """Return (letter, pattern) of every option text: whole words, without an "A." or article in front."""
    found = []
    for letter, option in options.items():
        text = re.sub(rf"\A\s*\(?{letter}\s*[.):]\s*(?=\S)", "", plain(option))
        text = re.sub(r"\A(?:an?|the)\s+(?=\S)|[.。\s]+\Z", "", text, flags=re.I)
        if not text:
            continue
        body = r"\s+".join(map(re.escape, text.split()))
        before = r"(?<![A-Za-z0-9-])(?<![0-9][.,/])" if text[0].isascii() and text[0].isalnum() else ""
        after = r"(?![A-Za-z0-9])(?![.,/][0-9])" if text[-1].isascii() and text[-1].isalnum() else ""
        found.append((letter, re.compile(before + body + after, re.I)))
    return found


def _without_list(options: Mapping[str, str], text: str) -> str:
    """Leave out a repetition of the options: all letters and texts in order, or several lines of one option each."""
    if len(options) < 2:
        return text
    items = [rf"\(?{letter}\W{{1,4}}{re.escape(plain(option))}" for letter, option in options.items()]
    text = re.sub(r"\W{1,4}".join(items), "", text, flags=re.I)
    item = re.compile(rf"\W{{0,4}}(?:{'|'.join(items)})\W{{0,4}}", re.I)
    lines = text.splitlines()
    kept = [line for line in lines if not item.fullmatch(line)]
    return "\n".join(kept if len(lines) - len(kept) > 1 else lines).strip()


def _mentions(options: Mapping[str, str], patterns: list[tuple[str, re.Pattern[str]]], text: str) -> list[_Mention]:
    """Return the options that `text` speaks of, in order. A letter with an option text right behind it is one mention.

    Where the two disagree both are returned as letters, so that the disagreement shows.
    """
    texts = _text_mentions(patterns, text)
    letters = _letter_mentions(options, texts, text)
    merged, used = [], set()
    for letter in letters:
        same_place = _right_behind(texts, text, letter.end)
        end = letter.end
        for other in same_place:
            used.add(other)
            end = max(end, other.end)
        same_place = [other for other in same_place if not _is_next_sentence(letter, other, text)]
        names = {other.letter for other in same_place}
        named = {letter.letter} if not names or letter.letter in names else {letter.letter, *names}
        merged += [_Mention(name, letter.start, end, True) for name in sorted(named)]
    merged += [other for other in texts if other not in used]
    return _with_rejections(sorted(merged, key=lambda mention: mention.start), text)


def _is_next_sentence(letter: _Mention, other: _Mention, text: str) -> bool:
    """Say whether an option's text behind another's letter begins a sentence of its own ("A. Gout would swell")."""
    between = text[letter.end : other.start]
    goes_on = re.match(r"\s+[a-z]|\s*[\u4e00-\u9fff]", text[other.end :]) is not None
    return letter.letter != other.letter and goes_on and re.fullmatch(r"[.。]\s*", between) is not None


def _with_rejections(mentions: list[_Mention], text: str) -> list[_Mention]:
    judged: list[_Mention] = []
    for mention in mentions:
        before, after = text[max(0, mention.start - 80) : mention.start], text[mention.end :]
        rejected = bool(_NOT_BEFORE.search(before) or _NOT_AFTER.match(after))
        if judged and judged[-1].rejected and mention.start >= judged[-1].end:
            # "neither A nor B", "not A or B": the denial holds for the whole list
            rejected = rejected or bool(_JOINED.match(text[judged[-1].end : mention.start]))
        judged.append(replace(mention, rejected=rejected))
    behind = False
    for place in range(len(judged) - 1, 0, -1):
        # "A and D can be excluded": what is said behind a list is said of all of it
        one, other = judged[place - 1], judged[place]
        behind = other.rejected and (behind or _NOT_AFTER.match(text[other.end :]) is not None)
        behind = behind and one.end <= other.start and _JOINED.match(text[one.end : other.start]) is not None
        if behind:
            judged[place - 1] = replace(one, rejected=True)
    return judged


def _text_mentions(patterns: list[tuple[str, re.Pattern[str]]], text: str) -> list[_Mention]:
    """Find option texts; one inside a longer one is not a mention of its own, two equal texts are both mentioned."""
    found = [_Mention(letter, *match.span(), False) for letter, pattern in patterns for match in pattern.finditer(text)]
    kept: list[_Mention] = []
    for mention in sorted(found, key=lambda mention: (mention.start, -mention.end)):
        widest = kept[-1] if kept else mention
        if mention.end > widest.end or (mention.start, mention.end) == (widest.start, widest.end):
            kept.append(mention)
    return kept


def _letter_mentions(options: Mapping[str, str], texts: list[_Mention], text: str) -> list[_Mention]:
    """Find letters that stand for an option: bracketed, behind a cue, at the start, praised, or joined to one.

    The article "a", the pronoun "I" and letters of ordinary text ("hepatitis B", "T cells") are none of these.
    """
    found: list[_Mention] = []
    for match in _LETTER.finditer(text):
        start, end = match.span()
        letter = match[1].upper()
        genus = letter not in options and re.match(r"\.\s?[a-z]", text[end:]) is not None  # "E. histolytica"
        if genus or _CHINESE_TERM.match(text[end:]):
            continue
        if any(other.start <= start < other.end and other.end - other.start > 1 for other in _up_to(texts, start)[-1:]):
            continue  # a letter of an option's text
        before, after = text[max(0, start - 40) : start], text[end:]
        article = match[1] == "a" and re.match(r"\s+\w", after) is not None
        has_own_text = not article and any(other.letter == letter for other in _right_behind(texts, text, end))
        ends = has_own_text or (
            (_ENDS.match(after) or _NOT_AFTER.match(after)) is not None
            and not (letter == "I" and re.match(r"\s*,|\s+\w", after))
        )
        bracketed = re.search(r"(?:\A|[^A-Za-z0-9])[(\[{\"']\s*\Z", before) and re.match(r"\s*[)\]}\"']", after)
        joined = found and start >= found[-1].end and _JOINED.match(text[found[-1].end : start])
        listed = found and re.match(r"\s*[:)]", after)
        named = ends and (joined or listed or _LED.search(before) or _stands_first(text, start, has_own_text))
        # a letter beyond the options counts only where it stands as the answer: then nothing else is
        beyond = letter not in options and (bracketed or not named or match[1].islower())
        if (bracketed or named or _PRAISED.match(after)) and not beyond:
            found.append(_Mention(letter, start, end, True))
    return found


def _up_to(texts: list[_Mention], place: int) -> list[_Mention]:
    """Return the option texts that begin at `place` or before it."""
    return texts[: bisect_right(texts, place, key=lambda mention: mention.start)]


def _right_behind(texts: list[_Mention], text: str, end: int) -> list[_Mention]:
    """Return the option texts that begin behind text[:end] with nothing but a few marks between."""
    return [
        other
        for other in _up_to(texts, end + 8)[-9:]
        if other.start >= end and not re.search(r"\w", text[end : other.start])
    ]


def _stands_first(text: str, start: int, has_own_text: bool) -> bool:
    """Say whether the letter at `start` opens the text or a line, or is a sentence of its own."""
    before = re.search(r"(?:\A|[\n.!?。;])[^\w\n.!?。;]*\Z", text[:start])
    if before is None:
        return False
    return (
        before[0][:1] not in tuple(".!?。;") or has_own_text or re.match(r"\W*(?:\Z|\n)", text[start + 1 :]) is not None
    )
