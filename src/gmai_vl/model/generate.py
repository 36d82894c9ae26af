"""Batched generation, greedy or sampled: one pass over each distinct image and over what several prompts begin with."""

# B requests of a batch · T tokens · D language width · V vocabulary

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from gmai_vl.foundation import stable_fraction
from gmai_vl.model.asked import Opened, Request, Sampling, answering, hidden, image_features, opened, prepare
from gmai_vl.model.vlm import Vlm


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model says to a request."""

    text: str
    """Without the end token, and without white space around it."""

    tokens: int
    """Of the answer, its end token not among them."""

    is_cut_off: bool
    """Whether it was still going on at its longest length."""


def generate(vlm: Vlm, requests: Sequence[Request], *, max_new_tokens: int, batch_size: int) -> list[str]:
    """Return the texts of `respond`."""
    return [answer.text for answer in respond(vlm, requests, max_new_tokens=max_new_tokens, batch_size=batch_size)]


def respond(vlm: Vlm, requests: Sequence[Request], *, max_new_tokens: int, batch_size: int) -> list[Answer]:
    """Answer every request with its most likely words, or sampled ones, in the order of the requests.

    An answer ends at the tokenizer's end token, <|im_end|> in ours, or after `max_new_tokens`. The features of all
    distinct images of one call are held in memory (P x D numbers each), so give many requests in several calls.
    Raises ValueError where a request shows an image that it does not bring.
    """
    tokenizer = vlm.processor.tokenizer
    with answering(vlm):
        prompts, pixels = prepare(vlm, requests)
        features = image_features(vlm, pixels, batch_size)
        said: dict[int, list[int]] = {}
        for batch in opened(vlm, prompts, features, batch_size):
            tokens = _say(vlm, batch, max_new_tokens, stop=tokenizer.eos_token_id)
            said |= zip((prompt.number for prompt in batch.prompts), tokens, strict=True)
    return [_answer(tokenizer, said[number]) for number in range(len(requests))]


def _answer(tokenizer: PreTrainedTokenizerBase, tokens: list[int]) -> Answer:
    is_cut_off = tokens[-1:] != [tokenizer.eos_token_id]
    text = tokenizer.decode(tokens, skip_special_tokens=True).strip()
    return Answer(text, len(tokens) - (not is_cut_off), is_cut_off)


def _say(vlm: Vlm, batch: Opened, max_new_tokens: int, *, stop: int) -> list[list[int]]:
    """Return the new tokens of every prompt, up to its stop token; a finished row leaves the batch at once."""
    model, embeds_BTD, mask_BT, cache = vlm.model, batch.embeds_BTD, batch.mask_BT, batch.cache
    said: list[list[int]] = [[] for _ in batch.prompts]
    alive = list(range(len(batch.prompts)))
    for place in range(max_new_tokens):
        logits_BV = model.lm_head(hidden(vlm, embeds_BTD, mask_BT, cache)[:, -1])
        logits_BV[:, vlm.processor.image_token_id] = -torch.inf  # the place of an image is no word
        chosen_B = _chosen(logits_BV, [batch.prompts[row].sampling for row in alive], place)
        for row, token in zip(alive, chosen_B.tolist(), strict=True):
            said[row].append(token)
        going_B = chosen_B != stop
        if not going_B.all():
            keep = going_B.nonzero()[:, 0]
            alive = [alive[row] for row in keep.tolist()]
            if not alive:
                break
            cache.batch_select_indices(keep)
            chosen_B, mask_BT = chosen_B[keep], mask_BT[keep]
        embeds_BTD = model.get_input_embeddings()(chosen_B[:, None])
        mask_BT = torch.cat([mask_BT, mask_BT.new_ones(len(mask_BT), 1)], dim=1)
    return said


def _chosen(logits_BV: Tensor, samplings: Sequence[Sampling | None], place: int) -> Tensor:
    """Return the next token of every row [B]: the most likely one, or where it is to be sampled the one drawn."""
    chosen_B = logits_BV.argmax(dim=-1)
    for whole in (True, False):  # sorting a vocabulary takes longer than a small model's step, so only where it must be
        sampled = {row: one for row, one in enumerate(samplings) if one is not None and (one.top_p == 1) == whole}
        if sampled:
            chances = [stable_fraction(one.seed, place) for one in sampled.values()]
            chosen_B[list(sampled)] = drawn(logits_BV[list(sampled)], list(sampled.values()), chances)
    return chosen_B


def drawn(logits_RV: Tensor, samplings: Sequence[Sampling], chances: Sequence[float]) -> Tensor:
    """Return the tokens [R] that chances in [0, 1) fall on.

    One number draws a token, so that the same seed draws the same answer in any batch. Where some rows have a top_p
    below 1, the words of all rows stand from the most likely to the least; else in the order of the vocabulary.
    """
    temperature_R1 = logits_RV.new_tensor([[one.temperature] for one in samplings], dtype=torch.float64)
    top_p_R1 = logits_RV.new_tensor([[one.top_p] for one in samplings], dtype=torch.float64)
    chance_R1 = logits_RV.new_tensor([[chance] for chance in chances], dtype=torch.float64)
    share_RV = (logits_RV / temperature_R1).softmax(dim=-1)
    order_RV = None
    if any(one.top_p < 1 for one in samplings):
        share_RV, order_RV = share_RV.sort(dim=-1, descending=True, stable=True)
        # The word that reaches top_p is in as well (Holtzman et al. 2020).
        share_RV = share_RV.where(share_RV.cumsum(dim=-1) - share_RV < top_p_R1, 0.0)
    up_to_RV = share_RV.cumsum(dim=-1)
    last_R1 = (share_RV > 0).double().cumsum(dim=-1).argmax(dim=-1, keepdim=True)
    place_R1 = torch.searchsorted(up_to_RV, chance_R1 * up_to_RV[:, -1:], right=True).minimum(last_R1)
    return (place_R1 if order_RV is None else order_RV.gather(-1, place_R1))[:, 0]
