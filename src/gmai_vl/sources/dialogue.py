"""One row of questions and answers as a conversation: cleaned, its roles in order, its image in its place."""

import json
import math
import re
from typing import Any, Literal

from gmai_vl.foundation import BadItem
from gmai_vl.records import Conversation, ImageRef, Turn
from gmai_vl.sources.entries import Entry
from gmai_vl.sources.spec import TextSource
from gmai_vl.vocabulary import Language

MAX_CHARACTERS = 100_000
"""Of all turns of a conversation together; about 25,000 tokens."""
MAX_TURNS = 200

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
PLACEHOLDER = "<image>"
"""Where LLaVA shows the image."""

Role = Literal["system", "user", "assistant"]
ROLES: dict[str, Role] = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
}
"""What LLaVA's and OpenAI's forms call who speaks."""

_EMPTY = ("", "NULL", "null", "NaN", "nan")
"""What programs write where there is nothing. "None" and "N/A" are left: they may be answers."""

_LANGUAGES: dict[str, Language] = {"en": "en", "english": "en", "zh": "zh", "cn": "zh", "chinese": "zh"}
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters but tab and line break, and halves of characters, which UTF-8 cannot write."""
_CHINESE = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
_LETTER = re.compile(r"[^\W\d_]")
_CHINESE_FROM = 0.2
"""Share of Chinese characters among letters: a text about "T2 FLAIR" is Chinese, one that quotes a term is not."""


def conversation_of(spec: TextSource, row: Entry, name: str, images: int) -> Conversation:
    """Return what `row` holds, for an item with `images` (0 or 1) images. Raises BadItem with the reason.

    Texts lose blanks at their ends and nothing else.
    """
    options, letter = None, None
    if spec.conversations_column is not None:
        turns = _turns(row[spec.conversations_column], images)
    else:
        assert spec.question_column is not None and spec.answer_column is not None
        asked = _pieces(row[spec.question_column], images, "the question")
        answer = cleaned(row[spec.answer_column], "the answer")
        if answer is None:
            raise BadItem("has no answer")
        options = _options(spec, row)
        if options:
            letter = _letter(answer, options)
            answer = options[letter]
        turns = [Turn("user", asked), Turn("assistant", (answer,))]
    turns = _with_image(turns, images)
    size = sum(len(turn.text) for turn in turns) + sum(map(len, (options or {}).values()))
    if size > MAX_CHARACTERS:
        raise BadItem(f"has {size} characters, more than the limit of {MAX_CHARACTERS}")
    language = _language(spec, row, " ".join(turn.text for turn in turns))
    return Conversation(name=name, turns=tuple(turns), language=language, options=options, answer=letter)


def cleaned(value: Any, what: str) -> str | None:
    """Return a value as text without blanks at its ends; None where there is nothing: NULL, NaN, an empty text.

    Raises BadItem, naming `what`, for control characters, halves of characters, and what is no text or number.
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(int(value)) if value == int(value) else str(value)
    if not isinstance(value, str):
        raise BadItem(f"{what} is a {type(value).__name__}, not a text")
    text = value.replace("\r\n", "\n").replace("\r", "\n").strip("\ufeff \n\t")
    if found := _CONTROL.search(text):
        raise BadItem(f"{what} holds the control character U+{ord(found[0]):04X}")
    return None if text.strip() in _EMPTY else text.strip()


def images_named(spec: TextSource, row: Entry) -> list[str]:
    """Return the paths of the images of a row as it writes them. Raises BadItem if they are no paths."""
    if spec.image_column is not None:
        value = row[spec.image_column]
        named = [cleaned(each, "the image") for each in (value if isinstance(value, list) else [value])]
        return [path for path in named if path is not None]
    if spec.conversations_column is None:
        return []
    paths = []
    for message in messages_of(row[spec.conversations_column]):
        content = message.get("content")
        for part in content if isinstance(content, list) else []:
            if isinstance(part, dict) and part.get("type") in ("image", "image_url"):
                path = part.get("image") or part.get("path") or part.get("image_url")
                path = cleaned(path.get("url") if isinstance(path, dict) else path, "the image")
                if path is None or re.match(r"(data|https?|file):", path):
                    raise BadItem("an image part of its messages names no path below `images`")
                paths.append(path)
    return list(dict.fromkeys(paths))


