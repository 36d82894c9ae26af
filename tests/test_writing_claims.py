"""Free texts against annotations: what a language model may say of a case, and what it may not."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from writing_cases import cases

from gmai_vl.records import Case, Finding
from gmai_vl.sources.geometry import outer_box
from gmai_vl.vocabulary import Term, term
from gmai_vl.writing import measured
from gmai_vl.writing.claims import CHECKS, check_text
from gmai_vl.writing.claims.written import check_round


def ellipse(width: int, height: int, x: float, y: float, rx: float, ry: float) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    return ((columns - x) / rx) ** 2 + ((rows - y) / ry) ** 2 <= 1


def masked(label: str, mask: np.ndarray) -> Finding:
    return Finding(label=term(label), source_label=label, box=outer_box(mask), area_share=float(mask.mean()), mask=mask)


def boxed(label: str, *box: int, size: tuple[int, int] = (200, 100)) -> Finding:
    share = (box[2] - box[0]) * (box[3] - box[1]) / (size[0] * size[1])
    return Finding(label=term(label), source_label=label, box=box, area_share=share)


def case(modality: str, width: int, height: int, **more: object) -> Case:
    pixels = np.zeros((height, width), np.uint8)
    return Case(**{"source": "s", "item": "a.png", "pixels": pixels, "modality": modality, "task": "seg"} | more)


CHEST_SET = tuple(map(term, ("pneumonia", "pleural effusion", "pneumothorax")))
PNEUMONIA = case(
    "X-Ray", 200, 200, task="cls", findings=(Finding(label=term("pneumonia"), source_label="p"),),
    label_set=CHEST_SET, body_part=term("chest"),
)  # fmt: skip
HEALTHY = case("X-Ray", 200, 200, task="cls", negative=term("no finding"), label_set=CHEST_SET, body_part=term("chest"))
NO_MELANOMA = case("Dermoscopy", 200, 200, task="cls", negative=Term("no melanoma"), label_set=(term("melanoma"),))
POLYP = case(
    "Endoscopy", 300, 200, findings=(masked("colon polyp", ellipse(300, 200, 60, 50, 40, 40)),),
    label_set=(term("colon polyp"),),
)  # fmt: skip
BLOOD = case(
    "Microscopy", 200, 100, task="det",
    findings=(boxed("red blood cell", 10, 10, 30, 30), boxed("red blood cell", 50, 60, 75, 90),
              boxed("red blood cell", 150, 10, 170, 35), boxed("white blood cell", 120, 50, 170, 98)),
    label_set=(term("red blood cell"), term("white blood cell"), term("platelet")),
)  # fmt: skip
ABDOMEN = case(
    "CT", 400, 300, plane="axial", spacing_mm=(1.0, 1.0), body_part=term("abdomen"),
    findings=(masked("liver", ellipse(400, 300, 110, 140, 80, 70)),
              masked("spleen", ellipse(400, 300, 330, 170, 25, 30)),
              masked("left kidney", ellipse(400, 300, 290, 220, 20, 25))),
    label_set=tuple(map(term, ("liver", "spleen", "left kidney", "right kidney", "pancreas", "stomach"))),
)  # fmt: skip
GRADES = tuple(map(Term, ("no diabetic retinopathy", "mild diabetic retinopathy", "severe diabetic retinopathy")))
FUNDUS = case(
    "Fundus Photography", 100, 100, task="cls", findings=(Finding(label=GRADES[1], source_label="1"),),
    label_set=GRADES, severity=GRADES,
)  # fmt: skip

TRUE = [
    (PNEUMONIA, "caption", "This chest radiograph shows patchy opacities consistent with pneumonia."),
    (PNEUMONIA, "caption", "A chest X-ray with pneumonia. Neither pleural effusion nor pneumothorax is seen."),
    (PNEUMONIA, "caption", "Chest X-ray. The lungs cannot be regarded as free of pneumonia."),
    (PNEUMONIA, "caption", "胸部X线片，可见肺炎表现，未见胸腔积液。"),
    (PNEUMONIA, "caption", "胸部X线图像，不能排除肺炎。"),
    (HEALTHY, "caption", "A normal chest X-ray without pneumonia, effusion or pneumothorax."),
    (HEALTHY, "caption", "胸部X线片未见异常。"),
    (POLYP, "caption", "An endoscopic view with a well-defined colon polyp in the upper left of the image."),
    (POLYP, "caption", "Not a CT but an endoscopy image: a single, smooth colon polyp lies on the left."),
    (POLYP, "region-caption", "This region shows a rounded, raised area that is redder than the surrounding mucosa."),
    (POLYP, "caption", "内镜图像，左上部可见一枚结肠息肉，表面光滑。"),
    (BLOOD, "caption", "A blood smear with three red blood cells and one white blood cell; no platelets are seen."),
    (BLOOD, "caption", "Several erythrocytes and a large leukocyte in the lower right."),
    (BLOOD, "caption", "显微镜下可见三个红细胞和一个白细胞。"),
    (ABDOMEN, "caption", "Axial CT of the abdomen. The liver is large and lies to the left of the spleen in the image; "
     "the left kidney is seen too."),
    (ABDOMEN, "caption", "Axial CT with liver, spleen and left kidney. The liver is on the patient's right."),
    (ABDOMEN, "caption", "腹部CT横断面，可见肝脏、脾脏和左肾，肝脏位于脾脏的左侧。"),
    (FUNDUS, "caption", "A fundus photograph with mild diabetic retinopathy."),
]  # fmt: skip

FALSE = [
    (PNEUMONIA, "caption", "This chest radiograph shows patchy opacities.", "complete"),
    (PNEUMONIA, "caption", "A chest CT with pneumonia.", "modality"),
    (PNEUMONIA, "caption", "A chest X-ray with pneumonia and a pneumothorax.", "labels"),
    (PNEUMONIA, "caption", "A chest X-ray with pneumonia; an abscess cannot be excluded.", "hedged"),
    (PNEUMONIA, "caption", "A chest X-ray. No pneumonia is seen.", "denied"),
    (PNEUMONIA, "caption", "A chest X-ray with pneumonia. There is no rib fracture.", "unsupported"),
    (PNEUMONIA, "caption", "A chest X-ray with pneumonia in the left lung.", "laterality"),
    (PNEUMONIA, "caption", "A chest X-ray with pneumonia in the upper left of the image.", "position"),
    (PNEUMONIA, "caption", "A chest X-ray of a 45-year-old man with pneumonia.", "invented"),
    (PNEUMONIA, "caption", "胸部X线片，可见肺炎及胸腔积液。", "labels"),
    (PNEUMONIA, "caption", "胸部X线片，未见肺炎。", "denied"),
    (PNEUMONIA, "caption", "胸部X线片，右肺可见肺炎。", "laterality"),
    (PNEUMONIA, "caption", "胸部CT图像，可见肺炎。", "modality"),
    (HEALTHY, "caption", "A chest X-ray with pneumonia.", "labels"),
    (POLYP, "caption", "An endoscopy image with a colon polyp on the right.", "side"),
    (POLYP, "caption", "An endoscopy image with two colon polyps.", "count"),
    (POLYP, "caption", "An endoscopy image with a tiny colon polyp.", "size"),
    (POLYP, "caption", "An endoscopy image with a colon polyp of 12 mm.", "measurement"),
    (POLYP, "caption", "An endoscopy image with a malignant colon polyp.", "labels"),
    (POLYP, "region-caption", "The region shows a polyp.", "begins"),
    (POLYP, "caption", 'Sure! Here is the caption: {"caption": "a colon polyp"}.', "residue"),
    (POLYP, "caption", "An endoscopy image with a colon polyp that is", "residue"),
    (POLYP, "caption", "<ref>colon polyp</ref><box>[[0.50, 0.05, 0.90, 0.45]]</box> is a colon polyp.", "markup"),
    (POLYP, "caption", "内镜图像，右侧可见结肠息肉。", "side"),
    (POLYP, "caption", "An endoscopy image shows 结肠息肉 as a colon polyp.", "language"),
    (BLOOD, "caption", "A blood smear with four red blood cells and one white blood cell.", "count"),
    (BLOOD, "caption", "A blood smear with red blood cells, a white blood cell and platelets.", "labels"),
    (BLOOD, "caption", "显微镜下可见两个红细胞和一个白细胞。", "count"),
    (ABDOMEN, "caption", "Coronal CT with liver, spleen and left kidney.", "plane"),
    (ABDOMEN, "caption", "Axial CT. The liver lies to the right of the spleen; the left kidney is seen.", "relation"),
    (ABDOMEN, "caption", "Axial CT with liver, spleen and left kidney. The liver measures 300 mm.", "measurement"),
    (ABDOMEN, "caption", "Axial CT with liver, spleen, left kidney and pancreas.", "labels"),
    (FUNDUS, "caption", "A fundus photograph with severe diabetic retinopathy.", "labels"),
    (POLYP, "caption", "The colon polyp is red. The colon polyp is red. The colon polyp is red.", "repetition"),
    (PNEUMONIA, "caption", "A knee X-ray showing pneumonia.", "labels"),
    (PNEUMONIA, "caption", "A chest X-ray with pneumonia. Without effusion, the lung has a pneumothorax.", "labels"),
    (PNEUMONIA, "caption", "A chest X-ray. It is unlikely to be pneumonia.", "denied"),
    (PNEUMONIA, "caption", "A chest X-ray. There is no longer pneumonia in it.", "denied"),
    (PNEUMONIA, "caption", "A chest X-ray with pneumonia. The lungs are clear.", "denied"),
    (PNEUMONIA, "caption", "A chest X-ray with pneumonia and a mass.", "labels"),
    (PNEUMONIA, "caption", "A chest X-ray with bilateral pneumonia.", "laterality"),
    (HEALTHY, "caption", "This chest X-ray is not normal.", "complete"),
    (HEALTHY, "caption", "This chest X-ray is clear. A lesion is seen in the lung.", "labels"),
    (HEALTHY, "caption", "该胸部X线片不正常。", "complete"),
    (POLYP, "caption", "An endoscopic image with a colon polyp that covers most of the image.", "measurement"),
    (POLYP, "caption", "An endoscopic image with a colon polyp that measures three centimeters.", "measurement"),
    (POLYP, "caption", "An endoscopic image with a dozen colon polyps.", "count"),
    (ABDOMEN, "caption", "Axial CT with liver, spleen and left kidney. The spleen is the largest.", "size"),
    (ABDOMEN, "caption", "Axial CT. The spleen, the left kidney and the liver lie on the left of the image.", "side"),
    (ABDOMEN, "caption", "Axial CT of the brain with liver, spleen and left kidney.", "labels"),
]  # fmt: skip


PIECES = (
    "no not left upper 12 3.5_cm % three <box> [[0.1,_0.2,_0.3,_0.4]] </ref> polyp pneumonia liver to_the_left_of_the "
    "larger_than however , . both patient's 可见 未见 肺炎 左侧 三个 位于 ， 。 CT axial Sure! { cannot_exclude a is"
)
WORDS = st.sampled_from([piece.replace("_", " ") for piece in PIECES.split()])
TEXTS = st.lists(WORDS, max_size=40).map(" ".join) | st.text(max_size=200)


@given(cases(), TEXTS, st.sampled_from(["en", "zh"]), st.data())
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_any_text_about_any_case_is_judged(a_case: Case, text: str, language: str, data: st.DataObject) -> None:
    about = [data.draw(st.sampled_from(a_case.findings))] if a_case.findings and data.draw(st.booleans()) else None
    question = data.draw(st.none() | st.just(text))
    checks = check_text(text, "answer", language, measured(a_case), about, question)
    assert list(checks) == list(CHECKS)
    assert all(result is True or (isinstance(result, str) and result) for result in checks.values())


def test_a_text_without_end_is_too_long() -> None:
    checks = check_text("no " * 10_000, "caption", "en", measured(POLYP))
    assert [name for name, result in checks.items() if result is not True] == ["length"]


@pytest.mark.parametrize(
    ("a_case", "question", "answer", "complete"),
    [
        (ABDOMEN, "Which plane is this?", "Axial.", True),
        (ABDOMEN, "Is the pancreas outlined?", "No.", True),
        (POLYP, "Where does the lesion lie?", "On the left.", True),
        (HEALTHY, "图中有胸腔积液吗？", "没有。", True),
        (ABDOMEN, "Is its margin smooth?", "No.", False),
        (HEALTHY, "Is the lesion round?", "No.", False),
        (POLYP, "What does it look like?", "It looks round.", False),
    ],
)
def test_a_pair_has_to_speak_of_what_is_annotated(a_case: Case, question: str, answer: str, complete: bool) -> None:
    checks = check_round(question, answer, "instruct", None, language_of(question), measured(a_case))
    assert (checks["complete"] is True) == complete


def language_of(text: str) -> str:
    return "zh" if sum("\u4e00" <= sign <= "\u9fff" for sign in text) > 5 and not text.startswith("An ") else "en"


def faults(a_case: Case, role: str, text: str) -> dict[str, object]:
    about = list(a_case.findings) if role == "region-caption" else None
    checks = check_text(text, role, language_of(text), measured(a_case), about)
    return {name: result for name, result in checks.items() if result is not True}


@pytest.mark.parametrize(("a_case", "role", "text"), TRUE, ids=[text[:50] for _, _, text in TRUE])
def test_what_the_annotation_bears_out_passes(a_case: Case, role: str, text: str) -> None:
    assert faults(a_case, role, text) == {}


@pytest.mark.parametrize(("a_case", "role", "text", "check"), FALSE, ids=[text[:50] for _, _, text, _ in FALSE])
def test_what_contradicts_the_annotation_is_named(a_case: Case, role: str, text: str, check: str) -> None:
    assert check in faults(a_case, role, text)


@pytest.mark.parametrize(
    ("a_case", "question", "answer", "fault"),
    [
        (PNEUMONIA, "Is there a pleural effusion?", "No.", None),
        (PNEUMONIA, "Who was examined?", "The patient is called Michael.", "invented"),
        (PNEUMONIA, "Is there a pleural effusion?", "Yes.", "labels"),
        (PNEUMONIA, "Does the image show pneumonia?", "No, it does not.", "denied"),
        (BLOOD, "How many red blood cells are there?", "Three.", None),
        (BLOOD, "How many red blood cells are there?", "Five.", "count"),
        (POLYP, "Which half of the image holds the polyp?", "The left half.", None),
        (POLYP, "Which half of the image holds the polyp?", "The right half.", "side"),
        (ABDOMEN, "On which side of the patient is the liver?", "On the right.", None),
        (ABDOMEN, "On which side of the patient is the liver?", "On the left.", "laterality"),
        (POLYP, "Is the colon polyp in the right half of the image?", "Yes.", "side"),
        (POLYP, "Is the colon polyp in the left half of the image?", "No.", "denied"),
        (POLYP, "Are there two colon polyps?", "Yes.", "count"),
        (POLYP, "Is this a CT image of a colon polyp?", "Yes.", "modality"),
        (PNEUMONIA, "Is this pneumonia?", "No.", "denied"),
        (PNEUMONIA, "Could this be a pneumothorax?", "Absolutely.", "hedged"),
        (POLYP, "Is its margin smooth?", "No.", None),
        (PNEUMONIA, "图中是否有胸腔积液？", "否。", None),
        (PNEUMONIA, "图中是否有肺炎？", "是", None),
        (PNEUMONIA, "图中的病变是什么疾病？", "图中的病变是", "residue"),
        (HEALTHY, "Is this chest radiograph normal?", "Yes.", None),
        (HEALTHY, "Is this chest radiograph normal?", "No.", "closed"),
        (HEALTHY, "Does it show anything abnormal?", "No.", None),
        (PNEUMONIA, "Does it show anything abnormal?", "Yes.", None),
        (PNEUMONIA, "这张胸片正常吗？", "是的。", "closed"),
        (PNEUMONIA, "图像有异常吗？", "有。", None),
        (ABDOMEN, "Is this scan unremarkable?", "Yes.", "closed"),
        (HEALTHY, "What was asked for?", "The image shows what abnormality there is.", "labels"),
        (NO_MELANOMA, "Is this image normal?", "Yes.", "closed"),
        (ABDOMEN, "Is the liver larger in area than the spleen?", "Yes.", None),
        (ABDOMEN, "Is the liver larger in area than the spleen?", "No.", "denied"),
        (ABDOMEN, "Does the left kidney sit lower in the slice than the spleen?", "Yes.", None),
        (ABDOMEN, "Does the left kidney sit lower in the slice than the spleen?", "No.", "denied"),
        (ABDOMEN, "脾脏比肝脏更靠近图像左侧吗？", "是的。", "relation"),
        (ABDOMEN, "肝脏比脾脏更靠近图像左侧吗？", "是的。", None),
        (BLOOD, "Are there more red blood cells than white blood cells?", "Yes.", None),
        (BLOOD, "Are there more white blood cells than red blood cells?", "Yes.", "relation"),
        (BLOOD, "Are there more red blood cells than white blood cells?", "No.", "denied"),
        (ABDOMEN, "Which is larger, the liver or the spleen?", "The liver.", None),
        (ABDOMEN, "Which is larger, the liver or the spleen?", "The spleen.", "relation"),
        (ABDOMEN, "肝脏和脾脏哪个更大？", "脾脏。", "relation"),
        (FUNDUS, "How severe is the diabetic retinopathy?", "Mild.", None),
        (FUNDUS, "How severe is the diabetic retinopathy?", "Severe.", "grade"),
        (FUNDUS, "Is the diabetic retinopathy severe?", "Yes.", "grade"),
        (FUNDUS, "What is the grade of the diabetic retinopathy?", "It is mild.", None),
        (POLYP, "图像采用的是哪种成像方式？", "CT。", "modality"),
        (POLYP, "Is the colon polyp wider than it is tall?", "Yes.", "closed"),
        (POLYP, "Isn't there a colon polyp?", "No.", "closed"),
        (POLYP, "Is the image free of polyps?", "Yes.", "denied"),
        (POLYP, "Is the image free of polyps?", "No.", None),
        (PNEUMONIA, "Is it true that there is no pneumothorax?", "Correct.", None),
        (PNEUMONIA, "Is this a pneumothorax rather than pneumonia?", "No.", None),
        (PNEUMONIA, "Can this be called pneumonia?", "No.", "denied"),
        (PNEUMONIA, "图中是否有胸腔积液？", "是。", "labels"),
    ],
)
def test_answers_are_read_with_their_question(a_case: Case, question: str, answer: str, fault: str | None) -> None:
    checks = check_text(answer, "answer", language_of(question), measured(a_case), None, question)
    assert [name for name, result in checks.items() if result is not True] == ([fault] if fault else [])
