"""Traps that scorers of this field fall into: ours does not, and the protocols of those who do reproduce them.

What a reader of files can get wrong is tested with it, in `test_benchmark_*.py`; the rules of each protocol, one by
one, in `test_protocols_mcq.py` and `test_protocols_words.py`.
"""

import re

import pytest
from evaluation_samples import question

from gmai_vl.evaluation.answers.extraction import extract, is_correct
from gmai_vl.evaluation.protocols import PROTOCOLS
from gmai_vl.evaluation.protocols.protocol import Verdict

SCANS = {"A": "CT", "B": "MRI", "C": "X-ray", "D": "ultrasound"}


NINE = {letter: f"stage {number}" for number, letter in enumerate("ABCDEFGHI", start=1)}


SIDES = {"A": "lung", "B": "left lung", "C": "right lung", "D": "heart"}


COUNTS = {"A": "1", "B": "11", "C": "11.5", "D": "115"}


VIRUSES = {"A": "hepatitis B", "B": "hepatitis A", "C": "hepatitis C", "D": "vitamin D deficiency"}


STATES = {"A": "normal", "B": "abnormal", "C": "no finding", "D": "edema"}


LETTERS = {
    "the article A": (SCANS, {"A mass is seen": None, "a fracture": None, "A scan of MRI type": "B", "A": "A"}),
    "the pronoun I": (NINE, {"I cannot tell": None, "I think it is stage 2": "B", "I see B": None, "I": "I"}),
    "texts that end in a capital letter": (
        VIRUSES,
        {"hepatitis A": "B", "The diagnosis is hepatitis B.": "A", "It is hepatitis A, not hepatitis B": "B"},
    ),
    "options past D": (
        NINE,
        {f"A and B are wrong. The answer is {letter}.": letter for letter in "CDEFGHI"},
    ),
    "full-width letters and brackets": (SCANS, {"Ｂ": "B", "（Ｂ）": "B", "答案：（Ｃ）。": "C", "【ｄ】": "D"}),
    "Chinese cues without blanks": (
        SCANS,
        {"答案是B": "B", "故选C因为有骨骼": "C", "答案选D": "D", "应选B项": "B", "因此答案为A，而不是B": "A"},
    ),
    "lower case": (SCANS, {"b": "B", "(c)": "C", "answer: d": "D", "the answer is a": "A"}),
    "several letters": (SCANS, {"A or B": None, "A, B": None, "AB": None, "(A)(B)": None, "It is A and B": None}),
    "a rejected letter before the chosen one": (
        SCANS,
        {"Not A but B": "B", "A is wrong, the answer is B": "B", "not (A), therefore (C)": "C", "不是A，而是B": "B"},
    ),
    "a rejected letter behind the chosen one": (SCANS, {"A, not B": "A", "(B), not (A)": "B", "选A，不选B": "A"}),
    "letters inside a reasoning block": (
        SCANS,
        {
            "<think>(A)? The answer is A.</think>B": "B",
            "<think>(A)</think><think>(C)</think>\nB": "B",
            "The answer is A.</think>B": "B",  # the opening tag stood in the prompt
            "<think>\\boxed{A}</think><answer>D</answer>": "D",
        },
    ),
    "an unclosed reasoning block": (
        SCANS,
        {"<think>The answer is A. \\boxed{A} <answer>A</answer>": None, "<think>so it must be (B)": None},
    ),
    "answers in tags that differ": (SCANS, {"<answer>A</answer><answer>B</answer>": None}),
    "an answer without the tags that were asked for": (SCANS, {"B": "B", "<answer>B": "B", "B</answer>": "B"}),
    "nested boxes": (
        SCANS,
        {
            r"\boxed{\text{B}}": "B",
            r"\boxed{\boxed{B}}": "B",
            r"A? $\boxed{\mathbf{\text{(B)}}}$": "B",
            r"\boxed{A} or \boxed{B}": None,
        },
    ),
    "JSON": (
        SCANS,
        {
            '{"reason": "A is bone", "answer": "B"}': "B",
            '```json\n{"answer": "B. MRI"}\n```': "B",
            '{"answer": null, "reason": "(A)"}': None,
            '{"answer": "B", "reason": "not (A), bec': "B",
        },
    ),
    "JSON that is cut off in its reasoning": (
        SCANS,
        {'{"reason": "A is dark", "ans': None, '{"reasoning": "This could be a CT sc': None, '{"reason": "(A)': None},
    ),
    "letters beyond the options": (SCANS, {"E": None, "The answer is E.": None, "(F)": None, "G. MRI": None}),
}  # fmt: skip
"""Trap -> options, and what is read out of responses."""


