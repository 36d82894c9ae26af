"""The prompts of the language model writer: versioned, stored with the corpus, filled from the annotation."""

from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml

Route = Literal["caption", "region-caption", "percept", "region-percept", "instruct", "text-single", "text-multi"]
"""What kind of text is asked for: about the whole image, about a box, or without an image."""


def prompt_id(name: str) -> str:
    """Return the key into prompts.jsonl of a prompt: `guided/caption`, `unguided/caption`, `rewrite` or `translate`."""
    return f"llm/{name}/{prompts_version()}"


def prompts_version() -> int:
    """Return the version of all prompts."""
    return int(_prompts()["version"])


def prompt_template(name: str) -> str:
    """Return the text of a prompt, its slots open but that of the rules."""
    text: Any = _prompts()
    for part in name.split("/"):
        text = text[part]
    # Only here: what is filled in later may hold braces.
    return str(text).replace("{rules}", _prompts()["rules"])


def system_prompt() -> str:
    """Return what every conversation begins with."""
    return str(_prompts()["system"])


def llm_prompt_texts() -> dict[str, str]:
    """Return the text of every prompt id that the language model writer uses, with its slots open."""
    names = [f"{way}/{route}" for way in ("guided", "unguided") for route in _prompts()[way]]
    return {
        prompt_id(name): f"{system_prompt()}\n\n{prompt_template(name)}" for name in [*names, "rewrite", "translate"]
    }


@cache
def _prompts() -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load((files("gmai_vl.writing.llm") / "prompts.yaml").read_text(encoding="utf-8"))
    return data
