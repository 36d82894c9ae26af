"""Conversations in a template that is not ours: a checkpoint of others is asked, and learns, in the words it knows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from jinja2 import TemplateError
from transformers import LlavaProcessor

from gmai_vl.foundation import UserError
from gmai_vl.model.within import within_conversation
from gmai_vl.records import ImageRef, Turn

FIRST_MARK = 0xF0000
"""Marks stand for what people wrote while a template is rendered: private characters, which no template has."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """Text without a special token, or one special token."""

    text: str
    is_special: bool = False
    learnt: tuple[tuple[int, int], ...] = ()
    """Spans of characters of `text` that a loss is taken on."""


def encode_by_template(
    processor: LlavaProcessor, turns: Sequence[Turn], *, ignored: int, image_tokens: int, asks: bool
) -> tuple[list[int], list[int], tuple[int, ...]]:
    """Return tokens and labels of a conversation as the processor's template writes it, and its images in order.

    Special tokens are those that the template writes; the same letters in what people wrote are text. A loss is taken
    on what the assistant says and on the special token that ends it: the one of the template or, behind the last
    answer, that of the tokenizer. Elsewhere labels are `ignored`. An image has `image_tokens` tokens. With `asks` the
    next answer is begun.

    Raises UserError where there is no template, or it cannot write such a conversation.
    """
    tokenizer = processor.tokenizer
    ids: list[int] = []
    labels: list[int] = []
    pieces, images = _pieces(processor, turns, asks)
    if not (pieces and pieces[0].is_special and pieces[0].text == tokenizer.bos_token):
        ids += tokenizer("").input_ids  # what the tokenizer puts before every text
        labels += [ignored] * len(ids)
    for number, piece in enumerate(pieces):
        if piece.is_special:
            token = tokenizer.convert_tokens_to_ids(piece.text)
            some = [token] * (image_tokens if piece.text == processor.image_token else 1)
            learnt = [bool(piece.learnt)] * len(some)
        else:
            split = (within_conversation(tokenizer) if number else tokenizer)(
                piece.text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
            )
            some = split.input_ids
            learnt = [
                any(start < end_of_span and end > start_of_span for start_of_span, end_of_span in piece.learnt)
                for start, end in split.offset_mapping
            ]
        ids += some
        labels += [token if is_learnt else ignored for token, is_learnt in zip(some, learnt, strict=True)]
    return ids, labels, images


def _pieces(processor: LlavaProcessor, turns: Sequence[Turn], asks: bool) -> tuple[list[_Piece], tuple[int, ...]]:
    said = [part for turn in turns for part in turn.content if isinstance(part, str)]
    by_assistant = [turn.role == "assistant" for turn in turns for part in turn.content if isinstance(part, str)]
    written = _written(processor, _marked(turns), asks)
    places = [written.find(chr(FIRST_MARK + number)) for number in range(len(said))]
    if -1 in places or places != sorted(places) or any(written.count(written[place]) != 1 for place in places):
        raise UserError("chat template: does not write each text of a conversation once and in order; it is not used")
    pieces: list[_Piece] = []
    for number, (before, after) in enumerate(pairwise([-1, *places, len(written)])):
        answer = number > 0 and by_assistant[number - 1]
        if number:
            _add_text(pieces, said[number - 1], is_learnt=answer)
        literals = list(_literals(processor, written[before + 1 : after]))
        if answer and number == len(said) and not asks and not (literals and literals[0][1]):
            literals = [(str(processor.tokenizer.eos_token), True)]
        for place, (literal, is_special) in enumerate(literals):
            if is_special:
                pieces.append(
                    _Piece(literal, is_special=True, learnt=((0, len(literal)),) if answer and not place else ())
                )
            else:
                _add_text(pieces, literal, is_learnt=False)
    # Templates show the images of a turn in their order, wherever between its texts.
    images = tuple(part.index for turn in turns for part in turn.content if isinstance(part, ImageRef))
    if sum(piece.is_special and piece.text == processor.image_token for piece in pieces) != len(images):
        raise UserError(f"chat template: does not write one {processor.image_token} for each image; it is not used")
    return pieces, images


def _marked(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    number = FIRST_MARK
    messages = []
    for turn in turns:
        content: list[dict[str, str]] = []
        for part in turn.content:
            content.append({"type": "image"} if isinstance(part, ImageRef) else {"type": "text", "text": chr(number)})
            number += isinstance(part, str)
        messages.append({"role": turn.role, "content": content})
    return messages


def _written(processor: LlavaProcessor, messages: list[dict[str, Any]], asks: bool) -> str:
    if not processor.chat_template:
        raise UserError("the checkpoint has no chat template: nothing says how a conversation with it looks")
    try:
        return str(processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=asks))
    except (TemplateError, TypeError, KeyError) as error:
        raise UserError(f"chat template: cannot write this conversation: {str(error).splitlines()[0]}") from error


def _literals(processor: LlavaProcessor, text: str) -> Iterator[tuple[str, bool]]:
    """Split what a template wrote at its special tokens; the longest counts where several begin."""
    added = {token.content for token in processor.tokenizer.added_tokens_decoder.values()}
    specials = sorted(added | {processor.image_token}, key=len, reverse=True)
    start = place = 0
    while place < len(text):
        found = next((token for token in specials if text.startswith(token, place)), None)
        if found is None:
            place += 1
            continue
        if start < place:
            yield text[start:place], False
        yield found, True
        start = place = place + len(found)
    if start < len(text):
        yield text[start:], False


def _add_text(pieces: list[_Piece], text: str, *, is_learnt: bool) -> None:
    """Add text to the last piece, or as a new one behind a special token: a tokenizer sees what stands together."""
    before = pieces.pop() if pieces and not pieces[-1].is_special else _Piece("")
    span = ((len(before.text), len(before.text) + len(text)),) if is_learnt and text else ()
    pieces.append(_Piece(before.text + text, learnt=before.learnt + span))
