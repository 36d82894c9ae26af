"""Closed and open answers as the protocols judge them: examples worked by hand for every rule, faults included."""

import pytest
from evaluation_samples import question
from hypothesis import given
from hypothesis import strategies as st

from gmai_vl.evaluation.protocols import PROTOCOLS
from gmai_vl.evaluation.protocols.protocol import Verdict
from gmai_vl.evaluation.protocols.tokens import overlap

# protocol -> (rule, gold, response, choice, correct)
CLOSED = {
    "default": [
        ("a word that stands alone", "no", "No.", "no", True),
        ("no part of a word", "no", "normal", None, False),
    ],
    "lmms-eval": [
        ("case and punctuation", "Yes", "yes.", "yes", True),
        ("not more than the answer", "Yes", "Yes, it is", None, False),
        ("是", "yes", "是。", "yes", True),
        ("是的 for 有", "有", "是的", "yes", True),
        ("不包含 for 没有", "没有", "不包含！", "no", True),
        ("不可以 for 否", "否", "不可以", "no", True),
        ("可以 is not 不可以", "不可以", "可以", "yes", False),
        ("正常 is yes", "正常", "是", "yes", True),
        ("正常 is yes whatever is asked", "Yes", "正常", "yes", True),
        ("异常 is no", "异常", "不是", "no", True),
        ("true is yes", "Yes", "True", "yes", True),
        ("nope is no", "No", "nope", "no", True),
        ("能 for 可以", "可以", "能", "yes", True),
        ("无 for 没有", "没有", "无", "no", True),
        ("不正常 is no", "No", "不正常", "no", True),
        ("another word", "Lung", "lung", None, True),
        ("nothing", "Yes", "...", None, False),
    ],
    "medevalkit": [
        ("yes within a sentence", "yes", "Yes, there is a mass", "yes", True),
        ("no within normal", "no", "The heart is normal", "no", True),
        ("no within not", "yes", "It is not", "no", False),
        ("yes within a word", "yes", "in the eyes", "yes", True),
        ("both", "no", "No, the eyes are fine", None, False),
        ("neither", "yes", "There is", None, False),
        ("the gold in upper case", "Yes", "yes, it is", "yes", True),
        ("behind the last cue", "yes", "There is no doubt: the answer is yes", "yes", True),
        ("in a tag", "yes", "No? <answer>Yes</answer>", "yes", True),
        ("in the last box", "yes", r"\boxed{no}, no: \boxed{yes}", "yes", True),
        ("the word boxed without a box hides all", "no", "No boxed area", None, False),
        ("another gold, case and blanks apart", "left", " Left\n", None, True),
        ("another gold with a dot", "left", "Left.", None, False),
        ("another gold, in a sentence", "left", "on the left", None, False),
    ],
    "llava-med": [
        ("yes", "yes", "Yes, there is.", "yes", True),
        ("not counts for no", "no", "It is not", "no", True),
        ("normal counts for no", "no", "normal", "no", True),
        ("both count for yes", "yes", "yes and no", None, True),
        ("both count for no", "no", "yes and no", None, True),
        ("neither", "no", "There is a mass", None, False),
        ("another word alone", "left", "left", None, False),
        ("another word beside yes", "left", "Yes, left", "yes", True),
    ],
    "multimedeval": [
        ("yes", "yes", "Yes.", "yes", True),
        ("no", "no", "No.", "no", True),
        ("not alone passes", "no", "It is not", "no", True),
        ("yes and no passes for yes", "yes", "yes and no", None, True),
        ("yes and no passes for no", "no", "yes and no", None, True),
        ("normal holds no word no", "no", "normal", None, False),
        ("the wrong one", "no", "yes", "yes", False),
        ("neither", "yes", "perhaps", None, False),
        ("half of another gold, judged as an open answer", "left lung", "left", None, False),
        ("three quarters of another gold", "left lower lobe mass", "left lower lobe", None, True),
    ],
}

