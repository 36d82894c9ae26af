"""Reports of scores: printed figures as printed, own ones where they belong, and nothing hostile ever markup."""

import csv
import io
import json
import re
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pytest
from browser import opened
from evaluation_samples import grounding, question
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from gmai_vl.corpus.review.cells import as_written
from gmai_vl.evaluation import Question
from gmai_vl.evaluation.benchmarks.benchmark import Benchmark
from gmai_vl.evaluation.reports import (
    Cell,
    PublishedTable,
    Run,
    Table,
    TableRow,
    own_tables,
    paper_tables,
    published_tables,
    run_of,
    to_csv,
    to_latex,
    to_markdown,
)
from gmai_vl.evaluation.reports.leaderboard import gather, write_leaderboard
from gmai_vl.evaluation.reports.page import MOST_SHOWN, write_page
from gmai_vl.evaluation.reports.plots import row_names, write_plots
from gmai_vl.evaluation.reports.render import one_line
from gmai_vl.foundation import BadItem, UserError

HOSTILE = "</div><script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{7*7}}<!-- ]]> & &lt;b&gt;\n\n  **B**"


def score(benchmark: str, accuracy: float = 0.5, n: int = 200, **changes: Any) -> dict[str, Any]:
    """Return a small made-up score; `model` and `created` go into its manifest."""
    manifest = {"model": changes.pop("model", "ours"), "model_sha256": "ab", "prompt": "direct", "commit": "8b36103"}
    manifest |= {"decoding": {"temperature": 0}, "created": changes.pop("created", "2026-01-01")}
    interval = [max(0.0, accuracy - 0.05), min(1.0, accuracy + 0.05)]
    fields = {
        "benchmark": benchmark,
        "variant": "test",
        "protocol": "strict",
        "n": n,
        "n_unparsed": 3,
        "n_guessed": 0,
        "n_patients": 90,
        "micro": accuracy,
        "macro": 0.4,
        "macro_over": "source",
        "interval": interval,
        "intervals": {"clustered": interval, "wilson": interval},
        "groups": {},
        "leaks": {"status": "clean", "n": 0, "without": None},
        "manifest": manifest,
    }
    return fields | changes


def groups(**accuracies: float) -> dict[str, dict[str, Any]]:
    """Return the groups of one name: value, with underscores for blanks, -> accuracy."""
    return {
        value.replace("_", " "): {
            "n": 40,
            "correct": round(40 * share),
            "accuracy": share,
            "interval": [share - 0.1, share + 0.1],
            "n_unparsed": 1,
            "n_patients": 20,
        }
        for value, share in accuracies.items()
    }


def runs(*scores: dict[str, Any]) -> list[Run]:
    return [run_of(each, f"runs/{number}/score.json") for number, each in enumerate(scores)]


def printed(name: str) -> PublishedTable:
    return next(table for table in published_tables() if table.name == name)


def values(name: str, model: str) -> dict[str, float]:
    """Return what is printed of the first row of that model."""
    return dict(next(row.values for row in printed(name).rows if row.model == model))


def measured(name: str, *scores: dict[str, Any]) -> list[TableRow]:
    (table,) = (table for table in paper_tables(runs(*scores)) if table.name == name)
    return [row for row in table.rows if row.status == "measured"]


