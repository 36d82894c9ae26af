"""Tables of results: printed figures as printed, own ones where they belong."""

from statistics import mean
from typing import Any

import pytest
from report_scores import groups, runs, score

from gmai_vl.evaluation.reports import PublishedTable, TableRow, own_tables, paper_tables, published_tables, to_markdown


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


def test_own_models_stand_side_by_side_and_no_run_is_lost() -> None:
    scores = [score("corpus", 0.5), score("own", 0.6), score("corpus", 0.7, 20), score("own", 0.1, model="another")]
    side_by_side, every_run = own_tables(runs(*scores))
    assert side_by_side.columns == ("corpus", "own")
    assert [(row.model, len(row.cells)) for row in side_by_side.rows] == [("another", 1), ("ours", 2), ("ours", 1)]
    assert sorted(row.cells["Accuracy"].value for row in every_run.rows) == pytest.approx([10, 50, 60, 70])
