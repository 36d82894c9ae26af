"""Rejection sampling: teachers behind a server and on disk, what is kept and why, runs that go on, the report."""

import json
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from corpus_recipes import write_recipe, write_sources
from stub_server import Stub, answer
from synthesis_runs import (
    ASKED,
    FILES,
    QUESTIONS,
    TRIES,
    WORDS,
    cache,  # noqa: F401  a fixture
    contents,
    folder_of_questions,  # noqa: F401  a fixture
    lines_of,
    note_seeds,  # noqa: F401  a fixture
    recipe_of,
    run,
    said,
    script,
    seeds_of,
    thought,
    tried,
)
from typer.testing import CliRunner

from gmai_vl.cli import app
from gmai_vl.corpus import build
from gmai_vl.model import ModelSettings, build_model, save_model
from gmai_vl.reasoning.items import read_items
from gmai_vl.reasoning.questions import build_questions
from gmai_vl.reasoning.questions.r10k import record_of
from gmai_vl.reasoning.synthesis.teacher import seed_of


def test_a_mixed_teacher(folder):
    with Stub(script) as stub:
        report = run(recipe_of(folder, stub.url), "per_question=2", "checks.most_alike=3")
        assert stub.asked.total() == QUESTIONS * TRIES and stub.most_at_once <= 4
    kept = lines_of(folder / "traces/traces.jsonl")
    rejected = {row["id"]: row["reasons"] for row in lines_of(folder / "traces/rejected.jsonl")}
    assert [row["id"] for row in kept if row["question"] in ("own-n1", "own-n2", "own-n3")] == [
        "own-n1-1", "own-n1-3", "own-n2-4", "own-n3-3", "own-n3-4",
    ]  # fmt: skip
    assert rejected["own-n0-1"] == ["answer"]
    assert (rejected["own-n1-2"], rejected["own-n1-4"]) == (["duplicate"], ["surplus"])
    assert "own-n2-1" not in rejected and report["refused"] == {'status 400: {"error": "too long"}': 1}
    assert (rejected["own-n2-2"], rejected["own-n2-3"]) == (["form", "answer"], ["length"])
    assert (rejected["own-n3-1"], rejected["own-n3-2"]) == (["cut_off"], ["answer_first"])
    # Of four questions with one thought for each try three are kept, and the fourth comes to its later tries.
    assert [row["id"] for row in kept if row["question"] in ("own-n4", "own-n5", "own-n6", "own-n7")] == [
        *(f"own-n{number}-{nth}" for number in (4, 5, 6) for nth in (1, 2)), "own-n7-3", "own-n7-4",
    ]  # fmt: skip
    assert (rejected["own-n7-1"], rejected["own-n7-2"]) == (["alike"], ["alike"])
    assert report["alike"] == {"thoughts": 4, "traces": 16}

    one = next(row for row in kept if row["id"] == "own-n2-4")
    assert (one["try"], one["thought"], one["answer"], one["model"]) == (4, thought(2, 4), "A", "m")
    assert one["response"] == said(2, 4)
    assert one["checks"].pop("facts") == "unknown: the question names no case"
    assert set(one["checks"].values()) == {True}
    (without,) = lines_of(folder / "traces/without_trace.jsonl")
    assert without == {"question": "own-n0", "answered": 4, "right": 0, "reasons": ["answer"]}
    records = [record_of(line) for line in lines_of(folder / "traces/reasoning_mcq_sft.jsonl")]
    assert [record.reasoning for record in records] == [row["thought"] for row in kept]
    assert all(record.answer == "AB"[int(record.stem.split()[-1][:-1]) % 2] for record in records)
    assert all((folder / "questions" / record.image).is_file() for record in records)


def check_sums(report: dict[str, Any], out: Path) -> None:
    tries, questions = report["tries"], report["questions"]
    kept, rejected = lines_of(out / "traces.jsonl"), lines_of(out / "rejected.jsonl")
    assert (len(kept), len(rejected)) == (tries["kept"], tries["rejected"])
    assert tries["answered"] + tries["refused"] + tries["not_asked"] == tries["asked_for"]
    assert questions["with_trace"] == len({row["question"] for row in kept})
    assert questions["without_trace"] == len(lines_of(out / "without_trace.jsonl"))
    assert questions["with_trace"] + questions["without_trace"] == questions["all"]
    for group in (report["by_try"], *report["by"].values()):
        for name in ("answered", "passed", "kept"):
            assert sum(counts[name] for counts in group.values()) == tries[name]
    for group in report["by"].values():
        assert sum(counts["all"] for counts in group.values()) == questions["all"]
    assert report["reasons"] == dict(Counter(reason for row in rejected for reason in row["reasons"]))
    assert sum(report["only_reason"].values()) == sum(len(row["reasons"]) == 1 for row in rejected)
    assert sum(report["refused"].values()) == tries["refused"]
    facts = report["facts"]
    thoughts = facts["contradicted"] + facts["borne_out"] + facts["silent"] + sum(facts["unknown"].values())
    assert thoughts == sum("facts" in row["checks"] for row in [*kept, *rejected])