@pytest.mark.parametrize(
    ("table", "model", "column", "value"),
    [
        ("medical-vqa", "GMAI-VL", "VQA-RAD", 66.3),
        ("medical-vqa", "GMAI-VL", "Average", 64.5),
        ("medical-vqa", "GMAI-VL without own data", "PMC-VQA", 39.0),
        ("medical-vqa", "HuatuoGPT-Vision-7B", "SLAKE", 74.5),
        ("medical-vqa", "LLaVA-v1.6-34B", "Average", 56.8),
        ("medical-vqa", "LLaVA-Med-7B", "Average", 41.6),
        ("omnimedvqa", "GMAI-VL", "Overall", 88.48),
        ("omnimedvqa", "GMAI-VL", "Modality Recognition", 98.64),
        ("omnimedvqa", "GMAI-VL without own data", "Lesion Grading", 70.29),
        ("omnimedvqa", "InternVL2-40B", "Overall", 78.70),
        ("omnimedvqa", "MedDr", "Anatomy Identification", 51.62),
        ("omnimedvqa", "Random choice", "Other Biological Attributes", 37.49),
        ("gmai-mmbench", "GMAI-VL", "Validation", 61.74),
        ("gmai-mmbench", "GMAI-VL", "Test", 62.43),
        ("gmai-mmbench", "GPT-4o", "Test", 53.96),
        ("gmai-mmbench", "Random choice", "Validation", 25.70),
        ("gmai-mmbench-tasks", "GMAI-VL", "Attribute Recognition", 75.26),
        ("gmai-mmbench-tasks", "GMAI-VL", "Microorganism Recognition", 79.97),
        ("gmai-mmbench-tasks", "GMAI-VL", "Organ Recognition - Head and Neck", 75.48),
        ("gmai-mmbench-tasks", "GMAI-VL", "Surgical Workflow Recognition", 59.14),
        ("gmai-mmbench-tasks", "GMAI-VL without own data", "Nervous Tissue", 79.50),
        ("gmai-mmbench-tasks", "GMAI-VL without own data", "Severity Grading", 35.39),
        ("mmmu-health", "GMAI-VL", "Overall", 51.3),
        ("mmmu-health", "GMAI-VL without own data", "Public Health", 40.0),
        ("mmmu-health", "HuatuoGPT-Vision-7B", "Pharmacy", 48.1),
        ("ablation", "GMAI-VL, stages 1 and 3", "OmniMedVQA", 86.62),
        ("ablation", "GMAI-VL, stage 1", "MMMU Health & Medicine, validation", 46.00),
    ],
)
def test_printed_figures_are_as_printed(table: str, model: str, column: str, value: float) -> None:
    assert values(table, model)[column] == value


def test_every_row_has_its_source_and_every_table_its_caveats() -> None:
    assert [table.name for table in published_tables()] == [
        "medical-vqa",
        "omnimedvqa",
        "gmai-mmbench",
        "gmai-mmbench-tasks",
        "mmmu-health",
        "ablation",
    ]
    for table in published_tables():
        assert table.notes and all(row.source for row in table.rows)
        assert {name for row in table.rows for name in row.values} == {column.name for column in table.columns}
    assert len(printed("gmai-mmbench-tasks").columns) == 18
    assert "cannot be computed" in printed("omnimedvqa").notes[0]
    assert "denominators" in printed("mmmu-health").notes[0]
    assert "test part" in printed("gmai-mmbench-tasks").notes[0]


def test_means_add_up_where_they_should() -> None:
    for row in printed("medical-vqa").rows:
        if len(row.values) == 4:
            *three, average = row.values.values()
            assert mean(three) == pytest.approx(average, abs=0.06)
    for model in ("GMAI-VL", "GMAI-VL without own data"):
        *subjects, overall = values("mmmu-health", model).values()
        assert mean(subjects) == pytest.approx(overall, abs=0.06)
        assert all(abs(share * 30 / 100 - round(share * 30 / 100)) < 0.02 for share in subjects)
    # HuatuoGPT-Vision-7B answered multiple choice only.
    right = [
        round(share * of / 100) for share, of in zip((50.0, 63.3, 36.7, 48.1, 53.3), (28, 30, 30, 27, 30), strict=True)
    ]
    assert round(100 * sum(right) / 145, 1) == values("mmmu-health", "HuatuoGPT-Vision-7B")["Overall"]
    whole = values("ablation", "GMAI-VL, stages 1, 2 and 3")
    assert list(whole.values()) == [
        values("mmmu-health", "GMAI-VL")["Overall"],
        values("omnimedvqa", "GMAI-VL")["Overall"],
        *values("gmai-mmbench", "GMAI-VL").values(),
    ]


