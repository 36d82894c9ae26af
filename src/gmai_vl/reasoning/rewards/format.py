"""The form of a response: its thought, then its answer, in tags; and its two parts, read with more patience.

| response | form | parts |
|---|---|---|
| `<think>t</think><answer>B</answer>`, also with white space around and between | 1 | t, B |
| `<think>t</think>So: <answer>B</answer>.` | 0 | t So:, B |
| `t</think><answer>B</answer>`, `<THINK>t</THINK><answer>B</answer>` | 0 | t, B |
| `<think> </think><answer>B</answer>`, `<answer>B</answer>`, `<answer>B</answer><think>t</think>` | 0 | nothing, B |
| `<think>t</think><answer> </answer>` | 0 | t, nothing |
| `<think>t</think><answer>A</answer><answer>B</answer>`: which of them? | 0 | none |
| `<think>t<answer>B</answer></think>`, `<think>t<answer>B</answer>`: the thought was not ended | 0 | none |
| `<think>t</think><answer>B`, `<answer><answer>B</answer></answer>`, `B` | 0 | none |
"""

import re
import unicodedata

from gmai_vl.evaluation import Question

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
"""All tags of a response, in their order."""

TAG = re.compile(r"</?(?:think(?:ing)?|answer)>", re.IGNORECASE | re.ASCII)
"""A tag in any spelling that is read as one; without repetition, so that no text can make it slow."""


def format_reward(question: Question, response: str) -> float:
    """Return 1 if every tag stands once, in order, with white space alone around and no part empty; else 0.

    The weight is the recipe's: the rule-based rewards that this follows gave 0.5 (MM-EUREKA) or 1 (open-r1).
    """
    if TAG.findall(response) != list(TAGS):
        return 0.0
    before, thought, between, answer, after = TAG.split(response)
    is_clean = not (before + between + after).strip()
    return float(is_clean and not is_blank(thought) and not is_blank(answer))


def parts_of(response: str) -> tuple[str, str] | None:
    """Return the thought, all that stands before the answer, and the answer; None without exactly one answer.

    Spelling of the tags, words outside of them and what follows the answer do not matter here. An answer inside of a
    thought, or inside of one that never ends, is part of that thought and no answer.
    """
    tags, pieces = [tag.lower() for tag in TAG.findall(response)], TAG.split(response)
    places = [place for place, tag in enumerate(tags) if "answer" in tag]
    if [tags[place] for place in places] != ["<answer>", "</answer>"] or places[1] != places[0] + 1:
        return None
    opened, closed = places
    thought_is_open = opened > 0 and not is_closing(tags[opened - 1])
    thought_goes_on = closed + 1 < len(tags) and is_closing(tags[closed + 1])
    if thought_is_open or thought_goes_on:
        return None
    return "\n".join(pieces[:closed]).strip(), pieces[closed].strip()


def is_closing(tag: str) -> bool:
    """Say whether a tag ends something."""
    return tag.startswith("</")


def is_blank(text: str) -> bool:
    """Say whether a text shows nothing: white space, control characters, half characters."""
    return all(unicodedata.category(character)[0] in "ZC" for character in text)
