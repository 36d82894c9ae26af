"""Text that comes in pieces is the text of the whole answer, and stop words end it wherever they fall."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from internlm2_folder import write_llama_tokenizer
from small_models import byte_tokenizer, texts
from transformers import AutoTokenizer

from gmai_vl.serving.speech import Speech


@pytest.fixture(scope="module", params=["smollm", "qwen2", "llama"])
def tokenizer(request, tmp_path_factory):
    """Return a tokenizer of bytes, one that normalizes too, or one that writes blanks as marks."""
    if request.param != "llama":
        return byte_tokenizer(request.param)
    folder = tmp_path_factory.mktemp("llama")
    write_llama_tokenizer(folder)
    return AutoTokenizer.from_pretrained(folder)


def said(tokenizer, tokens, stops=()):
    """Return the pieces of an answer, and whether a stop word ended it."""
    speech = Speech(tokenizer, stops)
    pieces = []
    for token in tokens:
        pieces.append(speech.add(token))
        if speech.is_stopped:
            break
    return [*pieces, speech.end()], speech.is_stopped


@given(st.integers(0, 10**6))
def test_pieces_of_words_make_the_whole_text(tokenizer, seed):
    (text,) = texts(1, seed)
    tokens = tokenizer(text, add_special_tokens=False).input_ids
    pieces, _ = said(tokenizer, tokens)
    whole = tokenizer.decode(tokens, skip_special_tokens=True).strip()
    assert "".join(pieces) == whole
    assert len(whole.split()) < 3 or len([piece for piece in pieces if piece]) > 1, "text comes before the end"


@given(st.data())
def test_pieces_of_any_tokens_make_the_whole_text(tokenizer, data):
    # Of lone bytes that are no character Llama's decoder takes back also those before them: not told piece by piece.
    odd = ("<0x", "[UNUSED")
    known = [token for text, token in tokenizer.get_vocab().items() if not text.startswith(odd)]
    tokens = data.draw(st.lists(st.sampled_from(sorted(known)), max_size=40))
    pieces, _ = said(tokenizer, tokens)
    assert "".join(pieces) == tokenizer.decode(tokens, skip_special_tokens=True).strip()


@given(st.integers(0, 10**6), st.data())
def test_the_answer_ends_before_the_stop_word_that_is_whole_first(tokenizer, seed, data):
    (text,) = texts(1, seed)
    tokens = tokenizer(text, add_special_tokens=False).input_ids
    whole = tokenizer.decode(tokens, skip_special_tokens=True).strip()
    begin = data.draw(st.integers(0, max(0, len(whole) - 1)))
    some = whole[begin : begin + data.draw(st.integers(1, 6))]
    stops = tuple(stop for stop in (some, data.draw(st.sampled_from(["zzz", "##", "x"]))) if stop.strip())
    pieces, is_stopped = said(tokenizer, tokens, stops)
    found = [(place + len(stop), place) for stop in stops if (place := whole.find(stop)) >= 0]
    assert is_stopped == bool(found)
    assert "".join(pieces) == (whole[: min(found)[1]].rstrip() if found else whole)


def test_half_a_character_is_held_back(tokenizer):
    tokens = tokenizer("肺🫁", add_special_tokens=False).input_ids
    pieces, _ = said(tokenizer, tokens)
    assert "".join(pieces) == "肺🫁"
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)
