"""What a response answers: the policy of the protocol `default`.

The rules never guess: an answer that is absent, ambiguous or contradicts itself is unparsed, and unparsed counts as
wrong and is counted. Both languages are read in every response, for a model may answer in the other one.

*Every kind.* Full-width characters are read as ASCII. `<think>` blocks are left out, an unclosed one to the end of the
response; what is struck through (`~~A~~`) likewise. Where there is `<answer>`, `\\boxed{}` or a JSON field `answer`,
only their contents count, and they must agree; an empty one is no answer, and neither is a JSON object that is cut off
before it. Questions inside a response state nothing. What is left may have 10,000 characters; a longer text is a model
that repeats itself, and unparsed.

*Multiple choice*, in this order:
1. What follows the last self-correction ("no, wait", 不对) counts alone.
2. The response is one letter of the options in any dress (`b`, `(B)`, `**B.**`, `Ｂ。`), or one option text, word by
   word, with the signs of its numbers (`<5` is not `≤5`, `≤5` is `<=5`).
3. What follows a cue ("the answer is", "I choose", "that leaves", 答案是, 选), a letter at the very start that nothing
   is said about, a lone letter as the last line. They must agree. "final answer" outranks other cues. A cue that is
   doubted or denied ("not sure whether the answer is ...") is none. Without any: a list of verdicts, an option a line,
   with one that is right.
4. A refusal ("cannot determine", "none of the above", 无法判断) is no answer, unless an option says just that. That it
   is only a model, or that a doctor decides, refuses nothing.
5. Mentions anywhere: letters in brackets or behind a word like "option" or "is", or else option texts as whole words
   (the longer text where one contains the other). There must be exactly one that is not denied: "A, not B" is A, "not
   A but B" is B, "not A" alone is nothing, "A or B" is nothing, "A and D can be excluded" denies both. A bare letter
   in running text ("a mass", "I see", "hepatitis B", "B-mode", "E. coli", A型血) is no mention. A letter next to the
   text of another option contradicts itself. A repetition of the whole list of options is left out. A letter beyond
   the options is no answer. Where the options are yes and no, a yes or no by the rules below chooses.

*Closed.* An answer word standing alone (yes, no, 是, 是的, 有, 否, 不是, 没有 ...), not the "no" of "normal", "no. 14",
"no doubt" or "no fracture"; else a statement that only repeats the question's words ("There is no fracture." to "Is
there a fracture?"), a sentence or a clause of its own. Both yes and no: unparsed. Where the question offers
alternatives or asks which, another short answer ("left", 左侧) has no choice; its text is its normalised words.
Anything else is unparsed.

*Open.* The text behind the last cue, else the whole response, normalised; nothing, a refusal or a JSON object without
an answer is unparsed. A reference that lists several things, between commas, is met by the same things in any order.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gmai_vl.evaluation.answers.choices import choice_of
from gmai_vl.evaluation.answers.wording import (
    conclusions,
    is_broken_json,
    is_cut_off_json,
    plain,
    refuses,
    tagged_answers,
    without_questions,
    words,
)
from gmai_vl.evaluation.answers.yesno import asks_for_another_word, mentions_yes_or_no, yes_or_no

LONGEST_RESPONSE = 10_000
"""Characters of a response that are read, its reasoning apart."""

LONGEST_CLOSED_WORDS = 6
"""English words of a closed answer other than yes and no."""

LONGEST_CLOSED_CHINESE = 12
"""Chinese characters of a closed answer other than yes and no."""

_ALTERNATIVES = re.compile(r"\b([a-z][\w-]*)\s+or\s+(?:an?\s+)?([a-z][\w-]*)(?=\W*(?:\?|\Z))")
_LEAD = re.compile(
    r"\A(?:(?:it|this|that)(?: is|s)|(?:image|picture|scan) (?:is|shows)|there (?:is|are)"
    r"|(?:这|该图|图中)?是(?!否|不是)|位于|在(?=[左右上下前后]))\s*"
)


_LIST_MARKS = re.compile(r"[,;](?!\d)|、|\band\b", re.I)

_HEDGED = re.compile(
    r"\b(?:possibly|maybe|perhaps|may\s+be|might|could\s+be|either|both)\b|可能|也许|或许|疑似|大概|不排除|两者|都有",
    re.I,
)


@dataclass(frozen=True, slots=True)
class Extracted:
    """What a response answers."""

    choice: str | None
    """Letter for multiple choice, `yes` or `no` for closed, else None."""

    text: str
    """The chosen option's text, the answer word, or the normalised words of another answer; empty where unparsed."""

    unparsed: bool
    """No answer could be extracted."""


UNPARSED = Extracted(None, "", True)