# protocol -> (rule, gold, response, correct, credit)
OPEN = {
    "default": [
        ("case and articles apart", "liver", "The liver.", True, 1),
        ("not more than the answer", "liver", "liver and heart", False, 0),
    ],
    "mmmu": [
        ("the whole response without a cue", "pneumonia", "Pneumonia of the left lung", True, 1),
        ("a denied answer counts", "pneumonia", "not pneumonia", True, 1),
        ("behind a cue", "liver", "The organ is liver", True, 1),
        ("not before a cue", "liver", "liver is what I see", False, 0),
        ("the shortest tail", "heart", "so the organ is liver, thus result heart", True, 1),
        ("only the shortest tail", "liver", "so the organ is liver, thus result heart", False, 0),
        ("the last occurrence of a cue", "liver", "is liver, is heart", False, 0),
        ("a cue of two words", "cyst", "it could be cyst", True, 1),
        ("a cue within a word", "mass", "mass in this picture", False, 0),
        ("a cue needs a blank", "mass", "mass is", True, 1),
        ("a line each", "liver", "the organ is liver\nthe side is right", True, 1),
        ("a line without a cue is left out", "liver", "liver\nthe side is right", False, 0),
        ("a cue at the end of a line clears its tail", "liver", "so the liver is \nthe side is right", False, 0),
        ("a cue behind a cleared tail counts", "liver", "final liver is \nthe side is right", True, 1),
        ("a tail of one mark is none", "pneumonia", "pneumonia is :", True, 1),
        ("a tail of stars is one", "pneumonia", "pneumonia is **", False, 0),
        ("dots part no sentences", "liver", "The organ is liver. The side is right", False, 0),
        ("equals in the last line", "mass", "mass = 12", False, 0),
        ("no equals in an earlier line", "mass", "mass = 12\nthat was all", True, 1),
        ("a gold answer of one letter: a word begins with it", "B", "Because of the blood flow", True, 1),
        ("a gold answer of one letter: a word ends with it", "B", "a rib fracture", True, 1),
        ("a gold answer of one letter: at the ends", "B", "bob", False, 0),
        ("one letter for one letter", "B", "b", True, 1),
        ("two decimals", "0.33", "0.333", True, 1),
        ("two other decimals", "0.33", "0.336", False, 0),
        ("a number is lifted out", "50", "50%", True, 1),
        ("thousands commas", "1234", "about 1,234 cells", True, 1),
        ("thousands commas in the gold", "1,234", "1234", True, 1),
        ("scientific", "0.05", "p of 5e-2 here", True, 1),
        ("minus", "-3", "it was -3 degrees", True, 1),
        ("half", "0.5", "some .5 ml", True, 1),
        ("no part of a longer number", "1", "11 lesions", False, 0),
        ("a unit at a whole number hides it", "50", "about 50mg", False, 0),
        ("a unit at a decimal number does not", "2.5", "about 2.5mg", True, 1),
        ("a comma behind a number hides it", "3", "3, 4 lesions", False, 0),
        ("before a comma a decimal number is a whole one", "2", "2.5, about", True, 1),
        ("before a comma a decimal number is not itself", "2.5", "2.5, about", False, 0),
        ("thousands lose their decimals", "1234", "about 1,234.5 cells", True, 1),
        ("decimals of thousands go with the last three digits", "234.5", "about 1,234.5 cells", True, 1),
        ("a negative exponent is a number", "-2", "p of 5e-2 here", True, 1),
        ("number words are none", "2", "two", False, 0),
        ("a number in a tail", "2", "there is 2 of them", True, 1),
        ("no number before a tail", "2", "2 of them is enough", False, 0),
        ("a number for a text", "stage 2", "2", False, 0),
    ],
    "lmms-eval": [
        ("parentheses", "X-Ray (chest)", "x ray", True, 1),
        ("Chinese parentheses", "肝脏（右）", "肝脏", True, 1),
        ("Chinese punctuation", "肝脏、心脏", "肝脏，心脏。", True, 1),
        ("spellings of x-ray", "X-Ray", "Xray", True, 1),
        ("spellings of x-ray within more words", "chest x-ray", "chest xray", False, 0),
        ("punctuation parts words", "heart/liver", "heart liver", True, 1),
        ("parentheses part words", "right(upper)lung", "right lung", True, 1),
        ("parentheses end at the first", "lung (a (b) c)", "lung c", True, 1),
        ("marks that are not listed stay", "liver", "“liver”", False, 0),
        ("the order of lists", "Liver, Heart", "Heart, Liver", False, 0),
        ("not more than the answer", "liver", "the liver", False, 0),
    ],
    "vlmevalkit": [
        ("the text", "Transformation", "transformation", True, 1),
        ("the article is A", "Transformation", "A lesion", True, 1),
        ("the letter of the gold answer", "Transformation", "A", True, 1),
        ("a gold answer B makes B right", "B", "B", True, 1),
        ("a gold answer B makes other answers right", "B", "other answers", True, 1),
        ("a gold answer C is never met", "C", "C", False, 0),
        ("other answers", "Transformation", "other answers", False, 0),
        ("another text", "Transformation", "growth", False, 0),
        ("a text in a long response", "liver", "The organ that is shown here must be the liver", False, 0),
    ],
    "medevalkit": [
        ("equal", "Left lung", " left lung\n", True, 1),
        ("a dot is a difference", "left lung", "left lung.", False, 0.5),
        ("behind a cue", "left lung", "Answer:left lung", True, 1),
        ("a blank behind a cue is a difference", "left lung", "Answer: left lung", False, 1),
        ("in a box", "left lung", r"It is \boxed{left lung}.", True, 1),
        ("F1 is the recall: a word too many", "left lung", "the left lung", False, 1),
        ("F1 is the recall: half", "left lung", "the left one here", False, 0.5),
        ("words count once", "no no mass", "no no no", False, 0.5),
        ("nothing said", "left lung", "", False, 0),
    ],
    "llava-med": [
        ("all words", "left lung", "It is in the left lung.", True, 1),
        ("half of the words", "left lung", "right lung", False, 0.5),
        ("a word is wanted as often as it is said", "lung and lung", "lung", False, 0.5),
        ("a word that is said twice counts twice", "lung mass", "lung lung", False, 2 / 3),
        ("articles", "the mass", "mass", True, 1),
        ("number words", "2", "two", True, 1),
        ("contractions", "it isn't seen", "it isnt seen", True, 1),
        ("contractions of other words", "what're they", "whatre they", True, 1),
        ("a colon is no punctuation", "liver", "organ:liver", False, 0),
        ("a sign of per cent is no punctuation", "50", "50%", False, 0),
        ("an apostrophe is no punctuation", "mass", "'mass'", False, 0),
        ("a mark beside a blank parts nowhere", "x ray", "x-ray - seen", False, 0),
        ("the first 64 dots go", "lung", "so. " * 63 + "lung.", True, 1),
        ("the 65th dot stays", "lung", "so. " * 64 + "lung.", False, 0),
        ("no mark parts beside a comma in a number", "left lung", "left/lung 1,000", False, 0),
        ("punctuation", "liver, heart", "heart/liver", True, 1),
        ("decimal dots", "2.5 cm", "2.5cm", False, 0),
        ("nothing said", "mass", "the", False, 0),
    ],
    "multimedeval": [
        ("all words", "left lung", "In the left lung", True, 1),
        ("three of four", "left lower lobe mass", "left lower lobe", True, 0.75),
        ("two of three", "left lower lobe", "left lobe", False, 2 / 3),
        ("words count once", "cell to cell to cell spread", "cell to", False, 2 / 3),
        ("articles are no words", "the mass", "mass", True, 1),
        ("number words", "2", "two", True, 1),
        ("punctuation parts words", "left lung", "left/lung", True, 1),
        ("the first 32 dots go", "lung", "so. " * 31 + "lung.", True, 1),
        ("the 33rd dot stays", "lung", "so. " * 32 + "lung.", False, 0),
        ("a colon is no punctuation", "liver", "organ:liver", False, 0),
        ("nothing said", "mass", "", False, 0),
    ],
}


