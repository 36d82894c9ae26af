"""Rejection sampling: teachers behind a server and on disk, runs that are killed and go on, what is kept and why."""

import json
import signal
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from corpus_recipes import write_recipe, write_sources
from killing import run_killed_at
from PIL import Image
from stub_server import Stub, answer, die, html, status
from typer.testing import CliRunner

from gmai_vl.cli import app
from gmai_vl.corpus import Corpus, build, verify
from gmai_vl.corpus.leaks import find_leaks
from gmai_vl.corpus.shown import shown_by
from gmai_vl.foundation import UserError
from gmai_vl.model import ModelSettings, build_model, save_model
from gmai_vl.reasoning.items import read_items
from gmai_vl.reasoning.questions import build_questions
from gmai_vl.reasoning.questions.r10k import record_of
from gmai_vl.reasoning.synthesis import SynthesisRecipe, read_synthesis_recipe, synthesize, teacher, traces_corpus
from gmai_vl.reasoning.synthesis.answers import Answer, open_answers
from gmai_vl.reasoning.synthesis.teacher import seed_of
from gmai_vl.records import ImageRef

QUESTIONS, TRIES = 12, 4
FILES = ("traces.jsonl", "rejected.jsonl", "without_trace.jsonl", "reasoning_mcq_sft.jsonl")
WORDS = ("amber", "birch", "cobalt", "dune", "ember", "flint", "grove", "haze", "iris", "jade", "kelp", "loam")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GMAI_CACHE", str(tmp_path / "cache"))


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (24, 24)).astype(np.uint8)


