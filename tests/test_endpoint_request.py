"""What is asked: the key in the cache, images as they arrive, how JSON is asked for and found in a reply."""

import io
import json
from typing import Any

import numpy as np
import pytest
from asking import PURSE, question, settings_for
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from pydantic import ValidationError
from stub_server import Question, Stub, answer

from gmai_vl.endpoint import Client, EndpointSettings, Prices, Reply, Request, parsed
from gmai_vl.foundation import UserError
from gmai_vl.records import ImageRef, Turn

SCHEMA = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
PICTURE = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
WITH_PICTURE = {"turns": (Turn("user", ("what is it", ImageRef(0))),), "images": (PICTURE,)}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
WORDS = st.text().filter(lambda text: "{" not in text and "}" not in text)


def reply(text: str, finish: str = "stop") -> Reply:
    return Reply(text=text, finish=finish, prompt_tokens=1, answer_tokens=1, model="m")


@pytest.mark.parametrize(
    "change",
    [
        {"url": "https://elsewhere/v1"},
        {"key_env": "SOME_KEY"},
        {"concurrency": 3, "timeout_s": 1, "retries": 0, "requests_per_minute": 7},
        {"budget": {"tokens": 9}, "prices": {"prompt": 1, "answer": 2}, "image_tokens": 5},
    ],
)
def test_what_an_answer_does_not_depend_on_is_not_part_of_its_key(change: dict[str, Any]) -> None:
    for request in (question("a"), question("a", schema=SCHEMA), question("", **WITH_PICTURE)):
        assert request.key(settings_for("http://here/v1")) == request.key(settings_for("http://here/v1", **change))


def test_all_that_an_answer_depends_on_is_part_of_its_key() -> None:
    here, brighter = settings_for("http://here/v1"), PICTURE.copy()
    brighter[3, 4, 2] += 1
    keys = [
        question("a").key(here),
        question("a").key(settings_for("http://here/v1", model="n")),
        question("b").key(here),
        question("a", turns=(Turn("system", ("a",)),)).key(here),
        question("a", max_tokens=17).key(here),
        question("a", temperature=0.5).key(here),
        question("a", seed=0).key(here),
        question("a", seed=1).key(here),
        question("a", schema=SCHEMA).key(here),
        question("a", schema=SCHEMA | {"title": "other"}).key(here),
        question("a", schema=SCHEMA).key(settings_for("http://here/v1", structured="object")),
        question("", **WITH_PICTURE).key(here),
        question("", **WITH_PICTURE | {"images": (brighter,)}).key(here),
        question("", **WITH_PICTURE | {"images": (PICTURE.reshape(5, 4, 3),)}).key(here),
        question("", **WITH_PICTURE | {"turns": (Turn("user", (ImageRef(0), "what is it")),)}).key(here),
    ]
    assert len(set(keys)) == len(keys)


def test_equal_requests_have_one_key() -> None:
    here = settings_for("http://here/v1")
    assert question("a", temperature=0).key(here) == question("a", temperature=0.0).key(here)
    assert question("", **WITH_PICTURE).key(here) == question("", **WITH_PICTURE | {"images": (PICTURE.copy(),)}).key(
        here
    )


@given(st.lists(arrays.arrays(np.uint8, st.sampled_from([(1, 1), (7, 3), (5, 4, 3)])), min_size=1, max_size=3))
def test_an_image_is_sent_as_a_png_of_equal_pixels(images: list[np.ndarray]) -> None:
    turn = Turn("user", ("before", *map(ImageRef, range(len(images))), "after"))
    request = Request(turns=(turn,), images=tuple(images), max_tokens=1)
    body = json.loads(request.body(settings_for("http://here/v1")))
    pieces = body["messages"][0]["content"]
    assert [piece["type"] for piece in pieces] == ["text", *["image_url"] * len(images), "text"]
    files = Question(prompt="", nth=0, body=body, headers={}).images
    for pixels, file in zip(images, files, strict=True):
        image = Image.open(io.BytesIO(file))
        assert image.format == "PNG"
        assert np.array_equal(np.asarray(image), pixels)