def test_the_sums_of_the_report(folder):
    with Stub(script) as stub:
        path = recipe_of(folder, stub.url, prices={"prompt": 1.0, "answer": 10.0})
        report = run(path)
        check_sums(report, folder / "traces")
        assert (report["tokens"]["prompt"], report["tokens"]["answer"]) == tuple(stub.billed_tokens)
        assert report["usd"] == pytest.approx((stub.billed_tokens[0] + 10 * stub.billed_tokens[1]) / 1e6)
    assert report["seconds"] > 0
    assert json.loads((folder / "traces/report.json").read_text()) == report
    assert set(report["by"]["source"]) == {"set0", "set1", "set2"} and set(report["by"]["form"]) == {"kind", "size"}
    assert report["by"]["modality"]["CT"]["all"] == QUESTIONS
    assert report["tries"] == {
        "asked_for": 48, "answered": 47, "refused": 1, "not_asked": 0, "right": 41, "passed": 39, "kept": 11,
        "rejected": 36,
    }  # fmt: skip
    check_sums(run(path, "tries=6", ask=False), folder / "traces")


def test_nothing_answered_is_asked_again_and_refusals_are(folder):
    with Stub(script) as stub:
        path = recipe_of(folder, stub.url)
        run(path)
        first = contents(folder / "traces")
        run(path)
        assert stub.asked.total() == QUESTIONS * TRIES + 1  # the refused one
        assert contents(folder / "traces") == first
    with Stub(lambda now: answer(said(*tried(now)))) as stub:  # elsewhere, with an empty cache
        report = run(recipe_of(folder, stub.url), "tries=5")
        assert sorted(map(ASKED.get, seeds_of(stub))) == sorted([(2, 1), *((n, 5) for n in range(QUESTIONS))])
    assert report["tries"]["refused"] == 0 and report["tries"]["answered"] == 60
    assert report["questions"]["without_trace"] == 0


def test_seeds_are_those_of_question_and_try(folder):
    seeds = {seed_of(seed, (id, nth)) for seed in (0, 1) for id in ("own-a", "own-b") for nth in range(1, 50)}
    assert len(seeds) == 2 * 2 * 49 and all(0 <= seed < 2**31 for seed in seeds)
    with Stub(script) as stub:
        run(recipe_of(folder, stub.url))
        assert len(set(seeds_of(stub))) == QUESTIONS * TRIES
        assert set(seeds_of(stub)) <= set(ASKED)


def test_the_same_answers_give_the_same_files(folder, monkeypatch):
    outs = []
    for name, concurrency in (("one", 1), ("other", 8)):
        monkeypatch.setenv("GMAI_CACHE", str(folder / f"cache-{name}"))
        with Stub(script) as stub:
            run(recipe_of(folder, stub.url), f"out={name}", f"concurrency={concurrency}")
        outs.append(contents(folder / name))
    assert outs[0] == outs[1]


