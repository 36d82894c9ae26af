"""kill -9 and Ctrl-C at any moment: what was kept is not paid for again, the budget holds, the replies are the same."""

import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from asking import PURSE, ask_all, child, kept, prompts, settings_for, texts
from stub_server import PATIENCE_S, Question, Script, Stub, answer, cut_short, in_turn, never, status, when

from gmai_vl.endpoint.store import Store

CONCURRENCY = 8
ASKED = prompts(150)
SETTINGS = {"concurrency": CONCURRENCY, "retry_wait_s": 0.01}

ASK = f"""
    import sys
    from pathlib import Path
    from asking import ask_all, prompts, settings_for, texts
    from gmai_vl.endpoint import Budget, EndpointError

    url, store, tokens = sys.argv[1:]
    settings = settings_for(url, budget=Budget(tokens=int(tokens)), **{SETTINGS!r})
    try:
        print(*texts(ask_all(settings, Path(store), prompts({len(ASKED)}))), sep="|")
    except EndpointError as error:
        print(error)
"""


def trouble(now: Question):
    """A tenth of the prompts is answered at the third try."""
    odd = now.prompt.endswith("7")
    return in_turn(*[status(500), cut_short(), answer()] if odd else [answer()])(now)


def noting(had: set[str], again: list[str]) -> Script:
    """Answer as in trouble, and note which of the prompts in `had` were asked again."""

    def script(now: Question):
        if now.prompt in had:
            again.append(now.prompt)
        return trouble(now)

    return script


def run_and_kill(stub: Stub, store: Path, tokens: int, rng: random.Random) -> bool:
    """Run until the server has been asked, or has answered, so many more times, and kill; false if it ended before."""
    counter = rng.choice([stub.asked, stub.billed])
    enough = counter.total() + rng.randint(1, 40)
    process = child(ASK, stub.url, store, tokens)
    with stub.changed:
        while counter.total() < enough and process.poll() is None:
            stub.changed.wait(0.05)
    time.sleep(rng.random() * 0.02)  # where the client is then is left to chance
    ended = process.poll() is not None
    process.kill()
    process.communicate()
    return not ended


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The replies of a run that nothing goes wrong with."""
    with Stub() as stub:
        return texts(ask_all(settings_for(stub, **SETTINGS), tmp_path_factory.mktemp("whole") / "s", ASKED))


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 8))])
def test_after_kills_the_replies_are_those_of_an_uninterrupted_run(
    seed: int, wanted: list[str], tmp_path: Path
) -> None:
    rng, store, generous = random.Random(seed), tmp_path / "s", 10**9
    with Stub(trouble) as stub:
        again: list[str] = []
        killed = 0
        while killed < 3 and run_and_kill(stub, store, generous, rng):
            killed += 1
            spent = Store(store).spent(PURSE)
            assert spent.requests >= stub.billed.total() and spent.tokens >= sum(stub.billed_tokens)
            stub.script = noting(kept(store, ASKED), again)
        run = child(ASK, stub.url, store, generous)
        out, error = run.communicate(timeout=PATIENCE_S)
        assert not error and out.strip().split("|") == wanted
        assert again == [], "what was kept was asked again"
        whole = Counter({prompt: 2 if prompt.endswith("7") else 1 for prompt in ASKED})  # cut short: billed and lost
        assert (stub.billed - whole).total() <= CONCURRENCY * killed
        assert max((stub.billed - whole).values(), default=0) <= killed
        assert not whole - stub.billed


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 7))])
def test_the_budget_holds_over_kills(seed: int, tmp_path: Path) -> None:
    rng, store, tokens = random.Random(100 + seed), tmp_path / "s", 3_000
    with Stub(trouble) as stub:
        for _ in range(3):
            run_and_kill(stub, store, tokens, rng)
            assert sum(stub.billed_tokens) <= tokens
            assert Store(store).spent(PURSE).tokens >= sum(stub.billed_tokens)
        out, error = child(ASK, stub.url, store, tokens).communicate(timeout=PATIENCE_S)
        assert not error and "the budget does not allow another request" in out
        assert sum(stub.billed_tokens) <= tokens


INTERRUPTED = """
    import sys
    from pathlib import Path
    from asking import PURSE, prompts, question, settings_for
    from gmai_vl.endpoint import Client, in_order

    url, store, where = sys.argv[1:]
    settings = settings_for(url, timeout_s=100_000, concurrency=4, requests_per_minute=1 if where == "rate" else None)
    with Client(settings, Path(store), PURSE) as client:
        if where == "alone":
            client.ask(question("a"))
        else:
            for _ in in_order(lambda prompt: client.ask(question(prompt)), prompts(50), 4):
                if where == "caller":
                    print("first", flush=True)
                    while True:
                        sys.stdin.read(1)
"""


@pytest.mark.parametrize("where", ["alone", "threads", "caller", "rate", "pause"])
def test_ctrl_c_ends_at_once_and_quietly(where: str, tmp_path: Path) -> None:
    """Wherever the client is: else it would wait for hours."""
    first = prompts(1)[0]

    def script(now: Question):
        if where == "pause":
            return status(429, retry_after="599")
        if where == "caller" and now.prompt == first:
            return when(lambda stub: stub.asked.total() >= 4, answer())
        return answer() if where == "rate" else never()

    under_way = {"alone": 1, "rate": 1, "pause": 1}.get(where, 4)
    with Stub(script) as stub:
        process = child(INTERRUPTED, stub.url, tmp_path / "s", where)
        stub.wait_until(lambda stub: stub.asked.total() >= under_way)
        if where == "caller":
            assert process.stdout is not None and process.stdout.readline() == "first\n"
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == -signal.SIGINT
        assert error.rstrip().endswith("KeyboardInterrupt") and error.count("Traceback") == 1, error
    if where == "caller":
        assert first in kept(tmp_path / "s", [first])
