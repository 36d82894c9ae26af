"""The budget holds as the server counts, however many ask at its edge, whatever goes wrong and in how many runs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asking import PURSE, ask_all, kept, prompts, question, settings_for, texts
from stub_server import Question, Stub, always, answer, cut_short, hang_up, html, in_turn, status

from gmai_vl.endpoint import Budget, Client, EndpointError, EndpointSettings, Prices, Spent
from gmai_vl.foundation import UserError, load_settings

PRICES = Prices(prompt=1_000, answer=5_000)
MOST = sum(question(prompts(100)[99]).most_tokens(EndpointSettings(url="http://any/v1", model="m")))

BUDGETS: dict[str, tuple[dict[str, Any], Callable[[Stub], float], float]] = {
    "requests": ({"requests": 7}, lambda stub: stub.billed.total(), 7),
    "tokens": ({"tokens": 5 * MOST}, lambda stub: sum(stub.billed_tokens), 5 * MOST),
    "usd": ({"usd": 0.5}, lambda stub: (1_000 * stub.billed_tokens[0] + 5_000 * stub.billed_tokens[1]) / 1e6, 0.5),
}
"""Name -> budget, how the server counts, limit."""

TROUBLE = in_turn(status(500), cut_short(), status(429), html(), hang_up(), status(503), answer())


def settings_within(stub: Stub, budget: dict[str, Any], **changes: Any) -> EndpointSettings:
    return settings_for(stub, budget=Budget(**budget), prices=PRICES, **changes)


@pytest.mark.parametrize("concurrency", [1, 32])
@pytest.mark.parametrize("kind", BUDGETS)
def test_a_budget_is_used_up_and_not_exceeded(kind: str, concurrency: int, tmp_path: Path) -> None:
    budget, counted, limit = BUDGETS[kind]
    asked = prompts(100)
    with Stub() as stub:
        settings = settings_within(stub, budget, concurrency=concurrency)
        with pytest.raises(EndpointError, match=r"the budget does not allow another request.*raise `budget`") as caught:
            ask_all(settings, tmp_path / "s", asked)
        assert "\n" not in str(caught.value)
        assert counted(stub) <= limit
        had, count = kept(tmp_path / "s", asked), stub.asked.total()
        assert had == set(stub.billed), "what was paid for is kept"
        with Client(settings, tmp_path / "s", PURSE) as client:
            assert client.spent.requests == stub.billed.total()
            assert client.spent.tokens == sum(stub.billed_tokens)
            most = settings.cost(*question(asked[99]).most_tokens(settings))
            left = {"requests": 1, "tokens": MOST, "usd": most}[kind]
            assert counted(stub) + left > limit, "there was room for no other"
            assert texts(map(client.ask, map(question, sorted(had))))
            with pytest.raises(EndpointError):
                client.ask(question(asked[99]))
        assert stub.asked.total() == count, "nothing more was sent"
        texts(ask_all(settings_within(stub, {}), tmp_path / "s", asked))
        assert stub.billed == dict.fromkeys(asked, 1)


@pytest.mark.parametrize("concurrency", [1, 16])
@pytest.mark.parametrize("kind", BUDGETS)
def test_a_budget_holds_in_trouble_and_over_runs(kind: str, concurrency: int, tmp_path: Path) -> None:
    """What a broken request cost is not known: it counts as the most that it may have cost."""
    budget, counted, limit = BUDGETS[kind]
    asked = prompts(40)
    with Stub(TROUBLE) as stub:
        settings = settings_within(stub, budget, concurrency=concurrency, retry_wait_s=0.001)
        for _ in range(3):
            with pytest.raises(EndpointError, match="the budget does not allow another request"):
                ask_all(settings, tmp_path / "s", asked)
            assert counted(stub) <= limit
            with Client(settings, tmp_path / "s", PURSE) as client:
                assert client.spent.requests >= stub.billed.total()
                assert client.spent.tokens >= sum(stub.billed_tokens)
        asked_for = stub.asked.total()
        with pytest.raises(EndpointError):
            ask_all(settings, tmp_path / "s", asked)
        assert stub.asked.total() == asked_for


def test_what_the_server_did_no_work_for_costs_nothing(tmp_path: Path) -> None:
    with Stub(in_turn(status(429), status(503), answer())) as stub:
        settings = settings_within(stub, {"requests": 5})
        texts(ask_all(settings, tmp_path / "s", prompts(5)))
        with Client(settings, tmp_path / "s", PURSE) as client:
            assert client.spent.requests == 5 == stub.billed.total()


@pytest.mark.parametrize("code", [400, 401])
def test_a_refusal_is_a_request_without_tokens(code: int, tmp_path: Path) -> None:
    with Stub(always(status(code))) as stub, Client(settings_for(stub), tmp_path / "s", PURSE) as client:
        if code == 401:
            with pytest.raises(EndpointError):
                client.ask(question("a"))
        else:
            client.ask(question("a"))
        assert client.spent == Spent(1, 0, 0.0)


def test_every_purse_pays_for_itself(tmp_path: Path) -> None:
    with Stub() as stub:
        settings = settings_within(stub, {"requests": 1})
        for purse, prompt in (("mine", "a"), ("yours", "b")):
            with Client(settings, tmp_path / "s", purse) as client:
                texts([client.ask(question(prompt))])
                assert client.spent.requests == 1
        with Client(settings, tmp_path / "s", "mine") as client:
            texts([client.ask(question("b"))])  # paid for by the other
            with pytest.raises(EndpointError):
                client.ask(question("c"))


def test_a_request_that_waits_for_room_gets_it_when_another_turns_out_cheaper(tmp_path: Path) -> None:
    """Room for one upper bound and a half: they go one by one, and all are answered."""
    with Stub() as stub:
        cost = sum(Question(prompt="", nth=0, body=_body(), headers={}).tokens)
        budget = {"tokens": 9 * cost + MOST}
        texts(ask_all(settings_within(stub, budget, concurrency=8), tmp_path / "s", prompts(10)))
        assert sum(stub.billed_tokens) == 10 * cost


def _body() -> dict[str, Any]:
    return json.loads(question(prompts(1)[0]).body(settings_for("http://any/v1")))


def test_a_budget_in_money_needs_prices() -> None:
    with pytest.raises(UserError, match=r"recipe\.yaml: .*needs `prices`"):
        load_settings(EndpointSettings, {"url": "http://any/v1", "model": "m", "budget": {"usd": 1.0}}, "recipe.yaml")