def test_judging_anew_needs_no_teacher(folder):
    with Stub(script) as stub:
        path = recipe_of(folder, stub.url)
        report = run(path)
        before = contents(folder / "traces") | {"report": (folder / "traces/report.json").read_bytes()}
    for name in FILES:
        (folder / "traces" / name).unlink()
    assert run(path, ask=False) == report
    assert contents(folder / "traces") | {"report": (folder / "traces/report.json").read_bytes()} == before
    stricter = run(path, "checks.min_words=40", ask=False)
    assert stricter["tries"]["kept"] == 0 and stricter["tries"]["right"] == report["tries"]["right"]
    rows = [row | {"answer": "A"} for row in lines_of(folder / "questions/train.jsonl")]  # a corrected key
    (folder / "questions/train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run(path, ask=False)["by_try"]["1"]["kept"] < report["by_try"]["1"]["kept"] + 1


def test_the_command(folder):
    with Stub(script) as stub:
        path = recipe_of(folder, stub.url)
        arguments = ["reason", "synthesize", str(path), "--set", "limit=6", "--json", str(folder / "report.json")]
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        assert len(set(seeds_of(stub))) == 6 * TRIES
    report = json.loads((folder / "report.json").read_text())
    assert report["questions"]["all"] == 6
    for words in ("rejected for", "that alone", "set1", "modality", "facts not checked", "Research use only"):
        assert words in done.stdout
    again = CliRunner().invoke(app, ["reason", "synthesize", str(path), "--set", "limit=6", "--rejudge"])
    assert again.stdout == done.stdout


@pytest.fixture(scope="module")
def annotated(tmp_path_factory):
    """Questions about a corpus that is at hand."""
    folder = tmp_path_factory.mktemp("annotated")
    write_sources(folder, patients=5, polyps=4)
    build(write_recipe(folder, languages={"en": 1.0}), folder / "corpus")
    build_questions([folder / "corpus"], folder / "questions")
    return folder


def test_thoughts_that_the_annotation_contradicts_are_not_kept(annotated, monkeypatch):
    items = read_items(annotated / "questions", "train")
    by_seed = {
        seed_of(0, (question.id, nth)): (question, nth) for question in items.questions for nth in range(1, TRIES + 1)
    }
    wrong = "This is a chest CT scan."

    def claims(now):
        question, nth = by_seed[now.body["seed"]]
        body = f"It has {WORDS[nth]} tones which are spread over the whole of the frame, as far as one can see them."
        return answer(f"<think>{body} {wrong if nth < 3 else ''}</think><answer>{question.answer}</answer>")

    with Stub(claims) as stub:
        path = recipe_of(annotated, stub.url, checks={"most_alike": 1000}, out="claims")
        report = run(path)
    check_sums(report, annotated / "claims")
    count = len(items.questions)
    assert report["facts"] == {"contradicted": 2 * count, "borne_out": 0, "silent": 2 * count, "unknown": {}}
    assert report["reasons"] == {"facts": 2 * count, "surplus": count}
    (told,) = {
        row["checks"]["facts"] for row in lines_of(annotated / "claims/rejected.jsonl") if "facts" in row["reasons"]
    }
    assert told == "the annotation contradicts: this is a chest ct scan."
    assert set(report["by"]["source"]) == {"skin", "polyps"}
    assert run(path, "checks.facts=required", ask=False)["tries"]["kept"] == count

    for why, edit in (
        ("the corpus of its case has been changed", {"fingerprint": "0" * 64}),
        ("the corpus of its case is not there", {"corpus": "../elsewhere"}),
        ("the corpus has no such case", {"case_id": "none"}),
        ("the question names no case", {"case_id": None}),
    ):
        with edited(annotated / "questions/train.jsonl", edit):
            report = run(path, ask=False)
            assert report["facts"]["unknown"] == {why: TRIES * count}
            assert report["tries"]["kept"] == count
            assert run(path, "checks.facts=required", ask=False)["tries"]["kept"] == 0


@contextmanager
def edited(file: Path, about: dict[str, Any]):
    before = file.read_text()
    rows = [row | {"about": row["about"] | about} for row in lines_of(file)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    yield
    file.write_text(before)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher") / "tiny"
    save_model(build_model(ModelSettings(preset="tiny"), seed=0), folder, provenance={})
    return folder


def test_a_checkpoint_as_teacher(folder, checkpoint, monkeypatch):
    path = recipe_of(folder, teacher=str(checkpoint), max_new_tokens=5, tries=3, limit=5, top_p=0.9)
    report = run(path)
    check_sums(report, folder / "traces")
    raw = lines_of(folder / "traces/raw.jsonl")
    assert len({(row["id"], row["try"]) for row in raw}) == 15 == len(raw)
    assert len({row["response"] for row in raw}) > 10  # sampled, each try anew
    assert report["tokens"]["prompt"] == 0 < report["tokens"]["answer"] == sum(row["answer_tokens"] for row in raw)
    monkeypatch.setattr("gmai_vl.model.load_to_answer", None)  # who has all answers loads nothing
    assert run(path) == report
    monkeypatch.undo()
    run(path, "out=again")
    assert [row["response"] for row in lines_of(folder / "again/raw.jsonl")] == [row["response"] for row in raw]
    assert contents(folder / "again") == contents(folder / "traces")
