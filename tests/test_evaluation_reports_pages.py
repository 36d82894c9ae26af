"""Pages of a run and of a leaderboard: everything on them, nothing hostile ever markup."""

import json
import re
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import opened
from evaluation_samples import grounding, question
from report_scores import HOSTILE, groups, score

from gmai_vl.evaluation import Question
from gmai_vl.evaluation.benchmarks.benchmark import Benchmark
from gmai_vl.evaluation.reports.leaderboard import gather, write_leaderboard
from gmai_vl.evaluation.reports.page import MOST_SHOWN, write_page
from gmai_vl.evaluation.reports.render import one_line
from gmai_vl.foundation import BadItem, UserError


@dataclass(frozen=True)
class Answered:
    """A question with the verdict, as scoring hands it on."""

    question: Question
    correct: bool = False
    unparsed: bool = False
    text: str = ""


class Read(HTMLParser):
    """What a page holds: its elements, their attributes, and the texts of elements by class or id."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[tuple[str, str]] = []
        self.feed(page.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given_ = {name: value or "" for name, value in attributes}
        self.attributes += list(given_.items())
        name = given_.get("id") or given_.get("class") or tag
        if tag not in ("meta", "img", "source", "br", "hr"):
            self._open.append((tag, name))
            self.texts.setdefault(name, []).append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        for _, name in self._open:
            self.texts[name][-1] += data


def asked(*questions: Question) -> Benchmark:
    """Return a benchmark whose pictures are small gradients; those named broken are."""

    def image(name: str) -> np.ndarray:
        if "broken" in name:
            raise BadItem("the file ends <b>early</b>")
        return np.tile(np.arange(100, dtype=np.uint8), (50, 1))

    notes = ("all test images also occur in train <i>",)
    return Benchmark(name="vqa-rad", variant="test", questions=questions, image=image, notes=notes)


def whole_page(folder: Path) -> Path:
    """Write a page with everything in it that can be there."""
    hostile = question(1, stem=HOSTILE, options={"A": HOSTILE, "B": "MRI"}, answer="A", id=HOSTILE, source=HOSTILE)
    broken = question(2, kind="open", options=None, answer=HOSTILE, images=("one", "broken"), modality=None)
    boxes = grounding(3, (10, 10, 40, 30))
    right = question(4, stem="a right one")
    judged = [
        Answered(hostile, text="B"),
        Answered(broken, unparsed=True),
        Answered(boxes, text="one box"),
        Answered(right, correct=True, text="A"),
    ]
    responses = {
        hostile.id: HOSTILE,
        broken.id: HOSTILE * 40,
        boxes.id: "<box>[[0.2, 0.3, 0.9, 0.9]]</box>",
        right.id: "A",
    }
    given_ = score(
        "vqa-rad",
        0.522,
        451,
        protocol=HOSTILE,
        variant=HOSTILE,
        model=HOSTILE,
        n_guessed=4,
        groups={"question type": groups(ABN=0.5, PRES=0.25), HOSTILE: {HOSTILE: groups(x=0.3)["x"]}, "empty": {}},
        leaks={
            "status": "leaked",
            "n": 37,
            "why": "held against <i>x",
            "without": {"n": 414, "micro": 0.487, "interval": [0.44, 0.53]},
        },
        baselines={"majority": 0.44, HOSTILE: 0.1},
    )
    return write_page(folder, given_, asked(hostile, broken, boxes, right), judged, responses)


def test_a_page_shows_hostile_responses_to_the_letter_and_runs_nothing(tmp_path: Path) -> None:
    page = Read(whole_page(tmp_path))
    assert "script" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("style", "srcdoc", "href")]
    assert [value[:22] for name, value in page.attributes if name == "src"] == ["data:image/jpeg;base64"] * 3
    assert sorted(page.texts["response"]) == sorted([HOSTILE, HOSTILE * 40, "<box>[[0.2, 0.3, 0.9, 0.9]]</box>"])
    assert HOSTILE in page.texts["stem"]
    assert page.texts["wrong"] == ["nothing", "B. MRI", "one box"]
    assert page.texts["right"].count(f"A. {HOSTILE}") == 1  # the reference, with its option
    assert (page.texts["protocol"], page.texts["variant"]) == ([HOSTILE], [HOSTILE])
    assert (page.texts["accuracy"], page.texts["interval"]) == (["52.2 %"], ["47.2 to 57.2"])
    (text,) = page.texts["body"]
    for told in (
        "not for diagnosis",
        "all test images also occur in train <i>",
        "37 of the questions were met in training (held against <i>x). Of the other 414 the model has 48.7 % right",
        "broken: the file ends <b>early</b>",
        "+8.2",
        "ABN",
        '{"temperature": 0}',
        "8b36103",
    ):
        assert told in text, told
    assert "a right one" not in text
    assert "empty" not in text


def test_a_page_holds_what_no_page_can_hold(tmp_path: Path) -> None:
    one = question(1)
    response = "a\x00b\ud800c\u202ed\ttab"
    path = write_page(tmp_path, score("vqa-rad"), asked(one), [Answered(one, text="B")], {one.id: response})
    assert Read(path).texts["response"] == ["a\\x00b\\ud800c\\u202ed\ttab"]


def test_a_page_shows_sixty_wrong_answers_always_the_same_and_says_how_many_there_are(tmp_path: Path) -> None:
    questions = [question(number) for number in range(200)]
    judged = [
        Answered(one, correct=number % 4 == 0, unparsed=number % 4 == 1, text="B")
        for number, one in enumerate(questions)
    ]
    benchmark, responses = asked(*questions), {one.id: "B" for one in questions}
    path = write_page(tmp_path, score("vqa-rad"), benchmark, judged, responses)
    page, text = Read(path), path.read_text(encoding="utf-8")
    assert page.tags.count("article") == MOST_SHOWN == 60
    shown = [int(found) for found in re.findall(r"(\d+) of (?:50|100), drawn at random", text)]
    assert sum(shown) == 60
    assert page.texts["wrong"].count("nothing") == shown[0]
    assert write_page(tmp_path, score("vqa-rad"), benchmark, judged, responses).read_text(encoding="utf-8") == text


def test_a_page_needs_no_more_than_the_least_score(tmp_path: Path) -> None:
    least = {"benchmark": "own", "variant": "1", "protocol": "strict", "n": 4, "n_unparsed": 0, "micro": 1.0}
    page = Read(write_page(tmp_path, least, asked(), [], {}))
    assert page.texts["accuracy"] == ["100.0 %"]
    assert "is not known" in page.texts["body"][0]
    with pytest.raises(UserError, match=r"score\.json: micro: is missing"):
        write_page(tmp_path, {key: value for key, value in least.items() if key != "micro"}, asked(), [], {})


def write_scores(folder: Path, *scores: dict[str, Any]) -> None:
    for number, each in enumerate(scores):
        (folder / f"run {number}").mkdir(parents=True)
        (folder / f"run {number}" / "score.json").write_text(json.dumps(each))


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four runs and their leaderboard."""
    folder = tmp_path_factory.mktemp("board")
    tasks = {"clinical_task": groups(bone=0.5, muscle=0.25)}
    write_scores(
        folder,
        score("vqa-rad", 0.601, model=HOSTILE + "a" * 200),
        score("gmai-mmbench", 0.702, groups=tasks, model="$x^2$"),
        score("corpus", 0.803, baselines={"majority": 0.44}),
        score("medxpertqa-mm", 0.304, leaks={"status": "leaked", "n": 7}),
    )
    assert write_leaderboard(folder) == folder / "leaderboard.html"
    return folder


