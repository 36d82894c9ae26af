"""Every way in which a server misbehaves: what can be had is had, what was had is kept, nothing is asked in vain."""

import threading
import time
import tracemalloc
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from asking import PURSE, ask_all, kept, prompts, question, settings_for, texts, threads_left
from hypothesis import given
from hypothesis import strategies as st
from stub_server import (
    Act,
    Stub,
    always,
    answer,
    bomb,
    cut_short,
    die,
    drip,
    endless,
    hang_up,
    html,
    in_turn,
    never,
    raw,
    status,
)

from gmai_vl.endpoint import Client, EndpointError, Refusal, Reply, Spent
from gmai_vl.endpoint.transport import wait_asked
from gmai_vl.foundation import UserError

PASSING: dict[str, Act] = {
    "429": status(429),
    "429, at once": status(429, retry_after="0"),
    "429, a date gone by": status(429, retry_after="Wed, 21 Oct 2015 07:28:00 GMT"),
    "429, no date": status(429, retry_after="soon"),
    "408": status(408),
    "500": status(500, "<html>"),
    "502": status(502, ""),
    "503": status(503, retry_after="0"),
    "524": status(524),
    "hung up": hang_up(),
    "reset": hang_up(reset=True),
    "cut short": cut_short(),
    "a page": html(),
    "nothing": raw(b""),
    "204": status(204, ""),
    "no JSON": raw(b'{"choices": [{"message": {"content": "a'),
    "bytes that are no text": raw(b"\xff\xfe\x00"),
    "a list": raw(b"[]"),
    "a number": raw(b"1" * 5_000),
    "deep": raw(b"[" * 200_000),
    "an error with status 200": raw(b'{"error": {"message": "overloaded"}}'),
    "no choices": raw(b'{"choices": []}'),
    "choices of another form": raw(b'{"choices": {"message": 1}}'),
    "no text but a number": raw(b'{"choices": [{"message": {"content": 3}}]}'),
    "gzip that is none": raw(b"{}", content_encoding="gzip"),
    "gzip": raw(b"", content_encoding="gzip"),
    "endless": endless(),
    "bad headers": raw(b"{}", **{"content_length": "many"}),
    "no HTTP": lambda exchange: (exchange.send(b"SSH-2.0-OpenSSH_9.6\r\n"), exchange.hang_up())[1],
}
SLOW: dict[str, Act] = {
    "never": never(),
    "a body, byte by byte": drip(),
    "headers, byte by byte": drip(b"HTTP/1.1 200 OK\r\nx-slow: "),
    "a status, byte by byte": drip(b"HTTP/1.1 2"),
}


@pytest.mark.parametrize("fault", PASSING)
def test_a_fault_that_may_pass_is_waited_out(fault: str, tmp_path: Path) -> None:
    asked = prompts(6)
    with Stub(in_turn(PASSING[fault], PASSING[fault], answer())) as stub:
        settings = settings_for(stub, concurrency=3)
        first = texts(ask_all(settings, tmp_path / "s", asked))
        assert stub.asked == dict.fromkeys(asked, 3)
        again = texts(ask_all(settings, tmp_path / "s", asked))
        assert stub.asked == dict.fromkeys(asked, 3), "what was answered is not asked again"
    with Stub() as stub:
        assert first == again == texts(ask_all(settings_for(stub), tmp_path / "other", asked))


@pytest.mark.parametrize("fault", SLOW)
def test_a_server_that_does_not_come_to_an_end_is_not_waited_for(fault: str, tmp_path: Path) -> None:
    with Stub(in_turn(SLOW[fault], answer())) as stub:
        texts(ask_all(settings_for(stub, timeout_s=0.3), tmp_path / "s", prompts(3)))
        assert stub.asked == dict.fromkeys(prompts(3), 2)


@pytest.mark.parametrize("fault", ["500", "a page", "hung up", "429"])
def test_a_fault_that_does_not_pass_stops_all_and_loses_nothing(fault: str, tmp_path: Path) -> None:
    asked = prompts(12)

    def script(asked_now):
        return answer() if asked_now.prompt in asked[:5] else PASSING[fault]

    with Stub(script) as stub:
        settings = settings_for(stub, concurrency=2, retries=2)
        with pytest.raises(EndpointError, match=r"no answer after 3 tries.*what was answered is kept") as caught:
            ask_all(settings, tmp_path / "s", asked)
        assert "\n" not in str(caught.value) and stub.url in str(caught.value)
        assert set(stub.asked) <= set(asked[:7]), "those under way, and no further one"
        stub.script = always(answer())
        texts(ask_all(settings, tmp_path / "s", asked))
        assert all(stub.asked[prompt] == 1 for prompt in asked[:5])