def test_the_notes_tell_what_the_figures_tell() -> None:
    *types, overall = values("omnimedvqa", "GMAI-VL").values()
    open_access = (11_565, 16_448, 55_387, 2_098, 3_498)
    micro = sum(share * n for share, n in zip(types, open_access, strict=True)) / sum(open_access)
    assert (round(micro, 2), round(mean(types), 2)) == (90.52, 90.09)
    assert overall == 88.48
    assert all(
        round(100 * k / 135, 2) != values("gmai-mmbench-tasks", "GMAI-VL")["Attribute Recognition"] for k in range(136)
    )
    rows = {row.model: row.values for row in printed("gmai-mmbench-tasks").rows}
    ours, without = rows.pop("GMAI-VL"), rows["GMAI-VL without own data"]
    lost = {task for task in ours if any(row.get(task, 0) > ours[task] for row in rows.values())}
    assert len(lost) == 7  # of 18, and of the two overall columns none: 13 of 20 are won
    assert lost - {task for task in ours if without[task] > ours[task]} == {"Image Quality Grading"}


def test_runs_of_one_model_share_a_row_and_the_average_needs_all_three() -> None:
    both = [score("vqa-rad", 0.6, 451), score("slake", 0.7, 1061)]
    (row,) = measured("medical-vqa", *both)
    assert (row.model, row.protocol, row.status) == ("ours", "strict", "measured")
    assert row.cells["VQA-RAD"].n == 451
    assert row.cells["VQA-RAD"].interval == pytest.approx((55.0, 65.0))
    assert row.cells.keys() == {"VQA-RAD", "SLAKE"}
    (row,) = measured("medical-vqa", *both, score("pmc-vqa", 0.5))
    assert row.cells["Average"].value == pytest.approx(60.0)
    # The second version of PMC-VQA is another benchmark.
    (row,) = measured("medical-vqa", *both, score("pmc-vqa-2", 0.5))
    assert row.cells.keys() == {"VQA-RAD", "SLAKE"}
    assert row.source == "slake, vqa-rad: test, prompt direct, no leaks found"
    some = score("slake", n_guessed=5, leaks={"status": "unknown"})
    some["manifest"] |= {"limit": 1000, "prompt": None}
    (row,) = measured("medical-vqa", some)
    assert row.source == "slake: test, limit 1,000, leaks unknown, 5 guessed"


def test_protocols_models_and_repeated_runs_have_rows_of_their_own() -> None:
    scores = [
        score("vqa-rad", 0.1, 50),
        score("vqa-rad", 0.2, 451, created="2026-01-01"),
        score("vqa-rad", 0.3, 451, created="2026-02-01"),
        score("slake", 0.4),
        score("vqa-rad", 0.5, protocol="lenient"),
        score("slake", 0.6, model="another"),
    ]
    rows = measured("medical-vqa", *scores)
    told = [(row.model, row.protocol, {name: round(cell.value) for name, cell in row.cells.items()}) for row in rows]
    assert told == [
        ("another", "strict", {"SLAKE": 60}),
        ("ours", "lenient", {"VQA-RAD": 50}),
        ("ours", "strict", {"VQA-RAD": 30, "SLAKE": 40}),
        ("ours", "strict", {"VQA-RAD": 20}),
        ("ours", "strict", {"VQA-RAD": 10}),
    ]


def test_groups_find_their_columns_however_written_and_missing_ones_stay_empty() -> None:
    types = {"question type": groups(disease_diagnosis=0.5, Lesion_Grading=0.25), "modality": groups(CT=0.2, MRI=0.4)}
    (row,) = measured("omnimedvqa", score("omnimedvqa", 0.45, groups=types))
    assert {name: round(cell.value, 1) for name, cell in row.cells.items()} == {
        "Disease Diagnosis": 50.0,
        "Lesion Grading": 25.0,
        "Overall": 45.0,
        "Mean over types": 37.5,
        "Mean over modalities": 30.0,
    }
    subjects = {"Basic_Medical_Science": 0.5, "Diagnostics & Laboratory Medicine": 0.2}
    written = {name: {"n": 30, "correct": 0, "accuracy": share} for name, share in subjects.items()}
    (row,) = measured("mmmu-health", score("mmmu-health", groups={"subject": written}))
    assert row.cells.keys() == {"Basic Medical Science", "Diagnostics and Laboratory Medicine", "Overall"}
    tables = {table.name: table for table in paper_tables(runs(score("omnimedvqa")))}
    assert "Mean over types" not in tables["omnimedvqa"].columns  # no group, so no column either
    assert "|  |" in to_markdown(tables["omnimedvqa"])


