"""What a trace must not be, each fault a small function of question and answer that says what is wrong, or None.

Of the question "CT (A) or MRI (B)?", where B is right:

| check | fails, for example |
|---|---|
| cut_off | an answer that went on at its longest length |
| form | `The fat is bright. <answer>B</answer>` |
| answer | `<think>...</think><answer>A</answer>`, `<answer>A or B</answer>` |
| answer_first | `<think>B. The fat is bright</think>`, `<think>The answer is MRI, as ...`, `<think>MRI. The fat ...` |
| length | fewer or more words of the thought than the recipe allows |
| language | `<think>脂肪是亮的</think>` |
| copied_options | `<think>A. CT B. MRI</think>` |
| nested_tags | `<think><think>t</think></think>` |
| markup | `<think>The <|im_end|> ...`, `<think>The <image> ...`, control characters, tags in full width |
| repetition | a sentence three times, five words in a row again and again |

Checks of the thought say nothing where there is none that can be told from the answer: `form` does.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping

from gmai_vl.evaluation import Question
from gmai_vl.reasoning.rewards import accuracy_reward, format_reward, parts_of
from gmai_vl.reasoning.rewards.format import TAG
from gmai_vl.reasoning.rewards.length import units
from gmai_vl.reasoning.rewards.signs import (
    answer_before_thinking,
    copied_options,
    language_switching,
    nested_tags,
)
from gmai_vl.reasoning.synthesis.answers import Answer
from gmai_vl.reasoning.synthesis.opening import SENTENCE_END, first_sentence, gives_answer, told_words
from gmai_vl.reasoning.synthesis.recipe import Demands

Check = Callable[[Question, Answer, Demands], str | None]

MOST_READ = 50_000
"""Characters of an answer that is read; a longer one fails by `length` alone."""

SAME_SENTENCE = 3
"""Times that a sentence of three words or more makes a repetition."""

RUN = 5
"""Words in a row by which a repetition is told besides."""

_MARKUP = re.compile(r"<\|[^|<>\s]{1,40}\|>|<image>|\[/?INST\]|<</?SYS>>|</?s>")
"""What a chat template or a reader of such files would take for its own."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def faults_of(question: Question, answer: Answer, demands: Demands) -> dict[str, str | None]:
    """Return check -> what is wrong, None where it passes."""
    if len(answer.response) > MOST_READ:
        return {"length": f"the answer has {len(answer.response):,} characters; {MOST_READ:,} are read"}
    return {name: check(question, answer, demands) for name, check in CHECKS.items()}


def cut_off(question: Question, answer: Answer, demands: Demands) -> str | None:
    """Say so where the answer was still going on at its longest length."""
    return "was still going on at its longest length" if answer.cut_off else None


def form(question: Question, answer: Answer, demands: Demands) -> str | None:
    """Say so unless the answer is a thought and an answer in their tags, and nothing else."""
    return None if format_reward(question, answer.response) == 1 else "is not a thought and an answer in their tags"


def right(question: Question, answer: Answer, demands: Demands) -> str | None:
    """Say so unless the answer part is the right option, and nothing else."""
    if accuracy_reward(question, answer.response) == 1:
        return None
    parts = parts_of(answer.response)
    return f"answers {quoted(parts[1])}, right is {question.reference}" if parts else "holds no one answer"


def answer_first(question: Question, answer: Answer, demands: Demands) -> str | None:
    """Say so where the first sentence of the thought, or what stands before it, already gives the answer."""
    if answer_before_thinking(question, answer.response):
        return "the answer stands before the thought"
    opening = first_sentence(thought_of(answer) or "")
    return f"begins with the answer: {quoted(opening)}" if gives_answer(question, thought_of(answer) or "") else None


def length(question: Question, answer: Answer, demands: Demands) -> str | None:
    """Say so where the thought is shorter or longer than the recipe allows."""
    thought = thought_of(answer)
    if thought is None:
        return None
    words = len(units(thought))
    fits = demands.min_words <= words <= demands.max_words
    return None if fits else f"the thought has {words} words, not {demands.min_words} to {demands.max_words}"


def language(question: Question, answer: Answer, demands: Demands) -> str | None:
    """Say so where a good part of the thought is in the other language than the question."""
    if thought_of(answer) is None or not language_switching(question, answer.response):
        return None
    return f"the thought leaves the language of the question, {question.language}"


def copied(question: Question, answer: Answer, demands: Demands) -> str | None:
    """Say so where the thought is mostly made of the words of the question and its options."""
    if thought_of(answer) is None or not copied_options(question, answer.response):
        return None
    return "the thought is mostly a copy of question and options"


def nested(question: Question, answer: Answer, demands: Demands) -> str | None:
    """Say so where a tag opens within another."""
    return "a tag opens within another" if nested_tags(question, answer.response) else None


def markup(question: Question, answer: Answer, demands: Demands) -> str | None:
    """Say so where the thought holds signs that mean something to a chat template, or that no text should hold."""
    thought = thought_of(answer) or ""
    if found := _MARKUP.search(thought) or TAG.search(unicodedata.normalize("NFKC", thought)):
        return f"the thought holds {quoted(found[0])}"
    if found := _CONTROL.search(thought):
        return f"the thought holds the control character U+{ord(found[0]):04X}"
    return None


def repetition(question: Question, answer: Answer, demands: Demands) -> str | None:
    """Say so where the thought says one thing again and again."""
    thought = thought_of(answer) or ""
    sentences = Counter(told_words(sentence) for sentence in SENTENCE_END.split(thought) if len(units(sentence)) >= 3)
    sentence, times = max(sentences.items(), key=lambda entry: entry[1], default=("", 0))
    if times >= SAME_SENTENCE:
        return f"says {times} times {quoted(sentence)}"
    words = told_words(thought).split()
    runs = Counter(zip(*(words[start:] for start in range(RUN)), strict=False))
    run, times = max(runs.items(), key=lambda entry: entry[1], default=((), 0))
    return f"has {times} times the words {quoted(' '.join(run))}" if times > demands.most_repeats else None


CHECKS: Mapping[str, Check] = {
    "cut_off": cut_off,
    "form": form,
    "answer": right,
    "answer_first": answer_first,
    "length": length,
    "language": language,
    "copied_options": copied,
    "nested_tags": nested,
    "markup": markup,
    "repetition": repetition,
}
"""Name -> check, in the order in which they are told."""


def thought_of(answer: Answer) -> str | None:
    """Return the thought; None where none can be told from the answer, or it is longer than what is read."""
    parts = parts_of(answer.response) if len(answer.response) <= MOST_READ else None
    return parts[0] if parts else None


def plain_thought(thought: str) -> str:
    """Return what thoughts are compared by: their words alone, in lower case, every number the same."""
    return re.sub(r"\d+", "0", told_words(thought))


def quoted(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
