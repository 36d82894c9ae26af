"""`omnimedvqa-prefix`: OmniMedVQA's prefix-based score (OpenGVLab/Multi-Modality-Arena bd2999a3).

Each option, with a dot behind it, is held to the model as what goes on after "Question: ... The answer is"; the one of
the smallest mean loss of a token is its answer, the first of equals. It is right where its text equals the gold text,
so that an option that occurs twice is right in both places. The reference gives a share for each dataset: `macro`.
It uses no chat template; here the question is the user's, and "The answer is" the beginning of the assistant's turn.
"""

from functools import partial

from gmai_vl.evaluation.protocols.protocol import Protocol, Rule, Verdict, chosen_text, judge_each, options_of
from gmai_vl.evaluation.question import Question
from gmai_vl.records import Kind


def _choice(question: Question, response: str) -> Verdict:
    if response not in options_of(question):
        raise ValueError(f"{question.id}: {response!r} is no letter of its options; ask by likelihood")
    return chosen_text(question, response)


_RULES: dict[Kind, Rule] = {"mcq": _choice}

OMNIMEDVQA_PREFIX = Protocol(
    name="omnimedvqa-prefix",
    source="OpenGVLab/Multi-Modality-Arena bd2999a3",
    kinds=tuple(_RULES),
    about="OmniMedVQA's other: the option of the smallest loss; run with --by-likelihood --prompt omnimedvqa-prefix",
    judge=partial(judge_each, _RULES),
    by_likelihood=True,
)