def test_validation_and_test_of_gmai_mmbench_are_never_in_one_row_of_tasks() -> None:
    tasks = groups(bone=0.5, organ_recognition___thorax=0.4)
    both = [
        score("gmai-mmbench", 0.6, variant="val", groups={"clinical_task": tasks}),
        score("gmai-mmbench-test", 0.7, groups={"clinical_task": tasks}),
    ]
    (overall,) = measured("gmai-mmbench", *both)
    assert (overall.cells["Validation"].value, overall.cells["Test"].value) == (60.0, 70.0)
    test, validation = measured("gmai-mmbench-tasks", *both)
    assert test.source.startswith("gmai-mmbench-test: ")
    assert validation.source.startswith("gmai-mmbench: val")
    assert test.cells.keys() == {"Bone", "Organ Recognition - Thorax"}


def test_without_runs_there_are_the_printed_rows_alone() -> None:
    for table in paper_tables([]):
        assert table.rows and all(row.status == "published" for row in table.rows)
        assert table.columns == tuple(column.name for column in printed(table.name).columns)


NAMES = st.text(alphabet="ab Z1\\`*_{}[]()<>|~&$#%^-!'\",.:/@?=+\n\t肺é\u202e\x07", max_size=25)


def named(model: str, protocol: str, *, columns: int) -> Table:
    """Return a small table, of so many columns, with rows of that name."""
    names = tuple(f"column {number}" for number in range(columns))
    cells = {names[0]: Cell(value=71.25, interval=(68.9, 73.6), n=1451), names[1]: Cell(value=40.0)}
    rows = (
        TableRow(model="printed", status="published", source="a paper", cells={names[0]: Cell(value=50.0)}),
        TableRow(model=model, status="measured", source=protocol, protocol=protocol, cells=cells),
        TableRow(model="last", status="measured", source="test", protocol="strict", cells={}),
    )
    return Table(name="small", title="A & B", columns=names, spokes=names, rows=rows, notes=("5 % of a_b",))


def turned(lines: list[list[str]], columns: int) -> list[list[str]]:
    return [list(line) for line in zip(*lines, strict=True)] if columns > 9 else lines


@given(NAMES, NAMES, st.sampled_from([2, 12]))
def test_markdown_gives_every_text_back_and_nothing_is_markup(model: str, protocol: str, columns: int) -> None:
    tokens = MarkdownIt("commonmark").enable("table").parse(to_markdown(named(model, protocol, columns=columns)))
    inside = tokens[[token.type for token in tokens].index("table_open") :]
    cells = [
        token for token in inside[: [token.type for token in inside].index("table_close")] if token.type == "inline"
    ]
    assert all(child.type == "text" for cell in cells for child in cell.children)
    texts = ["".join(child.content for child in cell.children) for cell in cells]
    across = 4 + columns if columns <= 9 else 4
    lines = turned([texts[start : start + across] for start in range(0, len(texts), across)], columns)
    assert len(lines) == 4
    assert lines[2][:6] == [one_line(model), "measured", *[one_line(protocol)] * 2, "71.2 [68.9, 73.6] n 1,451", "40.0"]
    assert lines[1][4:6] == ["50.0", ""]


@given(NAMES, NAMES)
@example("", "'=")
def test_csv_gives_every_number_back_and_runs_nothing(model: str, protocol: str) -> None:
    text = to_csv(named(model, protocol, columns=2), named("x", "y", columns=2))
    head, *rows = csv.reader(io.StringIO(text.removeprefix("\ufeff")))
    assert len(rows) == 2 * 3 * 2
    assert not any(cell.lstrip().startswith(("=", "+", "-", "@")) for row in rows for cell in row)
    first, second = (dict(zip(head, map(as_written, row), strict=True)) for row in rows[2:4])
    assert (first["model"], first["protocol"]) == (one_line(model), one_line(protocol))
    assert [first[name] for name in ("per cent", "low", "high", "questions")] == ["71.2", "68.9", "73.6", "1451"]
    assert [second[name] for name in ("per cent", "low", "high", "questions")] == ["40.0", "", "", ""]


