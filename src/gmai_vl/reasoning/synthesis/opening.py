"""Whether a thought begins with its answer: what its first sentence is, and by which words it gives the answer away."""

import re
import unicodedata

from gmai_vl.evaluation import Question
from gmai_vl.reasoning.rewards.accuracy import options_named
from gmai_vl.reasoning.rewards.length import units

SENTENCE_END = re.compile(r"[.!?](?=\s|\Z)|[。！？\n]")

_OPENING = 500
"""Characters that a first sentence is looked for in."""

_SAYS_ANSWER = re.compile(
    r"\b(?:answer|(?:right|correct|best|final|my)\s+(?:option|choice))"
    r"\s+(?:is|must\s+be|should\s+be|would\s+be|has\s+to\s+be)\b"
    r"(?!\s+(?:not|to|in|found|one|among)\b)"
    r"|\b(?:answer|(?:right|correct|best|final|my)\s+(?:option|choice))\s*[:=：]"
    r"|\b(?:i|we)(?:'d|\s+would|\s+will)?\s+(?:choose|pick|select|answer|go\s+with)\b"
    r"|\bis\s+(?:the\s+)?(?:right|correct|best)\s+(?:answer|option|choice)\b"
    r"|(?:答案|正确选项)\s*(?:是|为|应|选|[:：])|[我应故]选",
    re.I,
)

_LETTER_FIRST = re.compile(
    r"\W*(?:(?i:option|choice|answer)\s+|(?:选项|选)\s*)?[(（\[]?(?P<letter>[A-I])"
    r"(?:[)）\]][\s.:,]*|[.:,;](?=\s|\Z)|[：，、；]|\s*\Z"
    r"|\s+(?:because|since|is\s+(?:the\s+)?(?:right|correct|best|answer))\b|(?=[是\u4e3a因]))"
)
"""A letter that is an answer, and not the article or the pronoun that A and I are too."""

_LEAD = r"(?:(?:this|it|that) (?:is|must be|shows) |[这此该] (?:图 )?[是为] )?(?:an? |the )?"

_ARTICLE = re.compile(r"\A(?:an?|the) (?=.)")


def first_sentence(thought: str) -> str:
    """Return how a thought begins, up to the end of its first sentence."""
    return SENTENCE_END.split(thought.strip()[:_OPENING], maxsplit=1)[0].strip()


def gives_answer(question: Question, thought: str) -> bool:
    """Say whether the first sentence is, begins with, or announces an answer."""
    opening = first_sentence(thought)
    options = question.options or {}
    letter = _LETTER_FIRST.match(thought.strip()[:_OPENING])
    text = re.escape(_ARTICLE.sub("", told_words(options.get(question.reference, question.reference))))
    return opening != "" and (
        bool(options_named(question, opening))
        or (letter is not None and letter["letter"] in options)
        or (text != "" and re.match(rf"{_LEAD}{text}(?: |\Z)", told_words(opening)) is not None)
        or _SAYS_ANSWER.search(opening) is not None
    )


def told_words(text: str) -> str:
    """Return the words of a text alone, in lower case."""
    return " ".join(units(unicodedata.normalize("NFKC", text).casefold()))
