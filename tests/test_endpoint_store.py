"""The file of replies: shared by processes, refused where it cannot be used; what it cannot keep is not paid for."""

import sqlite3
import threading
from pathlib import Path

import pytest
from asking import PURSE, ask_all, child, kept, prompts, question, settings_for, texts, threads_left
from stub_server import PATIENCE_S, Stub, always, answer

from gmai_vl.endpoint import Client, Reply, Spent, store_path
from gmai_vl.endpoint.store import Store
from gmai_vl.foundation import UserError

ASK_SOME = """
    import sys
    from pathlib import Path
    from asking import ask_all, prompts, settings_for, texts, threads_left
    from gmai_vl.endpoint import Budget, EndpointError

    url, store, tokens, first, last = sys.argv[1:]
    settings = settings_for(url, budget=Budget(tokens=int(tokens)))
    sys.stdin.readline()
    try:
        print(*texts(ask_all(settings, Path(store), prompts(int(last))[int(first):])), sep="|")
    except EndpointError as error:
        print(error)
"""


def asked_by_processes(stub: Stub, store: Path, tokens: int, ranges: list[tuple[int, int]]) -> list[str]:
    """What processes print that ask at the same time, each its range of prompts."""
    processes = [child(ASK_SOME, stub.url, store, tokens, *some) for some in ranges]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    found = [process.communicate(timeout=PATIENCE_S) for process in processes]
    assert [error for _, error in found] == [""] * len(ranges)
    return [out.strip() for out, _ in found]


def test_processes_share_the_replies(tmp_path: Path) -> None:
    with Stub() as stub:
        found = asked_by_processes(stub, tmp_path / "s", 10**9, [(0, 30), (20, 50), (0, 50)])
        replies = texts(ask_all(settings_for(stub), tmp_path / "s", prompts(50)))
        assert [out.split("|") for out in found] == [replies[:30], replies[20:], replies]
        assert all(1 <= stub.billed[prompt] <= 3 for prompt in prompts(50))
        assert Store(tmp_path / "s").spent(PURSE) == Spent(stub.billed.total(), sum(stub.billed_tokens))


def test_processes_share_the_budget(tmp_path: Path) -> None:
    with Stub() as stub:
        found = asked_by_processes(stub, tmp_path / "s", 700, [(0, 100), (100, 200), (200, 300)])
        assert all("the budget does not allow another request" in out for out in found)
        assert sum(stub.billed_tokens) <= 700
        assert kept(tmp_path / "s", prompts(300)) == set(stub.billed)


def test_many_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    together = threading.Barrier(12)
    faults: list[Exception] = []

    def open_it() -> None:
        together.wait()
        try:
            store = Store(tmp_path / "new" / "s")
            store.book(PURSE, Spent(1, 2, 0.5), Spent(100, 100, 100.0))
            store.close()
        except Exception as error:  # noqa: BLE001  whatever it is fails the test
            faults.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert Store(tmp_path / "new" / "s").spent(PURSE) == Spent(12, 24, 6.0)


