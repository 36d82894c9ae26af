"""The server as it is started: what it listens on, what it withstands, and how it ends."""

import io
import json
import resource
import signal
import socket
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest
from outspoken_models import outspoken
from serving_process import serving
from serving_requests import data_url, picture
from test_serving_pictures import BOMBS, url_of

from gmai_vl.foundation import UserError
from gmai_vl.model import save_model
from gmai_vl.serving.app import Access
from gmai_vl.serving.server import Address, key_for, serve

MOST_MIB = 300
"""That hostile requests may add to the memory of a server."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "model"
    save_model(outspoken(), folder)
    return folder


@pytest.fixture(scope="module")
def server(model, tmp_path_factory):
    """One for all: each test finds it as the hostile ones before have left it."""
    with serving(model, tmp_path_factory.mktemp("serving") / "run") as started:
        yield started


def body(text="what is it", url=None, **more):
    content = [{"type": "image_url", "image_url": {"url": url or data_url(picture(0))}}, {"type": "text", "text": text}]
    return {"model": "tiny", "messages": [{"role": "user", "content": content}], "max_tokens": 4, **more}


def chat(server, **more):
    return httpx.post(f"{server.url}/v1/chat/completions", json=body(**more), timeout=60)


@pytest.mark.parametrize(("key", "said"), [("", "put a key into GMAI_API_KEY"), ("short", "at least 16")])
def test_it_does_not_listen_elsewhere_without_a_good_key(monkeypatch, key, said):
    monkeypatch.setenv("GMAI_API_KEY", key)
    with pytest.raises(UserError, match=said):
        key_for(Address(host="0.0.0.0"), "GMAI_API_KEY")


def test_it_needs_a_key_elsewhere(model, tmp_path):
    with serving(model, tmp_path / "run", "--host", "0.0.0.0", GMAI_API_KEY="a key of some length") as started:
        url = started.url.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{url}/health").status_code == 200
        assert httpx.get(f"{url}/v1/models").status_code == 401
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="a key of some length")
        assert [each.id for each in client.models.list()] == ["tiny"]


def test_a_taken_port_is_told_before_anything_is_loaded_and_a_folder_that_is_no_model(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match=r"--port: .* cannot be used"):
            serve({"absent": tmp_path / "absent"}, Address(port=taken.getsockname()[1]), Access())
    command = [sys.executable, "-m", "gmai_vl.cli", "serve", "--port", "0", "--model", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "config.json" in done.stderr
    assert done.stderr.count("\n") == 1


def test_hostile_requests_are_refused_and_leave_nothing(server):
    assert chat(server).status_code == 200
    before = server.memory_mib()
    for bomb in (bomb for name, bomb in BOMBS.items() if name != "a whole one"):
        assert chat(server, url=url_of(bomb)).status_code == 422
    assert chat(server, text="a" * 10**6).status_code == 413
    assert chat(server, text="\u0000\ud7ff\U0010ffff<|im_end|><image>\u202e").status_code == 200
    for url in ("http://169.254.169.254/latest", "https://127.0.0.1/", "file:///etc/passwd", "gopher://x"):
        assert chat(server, url=url).status_code == 400
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("../../../escaped.png", BOMBS["a header alone"])
        packed.writestr("/tmp/escaped.png", b"x")
    files = [("files", ("../../escaped.dcm", archive.getvalue()))]
    assert httpx.post(f"{server.url}/demo/studies", files=files).status_code == 422
    with httpx.Client(base_url=server.url) as http:
        for path in (
            "/demo/studies/..%2f..%2fetc%2fpasswd/0/axial/1.png",
            "/demo/studies/%2e%2e/0/axial/1.png",
            "/page/..%2f..%2fengine.py",
            "/page/%2e%2e/engine.py",
            "/v1/models/..%2f..%2fetc",
        ):
            assert http.get(path).status_code in (401, 404), path
    assert server.files() == []
    assert chat(server).status_code == 200
    assert server.memory_mib() - before < MOST_MIB


def many_connections(server, count):
    """Open so many connections at once, half of which say nothing, and return how many were answered."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4 * count + 1000), hard))
    host, port = server.url.removeprefix("http://").split(":")
    held, answered = [], 0
    for _ in range(count):
        try:
            held.append(socket.create_connection((host, int(port)), timeout=30))
        except OSError:
            continue
    for connection in held[::2]:
        try:
            connection.sendall(f"GET /health HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
            answered += connection.recv(100).startswith(b"HTTP/1.1 200")
        except OSError:
            continue
    for connection in held:
        connection.close()
    return answered


def test_many_connections_at_once(server):
    before = server.memory_mib()
    assert many_connections(server, 900) > 100
    assert chat(server).status_code == 200
    assert server.memory_mib() - before < MOST_MIB


@pytest.mark.long
def test_ten_thousand_connections_at_once(server):
    before = server.memory_mib()
    assert many_connections(server, 10_000) > 100
    assert chat(server).status_code == 200
    assert server.memory_mib() - before < MOST_MIB


def test_clients_that_leave_free_their_places(server):
    """More than can wait come and go; then one is answered at once, and nothing is under way."""

    def come_and_go(number):
        with httpx.stream(
            "POST", f"{server.url}/v1/chat/completions", json=body(stream=True, max_tokens=2000)
        ) as reply:
            if reply.status_code == 200 and number % 2:
                next(reply.iter_raw())
            return reply.status_code

    with ThreadPoolExecutor(16) as pool:
        statuses = set(pool.map(come_and_go, range(64)))
    assert statuses <= {200, 429}
    assert chat(server).status_code == 200
    metrics = httpx.get(f"{server.url}/metrics").text
    while 'gmai_running{model="tiny"} 0.0' not in metrics:
        metrics = httpx.get(f"{server.url}/metrics").text
    assert 'gmai_waiting{model="tiny"} 0.0' in metrics
    assert 'finish="left"' in metrics


@pytest.fixture
def ending(model, tmp_path):
    """A server that nobody else asks."""
    with serving(model, tmp_path / "run") as started:
        yield started


def test_sigterm_finishes_what_is_under_way_and_clears_up(ending):
    files = [("files", ("a.png", BOMBS["a whole one"]))]
    assert httpx.post(f"{ending.url}/demo/studies", files=files).status_code == 200
    wanted = body(stream=True, max_tokens=60, temperature=1.5, seed=1)
    with httpx.stream("POST", f"{ending.url}/v1/chat/completions", json=wanted, timeout=60) as reply:
        lines = reply.iter_lines()
        while "content" not in next(lines):
            pass
        ending.process.send_signal(signal.SIGTERM)
        rest = [line for line in lines if line]
    assert rest[-1] == "data: [DONE]"
    assert json.loads(rest[-2][6:])["choices"][0]["finish_reason"] in ("stop", "length")
    assert ending.process.wait(60) == 0
    assert ending.files() == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{ending.url}/health")


@pytest.mark.parametrize("kinds", ["--phases fuzzing -n 10", pytest.param("-n 300", marks=pytest.mark.long)])
def test_no_request_of_the_document_ends_in_a_fault_of_ours(server, kinds):
    """Schemathesis makes requests of all kinds from the OpenAPI document; none may have a status from 500 on."""
    words = f"run {server.url}/openapi.json --checks not_a_server_error --seed 1 --workers 1 {kinds}"
    command = [sys.executable, "-m", "schemathesis.cli", *words.split()]
    done = subprocess.run(command, cwd=server.folder.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert server.process.poll() is None
