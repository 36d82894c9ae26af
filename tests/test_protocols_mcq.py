"""Letters as the protocols find them: examples worked by hand for every rule of every reference, faults included."""

from itertools import permutations
from random import Random

import pytest
from evaluation_samples import question
from hypothesis import given
from hypothesis import strategies as st

from gmai_vl.evaluation import Question
from gmai_vl.evaluation.protocols import PROTOCOLS
from gmai_vl.evaluation.protocols.protocol import Verdict

SCANS = {"A": "CT", "B": "MRI", "C": "X-ray", "D": "ultrasound"}
STAGES = {letter: f"stage {number}" for number, letter in enumerate("ABCDEFGHI", start=1)}
LUNGS = {"A": "lung", "B": "left lung", "C": "right lung", "D": "heart"}
TWICE = {"A": "cyst", "B": "mass", "C": "cyst", "D": "normal"}
ORGANS = {"A": "liver", "B": "kidney", "C": "Bladder"}
BLOOD = {"A": "B", "B": "A", "C": "AB", "D": "0"}

FIRST_DRAW = Random(42).choice("ABCD")
FIRST_OF_SEED_0 = Random(0).choice("ABCD")

# protocol -> (rule, options, gold, response, choice, correct, guessed)
TABLES = {
    "default": [
        ("a letter in brackets", SCANS, "B", "(B)", "B", True, False),
        ("of two letters none", SCANS, "B", "A or B", None, False, False),
        ("a rejected letter is none", SCANS, "A", "A, not B", "A", True, False),
        ("nothing is guessed", SCANS, "B", "It is blurred.", None, False, False),
    ],
    "mmmu": [
        ("marks come off both ends", SCANS, "B", "'B'", "B", True, False),
        ("marks in the order in which they come off", SCANS, "B", "B'!.,", "B", True, False),
        ("marks in another order", SCANS, "A", "B,.", FIRST_DRAW, True, True),
        ("a dot within quotation marks", SCANS, "A", "'B.'", FIRST_DRAW, True, True),
        ("brackets", SCANS, "C", "I choose (C) here", "C", True, False),
        ("brackets before blanks", SCANS, "C", "(C) rather than B or so", "C", True, False),
        ("the last of several in brackets", SCANS, "B", "(A) is wrong, (B) is right", "B", True, False),
        ("a rejected letter that comes last", SCANS, "B", "(B), not (A)", "A", False, False),
        ("by its last occurrence", SCANS, "A", "(A) or (B)? No, (A)", "A", True, False),
        ("between blanks", SCANS, "D", "Option D it is", "D", True, False),
        ("the last of several between blanks", SCANS, "D", "A or D", "D", True, False),
        ("the article is a letter", SCANS, "A", "A fracture", "A", True, False),
        ("the article hides the letter before it", SCANS, "B", "B because of A mass", "A", False, False),
        ("small letters are not seen", SCANS, "A", "b", FIRST_DRAW, True, True),
        ("a letter before a dot inside is not seen", SCANS, "A", "B. MRI", FIRST_DRAW, True, True),
        ("a letter before a colon inside is not seen", SCANS, "A", "B: MRI", FIRST_DRAW, True, True),
        ("a text in more than five words", SCANS, "B", "this looks like an mri scan", "B", True, False),
        ("no text in five words", SCANS, "A", "looks like an mri scan", FIRST_DRAW, True, True),
        ("a denied text counts", SCANS, "B", "this is surely not an mri scan", "B", True, False),
        ("the last of several texts", SCANS, "B", "it is not ultrasound but an MRI", "B", True, False),
        ("a text by its last occurrence", SCANS, "B", "an MRI, no an ultrasound, no an MRI", "B", True, False),
        ("texts that begin together: the first option", TWICE, "A", "what we see here is a cyst", "A", True, False),
        ("a text within another begins later", LUNGS, "B", "the finding is in the left lung", "A", False, False),
        ("brackets of other letters", SCANS, "A", "(E)", FIRST_DRAW, True, True),
        ("nothing: a random letter", SCANS, "A", "", FIRST_DRAW, True, True),
    ],
    "mmmu-pro": [
        ("the only letter behind the cue", SCANS, "B", "(A)? No.\nAnswer: B", "B", True, False),
        ("the letter in a dress", SCANS, "B", "Answer: **B.**", "B", True, False),
        ("of the last cue", SCANS, "D", "Answer: A\nAnswer: D", "D", True, False),
        ("of the last cue in a dress", SCANS, "D", "Answer: **C**\nAnswer: **D**", "D", True, False),
        ("a letter inside a word", SCANS, "A", "Answer: CT", "C", False, False),
        ("letters of two options: by form", SCANS, "B", "Answer: A (B)", "B", True, False),
        ("none behind the cue: by form", SCANS, "B", "(B)\nAnswer: see there", "B", True, False),
        ("the cue in lower case is none", SCANS, "A", "answer: B.", "B", False, False),
        ("no cue: by form", SCANS, "C", "Option C it is", "C", True, False),
        ("no cue: a blank behind is enough", SCANS, "D", "my choice:D okay", "D", True, False),
        ("no cue: a letter before a dot", SCANS, "B", "B.MRI", "B", True, False),
        ("no cue: of several the one between blanks", STAGES, "B", "B or MRI", "B", True, False),
        ("no cue: none between blanks, the first option", SCANS, "B", "xB or xC then", "B", True, False),
        ("no cue: no letter inside a word", SCANS, "A", "CT", FIRST_DRAW, True, True),
        ("no cue, no letter: drawn", SCANS, "A", "no idea", FIRST_DRAW, True, True),
    ],
    "lmms-eval": [
        ("brackets", SCANS, "C", "I choose (C) here", "C", True, False),
        ("a blank behind is enough", SCANS, "A", "my choice:A okay", "A", True, False),
        ("a false hit inside a word", STAGES, "B", "MRI is best", "I", False, False),
        ("a letter before a dot", SCANS, "B", "B.MRI", "B", True, False),
        ("a letter before a dot and a text", SCANS, "B", "B. MRI", "B", True, False),
        ("a blank before a dot", SCANS, "C", "B. or C then", "C", True, False),
        ("of several the one between blanks", STAGES, "B", "B or MRI", "B", True, False),
        ("of several the last between blanks", SCANS, "D", "A or D", "D", True, False),
        ("none of several between blanks: the first option", SCANS, "B", "xB or xC then", "B", True, False),
        ("several before dots: the first option", SCANS, "B", "B.1, C.2", "B", True, False),
        ("a text in more than five words", SCANS, "B", "this looks like an mri scan", "B", True, False),
        ("nothing: a random letter", SCANS, FIRST_OF_SEED_0, "no idea", FIRST_OF_SEED_0, True, True),
    ],
    "vlmevalkit": [
        ("a refusal is Z", SCANS, "A", "Cannot determine the answer", "Z", False, False),
        ("a refusal outranks a letter", SCANS, "A", "I'm sorry, but without the image provided: A", "Z", False, False),
        ("another refusal is none", SCANS, "A", "Sorry, I can't help with images like this. A", "A", True, False),
        ("a refusal in other case is none", SCANS, "A", "I cannot determine the answer: A", "A", True, False),
        ("a failed call has no letter", SCANS, "B", "Failed to obtain answer via API: B", "Z", False, False),
        ("a failed call has a text", SCANS, "B", "Failed to obtain answer via API: MRI", "B", True, False),
        ("marks become blanks", SCANS, "B", "**(B)**: MRI", "B", True, False),
        ("braces become blanks", SCANS, "B", "{B}", "B", True, False),
        ("quotation marks stay", SCANS, "B", "'B'", "Z", False, False),
        ("a letter among the last four words", SCANS, "B", "It is B for these three", "B", True, False),
        ("a letter before the last four words", SCANS, "B", "It is B for these four reasons", "Z", False, False),
        ("the first occurrence of a letter counts", SCANS, "B", "B, as it is plain to see: B", "Z", False, False),
        ("the article as a letter", SCANS, "B", "A scan of MRI", "A", False, False),
        ("two letters are none", SCANS, "B", "A or B", "Z", False, False),
        ("two letters, and a cue", SCANS, "B", "Not A: the answer is B", "B", True, False),
        ("the same letter twice is one", SCANS, "B", "B, so B", "B", True, False),
        ("a lone Z is Z", SCANS, "B", "Z, no MRI", "Z", False, False),
        ("Z beside two letters", SCANS, "B", "not Z: the answer is B, for A fails", "B", True, False),
        ("a cue in other case", SCANS, "B", "ANSWER IS **b** as A and C are not", "B", True, False),
        ("the letter may go on", SCANS, "A", "The answer is bone, for we see A and C", "B", False, False),
        ("the cue ends at D", STAGES, "E", "The answer is E, as A and B and C and D fail", "Z", False, False),
        ("E without the cue", STAGES, "E", "E", "E", True, False),
        ("the cue in two lines", SCANS, "B", "The answer\nis B, as A and C fail", "B", True, False),
        ("the cue before many stars", SCANS, "B", "The answer is ***B***, as A and C fail", "B", True, False),
        ("the cue knows no D without an option D", ORGANS, "A", "The answer is D", "Z", False, False),
        ("a text behind a cue that fails", ORGANS, "A", "The answer is D, liver", "A", True, False),
        ("the only text", SCANS, "B", "it is mri", "B", True, False),
        ("two texts", LUNGS, "B", "left lung", "Z", False, False),
        ("a text in a long response", SCANS, "B", "the picture that you see here must be mri", "Z", False, False),
        ("nothing is Z", SCANS, "B", "", "Z", False, False),
    ],
    "medevalkit": [
        ("a letter in either case", SCANS, "B", "b", "B", True, False),
        ("a letter as the first paragraph", SCANS, "B", "B\n\nThe answer is often C.", "B", True, False),
        ("a letter as the last paragraph", SCANS, "B", "Answer: see below.\n\nB", "B", True, False),
        ("the last paragraph before its dot", SCANS, "B", "It is written below.\n\nB. MRI", "B", True, False),
        ("a paragraph with a blank is no letter", SCANS, "D", " B\n\nIt is C.", "D", True, True),
        ("a box", SCANS, "C", r"So \boxed{C} it is", "C", True, False),
        ("the last box", SCANS, "B", r"\boxed{A}, no: \boxed{B}", "B", True, False),
        ("the word boxed without a box hides all", SCANS, "D", "The boxed region:B", "D", True, True),
        ("a tag", SCANS, "C", "<think>A</think><answer> C </answer>", "C", True, False),
        ("two tags are one text", SCANS, "A", "<answer>B</answer><answer>C</answer>", "A", True, True),
        ("a box before a tag", SCANS, "A", r"<answer>B</answer> \boxed{A}", "A", True, False),
        ("behind the last cue", SCANS, "D", "The answer is A. No, the answer is D", "D", True, False),
        ("a Chinese cue", SCANS, "D", "答案:D", "D", True, False),
        ("a full-width colon is no cue", SCANS, "D", "答案：D", "D", True, True),
        ("a cue in stars", SCANS, "B", "It is not A. **Answer:** B", "B", True, False),
        ("final answer", SCANS, "D", "Final answer D", "D", True, False),
        ("before the first dot", SCANS, "B", "B. MRI", "B", True, False),
        ("behind the last colon", SCANS, "B", "Choice: maybe:B", "B", True, False),
        ("a blank behind the colon stays", SCANS, "A", "Choice: B", "A", True, True),
        ("the text of an option", SCANS, "C", "X-RAY.", "C", True, False),
        ("a text that two options have, the gold one", TWICE, "C", "cyst", "C", True, False),
        ("a text that two options have", TWICE, "B", "cyst", "A", False, False),
        ("a letter whose text is the gold letter", BLOOD, "B", "A", "A", True, False),
        ("the most similar option", SCANS, "D", "ultrasonography", "D", True, True),
        ("a refusal", ORGANS, "A", "I cannot say", "B", False, True),  # i, n, y in common; else one letter
        ("nothing: the first option", SCANS, "A", "", "A", True, True),
        ("a letter beyond the options is like none", SCANS, "D", "e", "A", False, True),
    ],
    "huatuo": [
        ("a letter alone", SCANS, "B", "B", "B", True, False),
        ("behind is", SCANS, "B", "The answer is B.", "B", True, False),
        ("behind 是", SCANS, "B", "答案是B。", "B", True, False),
        ("behind 为", SCANS, "B", "应为B，因为", "B", True, False),
        ("behind a star", SCANS, "B", "**B** it is", "B", True, False),
        ("behind a bracket", SCANS, "B", "option (B)", "B", True, False),
        ("behind a quotation mark", SCANS, "B", 'option "B"', "B", True, False),
        ("behind any mark", SCANS, "B", "3-D MRI", "D", False, False),
        ("lower case stays and is wrong", SCANS, "B", "(b) MRI", "b", False, False),
        ("the first of several", SCANS, "A", "A, not B", "A", True, False),
        ("small a behind a bracket", SCANS, "A", "(a)", "a", False, False),
        ("articles are skipped", SCANS, "B", "A scan and a letter, B", "B", True, False),
        ("the pronoun is option I", SCANS, "B", "I see B", "I", False, False),
        ("the pronoun is right for I", STAGES, "I", "I cannot tell", "I", True, False),
        ("a letter of an abbreviation", SCANS, "B", "signal is high, i.e. MRI", "i", False, False),
        ("letters end at N", SCANS, "B", "P: MRI", "B", True, False),
        ("a letter inside a word is none", SCANS, "B", "Bmode, so mri", "B", True, False),
        ("the text that comes last", SCANS, "B", "not ultrasound, so mri", "B", True, False),
        ("a text by its last occurrence", SCANS, "D", "ultrasound, not mri: ultrasound", "D", True, False),
        ("the most similar option", SCANS, "D", "ultrasonography", "D", True, True),
        ("of equally similar options the last", TWICE, "C", "cyt", "C", True, True),
        ("nothing: the last option", SCANS, "D", "", "D", True, True),
    ],
    "omnimedvqa-difflib": [
        ("the same text", SCANS, "B", "MRI", "B", True, False),
        ("the most similar text", SCANS, "D", "an ultrasonography", "D", True, False),
        ("a letter meets a text that holds it", ORGANS, "A", "B", "C", False, False),
        ("the first of equals wins", SCANS, "C", "T", "A", False, False),
        ("equal texts are right in both places", TWICE, "C", "cyst", "A", True, False),
        ("nothing is similar", SCANS, "B", "q", None, False, False),
        ("nothing is said", SCANS, "A", "", None, False, False),
        ("case is a difference", {"A": "CT", "B": "fact"}, "A", "ct", "B", False, False),
    ],
    "omnimedvqa-prefix": [
        ("the option of the smallest loss", SCANS, "B", "B", "B", True, False),
        ("another option", SCANS, "B", "C", "C", False, False),
        ("equal texts are right in both places", TWICE, "C", "A", "A", True, False),
    ],
}


