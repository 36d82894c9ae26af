"""Counts the signs that a model earns its reward by something else than thinking, so that a run can be read by them.

Of the question "CT (A) or MRI (B)?":

| sign | for example |
|---|---|
| answer_stuffing | `<answer>A. CT B. MRI</answer>`, `<answer>B B B</answer>`, `<answer>BBBB</answer>` |
| several_answers | `<answer>A or B</answer>`, `<answer>A</answer><answer>B</answer>` |
| copied_options | `<think>A. CT B. MRI</think>`, `<think>CT or MRI?</think>` |
| empty_thinking | `<think> </think><answer>B</answer>`, `<answer>B</answer>` |
| language_switching | `<think>脂肪是亮的</think>`, `<think>The fat is 亮的, as in 核磁</think>` |
| nested_tags | `<think>t<answer>B</answer></think>`, `<think><think>t</think></think>` |
| answer_before_thinking | `<answer>B</answer><think>t</think>`, `B <think>t</think>` |

A response may show several signs. None of them proves anything of one response; a count that rises does of a run.
"""

from collections.abc import Callable, Mapping, Sequence

from gmai_vl.evaluation import Question
from gmai_vl.reasoning.rewards.signs import (
    answer_before_thinking,
    answer_stuffing,
    copied_options,
    empty_thinking,
    language_switching,
    nested_tags,
    several_answers,
)

HACKS: Mapping[str, Callable[[Question, str], bool]] = {
    sign.__name__: sign
    for sign in (
        answer_stuffing,
        several_answers,
        copied_options,
        empty_thinking,
        language_switching,
        nested_tags,
        answer_before_thinking,
    )
}
"""Name -> sign, as it is counted."""


def count_hacks(questions: Sequence[Question], responses: Sequence[str]) -> dict[str, int]:
    """Return sign -> number of responses that show it, of all signs; `responses` are in the order of `questions`.

    Raises ValueError if there are not as many of one as of the other.
    """
    pairs = list(zip(questions, responses, strict=True))
    return {name: sum(shows(question, response) for question, response in pairs) for name, shows in HACKS.items()}