@pytest.mark.parametrize(
    ("structured", "form"),
    [
        ("schema", {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA}}),
        ("object", {"type": "json_object"}),
        ("none", None),
    ],
)
def test_json_is_asked_for_as_the_settings_say(structured: str, form: object, tmp_path) -> None:
    seen: list[Question] = []

    def script(asked: Question):
        seen.append(asked)
        return answer('{"answer": "yes"}')

    with Stub(script) as stub, Client(settings_for(stub, structured=structured), tmp_path / "s", PURSE) as client:
        replied = client.ask(question("is it", schema=SCHEMA, seed=3, temperature=0.5))
    assert isinstance(replied, Reply) and parsed(replied) == {"answer": "yes"}
    sent = {"model": "m", "messages": [{"role": "user", "content": "is it"}], "max_tokens": 16}
    sent |= {"temperature": 0.5, "seed": 3} | ({"response_format": form} if form else {})
    assert seen[0].body == sent
    assert "authorization" not in seen[0].headers
    assert seen[0].headers["accept-encoding"] == "identity"


@given(st.dictionaries(st.text(), JSON), WORDS, WORDS, st.sampled_from([None, 2]))
def test_an_object_in_words_or_fences_comes_back(
    value: dict[str, Any], before: str, after: str, indent: int | None
) -> None:
    text = json.dumps(value, indent=indent)
    assert parsed(reply(text)) == value
    assert parsed(reply(f"```json\n{text}\n```")) == value
    assert parsed(reply(before + text + after)) == value


@given(st.text() | st.text('{}[]":,0 a\n') | JSON.map(json.dumps))
def test_any_other_text_gives_a_reason(text: str) -> None:
    found = parsed(reply(text))
    assert isinstance(found, dict) or (found and "\n" not in found)


@pytest.mark.parametrize(
    "text", ['{"a":' * 100_000, "{" * 100_000 + "}" * 100_000, '{"a": ' + "9" * 10_000 + "}", "[{]}"]
)
def test_a_monstrous_text_gives_a_reason(text: str) -> None:
    assert isinstance(parsed(reply(text)), str)


def test_an_answer_that_was_cut_off_is_not_taken_for_whole() -> None:
    assert isinstance(parsed(reply('{"answer": {}}', finish="length")), str)


@given(st.text(), st.integers(0, 3))
def test_no_server_counts_more_than_the_upper_bound(text: str, images: int) -> None:
    picture = np.zeros((2, 2), np.uint8)
    request = question(text, turns=(Turn("user", (text, *map(ImageRef, range(images)))),), images=(picture,) * images)
    body = json.loads(request.body(settings_for("http://here/v1")))
    counted = Question(prompt=text, nth=0, body=body, headers={}).tokens
    bounds = request.most_tokens(settings_for("http://here/v1", image_tokens=100))
    assert all(count <= bound for count, bound in zip(counted, bounds, strict=True))


def test_a_reply_survives_the_form_of_the_cache() -> None:
    said = Reply(text='脑 "\x00\n', finish="stop", prompt_tokens=3, answer_tokens=4, model="m")
    assert Reply.from_json(said.as_json()) == said


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8000/v1",
        "ftp://here/v1",
        "http:///v1",
        "http://me:secret@here/v1",
        "http://here/v1?key=secret",
        "http://here:99999/v1",
        "http://here:port/v1",
        "http://he re/v1",
        "http://[::1/v1",
    ],
)
def test_an_address_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        settings_for(url)


def test_the_address_of_the_call_is_taken_for_the_base_address() -> None:
    assert (
        settings_for("http://here/v1/chat/completions").url == settings_for("http://here/v1/").url == "http://here/v1"
    )


@pytest.mark.parametrize("key", ["", "  ", "sk-a\nb", "sk-\u2013"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(key: str, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("SOME_KEY", key)
    with pytest.raises(UserError, match="SOME_KEY") as caught:
        Client(settings_for("http://here/v1", key_env="SOME_KEY"), tmp_path / "s", PURSE)
    assert "sk-" not in str(caught.value)


def test_tokens_cost_what_the_prices_say() -> None:
    prices = Prices(prompt=2, answer=8)
    assert EndpointSettings(url="http://here/v1", model="m", prices=prices).cost(500_000, 250_000) == 3.0
    assert EndpointSettings(url="http://here/v1", model="m").cost(500_000, 250_000) == 0.0
