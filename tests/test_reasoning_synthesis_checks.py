"""Checks of single traces: tables of what passes and what fails, and that no text makes them fail otherwise."""

import time

import pytest
from evaluation_samples import question
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reasoning_responses import xray

from gmai_vl.evaluation.prompts import turns_of
from gmai_vl.reasoning.synthesis.answers import Answer
from gmai_vl.reasoning.synthesis.checks import CHECKS, MOST_READ, faults_of, plain_thought, thought_of
from gmai_vl.reasoning.synthesis.known import judged_by
from gmai_vl.reasoning.synthesis.recipe import Demands
from gmai_vl.writing import measured

OPTIONS = {"A": "CT", "B": "MRI"}
SCAN = question(1, turns=turns_of("reason", "Is this scan CT or MRI?", OPTIONS, "mcq", "en", 1), options=OPTIONS,
                answer="B")  # fmt: skip
MANY = question(
    2,
    turns=turns_of("reason", "What does it show?", dict(zip("ABCDEFGHI", "stuvwxyzq", strict=True)), "mcq", "en", 1),
    options=dict(zip("ABCDEFGHI", ["a dark disc", *"stuvwxyz"], strict=True)),
    answer="A",
)
ZH_OPTIONS = {"A": "计算机断层扫描", "B": "磁共振"}
ZH = question(3, language="zh", turns=turns_of("reason", "这是哪种检查？", ZH_OPTIONS, "mcq", "zh", 1),
              options=ZH_OPTIONS, answer="B")  # fmt: skip

GOOD = "The fat below the skin is bright and the bone is dark. Only one of the two methods shows them so."
DEMANDS = Demands(min_words=5, max_words=60)


def answered(response, **changes):
    return Answer(**{"id": "q", "number": 1, "response": response, "model": "m"} | changes)


def thinking(thought, said="B"):
    return answered(f"<think>{thought}</think><answer>{said}</answer>")


def failing(asked, answer, demands=DEMANDS):
    return {name for name, fault in faults_of(asked, answer, demands).items() if fault is not None}


@pytest.mark.parametrize("said", ["B", "b", "(B)", "MRI", "B. MRI"])
def test_a_sound_trace_passes_every_check(said):
    assert failing(SCAN, thinking(GOOD, said)) == set()
    assert set(faults_of(SCAN, thinking(GOOD, said), DEMANDS)) == set(CHECKS)


RESPONSES = {
    f"<think>{GOOD}</think><answer>A</answer>": {"answer"},
    f"<think>{GOOD}</think><answer>A or B</answer>": {"answer"},
    f"<think>{GOOD}</think><answer>C</answer>": {"answer"},
    f"<think>{GOOD}</think> So: <answer>B</answer>": {"form"},
    f"{GOOD} <answer>B</answer>": {"form"},
    f"<THINK>{GOOD}</THINK><answer>B</answer>": {"form"},
    f"<answer>B</answer><think>{GOOD}</think>": {"form", "answer_first", "length"},
    f"<think>{GOOD}</think><answer>B</answer><answer>B</answer>": {"form", "answer"},
    f"<think><think>{GOOD}</think></think><answer>B</answer>": {"form", "nested_tags"},
    f"<think>{GOOD}<answer>B</answer></think>": {"form", "answer", "nested_tags"},
    "": {"form", "answer"},
    "I cannot help with that.": {"form", "answer"},
    "<think> </think><answer>B</answer>": {"form", "length"},
}


@pytest.mark.parametrize("response", RESPONSES)
def test_form_and_answer(response):
    assert failing(SCAN, answered(response)) == RESPONSES[response]


def test_what_was_cut_off_is_not_kept_even_if_it_looks_whole():
    whole = thinking(GOOD)
    assert failing(SCAN, whole.model_copy(update={"cut_off": True})) == {"cut_off"}