def write_questions(folder: Path, count: int = QUESTIONS, side: str = "train") -> Path:
    """Write a folder of questions, three of a patient; number n is right with A where n is even."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(count):
        Image.fromarray(picture(number)).save(folder / f"images/{side}-{number}.png")
        line = {"id": f"n{number}", "question": f"Which is number {number}?", "A": "dark disc", "B": "light disc"}
        line |= {"answer": "AB"[number % 2], "image": f"images/{side}-{number}.png", "language": "en"}
        line |= {"patient": f"{side}-{number // 3}", "source": f"set{number % 3}", "modality": "CT", "about": {}}
        lines.append(line | {"form": "kind" if number < 4 else "size"})
    (folder / f"{side}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def recipe_of(folder: Path, url: str = "http://127.0.0.1:9/v1", **changes: Any) -> Path:
    """Write a recipe beside the folder of questions."""
    told = {"questions": "questions", "teacher": f"openai:{url}#m", "out": "traces", "tries": TRIES, "concurrency": 4}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(told | changes))
    return folder / "recipe.yaml"


def run(path: Path, *overrides: str, ask: bool = True) -> dict[str, Any]:
    return synthesize(read_synthesis_recipe(path, overrides), base=path.parent, ask=ask).report


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]


def contents(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in FILES}


def thought(number: int, nth: int) -> str:
    """A thought that no other question and no other try has."""
    return (
        f"The region in the middle looks like {WORDS[number]} against {WORDS[-nth]} noise. Its edge is sharp all "
        "round, and inside of it the values hardly change from one column to the next."
    )


def said(number: int, nth: int, letter: str | None = None) -> str:
    return f"<think>{thought(number, nth)}</think><answer>{letter or 'AB'[number % 2]}</answer>"


ASKED = {seed_of(0, (f"own-n{number}", nth)): (number, nth) for number in range(QUESTIONS) for nth in range(1, 20)}


def tried(now: Any) -> tuple[int, int]:
    """Return which question a request asks, and for which time."""
    number, nth = ASKED[now.body["seed"]]
    assert f"number {number}?" in now.prompt
    return number, nth


def script(now: Any) -> Any:
    """Answer as a mixed teacher does: what comes depends on question and try."""
    number, nth = tried(now)
    match number, nth:
        case 0, _:
            return answer(said(0, nth, "B"))  # always wrong
        case 1, 1 | 2:
            return answer(said(1, 1))  # the same thought twice
        case 2, 1:
            return status(400, '{"error": "too long"}')
        case 2, 2:
            return answer("")
        case 2, 3:
            return answer("the the " * 125_000)
        case 3, 1:
            return answer(said(3, 1), finish="length")
        case 3, 2:
            return answer(f"<think>The answer is B. {thought(3, 2)}</think><answer>B</answer>")
        case ((4 | 5 | 6 | 7), _):
            return answer(said(number, nth).replace(WORDS[number], "one thing"))  # the same thought for four questions
        case _:
            return answer(said(number, nth))


@contextmanager
def quick():
    """Do not wait for long before a server is asked again."""
    given = teacher.endpoint_of
    with pytest.MonkeyPatch.context() as patch:
        fast = {"retries": 1, "retry_wait_s": 0.01}
        patch.setattr(teacher, "endpoint_of", lambda *a, **k: given(*a, **k).model_copy(update=fast))
        yield


@pytest.fixture
def folder(tmp_path):
    write_questions(tmp_path / "questions")
    return tmp_path


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


def seeds_of(stub: Stub) -> list[int]:
    return list(stub.seeds)  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def note_seeds(monkeypatch):
    """Have every stub note the seeds that it is asked with."""
    begin, handle = Stub.__init__, Stub.handle

    def noting(self, handler, body):
        self.seeds.append(json.loads(body)["seed"])
        handle(self, handler, body)

    def beginning(self, *given, **named):
        self.seeds = []
        begin(self, *given, **named)

    monkeypatch.setattr(Stub, "__init__", beginning)
    monkeypatch.setattr(Stub, "handle", noting)


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


def test_a_torn_line_is_dropped(folder):
    with Stub(script) as stub:
        path = recipe_of(folder, stub.url)
        run(path)
        raw = folder / "traces/raw.jsonl"
        whole, files = raw.read_bytes(), contents(folder / "traces")
        raw.write_bytes(whole[:-30])
        assert run(path, ask=False)["tries"]["not_asked"] == 1
        run(path)
        assert contents(folder / "traces") == files
    ids = [json.loads(line)["id"] for line in whole.splitlines()]
    assert [row["id"] for row in lines_of(raw)] == [*ids[:-1], "own-n2", "own-n11"]
    raw.write_bytes(whole[:200] + b"\n" + whole[200:])
    with pytest.raises(UserError, match=r"raw.jsonl:1: is no answer"):
        run(path, ask=False)


def test_a_killed_command_goes_on_and_asks_nothing_answered_again(folder):
    running: list[subprocess.Popen[bytes]] = []

    def deadly(now):
        if stub.asked.total() >= 30:
            for process in running:
                process.kill()
        return script(now)

    with Stub(deadly) as stub:
        path = recipe_of(folder, stub.url)
        command = [sys.executable, "-m", "gmai_vl.cli", "reason", "synthesize", str(path)]
        running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        assert running[0].wait() == -signal.SIGKILL
        running.clear()
        raw = folder / "traces/raw.jsonl"
        kept = {(row["id"], row["try"]) for row in whole_lines(raw) if row["refused"] is None}
        assert len(kept) >= 30 - 4 * 4 - 1 and not (folder / "traces/traces.jsonl").exists()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "Research use only, not for diagnosis." in done.stdout
        twice = {ASKED[seed] for seed, times in Counter(seeds_of(stub)).items() if times > 1}
        assert not {(f"own-n{number}", nth) for number, nth in twice} & kept
        assert len(twice) <= 4 + 1  # what was under way, and the refused one
    resumed = contents(folder / "traces")
    with Stub(script) as stub:
        run(recipe_of(folder, stub.url), "out=whole")
    assert contents(folder / "whole") == resumed


def whole_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


@pytest.mark.parametrize("last", [die(), html(), status(401)])
def test_a_server_that_gives_out_is_one_line_and_what_was_answered_is_kept(folder, last):
    with Stub(lambda now: last if stub.asked.total() > 20 else script(now)) as stub, quick():
        path = recipe_of(folder, stub.url)
        with pytest.raises(UserError) as told:
            run(path)
        assert "\n" not in str(told.value)
    lines = whole_lines(folder / "traces/raw.jsonl")
    assert 10 <= len(lines) <= 20
    assert run(path, ask=False)["tries"]["not_asked"] == QUESTIONS * TRIES - len(lines)
    with Stub(script) as stub:
        run(recipe_of(folder, stub.url))
        answered = sum(line["refused"] is None for line in lines)
        assert len(seeds_of(stub)) <= QUESTIONS * TRIES - answered


def test_a_budget_is_kept(folder):
    with Stub(script) as stub:
        path = recipe_of(folder, stub.url, budget_requests=10)
        with pytest.raises(UserError, match="the budget does not allow another request"):
            run(path)
        assert stub.asked.total() == 10
        assert run(path, "budget_requests=100")["tries"]["not_asked"] == 0


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


def test_an_unreachable_server_is_one_line_and_code_2(folder):
    path = recipe_of(folder, teacher="openai:http://127.0.0.1:9/v1")
    command = [sys.executable, "-m", "gmai_vl.cli", "reason", "synthesize", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "teacher: http://127.0.0.1:9/v1 does not list its models" in done.stderr
    assert not (folder / "traces").exists()


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["triess=3"], r"recipe.yaml: triess: unknown key; did you mean `tries`"),
        (["tries=0"], r"recipe.yaml: tries: input should be greater"),
        (["side=test"], r"recipe.yaml: side: input should be 'train' or 'val'"),
        (["top_p=0.9"], r"`top_p` is for checkpoints"),
        (["checks.min_words=700"], r"recipe.yaml: checks: `min_words` 700 is more than `max_words` 600"),
        (["questions=nowhere"], r"nowhere/train.jsonl: no such file"),
        (["side=val"], r"val.jsonl: no such file"),
        (["teacher=nowhere"], r"teacher: .*nowhere is no folder"),
        (["teacher=openai:nowhere#m"], r"teacher: url: an address begins with http"),
        (["out=questions/traces"], r"out: .*/questions/traces lies about"),
        (["out=."], r"out: .* lies about"),
        (["out=taken"], r"out: .*/taken holds other things"),
        (["out=recipe.yaml"], r"out: .*/recipe.yaml is a file"),
        (["key_env=GMAI_NO_SUCH_KEY"], r"GMAI_NO_SUCH_KEY is not set"),
    ],
)
def test_mistakes_are_one_line(folder, overrides, told):
    (folder / "taken").mkdir()
    (folder / "taken/letters.txt").write_text("keep")
    with pytest.raises(UserError, match=told) as error:
        run(recipe_of(folder), *overrides)
    assert "\n" not in str(error.value)
    assert [path.name for path in (folder / "taken").iterdir()] == ["letters.txt"]


def test_an_image_that_cannot_be_read_is_one_line(folder):
    (folder / "questions/images/train-3.png").write_bytes(b"no picture")
    with Stub(script) as stub, pytest.raises(UserError, match=r"images/train-3.png: cannot be read") as error:
        run(recipe_of(folder, stub.url))
    assert "\n" not in str(error.value)


def test_answers_to_something_else_are_not_mixed(folder):
    with pytest.raises(UserError, match="holds no answers of a teacher"):
        run(recipe_of(folder), ask=False)
    with Stub(script) as stub:
        path = recipe_of(folder, stub.url)
        run(path, "limit=2")
        for change in ("seed=1", "temperature=0.5", "max_new_tokens=7", f"teacher=openai:{stub.url}#other"):
            with pytest.raises(UserError, match=r"holds answers with another \w+; give another `out`"):
                run(path, change)
    write_questions(folder / "questions", 5)
    with pytest.raises(UserError, match="another questions"):
        run(path, ask=False)


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


TRAIN = """\
name: sft
out: run
model: {preset: tiny}
stages:
  - name: sft
    train: [projector, language]
    learning_rate: 1.0e-3
    global_batch: 4
    max_steps: 2
    validation: {every: 2, samples: 4}
    mixture: [{corpus: corpus}]
