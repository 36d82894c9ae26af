"""Building a benchmark from a corpus: what is left out, answered blind, replaced, or killed."""

import hashlib
import json
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from construction_corpus import (
    by_cell,
    changed,
    content,
    corpus_of_noise,  # noqa: F401  a fixture
    made_benchmark,  # noqa: F401  a fixture
    manifest_of,
    rows_of,
    shown,
)
from killing import run_killed_at
from scipy import ndimage
from typer.testing import CliRunner

from gmai_vl.cli.eval import app
from gmai_vl.corpus import Corpus
from gmai_vl.evaluation.construction import build_benchmark
from gmai_vl.foundation import UserError


def answers(path: Path, responses: dict[str, str]) -> Path:
    path.write_text("".join(json.dumps({"id": id, "response": text}) + "\n" for id, text in responses.items()))
    return path


def test_what_is_answered_blind_is_dropped_and_the_rest_balanced_anew(corpus: Path, made: Path, tmp_path: Path) -> None:
    rows = rows_of(made)
    known = {row["id"] for row in rows if int(row["id"], 16) % 3 == 0}

    def said(row: dict[str, Any]) -> str:
        if row["id"] in known:
            return f"I think the answer is {row['answer']}."
        return "B" if row["answer"] == "A" else "I cannot see an image."

    file = answers(tmp_path / "blind.jsonl", {row["id"]: said(row) for row in rows})
    built = build_benchmark(corpus, tmp_path / "out", per_cell=None, seed=0, blind=file)
    left = rows_of(tmp_path / "out")
    before = {row["id"]: row for row in rows}
    assert {row["id"] for row in left} <= before.keys() - known
    unasked = built.left_out["questions"]
    assert unasked["answered right without the image"] == len(known)
    assert (
        len(left)
        == built.items
        == len(rows)
        - len(known)
        - sum(
            unasked.get(reason, 0) - manifest_of(made)["left_out"]["questions"].get(reason, 0)
            for reason in ("more of its label than of any other in its cell", "its cell has one right label only")
        )
    )
    for row in left:  # the same question with the same options; only their order may differ
        for name in ("question", "category", "patient_id", "language", "image"):
            assert row[name] == before[row["id"]][name]
        assert sorted(row[x] or "" for x in "ABCDE") == sorted(before[row["id"]][x] or "" for x in "ABCDE")
    for cell_rows in by_cell(left).values():
        dealt = Counter(row["answer"] for row in cell_rows)
        number = sum(bool(cell_rows[0][letter]) for letter in "ABCDE")
        assert max(dealt.values()) - min(dealt[letter] for letter in "ABCDE"[:number]) <= 1
    told = manifest_of(tmp_path / "out")["blind"]
    assert told["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (told["asked"], told["right"]) == (len(rows), len(known))
    assert "| blind % |" in (tmp_path / "out" / "card.md").read_text()


def test_answers_to_another_build_are_refused(corpus: Path, made: Path, tmp_path: Path) -> None:
    ids = [row["id"] for row in rows_of(made)]
    few = answers(tmp_path / "few.jsonl", dict.fromkeys(ids[1:], "A"))
    with pytest.raises(
        UserError, match=rf"few\.jsonl: 1 of {len(ids)} questions have no answer, the first is `{ids[0]}`"
    ):
        build_benchmark(corpus, tmp_path / "out", per_cell=None, seed=0, blind=few)
    more = answers(tmp_path / "more.jsonl", dict.fromkeys([*ids, "x"], "A"))
    with pytest.raises(UserError, match=r"more\.jsonl: 1 ids are no questions of this build, the first is `x`"):
        build_benchmark(corpus, tmp_path / "out", per_cell=None, seed=0, blind=more)
    every = answers(tmp_path / "every.jsonl", {row["id"]: row["answer"] for row in rows_of(made)})
    with pytest.raises(UserError, match="nothing of its test split can be asked: answered right without the image"):
        build_benchmark(corpus, tmp_path / "out", per_cell=None, seed=0, blind=every)
    assert not (tmp_path / "out").exists()


def test_cells_with_one_label_and_licences_that_forbid_it_are_left_out(corpus: Path, made: Path) -> None:
    assert {row["source"] for row in rows_of(made)} == {"skin", "organs", "smears"}
    left_out = manifest_of(made)["left_out"]
    tests = Counter(row["source"] for row in Corpus(corpus).rows("cases") if row["split"] == "test")
    assert left_out["cases"] == {"licence CC-BY-ND-4.0 forbids it": tests["shut"]}
    reasons = left_out["questions"]
    polyps = [row for row in Corpus(corpus).rows("cases") if row["split"] == "test" and row["source"] == "polyps"]
    several = sum(
        ndimage.label(finding.mask)[1] > 1 for row in polyps for finding in Corpus(corpus).case(row["case_id"]).findings
    )
    assert reasons["box is about several pieces"] == several > 0
    assert reasons["no other answer is surely wrong"] == 3 * sum(len(row["findings"]) for row in polyps) - several
    assert left_out["questions"]["region too small to be seen"] == tests["smears"]
    card = (made / "card.md").read_text()
    assert "Research use only, not for diagnosis." in card and "shut" not in card and "| skin |" in card

    def one_label(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Leave of the test organs those of one label."""
        return [
            row
            for row in rows
            if row["source"] != "organs"
            or row["split"] != "test"
            or {finding["label"]["en"] for finding in row["findings"]} == {"liver"}
        ]

    out = made.parent / "one"
    built = build_benchmark(changed(corpus, made.parent / "one-corpus", one_label), out, per_cell=None, seed=0)
    assert {row["source"] for row in rows_of(out)} == {"skin", "smears"}
    empty = [(cell["granularity"], cell["reason"]) for cell in built.manifest["left_out"]["cells"]]
    assert empty == [(level, "its cell has one right label only") for level in ("box", "contour", "mask")]


def test_images_and_patients_of_the_other_sides_stay_out(corpus: Path, made: Path, tmp_path: Path) -> None:
    rows = pq.read_table(corpus / "cases.parquet").to_pylist()
    skin = [row for row in rows if row["source"] == "skin"]
    leaked = next(row for row in skin if row["split"] == "test")
    other = next(row for row in skin if row["split"] == "test" and row["patient_id"] != leaked["patient_id"])

    def leak(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        again = {"case_id": "skin/again", "item": "again", "split": "train", "patient_id": "somebody"}
        return [
            *rows,
            leaked | again,
            other | again | {"case_id": "skin/b", "image": "0" * 64, "patient_id": other["patient_id"]},
        ]

    built = build_benchmark(changed(corpus, tmp_path / "leaky", leak), tmp_path / "out", per_cell=None, seed=0)
    patients = sum(row["patient_id"] == other["patient_id"] and row["split"] == "test" for row in skin)
    assert built.left_out["cases"]["image also in train or val"] == 1
    assert built.left_out["cases"]["patient also in train or val"] == patients
    for each in shown(corpus, [row for row in rows_of(tmp_path / "out") if row["source"] == "skin"]):
        assert each.case.patient_id != other["patient_id"] and each.case.case_id != leaked["case_id"]


def test_only_folders_of_benchmarks_are_replaced(corpus: Path, made: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"mine: holds `thesis\.txt`, which is no part of a benchmark"):
        build_benchmark(corpus, tmp_path / "mine", per_cell=None, seed=0)
    with pytest.raises(UserError, match="lies in the corpus or about it"):
        build_benchmark(corpus, corpus / "bench", per_cell=None, seed=0)
    with pytest.raises(UserError, match="lies in the corpus or about it"):
        build_benchmark(corpus, corpus.parent, per_cell=None, seed=0)
    with pytest.raises(UserError, match=r"holds `manifest\.json`, which is no part of a benchmark"):
        (tmp_path / "other").mkdir()
        shutil.copy(corpus / "manifest.json", tmp_path / "other")
        build_benchmark(corpus, tmp_path / "other", per_cell=None, seed=0)
    shutil.copytree(made, tmp_path / "old")
    build_benchmark(corpus, tmp_path / "old", per_cell=2, seed=5)
    assert manifest_of(tmp_path / "old")["per_cell"] == 2


def test_a_full_disk_leaves_the_old_benchmark_or_nothing(
    corpus: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(made, tmp_path / "old")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gmai_vl.evaluation.construction.files.pq.ParquetWriter.write_table", full)
    for out in ("new", "old"):
        with pytest.raises(OSError, match="No space left"):
            build_benchmark(corpus, tmp_path / out, per_cell=2, seed=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old"]
    assert content(tmp_path / "old") == content(made)


CALL = (
    "from gmai_vl.evaluation.construction import build_benchmark; "
    "call = lambda corpus, out: build_benchmark(corpus, out, per_cell=2, seed=1)"
)


def test_a_killed_build_leaves_nothing_half(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "watched" / "out"
    out.parent.mkdir()
    assert run_killed_at(CALL, [corpus, out], out.parent, 8).returncode == -signal.SIGKILL
    assert list(out.parent.glob(".out.*/pictures/*.png")) and not out.exists()


@pytest.mark.long
def test_a_build_killed_at_any_moment_leaves_the_old_benchmark_the_new_one_or_none(
    corpus: Path, made: Path, tmp_path: Path
) -> None:
    build_benchmark(corpus, tmp_path / "whole", per_cell=2, seed=1)
    whole, watched = content(tmp_path / "whole"), tmp_path / "watched"
    counted = run_killed_at(CALL, [corpus, watched / "out"], watched, 0)
    assert counted.returncode == 0, counted.stderr
    assert content(watched / "out") == whole
    for moment in range(1, int(counted.stdout) + 1, 5):
        shutil.rmtree(watched)
        shutil.copytree(made, watched / "out")
        assert run_killed_at(CALL, [corpus, watched / "out"], watched, moment).returncode == -signal.SIGKILL
        left = content(watched / "out") if (watched / "out").exists() else {}
        assert left in ({}, content(made), whole), moment


def test_the_command_builds_and_tells(corpus: Path, tmp_path: Path) -> None:
    arguments = ["build", str(corpus), "--out", str(tmp_path / "out"), "--per-cell", "3", "--json", str(tmp_path / "j")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "15 questions in 5 cells" in result.output and "Research use only" in result.output
    assert json.loads((tmp_path / "j").read_text()) == manifest_of(tmp_path / "out")
    with pytest.raises(UserError, match="nothing of its test split can be asked: it is empty"):

        def no_test(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return [row for row in rows if row["split"] != "test"]

        build_benchmark(changed(corpus, tmp_path / "c", no_test), tmp_path / "x", per_cell=None, seed=0)