def judged(protocol: str, response: str, options: dict[str, str], gold: str, **changes: object) -> Verdict:
    asked = question(1, options=options, answer=gold, **changes)
    (verdict,) = PROTOCOLS[protocol].judge([asked], {asked.id: response})
    return verdict


def choices(protocol: str, questions: list[Question], responses: dict[str, str]) -> list[str | None]:
    return [verdict.choice for verdict in PROTOCOLS[protocol].judge(questions, responses)]


@pytest.mark.parametrize(
    ("protocol", "options", "gold", "response", "choice", "correct", "guessed"),
    [
        pytest.param(protocol, *row, id=f"{protocol}: {rule}")
        for protocol, rows in TABLES.items()
        for rule, *row in rows
    ],
)
def test_multiple_choice(protocol, options, gold, response, choice, correct, guessed):
    verdict = judged(protocol, response, options, gold)
    assert (verdict.choice, verdict.correct, verdict.guessed) == (choice, correct, guessed)
    assert verdict.unparsed == (guessed or choice in (None, "Z"))
    assert verdict.credit == float(correct)
    assert verdict.text == options.get((choice or "").upper(), "")


def test_every_protocol_that_knows_multiple_choice_is_in_the_table():
    assert set(TABLES) == {name for name, protocol in PROTOCOLS.items() if "mcq" in protocol.kinds}