def test_no_two_that_share_a_file_book_the_same_room(tmp_path: Path) -> None:
    limit, together = Spent(300, 10**9, 1e9), threading.Barrier(6)
    booked: list[bool] = []

    def book() -> None:
        store = Store(tmp_path / "s")
        together.wait()
        booked.extend(store.book(PURSE, Spent(1, 1, 0.0), limit) for _ in range(100))
        store.close()

    threads = [threading.Thread(target=book) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(booked) == 300 == Store(tmp_path / "s").spent(PURSE).requests


def make_text(folder: Path) -> Path:
    (folder / "notes.txt").write_text("no database " * 1_000)
    return folder / "notes.txt"


def make_other_tables(folder: Path) -> Path:
    with sqlite3.connect(folder / "other.sqlite") as other:
        other.execute("CREATE TABLE replies (a INTEGER)")
    return folder / "other.sqlite"


def make_cut(folder: Path) -> Path:
    store = Store(folder / "cut")
    for number in range(100):
        reply = Reply(text="x" * 1_000, finish="stop", prompt_tokens=1, answer_tokens=1, model="m")
        store.settle(PURSE, Spent(), (str(number), reply))
    store.close()
    (folder / "cut").write_bytes((folder / "cut").read_bytes()[:10_000])
    return folder / "cut"


UNUSABLE = {
    "a text": make_text,
    "another's tables": make_other_tables,
    "cut short": make_cut,
    "a folder": lambda folder: folder,
    "below a file": lambda folder: make_text(folder) / "s",
    "a folder that cannot be written": lambda _: Path("/proc/self/s"),
    "a folder that cannot be made": lambda _: Path("/proc/no/s"),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_file_that_cannot_be_used_is_named_and_nothing_is_asked(kind: str, tmp_path: Path) -> None:
    path = UNUSABLE[kind](tmp_path)
    with Stub() as stub:
        with pytest.raises(UserError) as caught:
            ask_all(settings_for(stub), path, ["a"])
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
        assert stub.asked.total() == 0
    assert threads_left() == []
    assert kind != "a text" or path.read_text() == "no database " * 1_000


FULL = """
    import resource, signal, sys
    from pathlib import Path
    from asking import ask_all, prompts, settings_for, texts, threads_left
    from gmai_vl.endpoint import EndpointError

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
    try:
        texts(ask_all(settings_for(sys.argv[1], concurrency=4), Path(sys.argv[2]), prompts(200)))
    except EndpointError as error:
        print(error)
"""


def test_when_the_disk_is_full_no_more_is_asked_and_what_was_kept_stays(tmp_path: Path) -> None:
    with Stub(always(answer("x" * 20_000))) as stub:
        out, error = child(FULL, stub.url, tmp_path / "s").communicate(timeout=PATIENCE_S)
        assert error == ""
        assert out.count("\n") == 1 and "cannot be used any more" in out and str(tmp_path / "s") in out
        had = kept(tmp_path / "s", prompts(200))
        assert had and stub.billed.total() - len(had) <= 4, "those under way, and no more"
        texts(ask_all(settings_for(stub), tmp_path / "s", prompts(200)))
        assert all(stub.billed[prompt] == 1 for prompt in had)


def test_money_adds_up_to_the_budget_and_not_beyond(tmp_path: Path) -> None:
    """Ten dimes are a dollar, though sums of floats say less or more."""
    store, limit = Store(tmp_path / "s"), Spent(100, 100, 1.0)
    booked = [store.book(PURSE, Spent(1, 1, 0.1), limit) for _ in range(12)]
    assert booked == [True] * 10 + [False] * 2


def test_a_reply_that_is_there_stays(tmp_path: Path) -> None:
    replies = [Reply(text=text, finish="stop", prompt_tokens=1, answer_tokens=1, model="m") for text in "ab"]
    store = Store(tmp_path / "s")
    for reply in replies:
        store.settle(PURSE, Spent(), ("key", reply))
    assert store.reply("key") == replies[0]
    assert store.reply("other") is None


def test_replies_are_kept_where_the_environment_says(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("GMAI_CACHE", raising=False)
    assert store_path() == tmp_path / "xdg" / "gmai-vl" / "replies.sqlite"
    monkeypatch.setenv("GMAI_CACHE", str(tmp_path / "mine"))
    assert store_path() == tmp_path / "mine" / "replies.sqlite"
    monkeypatch.delenv("GMAI_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert store_path() == Path.home() / ".cache" / "gmai-vl" / "replies.sqlite"


def test_a_store_that_is_closed_says_so(tmp_path: Path) -> None:
    with Stub() as stub, Client(settings_for(stub), tmp_path / "s", PURSE) as client:
        client.ask(question("a"))
    with pytest.raises(UserError, match="closed"):
        _ = client.spent