TEXTS = {
    "no inside ordinary words": (STATES, {"abnormal": "B", "nodules": None, "unknown": None, "diagnosis": None}),
    "one option text contained in another": (
        SIDES,
        {"left lung": "B", "The left lung is shown": "B", "lung": "A", "the right lung, not the left lung": "C"},
    ),
    "one number inside a longer one": (
        COUNTS,
        {"There are 11 of them": "B", "111": None, "seen in 2011": None, "11.5 cm": "C", "115": "D"},
    ),
    "negated mentions of an option": (
        SCANS,
        {
            "This is not CT, it is MRI": "B",
            "not an MRI": None,
            "MRI is ruled out": None,
            "排除CT，考虑MRI": "B",
            "没有MRI": None,
        },
    ),
    "options of one text": ({"A": "cyst", "B": "mass", "C": "cyst"}, {"cyst": None, "It is a cyst": None, "mass": "B"}),
    "None and NA as texts of options": ({"A": "None", "B": "NA", "C": "1"}, {"None": "A", "NA": "B", "": None}),
}
"""Trap -> options, and what is read out of responses."""


def by_trap(tables):
    return [pytest.param(*each, id=f"{trap}: {each[1]!r}") for trap, rows in tables.items() for each in rows]


@pytest.mark.parametrize(
    ("options", "response", "letter"),
    by_trap({trap: [(options, *pair) for pair in said.items()] for trap, (options, said) in (LETTERS | TEXTS).items()}),
)
def test_our_protocol_is_not_fooled_by(options, response, letter):
    assert extract("mcq", "", options, response).choice == letter


AIR, HEART = "Is there a pneumothorax?", "Is the heart normal?"


HEART_ZH, ILL_ZH = "心脏是否正常？", "心脏是否异常？"


YES_OR_NO = {
    "no inside ordinary words": (AIR, dict.fromkeys(["normal", "not", "nothing", "know", "nodule", "diagnosis"])),
    "yes inside ordinary words": (AIR, dict.fromkeys(["eyes", "yesterday", "The eyes are seen"])),
    "both words in one answer": (AIR, dict.fromkeys(["yes and no", "yes, no", "Yes or no?", "有没有"])),
    "a no that denies something else": (AIR, {"There is no fracture.": None, "Yes, there is no fracture.": "yes"}),
    "normal and abnormal by what is asked": (HEART_ZH, {"正常": "yes", "不正常": "no", "异常": "no", "心脏异常": "no"}),
    "normal and abnormal by what is asked, turned": (
        ILL_ZH,
        {"正常": "no", "不正常": "yes", "异常": "yes", "心脏正常": "no", "没有异常": "no", "并不正常": None},
    ),
}  # fmt: skip
"""Trap -> question, and the answer that is read out of responses."""


@pytest.mark.parametrize(
    ("asked", "response", "answer"),
    by_trap({trap: [(asked, *pair) for pair in said.items()] for trap, (asked, said) in YES_OR_NO.items()}),
)
def test_our_yes_and_no_is_not_fooled_by(asked, response, answer):
    assert extract("closed", asked, None, response).choice == answer


def test_ten_chinese_wordings_of_yes_and_no_are_two_answers():
    for answer, wordings in {"yes": "是的 包含 有 可以 是", "no": "不是 不包含 没有 不可以 否"}.items():
        for wording in wordings.split():
            said = extract("closed", "图片中包含肾脏吗?", None, wording)
            assert (wording, said.choice) == (wording, answer)
            assert is_correct("closed", "图片中包含肾脏吗?", None, "包含", said) == (answer == "yes")


# trap -> (gold, response, right)
OPEN = {
    "lists in another order": [
        ("Liver, Heart", "Heart, Liver.", True),
        ("Liver, Heart, Spleen", "spleen, liver and heart", True),
        ("肝脏，心脏", "心脏、肝脏", True),
        ("Liver, Heart", "Liver", False),
        ("Liver, Heart", "Liver, Heart, Spleen", False),
        ("Left lung, Right heart", "right lung, left heart", False),
        ("1,234", "234,1", False),
    ],
    "a gold answer of one letter": [
        ("B", "Because of the blood flow", False),
        ("B", "a rib", False),
        ("B", "B.", True),
    ],
    "negated mentions": [("pneumonia", "not pneumonia", False), ("pneumonia", "no pneumonia", False)],
    "the gold answer beside others": [("liver", "liver or heart", False)],
    "one number inside a longer one": [("1", "11", False), ("0.33", "0.333", False), ("50", "50%", False)],
    "some of the words, or in another order": [("left lung", "lung", False), ("left lung", "lung left", False)],
    "hyphens and parentheses": [("stem cells (oval cells), in-situ", "Stem cells (oval cells), in-situ.", True)],
    "very long answers": [("lorem ipsum " * 60, "Lorem ipsum " * 60, True), ("lorem ipsum " * 60, "lorem", False)],
}


