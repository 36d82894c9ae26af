"""Many threads ask: never more at once than allowed, never too fast, no question twice, the answers in order."""

import threading
import time
from pathlib import Path

import pytest
from asking import PURSE, ask_all, kept, prompts, question, settings_for, texts, threads_left
from stub_server import Question, Stub, always, answer, status, when

from gmai_vl.endpoint import Client, EndpointError, Reply, Spent, in_order


@pytest.mark.parametrize("concurrency", [1, 3, 16])
def test_as_many_requests_as_allowed_are_under_way_and_no_more(concurrency: int, tmp_path: Path) -> None:
    full = when(lambda stub: stub.most_at_once >= concurrency, answer())
    with (
        Stub(always(full)) as stub,
        Client(settings_for(stub, concurrency=concurrency), tmp_path / "s", PURSE) as client,
    ):
        list(in_order(lambda prompt: client.ask(question(prompt)), prompts(5 * concurrency), 3 * concurrency))
        assert stub.most_at_once == concurrency


@pytest.mark.parametrize("threads", [1, 2, 13])
def test_replies_come_in_the_order_of_the_questions_and_few_are_in_memory(threads: int) -> None:
    begun, done = [], []

    def items():
        for number in range(200):
            begun.append(number)
            assert len(begun) - len(done) <= 4 * threads + 1
            yield number

    for result in in_order(lambda number: number * number, items(), threads):
        done.append(result)
    assert done == [number * number for number in range(200)]


def test_what_a_function_raises_is_raised_and_no_further_item_is_begun() -> None:
    begun = []

    def function(number: int) -> int:
        begun.append(number)
        if number == 10:
            raise ValueError("ten")
        return number

    results = in_order(function, iter(range(1_000)), 2)
    with pytest.raises(ValueError, match="ten"):
        list(results)
    assert len(begun) <= 10 + 1 + 4 * 2


def test_threads_that_ask_the_same_pay_once(tmp_path: Path) -> None:
    together = threading.Barrier(16)
    found: list[Reply] = []

    def ask(client: Client) -> None:
        together.wait()
        reply = client.ask(question("a"))
        assert isinstance(reply, Reply)
        found.append(reply)

    with Stub() as stub, Client(settings_for(stub, concurrency=16), tmp_path / "s", PURSE) as client:
        threads = [threading.Thread(target=ask, args=(client,)) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert stub.asked["a"] == 1
        assert len(found) == 16 and len(set(found)) == 1
        assert client.spent == Spent(1, sum(stub.billed_tokens))


def test_equal_questions_at_another_address_are_not_paid_for_again(tmp_path: Path) -> None:
    with Stub() as one:
        first = texts(ask_all(settings_for(one), tmp_path / "s", prompts(5)))
    with Stub() as other:
        assert texts(ask_all(settings_for(other, concurrency=1), tmp_path / "s", prompts(5))) == first
        assert other.asked.total() == 0


def test_requests_per_minute_are_kept(tmp_path: Path) -> None:
    step = 0.02
    with Stub() as stub:
        start = time.monotonic()
        texts(ask_all(settings_for(stub, requests_per_minute=60 / step), tmp_path / "s", prompts(30)))
        late = [arrival - start for arrival in stub.arrivals]
    assert all(arrival >= number * step for number, arrival in enumerate(late))


def test_requests_per_minute_are_kept_after_a_pause(tmp_path: Path) -> None:
    """Those who waited while the server would have none do not come all at once."""
    step = 0.02

    def script(now: Question):
        return status(429, retry_after="1") if now.prompt == prompts(1)[0] and now.nth == 0 else answer()

    with Stub(script) as stub:
        settings = settings_for(stub, requests_per_minute=60 / step, concurrency=16)
        texts(ask_all(settings, tmp_path / "s", prompts(40)))
        again = stub.arrivals[0] + 1.0
        late = [arrival - again for arrival in stub.arrivals if arrival >= again]
    assert len(late) > 16
    assert all(arrival >= number * step for number, arrival in enumerate(late))


def test_what_is_under_way_when_the_caller_fails_is_kept(tmp_path: Path) -> None:
    asked, failed = prompts(8), threading.Event()

    def script(now: Question):
        return answer() if now.prompt == asked[0] else when(lambda _: failed.is_set(), answer())

    def use(client: Client, stub: Stub) -> None:
        for _ in in_order(lambda prompt: client.ask(question(prompt)), asked, 2):
            stub.wait_until(lambda stub: stub.asked.total() == 3)
            with stub.changed:
                failed.set()
                stub.changed.notify_all()
            raise ValueError("the disk is full")

    with Stub(script) as stub:
        with (
            pytest.raises(ValueError, match="the disk is full"),
            Client(settings_for(stub, concurrency=2), tmp_path / "s", PURSE) as client,
        ):
            use(client, stub)
        assert set(stub.billed) == kept(tmp_path / "s", asked)


def test_what_is_under_way_when_the_server_shuts_the_door_is_kept(tmp_path: Path) -> None:
    asked = prompts(8)
    everybody = 4

    def script(now: Question):
        act = status(401) if now.prompt == asked[2] else answer()
        return when(lambda stub: stub.asked.total() >= everybody, act)

    with Stub(script) as stub:
        with pytest.raises(EndpointError, match="status 401"):
            ask_all(settings_for(stub, concurrency=everybody), tmp_path / "s", asked)
        assert set(stub.billed) == kept(tmp_path / "s", asked)


def test_a_client_that_was_closed_asks_nothing(tmp_path: Path) -> None:
    with Stub() as stub:
        with Client(settings_for(stub), tmp_path / "s", PURSE) as client:
            texts([client.ask(question("a"))])
        for prompt in ("a", "b"):
            with pytest.raises(EndpointError):
                client.ask(question(prompt))
        assert stub.asked == {"a": 1}
    assert threads_left() == []


def test_threads_that_wait_when_the_client_is_closed_are_told_so(tmp_path: Path) -> None:
    """One waits for a place, one for the reply to the same question, one for the server's time."""
    told: list[str] = []

    def ask(client: Client, prompt: str) -> None:
        try:
            client.ask(question(prompt))
        except EndpointError as error:
            told.append(str(error))

    with Stub(always(status(429, retry_after="599"))) as stub:
        with Client(settings_for(stub, concurrency=1), tmp_path / "s", PURSE) as client:
            threads = [threading.Thread(target=ask, args=(client, prompt)) for prompt in ("a", "a", "b", "c")]
            for thread in threads:
                thread.start()
            stub.wait_until(lambda stub: stub.asked.total() == 1)
        for thread in threads:
            thread.join()
        assert stub.asked.total() == 1
    assert len(told) == 4