def judged(protocol: str, response: str, gold: str, **changes: object) -> Verdict:
    asked = question(1, options=None, answer=gold, **changes)
    (verdict,) = PROTOCOLS[protocol].judge([asked], {asked.id: response})
    return verdict


def cases(tables):
    return [pytest.param(name, *row, id=f"{name}: {rule}") for name, rows in tables.items() for rule, *row in rows]


@pytest.mark.parametrize(("protocol", "gold", "response", "choice", "correct"), cases(CLOSED))
def test_closed(protocol, gold, response, choice, correct):
    verdict = judged(protocol, response, gold, kind="closed")
    assert (verdict.choice, verdict.correct, verdict.guessed) == (choice, correct, False)
    assert verdict.credit == float(correct)


@pytest.mark.parametrize(("protocol", "gold", "response", "correct", "credit"), cases(OPEN))
def test_open(protocol, gold, response, correct, credit):
    verdict = judged(protocol, response, gold, kind="open")
    assert (verdict.correct, verdict.guessed) == (correct, False)
    assert verdict.credit == pytest.approx(credit)


@pytest.mark.parametrize(("kind", "table"), [("closed", CLOSED), ("open", OPEN)])
def test_every_protocol_that_knows_the_kind_is_in_the_table(kind, table):
    assert set(table) == {name for name, protocol in PROTOCOLS.items() if kind in protocol.kinds}


