"""How well the boxes of the answer part lie on those of the annotation.

| question and answer part | reward |
|---|---|
| a box, drawn exactly | 1 |
| a box, half of it drawn | 0.5 |
| a box, drawn exactly beside another one | 0.5 |
| two boxes, one of them drawn exactly | 0.5 |
| a box, and words; a box with its sides exchanged; nothing; a box drawn in the thought | 0 |
| multiple choice, whatever is answered | 0 |
"""

from gmai_vl.evaluation import Question, grounding_iou
from gmai_vl.reasoning.rewards.accuracy import LONGEST_ANSWER
from gmai_vl.reasoning.rewards.format import parts_of


def grounding_reward(question: Question, response: str) -> float:
    """Return the matched IoU, 0-1, of the boxes in the answer part; 0 without any and for other kinds of questions.

    Unlike accuracy it pays for coming closer. Raises ValueError if boxes are drawn and the question wants none.
    """
    parts = parts_of(response)
    if question.kind != "grounding" or parts is None or len(parts[1]) > LONGEST_ANSWER:
        return 0.0
    return min(1.0, grounding_iou(question, parts[1]) or 0.0)  # min: the quotient may be rounded up