FIRST = {
    "B. The fat is bright and the bone is dark.",
    "(B) because the fat is bright and the bone is dark.",
    "B\nThe fat is bright and the bone is dark.",
    "Option B is right, as the fat is bright and the bone is dark.",
    "MRI. The fat is bright and the bone is dark.",
    "B. MRI. The fat is bright and the bone is dark.",
    "MRI, as the fat is bright and the bone is dark.",
    "This is an MRI, as the fat is bright and the bone is dark.",
    "**MRI** shows the fat bright and the bone dark.",
    "The answer is B. The fat is bright and the bone is dark.",
    "So the correct answer must be B: the fat is bright and the bone is dark.",
    "Answer: B. The fat is bright and the bone is dark.",
    "I choose B because the fat is bright and the bone is dark.",
    "A is the right answer, one might think, but the bone is dark.",
}
LATER = {
    "A bright rim of fat lies around the dark bone. That is how MRI shows it.",
    "The fat is bright and the bone dark. So the answer is B.\nBoth are seen in every slice.",
    "CT would show the bone bright. Here it is dark, and fat is bright.",
    "To find the answer, look at the bone first. It is dark, fat is bright.",
    "Option A shows bone bright, option B does not. Here the bone is dark.",
    "I see a bright rim of fat. The bone below is dark.",
    "E.g. the bone is dark here. The fat around it is bright.",
    "The right answer depends on the bone. It is dark, the fat is bright.",
}


@pytest.mark.parametrize("thought", sorted(FIRST))
def test_a_thought_that_begins_with_its_answer_is_none(thought):
    assert failing(SCAN, thinking(thought)) == {"answer_first"}


@pytest.mark.parametrize("thought", sorted(LATER))
def test_a_thought_may_come_to_its_answer(thought):
    assert failing(SCAN, thinking(thought)) == set()


@pytest.mark.parametrize(
    ("thought", "is_first"),
    [
        ("A dark disc lies in the middle of the noise.", True),
        ("The dark disc lies in the middle of the noise.", True),
        ("It is a dark disc in the middle of the noise.", True),
        ("A darker round region lies in the middle of the noise.", False),
        ("I look at the middle of the picture, which is darker.", False),
        ("I: the middle of the picture is darker than the noise.", True),
    ],
)
def test_articles_and_pronouns_are_no_letters(thought, is_first):
    assert ("answer_first" in failing(MANY, thinking(thought, "A"))) == is_first


@pytest.mark.parametrize(
    ("thought", "faults"),
    [
        ("脂肪呈高信号，骨皮质呈低信号，因此更符合磁共振的表现。", set()),
        ("答案是B。脂肪呈高信号，骨皮质呈低信号。", {"answer_first"}),
        ("B，脂肪呈高信号，骨皮质呈低信号。", {"answer_first"}),
        ("选B，因为脂肪呈高信号，骨皮质呈低信号。", {"answer_first"}),
        ("磁共振显示脂肪呈高信号，骨皮质呈低信号。", {"answer_first"}),
        ("这是磁共振，脂肪呈高信号，骨皮质呈低信号。", {"answer_first"}),
        ("The fat is bright and the bone is dark.", {"language"}),
    ],
)
def test_chinese_thoughts(thought, faults):
    assert failing(ZH, thinking(thought)) == faults


@pytest.mark.parametrize(
    ("thought", "faults"),
    [
        ("The fat shines.", {"length"}),
        ("fat bone rim " * 21, {"length", "repetition"}),
        ("这张图脂肪是亮的，骨头是暗的，所以不是前者。", {"language"}),
        ("Is this scan CT or MRI? Is this scan CT or MRI?", {"copied_options"}),
        ("The fat is bright <|im_end|> and the bone is dark.", {"markup"}),
        ("The fat in <image> is bright and the bone is dark.", {"markup"}),
        ("The fat is bright [INST] and the bone is dark.", {"markup"}),
        ("The fat is bright ＜answer＞ and the bone is dark.", {"markup"}),
        ("The fat is bright \x00 and the bone is dark.", {"markup"}),
        ("The fat is bright. The bone is dark. the fat is bright! The rim is thin. The fat is bright.", {"repetition"}),
        ("The fat is bright. The bone is dark. The fat is bright. The rim is thin.", set()),
        ("The fat is bright, I see, " * 4, {"repetition"}),
        ("It is bright, e.g. here, e.g. there, e.g. at the rim, where the fat lies.", set()),
    ],
)
def test_thoughts(thought, faults):
    assert failing(SCAN, thinking(thought)) == faults