UNTEX = {
    r"\textbackslash{}": "\\", r"\textasciitilde{}": "~", r"\textasciicircum{}": "^", r"\textless{}": "<",
    r"\textgreater{}": ">", r"\textbar{}": "|", r"\symbol{34}": '"', r"\textasciigrave{}": "`", r"{\tiny ": "",
    r"\{": "{", r"\}": "}", r"\$": "$", r"\&": "&", r"\#": "#", r"\%": "%", r"\_": "_",
}  # fmt: skip
TEX = re.compile("|".join(map(re.escape, UNTEX)) + r"|[{}]|[\\$&#%_~^]")


def untex(text: str) -> str:
    """Return what LaTeX would set. Raises KeyError at a special character that is not escaped."""
    return TEX.sub(lambda found: "" if found[0] in "{}" else UNTEX[found[0]], text)


@given(NAMES, NAMES, st.sampled_from([2, 12]))
def test_latex_gives_every_text_back_and_no_name_is_a_command(model: str, protocol: str, columns: int) -> None:
    text = to_latex(named(model, protocol, columns=columns))
    body = text[text.index("\\toprule\n") + 9 : text.index("\n\\bottomrule")].replace("\\midrule\n", "")
    lines = [line.removesuffix(r" \\") for line in body.split("\n")]
    assert not any(line.startswith(("[", "*")) for line in lines)  # an option of the line break before
    assert "--" not in body and "''" not in body and ",," not in body  # ligatures
    cells = turned([[untex(cell) for cell in line.split(" & ")] for line in lines], columns)
    number = cells[2][2]
    assert cells[2][:6] == [
        one_line(model),
        "measured",
        number,
        one_line(protocol),
        "71.2 [68.9, 73.6] n 1,451",
        "40.0",
    ]
    below = text[text.index("\\raggedright") :]
    assert f"Source {number}: {one_line(protocol)}." in untex(
        below.removeprefix("\\raggedright").split("\\end{table}")[0].replace("\\par", "")
    )
    assert text.count("{tabular}") == text.count("{table}") == 2


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


def test_own_models_stand_side_by_side_and_no_run_is_lost() -> None:
    scores = [score("corpus", 0.5), score("own", 0.6), score("corpus", 0.7, 20), score("own", 0.1, model="another")]
    side_by_side, every_run = own_tables(runs(*scores))
    assert side_by_side.columns == ("corpus", "own")
    assert [(row.model, len(row.cells)) for row in side_by_side.rows] == [("another", 1), ("ours", 2), ("ours", 1)]
    assert sorted(row.cells["Accuracy"].value for row in every_run.rows) == pytest.approx([10, 50, 60, 70])


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


@given(st.lists(st.sampled_from(["a", "b", "a" * 60, "a" * 61, "a\n"]), min_size=1, max_size=6))
def test_names_in_plots_are_told_apart(models: list[str]) -> None:
    rows = [TableRow(model=model, status="measured", source="s", protocol="strict", cells={}) for model in models]
    names = row_names(rows)
    assert len(set(names)) == len(names)
    assert max(map(len, names)) < 60


def test_plots_are_the_same_files_for_the_same_numbers(tmp_path: Path) -> None:
    table = named("$\\frac{", "肺", columns=3)
    (bars, radar) = write_plots([table], tmp_path / "one")
    again = write_plots([table], tmp_path / "two")
    assert (bars.files.keys(), radar.files.keys()) == ({"light", "dark"}, {"light", "dark"})
    for one, other in zip((bars, radar), again, strict=True):
        assert all(path.read_bytes() == other.files[theme].read_bytes() for theme, path in one.files.items())
    assert bars.files["light"].read_bytes() != bars.files["dark"].read_bytes()
    (first, _) = write_plots([replace(table, rows=table.rows[1:])], tmp_path / "png", "png")
    assert first.files["dark"].read_bytes().startswith(b"\x89PNG")


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