def test_connections_closed_before_a_request_was_read_cost_nothing_but_a_try(tmp_path: Path) -> None:
    with Stub() as stub:
        stub.connections_to_drop = 5
        texts(ask_all(settings_for(stub, concurrency=2), tmp_path / "s", prompts(8)))
        assert stub.asked == stub.billed == dict.fromkeys(prompts(8), 1)


def test_a_server_that_dies_is_gone_on_with_where_it_stopped(tmp_path: Path) -> None:
    asked = prompts(20)
    with Stub(lambda now: die() if now.prompt == asked[11] else answer()) as stub:
        with pytest.raises(EndpointError):
            ask_all(settings_for(stub, concurrency=4, retries=2), tmp_path / "s", asked)
        had = kept(tmp_path / "s", asked)
        assert had <= set(stub.billed)
    with Stub() as risen:
        texts(ask_all(settings_for(risen), tmp_path / "s", asked))
        assert not had & set(risen.asked)
        assert had | set(risen.asked) == set(asked)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_bomb_is_not_unpacked(layers: int, tmp_path: Path) -> None:
    with Stub(in_turn(bomb(layers), answer())) as stub:
        tracemalloc.start(1)
        try:
            with Client(settings_for(stub), tmp_path / "s", PURSE) as client:
                tracemalloc.reset_peak()
                before = tracemalloc.get_traced_memory()[0]
                stub_side = 2**28 + 2**20  # the stub makes the bomb in this process
                client.ask(question("a"))
                assert tracemalloc.get_traced_memory()[1] - before < stub_side + 2**26
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("code", [400, 413, 418, 422, 451])
def test_a_request_that_is_refused_does_not_stop_the_others(code: int, tmp_path: Path) -> None:
    asked = prompts(6)

    def script(now):
        return status(code, "too long\n\x1b[31m" + "x" * 10_000) if now.prompt == asked[2] else answer()

    with Stub(script) as stub:
        outcomes = ask_all(settings_for(stub), tmp_path / "s", asked)
        assert isinstance(outcomes[2], Refusal)
        assert outcomes[2].reason.startswith(f"status {code}: too long\\n\\x1b[31mxxx")
        assert len(outcomes[2].reason) < 300
        assert len(texts(outcome for outcome in outcomes if isinstance(outcome, Reply))) == 5
        assert stub.asked == dict.fromkeys(asked, 1)


@pytest.mark.parametrize("code", [301, 307, 308, 401, 402, 403, 404, 405])
def test_what_every_request_would_be_told_is_told_once(code: int, monkeypatch, tmp_path: Path) -> None:
    """Also: a key that the server repeats is not shown, and a redirect is not followed."""
    monkeypatch.setenv("SOME_KEY", "sk-geheim-0123456789")
    with Stub() as elsewhere:
        act = status(code, "x" * 170 + "Wrong key: sk-geheim-0123456789", location=f"{elsewhere.url}/chat/completions")
        with Stub(always(act)) as stub:
            settings = settings_for(stub, key_env="SOME_KEY", concurrency=1)
            with pytest.raises(EndpointError, match=rf"{stub.url}: status {code}.*SOME_KEY") as caught:
                ask_all(settings, tmp_path / "s", prompts(20))
            assert stub.asked.total() == 1
        assert elsewhere.asked.total() == 0
    assert isinstance(caught.value, UserError)
    assert "\n" not in str(caught.value) and "geheim" not in str(caught.value)