def messages_of(value: Any) -> list[Entry]:
    """Return the messages of a conversation, which may be JSON inside a text column."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise BadItem("its conversation is a text that is no JSON") from None
    if not isinstance(value, list) or not value or not all(isinstance(each, dict) for each in value):
        raise BadItem("its conversation is no list of turns")
    if len(value) > MAX_TURNS:
        raise BadItem(f"has {len(value)} turns, more than the limit of {MAX_TURNS}")
    return value


def _turns(value: Any, images: int) -> list[Turn]:
    turns: list[Turn] = []
    for number, message in enumerate(messages_of(value), start=1):
        form = ("role", "content") if message.get("role") is not None else ("from", "value")
        said_by = message.get(form[0])
        role = ROLES.get(said_by.strip().lower()) if isinstance(said_by, str) else None
        if role is None:
            raise BadItem(f"turn {number} is said by {str(said_by)[:40]!r}; known: {', '.join(ROLES)}")
        content = message.get(form[1])
        if role == "system" and cleaned(content, "the system's turn") is None:
            continue
        expected = "system or user" if not turns else "assistant" if turns[-1].role == "user" else "user"
        if role not in expected:
            raise BadItem(f"turn {number} is said by the {role}; expected the {expected}")
        turns.append(Turn(role, _pieces(content, images, f"turn {number}")))
    if not turns or turns[-1].role != "assistant":
        raise BadItem("does not end with an answer")
    return turns


def _pieces(value: Any, images: int, what: str) -> tuple[str | ImageRef, ...]:
    """Return text and images of one turn in their order. Raises BadItem if it says nothing."""
    pieces: list[str | ImageRef] = []
    for part in value if isinstance(value, list) else [value]:
        kind = part.get("type") if isinstance(part, dict) else "text"
        if kind in ("image", "image_url"):
            pieces.append(ImageRef(0))
            continue
        text = cleaned(part.get("text") if isinstance(part, dict) else part, what)
        if kind != "text":
            raise BadItem(f"{what} holds a part of type {str(kind)[:40]!r}; known: text, image, image_url")
        for place, between in enumerate((text or "").split(PLACEHOLDER)):
            pieces += [ImageRef(0)] if place else []
            pieces += [between.strip()] if between.strip() else []
    if not any(isinstance(piece, str) for piece in pieces):
        raise BadItem(f"{what} is empty")
    if ImageRef(0) in pieces and not images:
        raise BadItem(f"{what} shows an image, but the row names none")
    return tuple(pieces)


def _with_image(turns: list[Turn], images: int) -> list[Turn]:
    """Put the image before the first question unless the row shows it somewhere itself, which it may do once."""
    shown = [turn.role for turn in turns for piece in turn.content if isinstance(piece, ImageRef)]
    if len(shown) > 1 or not set(shown) <= {"user"}:
        raise BadItem(
            f"shows its image {len(shown)} times, by {', '.join(sorted(set(shown)))}; a question shows it once"
        )
    if shown or not images:
        return turns
    first = next(number for number, turn in enumerate(turns) if turn.role == "user")
    turns[first] = Turn("user", (ImageRef(0), *turns[first].content))
    return turns


def _options(spec: TextSource, row: Entry) -> dict[str, str] | None:
    """Return letter -> text, without a letter that the texts themselves begin with; None where the row has none."""
    values = [row[column] for column in spec.options_columns]
    if len(values) == 1 and isinstance(values[0], dict):
        given = {letter: text for letter, text in values[0].items() if text is not None}
        if list(given) != list(LETTERS[: len(given)]):
            raise BadItem(f"its options are called {', '.join(given)[:80]}, not A, B, C in this order")
        values = list(given.values())
    elif len(values) == 1 and isinstance(values[0], list):
        values = values[0]
    texts = [cleaned(value, "an option") for value in values]
    while texts and texts[-1] is None:
        texts.pop()
    if not texts:
        return None
    if len(texts) < 2 or len(texts) > len(LETTERS) or None in texts:
        raise BadItem(f"has {len(texts)} options, {texts.count(None)} of them empty")
    known = [text for text in texts if text is not None]
    if all(re.match(rf"{letter}\s*[.:)]\s*\S", text) for letter, text in zip(LETTERS, known, strict=False)):
        known = [re.sub(r"^.\s*[.:)]\s*", "", text) for text in known]
    if len({text.casefold() for text in known}) < len(known):
        raise BadItem("two of its options read alike")
    return dict(zip(LETTERS, known, strict=False))


def _letter(answer: str, options: dict[str, str]) -> str:
    """Return the letter of the right option, given as a letter, as "B. text" or as the text."""
    alone = re.fullmatch(r"\(?([A-Za-z])[).:]?", answer)
    by_letter = {alone[1].upper()} & options.keys() if alone else set()
    bare = re.sub(r"^\(?[A-Z]\)?\s*[.:)]\s*(?=\S)", "", answer)
    by_text = {letter for letter, text in options.items() if text.casefold() in (answer.casefold(), bare.casefold())}
    found = by_letter | by_text
    if len(found) != 1:
        fault = "may mean several of its options" if found else "is neither a letter nor the text of its options"
        raise BadItem(f"the answer {answer[:80]!r} {fault}")
    return found.pop()


def _language(spec: TextSource, row: Entry, text: str) -> Language:
    if spec.language is not None:
        return spec.language
    if spec.language_column is not None:
        told = cleaned(row[spec.language_column], "the language")
        if told is not None:
            known = _LANGUAGES.get(re.split(r"[-_]", told.lower())[0])
            if known is None:
                raise BadItem(f"its language is {told[:40]!r}; known: {', '.join(_LANGUAGES)}")
            return known
    chinese, letters = len(_CHINESE.findall(text)), len(_LETTER.findall(text))
    return "zh" if letters and chinese >= _CHINESE_FROM * letters else "en"
