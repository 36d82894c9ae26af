"""Batched generation, greedy or sampled: one pass over each distinct image and over what several prompts begin with."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from gmai_vl.model.asked import Opened, Request, answering, image_features, opened, prepare
from gmai_vl.model.decoding import Decoding
from gmai_vl.model.vlm import Vlm


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model says to a request."""

    text: str
    """Without the end token, and without white space around it."""

    tokens: int
    """Of the answer, its end token not among them."""

    is_cut_off: bool
    """Whether it was still going on at its longest length."""


def generate(vlm: Vlm, requests: Sequence[Request], *, max_new_tokens: int, batch_size: int) -> list[str]:
    """Return the texts of `respond`."""
    return [answer.text for answer in respond(vlm, requests, max_new_tokens=max_new_tokens, batch_size=batch_size)]


def respond(vlm: Vlm, requests: Sequence[Request], *, max_new_tokens: int, batch_size: int) -> list[Answer]:
    """Answer every request with its most likely words, or sampled ones, in the order of the requests.

    An answer ends at the tokenizer's end token, <|im_end|> in ours, or after `max_new_tokens`. The features of all
    distinct images of one call are held in memory (P x D numbers each), so give many requests in several calls.
    Raises ValueError where a request shows an image that it does not bring.
    """
    tokenizer = vlm.processor.tokenizer
    with answering(vlm):
        prompts, pixels = prepare(vlm, requests)
        features = image_features(vlm, pixels, batch_size)
        said: dict[int, list[int]] = {}
        for batch in opened(vlm, prompts, features, batch_size):
            said |= _say(vlm, batch, max_new_tokens, stop=tokenizer.eos_token_id)
    return [_answer(tokenizer, said[number]) for number in range(len(requests))]


def _answer(tokenizer: PreTrainedTokenizerBase, tokens: list[int]) -> Answer:
    is_cut_off = tokens[-1:] != [tokenizer.eos_token_id]
    text = tokenizer.decode(tokens, skip_special_tokens=True).strip()
    return Answer(text, len(tokens) - (not is_cut_off), is_cut_off)


def _say(vlm: Vlm, batch: Opened, max_new_tokens: int, *, stop: int) -> dict[int, list[int]]:
    """Return number -> new tokens of every prompt, up to its stop token; a finished answer leaves at once."""
    said: dict[int, list[int]] = {prompt.number: [] for prompt in batch.prompts}
    decoding = Decoding(vlm)
    words = decoding.join(batch)
    while True:
        for word in words:
            said[word.number].append(word.token)
        decoding.leave(
            {word.number for word in words if word.token == stop or len(said[word.number]) == max_new_tokens}
        )
        if not decoding:
            return said
        words = decoding.step()
