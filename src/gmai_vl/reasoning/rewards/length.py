"""Whether a thought is of sane length.

With `usual` 4 and `longest` 8, in words of English and characters of Chinese alike:

| thought | reward |
|---|---|
| `one`, `one two three four`, `右肺可见` | 1 |
| six words, six characters | 0.5 |
| eight words or more | 0 |
| nothing, white space, marks or control characters alone, or no answer after it | 0 |
"""

import re

from gmai_vl.evaluation import Question
from gmai_vl.reasoning.rewards.format import parts_of

USUAL, LONGEST = 300, 600
"""Words or characters; 600 fit into the 1,024 tokens that the prompt `reason` gives to thought and answer."""

# A very long word counts as several and a row of marks as words, or either would be a thought without end for nothing.
_UNIT = re.compile(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]{1,30}|[^\w\s]{10}")

_WORD = re.compile(r"[^\W_]")


def length_reward(question: Question, response: str, usual: int = USUAL, longest: int = LONGEST) -> float:
    """Return 1 for a thought of up to `usual` words, then less in a straight line, 0 from `longest` on or for none.

    Raises ValueError unless 0 < `usual` < `longest`.
    """
    if not 0 < usual < longest:
        raise ValueError(f"usual {usual} and longest {longest}: must be above 0, and the second the greater")
    parts = parts_of(response)
    if parts is None or not _WORD.search(parts[0]):
        return 0.0
    return min(1.0, max(0.0, (longest - len(units(parts[0]))) / (longest - usual)))


def units(text: str) -> list[str]:
    """Return the words of a text, and every Chinese character as one, as they are written."""
    return _UNIT.findall(text)
