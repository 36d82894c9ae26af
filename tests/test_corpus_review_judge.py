"""A model as a rater, over a real server on loopback; and the command from sheets to verdicts."""

import base64
import io
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from review_sheets import fill_in, handed_out, table

from gmai_vl.corpus.review.judge import judge, judge_name, request_for, scores_in
from gmai_vl.corpus.review.rubric import AXES
from gmai_vl.corpus.review.scores import read_review, read_scores
from gmai_vl.endpoint import EndpointSettings
from gmai_vl.foundation import UserError

GOOD = {"medical_accuracy": 1, "clarity": 2, "completeness": 2, "imaging_relevance": 3, "comment": "terse"}


@contextmanager
def server(answer: Callable[[dict[str, Any]], tuple[int, str]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Run a server that answers every request with the status and text of `answer`; give its address and requests."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.append(body)
            status, text = answer(body)
            choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            reply = json.dumps({"model": "m", "choices": [choice]}).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_: Any) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_port}/v1", asked
    finally:
        running.shutdown()
        running.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GMAI_CACHE", str(tmp_path / "cache"))


def settings(url: str, **changes: Any) -> EndpointSettings:
    return EndpointSettings(url=url, model="org/judge 1", retries=1, retry_wait_s=0.01, **changes)


def test_a_judge_scores_the_same_pairs_in_the_same_form(tmp_path: Path) -> None:
    corpus, drawn, sheets, review = handed_out(tmp_path)
    with server(lambda body: (200, json.dumps(GOOD))) as (url, asked):
        assert judge(corpus, drawn, settings(url), sheets, with_images=True) == {}
        number = len(asked)
        assert judge(corpus, drawn, settings(url), sheets, with_images=True) == {}
        assert len(asked) == number <= len(drawn.pairs)  # from the cache: nothing is paid for twice
    path = sheets / "scores-org-judge-1-prompt-1.csv"
    assert [row["pair"] for row in table(path)] == list(review.source_of)
    returned = read_scores(sheets, review)
    (rater,) = returned.raters
    assert rater.is_judge
    assert rater.name == judge_name("org/judge 1", with_images=True) == "llm:org/judge 1 (prompt 1)"
    assert rater.scores == {pair: {axis: GOOD[axis] for axis in AXES} for pair in review.source_of}
    assert set(rater.comments.values()) == {"terse"}
    assert returned.faults == returned.notes == ()


def test_the_judge_sees_the_image_the_facts_and_the_conversation(tmp_path: Path) -> None:
    corpus, drawn, _, _ = handed_out(tmp_path)
    pair = next(pair for pair in drawn.pairs if pair.sample.source == "polyps")
    body = json.loads(request_for(corpus, pair, with_images=True).body(settings("http://127.0.0.1/v1")))
    image, text = body["messages"][1]["content"]
    sent = np.asarray(Image.open(io.BytesIO(base64.b64decode(image["image_url"]["url"].split(",")[1]))))
    assert (sent == corpus.image(pair.sample.images[0])).all()
    assert all(turn.text in text["text"] for turn in pair.sample.turns)
    assert "labels: polyp × 1" in text["text"]
    assert '{"medical_accuracy": n' in text["text"]
    assert body["response_format"]["json_schema"]["schema"]["required"] == [*AXES, "comment"]
    assert (pair.sample.patient_id or "no patient") not in text["text"]
    unseen = json.loads(request_for(corpus, pair, with_images=False).body(settings("http://127.0.0.1/v1")))
    assert "an image that you are not shown" in unseen["messages"][1]["content"]
    assert judge_name("m", with_images=False) == "llm:m (prompt 1, no images)"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (GOOD | {"clarity": 0}, "clarity is '0', no whole number from 1 to 5"),
        (GOOD | {"clarity": 2.5}, "clarity is '2.5'"),
        (GOOD | {"clarity": True}, "clarity is 'True'"),
        (GOOD | {"clarity": None}, "clarity is 'None'"),
        ({}, "medical_accuracy is 'None'"),
        ("the answer is no JSON", "the answer is no JSON"),
    ],
)
def test_an_answer_without_scores_is_no_score(answer: Any, reason: str) -> None:
    told = scores_in(answer)
    assert isinstance(told, str)
    assert told.startswith(reason)


