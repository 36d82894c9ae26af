"""Samples in the forms that `gmai data export` writes, and the way back: the same ids, turns, answers and sides.

LLaVA's form has no place for much of a sample; the key `gmai`, which other readers pass over, holds the rest. Messages
have a key for each. What was written by somebody else stays a plain entry.
"""

from collections.abc import Iterable, Sequence
from typing import Any, cast, get_args

from gmai_vl import vocabulary
from gmai_vl.foundation import BadItem, UserError
from gmai_vl.records import Conversation, ImageRef, Kind, Published, Split, Subset, Turn
from gmai_vl.sources.dialogue import LETTERS, MAX_CHARACTERS, PLACEHOLDER, ROLES, messages_of
from gmai_vl.sources.entries import Entry
from gmai_vl.sources.spec import EXPORT_KEY, EXPORTED, TextSource
from gmai_vl.vocabulary import Language, Term

SAID_BY = {"system": "system", "user": "human", "assistant": "gpt"}
"""Role -> what LLaVA calls it."""

MAX_NAME = 2_000
"""Characters of an id, a licence, or another name."""

_YES_NO = {"en": ("yes", "no"), "zh": ("是", "否")}
_VOCABULARY = {
    "modality": vocabulary.modality,
    "department": vocabulary.department,
    "clinical_task": vocabulary.clinical_task,
}
OF_CASES = ("modality", "department", "clinical_task", "license", "image_sha256", "split")
"""What all samples about one image have in common."""


def llava_value(turn: Turn) -> str:
    """Return a turn as LLaVA writes it: `<image>` on a line of its own where an image stands.

    A text that holds the mark itself gets blanks into it, as readers would look for one more image.
    """
    broken = PLACEHOLDER.replace("<", "< ").replace(">", " >")
    texts = (PLACEHOLDER if isinstance(part, ImageRef) else part.replace(PLACEHOLDER, broken) for part in turn.content)
    return "\n".join(texts)


def llava_turns(conversation: Any) -> list[Turn]:
    """Return the turns that `llava_value` wrote, images counted through. Raises BadItem if they are none."""
    turns: list[Turn] = []
    images = 0
    for number, message in enumerate(messages_of(conversation), start=1):
        value = message.get("value")
        if not isinstance(value, str):
            raise BadItem(f"turn {number}: `value` is no text")
        pieces: list[str | ImageRef] = []
        texts = value.split(PLACEHOLDER)
        for place, text in enumerate(texts):
            if place:
                pieces.append(ImageRef(images))
                images += 1
            bare = text.removeprefix("\n") if place else text
            bare = bare.removesuffix("\n") if place < len(texts) - 1 else bare
            pieces += [bare] if bare else []
        turns.append(Turn(_role(message.get("from"), number), tuple(pieces)))
    return turns


def message_of(turn: Turn, images: Sequence[str]) -> Entry:
    """Return a turn as a message: role and parts, an image by its path in `images`."""
    parts = [
        {"type": "image", "image": images[part.index]} if isinstance(part, ImageRef) else {"type": "text", "text": part}
        for part in turn.content
    ]
    return {"role": turn.role, "content": parts}


def message_turns(messages: Any, images: Sequence[str]) -> list[Turn]:
    """Return the turns that `message_of` wrote. Raises BadItem if they are none."""
    turns: list[Turn] = []
    for number, message in enumerate(messages_of(messages), start=1):
        content = message.get("content")
        if not isinstance(content, list):
            raise BadItem(f"turn {number}: `content` is no list of parts")
        pieces: list[str | ImageRef] = []
        for part in content:
            kind = part.get("type") if isinstance(part, dict) else None
            if kind == "text" and isinstance(part.get("text"), str):
                pieces.append(part["text"])
            elif kind == "image" and part.get("image") in images:
                pieces.append(ImageRef(images.index(part["image"])))
            else:
                raise BadItem(f"turn {number}: holds a part that is neither a text nor one of its images")
        turns.append(Turn(_role(message.get("role"), number), tuple(pieces)))
    return turns


def told_of(spec: TextSource, row: Entry) -> Entry | None:
    """Return what an export tells of the sample of a row, `EXPORTED` and perhaps `messages`; None for a plain row.

    Raises BadItem if it tells only a part of it.
    """
    if spec.exported is None:
        return None
    told = row[EXPORT_KEY] if spec.exported == "llava" else {column: row[column] for column in EXPORTED}
    if told is None or (spec.exported == "messages" and told["subset"] is None):
        return None
    if not isinstance(told, dict):
        raise BadItem(f"its `{EXPORT_KEY}` is no object; leave it out for a plain entry")
    if missing := [name for name in EXPORTED if name not in told]:
        raise BadItem(f"its `{EXPORT_KEY}` lacks `{missing[0]}`; export it again, or leave `{EXPORT_KEY}` out")
    return told


