"""OpenAI's own client against a server of this project: calls of every kind, and what each must give."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import openai
import pytest
from evaluation_samples import question as benchmark_question
from outspoken_models import outspoken
from serving_requests import TEXTS, data_url, picture
from serving_server import running
from test_serving_pictures import file_of

from gmai_vl.evaluation.remote import ask_endpoint, endpoint_of
from gmai_vl.model import Request, Sampling, encode_prompt, respond
from gmai_vl.records import ImageRef, Turn
from gmai_vl.serving.api.routes import FETCHED_AT_ONCE
from gmai_vl.serving.app import Access, create_app
from gmai_vl.serving.engine import Engine
from gmai_vl.serving.limits import Limits
from gmai_vl.serving.served import Served

TOKENS = 20
LIMITS = Limits(image_pixels=10**6, text_characters=10_000, answer_tokens=64, running=4, waiting=6)


@pytest.fixture(scope="module")
def vlm():
    return outspoken()


@pytest.fixture(scope="module")
def server(vlm, tmp_path_factory):
    """Return the address of a server with two models, and the file of its audit log."""
    folder = tmp_path_factory.mktemp("serving")
    served = [
        Served(name="tiny", engine=Engine(vlm, running=4, waiting=6), fingerprint="fp_1", created=1),
        Served(
            name="other", engine=Engine(outspoken("tiny-clip"), running=4, waiting=6), fingerprint="fp_2", created=2
        ),
    ]
    app = create_app(served, Access(limits=LIMITS, audit=folder / "audit.jsonl"), folder / "studies")
    with running(app, limits=LIMITS) as url:
        yield url, folder / "audit.jsonl"


@pytest.fixture(scope="module")
def url(server):
    return server[0]


@pytest.fixture(scope="module")
def client(url):
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def shown(text, *seeds):
    """Return a message of the user: pictures, then a text."""
    pictures = [{"type": "image_url", "image_url": {"url": data_url(picture(seed))}} for seed in seeds]
    return {"role": "user", "content": [*pictures, {"type": "text", "text": text}]}


def ask(client, *messages, **more):
    return client.chat.completions.create(**{"model": "tiny", "messages": list(messages), "max_tokens": TOKENS, **more})


def alone(vlm, *turns, pictures=(), sampling=None):
    """Return what the model says to a conversation without any server."""
    request = Request(turns, tuple(map(picture, pictures)), sampling)
    return respond(vlm, [request], max_new_tokens=TOKENS, batch_size=1)[0]


def test_models_are_listed_and_told(client):
    assert [model.id for model in client.models.list()] == ["tiny", "other"]
    assert client.models.retrieve("other").created == 2
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("absent")


@pytest.mark.parametrize("number", range(6))
def test_an_answer_about_a_picture_is_the_models_own(client, vlm, number):
    reply = ask(client, shown(TEXTS[number], number % 3))
    expected = alone(vlm, Turn("user", (ImageRef(0), TEXTS[number])), pictures=[number % 3])
    assert reply.choices[0].message.content == expected.text
    assert reply.choices[0].finish_reason == ("length" if expected.is_cut_off else "stop")
    prompt = encode_prompt(vlm.processor, (Turn("user", (ImageRef(0), TEXTS[number])),)).input_ids
    assert reply.usage.prompt_tokens == len(prompt)
    assert reply.usage.completion_tokens == expected.tokens
    assert reply.usage.total_tokens == len(prompt) + expected.tokens
    assert (reply.object, reply.model, reply.system_fingerprint) == ("chat.completion", "tiny", "fp_1")


def test_pictures_from_elsewhere_are_fetched_where_that_is_switched_on(vlm, tmp_path):
    """So many at a time, and no more: each is held as a file until it is decoded."""
    under_way, most, places = 0, 0, []
    enough = asyncio.Barrier(FETCHED_AT_ONCE)

    async def fetch(url, _limits, place):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        places.append(place)
        await enough.wait()
        under_way -= 1
        return file_of(picture(int(url[-1])), "PNG")

    served = [Served(name="tiny", engine=Engine(vlm, running=4, waiting=60), fingerprint="fp", created=1)]
    limits = replace(LIMITS, waiting=60)
    with running(create_app(served, Access(limits=limits, fetch=fetch), tmp_path), limits=limits) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)

        def answer(number):
            remote = {"type": "image_url", "image_url": {"url": f"https://e.org/{number % 3}"}}
            message = shown("which one?", 2)
            return ask(client, {**message, "content": [remote, *message["content"]]}, max_tokens=4)

        with ThreadPoolExecutor(24) as clients:
            said = [reply.choices[0].message.content for reply in clients.map(answer, range(24))]
        expected = [ask(client, shown("which one?", number, 2), max_tokens=4) for number in range(3)]
    assert said == [expected[number % 3].choices[0].message.content for number in range(24)]
    assert places == ["messages[0].content[0].image_url.url"] * 24
    assert most == FETCHED_AT_ONCE


def test_a_text_alone_and_a_system_message(client, vlm):
    said = ask(client, {"role": "developer", "content": "be brief"}, {"role": "user", "content": "what is ct"})
    assert (
        said.choices[0].message.content == alone(vlm, Turn("system", ("be brief",)), Turn("user", ("what is ct",))).text
    )


def test_several_pictures_in_one_message_and_several_turns(client, vlm):
    first = shown("which one?", 0, 1)
    said = ask(client, first, {"role": "assistant", "content": "the left"}, shown("and now?", 2))
    turns = (
        Turn("user", (ImageRef(0), ImageRef(1), "which one?")),
        Turn("assistant", ("the left",)),
        Turn("user", (ImageRef(2), "and now?")),
    )
    assert said.choices[0].message.content == alone(vlm, *turns, pictures=[0, 1, 2]).text


def test_a_stream_is_the_whole_answer_in_order(client):
    whole = ask(client, shown(TEXTS[3], 0))
    chunks = list(ask(client, shown(TEXTS[3], 0), stream=True, stream_options={"include_usage": True}))
    assert len({chunk.id for chunk in chunks}) == 1
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]][-1] == whole.choices[0].finish_reason
    assert all(chunk.choices[0].finish_reason is None for chunk in chunks[:-2])
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len(chunks) > 6, "it comes in pieces"


def test_a_stream_without_usage_tells_none(client):
    assert all(chunk.usage is None for chunk in ask(client, shown("ct", 0), stream=True))


def test_the_stream_ends_as_the_standard_says(url):
    body = {"model": "tiny", "messages": [shown("ct", 0)], "max_tokens": 3, "stream": True}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in reply.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    assert json.loads(lines[0][6:])["choices"][0]["index"] == 0


def test_a_seed_draws_the_same_answers_and_another_others(client, vlm):
    drawn = [
        ask(client, shown("ct", 0), temperature=1.2, top_p=0.9, seed=seed).choices[0].message.content
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    sampling = Sampling(temperature=1.2, top_p=0.9, seed=1)
    assert drawn[0] == alone(vlm, Turn("user", (ImageRef(0), "ct")), pictures=[0], sampling=sampling).text


def test_without_a_seed_answers_are_drawn_anew(client):
    drawn = {ask(client, shown("ct", 0), temperature=1.5).choices[0].message.content for _ in range(4)}
    assert len(drawn) > 1


def test_several_choices(client):
    reply = ask(client, shown("ct", 0), n=3, temperature=1.2, seed=1)
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    texts = [choice.message.content for choice in reply.choices]
    assert len(set(texts)) == 3
    one = ask(client, shown("ct", 0), temperature=1.2, seed=1)
    assert texts[0] == one.choices[0].message.content
    assert reply.usage.prompt_tokens == one.usage.prompt_tokens
    streamed = ["", "", ""]
    for chunk in ask(client, shown("ct", 0), n=3, temperature=1.2, seed=1, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert streamed == texts


def test_stop_words(client):
    whole = ask(client, shown(TEXTS[3], 0)).choices[0].message.content
    stop = whole[5:8]
    for given in (stop, ["never", stop]):
        cut = ask(client, shown(TEXTS[3], 0), stop=given)
        assert cut.choices[0].message.content == whole[: whole.index(stop)].rstrip()
        assert cut.choices[0].finish_reason == "stop"
        streamed = "".join(
            chunk.choices[0].delta.content or "" for chunk in ask(client, shown(TEXTS[3], 0), stop=given, stream=True)
        )
        assert streamed == cut.choices[0].message.content


def test_logprobs_whole_and_streamed(client):
    whole = ask(client, shown("ct", 0), logprobs=True, top_logprobs=2)
    content = whole.choices[0].logprobs.content
    assert len(content) == whole.usage.completion_tokens
    for entry in content:
        assert len(entry.top_logprobs) == 2
        assert entry.token == entry.top_logprobs[0].token
        assert entry.logprob == entry.top_logprobs[0].logprob <= 0
        assert entry.bytes is None or bytes(entry.bytes).decode() == entry.token
    streamed = [
        entry
        for chunk in ask(client, shown("ct", 0), logprobs=True, top_logprobs=2, stream=True)
        if chunk.choices[0].logprobs
        for entry in chunk.choices[0].logprobs.content
    ]
    assert [entry.token for entry in streamed] == [entry.token for entry in content]
    assert ask(client, shown("ct", 0), logprobs=True).choices[0].logprobs.content[0].top_logprobs == []
    assert ask(client, shown("ct", 0)).choices[0].logprobs is None


def test_the_other_model_answers_otherwise(client):
    assert (
        ask(client, shown("ct", 0), model="other").choices[0].message.content
        != ask(client, shown("ct", 0)).choices[0].message.content
    )


def test_max_completion_tokens_and_what_asks_for_nothing(client):
    neutral = {"presence_penalty": 0, "frequency_penalty": 0, "user": "somebody", "response_format": {"type": "text"}}
    reply = client.chat.completions.create(model="tiny", messages=[shown("a", 0)], max_completion_tokens=3, **neutral)
    assert reply.usage.completion_tokens <= 3


REFUSED = {
    "no model of that name": ({"model": "absent"}, 404, "model", "absent"),
    "a penalty": ({"presence_penalty": 0.5}, 400, "presence_penalty", ""),
    "tools": ({"tools": [{"type": "function", "function": {"name": "f"}}]}, 400, "tools", ""),
    "a schema": ({"response_format": {"type": "json_object"}}, 400, "response_format.type", ""),
    "an unknown field": ({"extra_body": {"best_of": 2}}, 400, "best_of", ""),
    "too hot": ({"temperature": 2.5}, 400, "temperature", ""),
    "no words at all": ({"top_p": 0}, 400, "top_p", ""),
    "too many tokens": ({"max_tokens": 65}, 422, "max_tokens", "at most 64"),
    "two lengths": ({"max_completion_tokens": 3}, 400, None, "differ"),
    "too many choices": ({"n": 9}, 422, "n", "at most 8"),
    "a seed that is none": ({"seed": "x"}, 400, "seed", ""),
    "usage without a stream": ({"stream_options": {"include_usage": True}}, 400, None, "stream_options"),
    "an empty stop word": ({"stop": [""]}, 400, None, "empty"),
    "five stop words": ({"stop": list("abcde")}, 400, "stop", ""),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_done_is_refused_by_name(client, name):
    more, status, param, said = REFUSED[name]
    with pytest.raises(openai.APIStatusError) as refused:
        ask(client, shown("ct", 0), **more)
    assert refused.value.status_code == status
    error = refused.value.response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert param is None or error["param"].startswith(param)
    assert said in error["message"]


MESSAGES = {
    "none": ([], 400),
    "the assistant last": ([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], 400),
    "a tool": ([{"role": "tool", "content": "a"}], 400),
    "a sound": ([{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}], 400),
    "a foreign picture": (
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://e.org/a.png"}}]}],
        400,
    ),
    "a local file": (
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}],
        400,
    ),
    "nine pictures": ([shown("which?", *range(9))], 422),
    "a picture too large": (
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": data_url(picture(0, 1001, 1000))}}]}],
        422,
    ),
    "too long a text": ([{"role": "user", "content": "a" * 10_001}], 413),
    "too many messages": ([{"role": "user", "content": "a"}] * 129, 422),
    "longer than the context": ([{"role": "user", "content": "xq " * 3_300}], 400),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_messages_that_cannot_be_answered(client, name):
    messages, status = MESSAGES[name]
    with pytest.raises(openai.APIStatusError) as refused:
        ask(client, *messages)
    assert refused.value.status_code == status, refused.value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"a"',
        b"{}",
        b"[" * 100_000,
        b'{"a": 1e999}',
        b"\xff\xfe",
        b'{"model": "\\ud800", "messages": []}',
    ],
)
def test_a_body_that_is_no_request(url, body):
    reply = httpx.post(f"{url}/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert reply.status_code == 400
    assert reply.json()["error"]["type"] == "invalid_request_error"


def test_many_at_a_time_get_their_own_answers(url, vlm):
    """Greedy answers of a batch are those of each alone."""
    texts = [f"{TEXTS[number % 6]} {number}" for number in range(10)]
    expected = [
        alone(vlm, Turn("user", (ImageRef(0), text)), pictures=[number % 3]).text for number, text in enumerate(texts)
    ]

    async def all_at_once():
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            asked = (ask(client, shown(text, number % 3)) for number, text in enumerate(texts))
            return await asyncio.gather(*asked)

    assert [reply.choices[0].message.content for reply in asyncio.run(all_at_once())] == expected


def test_more_than_can_wait_are_told_when_to_come_again(url):
    body = {"model": "tiny", "messages": [shown(TEXTS[3], 0)], "max_tokens": 64, "n": 4, "temperature": 1.0}
    with ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(lambda _: httpx.post(f"{url}/v1/chat/completions", json=body, timeout=120), range(12)))
    statuses = sorted(reply.status_code for reply in replies)
    assert set(statuses) == {200, 429}
    for reply in replies:
        assert reply.status_code == 200 or int(reply.headers["retry-after"]) > 0


def test_our_own_evaluation_asks_it(url, vlm, tmp_path):
    settings = endpoint_of(f"openai:{url}/v1#tiny", concurrency=2, key_env=None)
    asked = benchmark_question(0)
    answers = ask_endpoint(
        settings, [asked], lambda _name: picture(0), tmp_path / "predictions.jsonl", max_new_tokens=8
    )
    request = Request(asked.turns, tuple(picture(0) for _ in asked.images))
    assert answers == {asked.id: respond(vlm, [request], max_new_tokens=8, batch_size=1)[0].text}


def test_health_and_metrics_tell_of_the_work(url, client):
    assert httpx.get(f"{url}/health").json() == {"status": "ok"}

    def number(name):
        (line,) = (line for line in httpx.get(f"{url}/metrics").text.splitlines() if line.startswith(name + " "))
        return float(line.split()[-1])

    before = number('gmai_answers_total{finish="length",model="tiny"}'), number('gmai_words_total{model="tiny"}')
    reply = ask(client, shown(TEXTS[3], 0), max_tokens=2)
    assert reply.choices[0].finish_reason == "length"
    after = number('gmai_answers_total{finish="length",model="tiny"}'), number('gmai_words_total{model="tiny"}')
    assert (after[0] - before[0], after[1] - before[1]) == (1, 2)
    assert number('gmai_running{model="tiny"}') == 0


def test_the_audit_log_has_a_line_an_answer_and_no_words(server, client):
    _, log = server
    before = len(log.read_text().splitlines())
    reply = ask(client, shown("the name of the patient is Doe", 0), user="Dr Who")
    (line,) = log.read_text().splitlines()[before:]
    told = json.loads(line)
    assert told["id"] == reply.id
    assert told["pictures"] == 1
    assert told["answer_tokens"] == [reply.usage.completion_tokens]
    assert told["finish"] == [reply.choices[0].finish_reason]
    assert not any(word in line for word in ("Doe", "Who", reply.choices[0].message.content))
    assert log.stat().st_mode & 0o777 == 0o600


def test_the_document_names_every_path_and_no_page_of_another_host(url):
    document = httpx.get(f"{url}/openapi.json").json()
    assert {"/v1/chat/completions", "/v1/models", "/health", "/metrics", "/demo/studies"} <= set(document["paths"])
    assert httpx.get(f"{url}/docs").status_code == 404