def test_protocols_have_their_names_and_sources():
    assert all(name == protocol.name for name, protocol in PROTOCOLS.items())
    assert all(protocol.source and protocol.about and "\n" not in protocol.about for protocol in PROTOCOLS.values())


DRAWING = {"mmmu": 42, "mmmu-pro": 42, "lmms-eval": 0}  # protocol -> seed


@pytest.mark.parametrize(("protocol", "seed"), DRAWING.items())
@given(st.lists(st.tuples(st.integers(2, 6), st.booleans()), max_size=30))
def test_only_failures_draw_and_all_draws_come_from_one_generator(protocol, seed, items):
    questions = [
        question(number, options=dict(list(STAGES.items())[:count]), answer="A")
        for number, (count, _) in enumerate(items)
    ]
    responses = {one.id: "(B)" if found else "" for one, (_, found) in zip(questions, items, strict=True)}
    generator = Random(seed)
    expected = ["B" if found else generator.choice("ABCDEF"[:count]) for count, found in items]
    for _ in range(2):  # and a second run begins anew
        assert choices(protocol, questions, responses) == expected


@pytest.mark.parametrize("protocol", DRAWING)
def test_earlier_draws_change_a_draw(protocol):
    questions = [question(number, options=STAGES) for number in range(8)]
    silent = dict.fromkeys((one.id for one in questions), "")
    draws = choices(protocol, questions, silent)
    turned = choices(protocol, questions[::-1], silent)
    assert turned == draws  # the letters come in one order, whoever gets them
    assert turned[::-1] != draws
    assert choices(protocol, questions, silent | {"q000": "(A)"})[1:] == draws[:-1]