@pytest.mark.parametrize(
    ("thought", "wrong", "borne_out"),
    [
        ("The rim is bright.", 0, 0),
        ("There is a pneumothorax.", 0, 1),
        ("There may be a pleural effusion.", 0, 0),
        ("There is a pneumothorax. There is a pleural effusion.", 1, 1),
        ("This is a CT scan.", 1, 0),
    ],
)
def test_the_annotation_bears_out_or_contradicts(thought, wrong, borne_out):
    facts = judged_by(measured(xray()), SCAN, thought)
    assert (len(facts.contradicted), facts.borne_out, facts.unknown) == (wrong, borne_out, None)


def test_what_is_longer_than_the_verifier_reads_is_unknown():
    assert "which the verifier reads" in judged_by(measured(xray()), SCAN, "There is a pneumothorax. " * 300).unknown


def test_demands_are_those_of_the_recipe():
    seven = thinking("The fat around the bone is bright.")
    assert failing(SCAN, seven, Demands(min_words=7, max_words=7)) == set()
    assert failing(SCAN, seven, Demands(min_words=8)) == {"length"}
    assert failing(SCAN, seven, Demands(min_words=0, max_words=6)) == {"length"}
    four = thinking("The fat is bright, I see, " * 4)
    assert failing(SCAN, four, Demands(min_words=0, most_repeats=4)) == set()


def test_a_million_characters_are_one_fault_and_read_in_no_time():
    for text in ("<think>" + "a" * 10**6, "<think>" * 150_000, "B " * 500_000, "脂" * 10**6):
        start = time.perf_counter()
        assert failing(SCAN, answered(text)) == {"length"}
        assert thought_of(answered(text)) is None
        assert time.perf_counter() - start < 0.1


@pytest.mark.parametrize(
    "unit", ["a", "B ", "B. ", "<think>", "the answer is ", "脂", "e.g. ", "(", "\n", "<|", "  .", "é"]
)
def test_the_longest_text_that_is_read_is_read_fast(unit):
    text = (unit * MOST_READ)[: MOST_READ - 40]
    start = time.perf_counter()
    faults_of(SCAN, thinking(text), DEMANDS)
    assert time.perf_counter() - start < 2


WORDS = st.sampled_from(
    [
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "B",
        "A.",
        "MRI",
        "fat ",
        "。",
        "\n",
        "脂肪",
        "<|im_end|>",
        "(",
        "is",
    ]
)
TEXTS = st.one_of(
    st.text(st.characters(codec=None)),
    st.lists(st.one_of(WORDS, st.text(max_size=3))).map("".join),
    st.text().map(lambda thought: f"<think>{thought}</think><answer>B</answer>"),
)


@given(TEXTS)
@example("<think>\ud800</think><answer>B</answer>")
@settings(max_examples=150)
def test_no_text_makes_a_check_fail_in_another_way(text):
    for asked in (SCAN, MANY, ZH):
        faults = faults_of(asked, answered("").model_copy(update={"response": text}), DEMANDS)
        assert all(fault is None or (isinstance(fault, str) and fault) for fault in faults.values())
        if faults["form"] is None:
            assert thought_of(answered("").model_copy(update={"response": text})) is not None


@given(st.text(max_size=60), st.integers(0, 10**6), st.integers(0, 10**6))
def test_thoughts_are_alike_whatever_their_case_marks_and_numbers(text, one, other):
    assert plain_thought(f"{text} {one}") == plain_thought(f"{text}, {other}. ")
    assert plain_thought(text) == plain_thought(f"  {text}\n")


def test_other_words_are_other_thoughts():
    assert plain_thought("The rim is BRIGHT, 3 mm.") == plain_thought("the rim is bright; 12 mm")
    assert plain_thought("the rim is bright") != plain_thought("the rim is dark")
