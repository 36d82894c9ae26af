"""`medevalkit`: MedEvalKit without a judge (alibaba-damo-academy/MedEvalKit 9b12e3b3).

*What is read.* In lower case: where the word "boxed" occurs, what the last `\\boxed{}` holds, or "None" where there is
no such box; else what `<answer>` tags hold, joined; of that what follows the last cue of `_CUES`, blanks included.
Closed and open answers are unwrapped from a box, or else from tags, before that as well.

*Multiple choice.* First the first paragraph if it is just a letter, or the last if it is one up to its first dot. Then
what is read, without newlines and blanks around it, up to its first dot, and of that what is behind the last colon,
blanks included, so that "Choice: B" is no letter. It answers where it is a letter or an option's text. Otherwise the
option most similar to all that is read is forced, for refusals and empty responses too; the first of equals, and where
nothing is similar the first. A letter is right as well where its option's text is the gold letter. Options carry labels
in some sets (`_LABELS`), so that a text alone never equals one; PMC-VQA's are those of its cells, taken as " B: text ".
In OmniMedVQA and MedXpertQA tags come before boxes; of OmniMedVQA's options that have the gold text the last is right.

*Closed.* Gold yes or no: right where it is the only one of the two that occurs in what is read, inside words too
("normal" and "not" hold "no"), dots and newlines removed. Any other gold: as for open answers, but in SLAKE the
response loses dots and newlines and keeps its blanks. SLAKE's "Yes" and "No" are not lower-cased before they are looked
at, so they are another gold.

*Open.* Right where what is read equals the gold answer, case apart, and, but for SLAKE, blanks around the response
and the gold answer; a blank behind a cue stays and is a difference. The credit is what the reference calls F1: it
unpacks F1, precision and recall as precision, recall and F1, so this is the recall, the share of the gold answer's
words that occur, each counted once. Words are what blanks part, so that "lung." is not "lung". Without words on either
side the reference stops with an error; that is 0 here.

*MMMU.* Unwrapped from tags, then from a box, without blanks around it, as `mmmu` with the same seed; a box that is not
closed leaves "None". Open questions are never right: on the validation split the response goes to a judge that expects
a list, and takes its characters for one.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from random import Random

from gmai_vl.evaluation.protocols.mmmu import SEED, found_or_drawn, letter_in
from gmai_vl.evaluation.protocols.protocol import (
    Protocol,
    Rule,
    Verdict,
    chosen,
    is_of,
    judge_each,
    options_of,
)
from gmai_vl.evaluation.protocols.tokens import contained_yes_no, most_similar, overlap
from gmai_vl.evaluation.question import Question
from gmai_vl.records import Kind

_CUES = ("**answer**:", "**answer**", "*answer*:", "**answer:**", "answer is", "answer:", "答案:", "final answer")
_LABELS = {"omnimedvqa": "{}. {}", "medxpertqa": "{}. {}", "pmc-vqa": " {}: {} "}
_TAGS_FIRST = ("omnimedvqa", "medxpertqa")
_BOX = "\\boxed{"
_NO_BOX = "None"
_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.S)


def _choice(generator: Random, question: Question, response: str) -> Verdict:
    if is_of(question, "mmmu"):
        return found_or_drawn(question, letter_in(options_of(question), _of_mmmu(response)), generator)
    texts = _texts(question)
    letters = {letter.lower(): letter for letter in texts}
    gold = _gold(question)
    if any(is_of(question, name) for name in _TAGS_FIRST):
        response = _untagged(response)
    read = _read(_paragraph(response.lower(), letters)).strip().lower().replace("\n", "")
    said = read.partition(".")[0].rpartition(":")[2]
    if said in letters:
        return _meant(question, letters[said], gold, texts)
    if equal := [letter for letter, text in texts.items() if text == said]:
        return _meant(question, gold if gold in equal else equal[0], gold, texts)
    letter, _ = most_similar(texts, read)
    return replace(_meant(question, letter, gold, texts), unparsed=True, guessed=True)


def _gold(question: Question) -> str:
    """Return the letter that is right: in OmniMedVQA the last option that has the gold text."""
    options = options_of(question)
    if not is_of(question, "omnimedvqa"):
        return question.reference
    return max(letter for letter, text in options.items() if text == options[question.reference])


def _texts(question: Question) -> dict[str, str]:
    """Return letter -> the text that a response is compared with."""
    label = next((form for name, form in _LABELS.items() if is_of(question, name)), "{1}")
    return {letter: label.format(letter, text).lower() for letter, text in options_of(question).items()}


def _paragraph(response: str, letters: Mapping[str, str]) -> str:
    """Return the first or the last paragraph of a lower-cased response if that is a letter, or the response."""
    paragraphs = response.split("\n\n")
    candidates = (paragraphs[0], paragraphs[-1].partition(".")[0])
    return next((candidate for candidate in candidates if candidate in letters), response)


def _meant(question: Question, letter: str, gold: str, texts: Mapping[str, str]) -> Verdict:
    right = letter == gold or texts[letter] == gold.lower()
    return replace(chosen(question, letter), correct=right, credit=float(right))


def _read(response: str) -> str:
    response = response.lower()
    if "boxed" in response:
        boxed = _boxed(response)
        response = _NO_BOX if boxed is None else boxed
    else:
        response = _untagged(response)
    start = max((response.rfind(cue) + len(cue) for cue in _CUES if cue in response), default=0)
    return response[start:]


def _boxed(response: str) -> str | None:
    """Return what the last box holds, to the brace that closes it; None where it is not closed or there is none."""
    content = response.rpartition(_BOX)[2] if _BOX in response else ""
    depth = 1
    for place, character in enumerate(content):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if not depth:
            return content[:place].strip()
    return None


def _untagged(response: str) -> str:
    return " ".join(_TAGGED.findall(response)).strip() or response


def _unwrapped(response: str) -> str:
    boxed = _boxed(response)
    return _untagged(response) if boxed is None else boxed


def _of_mmmu(response: str) -> str:
    response = _untagged(response)
    boxed = _boxed(response)
    if boxed is None and "\\boxed" in response and "<answer>" not in response:
        return _NO_BOX
    return (response if boxed is None else boxed).strip()


def _closed(question: Question, response: str) -> Verdict:
    of_slake = is_of(question, "slake")
    gold = question.reference if of_slake else question.reference.lower()
    read = _read(_unwrapped(response)).replace(".", "").replace("\n", "")
    if gold in ("yes", "no"):
        found = contained_yes_no(read)
        choice = found.pop() if len(found) == 1 else None
        correct = choice == gold
        return Verdict(
            correct=correct, unparsed=choice is None, choice=choice, text=choice or "", credit=float(correct)
        )
    if not of_slake:
        verdict = _open(question, response)
        return replace(verdict, credit=float(verdict.correct))
    correct = read == gold.lower()
    return Verdict(correct=correct, unparsed=not read, choice=None, text=read, credit=float(correct))


def _open(question: Question, response: str) -> Verdict:
    gold, response = question.reference.lower(), _unwrapped(response)
    if not is_of(question, "slake"):
        gold, response = gold.strip(), response.strip()
    read = _read(response)
    if is_of(question, "mmmu"):
        return Verdict(correct=False, unparsed=not read, choice=None, text=read, credit=0.0)
    recall = overlap(set(read.split()), set(gold.split())).recall
    return Verdict(correct=read == gold, unparsed=not read, choice=None, text=read, credit=recall)


def _judge(questions: Sequence[Question], responses: Mapping[str, str]) -> list[Verdict]:
    rules: dict[Kind, Rule] = {"mcq": partial(_choice, Random(SEED)), "closed": _closed, "open": _open}
    return judge_each(rules, questions, responses)


MEDEVALKIT = Protocol(
    name="medevalkit",
    source="alibaba-damo-academy/MedEvalKit 9b12e3b3",
    kinds=("mcq", "closed", "open"),
    about="MedEvalKit without a judge: always yields a letter; yes and no inside words; open by equality and words",
    judge=_judge,
)
