"""Rejection sampling: runs that are killed, servers that give out, mistakes in a recipe, and the store of answers."""

import json
import signal
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from killing import run_killed_at
from stub_server import Stub, die, html, status
from synthesis_runs import (
    ASKED,
    QUESTIONS,
    TRIES,
    cache,  # noqa: F401  a fixture
    contents,
    folder_of_questions,  # noqa: F401  a fixture
    lines_of,
    note_seeds,  # noqa: F401  a fixture
    recipe_of,
    run,
    script,
    seeds_of,
    write_questions,
)

from gmai_vl.foundation import UserError
from gmai_vl.reasoning.synthesis import teacher
from gmai_vl.reasoning.synthesis.answers import Answer, open_answers


@contextmanager
def quick():
    """Do not wait for long before a server is asked again."""
    given = teacher.endpoint_of
    with pytest.MonkeyPatch.context() as patch:
        fast = {"retries": 1, "retry_wait_s": 0.01}
        patch.setattr(teacher, "endpoint_of", lambda *a, **k: given(*a, **k).model_copy(update=fast))
        yield


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
    with Stub(script) as stub, pytest.raises(UserError, match=r"images/train-3.png: .* cannot be read") as error:
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
