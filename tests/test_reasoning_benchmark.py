"""A reasoning benchmark: made from a corpus by `gmai eval build`, asked with the prompt `reason`, scored and told."""

import json

import pytest
from construction_corpus import rows_of, write_corpus
from stub_server import Stub, answer
from typer.testing import CliRunner

from gmai_vl.cli.eval import app
from gmai_vl.evaluation import read_predictions

THOUGHTS = {"en": "It could be A or B.", "zh": "可能是A或B。"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GMAI_CACHE", str(tmp_path / "cache"))


def gmai_eval(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


def test_a_benchmark_of_a_corpus_is_asked_to_reason_and_scored_by_what_stands_in_the_tags(tmp_path):
    corpus, bench, out = write_corpus(tmp_path), tmp_path / "bench", tmp_path / "out"
    gmai_eval("build", corpus, "--out", bench)
    rows = {f"own-{row['id']}": row for row in rows_of(bench)}
    asked = []

    def script(now):
        asked.append(now)
        language = "zh" if "请先在 <think>" in now.prompt else "en"
        if len(now.prompt) % 5 == 0:
            return answer(f"<think>{THOUGHTS[language]}</think>")  # and no answer
        return answer(f"<think>{THOUGHTS[language]}</think><answer>A</answer>")

    with Stub(script) as stub:
        who = ("--model", f"openai:{stub.url}#m", "--benchmark", "own", "--data", bench / "items.parquet")
        gmai_eval("run", *who, "--prompt", "reason", "--out", out, "--json", tmp_path / "score.json")

    prompts = {now.prompt for now in asked}
    assert any("请先在 <think> 和 </think> 之间思考" in prompt for prompt in prompts)
    assert any("Think first between <think> and </think>" in prompt for prompt in prompts)
    assert all(len(now.images) == 1 for now in asked)
    said = read_predictions(out / "predictions.jsonl")
    assert said.keys() == rows.keys()
    score = json.loads((tmp_path / "score.json").read_text())
    right = {id for id, row in rows.items() if row["answer"] == "A" and "<answer>" in said[id]}
    assert (score["n"], round(score["micro"] * score["n"])) == (len(rows), len(right))
    assert score["n_unparsed"] == sum("<answer>" not in response for response in said.values()) > 0
    for column in ("source", "modality", "language"):
        assert {value: group["n"] for value, group in score["groups"][column].items()} == {
            value: sum(row[column] == value for row in rows.values())
            for value in {row[column] for row in rows.values()}
        }
    assert score["n_patients"] == len({row["patient_id"] for row in rows.values()}) < len(rows)