def test_a_leaderboard_has_every_run_in_all_its_forms(board: Path) -> None:
    assert [run.benchmark for run in gather(board)] == ["vqa-rad", "gmai-mmbench", "corpus", "medxpertqa-mm"]
    page = Read(board / "leaderboard.html")
    assert "script" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on") or name == "style"]
    assert all(value.startswith("#") for name, value in page.attributes if name == "href")
    (text,) = page.texts["body"]
    forms = {kind: (board / f"leaderboard.{kind}").read_text(encoding="utf-8") for kind in ("md", "csv", "tex")}
    for number in ("60.1", "70.2", "80.3", "30.4", "88.48", "7 leaked"):
        assert number in text and all(number in form for form in forms.values()), number
    assert one_line(HOSTILE) in text and "$x^2$" in text
    assert "for diagnosis" in text and "for diagnosis" in forms["md"] and "for diagnosis" in forms["tex"]
    plots = {plot.name for plot in (board / "plots").iterdir()}
    assert {"own-models-bars-light.svg", "gmai-mmbench-tasks-radar-dark.svg", "omnimedvqa-bars-dark.svg"} <= plots
    assert not {name for name in plots if name.startswith("gmai-mmbench-radar")}  # two columns are no radar
    assert page.tags.count("picture") == len(plots) / 2


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "no readable score"),
        ("[]", "JSON list"),
        ("\x00\xff", "no readable score"),
        ("[" * 100_000, "no readable score"),
        ("{}", "is missing"),
        (json.dumps(score("vqa-rad") | {"micro": 1.5}), "micro"),
        (json.dumps(score("vqa-rad") | {"micro": float("nan")}), "micro"),
        (json.dumps(score("vqa-rad") | {"interval": [0.1]}), "interval"),
        (json.dumps(score("vqa-rad") | {"groups": {"modality": {"CT": {"n": 3}}}}), r"groups\.modality\.CT\.accuracy"),
    ],
)
def test_a_broken_score_is_named_and_nothing_is_written(tmp_path: Path, text: str, fault: str) -> None:
    write_scores(tmp_path, score("slake"))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "score.json").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=rf"broken/score\.json: .*{fault}"):
        write_leaderboard(tmp_path)
    assert not (tmp_path / "leaderboard.html").exists()


def test_a_folder_without_scores_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        gather(tmp_path / "absent")
    with pytest.raises(UserError, match=r"no score\.json below it"):
        write_leaderboard(tmp_path)


@pytest.mark.parametrize("kind", ["report", "leaderboard"])
def test_pages_fit_a_phone_and_raise_no_error_in_a_browser(board: Path, tmp_path: Path, kind: str) -> None:
    path = whole_page(tmp_path) if kind == "report" else board / "leaderboard.html"
    with opened(path, tmp_path, width=390, height=800, dark=True) as tab:
        assert tab.run("document.documentElement.scrollWidth") <= 390
        assert tab.run("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
        assert tab.run("document.querySelectorAll('script, [onerror]').length") == 0
        assert "not for diagnosis" in tab.run("document.body.innerText")
        # Dark pages have dark paper.
        assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(18, 24, 30)"
