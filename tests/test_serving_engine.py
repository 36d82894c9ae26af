"""The engine says together what the model says alone, frees places at once, and outlives what goes wrong."""

import threading

import pytest
from outspoken_models import outspoken
from serving_requests import asked, question, submit

from gmai_vl.model import Request, Sampling, respond
from gmai_vl.records import Turn
from gmai_vl.serving.engine import Engine
from gmai_vl.serving.refusals import Refusal

TOKENS = 24


@pytest.fixture(scope="module")
def vlm():
    return outspoken()


@pytest.fixture
def engine(vlm):
    engine = Engine(vlm, running=4, waiting=8)
    yield engine
    engine.close()


class Gate:
    """Stops the engine before the forward passes of its model until it is opened."""

    def __init__(self, vlm):
        self._open, self.reached = threading.Event(), threading.Event()
        layer = vlm.model.model.language_model.layers[0]
        self._hook = layer.register_forward_pre_hook(lambda _module, _args: self._wait())

    def _wait(self):
        self.reached.set()
        assert self._open.wait(60)

    def open(self):
        self._open.set()
        self._hook.remove()


@pytest.fixture
def gate(vlm, engine):
    gate = Gate(vlm)
    yield gate
    gate.open()


def test_answers_together_are_the_answers_alone(vlm, engine):
    questions = [question(number) for number in range(11)]
    alone = [respond(vlm, [one], max_new_tokens=TOKENS, batch_size=1)[0] for one in questions]
    _, heard = submit(engine, [asked(vlm, one, TOKENS) for one in questions])
    assert [one.whole() for one in heard] == [answer.text for answer in alone]
    assert [len(one.tokens) for one in heard] == [answer.tokens for answer in alone]
    assert [one.finish for one in heard] == ["length" if answer.is_cut_off else "stop" for answer in alone]
    assert {"length", "stop"} == {one.finish for one in heard}, "both ends are what this test is about"
    assert len({one.whole() for one in heard}) > 6


def test_a_seed_draws_the_same_answer_in_any_company(vlm, engine):
    one = question(1, sampling=Sampling(temperature=1.3, top_p=0.9, seed=5))
    _, (alone,) = submit(engine, [asked(vlm, one)])
    alone.whole()
    others = [question(number, sampling=Sampling(seed=number)) for number in range(5)]
    _, heard = submit(engine, [asked(vlm, each) for each in [*others, one]])
    assert heard[-1].whole() == alone.whole()
    assert heard[-1].whole() != heard[1].whole()


def test_no_more_run_and_wait_than_there_is_room_for(vlm, engine, gate):
    _, (heard,) = submit(engine, [asked(vlm, question(0))])
    assert gate.reached.wait(60)
    _, others = submit(engine, [asked(vlm, question(number)) for number in range(1, 12)])  # 3 places and 8 to wait in
    with pytest.raises(Refusal) as refused:
        submit(engine, [asked(vlm, question(0))])
    assert refused.value.status == 429
    assert int(refused.value.headers["retry-after"]) > 0
    assert engine.counts.waiting == 11
    gate.open()
    assert heard.whole()
    assert all(one.whole() is not None for one in others)
    assert engine.counts.waiting == 0


def test_a_cancelled_answer_frees_its_place_at_once(vlm, engine, gate):
    tickets, heard = submit(
        engine, [asked(vlm, question(3), 10**6) for _ in range(4)]
    )  # would never end by itself soon
    assert gate.reached.wait(60)
    _, (waits,) = submit(engine, [asked(vlm, question(0), 2)])
    tickets[0].cancel()
    gate.open()
    assert waits.whole() is not None
    assert waits.finish in ("stop", "length")
    for ticket in tickets:
        ticket.cancel()
    for one in heard:
        one.whole()
    assert heard[0].finish == "cancelled"
    assert not heard[0].tokens[1:], "it had its first word at most"


def test_one_that_waits_is_cancelled_without_being_read(vlm, engine, gate):
    submit(engine, [asked(vlm, question(number)) for number in range(4)])
    assert gate.reached.wait(60)
    (ticket,), (heard,) = submit(engine, [asked(vlm, question(5))])
    ticket.cancel()
    gate.open()
    heard.whole()
    assert heard.finish == "cancelled"
    assert not heard.tokens


def test_each_picture_is_looked_at_once(vlm, engine):
    for _ in range(2):
        _, heard = submit(engine, [asked(vlm, question(number), 2) for number in range(6)])
        for one in heard:
            one.whole()
    assert engine.counts.pictures_seen == 3
    assert engine.counts.pictures_known >= 3


def test_a_stop_word_ends_an_answer_before_it(vlm, engine):
    request = question(3)
    whole = respond(vlm, [request], max_new_tokens=TOKENS, batch_size=1)[0].text
    assert len(whole) > 6
    stop = whole[4:6]
    _, (heard,) = submit(engine, [asked(vlm, request, TOKENS, (stop,))])
    assert heard.whole() == whole[: whole.index(stop)].rstrip()
    assert heard.finish == "stop"


def test_a_step_that_fails_ends_its_answers_and_nothing_else(vlm, engine):
    layer = vlm.model.model.language_model.layers[0]

    def fail(_module, _args):
        raise RuntimeError("no memory\nfor this")

    hook = layer.register_forward_pre_hook(fail)
    _, (heard,) = submit(engine, [asked(vlm, question(0))])
    heard.whole()
    hook.remove()
    assert heard.finish == "failed"
    assert heard.pieces[-1].fault == "the model could not go on: no memory"
    _, (after,) = submit(engine, [asked(vlm, question(0))])
    assert after.whole() == respond(vlm, [question(0)], max_new_tokens=TOKENS, batch_size=1)[0].text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_engine_that_breaks_down_tells_all_who_wait(vlm):
    engine = Engine(vlm, running=1, waiting=4)

    def break_down(_module, _args):
        raise AssertionError("a mistake of ours")

    hook = vlm.model.model.language_model.layers[0].register_forward_pre_hook(break_down)
    _, heard = submit(engine, [asked(vlm, question(number)) for number in range(3)])
    for one in heard:
        one.whole()
    hook.remove()
    assert [one.finish for one in heard] == ["failed"] * 3
    engine.close()
    assert not engine.is_alive
    with pytest.raises(Refusal) as refused:
        submit(engine, [asked(vlm, question(0))])
    assert refused.value.status == 503


def test_closing_cancels_what_is_under_way_and_what_waits(vlm):
    engine = Engine(vlm, running=2, waiting=8)
    _, heard = submit(engine, [asked(vlm, question(3), 10**6) for _ in range(5)])
    heard[0].next()
    engine.close()
    for one in heard:
        one.whole()
    assert {one.finish for one in heard} <= {"cancelled", "stop"}
    assert heard[-1].finish == "cancelled"


def test_texts_alone_need_no_picture(vlm, engine):
    request = Request((Turn("user", ("hello",)),))
    _, (heard,) = submit(engine, [asked(vlm, request)])
    assert heard.whole() == respond(vlm, [request], max_new_tokens=TOKENS, batch_size=1)[0].text
