"""Losses of given answers are those of a plain forward pass over the whole conversation, one at a time."""

import numpy as np
import pytest
import torch
from outspoken_models import outspoken

from gmai_vl.model import Request, Weighing, encode_prompt, mean_losses, prepare_image
from gmai_vl.model.chatml import text_tokens
from gmai_vl.records import ImageRef, Turn

BEGINS = "The answer is"
TEXTS = ("left.", "a tumour of the right kidney.", "左侧", "no")


@pytest.fixture(scope="module", params=["tiny", "tiny-clip"])
def vlm(request):
    return outspoken(request.param)


def weighings(begins=""):
    random = np.random.default_rng(1)
    pictures = [random.integers(0, 256, (30, 50, 3), dtype=np.uint8), np.zeros((20, 20), np.uint8)]
    asked = [
        Request((Turn("user", (ImageRef(0), "which side?")),), (pictures[0],)),
        Request((Turn("user", (ImageRef(0), "what is wrong with this patient")),), (pictures[0],)),
        Request((Turn("user", (ImageRef(0), "ct?")),), (pictures[1],)),
        Request((Turn("user", ("without a picture",)),)),
    ]
    return [Weighing(one, TEXTS[: 2 + place % 3], begins) for place, one in enumerate(asked)]


@torch.inference_mode()
def alone(vlm, weighing, answer):
    """The definition: -log p of each token of the answer, given all before it, and their mean."""
    prompt = encode_prompt(vlm.processor, weighing.request.turns)
    begins, whole = text_tokens(vlm.processor, [weighing.begins, weighing.begins + answer])
    ids = torch.tensor([prompt.input_ids + whole])
    images = [prepare_image(vlm.processor, weighing.request.images[index]) for index in prompt.images]
    logits = vlm.model(input_ids=ids, **({"pixel_values": torch.stack(images)} if images else {})).logits[0].double()
    first = len(prompt.input_ids) + len(begins)
    losses = [-logits[place - 1].log_softmax(-1)[ids[0, place]].item() for place in range(first, ids.shape[1])]
    return sum(losses) / len(losses)


@pytest.mark.parametrize("begins", ["", BEGINS])
@pytest.mark.parametrize("batch_size", [1, 8, 64])
def test_losses_are_those_of_each_answer_alone(vlm, begins, batch_size):
    given = weighings(begins)
    expected = [[alone(vlm, weighing, answer) for answer in weighing.answers] for weighing in given]
    got = mean_losses(vlm, given, batch_size=batch_size)
    assert [len(row) for row in got] == [2, 3, 4, 2]
    for one, other in zip(got, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def test_a_prompt_is_read_once_for_all_its_answers(vlm):
    seen = []
    layer = vlm.model.model.language_model.layers[0]
    hook = layer.register_forward_pre_hook(lambda _module, args: seen.append(tuple(args[0].shape[:2])))
    asked = weighings()[0]
    mean_losses(vlm, [asked], batch_size=8)
    hook.remove()
    prompt = len(encode_prompt(vlm.processor, asked.request.turns).input_ids)
    longest = max(map(len, text_tokens(vlm.processor, list(asked.answers))))
    assert seen == [(1, prompt), (2, longest - 1)]


def test_letters_of_one_token_need_no_second_pass(vlm):
    seen = []
    layer = vlm.model.model.language_model.layers[0]
    hook = layer.register_forward_pre_hook(lambda _module, args: seen.append(args[0].shape[0]))
    asked = Weighing(weighings()[0].request, ("A", "B", "C"))
    (losses,) = mean_losses(vlm, [asked], batch_size=8)
    hook.remove()
    assert all(len(tokens) == 1 for tokens in text_tokens(vlm.processor, ["A", "B", "C"]))
    assert seen == [1]
    assert losses == pytest.approx([alone(vlm, asked, letter) for letter in "ABC"], rel=1e-4)


def test_an_answer_without_words_of_its_own_is_refused(vlm):
    with pytest.raises(ValueError, match="answer '' has no tokens of its own after 'The answer is'"):
        mean_losses(vlm, [Weighing(weighings()[0].request, ("yes", ""), BEGINS)], batch_size=4)


def test_the_state_of_the_model_is_given_back(vlm):
    vlm.model.train()
    mean_losses(vlm, weighings()[:1], batch_size=4)
    assert vlm.model.training
    vlm.model.eval()
