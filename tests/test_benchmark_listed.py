"""The list of benchmarks: one name for each, whoever says it."""

import re
from functools import partial
from importlib import import_module
from inspect import signature

import pytest
from benchmark_files import png, write_json_lines, write_parquet

from gmai_vl.evaluation.benchmarks.listed import BENCHMARKS, read_benchmark
from gmai_vl.evaluation.prompts import PROMPTS
from gmai_vl.evaluation.rescore import score_file
from gmai_vl.foundation import UserError

ROW = {
    "question": "What is it?",
    "options": "['a', 'b', 'c', 'd', 'e']",
    "answer": "A",
    "question_type": "multiple-choice",
    "subject": "Pharmacy",
    "image_1": {"bytes": png(0), "path": None},
}
FILES = {
    "mmmu-health": ("Pharmacy/validation-00000-of-00001.parquet", "validation_Pharmacy_1"),
    "mmmu-health-dev": ("Pharmacy/dev-00000-of-00001.parquet", "dev_Pharmacy_1"),
    "mmmu-pro-health": ("standard (10 options)/test-00000-of-00001.parquet", "test_Pharmacy_1"),
}


def test_a_reader_has_the_name_that_the_list_has_or_one_that_begins_it():
    for name, listed in BENCHMARKS.items():
        reader = listed.read.func if isinstance(listed.read, partial) else listed.read
        module = import_module(reader.__module__)
        own = {value for key, value in vars(module).items() if key.startswith("NAME")}
        assert own <= BENCHMARKS.keys(), name
        assert any(name == each or name.startswith(f"{each}-") for each in own), name


def test_the_usual_prompt_of_a_benchmark_is_that_of_its_reader():
    for name, listed in BENCHMARKS.items():
        told = signature(listed.read).parameters.get("prompt")
        assert (told and told.default) == listed.prompt, name
        assert listed.prompt is None or listed.prompt in PROMPTS


@pytest.mark.parametrize("name", FILES)
def test_score_page_and_errors_say_the_name_that_was_asked_for(tmp_path, name):
    file, id = FILES[name]
    family = name.removesuffix("-dev")
    write_parquet(tmp_path / file, [ROW | {"id": id}])
    (question,) = read_benchmark(name, tmp_path).questions
    write_json_lines(tmp_path / "p.jsonl", [{"id": question.id, "response": "B"}])
    result = score_file(name, tmp_path, tmp_path / "p.jsonl", prompt="direct", out=tmp_path / "out")
    assert (result["benchmark"], list(result["groups"]["source"])) == (name, [family])
    assert result["notes"] and all(note.startswith(f"{family}: ") for note in result["notes"])
    for written in ("score.json", "verdicts.jsonl", "report.html"):
        said = re.findall(r"\bmmmu[\w-]*", (tmp_path / "out" / written).read_text(encoding="utf-8"))
        assert said and all(each.startswith(family) for each in said), written
    write_parquet(tmp_path / file, [ROW | {"id": id}] * 2)
    with pytest.raises(UserError, match=f"2 questions have the id {family}-{id}"):
        read_benchmark(name, tmp_path)
