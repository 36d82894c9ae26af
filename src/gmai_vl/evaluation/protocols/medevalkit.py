"""`medevalkit`: MedEvalKit without a judge (alibaba-damo-academy/MedEvalKit 9b12e3b3).

*Multiple choice.* In lower case: the first or the last paragraph if it is just a letter; what `\\boxed{}` or `<answer>`
holds; what follows the last cue of `_CUES`; of that what is before the first dot, and behind the last colon. It
answers where it is the gold letter, a letter, or an option's text. Otherwise the most similar option is forced, for
refusals and empty responses too; where nothing is similar that is taken as the first option. In OmniMedVQA the texts
are compared as "B. text", so that a text alone never equals one.

*Closed.* Gold yes or no: right where it is the only one of the two that occurs, inside words too ("normal" and "not"
hold "no"). Any other gold: equal, dots and newlines removed, and taken as case apart. SLAKE's "Yes" and "No" are not
lower-cased before they are looked at, so they are another gold.

*Open.* Right where equal, taken as above. The credit is what the reference calls F1: it unpacks F1, precision and
recall as precision, recall and F1, so this is the recall, the share of the gold answer's words that occur, each
counted once. Words are taken as what blanks part, without dots. Without words on either side the reference stops with
an error; that is 0 here.

*MMMU.* The rules of `mmmu` behind the same unwrapping, taken as for open answers and MMMU-Pro too, with the same seed.
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from random import Random

from gmai_vl.evaluation.protocols.mmmu import SEED, found_or_drawn, letter_in
from gmai_vl.evaluation.protocols.mmmu_open import judge_open
from gmai_vl.evaluation.protocols.protocol import Protocol, Rule, Verdict, chosen, judge_each, options_of
from gmai_vl.evaluation.protocols.tokens import contained_yes_no, most_similar, overlap
from gmai_vl.evaluation.question import Question
from gmai_vl.records import Kind

_CUES = ("answer is", "answer:", "final answer", "答案:", "答案：", "答案是")
_WRAPPED = re.compile(r"\\boxed\{(.*?)\}|<answer>(.*?)</answer>", re.S)  # to the first closing brace, nested or not
_BETWEEN_PARAGRAPHS = re.compile(r"\n\s*\n")


def _choice(generator: Random, question: Question, response: str) -> Verdict:
    if _is_of(question, "mmmu"):
        return found_or_drawn(question, letter_in(options_of(question), _unwrapped(response)), generator)
    texts = {letter: text.lower() for letter, text in options_of(question).items()}
    if _is_of(question, "omnimedvqa"):
        texts = {letter: f"{letter.lower()}. {text}" for letter, text in texts.items()}
    said = _stated(response.lower(), {letter.lower() for letter in texts})
    if said.upper() in texts:
        return chosen(question, said.upper())
    if said == texts[question.reference]:
        return chosen(question, question.reference)
    if equal := [letter for letter, text in texts.items() if text == said]:
        return chosen(question, equal[0])
    return chosen(question, most_similar(texts, said)[0], unparsed=True, guessed=True)


def _stated(response: str, letters: set[str]) -> str:
    """Return the part of a lower-cased response that is taken for its answer."""
    paragraphs = [paragraph.strip() for paragraph in _BETWEEN_PARAGRAPHS.split(response.strip())]
    for paragraph in (paragraphs[0], paragraphs[-1]):
        if paragraph in letters:
            return paragraph
    response = _unwrapped(response)
    start = max((response.rfind(cue) + len(cue) for cue in _CUES if cue in response), default=0)
    return response[start:].partition(".")[0].rpartition(":")[2].strip()


def _unwrapped(response: str) -> str:
    found = _WRAPPED.search(response)
    return (found[1] or found[2] or "") if found else response


def _is_of(question: Question, benchmark: str) -> bool:
    """Say whether a question is of the benchmark: its source or its id begins with that name."""
    return any(name.lower().startswith(benchmark) for name in (question.source, question.id))


def _closed(question: Question, response: str) -> Verdict:
    gold = question.reference if _is_of(question, "slake") else question.reference.lower()
    if gold not in ("yes", "no"):
        return _equal(question, response)
    found = contained_yes_no(response.lower())
    choice = found.pop() if len(found) == 1 else None
    correct = choice == gold
    return Verdict(correct=correct, unparsed=choice is None, choice=choice, text=choice or "", credit=float(correct))


def _equal(question: Question, response: str, credit: float | None = None) -> Verdict:
    text = _cleaned(response)
    correct = text == _cleaned(question.reference)
    credit = float(correct) if credit is None else credit
    return Verdict(correct=correct, unparsed=not text, choice=None, text=text, credit=credit)


def _cleaned(text: str) -> str:
    return text.lower().replace(".", "").replace("\n", "").strip()


def _open(question: Question, response: str) -> Verdict:
    if _is_of(question, "mmmu"):
        return judge_open(question, _unwrapped(response))
    return _equal(question, response, credit=overlap(_words(response), _words(question.reference)).recall)


def _words(text: str) -> set[str]:
    return set(text.lower().replace(".", "").split())


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