def test_drawn_letters_decide_and_are_told_apart():
    questions = [question(number, options=SCANS, answer="A") for number in range(200)]
    verdicts = PROTOCOLS["mmmu"].judge(questions, dict.fromkeys((one.id for one in questions), "no idea"))
    assert all(verdict.guessed and verdict.unparsed for verdict in verdicts)
    assert all(verdict.correct == (verdict.choice == "A") for verdict in verdicts)
    assert 30 < sum(verdict.correct for verdict in verdicts) < 70


def test_letters_are_right_by_chance_under_difflib():
    texts = ("Alpha", "Bravo", "Charlie", "Delta")  # each letter is most similar to one text, wherever that stands
    right = [
        judged("omnimedvqa-difflib", letter, dict(zip("ABCD", order, strict=True)), letter).correct
        for order in permutations(texts)
        for letter in "ABCD"
    ]
    assert sum(right) * 4 == len(right)


def test_medevalkit_on_omnimedvqa_compares_with_letter_and_text():
    assert not judged("medevalkit", "MRI", SCANS, "B").guessed
    on_set = judged("medevalkit", "MRI", SCANS, "B", source="omnimedvqa")
    assert (on_set.choice, on_set.correct, on_set.guessed) == ("B", True, True)
    assert not judged("medevalkit", "B. MRI", SCANS, "B", id="omnimedvqa-ACRIMA_0000").guessed


