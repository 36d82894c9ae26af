"""Rows of official files: what is missing is said before anything is made of the first row."""

import numpy as np
import pytest
from benchmark_files import png, write_csv, write_json, write_json_lines, write_parquet, write_tsv

from gmai_vl.evaluation.benchmarks.path_vqa import read_path_vqa
from gmai_vl.evaluation.benchmarks.rows import rows_of
from gmai_vl.evaluation.benchmarks.slake import read_slake
from gmai_vl.evaluation.benchmarks.vqa_rad import read_vqa_rad
from gmai_vl.foundation import UserError

WRITERS = {
    "csv": write_csv,
    "tsv": write_tsv,
    "json": write_json,
    "jsonl": write_json_lines,
    "parquet": write_parquet,
}
ROWS = [{"question": "Why?", "anser": "so"}, {"question": "How?", "anser": "thus"}]


@pytest.mark.parametrize("kind", WRITERS)
def test_a_missing_column_is_said_before_the_first_row(tmp_path, kind):
    file = tmp_path / f"rows.{kind}"
    WRITERS[kind](file, ROWS)
    with pytest.raises(UserError, match=rf"rows\.{kind} has no column `answer`; did you mean `anser`"):
        next(iter(rows_of(file, ["question", "answer"])))
    assert next(iter(rows_of(file, ["question", "answer"], may_lack=["answer"]))).values["answer"] is None


@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_a_column_that_only_the_last_object_has_is_there(tmp_path, kind):
    file = tmp_path / f"rows.{kind}"
    WRITERS[kind](file, [*ROWS, {"question": "Who?", "answer": "he"}])
    assert [row.values["answer"] for row in rows_of(file, ["question", "answer"])] == [None, None, "he"]


def test_a_missing_column_of_a_large_parquet_file_costs_none_of_its_images(tmp_path):
    file = tmp_path / "rows.parquet"
    noise = [np.random.default_rng(number).bytes(2**20) for number in range(8)]
    write_parquet(file, [{"question": "Why?", "image": {"bytes": content, "path": None}} for content in noise])
    content = bytearray(file.read_bytes())
    content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)  # the pictures are damaged, not the schema at the end
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"rows\.parquet has no column `answer`"):
        next(iter(rows_of(file, ["question", "answer", "image"])))


@pytest.mark.parametrize("read", [read_path_vqa, read_vqa_rad])
def test_the_hubs_copies_say_which_column_is_missing_not_which_cell(tmp_path, read):
    write_parquet(tmp_path / "test-0.parquet", [{"question": "Why?", "image": {"bytes": png(0), "path": None}}])
    with pytest.raises(UserError, match=r"test-0\.parquet has no column `answer`; known: `question`, `image`"):
        read(tmp_path)


def test_slake_says_which_column_is_missing_not_which_cell(tmp_path):
    row = {"qid": 1, "img_name": "a.png", "question": "?", "answer": "Yes", "answer_type": "CLOSED"}
    write_json(tmp_path / "test.json", [row])
    with pytest.raises(UserError, match=r"test\.json has no column `q_lang`"):
        read_slake(tmp_path)
