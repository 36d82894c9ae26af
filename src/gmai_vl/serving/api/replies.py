"""Replies in OpenAI's form: whole completions, chunks of a stream, probabilities of tokens."""

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerBase

from gmai_vl.model.decoding import Word
from gmai_vl.serving.engine import Finish

LEAST_LOGPROB = -9999.0
"""What OpenAI's API tells for what is next to impossible; JSON knows no infinity."""

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """What all replies to one request begin with."""

    model: str
    fingerprint: str
    """Of the weights and the code: the same seed and fingerprint give the same answer."""

    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    def reply(self, kind: str, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """Return a reply of a kind: `chat.completion` or `chat.completion.chunk`."""
        head = {"id": self.id, "object": kind, "created": self.created, "model": self.model}
        return head | {"system_fingerprint": self.fingerprint, "choices": choices, **more}


@dataclass(slots=True)
class Choice:
    """One answer as it has come so far."""

    text: str = ""
    words: list[Word] = field(default_factory=list)
    finish: Finish | None = None


def completion(header: Header, choices: Sequence[Choice], prompt_tokens: int, told: "Told | None") -> dict[str, Any]:
    """Return the whole reply."""
    listed = [
        {
            "index": index,
            "message": {"role": "assistant", "content": choice.text, "refusal": None},
            "logprobs": None if told is None else {"content": told.of(choice.words), "refusal": None},
            "finish_reason": choice.finish,
        }
        for index, choice in enumerate(choices)
    ]
    return header.reply("chat.completion", listed, usage=usage(prompt_tokens, choices))


def chunk(
    header: Header,
    index: int,
    delta: dict[str, str],
    *,
    finish: str | None = None,
    logprobs: list[dict[str, Any]] | None = None,
    with_usage: bool = False,
) -> bytes:
    """Return a server-sent event with what is new of one choice."""
    told = None if logprobs is None else {"content": logprobs, "refusal": None}
    choice = {"index": index, "delta": delta, "logprobs": told, "finish_reason": finish}
    return event(header.reply("chat.completion.chunk", [choice], **({"usage": None} if with_usage else {})))


def usage_chunk(header: Header, prompt_tokens: int, choices: Sequence[Choice]) -> bytes:
    """Return the event that tells the number of tokens, after all others."""
    return event(header.reply("chat.completion.chunk", [], usage=usage(prompt_tokens, choices)))


def usage(prompt_tokens: int, choices: Sequence[Choice]) -> dict[str, int]:
    """Return the numbers of tokens; the prompt, its pictures included, counts once for all choices."""
    said = sum(len(choice.words) for choice in choices)
    return {"prompt_tokens": prompt_tokens, "completion_tokens": said, "total_tokens": prompt_tokens + said}


def event(value: dict[str, Any]) -> bytes:
    """Return a value as a server-sent event."""
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


@dataclass(frozen=True, slots=True)
class Told:
    """Writes probabilities of tokens."""

    tokenizer: PreTrainedTokenizerBase

    def of(self, words: Sequence[Word]) -> list[dict[str, Any]]:
        """Return an entry for each word."""
        return [
            self._entry(word.token, word.logprob)
            | {"top_logprobs": [self._entry(token, logprob) for token, logprob in word.likeliest]}
            for word in words
        ]

    def _entry(self, token: int, logprob: float | None) -> dict[str, Any]:
        assert logprob is not None
        text: str = self.tokenizer.decode([token])
        # Half a character has no text of its own; OpenAI's form allows that its bytes are not told.
        own = None if "\N{REPLACEMENT CHARACTER}" in text else list(text.encode())
        return {"token": text, "logprob": max(logprob, LEAST_LOGPROB), "bytes": own}