@pytest.mark.parametrize("source", ["pmc-vqa", "pmc-vqa-2", "medxpertqa-mm"])
def test_medevalkit_compares_with_the_labels_that_options_carry(source):
    verdict = judged("medevalkit", "MRI", SCANS, "B", source=source)
    assert (verdict.choice, verdict.correct, verdict.guessed) == ("B", True, True)


@pytest.mark.parametrize(
    ("source", "response", "correct"), [("omnimedvqa", "A", False), ("omnimedvqa", "C", True), ("s", "A", True)]
)
def test_medevalkit_on_omnimedvqa_knows_the_last_of_equal_options_alone(source, response, correct):
    assert judged("medevalkit", response, TWICE, "A", source=source).correct == correct


@pytest.mark.parametrize(("source", "choice"), [("omnimedvqa", "B"), ("medxpertqa-mm", "B"), ("pmc-vqa", "A")])
def test_medevalkit_takes_a_tag_before_a_box_on_two_sets(source, choice):
    assert judged("medevalkit", r"\boxed{A} <answer>B</answer>", SCANS, "B", source=source).choice == choice


@pytest.mark.parametrize(
    ("response", "choice", "guessed"),
    [
        ("<answer>B</answer>", "B", False),
        (r"(A)? No: \boxed{ (C) }", "C", False),
        ("(A) then (B)", "B", False),
        ("b", FIRST_DRAW, True),
        (r"\boxed{A} <answer>B</answer>", "B", False),
        (r"<answer>\boxed{A}, no: \boxed{B}</answer>", "B", False),
        (" B\n", "B", False),
        (r"B is it: \boxed{C", FIRST_DRAW, True),
    ],
)
def test_medevalkit_on_mmmu_unwraps_and_goes_on_as_mmmu(response, choice, guessed):
    verdict = judged("medevalkit", response, SCANS, "B", source="mmmu")
    assert (verdict.choice, verdict.guessed) == (choice, guessed)


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_a_kind_without_a_rule_is_an_error_that_names_the_question(name):
    unknown = question(7, kind="grounding", options=None, answer="")
    with pytest.raises(ValueError, match="q007: no rule for kind grounding; there are rules for "):
        PROTOCOLS[name].judge([unknown], {"q007": ""})


@pytest.mark.parametrize("name", sorted(TABLES))
def test_a_gold_letter_beyond_the_options_is_an_error(name):
    with pytest.raises(ValueError, match="q001: the answer `E` is no letter of"):
        judged(name, "A", SCANS, "E")