def test_a_digit_as_text_is_a_score_and_a_comment_is_one_line() -> None:
    assert scores_in(GOOD | {"clarity": "4", "comment": "a\n b"}) == (
        {"medical_accuracy": 1, "clarity": 4, "completeness": 2, "imaging_relevance": 3},
        "a b",
    )


def test_pairs_that_the_judge_did_not_score_are_told_and_leave_no_verdict(tmp_path: Path) -> None:
    corpus, drawn, sheets, review = handed_out(tmp_path)
    bad = drawn.pairs[0].sample.turns[-1].text

    def answer(body: dict[str, Any]) -> tuple[int, str]:
        return 200, "sorry" if bad in body["messages"][1]["content"] else json.dumps(GOOD)

    with server(answer) as (url, _):
        failed = judge(corpus, drawn, settings(url), sheets, with_images=False)
    assert failed[drawn.pairs[0].name] == "the answer holds no JSON object"
    returned = read_scores(sheets, review)
    assert len(returned.raters[0].scores) == len(drawn.pairs) - len(failed)
    assert returned.raters[0].comments[drawn.pairs[0].name] == "no scores: the answer holds no JSON object"
    assert returned.faults == ()
    with server(lambda body: (401, "who are you")) as (url, _), pytest.raises(UserError, match="status 401"):
        judge(corpus, drawn, settings(url, structured="none"), sheets, with_images=True)


def gmai(*arguments: object) -> tuple[int, str, str]:
    """Run `gmai data review`; return exit code, output and errors."""
    command = [sys.executable, "-m", "gmai_vl.cli", "data", "review", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_the_command_from_sheets_to_verdicts(tmp_path: Path) -> None:
    corpus = handed_out(tmp_path)[0].path
    sheets = tmp_path / "out"
    with server(lambda body: (200, json.dumps(GOOD))) as (url, _):
        given = ("--out", sheets, "--pairs", 5, "--judge", url, "--judge-model", "m", "--json", tmp_path / "out.json")
        code, told, errors = gmai(corpus, *given)
    assert code == 0, errors
    assert "m scored 10 of 10 pairs" in told
    assert json.loads((tmp_path / "out.json").read_text())["pairs"] == {"polyps": 5, "skin": 5}
    code, told, _ = gmai(corpus, "--scores", sheets)
    assert (code, len(re.findall(r"pass +judge +5/5 +1 +2\.00", told))) == (0, 2)
    review = read_review(sheets)
    fill_in(sheets, review, "Ann", lambda source: 1 if source == "skin" else 5)
    code, told, _ = gmai(corpus, "--scores", sheets, "--json", tmp_path / "verdicts.json")
    assert code == 0
    result = json.loads((tmp_path / "verdicts.json").read_text())
    assert {name: (entry["verdict"], entry["by"]) for name, entry in result["sources"].items()} == {
        "polyps": ("fail", "people"),
        "skin": ("pass", "people"),
    }
    assert result == json.loads((corpus / "review.json").read_text())
    (sheets / "scores-Ann.csv").write_text("pair\n")
    before = (corpus / "review.json").read_bytes()
    code, told, errors = gmai(corpus, "--scores", sheets)
    assert code == 2
    assert f"{sheets}/scores-Ann.csv: row 1: column `medical_accuracy` is missing" in errors
    assert f"gmai: {sheets}: 1 fault in the scores, named above; mend" in errors
    assert (corpus / "review.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "give --out SHEETS to draw pairs, or --scores SHEETS to read scores"),
        (("--out", "a", "--scores", "b"), "give --out SHEETS to draw pairs, or --scores"),
        (("--scores", "b", "--judge", "http://127.0.0.1/v1"), "--judge: goes with --out SHEETS"),
        (("--out", "a", "--judge", "http://127.0.0.1/v1"), "--judge: needs --judge-model NAME"),
        (("--out", "a", "--judge", "127.0.0.1", "--judge-model", "m"), "--judge: url: an address begins with http"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(arguments: tuple[str, ...], told: str) -> None:
    code, _, errors = gmai("nosuch", *arguments)
    assert code == 2
    assert told in errors
    assert errors.count("\n") == 1
