"""Signs that a model earns its reward by something else than thinking; see `hacking` for an example of each."""

import re
from itertools import pairwise

from gmai_vl.evaluation import Question
from gmai_vl.reasoning.rewards.accuracy import LONGEST_ANSWER, options_named
from gmai_vl.reasoning.rewards.format import TAG, is_blank, is_closing
from gmai_vl.reasoning.rewards.length import units

REPEATED = 3
"""Times that a word stands in an answer, on average, from which the answer repeats itself."""

RUN = 3
"""Words in a row by which a copy is told."""

MOSTLY = 0.5
"""Share of the thought that is copied, above which it is mostly a copy."""

FOREIGN = 0.2
"""Share of words in the other language above which a thought switches; the question's own words and CT, MRI apart."""

_LETTER = re.compile(r"(?<![^\W_])[A-Z](?![^\W_])")
_CHINESE = re.compile(r"[\u3400-\u9fff]")
_LATIN = re.compile(r"[A-Za-z]{2,30}")


def answer_stuffing(question: Question, response: str) -> bool:
    """Say whether the answers list all letters or texts of the options, or repeat a word."""
    said = _answers(response)
    if options_named(question, said) or question.kind == "grounding":
        return False
    options = question.options or {}
    told = {word.casefold() for word in units(said)}
    texts = [{word.casefold() for word in units(text)} for text in options.values()]
    lists_all = len(options) > 1 and (_letters(question, said) == set(options) or all(text <= told for text in texts))
    letters = "".join(units(said))
    one_letter = len(letters) > REPEATED and len(set(letters)) == 1
    return lists_all or one_letter or len(units(said)) >= REPEATED * max(1, len(told))


def several_answers(question: Question, response: str) -> bool:
    """Say whether there are several answer tags, or the letters of several options in one."""
    if [tag.lower() for tag in TAG.findall(response)].count("<answer>") > 1:
        return True
    said = _answers(response)
    return not options_named(question, said) and len(_letters(question, said)) > 1


def copied_options(question: Question, response: str) -> bool:
    """Say whether the thought is mostly made of runs of words of the question and its options."""
    given = _runs("\n".join([question.text, *(question.options or {}).values()]))
    thought = _runs(_thought(response))
    copied = set(given)
    return sum(run in copied for run in thought) > MOSTLY * len(thought)


def empty_thinking(question: Question, response: str) -> bool:
    """Say whether nothing stands outside of the answers."""
    return is_blank(_thought(response))


def language_switching(question: Question, response: str) -> bool:
    """Say whether the thought, or a good part of it, is in the other language than the question."""
    thought, own = _thought(response), question.text
    own_chinese, own_latin = set(_CHINESE.findall(own)), {word.casefold() for word in _LATIN.findall(own)}
    chinese = sum(one not in own_chinese or question.language == "zh" for one in _CHINESE.findall(thought))
    latin = sum(
        question.language == "en" or not (word.isupper() or word.casefold() in own_latin)
        for word in _LATIN.findall(thought)
    )
    foreign = chinese if question.language == "en" else latin
    return foreign > FOREIGN * (chinese + latin)


def nested_tags(question: Question, response: str) -> bool:
    """Say whether a tag opens before the one before it was closed."""
    tags = TAG.findall(response)
    return any(not is_closing(one) and not is_closing(other) for one, other in pairwise(tags))


def answer_before_thinking(question: Question, response: str) -> bool:
    """Say whether the response begins with its answer, in tags or as the bare option, and thinks afterwards."""
    first = TAG.search(response)
    before = response[: first.start()] if first else ""
    if first is None or is_closing(first[0]) or is_blank(_thought(response[first.start() :])):
        return False
    if first[0].lower() == "<answer>":
        return is_blank(before)
    return len(before) <= LONGEST_ANSWER and bool(options_named(question, before))


def _answers(response: str) -> str:
    """Return what stands in the answers, a line each; no more than is read of one."""
    return "\n".join(piece.strip() for tag, piece in _pieces(response) if tag == "<answer>")[:LONGEST_ANSWER]


def _thought(response: str) -> str:
    """Return all that stands outside of the answers."""
    return "\n".join(piece for tag, piece in _pieces(response) if tag != "<answer>")


def _pieces(response: str) -> list[tuple[str, str]]:
    """Return the pieces between tags, each with the tag before it."""
    tags = ["", *(tag.lower() for tag in TAG.findall(response))]
    return list(zip(tags, TAG.split(response), strict=True))


def _letters(question: Question, said: str) -> set[str]:
    return set(_LETTER.findall(said)) & (question.options or {}).keys()


def _runs(text: str) -> list[tuple[str, ...]]:
    """Return all runs of words of a text; of a shorter text the one run that it is."""
    told = [word.casefold() for word in units(text)]
    return list(zip(*(told[start:] for start in range(RUN)), strict=False)) or ([tuple(told)] if told else [])
