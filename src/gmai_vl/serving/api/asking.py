"""From a request to what the engine takes: limits first, then pictures, then tokens."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gmai_vl.foundation import UserError, sha256_of_text
from gmai_vl.model import Sampling, Vlm, encode_prompt, prepare_image
from gmai_vl.model.asked import Prompt
from gmai_vl.records import ImageRef, Turn, pixel_sha256
from gmai_vl.serving.api.request import DEFAULT_TOKENS, ChatRequest, ImagePart, TextPart
from gmai_vl.serving.engine import Asked
from gmai_vl.serving.limits import Limits
from gmai_vl.serving.refusals import Refusal


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture as the model takes it; its own pixels, which may be many, are not kept while it waits."""

    sha256: str
    """Of the pixels."""

    prepared: Tensor
    """[3, S, S]"""


def shown(pixels: NDArray[np.uint8], vlm: Vlm) -> Shown:
    """Return a picture, [H, W] or [H, W, 3], as a model takes it."""
    return Shown(pixel_sha256(pixels), prepare_image(vlm.processor, pixels))


def picture_urls(chat: ChatRequest) -> dict[str, str]:
    """Return place -> address of all pictures of a conversation, in reading order."""
    return {
        f"messages[{number}].content[{place}].image_url.url": part.image_url.url
        for number, message in enumerate(chat.messages)
        if not isinstance(message.content, str)
        for place, part in enumerate(message.content)
        if isinstance(part, ImagePart)
    }


def check(chat: ChatRequest, limits: Limits) -> None:
    """Raise Refusal for a request that asks for more than the server gives: 413 for too long a text, else 422."""
    counts = {
        "messages": (len(chat.messages), limits.messages, "messages"),
        "max_tokens": (wanted_tokens(chat), limits.answer_tokens, "tokens of an answer"),
        "n": (chat.choices, limits.choices, "answers to one request"),
    }
    pictures = len(picture_urls(chat))
    counts["messages.content"] = (pictures, limits.images, "pictures in one request")
    for param, (given, most, what) in counts.items():
        if given > most:
            raise Refusal(422, f"{param}: {given} are given, this server takes at most {most} {what}", param=param)
    said = sum(len(text) for message in chat.messages for text in _texts(message.content))
    if said > limits.text_characters:
        line = f"messages: {said} characters of text, this server takes at most {limits.text_characters}"
        raise Refusal(413, line, param="messages", code="context_length_exceeded")


def wanted_tokens(chat: ChatRequest) -> int:
    """Return the longest answer that a request asks for."""
    return chat.max_completion_tokens or chat.max_tokens or DEFAULT_TOKENS


def asked_of(chat: ChatRequest, pictures: Sequence[Shown], vlm: Vlm) -> list[Asked]:
    """Return what the engine is asked: one entry for each choice, all with one prompt. `pictures` in reading order.

    Raises Refusal (400) where prompt and answer are longer than the model's context, or its template cannot write the
    conversation.
    """
    seed = secrets.randbits(63) if chat.seed is None else chat.seed
    prompt = prompt_of(vlm, _turns(chat), pictures, likeliest=chat.likeliest)
    room, given = room_after(vlm, prompt), chat.max_completion_tokens or chat.max_tokens
    wanted = given or max(1, min(DEFAULT_TOKENS, room))
    if wanted > room:
        length = len(prompt.input_ids)
        line = (
            f"messages: {length} tokens and an answer of {wanted} are more than the model's context of {room + length}"
        )
        raise Refusal(400, line, param="messages", code="context_length_exceeded")
    prepared = {picture.sha256: picture.prepared for picture in pictures}
    return [
        Asked(
            prompt=prompt,
            sampling=_sampling(chat, seed, choice),
            prepared=prepared,
            max_tokens=wanted,
            stops=chat.stops,
        )
        for choice in range(chat.choices)
    ]


def prompt_of(vlm: Vlm, turns: Sequence[Turn], pictures: Sequence[Shown], likeliest: int | None = None) -> Prompt:
    """Return a conversation as tokens. Raises Refusal (400) where the model's template cannot write it."""
    try:
        encoded = encode_prompt(vlm.processor, turns)
    except UserError as error:
        raise Refusal(400, str(error), param="messages") from None
    return Prompt(0, encoded.input_ids, tuple(pictures[index].sha256 for index in encoded.images), likeliest=likeliest)


def room_after(vlm: Vlm, prompt: Prompt) -> int:
    """Return how many tokens the model's context has left after a prompt; may be below 0."""
    return int(vlm.model.config.text_config.max_position_embeddings) - len(prompt.input_ids)


def _sampling(chat: ChatRequest, seed: int, choice: int) -> Sampling | None:
    if not chat.temperature:
        return None
    own = seed if not choice else int(sha256_of_text(f"{seed} {choice}")[:15], 16)
    return Sampling(temperature=chat.temperature, top_p=chat.top_p or 1.0, seed=own)


def _turns(chat: ChatRequest) -> tuple[Turn, ...]:
    """Return the conversation; its pictures are counted through in reading order."""
    turns, number = [], 0
    for message in chat.messages:
        content: list[str | ImageRef] = []
        for part in [message.content] if isinstance(message.content, str) else message.content:
            if isinstance(part, ImagePart):
                content.append(ImageRef(number))
                number += 1
            else:
                content.append(part if isinstance(part, str) else part.text)
        turns.append(Turn("system" if message.role == "developer" else message.role, tuple(content)))
    return tuple(turns)


def _texts(content: str | list[TextPart | ImagePart]) -> list[str]:
    return [content] if isinstance(content, str) else [part.text for part in content if isinstance(part, TextPart)]
