"""Batched generation says what stock generation says one request at a time."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from outspoken_models import outspoken

from gmai_vl.model import (
    Request,
    Sampling,
    encode_prompt,
    generate,
    prepare_image,
    respond,
    rows_at_once,
)
from gmai_vl.model.decoding import drawn
from gmai_vl.records import ImageRef, Turn

NEW_TOKENS = 24
LIKING = 2.0


@pytest.fixture(scope="module", params=["tiny", "tiny-clip"])
def vlm(request):
    """A tiny model with weights so large that it says different things, and with a liking for the end token."""
    vlm = outspoken(request.param)
    end = vlm.processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    liking = torch.zeros(vlm.model.lm_head.out_features).index_fill(0, torch.tensor([end]), LIKING)
    vlm.model.lm_head.bias = torch.nn.Parameter(liking)
    return vlm


def requests():
    random = np.random.default_rng(1)
    pictures = [random.integers(0, 256, (30, 50, 3), dtype=np.uint8), np.zeros((20, 20), np.uint8)]
    texts = [
        "is it?",
        "which organ is shown in this picture",
        "ct",
        "where is the lesion, left or right?",
        "还有呢",
        "a",
    ]
    asked = [Request((Turn("user", (ImageRef(0), text)),), (pictures[n % 2],)) for n, text in enumerate(texts)]
    both = Request((Turn("user", (ImageRef(1), "or", ImageRef(0))),), tuple(pictures))
    dialogue = Request((Turn("user", ("hi",)), Turn("assistant", ("hello",)), Turn("user", ("what now?",))))
    return [*asked, both, dialogue]


def stock_answer(vlm, request):
    encoded = encode_prompt(vlm.processor, request.turns)
    images = [prepare_image(vlm.processor, request.images[index]) for index in encoded.images]
    with torch.inference_mode():
        out = vlm.model.generate(
            input_ids=torch.tensor([encoded.input_ids]),
            attention_mask=torch.ones(1, len(encoded.input_ids), dtype=torch.long),
            max_new_tokens=NEW_TOKENS,
            **({"pixel_values": torch.stack(images)} if images else {}),
        )
    return vlm.processor.tokenizer.decode(out[0, len(encoded.input_ids) :], skip_special_tokens=True).strip()


def test_same_answers_as_stock_generation_one_at_a_time(vlm):
    expected = [stock_answer(vlm, request) for request in requests()]
    assert len(set(map(len, expected))) > 3, "rows that leave the batch at different times are what this test is about"
    for batch_size in (1, 3, 8):
        assert generate(vlm, requests(), max_new_tokens=NEW_TOKENS, batch_size=batch_size) == expected


def test_an_answer_depends_on_the_image(vlm):
    random = np.random.default_rng(2)
    asked = [
        Request((Turn("user", (ImageRef(0), "?")),), (random.integers(0, 256, (9, 9), dtype=np.uint8),))
        for _ in range(4)
    ]
    assert len(set(generate(vlm, asked, max_new_tokens=8, batch_size=4))) > 1


def test_one_pass_over_each_distinct_image(vlm):
    seen = []
    hook = vlm.model.model.vision_tower.register_forward_hook(lambda _module, _args, out: seen.append(len(out[0])))
    generate(vlm, requests(), max_new_tokens=1, batch_size=2)
    hook.remove()
    assert sum(seen) == 2


def test_what_prompts_begin_with_is_computed_once(vlm):
    asked = [one for one in requests() if len(one.images) == 1]
    seen = []
    layer = vlm.model.model.language_model.layers[0]
    hook = layer.register_forward_pre_hook(lambda _module, args: seen.append(args[0].shape[:2].numel()))
    generate(vlm, asked, max_new_tokens=1, batch_size=8)
    hook.remove()
    prompts = [encode_prompt(vlm.processor, one.turns).input_ids for one in asked]
    image = vlm.processor.image_token_id
    beginning = max(at for at, token in enumerate(prompts[0]) if token == image) + 1
    longest = max(map(len, prompts))
    assert len(prompts) == 6
    # Two pictures, six questions: two beginnings, and six rests as long as the longest.
    assert seen == [2 * beginning, 6 * (longest - beginning)]


def test_prompts_of_one_length_are_together_whatever_their_image(vlm):
    asked = [one for one in requests() if len(one.images) == 1]
    seen = []
    layer = vlm.model.model.language_model.layers[0]
    hook = layer.register_forward_pre_hook(lambda _module, args: seen.append(tuple(args[0].shape[:2])))
    answers = generate(vlm, asked, max_new_tokens=1, batch_size=3)
    hook.remove()
    prompts = [encode_prompt(vlm.processor, one.turns).input_ids for one in asked]
    image = vlm.processor.image_token_id
    beginning = max(at for at, token in enumerate(prompts[0]) if token == image) + 1
    lengths = sorted(len(prompt) - beginning for prompt in prompts)
    assert seen == [(2, beginning), (3, lengths[2]), (3, lengths[5])]
    assert answers == generate(vlm, asked, max_new_tokens=1, batch_size=1)


@pytest.mark.parametrize(
    ("layers", "heads", "width", "dtype", "rows"),
    [
        (12, 3, 64, "float32", 32),  # SmolLM2-135M, 12 of its layers: 19 MB for 1,024 tokens
        (32, 8, 128, "bfloat16", 16),  # InternLM2-7B: 134 MB
        (28, 4, 128, "bfloat16", 32),  # Qwen2-7B: 59 MB
        (32, 32, 128, "bfloat16", 4),  # Vicuna-7B: 537 MB
        (40, 40, 128, "float32", 4),
    ],
)
def test_so_many_prompts_at_once_as_fit_2_gib(layers, heads, width, dtype, rows):
    text = SimpleNamespace(num_hidden_layers=layers, num_key_value_heads=heads, head_dim=width)
    config = SimpleNamespace(text_config=text)
    model = SimpleNamespace(config=config, dtype=getattr(torch, dtype), device=torch.device("cpu"))
    assert rows_at_once(SimpleNamespace(model=model)) == rows


def test_every_module_is_given_back_its_mode(vlm):
    vlm.model.train()
    vlm.model.model.vision_tower.eval()
    before = {name: module.training for name, module in vlm.model.named_modules()}
    generate(vlm, requests()[:1], max_new_tokens=1, batch_size=1)
    assert {name: module.training for name, module in vlm.model.named_modules()} == before
    vlm.model.eval()


def test_the_place_of_an_image_is_never_said():
    vlm = outspoken("tiny")
    image = vlm.processor.image_token_id
    wish = torch.zeros(vlm.model.lm_head.out_features).index_fill(0, torch.tensor([image]), 1e9)
    vlm.model.lm_head.bias = torch.nn.Parameter(wish)
    asked = [replace(requests()[0], sampling=sampling) for sampling in (None, Sampling(seed=1))]
    wishing = generate(vlm, asked, max_new_tokens=8, batch_size=2)
    vlm.model.lm_head.bias = None
    assert wishing == generate(vlm, asked, max_new_tokens=8, batch_size=2)
    assert all(wishing)


def test_a_missing_image_is_named(vlm):
    with pytest.raises(ValueError, match="request 0 shows image 1, 1 images were given"):
        generate(
            vlm,
            [Request((Turn("user", (ImageRef(1),)),), (np.zeros((4, 4), np.uint8),))],
            max_new_tokens=1,
            batch_size=1,
        )


def sampled(samplings, text="what is it"):
    picture = np.random.default_rng(1).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    return [Request((Turn("user", (ImageRef(0), text)),), (picture,), one) for one in samplings]


def test_a_seed_draws_the_same_words_in_any_company(vlm):
    seeds = [Sampling(temperature=1.3, top_p=1.0 if seed % 2 else 0.9, seed=seed) for seed in range(8)]
    alone = [generate(vlm, sampled([one]), max_new_tokens=8, batch_size=1)[0] for one in seeds]
    assert len(set(alone)) > 4
    for batch_size in (3, 16):
        asked = sampled([*seeds, None])
        *together, likely = generate(vlm, asked, max_new_tokens=8, batch_size=batch_size)
        assert together == alone
        assert likely == generate(vlm, sampled([None]), max_new_tokens=8, batch_size=1)[0]


def test_near_zero_temperature_is_greedy(vlm):
    cold = [Sampling(temperature=1e-4, seed=seed) for seed in range(3)]
    (greedy,) = set(generate(vlm, sampled([None] * 2), max_new_tokens=8, batch_size=2))
    assert set(generate(vlm, sampled(cold), max_new_tokens=8, batch_size=4)) == {greedy}


def test_tokens_are_drawn_as_often_as_they_are_likely():
    logits = torch.tensor([[0.0, 2.0, 1.0, -30.0, 1.5]])
    for sampling in (Sampling(temperature=0.7), Sampling(temperature=0.7, top_p=0.8)):
        chances = [(number + 0.5) / 4000 for number in range(4000)]
        tokens = drawn(logits.expand(4000, -1), [sampling] * 4000, chances)
        shares = (logits[0].double() / 0.7).softmax(-1)
        if sampling.top_p < 1:
            order = sorted(range(5), key=lambda token: -shares[token])
            kept = next(n for n in range(1, 6) if sum(shares[token] for token in order[:n]) >= 0.8)
            assert kept == 2
            shares = torch.tensor([share if token in order[:kept] else 0.0 for token, share in enumerate(shares)])
        expected = (shares / shares.sum()).tolist()
        assert (tokens.bincount(minlength=5) / 4000).tolist() == pytest.approx(expected, abs=1e-3)


@given(st.lists(st.floats(-40, 40), min_size=1, max_size=6), st.floats(0, 1, exclude_max=True), st.floats(0.01, 1))
def test_what_has_no_chance_is_never_drawn(logits, chance, top_p):
    row = torch.tensor([[*logits, -math.inf]])
    (token,) = drawn(row, [Sampling(temperature=0.5, top_p=top_p)], [chance]).tolist()
    assert token < len(logits)


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"temperature": math.inf}, {"top_p": 0.0}, {"top_p": 1.1}])
def test_sampling_outside_its_range_is_refused(wrong):
    with pytest.raises(ValueError, match="must be above 0"):
        Sampling(**wrong)


def test_prompts_that_are_the_same_are_read_once(vlm):
    asked = sampled([Sampling(seed=seed) for seed in range(5)])
    seen = []
    layer = vlm.model.model.language_model.layers[0]
    hook = layer.register_forward_pre_hook(lambda _module, args: seen.append(tuple(args[0].shape[:2])))
    generate(vlm, asked, max_new_tokens=1, batch_size=8)
    hook.remove()
    assert seen == [(1, len(encode_prompt(vlm.processor, asked[0].turns).input_ids) - 1), (5, 1)]


def test_an_answer_says_how_long_it_is_and_whether_it_was_cut_off(vlm):
    whole = respond(vlm, requests(), max_new_tokens=NEW_TOKENS, batch_size=3)
    assert {answer.is_cut_off for answer in whole} == {True, False}
    for answer, shorter in zip(whole, respond(vlm, requests(), max_new_tokens=3, batch_size=3), strict=True):
        assert shorter.is_cut_off == (answer.tokens >= 3)
        assert answer.is_cut_off == (answer.tokens == NEW_TOKENS)
        assert shorter.tokens == min(3, answer.tokens)
