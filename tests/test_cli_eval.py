"""`gmai eval` as its users see it."""

import json
import subprocess
import sys

import pytest
import torch
from corpus_recipes import write_sources
from PIL import Image
from typer.testing import CliRunner

from gmai_vl.cli.eval import app
from gmai_vl.corpus import Corpus, build
from gmai_vl.evaluation import majority_answers, questions_of, read_predictions
from gmai_vl.foundation import UserError
from gmai_vl.model import ModelSettings, build_model, load_to_answer, save_model


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder with a small corpus and a checkpoint."""
    folder = tmp_path_factory.mktemp("eval")
    build(write_sources(folder), folder / "corpus")
    save_model(build_model(ModelSettings(preset="tiny"), seed=0), folder / "model")
    return folder


def gmai_eval(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def write_predictions(path, responses):
    path.write_text("".join(json.dumps({"id": id, "response": text}) + "\n" for id, text in responses.items()))
    return path


def reference(base):
    return {entry.id: entry.answer for entry in questions_of(Corpus(base / "corpus"))}


def test_run_writes_predictions_and_the_score_of_them(base, tmp_path):
    run = ("run", "--model", base / "model", "--benchmark", "corpus", "--data", base / "corpus", "--limit", 6)
    first = gmai_eval(*run, "--out", tmp_path / "out", "--json", tmp_path / "first.json")
    assert first.exit_code == 0
    result = json.loads((tmp_path / "first.json").read_text())
    assert result["n"] == 6
    assert result == json.loads((tmp_path / "out" / "score.json").read_text())
    again = gmai_eval(*run, "--out", tmp_path / "out")
    assert again.stdout == first.stdout
    predictions = tmp_path / "out" / "predictions.jsonl"
    assert predictions.read_bytes().count(b"\n") == 6
    score = ("score", "--benchmark", "corpus", "--data", base / "corpus", "--predictions", predictions)
    gmai_eval(*score, "--limit", 6, "--json", tmp_path / "second.json")
    second = json.loads((tmp_path / "second.json").read_text())
    assert {key: value for key, value in second.items() if key != "manifest"} == {
        key: value for key, value in result.items() if key != "manifest"
    }
    same = ("model_sha256", "data_sha256", "decoding", "limit", "code")
    assert {key: second["manifest"][key] for key in same} == {key: result["manifest"][key] for key in same}
    assert result["leaks"]["status"] == "unknown" and result["manifest"]["decoding"]["greedy"]
    assert "research use only" in (tmp_path / "out/report.html").read_text().lower()
    with pytest.raises(UserError, match="have no response"):
        gmai_eval(*score)


def test_responses_that_came_to_no_end_are_counted(base, tmp_path):
    run = ("run", "--model", base / "model", "--benchmark", "corpus", "--data", base / "corpus", "--limit", 6)
    shown = gmai_eval(*run, "--max-new-tokens", 2, "--out", tmp_path / "short").stdout
    kept = [json.loads(line) for line in (tmp_path / "short/predictions.jsonl").read_text().splitlines()]
    count = sum(line.get("cut_off", False) for line in kept)
    assert json.loads((tmp_path / "short/score.json").read_text())["n_cut_off"] == count > 0
    assert f"{count} responses were cut off" in shown
    assert "cut off at their longest length" in (tmp_path / "short/report.html").read_text()


def test_a_checkpoint_computes_in_what_is_asked_for(base, tmp_path):
    run = ("run", "--model", base / "model", "--benchmark", "corpus", "--data", base / "corpus", "--limit", 2)
    gmai_eval(*run, "--precision", "bf16", "--out", tmp_path / "half")
    assert json.loads((tmp_path / "half/score.json").read_text())["manifest"]["precision"] == "bf16"
    assert load_to_answer(base / "model", "bf16").model.dtype == torch.bfloat16
    with pytest.raises(UserError, match="holds a run with another precision"):
        gmai_eval(*run, "--out", tmp_path / "half")


def test_most_frequent_answers_are_a_run_like_any_other(base, tmp_path):
    run = ("run", "--model", "majority", "--benchmark", "corpus", "--data", base / "corpus", "--out", tmp_path / "out")
    gmai_eval(*run)
    result = json.loads((tmp_path / "out/score.json").read_text())
    corpus = Corpus(base / "corpus")
    asked = questions_of(corpus)
    assert read_predictions(tmp_path / "out/predictions.jsonl") == majority_answers(
        questions_of(corpus, "train"), asked
    )
    assert result["micro"] == result["baselines"]["majority"]
    assert (result["leaks"]["status"], result["manifest"]["model"]) == ("clean", "majority")
    before = (tmp_path / "out/predictions.jsonl").read_bytes()
    gmai_eval(*run)
    assert (tmp_path / "out/predictions.jsonl").read_bytes() == before


def test_without_a_train_side_there_are_no_frequent_answers(base, tmp_path):
    own = tmp_path / "own.csv"
    own.write_text("question,answer\nIs it?,yes\n")
    with pytest.raises(UserError, match="`own` has no train side"):
        gmai_eval("run", "--model", "majority", "--benchmark", "own", "--data", own, "--out", tmp_path / "out")


def test_leaks_of_a_run_stand_beside_each_score_of_it(base, tmp_path):
    corpus, folder = base / "corpus", tmp_path / "run"
    trained = tmp_path / "trained"
    told = {
        "stages": [{"corpora": [{"name": "corpus", "fingerprint": Corpus(corpus).manifest["fingerprint"]}]}],
        "recipe": {"stages": [{"mixture": [{"corpus": str(corpus)}]}]},
    }
    save_model(build_model(ModelSettings(preset="tiny"), seed=0), trained, provenance=told)
    (tmp_path / "shown").mkdir()
    asked = questions_of(Corpus(corpus), "train")[:2] + questions_of(Corpus(corpus))[:2]
    lines = []
    for number, question in enumerate(asked):
        Image.fromarray(Corpus(corpus).image(question.images[0])).save(tmp_path / f"shown/{number}.png")
        lines.append({"id": number, "question": f"Is it {number}?", "answer": "yes", "image": f"{number}.png"})
    (tmp_path / "shown/own.csv").write_text(
        "\n".join([",".join(lines[0]), *(",".join(map(str, line.values())) for line in lines)])
    )
    own = ("--benchmark", "own", "--data", tmp_path / "shown/own.csv")
    gmai_eval("run", "--model", trained, *own, "--out", folder, "--json", tmp_path / "one.json")
    predictions = ("--predictions", folder / "predictions.jsonl")
    gmai_eval("score", *own, *predictions, "--protocol", "llava-med", "--json", tmp_path / "two.json")
    one, two = (json.loads((tmp_path / name).read_text()) for name in ("one.json", "two.json"))
    assert (one["leaks"]["status"], one["leaks"]["n"]) == ("leaked", 2) == (two["leaks"]["status"], two["leaks"]["n"])
    assert two["leaks"]["without"]["n"] == 2
    assert json.loads((folder / "leaks.json").read_text())["questions"] == ["own-0", "own-1"]
    (folder / "leaks.json").write_text("{")
    with pytest.raises(UserError, match=r"leaks.json: cannot be read"):
        gmai_eval("score", *own, *predictions)
    (tmp_path / "alone").mkdir()
    alone = (folder / "predictions.jsonl").rename(tmp_path / "alone/predictions.jsonl")
    gmai_eval("score", *own, "--predictions", alone, "--json", tmp_path / "three.json")
    assert json.loads((tmp_path / "three.json").read_text())["leaks"]["status"] == "unknown"


def test_run_does_not_mix_two_models(base, tmp_path):
    run = ("run", "--benchmark", "corpus", "--data", base / "corpus", "--limit", 1, "--out", tmp_path / "out")
    gmai_eval(*run, "--model", base / "model")
    save_model(build_model(ModelSettings(preset="tiny"), seed=1), tmp_path / "other")
    with pytest.raises(UserError, match="another model"):
        gmai_eval(*run, "--model", tmp_path / "other")


def test_the_reference_answers_score_everything(base, tmp_path):
    predictions = write_predictions(tmp_path / "p.jsonl", reference(base))
    score = ("score", "--benchmark", "corpus", "--data", base / "corpus", "--predictions", predictions)
    shown = gmai_eval(*score, "--json", tmp_path / "score.json").stdout
    result = json.loads((tmp_path / "score.json").read_text())
    assert (result["micro"], result["macro"], result["n_unparsed"]) == (1.0, 1.0, 0)
    assert result["n"] == len(reference(base))
    assert set(result["groups"]["source"]) == {"skin", "polyps"}
    assert "100.0" in shown
    assert "not for diagnosis" in shown


def test_predictions_for_other_questions_are_refused(base, tmp_path):
    predictions = write_predictions(tmp_path / "p.jsonl", {**reference(base), "stranger": "A"})
    with pytest.raises(UserError, match="`stranger`"):
        gmai_eval("score", "--benchmark", "corpus", "--data", base / "corpus", "--predictions", predictions)


def test_an_unknown_benchmark_is_told_the_known_ones(base, tmp_path):
    with pytest.raises(UserError, match="did you mean `corpus`"):
        gmai_eval("score", "--benchmark", "corpsu", "--data", base / "corpus", "--predictions", tmp_path / "p.jsonl")


def test_list_names_the_benchmarks(tmp_path):
    shown = gmai_eval("list", "--json", tmp_path / "list.json").stdout
    listed = json.loads((tmp_path / "list.json").read_text())
    assert {"vqa-rad", "slake-zh", "gmai-mmbench", "corpus", "own"} <= listed["benchmarks"].keys()
    assert {"default", "mmmu", "vlmevalkit", "medevalkit"} <= listed["protocols"].keys()
    assert all(f"  {name}: " in shown for names in listed.values() for name in names)


def test_parse_needs_no_torch_and_bad_input_is_one_line_and_code_2(tmp_path):
    case = {"id": "a", "kind": "mcq", "lang": "en", "question": "?", "options": {"A": "x", "B": "y"}, "response": "(b)"}
    (tmp_path / "in.jsonl").write_text(json.dumps(case) + "\n")
    program = "import sys; from gmai_vl.cli import main\ntry: main()\nfinally: assert 'torch' not in sys.modules"
    command = [sys.executable, "-c", program, "eval", "parse", "--input", "in.jsonl", "--output", "out.jsonl"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "out.jsonl").read_text())["choice"] == "B"

    (tmp_path / "in.jsonl").write_text("{}\n")
    failed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert failed.returncode == 2
    assert len(failed.stderr.splitlines()) == 1
    assert "in.jsonl:1: " in failed.stderr


def test_two_scores_are_compared_question_by_question(base, tmp_path):
    right = reference(base)
    first = min(right)
    for name, responses in (("a", right), ("b", right | {first: "I cannot tell."})):
        predictions = write_predictions(tmp_path / f"{name}.jsonl", responses)
        asked = ("score", "--benchmark", "corpus", "--data", base / "corpus", "--predictions", predictions)
        gmai_eval(*asked, "--out", tmp_path / name)
        assert (tmp_path / name / "report.html").is_file()
    gmai_eval("compare", tmp_path / "a", tmp_path / "b", "--by", "source", "--json", tmp_path / "c.json")
    told = json.loads((tmp_path / "c.json").read_text())
    assert (told["n"], told["only_a"], told["only_b"]) == (len(right), 1, 0)
    assert sum(group["only_a"] for group in told["groups"].values()) == 1
    with pytest.raises(UserError, match=r"verdicts\.jsonl: cannot be read"):
        gmai_eval("compare", tmp_path / "a", tmp_path)


def test_the_protocol_stands_by_the_score(base, tmp_path):
    predictions = write_predictions(tmp_path / "p.jsonl", reference(base))
    score = ("score", "--benchmark", "corpus", "--data", base / "corpus", "--predictions", predictions)
    with pytest.raises(UserError, match="no protocol of that name; did you mean `mmmu`"):
        gmai_eval(*score, "--protocol", "mmmmu")
    with pytest.raises(UserError, match=r"has no rules for .* questions"):
        gmai_eval(*score, "--protocol", "mmmu")
