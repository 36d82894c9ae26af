"""Asking a model behind a server: answers in order, refusals said, kills in the middle of a run, models by name."""

import json
import random
import re
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from evaluation_samples import question
from stub_server import Stub, answer, status

from gmai_vl.evaluation.predictions import read_asides, read_predictions
from gmai_vl.evaluation.remote import ask_endpoint, endpoint_of
from gmai_vl.foundation import UserError
from gmai_vl.records import ImageRef, Turn

CONCURRENCY = 4
QUESTIONS = [question(number) for number in range(500)]

RUN = f"""
import sys
from pathlib import Path
from test_evaluation_remote import QUESTIONS, image_of
from gmai_vl.evaluation.remote import ask_endpoint, endpoint_of
settings = endpoint_of(sys.argv[1] + "#m", concurrency={CONCURRENCY}, key_env=None)
ask_endpoint(settings, QUESTIONS, image_of, Path(sys.argv[2]))
"""


def image_of(name: str) -> np.ndarray:
    return np.full((4, 5), int(name[5:]) % 256, np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GMAI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def settings_of(stub: Stub):
    return endpoint_of(f"openai:{stub.url}#m", concurrency=CONCURRENCY, key_env=None)


def test_answers_are_the_servers_in_the_order_of_the_questions(tmp_path):
    asked = QUESTIONS[:40]
    with Stub(lambda now: answer(f"answer to {now.prompt} of {len(now.images)} image")) as stub:
        responses = ask_endpoint(settings_of(stub), asked, image_of, tmp_path / "p.jsonl")
        assert ask_endpoint(settings_of(stub), asked[::-1], image_of, tmp_path / "p.jsonl") == responses
        assert stub.asked.total() == len(asked) and stub.most_at_once <= CONCURRENCY
    assert list(responses) == [one.id for one in asked] == list(read_predictions(tmp_path / "p.jsonl"))
    assert responses["q007"] == "answer to Which modality is number 7? of 1 image"


def test_a_conversation_is_asked_as_it_is(tmp_path):
    turns = (
        Turn("user", (ImageRef(0), "Which organ?")),
        Turn("assistant", ("the liver",)),
        Turn("user", ("Is it normal?",)),
    )
    bodies = []
    with Stub(lambda now: (bodies.append(now.body), answer("yes"))[1]) as stub:
        one = question(0, kind="closed", options=None, answer="yes", turns=turns)
        assert ask_endpoint(settings_of(stub), [one], image_of, tmp_path / "p.jsonl") == {"q000": "yes"}
    (body,) = bodies
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert (body["temperature"], body["max_tokens"], body["model"]) == (0.0, 24, "m")


def test_what_was_cut_off_is_told(tmp_path):
    script = lambda now: answer("A thing", finish="length" if "number 1?" in now.prompt else "stop")  # noqa: E731
    with Stub(script) as stub:
        ask_endpoint(settings_of(stub), QUESTIONS[:3], image_of, tmp_path / "p.jsonl")
    assert read_asides(tmp_path / "p.jsonl").cut_off == {"q001"}


def test_what_a_server_will_not_answer_is_empty_and_says_why(tmp_path):
    with Stub(lambda now: status(400) if "number 1?" in now.prompt else answer("A")) as stub:
        responses = ask_endpoint(settings_of(stub), QUESTIONS[:3], image_of, tmp_path / "p.jsonl")
    assert responses == {"q000": "A", "q001": "", "q002": "A"}
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert ["refused" in line for line in lines] == [False, True, False]
    assert lines[1]["refused"].startswith("status 400")


def run(stub: Stub, out: Path, cache: Path) -> subprocess.Popen[str]:
    environment = {"PYTHONPATH": str(Path(__file__).parent), "GMAI_CACHE": str(cache), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", RUN, f"openai:{stub.url}", str(out)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def test_ten_kills_change_nothing_and_ask_no_answered_question_again(tmp_path, cache):
    with Stub() as stub:
        whole = tmp_path / "whole.jsonl"
        process = run(stub, whole, tmp_path / "another cache")
        assert process.wait() == 0, process.stderr.read()
        assert stub.asked.total() == len(QUESTIONS)
    rng, out = random.Random(0), tmp_path / "p.jsonl"
    with Stub() as stub:
        known: set[str] = set()
        for _ in range(10):
            before = stub.asked.copy()
            process = run(stub, out, cache)
            enough = stub.asked.total() + rng.randint(1, 45)
            stub.wait_until(lambda stub, enough=enough: stub.asked.total() >= enough)
            process.kill()
            process.wait()
            assert not {prompt for prompt in known if stub.asked[prompt] > before[prompt]}, "was asked again"
            answered = re.findall(r'"id": "q(\d+)"', out.read_text()) if out.exists() else []
            known = {f"Which modality is number {int(number)}?" for number in answered}
        assert len(known) < len(QUESTIONS)
        before = stub.asked.copy()
        process = run(stub, out, cache)
        assert process.wait() == 0, process.stderr.read()
        assert not {prompt for prompt in known if stub.asked[prompt] > before[prompt]}, "was asked again"
        # What was under way at a kill is asked once more: nobody knows whether it was answered.
        assert len(QUESTIONS) <= stub.asked.total() <= len(QUESTIONS) + 10 * CONCURRENCY
    assert out.read_bytes() == whole.read_bytes()


class Models(BaseHTTPRequestHandler):
    names: tuple[str, ...] = ()

    def do_GET(self) -> None:
        body = json.dumps({"data": [{"id": name} for name in self.names]}).encode()
        self.send_response(200 if self.path == "/v1/models" else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("names", "told"),
    [(("one",), None), ((), r"has 0 models \(none\); add #MODEL"), (("a", "b"), r"has 2 models \(a, b\); add #MODEL")],
)
def test_the_only_model_of_a_server_needs_no_name(names, told):
    server = HTTPServer(("127.0.0.1", 0), type("Handler", (Models,), {"names": names}))
    thread = Thread(target=server.handle_request)
    thread.start()
    name = f"openai:http://127.0.0.1:{server.server_port}/v1"
    try:
        if told is None:
            assert endpoint_of(name, concurrency=1, key_env=None).model == "one"
        else:
            with pytest.raises(UserError, match=told):
                endpoint_of(name, concurrency=1, key_env=None)
    finally:
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("openai:nowhere#m", r"--model.*url.*an address begins with http"),
        ("openai:http://127.0.0.1:9/v1", r"does not list its models .*; add #MODEL"),
    ],
)
def test_a_wrong_address_is_one_line(name, told):
    with pytest.raises(UserError, match=told) as caught:
        endpoint_of(name, concurrency=1, key_env=None)
    assert "\n" not in str(caught.value)
