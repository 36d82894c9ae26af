"""A row with `messages` as a conversation: turns with their texts and images, the last of them the answer."""

from typing import Any

from gmai_vl.evaluation.benchmarks.rows import Row
from gmai_vl.foundation import UserError
from gmai_vl.records import ImageRef, Turn


def conversation_of(row: Row) -> tuple[tuple[Turn, ...], tuple[str, ...], str]:
    """Return the turns up to the answer, the names of the images that they show, and the answer.

    A message has a `role` (system, user or assistant) and a `content`: a text, or a list of {"type": "text", "text": T}
    and {"type": "image", "image": PATH}. Raises UserError, with the row, where it has not, where the last two are not
    the user's and the assistant's, or the answer has an image or no text.
    """
    if row.values.get("image") is not None:
        raise UserError(f"{row.place}: has `image` beside `messages`; name the image in a message")
    messages = row.values["messages"]
    images: list[str] = []
    turns = [_turn(row, message, images) for message in messages] if isinstance(messages, list) else []
    if [turn.role for turn in turns[-2:]] != ["user", "assistant"]:
        raise UserError(f"{row.place}: `messages` do not end with one of the user and one of the assistant")
    answer = turns[-1]
    if not answer.text.strip() or any(isinstance(part, ImageRef) for part in answer.content):
        raise UserError(f"{row.place}: the last message is the answer; it needs a text and no image")
    return tuple(turns[:-1]), tuple(images), answer.text.strip()


def _turn(row: Row, message: Any, images: list[str]) -> Turn:
    """Return a message as a turn, and add the images that it names to `images`."""
    role, content = (message.get("role"), message.get("content")) if isinstance(message, dict) else (None, None)
    if role not in ("system", "user", "assistant"):
        raise UserError(f"{row.place}: a message has the role {role!r}; system, user or assistant is needed")
    pieces = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(pieces, list):
        raise UserError(f"{row.place}: a message has the content {str(content)[:60]}; a text or a list is needed")
    parts: list[str | ImageRef] = []
    for piece in pieces:
        kind = piece.get("type") if isinstance(piece, dict) else None
        held = piece.get(kind) if kind in ("text", "image") else None
        if not isinstance(held, str):
            raise UserError(f"{row.place}: {str(piece)[:60]} is no part of a message; a text or an image is needed")
        if kind == "image":
            images.append(held)
        parts.append(ImageRef(len(images) - 1) if kind == "image" else held)
    return Turn(role, tuple(parts))
