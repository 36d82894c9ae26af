"""What a source itself asks and answers: said word for word, told apart by kind, and held against the case."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmai_vl.records import Case, Conversation, ImageRef, Sample, Turn
from gmai_vl.writing import check_sample, prompt_texts, write_given

ALL = ("caption", "percept", "instruct", "text-single", "text-multi")


def talk(*texts: str, image: bool = False, **fields: Any) -> Conversation:
    turns = [Turn("assistant" if number % 2 else "user", (text,)) for number, text in enumerate(texts)]
    if image:
        turns[0] = Turn("user", (ImageRef(0), texts[0]))
    return Conversation(**{"name": "q.json@row=1", "turns": tuple(turns), "language": "en", **fields})


def case(*conversations: Conversation, image: bool = False, **fields: Any) -> Case:
    pixels = np.zeros((5, 7) if image else (0, 0), np.uint8)
    return Case(
        **{
            "source": "t",
            "item": "a.png" if image else "q.json@row=1",
            "pixels": pixels,
            "modality": None,
            "task": "qa",
            "dimension": "2d" if image else "text",
            "conversations": conversations,
            "patient_id": "p1",
            "license": "MIT",
            **fields,
        }
    )


def only(made: Case, **keys: Any) -> Sample:
    (sample,) = write_given(made, **{"subsets": ALL, **keys})
    return sample


@pytest.mark.parametrize(
    ("texts", "language", "kind", "answer"),
    [
        (("Enlarged?", "Yes."), "en", "closed", "yes"),
        (("Enlarged?", "NO"), "en", "closed", "no"),
        (("增大吗？", "是。"), "zh", "closed", "是"),
        (("增大吗？", "否"), "zh", "closed", "否"),
        (("增大吗？", "yes"), "zh", "open", "yes"),
        (("Enlarged?", "Yes, slightly."), "en", "open", "Yes, slightly."),
        (("What?", "Heart"), "en", "open", "Heart"),
        (("What?", "Heart", "Large?", "yes"), "en", "dialogue", None),
    ],
)
@pytest.mark.parametrize("image", [False, True])
def test_kind_subset_and_answer(
    texts: tuple[str, ...], language: str, kind: str, answer: str | None, image: bool
) -> None:
    made = case(talk(*texts, image=image, language=language), image=image)
    sample = only(made)
    assert (sample.kind, sample.answer, sample.language) == (kind, answer, language)
    assert sample.subset == ("instruct" if image else "text-multi" if len(texts) > 2 else "text-single")
    assert sample.turns == made.conversations[0].turns
    assert sample.images == ((made.image_sha256,) if image else ())
    assert (sample.width, sample.height) == ((7, 5) if image else (0, 0))
    assert (sample.granularity, sample.patient_id, sample.license) == ("image" if image else "text", "p1", "MIT")
    assert sample.provenance.writer == "source"
    assert sample.provenance.prompt_id == f"source/given/{language}/0"
    assert sample.provenance.facts == {"form": "given", "conversation": "q.json@row=1", "rounds": len(texts) // 2}
    assert set(sample.provenance.checks.values()) == {True}
    assert sample.id.startswith(f"{'2d' if image else 'text'}#qa#any#t#")


CHOICE = {"options": {"A": "CT {question}", "B": "MRI"}, "answer": "B"}


@pytest.mark.parametrize(("answer_with", "said"), [("letter", "B"), ("text", "MRI")])
@pytest.mark.parametrize("image", [False, True])
def test_a_choice_lists_its_options(answer_with: str, said: str, image: bool) -> None:
    sample = only(case(talk("Which {one}?", "MRI", image=image, **CHOICE), image=image), answer_with=answer_with)
    assert (sample.kind, sample.answer, sample.options) == ("mcq", "B", CHOICE["options"])
    prompt = prompt_texts()[sample.provenance.prompt_id]
    listed = "Which {one}?\nA. CT {question}\nB. MRI\n"
    assert sample.turns[0].text == listed + prompt.splitlines()[-1]
    assert isinstance(sample.turns[0].content[0], ImageRef) == image
    assert sample.turns[1].text == said


def test_unwanted_subsets_are_left_out_and_numbers_go_on() -> None:
    made = case(talk("What?", "Heart"))
    assert write_given(made, subsets=("instruct", "text-multi")) == []
    pictured = case(talk("What?", "Heart", image=True), talk("Where?", "Left", image=True, name="2"), image=True)
    ids = [sample.id for sample in write_given(pictured, subsets=ALL, first_number=3)]
    assert [id.rsplit("#", 1)[1] for id in ids] == ["3", "4"]


def test_every_prompt_is_known_by_its_text() -> None:
    for conversation in (talk("What?", "Heart"), talk("Which?", "MRI", **CHOICE)):
        for answer_with in ("letter", "text"):
            assert only(case(conversation), answer_with=answer_with).provenance.prompt_id in prompt_texts()


TAMPERED = {
    "question": lambda sample: replace(sample, turns=(Turn("user", ("Why?",)), *sample.turns[1:])),
    "answer": lambda sample: replace(sample, turns=(sample.turns[0], Turn("assistant", ("Lung",)))),
    "label": lambda sample: replace(sample, answer="Lung"),
    "kind": lambda sample: replace(sample, kind="dialogue", answer=None),
    "language": lambda sample: replace(sample, language="zh"),
    "subset": lambda sample: replace(sample, subset="text-multi"),
    "options": lambda sample: replace(sample, options={"A": "x", "B": "y"}),
    "conversation": lambda sample: replace(
        sample, provenance=replace(sample.provenance, facts={"form": "given", "conversation": "other"})
    ),
}


@pytest.mark.parametrize("what", TAMPERED)
@pytest.mark.parametrize("choice", [False, True])
def test_what_the_source_does_not_say_is_found(what: str, choice: bool) -> None:
    made = case(talk("Which?", "MRI", **CHOICE) if choice else talk("What?", "Heart"))
    checks = check_sample(TAMPERED[what](only(made)), made)
    assert any(result is not True for result in checks.values()), checks


WORDS = st.text(min_size=1).filter(str.strip)


@given(
    st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4),
    st.none() | st.lists(WORDS, min_size=2, max_size=5, unique_by=str.casefold),
    st.sampled_from(["en", "zh"]),
    st.booleans(),
    st.sampled_from(["letter", "text"]),
)
def test_any_words_pass_their_own_check(
    rounds: list[tuple[str, str]], options: list[str] | None, language: str, image: bool, answer_with: str
) -> None:
    texts = [text for each in rounds for text in each]
    fields: dict[str, Any] = {"language": language}
    if options is not None:
        fields |= {"options": dict(zip("ABCDE", options, strict=False)), "answer": "B"}
        texts = [texts[0], options[1]]
    sample = only(case(talk(*texts, image=image, **fields), image=image), answer_with=answer_with)
    assert set(sample.provenance.checks.values()) == {True}