def published_conversation(spec: TextSource, row: Entry, told: Entry, name: str, images: Sequence[str]) -> Conversation:
    """Return the conversation of a row that an export wrote, about `images` (paths). Raises BadItem with the reason.

    Nothing is cleaned or put right: what is not as an export writes it cannot be used.
    """
    assert spec.conversations_column is not None
    given = row[spec.conversations_column]
    if spec.exported == "messages":
        turns = message_turns(given, images)
    elif told.get("messages") is None:
        turns = llava_turns(given)
    else:
        turns = message_turns(told["messages"], [str(number) for number in range(len(images))])
    _check_turns(turns, len(images))
    kind, language = _one_of(told, "kind", get_args(Kind)), _one_of(told, "language", get_args(Language))
    options = _options(told)
    answer = _text(told, "answer", MAX_CHARACTERS)
    _check_answer(kind, language, options, answer)
    split = told["split"] if told["split"] is None else _one_of(told, "split", get_args(Split))
    published = Published(
        id=_name(row, spec.id_column or "id"),
        subset=cast(Subset, _one_of(told, "subset", get_args(Subset))),
        kind=cast(Kind, kind),
        granularity=_name(told, "granularity"),
        answer=answer,
        split=cast(Split | None, split),
        source=_name(told, "source"),
        writer=_name(told, "writer"),
    )
    if (published.subset in ("text-single", "text-multi")) == bool(images):
        raise BadItem(f"subset {published.subset} with {len(images)} images")
    return Conversation(
        name=name,
        turns=tuple(turns),
        language=cast(Language, language),
        options=options,
        answer=answer if options else None,
        published=published,
    )


def agreed(told: Iterable[Entry]) -> Entry:
    """Return what the samples about one image have in common, `OF_CASES`. Raises BadItem if they do not agree."""
    common: Entry = {}
    for one in told:
        for name in OF_CASES:
            value = _text(one, name, MAX_NAME)
            if name in _VOCABULARY and value is not None:
                value = _known(name, value)
            if common.setdefault(name, value) != value:
                raise BadItem(f"its rows do not agree on `{name}`: {str(common[name])[:60]!r} and {str(value)[:60]!r}")
    return common


def _known(name: str, value: str) -> str:
    try:
        term: Term = _VOCABULARY[name](value)
    except UserError as error:
        raise BadItem(f"`{name}`: {error}") from None
    return term.en


def _role(value: Any, number: int) -> Any:
    role = ROLES.get(value) if isinstance(value, str) else None
    if role is None:
        raise BadItem(f"turn {number} is said by {str(value)[:40]!r}; known: {', '.join(ROLES)}")
    return role


def _check_turns(turns: Sequence[Turn], images: int) -> None:
    roles = [turn.role for turn in turns if turn.role != "system"]
    if roles != ["user", "assistant"] * (len(roles) // 2) or not roles or "system" in [turn.role for turn in turns[1:]]:
        raise BadItem(f"its turns are not user and assistant in turn: {', '.join(turn.role for turn in turns)[:80]}")
    shown = sorted(part.index for turn in turns for part in turn.content if isinstance(part, ImageRef))
    if shown != list(range(images)):
        raise BadItem(f"shows images {len(shown)} times and names {images}")
    texts = [part for turn in turns for part in turn.content if isinstance(part, str)]
    if not all(any(isinstance(part, str) for part in turn.content) for turn in turns) or not all(map(str.strip, texts)):
        raise BadItem("one of its turns is empty")
    if sum(map(len, texts)) > MAX_CHARACTERS:
        raise BadItem(f"has {sum(map(len, texts))} characters, more than the limit of {MAX_CHARACTERS}")
    for text in texts:
        _check_writable(text, "a turn")


def _check_answer(kind: str, language: str, options: dict[str, str] | None, answer: str | None) -> None:
    if (kind == "mcq") != (options is not None):
        raise BadItem(f"kind {kind} with {len(options or ())} options")
    if options is not None and answer not in options:
        raise BadItem(f"the answer {str(answer)[:40]!r} is no letter of its options")
    if kind == "closed" and answer not in _YES_NO[language]:
        raise BadItem(f"the answer {str(answer)[:40]!r} is neither of {', '.join(_YES_NO[language])}")
    if kind in ("open", "grounding") and not answer:
        raise BadItem(f"has no answer, though its kind is {kind}")


def _options(told: Entry) -> dict[str, str] | None:
    options = told["options"]
    if options is None:
        return None
    if not isinstance(options, list) or not all(isinstance(each, str) and each for each in options):
        raise BadItem("its options are no list of texts")
    if not 2 <= len(options) <= len(LETTERS) or len(set(options)) < len(options):
        raise BadItem(f"has {len(options)} options, {len(set(options))} of them different")
    for option in options:
        _check_writable(option, "an option")
    return dict(zip(LETTERS, options, strict=False))


def _one_of(told: Entry, name: str, known: Sequence[str]) -> str:
    value = told[name]
    if value not in known:
        raise BadItem(f"its `{name}` is {str(value)[:40]!r}; known: {', '.join(known)}")
    return str(value)


def _name(told: Entry, name: str) -> str:
    text = _text(told, name, MAX_NAME)
    if not text:
        raise BadItem(f"has no `{name}`")
    return text


def _text(told: Entry, name: str, most: int) -> str | None:
    value = told.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise BadItem(f"its `{name}` is a {type(value).__name__}, not a text")
    if len(value) > most:
        raise BadItem(f"its `{name}` has {len(value)} characters, more than the limit of {most}")
    _check_writable(value, f"`{name}`")
    return value


def _check_writable(text: str, what: str) -> None:
    """Raise BadItem for halves of characters, which UTF-8 cannot write."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadItem(f"{what} holds half of a character") from None