@pytest.mark.parametrize(("gold", "response", "right"), by_trap(OPEN))
def test_our_open_answers_are_not_fooled_by(gold, response, right):
    assert is_correct("open", "Where?", None, gold, extract("open", "Where?", None, response)) is right


def judged(protocol: str, response: str, **changes: object) -> Verdict:
    asked = question(1, **changes)
    (verdict,) = PROTOCOLS[protocol].judge([asked], {asked.id: response})
    return verdict


GUESS = "a guess"


REPRODUCED = {
    "texts that end in a capital letter": (
        VIRUSES,
        {("mmmu", "hepatitis B"): "B", ("vlmevalkit", "hepatitis B"): "B", ("huatuo", "hepatitis B"): "B"},
    ),
    "full-width letters and brackets": (SCANS, {("mmmu", "（Ｂ）"): GUESS, ("vlmevalkit", "（Ｂ）"): "Z"}),
    "Chinese cues without blanks": (SCANS, {("mmmu", "答案是B"): GUESS, ("vlmevalkit", "答案是B"): "Z"}),
    "several letters": (SCANS, {("mmmu", "A or B"): "B", ("huatuo", "(A) or (B)"): "A"}),
    "letters inside a reasoning block": (SCANS, {("mmmu", "<think>(A)?</think>B"): "A"}),
    "an unclosed reasoning block": (SCANS, {("mmmu", "<think>it could be (A)"): "A"}),
    "nested boxes": (SCANS, {("medevalkit", r"\boxed{\text{B}}"): GUESS}),
    "JSON": (SCANS, {("mmmu", '{"answer": "B"}'): GUESS, ("vlmevalkit", '{"answer": "B"}'): "Z"}),
    "letters beyond the options": (SCANS, {("huatuo", "E"): "E", ("mmmu", "(E)"): GUESS}),
    "one number inside a longer one": ({"A": "1", "B": "7"}, {("mmmu", "this was seen here in 2011"): "A"}),
}


@pytest.mark.parametrize(
    ("options", "told", "taken"),
    by_trap({trap: [(options, *pair) for pair in said.items()] for trap, (options, said) in REPRODUCED.items()}),
)
def test_the_reference_is_fooled_by(options, told, taken):
    protocol, response = told
    verdict = judged(protocol, response, options=options, answer="A")
    assert (GUESS if verdict.guessed else verdict.choice) == taken


@pytest.mark.parametrize("name", sorted(name for name, protocol in PROTOCOLS.items() if protocol.source != "ours"))
def test_a_protocol_names_the_commit_that_it_reproduces(name):
    assert re.search(r"[\w.-]+/[\w.-]+ [0-9a-f]{8}\b", PROTOCOLS[name].source)


def test_vlmevalkit_takes_just_its_marks_for_blanks_and_texts_up_to_twice_the_length():
    blanks = {mark for mark in map(chr, range(33, 127)) if not mark.isalnum()}
    seen = {mark for mark in blanks if judged("vlmevalkit", f"x{mark}C{mark}x", options=SCANS).choice == "C"}
    assert seen == set(".()[],:;!*#{}")
    long = "mri".ljust(2 * sum(map(len, SCANS.values())), "-")
    assert judged("vlmevalkit", long, options=SCANS).choice == "B"
    assert judged("vlmevalkit", long + "-", options=SCANS).choice == "Z"


@pytest.mark.parametrize("kind", ["closed", "open"])
@pytest.mark.parametrize("gold", ["liver", "yes", "?", "the"])
def test_answers_without_words_stop_no_protocol(kind, gold):
    for name in (name for name, protocol in PROTOCOLS.items() if kind in protocol.kinds):
        for response in ("", " ", ".", "...", "\n"):
            verdict = judged(name, response, kind=kind, options=None, answer=gold)
            assert 0 <= verdict.credit <= 1, name
            assert not verdict.correct or gold in ("?", "the"), name