def test_the_key_is_sent_and_stands_in_no_file(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-geheim-0123456789")
    seen = []

    def script(now):
        seen.append(now.headers["authorization"])
        return answer()

    with Stub(script) as stub:
        texts(ask_all(settings_for(stub, key_env="SOME_KEY"), tmp_path / "s", prompts(3)))
        assert seen == ["Bearer sk-geheim-0123456789"] * 3
    for file in tmp_path.iterdir():
        assert b"geheim" not in file.read_bytes()


def test_a_server_that_refuses_a_key_and_repeats_it_in_a_refusal_of_one_request(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-geheim-0123456789")
    for code in (400, 500):
        with Stub(always(status(code, "your key sk-geheim-0123456789"))) as stub:
            try:
                said = str(ask_all(settings_for(stub, key_env="SOME_KEY", retries=0), tmp_path / "s", ["a"]))
            except EndpointError as error:
                said = str(error)
            assert f"status {code}: your key" in said and "geheim" not in said


@pytest.mark.parametrize("retries", [0, 2])
def test_a_server_that_is_not_there_is_named_in_one_line(retries: int, tmp_path: Path) -> None:
    with Stub() as stub:
        pass
    with pytest.raises(EndpointError, match=f"{stub.url}: no answer after {retries + 1} tries") as caught:
        ask_all(settings_for(stub, retries=retries), tmp_path / "s", prompts(50))
    assert "\n" not in str(caught.value)
    assert threads_left() == []
    with Client(settings_for(stub), tmp_path / "s", PURSE) as client:
        assert client.spent == Spent(), "what was never sent costs nothing"


@pytest.mark.parametrize("form", ["601", "1e9", "date"])
def test_a_server_that_asks_for_a_long_wait_is_not_waited_for(form: str, tmp_path: Path) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(hours=3), usegmt=True)
    with Stub(always(status(429, retry_after=date if form == "date" else form))) as stub:
        with pytest.raises(EndpointError, match=rf"{stub.url}: asks to wait \d+ s; run the same command again then"):
            ask_all(settings_for(stub, concurrency=1), tmp_path / "s", prompts(20))
        assert stub.asked.total() == 1


def test_nobody_asks_before_the_time_that_the_server_named(tmp_path: Path) -> None:
    asked = prompts(6)

    def script(now):
        return status(429, retry_after="1") if now.prompt == asked[0] and now.nth == 0 else answer()

    with Stub(script) as stub, Client(settings_for(stub, concurrency=1), tmp_path / "s", PURSE) as client:
        others = [threading.Thread(target=client.ask, args=(question(prompt),)) for prompt in asked[1:]]
        first = threading.Thread(target=client.ask, args=(question(asked[0]),))
        first.start()
        stub.wait_until(lambda stub: stub.asked.total() == 1)
        for thread in others:
            thread.start()
        for thread in [first, *others]:
            thread.join()
        # The second may have been let in between the refusal and its reading; not so the third.
        assert stub.arrivals[2] - stub.arrivals[0] >= 1.0
        assert stub.asked == {prompt: 2 if prompt == asked[0] else 1 for prompt in asked}


@given(st.text() | st.floats().map(str) | st.integers().map(str) | st.datetimes().map(format_datetime))
def test_any_header_asks_for_a_wait_or_for_none(header: str) -> None:
    wait = wait_asked(header)
    assert wait is None or 0 <= wait < float("inf")


def test_a_wait_is_asked_for_in_seconds_or_until_a_date() -> None:
    assert wait_asked("7") == 7.0
    assert wait_asked("-7") == 0.0
    assert wait_asked(None) is None
    date = format_datetime(datetime.fromtimestamp(time.time() + 100, UTC), usegmt=True)
    asked = wait_asked(date)
    assert asked is not None and 0 < asked <= 100


USAGES: list[Any] = [
    None,
    [],
    "many",
    {},
    {"prompt_tokens": -5, "completion_tokens": -1},
    {"prompt_tokens": "7", "completion_tokens": 1.5},
    {"prompt_tokens": 10**30, "completion_tokens": 2**63},
    {"prompt_tokens": True, "completion_tokens": None},
]


@pytest.mark.parametrize("usage", USAGES, ids=str)
def test_where_the_server_does_not_count_the_upper_bounds_stand(usage: Any, tmp_path: Path) -> None:
    act = answer("yes", usage=usage)
    with Stub(always(act)) as stub, Client(settings_for(stub), tmp_path / "s", PURSE) as client:
        replied = client.ask(question("a"))
        bounds = question("a").most_tokens(client.settings)
        assert isinstance(replied, Reply)
        assert (replied.prompt_tokens, replied.answer_tokens) == bounds
        assert client.spent == Spent(1, sum(bounds))


@pytest.mark.parametrize("text", ["", "\x00", "\ud800 half a sign", "脑\u2028", '"', "x" * 1_000_000])
def test_any_text_is_a_reply_and_is_kept(text: str, tmp_path: Path) -> None:
    with Stub(always(answer(text, finish="\udfff"))) as stub:
        first = ask_all(settings_for(stub), tmp_path / "s", ["a"])
        assert ask_all(settings_for(stub), tmp_path / "s", ["a"]) == first
        assert stub.asked["a"] == 1
    assert texts(first) == [text.replace("\ud800", "?")]


@pytest.mark.parametrize("body", [b'{"choices": [{"message": {"content": null, "refusal": "I do not do that"}}]}'])
def test_a_model_that_says_nothing_was_asked_and_paid_for(body: bytes, tmp_path: Path) -> None:
    with Stub(always(raw(body))) as stub:
        assert texts(ask_all(settings_for(stub), tmp_path / "s", ["a", "a"])) == ["", ""]
        assert stub.asked["a"] == 1
