"""Questions drawn at random: which stay and on which side, which are asked once, and where their right letters lie."""

from collections import Counter
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmai_vl.evaluation import Question
from gmai_vl.foundation import BadItem
from gmai_vl.reasoning.items import SIDES, About, Side
from gmai_vl.reasoning.questions.item import Item, sound
from gmai_vl.reasoning.questions.letters import with_letters
from gmai_vl.reasoning.questions.sides import FIRST, apart, without_repeats


def item(
    *,
    side: Side = "train",
    image: str = "0",
    patient: str | None = None,
    stem: str = "What?",
    options: tuple[str, ...] = ("cyst", "liver"),
    answer: str = "A",
    source: str = "s",
    form: str | None = None,
) -> Item:
    question = Question(
        id="",
        kind="mcq",
        language="en",
        turns=(),
        stem=stem,
        images=(image,),
        options=dict(zip("ABCDEFGHIJKL", options, strict=False)),
        answer=answer,
        source=source,
        patient_id=patient,
        form=form,
    )
    return Item(
        question=sound(question), side=side, license=None, about=About(), picture=Path("x.png"), place=f"{side} {image}"
    )


@given(
    st.lists(st.tuples(st.sampled_from(SIDES), st.integers(2, 9), st.sampled_from("pq")), max_size=40),
    st.integers(0, 9),
)
def test_letters_are_dealt_evenly_and_the_right_text_stays_right(kinds: list[tuple[Side, int, str]], seed: int) -> None:
    items = [
        item(side=side, image=str(number), options=tuple(f"text {place}" for place in range(count)), form=form)
        for number, (side, count, form) in enumerate(kinds)
    ]
    dealt = with_letters(items, seed)
    assert dealt == with_letters(items[::-1], seed)
    by_id = {one.id: one for one in items}
    counts: Counter[tuple[Side, int, str]] = Counter()
    for one in dealt:
        assert one.options[one.question.answer] == "text 0"
        assert sorted(one.options.values()) == sorted(by_id[one.id].options.values())
        assert list(one.options) == list("ABCDEFGHI"[: len(one.options)])
        counts[one.side, len(one.options), one.question.answer] += 1
    for side in SIDES:
        for number in range(2, 10):
            of_all = [counts[side, number, letter] for letter in "ABCDEFGHI"[:number]]
            assert max(of_all) - min(of_all) <= 1
    assert len(dealt) == len(items)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(SIDES), st.integers(0, 6), st.sampled_from([None, "p", "q", "r"]), st.sampled_from("ab")
        ),
        max_size=14,
    )
)
@settings(max_examples=200)
def test_no_patient_image_or_question_is_on_two_sides(drawn: list[tuple[Side, int, str | None, str]]) -> None:
    items = [item(side=side, image=str(i), patient=patient, stem=stem) for side, i, patient, stem in drawn]
    kept, leaks = apart(items)
    assert Counter(map(id, [*kept, *(one for one, _ in leaks)])) == Counter(map(id, items))
    for one, two in combinations(kept, 2):
        if one.side != two.side:
            assert one.image != two.image and one.id != two.id
            assert one.question.patient_id is None or one.question.patient_id != two.question.patient_id
    for one, reason in leaks:  # by a path of images and patients, something of it is on an earlier side
        reached, grown = [one], True
        while grown:
            more = [two for two in items if two not in reached and any(_tied(two, three) for three in reached)]
            reached, grown = reached + more, bool(more)
        first = min((two.side for two in reached), key=FIRST.index)
        assert FIRST.index(first) < FIRST.index(one.side) and reason.endswith(f" in {first}")
        assert any(two.side == first for two in reached)
    once, repeats = without_repeats(kept, items)
    assert len({one.id for one in once}) == len(once) and len(once) + len(repeats) == len(kept)


def _tied(one: Item, two: Item) -> bool:
    patient = one.question.patient_id
    return one.image == two.image or (patient is not None and patient == two.question.patient_id)


def test_what_is_on_two_sides_is_dropped_from_the_later_one() -> None:
    test, train = item(side="test", image="1", patient="p"), item(side="train", image="2", patient="p")
    val, far = item(side="val", image="1", patient="q"), item(side="train", image="3", patient="q")
    free, stranger = item(side="train", image="4"), item(side="train", image="5", patient="p", source="another")
    kept, leaks = apart([train, far, free, test, val, stranger])
    assert kept == [free, test, stranger]
    assert [(one.image, reason) for one, reason in leaks] == [
        ("2", "its patient is also in test"),
        ("3", "its patient shares an image with one in test"),
        ("1", "its image is also in test"),
    ]


def test_a_question_asked_twice_is_kept_once_and_one_answered_twice_not_at_all() -> None:
    first, again = item(options=("cyst", "liver")), item(stem="what? ", options=("Liver.", "cyst"), answer="B")
    one, two = item(image="2"), item(image="2", answer="B")
    lost = item(side="test", stem="Where?", answer="B", image="3")
    items = [
        first,
        again,
        one,
        two,
        item(stem="Where?"),
        item(options=("cyst", "spleen")),
        item(stem="Where?", image="3"),
    ]
    kept, left_out = without_repeats(items, [*items, lost])
    assert [each.question.stem for each in kept] == ["What?", "Where?", "What?"] and kept[0] is first
    assert [reason for _, reason in left_out] == [
        "is asked before: train 0",
        *["is asked again with another answer"] * 3,
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"options": {"A": "Cyst", "B": "cyst.", "C": "x"}}, "two of its options read alike"),
        ({"options": {"A": "肿瘤", "B": "肿瘤。"}}, "two of its options read alike"),
        ({"options": {"A": "cyst"}}, "has fewer than two options"),
        ({"options": None}, "has fewer than two options"),
        ({"options": {"A": "cyst", "B": " ."}}, "one of its options is empty"),
        ({"options": dict(zip("ABCDEFGHIJ", "klmnopqrst", strict=True))}, "has more than 9 options"),
        ({"answer": "C"}, "its answer is none of its options"),
        ({"answer": None}, "its answer is none of its options"),
        ({"options": {"A": "x", "B": "All of the above"}}, "one of its options speaks of the others"),
        ({"options": {"A": "x", "B": "y", "C": "A and B"}}, "one of its options speaks of the others"),
        ({"options": {"A": "x", "B": "both A, B"}}, "one of its options speaks of the others"),
        ({"options": {"A": "x", "B": "以上都是"}}, "one of its options speaks of the others"),
        ({"images": ()}, "has no image"),
        ({"images": ("1", "2")}, "has several images"),
        ({"stem": " "}, "has no question besides its options"),
        ({"stem": "See <image 2>"}, "it marks an image that it does not have"),
    ],
)
def test_what_has_no_single_answer_in_any_order_is_left_out(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadItem, match=f"^{reason}$"):
        sound(replace(item().question, **change))


@pytest.mark.parametrize("text", ["a cyst", "hepatitis A and B", "10 mm 以上", "no finding", "none of these", "A"])
def test_options_that_only_look_so_are_kept(text: str) -> None:
    assert item(options=(text, "another")).options["A"] == text
