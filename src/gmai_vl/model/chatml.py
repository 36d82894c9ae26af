"""Conversations as tokens: the ChatML form, labels on answers only, images as as many tokens as they have features."""

# T tokens of all conversations of a batch · N images · C channels · S side of an image

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from tokenizers import AddedToken
from torch import Tensor
from transformers import LlavaProcessor, PreTrainedTokenizerBase

from gmai_vl.model.images import image_token_count
from gmai_vl.model.templates import encode_by_template
from gmai_vl.model.within import within_conversation
from gmai_vl.records import ImageRef, Turn

IMAGE, START, END = "<image>", "<|im_start|>", "<|im_end|>"
IGNORED = -100
"""Label of a token that no loss is taken on (PyTorch's default)."""

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' -}}
{%- if message['content'] is string -%}
{{- message['content'] -}}
{%- else -%}
{%- for part in message['content'] -%}
{{- '' if loop.first else '\\n' -}}
{{- '<image>' if part['type'] == 'image' else part['text'] -}}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>' -}}
{{- '' if loop.last and not add_generation_prompt else '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}"""
"""No begin token, no system message of our own (GMAI-VL trains without either, arXiv 2411.14522)."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One conversation as tokens."""

    input_ids: list[int]
    """Image tokens stand as often as an image has features."""

    labels: list[int]
    """The token where a loss is taken on it, IGNORED elsewhere. Not shifted: labels[i] is about input_ids[i]."""

    images: tuple[int, ...] = ()
    """Index of each image that is shown, in reading order."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Conversations end to end in one row, without padding: what the losses take."""

    input_ids: Tensor
    """[T]"""

    labels: Tensor
    """[T], IGNORED where no loss is taken."""

    lengths: tuple[int, ...]
    """Tokens of each conversation, in order; they add up to T."""

    pixel_values: Tensor | None
    """[N, C, S, S] in reading order of the whole batch; None without images."""

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch on `device`."""
        pixels = None if self.pixel_values is None else self.pixel_values.to(device)
        return Batch(self.input_ids.to(device), self.labels.to(device), self.lengths, pixels)


def prepare_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    """Give a tokenizer the tokens and the template of our conversations, where it lacks them."""
    special = [AddedToken(token, special=True, normalized=False) for token in (IMAGE, START, END)]
    tokenizer.add_tokens(special, special_tokens=True)
    if tokenizer.pad_token is None:
        tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.eos_token = END
    tokenizer.chat_template = CHAT_TEMPLATE


def encode(processor: LlavaProcessor, turns: Sequence[Turn], *, answer_only: bool = True) -> Encoded:
    """Encode a whole conversation for training.

    A loss is taken on what the assistant says, up to and with the end token; with `answer_only` false on all text.
    """
    (encoded,) = encode_many(processor, [turns], answer_only=answer_only)
    return encoded


def encode_many(
    processor: LlavaProcessor, conversations: Sequence[Sequence[Turn]], *, answer_only: bool = True
) -> list[Encoded]:
    """Encode many conversations as `encode` does one: the tokenizer sees each distinct text once, all at a time.

    Raises UserError where the processor has a template that is not ours and that cannot write one of them.
    """
    if processor.chat_template != CHAT_TEMPLATE:
        return [_encode_by_template(processor, turns, answer_only=answer_only) for turns in conversations]
    pieces = [list(_pieces(processor, turns, answer_only)) for turns in conversations]
    texts = list({what for conversation in pieces for what, _ in conversation if isinstance(what, str)})
    tokens = dict(zip(texts, text_tokens(processor, texts), strict=True))
    image = [processor.image_token_id] * image_token_count(processor)
    encoded = []
    for conversation in pieces:
        ids: list[int] = []
        labels: list[int] = []
        images: list[int] = []
        for what, is_learnt in conversation:
            if isinstance(what, ImageRef):
                images.append(what.index)
                some = image
            else:
                some = tokens[what] if isinstance(what, str) else [what]
            ids += some
            labels += some if is_learnt else [IGNORED] * len(some)
        encoded.append(Encoded(ids, labels, tuple(images)))
    return encoded


def cut_to(processor: LlavaProcessor, encoded: Encoded, length: int) -> Encoded | None:
    """Return the conversation cut to at most `length` tokens, the last of them part of an answer.

    Answers lose their end, and the rounds after the last that begins in time are lost whole; images stay whole. None
    where no word of an answer comes in time.
    """
    if len(encoded.input_ids) <= length:
        return encoded
    kept = length
    while kept and encoded.labels[kept - 1] == IGNORED:
        kept -= 1
    if not kept:
        return None
    ids = encoded.input_ids[:kept]
    shown = ids.count(processor.image_token_id) // image_token_count(processor)
    return Encoded(ids, encoded.labels[:kept], encoded.images[:shown])


def encode_prompt(processor: LlavaProcessor, turns: Sequence[Turn]) -> Encoded:
    """Encode a conversation up to where the assistant speaks next: the very tokens that stand there in training."""
    if processor.chat_template != CHAT_TEMPLATE:
        return _encode_by_template(processor, turns, asks=True)
    asked = encode(processor, turns)
    start = processor.tokenizer.convert_tokens_to_ids(START)
    separator, header = text_tokens(processor, ["\n", _header("assistant")])
    ids = asked.input_ids + (separator if turns else []) + [start, *header]
    return Encoded(ids, [IGNORED] * len(ids), asked.images)


def _encode_by_template(
    processor: LlavaProcessor, turns: Sequence[Turn], *, answer_only: bool = True, asks: bool = False
) -> Encoded:
    image_tokens = image_token_count(processor)
    ids, labels, images = encode_by_template(processor, turns, ignored=IGNORED, image_tokens=image_tokens, asks=asks)
    if not answer_only:
        labels = [IGNORED if token == processor.image_token_id else token for token in ids]
    return Encoded(ids, labels, images)


def _pieces(
    processor: LlavaProcessor, turns: Sequence[Turn], answer_only: bool
) -> Iterator[tuple[str | ImageRef | int, bool]]:
    """Yield what a conversation is made of, texts, images and special tokens, and whether a loss is taken on it.

    Each text is tokenized by itself. An answer is one from its first word on, its header belongs to what was asked, as
    in GMAI-VL's training (released code, chat messages): a prompt then ends where the answer's first token begins.
    """
    start, end = processor.tokenizer.convert_tokens_to_ids([START, END])
    for number, turn in enumerate(turns):
        if number:
            yield "\n", not answer_only
        yield start, not answer_only
        said = turn.role == "assistant" or not answer_only
        text = _header(turn.role)
        if turn.role == "assistant":
            yield text, not answer_only
            text = ""
        for place, part in enumerate(turn.content):
            text += "\n" if place else ""
            if isinstance(part, ImageRef):
                if text:
                    yield text, said
                yield part, False
                text = ""
            else:
                text += part
        if text:
            yield text, said
        yield end, said


def _header(role: str) -> str:
    return f"{role}\n"


def text_tokens(processor: LlavaProcessor, texts: list[str]) -> list[list[int]]:
    """Tokenize texts as texts: `<|im_end|>` or `<image>` inside them are letters, never the special token."""
    if not texts:
        return []
    tokenizer = within_conversation(processor.tokenizer)
    return tokenizer(texts, add_special_tokens=False, split_special_tokens=True).input_ids


def collate(processor: LlavaProcessor, batch: Sequence[Encoded], images: Sequence[Tensor]) -> Batch:
    """Put conversations end to end into one batch.

    `images` are the prepared ones [C, S, S] of all conversations in reading order, as `Encoded.images` lists them.
    Raises ValueError, naming the counts, where they are not as many as the conversations show.
    """
    ids_T = torch.tensor([token for encoded in batch for token in encoded.input_ids])
    labels_T = torch.tensor([label for encoded in batch for label in encoded.labels])
    tokens = int((ids_T == processor.image_token_id).sum())
    features = len(images) * image_token_count(processor)
    if tokens != features:
        raise ValueError(f"{tokens} image tokens in the batch for {features} features of {len(images)} images")
    lengths = tuple(len(encoded.input_ids) for encoded in batch)
    return Batch(ids_T, labels_T, lengths, torch.stack(list(images)) if images else None)