@pytest.mark.parametrize("kind", ["closed", "open"])
def test_silence_is_unparsed_and_wrong(kind):
    known = [name for name, protocol in PROTOCOLS.items() if kind in protocol.kinds]
    verdicts = {name: judged(name, "", "yes", kind=kind) for name in known}
    assert [name for name, verdict in verdicts.items() if not verdict.unparsed or verdict.correct] == []


@pytest.mark.parametrize(
    ("protocol", "gold", "response", "unparsed"),
    [
        ("medevalkit", "yes", "yes and no", True),
        ("medevalkit", "yes", "perhaps", True),
        ("llava-med", "yes", "yes and no", False),
        ("llava-med", "yes", "perhaps", True),
        ("multimedeval", "yes", "perhaps", True),
        ("multimedeval", "left", "perhaps", False),
    ],
)
def test_closed_answers_without_yes_and_no(protocol, gold, response, unparsed):
    assert judged(protocol, response, gold, kind="closed").unparsed == unparsed


def test_medevalkit_does_not_lower_the_yes_of_slake():
    asked = {"kind": "closed", "source": "slake"}
    assert not judged("medevalkit", "Yes, it is", "Yes", **asked).correct
    assert judged("medevalkit", "Yes.", "Yes", **asked).correct
    assert judged("medevalkit", "Yes, it is", "yes", **asked).correct
    assert not judged("medevalkit", "Yes, it is", "Yes", kind="closed", id="slake-12").correct


@pytest.mark.parametrize(
    ("gold", "response", "correct"),
    [
        ("left lung", "left \nlung", True),  # newlines are removed, not replaced
        ("left lung", "Left lung.", True),
        ("T2.", "T2.", False),  # only the response loses its dots
        ("left", " left", False),
        ("left", "The answer is left", False),  # the blank behind a cue stays
        ("left", "Answer:left", True),
    ],
)
def test_medevalkit_on_slake_compares_other_words_without_dots_and_newlines(gold, response, correct):
    assert judged("medevalkit", response, gold, kind="closed", source="slake").correct == correct


def test_medevalkit_on_slake_keeps_blanks_around_open_answers():
    assert judged("medevalkit", "left lung", "Left lung", kind="open", source="slake").correct
    assert not judged("medevalkit", " left lung", "Left lung", kind="open", source="slake").correct


@pytest.mark.parametrize("response", ["liver", "l", "<answer>liver</answer>", "2"])
def test_medevalkit_on_mmmu_finds_no_open_answer_right(response):
    verdict = judged("medevalkit", response, response, kind="open", source="mmmu")
    assert (verdict.correct, verdict.unparsed, verdict.credit) == (False, False, 0)


@pytest.mark.parametrize(("source", "correct"), [("mmmu-health", True), ("slake", False)])
def test_lmms_eval_judges_open_answers_of_mmmu_as_mmmu_does(source, correct):
    assert judged("lmms-eval", "The organ is liver", "liver", kind="open", source=source).correct == correct


def test_vlmevalkit_shows_which_of_its_two_options_was_taken():
    taken = judged("vlmevalkit", "growth, other answers", "liver", kind="open")
    assert (taken.choice, taken.text, taken.unparsed) == ("B", "Other Answers", False)
    refused = judged("vlmevalkit", "growth", "liver", kind="open")
    assert (refused.choice, refused.text, refused.unparsed) == ("Z", "", True)


@pytest.mark.parametrize(("protocol", "correct"), [("default", True), ("mmmu", True), ("medevalkit", False)])
def test_alternatives_are_right_where_a_reference_knows_several_answers(protocol, correct):
    assert judged(protocol, "hepar", "liver", kind="open", alternatives=("hepar",)).correct == correct


words = st.lists(st.sampled_from("abcde"), max_size=8)


@given(words, words)
def test_overlap_exchanges_precision_and_recall(said, wanted):
    one, other = overlap(said, wanted), overlap(wanted, said)
    assert (one.precision, one.recall) == (other.recall, other.precision)
    common = sum(min(said.count(word), wanted.count(word)) for word in "abcde")
    assert one.recall == (common / len(wanted) if wanted else 0)


@given(words.filter(bool))
def test_who_says_the_answer_is_right(said):
    gold = " ".join(said)
    for name in ("mmmu", "lmms-eval", "medevalkit", "llava-med", "multimedeval"):
        verdict = judged(name, gold, gold, kind="open")
        assert verdict.correct or set(said) == {"a"}, name  # the article alone is no word under llava-med
