"""Answers that join and leave while others are written say what they say alone."""

from copy import deepcopy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from outspoken_models import outspoken
from serving_requests import question
from transformers import Gemma3TextConfig, LlavaForConditionalGeneration

from gmai_vl.model import Sampling, Vlm
from gmai_vl.model.asked import answering, image_features, opened, prepare
from gmai_vl.model.decoding import Decoding

WORDS = 12
QUESTIONS = 6


@pytest.fixture(scope="module")
def llama():
    return outspoken()


def sliding(vlm):
    """Return a model of the same size whose layers see 7 tokens back, but for every second one."""
    of = vlm.model.config
    text = Gemma3TextConfig(
        vocab_size=of.text_config.vocab_size,
        hidden_size=of.text_config.hidden_size,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        sliding_window=7,
        layer_types=["sliding_attention", "full_attention"] * 2,
    )
    torch.manual_seed(0)
    config = deepcopy(of)
    config.text_config = text
    model = LlavaForConditionalGeneration(config).eval()
    with torch.no_grad():
        for weight in model.model.language_model.parameters():
            if weight.ndim == 2:
                weight += torch.randn_like(weight) * 0.5
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    return Vlm(model, vlm.processor)


def said_alone(vlm, requests):
    """Return the tokens of each request by itself, read anew from its beginning for every word."""
    return [run(vlm, [request], [0])[0] for request in requests]


def run(vlm, requests, joins, leaves=None):
    """Return the tokens of all requests; number i joins before step `joins[i]` and leaves after `leaves[i]` words."""
    said = [[] for _ in requests]
    wanted = leaves or [WORDS] * len(requests)
    with answering(vlm):
        prompts, pixels = prepare(vlm, requests)
        features = image_features(vlm, pixels, 8)
        decoding = Decoding(vlm)
        for step in range(max(joins) + WORDS + 1):
            words = decoding.step() if decoding else []
            newcomers = [prompt for prompt in prompts if joins[prompt.number] == step]
            for batch in opened(vlm, newcomers, features, 8):
                words += decoding.join(batch)
            for word in words:
                said[word.number].append(word.token)
            decoding.leave([number for number, tokens in enumerate(said) if len(tokens) == wanted[number]])
        assert not decoding
    return said


@pytest.fixture(scope="module", params=["llama", "sliding windows"])
def vlm(request, llama):
    return llama if request.param == "llama" else sliding(llama)


@pytest.fixture(scope="module")
def alone(vlm):
    return said_alone(vlm, [question(number) for number in range(QUESTIONS)])


@given(
    st.lists(st.integers(0, 9), min_size=QUESTIONS, max_size=QUESTIONS),
    st.lists(st.integers(1, WORDS), min_size=QUESTIONS, max_size=QUESTIONS),
)
def test_company_that_comes_and_goes_changes_no_answer(vlm, alone, joins, leaves):
    said = run(vlm, [question(number) for number in range(QUESTIONS)], joins, leaves)
    assert said == [tokens[:most] for tokens, most in zip(alone, leaves, strict=True)]


def test_answers_alone_differ(alone):
    assert len({tuple(tokens) for tokens in alone}) > QUESTIONS // 2, "else the test above could not fail"


def test_a_seed_draws_the_same_words_whenever_it_joins(llama):
    requests = [question(number, sampling=Sampling(temperature=1.5, seed=number)) for number in range(4)]
    assert run(llama, requests, [0, 2, 5, 5]) == said_alone(llama, requests)


def test_columns_of_answers_that_left_are_given_up(llama):
    long, short = question(1), question(2)
    with answering(llama):
        (first, second), pixels = prepare(llama, [long, short])
        assert len(first.input_ids) > len(second.input_ids)
        features = image_features(llama, pixels, 8)
        decoding = Decoding(llama)
        for prompt in (first, second):
            for batch in opened(llama, [prompt], features, 1):
                decoding.join(batch)
        decoding.leave([first.number])
        seen = []
        layer = llama.model.model.language_model.layers[0].self_attn
        hook = layer.register_forward_hook(lambda _module, _args, _out: seen.append(decoding._cache.get_seq_length()))
        decoding.step()
        hook.remove()
    assert seen == [len(second.input_ids) + 1]


def test_logprobs_are_those_of_the_whole_vocabulary(llama):
    request = question(0, likeliest=3)
    with answering(llama):
        (prompt,), pixels = prepare(llama, [request])
        features = image_features(llama, pixels, 8)
        (batch,) = opened(llama, [prompt], features, 1)
        decoding = Decoding(llama)
        words = decoding.join(batch) + decoding.step()
        # Read again in one pass, without a cache.
        ids = torch.tensor([[*prompt.input_ids, words[0].token]])
        embeds = llama.model.get_input_embeddings()(ids)
        is_image = ids == llama.processor.image_token_id
        embeds = embeds.masked_scatter(is_image[..., None], torch.cat([features[name] for name in prompt.images]))
        logits = llama.model(inputs_embeds=embeds).logits[0, -2:]
        logits[:, llama.processor.image_token_id] = -torch.inf
        logprobs = logits.log_softmax(dim=-1)
    for word, expected in zip(words, logprobs, strict=True):
        top = expected.topk(3)
        assert [token for token, _ in word.likeliest] == top.indices.tolist()
        assert [logprob for _, logprob in word.likeliest] == pytest.approx(top.values.tolist(), abs=1e-4)
        assert word.logprob == pytest.approx(float(expected[word.token]), abs=1e-4)
        assert word.token == word.likeliest[0][0]
