"""Questions and dialogues that a source itself holds: their samples say what it says, word for word."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from gmai_vl.records import Case, Conversation, ImageRef, Kind, Provenance, Published, Sample, Subset, Turn
from gmai_vl.writing.phrases import given_prompt
from gmai_vl.writing.samples import checked, sample_about

YES_NO = {"yes": "yes", "no": "no", "是": "是", "否": "否"}
"""What a source answers, in lower case and without a full stop -> the answer of a closed question."""


def write_given(
    case: Case, *, subsets: Sequence[str], answer_with: Literal["letter", "text"] = "letter", first_number: int = 0
) -> list[Sample]:
    """Return a sample for every conversation of `case` whose subset is wanted.

    About an image: instruct; text alone: text-single, or text-multi with several rounds. A choice gets its options and
    an instruction below the question, and `answer_with` as in `write_samples`. Languages are those of the source.
    `first_number` is the running number of the first sample in the ids.
    """
    wanted = [each for each in case.conversations if subset_of(case, each) in subsets]
    samples = (
        _sample(case, conversation, answer_with, number)
        for number, conversation in enumerate(wanted, start=first_number)
    )
    return checked(samples, case)


def subset_of(case: Case, conversation: Conversation) -> Subset:
    """Return where a conversation belongs."""
    if conversation.published is not None:
        return conversation.published.subset
    if case.has_image:
        return "instruct"
    return "text-multi" if rounds_of(conversation) > 1 else "text-single"


def rounds_of(conversation: Conversation) -> int:
    """Return the number of questions."""
    return sum(turn.role == "user" for turn in conversation.turns)


def closed_answer(conversation: Conversation) -> str | None:
    """Return yes, no, 是 or 否 where the last answer is one of them in the conversation's language."""
    answer = YES_NO.get(conversation.turns[-1].text.strip().rstrip(".。!！").lower())
    return answer if answer is not None and answer.isascii() == (conversation.language == "en") else None


def _published_again(case: Case, conversation: Conversation, published: Published, number: int) -> Sample:
    """Return the sample that an export holds, with its id and word for word."""
    prompt_id, _ = given_prompt(None, conversation.language)
    sample = sample_about(
        case,
        number,
        subset=published.subset,
        kind=published.kind,
        granularity=published.granularity,
        language=conversation.language,
        turns=conversation.turns,
        options=conversation.options,
        answer=published.answer,
        provenance=Provenance(
            writer="source",
            prompt_id=prompt_id,
            facts={
                "form": "given",
                "conversation": conversation.name,
                "rounds": rounds_of(conversation),
                "published": {"source": published.source, "writer": published.writer},
            },
        ),
    )
    return replace(sample, id=published.id)


def _sample(case: Case, conversation: Conversation, answer_with: Literal["letter", "text"], number: int) -> Sample:
    if conversation.published is not None:
        return _published_again(case, conversation, conversation.published, number)
    options, letter = conversation.options, conversation.answer
    style: Literal["mcq", "mcq-text"] = "mcq" if answer_with == "letter" else "mcq-text"
    prompt_id, prompt = given_prompt(style if options else None, conversation.language)
    turns = conversation.turns
    kind: Kind
    answer: str | None
    if options is not None:
        assert letter is not None, conversation.name
        said = letter if answer_with == "letter" else options[letter]
        turns = _as_choice(turns, prompt, options, said)
        kind, answer = "mcq", letter
    elif rounds_of(conversation) > 1:
        kind, answer = "dialogue", None
    else:
        closed = closed_answer(conversation)
        kind, answer = ("closed", closed) if closed else ("open", turns[-1].text)
    return sample_about(
        case,
        number,
        subset=subset_of(case, conversation),
        kind=kind,
        granularity="image" if case.has_image else "text",
        language=conversation.language,
        turns=turns,
        options=options,
        answer=answer,
        provenance=Provenance(
            writer="source",
            prompt_id=prompt_id,
            facts={"form": "given", "conversation": conversation.name, "rounds": rounds_of(conversation)},
        ),
    )


def _as_choice(turns: tuple[Turn, ...], prompt: str, options: dict[str, str], said: str) -> tuple[Turn, ...]:
    """Put the options below the question, in the words of `prompt`."""
    asked, answered = turns
    images = tuple(piece for piece in asked.content if isinstance(piece, ImageRef))
    listed = "\n".join(f"{letter}. {text}" for letter, text in options.items())
    question = prompt.format(question=asked.text, options=listed)
    return (replace(asked, content=(*images, question)), replace(answered, content=(said,)))