"""


def test_traces_are_a_corpus_that_a_model_learns_from(folder):
    with Stub(lambda now: answer(said(*tried(now)))) as stub:
        run(recipe_of(folder, stub.url))
    summary = traces_corpus(folder / "traces", folder / "questions", folder / "corpus")
    corpus = Corpus(summary.corpus)
    assert verify(summary.corpus) == []
    samples = corpus.samples()
    assert len(samples) == QUESTIONS
    patients = {side: {sample.patient_id for sample in corpus.samples(split=side)} for side in ("train", "val", "test")}
    assert patients["train"] | patients["val"] == {f"train-{number}" for number in range(4)}
    assert not patients["train"] & patients["val"] and len(patients["val"]) == 1 and not patients["test"]
    for sample in samples:
        number = int(sample.id.split("-")[1][1:])
        asked, told = sample.turns
        assert asked.content[0] == ImageRef(0) and f"Which is number {number}?\nA. dark disc" in asked.text
        assert asked.text.endswith("between <answer> and </answer>.")
        assert told.text == said(number, 1)
        assert (corpus.image(sample.images[0]) == picture(number)).all()
        assert (sample.kind, sample.answer, sample.modality) == ("mcq", "AB"[number % 2], "CT")
    leaks = find_leaks(shown_by(summary.corpus, ("train", "val")).shown, shown_by(folder / "questions").shown)
    assert len({leak.theirs.id for leak in leaks if leak.evidence == "same pixels"}) == QUESTIONS

    (folder / "train.yaml").write_text(TRAIN)
    done = CliRunner().invoke(app, ["train", str(folder / "train.yaml")])
    assert done.exit_code == 0, done.output
    steps = [row for row in lines_of(folder / "run/log.jsonl") if row["event"] == "step"]
    assert len(steps) == 2 and all(row["supervised_tokens"] > 100 for row in steps)
    (folder / "train.yaml").write_text(TRAIN + "leaks: {against: [questions]}\n")
    stopped = CliRunner().invoke(app, ["train", str(folder / "train.yaml"), "--overwrite"])
    assert isinstance(stopped.exception, UserError)


def test_traces_of_val_are_for_validation_and_others_for_nothing(folder):
    write_questions(folder / "questions", 6, "val")
    with Stub(lambda now: answer(said(*tried(now)))) as stub:
        run(recipe_of(folder, stub.url), "side=val")
    corpus = Corpus(traces_corpus(folder / "traces", folder / "questions", folder / "corpus").corpus)
    assert {sample.split for sample in corpus.samples()} == {"val"}
    with pytest.raises(UserError, match="holds no traces"):
        traces_corpus(folder / "questions", folder / "questions", folder / "other")
    (folder / "traces/traces.jsonl").write_text("")
    with pytest.raises(UserError, match="holds no traces; ask a better teacher"):
        traces_corpus(folder / "traces", folder / "questions", folder / "other")
    (folder / "traces/traces.jsonl").write_text('{"question": "own-x", "thought": "t", "id": "1"}\n')
    with pytest.raises(UserError, match=r"traces.jsonl:1: is no trace about a question of this folder"):
        traces_corpus(folder / "traces", folder / "questions", folder / "other")


def test_one_image_of_two_sources_has_the_stricter_licence_and_no_doubtful_modality(folder):
    rows = lines_of(folder / "questions/train.jsonl")
    rows[1] |= {"image": rows[0]["image"], "modality": "MRI"}
    (folder / "questions/train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    licences = {"set0": "CC0-1.0", "set1": "CC-BY-NC-ND-4.0", "set2": "MIT"}
    (folder / "questions/manifest.json").write_text(json.dumps({"licences": {"sources": licences}}))
    with Stub(lambda now: answer(said(*tried(now)))) as stub:
        run(recipe_of(folder, stub.url))
    corpus = Corpus(traces_corpus(folder / "traces", folder / "questions", folder / "corpus").corpus)
    told = {sample.id: (sample.license, sample.modality) for sample in corpus.samples()}
    assert len(told) == QUESTIONS
    assert told["own-n0-1"] == told["own-n1-1"] == ("CC-BY-NC-ND-4.0", None)
    assert told["own-n2-1"] == ("MIT", "CT")

    rows[2]["C"] = rows[2].pop("A")
    rows[2]["answer"] = "C"
    (folder / "questions/train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match="`own-n2`: its options are not lettered A, B, C"):
        traces_corpus(folder / "traces", folder / "questions", folder / "other")


def test_two_runs_do_not_write_to_one_store(folder):
    with open_answers(folder / "raw.jsonl") as kept:
        kept.add([Answer(id="q", number=1, response="x", model="m")])
        with pytest.raises(UserError, match="another run is at work here"), open_answers(folder / "raw.jsonl"):
            pass
    with open_answers(folder / "raw.jsonl") as kept:
        assert not kept.lacks(("q", 1)) and kept.lacks(("q", 2))


CALL = """
from gmai_vl.reasoning.synthesis import read_synthesis_recipe, synthesize
call = lambda path: synthesize(read_synthesis_recipe(path), base=path.parent)
"""


def test_killed_at_any_file_operation_it_comes_to_the_same(folder):
    _kill(folder, moments=(2, 4, 9))


@pytest.mark.long
def test_killed_at_every_file_operation(folder):
    _kill(folder, moments=range(1, 27))


def _kill(folder, moments):
    with Stub(script) as stub:
        path = recipe_of(folder, stub.url)
        run(path, "out=whole")  # its replies are in the cache: the killed ones ask for the refused one alone
        for moment in moments:
            done = run_killed_at(CALL, [path], folder / "traces", moment)
            assert done.returncode in (-signal.SIGKILL, 0), done.stderr
        run(path)
        assert len(set(seeds_of(stub))) == QUESTIONS * TRIES
        repeated = {ASKED[seed] for seed, times in Counter(seeds_of(stub)).items() if times > 1}
        assert repeated <= {(2, 1)}
    assert contents(folder / "traces") == contents(folder / "whole")
    assert not list((folder / "traces").glob(".*"))


def test_the_recipe_of_the_documentation_has_all_keys_and_their_defaults():
    text = (Path(__file__).parents[1] / "docs/reasoning.md").read_text("utf-8").partition("## Rejection sampling")[2]
    told = yaml.safe_load(text.partition("```yaml")[2].partition("```")[0])
    needed = {key: told[key] for key in ("questions", "teacher", "out")}
    assert set(told) == set(SynthesisRecipe.model_fields)
    assert SynthesisRecipe(**told) == SynthesisRecipe(**needed)
