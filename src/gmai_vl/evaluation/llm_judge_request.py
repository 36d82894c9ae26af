"""What an LLM judge is asked about a response, and what its reply says; each as hard to forge as text can be.

It sees question, options, reference answer and response, no image. Whether a response talks it round is its own
affair. That nothing in a response can be taken for the end of the data, for a turn of the conversation or for a verdict
is ours: data are one line of JSON without signs that break lines or begin a chat template's tokens, and a verdict is
only what is a whole reply.
"""

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml

from gmai_vl.endpoint import Reply, Request
from gmai_vl.evaluation.question import Question
from gmai_vl.foundation import canonical_json, sha256_of_text
from gmai_vl.records import Turn

MOST_TOKENS = 1024
"""Of a reply: a sentence and a word, and room for a model that thinks before it says them."""

_MOST_REASON = 500
"""Characters of a reason that are kept; the reply stands beside it whole."""

_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"reason": {"type": "string"}, "verdict": {"type": "string", "enum": ["right", "wrong"]}},
    "required": ["reason", "verdict"],
    "additionalProperties": False,
}

_FENCE = "```"
"""What models put around JSON where a server has no schemas."""

_BRACKET = re.compile(r"\[(?=/?\w+\])")
"""Begins a mark such as [/INST]; never the list of a JSON text, whose entries begin with a quotation mark."""


def request_for(question: Question, response: str) -> Request:
    """Return what the judge is asked about a response, in the language of the question."""
    options = question.options or {}
    text = f". {options[question.reference]}" if question.reference in options else ""
    data = {
        "question": question.stem,
        **({"options": options} if options else {}),
        "reference answer": question.reference + text,
        **({"also right": list(question.alternatives)} if question.alternatives else {}),
        "response": response,
    }
    prompt = _prompt()[question.language]
    return Request(
        turns=(Turn("system", (prompt["system"],)), Turn("user", (prompt["user"].replace("{data}", _line(data)),))),
        max_tokens=MOST_TOKENS,
        schema=_SCHEMA,
    )


def verdict_in(reply: Reply) -> tuple[Literal["right", "wrong"], str] | str:
    """Return verdict and reason of a reply, or why it has none: it has one only if it is what was asked for, whole."""
    if reply.finish == "length":
        return "the reply was cut off at its longest length"
    text = reply.text.strip()
    if text.startswith(_FENCE) and text.endswith(_FENCE):
        text = text.removeprefix(_FENCE).removesuffix(_FENCE).removeprefix("json")
    try:
        value = json.loads(text, object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:
        return f"the reply is no JSON: {str(error)[:100]}"
    if not isinstance(value, dict) or value.keys() != {"reason", "verdict"} or not isinstance(value["reason"], str):
        return "the reply is not a text `reason` and a `verdict`"
    if value["verdict"] not in ("right", "wrong"):
        return "the verdict is neither right nor wrong"
    reason = value["reason"].encode("utf-8", "replace").decode()  # JSON can write half signs, files cannot
    return value["verdict"], " ".join(reason.split())[:_MOST_REASON]


def prompt_version() -> str:
    """Return the version of the prompt's words."""
    return str(_prompt()["version"])


def prompt_sha256() -> str:
    """Return a hash over all that is asked beside the data: words in both languages, schema, longest reply."""
    return sha256_of_text(canonical_json([_prompt(), _SCHEMA, MOST_TOKENS]))


def _line(data: Mapping[str, Any]) -> str:
    """Return JSON in one line that holds no sign which breaks lines, turns direction or begins a template's token.

    They stand in it as escapes: a server would read <|im_end|> or [/INST] as the end of the turn.
    """
    text = _BRACKET.sub(r"\\u005b", json.dumps(data, ensure_ascii=False))
    return "".join(
        "\\u003c" if sign == "<" else sign if sign.isprintable() else json.dumps(sign)[1:-1] for sign in text
    )


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key stands twice")
    return value


@cache
def _prompt() -> dict[str, Any]:
    text = (files("gmai_vl.evaluation") / "llm_judge.yaml").read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.safe_load(text)
    return content
