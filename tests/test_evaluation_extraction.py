"""Answers read out of responses: labelled responses in two languages, traps of other scorers, and properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmai_vl.evaluation.answers.extraction import LONGEST_RESPONSE, extract, is_correct

SCANS = {"A": "CT", "B": "MRI", "C": "X-ray", "D": "ultrasound"}
PLANES = {"A": "横断面", "B": "冠状面", "C": "矢状面"}
LUNGS = {"A": "lung", "B": "left lung", "C": "right lung", "D": "normal lung"}
FINDINGS = {
    "A": "normal",
    "B": "abnormal",
    "C": "Hepatitis B",
    "D": "E. coli",
    "E": "None",
    "F": "1",
    "G": "11",
    "H": "11.5",
}
STAGES = {letter: f"stage {number}" for number, letter in enumerate("ABCDEFGHI", start=1)}
CONDITIONS = {"A": "正常", "B": "异常", "C": "不典型", "D": "无法确定"}
TWICE = {"A": "cyst", "B": "cyst", "C": "a mass"}

CHOICES = [
    # a letter in a dress
    (SCANS, "A", "A"),
    (SCANS, "A.", "A"),
    (SCANS, "b", "B"),
    (SCANS, "(A)", "A"),
    (SCANS, "[c]", "C"),
    (SCANS, "Ａ", "A"),
    (SCANS, "（Ｂ）", "B"),
    (SCANS, "【D】", "D"),
    (SCANS, "「B」。", "B"),
    (SCANS, "**B**", "B"),
    (SCANS, "`C`", "C"),
    (SCANS, "'B'", "B"),
    (SCANS, "B\n", "B"),
    (SCANS, "B B B B", "B"),
    (SCANS, "B<|im_end|>", "B"),
    (STAGES, "I", "I"),
    (STAGES, "I.", "I"),
    # a letter with its text or a reason
    (SCANS, "B. MRI", "B"),
    (SCANS, "B) MRI", "B"),
    (SCANS, "B: MRI", "B"),
    (SCANS, "(B) MRI", "B"),
    (SCANS, "B MRI", "B"),
    (SCANS, "B，因为图像为磁共振", "B"),
    (SCANS, "B because CT would show bone", "B"),
    (SCANS, "B: MRI, because CT would show bone", "B"),
    (SCANS, "A is the correct answer", "A"),
    (SCANS, "B\n\nThe image looks unlike CT.", "B"),
    (SCANS, "**B. MRI**\n\nExplanation: A. CT would show bone, C. X-ray has no slices.", "B"),
    # cues
    (SCANS, "The answer is B.", "B"),
    (SCANS, "The answer is B", "B"),
    (SCANS, "the answer is b", "B"),
    (SCANS, "The correct answer is (C).", "C"),
    (SCANS, "The correct option is: D", "D"),
    (SCANS, "Answer:B", "B"),
    (SCANS, "Answer: B. MRI", "B"),
    (SCANS, "Final answer: D", "D"),
    (SCANS, "The answer is a.", "A"),
    (SCANS, "The answer is a CT scan.", "A"),
    (SCANS, "The answer is **MRI**.", "B"),
    (SCANS, "The answer is A because B would show more.", "A"),
    (SCANS, "I would go with B.", "B"),
    (SCANS, "My choice: B", "B"),
    (SCANS, "It's B.", "B"),
    (SCANS, "I think the answer is A", "A"),
    (SCANS, "Option D is correct", "D"),
    (SCANS, "Probably B", "B"),
    (SCANS, "The answer is likely B", "B"),
    (SCANS, "A) CT\n\nB) MRI\n\nThe answer is B", "B"),
    (SCANS, "The image has no radiation artefacts, so option (B).", "B"),
    (SCANS, "There are slices.\nThe contrast is soft.\n\nC", "C"),
    (SCANS, "The answer is A... after more thought, the final answer: B", "B"),
    (SCANS, "As an AI model I cannot diagnose, but the answer is B", "B"),
    (PLANES, "答案是B", "B"),
    (PLANES, "答案：Ｂ。", "B"),
    (PLANES, "正确答案为：A. 横断面", "A"),
    (PLANES, "答案应该是C", "C"),
    (PLANES, "选B", "B"),
    (PLANES, "选择C选项", "C"),
    (PLANES, "选项B", "B"),
    (PLANES, "B项", "B"),
    (PLANES, "B 正确", "B"),
    (PLANES, "故选A", "A"),
    (PLANES, "选A。因为B不对", "A"),
    # option texts
    (SCANS, "MRI", "B"),
    (SCANS, "mri.", "B"),
    (SCANS, "x-ray", "C"),
    (SCANS, "an X-ray", "C"),
    (SCANS, "It is an MRI.", "B"),
    (SCANS, "A CT scan of the chest", "A"),
    (SCANS, "I think it is MRI", "B"),
    (SCANS, "B-mode ultrasound", "D"),
    (SCANS, "Is it CT? It is MRI.", "B"),
    (PLANES, "冠状面", "B"),
    (PLANES, "这是冠状面图像。", "B"),
    (PLANES, "我认为是矢状面", "C"),
    (LUNGS, "left lung", "B"),
    (LUNGS, "The left lung is shown.", "B"),
    (LUNGS, "lung", "A"),
    (FINDINGS, "It looks abnormal.", "B"),
    (FINDINGS, "hepatitis B", "C"),
    (FINDINGS, "The diagnosis is hepatitis B.", "C"),
    (FINDINGS, "E. coli grows here", "D"),
    (FINDINGS, "None", "E"),
    (FINDINGS, "There are 11 of them", "G"),
    (FINDINGS, "11.5", "H"),
    (CONDITIONS, "异常", "B"),
    (CONDITIONS, "无法确定", "D"),
    (CONDITIONS, "图像正常", "A"),
    # denials
    (SCANS, "A, not B", "A"),
    (SCANS, "Not A but B", "B"),
    (SCANS, "not (A), (C)", None),
    (SCANS, "B is wrong, C is right", "C"),
    (SCANS, "(A) is incorrect. (B) is correct.", "B"),
    (SCANS, "The modality is MRI rather than CT", "B"),
    (SCANS, "A T2-weighted MRI, not a CT.", "B"),
    (SCANS, "I first thought of A, but the answer is B", "B"),
    (PLANES, "不是横断面，而是冠状面", "B"),
    (PLANES, "不是A，而是B", "B"),
    (PLANES, "A不正确，B正确", "B"),
    # reasoning and wrappers
    (SCANS, "<think>maybe A, or C</think>B", "B"),
    (SCANS, "maybe A</think>\n\nB", "B"),
    (SCANS, "<think>A</think><answer>B</answer>", "B"),
    (SCANS, "<answer>B. MRI", "B"),
    (SCANS, "It follows that \\boxed{B}", "B"),
    (SCANS, "A seems fine, yet \\boxed{\\text{B}}.", "B"),
    (SCANS, '{"reason": "bone is dark", "answer": "B"}', "B"),
    (SCANS, "A. CT\nB. MRI\nC. X-ray\nD. ultrasound\nAnswer: C", "C"),
    # nothing, or more than one
    (SCANS, "", None),
    (SCANS, "   \n", None),
    (SCANS, "?", None),
    (SCANS, "AB", None),
    (SCANS, "A or B", None),
    (SCANS, "Both A and B are right", None),
    (SCANS, "A. CT\nB. MRI", None),
    (SCANS, "A and B", None),
    (SCANS, "A/B", None),
    (SCANS, "A、B", None),
    (SCANS, "A, B", None),
    (SCANS, "(A) (B)", None),
    (SCANS, "It could be either A or B.", None),
    (SCANS, "CT or MRI", None),
    (SCANS, "A: 20%, B: 80%", None),
    (SCANS, "A. CT B. MRI C. X-ray D. ultrasound", None),
    (SCANS, "not A", None),
    (SCANS, "The answer is not A.", None),
    (SCANS, "not CT", None),
    (SCANS, "Neither A nor B", None),
    (SCANS, "It is neither CT nor MRI", None),
    (SCANS, "The answer is A. Wait, the answer is B.", "B"),
    (SCANS, "<answer>A</answer><answer>B</answer>", None),
    (SCANS, "<think>the answer is A", None),
    (SCANS, "<answer></answer>", None),
    (SCANS, "A. MRI", None),
    (SCANS, "E", None),
    (SCANS, "The answer is E.", None),
    (SCANS, "E. CT", None),
    (SCANS, "I", None),
    (SCANS, "I see a scan.", None),
    (SCANS, "A mass is seen", None),
    (SCANS, "a mass", None),
    (SCANS, "Vitamin D is low", None),
    (SCANS, "T cells and B cells", None),
    (SCANS, "None of the above", None),
    (SCANS, "I cannot determine whether it is CT.", None),
    (SCANS, "I'm sorry, I can't help with that.", None),
    (SCANS, "I cannot say that the answer is A", None),
    (SCANS, "I am not sure if the answer is A", None),
    (SCANS, "Which of A, B, C?", None),
    (STAGES, "I think so", None),
    (STAGES, "I, personally, see a mass", None),
    (FINDINGS, "111", None),
    (FINDINGS, "T1", None),
    (FINDINGS, "paranormal", None),
    (TWICE, "cyst", None),
    (TWICE, "mass", "C"),
    (PLANES, "无法判断", None),
    (PLANES, "不是冠状面", None),
    (PLANES, "横断面或冠状面", None),
    (CONDITIONS, "不正常", None),
    (SCANS, "MRI " * (LONGEST_RESPONSE // 2), None),
]

AIR = "Is there a pneumothorax? Answer yes or no."
AIR_ZH = "图中是否有气胸？请回答是或否。"
NORMAL = "Is the chest normal?"
NORMAL_ZH = "胸片是否正常？"

CLOSED = [
    (AIR, "Yes", "yes"),
    (AIR, "yes.", "yes"),
    (AIR, "**Yes**", "yes"),
    (AIR, "Ｙｅｓ", "yes"),
    (AIR, "Y", "yes"),
    (AIR, "No.", "no"),
    (AIR, "No\n", "no"),
    (AIR, "n", "no"),
    (AIR, "Yes, there is a pneumothorax.", "yes"),
    (AIR, "Yes there is", "yes"),
    (AIR, "No, the lungs are clear", "no"),
    (AIR, "No there is not", "no"),
    (AIR, "No - the lungs are clear", "no"),
    (AIR, "The answer is no", "no"),
    (AIR, "The answer is: Yes.", "yes"),
    (AIR, "I think yes", "yes"),
    (AIR, "I would say no.", "no"),
    (AIR, "<think>yes?</think>No", "no"),
    (AIR, "<answer>no</answer>", "no"),
    (AIR, "There is no pneumothorax.", "no"),
    (AIR, "There is no evidence of pneumothorax in this image.", "no"),
    (AIR, "No pneumothorax is seen", "no"),
    (AIR, "Pneumothorax is not seen.", "no"),
    (AIR, "There is a pneumothorax", "yes"),
    (AIR, "It is not.", "no"),
    (AIR, "There is.", "yes"),
    (AIR, "是", "yes"),
    (AIR_ZH, "No", "no"),
    (NORMAL, "No, there is an opacity.", "no"),
    (NORMAL, "Yes, there is no abnormality.", "yes"),
    (AIR_ZH, "是", "yes"),
    (AIR_ZH, "是的。", "yes"),
    (AIR_ZH, "有", "yes"),
    (AIR_ZH, "对", "yes"),
    (AIR_ZH, "有，在右侧", "yes"),
    (AIR_ZH, "否", "no"),
    (AIR_ZH, "不是", "no"),
    (AIR_ZH, "没有。", "no"),
    (AIR_ZH, "无", "no"),
    (AIR_ZH, "不对", "no"),
    (AIR_ZH, "没有气胸。", "no"),
    (AIR_ZH, "未见气胸", "no"),
    (AIR_ZH, "图中可见气胸", "yes"),
    (AIR_ZH, "答案：是", "yes"),
    (AIR_ZH, "答案是否", "no"),
    (NORMAL_ZH, "不正常", "no"),
    (NORMAL_ZH, "是正常的", "yes"),
    ("这是CT吗？", "不是CT", "no"),
    # traps
    (AIR, "", None),
    (AIR, "not", None),
    (AIR, "normal", None),
    (AIR, "nothing", None),
    (AIR, "eyes", None),
    (AIR, "Yes and no", None),
    (AIR, "yes/no", None),
    (AIR, "Yes or no?", None),
    (AIR, "Please answer yes or no", None),
    (AIR, "Yes, there is no pneumothorax.", None),
    (AIR, "There is no fracture.", None),
    (AIR, "There may be a pneumothorax", None),
    (AIR, "I cannot determine this", None),
    (AIR, "No, I cannot determine that.", None),
    (AIR, "Not sure", None),
    (AIR, "No doubt", None),
    (NORMAL, "No abnormality is seen.", None),
    ("Is it CT or MRI?", "It is CT", None),
    ("Is the left lung larger than the right lung?", "The right lung is larger than the left lung", None),
    ("Is there no fracture?", "There is no fracture", None),
    (AIR_ZH, "不确定", None),
    (AIR_ZH, "无法判断", None),
    (AIR_ZH, "是否有气胸", None),
    (AIR_ZH, "有没有", None),
    (AIR_ZH, "是的，没有", None),
    (NORMAL_ZH, "没有异常", None),
    ("这是CT吗？", "是MRI", None),
]


@pytest.mark.parametrize(("options", "response", "letter"), CHOICES)
def test_choice_of_a_labelled_response(options, response, letter):
    extracted = extract("mcq", "", options, response)
    assert extracted.choice == letter
    assert extracted.unparsed == (letter is None)
    assert extracted.text == (options[letter] if letter else "")


@pytest.mark.parametrize(("question", "response", "answer"), CLOSED)
def test_yes_or_no_of_a_labelled_response(question, response, answer):
    assert extract("closed", question, None, response).choice == answer


@pytest.mark.parametrize(
    ("response", "text", "unparsed"),
    [
        ("Left.", "left", False),
        ("It is the left lung", "left lung", False),
        ("这是左侧。", "左侧", False),
        ("The image shows a chest with clear lungs and a large heart", "", True),
        ("No abnormality", "", True),
        ("I don't know", "", True),
        ("是否", "", True),
    ],
)
def test_another_short_answer_to_a_closed_question_is_its_words(response, text, unparsed):
    extracted = extract("closed", "Which side?", None, response)
    assert (extracted.choice, extracted.text, extracted.unparsed) == (None, text, unparsed)


@pytest.mark.parametrize(
    ("response", "text"),
    [
        ("The answer is: The Left Lung.", "left lung"),
        ("右肺", "右肺"),
        ("\\boxed{3.5 cm}", "3.5 cm"),
        ("", ""),
        ("I cannot tell", ""),
    ],
)
def test_an_open_answer_is_the_words_behind_the_cue(response, text):
    extracted = extract("open", "Where?", None, response)
    assert (extracted.choice, extracted.text, extracted.unparsed) == (None, text, not text)


def test_right_answers_are_letters_or_texts_of_options():
    said = extract("mcq", "", SCANS, "B")
    assert is_correct("mcq", "", SCANS, "B", said)
    assert is_correct("mcq", "", SCANS, "mri", said)
    assert not is_correct("mcq", "", SCANS, "CT", said)
    with pytest.raises(ValueError, match="PET"):
        is_correct("mcq", "", SCANS, "PET", said)


@pytest.mark.parametrize(
    ("answer", "response", "right"),
    [
        ("是", "Yes", True),
        ("No", "没有", True),
        ("否", "是", False),
        ("left", "Left.", True),
        ("left", "yes", False),
        ("no", "", False),
    ],
)
def test_closed_answers_agree_across_languages(answer, response, right):
    asked = "Is the air on the left or on the right?" if answer == "left" else AIR
    assert is_correct("closed", asked, None, answer, extract("closed", asked, None, response)) is right


def test_nothing_unparsed_is_correct():
    assert not is_correct("open", "", None, "", extract("open", "", None, ""))
    assert not is_correct("closed", "", None, "", extract("closed", "", None, ""))


DRESSES = [
    "{}",
    "{}.",
    "({})",
    "[{}]",
    "**{}**",
    "（{}）",
    "“{}”",
    " {}\n",
    "Answer: {}",
    "The answer is {}.",
    "The correct option is ({})",
    "答案是{}",
    "答案：{}。",
    "选{}",
    "Option {}",
    "<answer>{}</answer>",
    "\\boxed{{{}}}",
]


@given(
    letter=st.sampled_from("ABCDEFGHI"), dress=st.sampled_from(DRESSES), full_width=st.booleans(), lower=st.booleans()
)
def test_a_bare_letter_in_any_dress_is_read(letter, dress, full_width, lower):
    said = letter.lower() if lower else letter
    said = chr(ord(said) + 0xFEE0) if full_width else said
    assert extract("mcq", "", STAGES, dress.format(said)).choice == letter


@given(st.text(max_size=200), st.sampled_from([SCANS, PLANES, FINDINGS]))
def test_every_text_is_read_without_an_error_and_unparsed_has_no_answer(response, options):
    for kind in ("mcq", "closed", "open"):
        extracted = extract(kind, AIR, options, response)
        assert not (extracted.unparsed and (extracted.choice or extracted.text))
        if kind == "mcq":
            assert extracted.unparsed or extracted.choice in options


@given(st.permutations("ABCD"), st.sampled_from("ABCD"))
def test_option_order_does_not_change_what_a_text_means(order, letter):
    shuffled = {new: SCANS[old] for new, old in zip("ABCD", order, strict=True)}
    assert extract("mcq", "", shuffled, f"This is {SCANS[letter]}.").text == SCANS[letter]


@pytest.mark.parametrize(
    "piece", ["<think>", "\\boxed{", "A or ", "the answer is ", "(", "CT A ", "not ", "<answer>", "是", "[["]
)
def test_endless_repetition_is_unparsed(piece):
    response = piece * (200_000 // len(piece))
    assert extract("mcq", "", SCANS, response).unparsed
    assert extract("closed", AIR, None, response).unparsed