def extract(kind: str, question: str, options: Mapping[str, str] | None, response: str) -> Extracted:
    """Extract the answer from the response to a question of `kind` mcq, closed or open.

    `options` (letter -> text) belongs to mcq and is ignored elsewhere. Raises ValueError for another kind or mcq
    without options.
    """
    if kind not in ("mcq", "closed", "open"):
        raise ValueError(f"no rules for answers of kind {kind}")
    text = plain(response)
    if len(text) > LONGEST_RESPONSE or is_cut_off_json(text):
        return UNPARSED
    if kind == "closed":
        return _closed(question, response)
    if kind == "open":
        return _open(response)
    if not options:
        raise ValueError("a multiple-choice question without options")
    letter = choice_of(options, response) or _yes_no_option(question, options, response)
    return UNPARSED if letter is None else Extracted(letter, options[letter], False)


def _yes_no_option(question: str, options: Mapping[str, str], response: str) -> str | None:
    """Return the option that a yes or no is, where the options are these two."""
    letters = {yes_or_no(question, text): letter for letter, text in options.items()}
    return letters.get(yes_or_no(question, response)) if letters.keys() == {"yes", "no"} else None


def is_correct(kind: str, question: str, options: Mapping[str, str] | None, answer: str, extracted: Extracted) -> bool:
    """Say whether `extracted` is the reference `answer`.

    The reference is a letter or option text for mcq; yes/no in either language, or words, for the others.

    Raises ValueError if the reference answer of a multiple-choice question is none of its options.
    """
    if kind == "mcq":
        right = letters_of_answer(options or {}, answer)
        return extracted.choice is not None and extracted.choice in right
    if extracted.unparsed:
        return False
    if kind == "closed" and (reference := yes_or_no(question, answer)):
        return extracted.choice == reference
    return extracted.choice is None and (extracted.text == _short(answer) or _is_list_of(extracted.text, answer))


def _is_list_of(text: str, answer: str) -> bool:
    """Say whether normalised words are the things that a reference lists ("Liver, Heart"), in any order."""
    things = [words(thing) for thing in _LIST_MARKS.split(plain(answer))]
    said = [word for word in text.split() if word != "and"]
    return (
        len(things) > 1
        and sorted(said) == sorted(" ".join(things).split())
        and all(f" {thing} " in f" {' '.join(said)} " for thing in things)
    )


def letters_of_answer(options: Mapping[str, str], answer: str) -> set[str]:
    """Return the letters of a reference answer, a letter or an option's text; several where options are the same.

    Raises ValueError if it is none of the options.
    """
    if answer.strip().upper() in options:
        return {answer.strip().upper()}
    letters = {letter for letter, text in options.items() if text.strip() == answer.strip()}
    letters = letters or {letter for letter, text in options.items() if words(text) == words(answer)}
    if not letters:
        raise ValueError(f"the answer `{answer}` is none of the options {dict(options)}")
    return letters


def _closed(question: str, response: str) -> Extracted:
    if answer := yes_or_no(question, response):
        return Extracted(answer, answer, False)
    if not asks_for_another_word(question) or _HEDGED.search(plain(response)):
        return UNPARSED
    text = _alternative(question, response) or _short(response)
    chinese = len(re.findall(r"[\u4e00-\u9fff]", text))
    long = chinese > LONGEST_CLOSED_CHINESE or len(text.split()) > LONGEST_CLOSED_WORDS
    if not text or long or mentions_yes_or_no(response) or refuses(plain(response)):
        return UNPARSED
    return Extracted(None, text, False)


def _alternative(question: str, response: str) -> str | None:
    """Return the one of two alternatives, a word each, that a response names: malignant, of "benign or malignant?"."""
    asked = [match.groups() for match in _ALTERNATIVES.finditer(plain(question).lower())]
    said = words(without_questions(plain(response))).split()
    named = {word for pair in asked for word in pair if word in said}
    return named.pop() if len(asked) == 1 and len(named) == 1 and not {"not", "no", "neither"} & set(said) else None


def _open(response: str) -> Extracted:
    text = _short(response)
    return UNPARSED if not text or refuses(plain(response)) else Extracted(None, text, False)


def _short(response: str) -> str:
    """Return the normalised words of the answer: behind the last cue where there is one, without "it is"."""
    text = plain(response)
    if is_broken_json(text):
        return ""
    if tagged := tagged_answers(text):
        distinct = {words(part) for part in tagged}
        return _LEAD.sub("", distinct.pop()) if len(distinct) == 1 else ""
    text = without_questions(text)
    stated = conclusions(text)
    return _LEAD.sub("", words(stated[-1] if stated else text))
