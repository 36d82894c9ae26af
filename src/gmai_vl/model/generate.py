"""Batched greedy generation: one pass over each distinct image and over what several prompts begin with."""

# B requests of a batch · T tokens · D language width

from collections.abc import Sequence

import torch

from gmai_vl.model.asked import Opened, Request, answering, hidden, image_features, opened, prepare
from gmai_vl.model.vlm import Vlm


def generate(vlm: Vlm, requests: Sequence[Request], *, max_new_tokens: int, batch_size: int) -> list[str]:
    """Answer every request with its most likely words and return the answers in the order of the requests.

    An answer ends at the tokenizer's end token, <|im_end|> in ours, or after `max_new_tokens`. The features of all
    distinct images of one call are held in memory (P x D numbers each), so give many requests in several calls.
    Raises ValueError where a request shows an image that it does not bring.
    """
    tokenizer = vlm.processor.tokenizer
    answers: dict[int, str] = {}
    with answering(vlm):
        prompts, pixels = prepare(vlm, requests)
        features = image_features(vlm, pixels, batch_size)
        for batch in opened(vlm, prompts, features, batch_size):
            said = _greedy(vlm, batch, max_new_tokens, stop=tokenizer.eos_token_id)
            for prompt, tokens in zip(batch.prompts, said, strict=True):
                answers[prompt.number] = tokenizer.decode(tokens, skip_special_tokens=True).strip()
    return [answers[number] for number in range(len(requests))]


def _greedy(vlm: Vlm, batch: Opened, max_new_tokens: int, *, stop: int) -> list[list[int]]:
    """Return the new tokens of every prompt, without the stop token. A finished row leaves the batch at once."""
    model, embeds_BTD, mask_BT, cache = vlm.model, batch.embeds_BTD, batch.mask_BT, batch.cache
    said: list[list[int]] = [[] for _ in range(len(embeds_BTD))]
    alive = torch.arange(len(embeds_BTD), device=embeds_BTD.device)
    for _ in range(max_new_tokens):
        chosen_B = model.lm_head(hidden(vlm, embeds_BTD, mask_BT, cache)[:, -1]).argmax(dim=-1)
        going_B = chosen_B != stop
        if not going_B.all():
            keep = going_B.nonzero()[:, 0]
            if not len(keep):
                break
            cache.batch_select_indices(keep)
            alive, chosen_B, mask_BT = alive[keep], chosen_B[keep], mask_BT[keep]
        for row, token in zip(alive.tolist(), chosen_B.tolist(), strict=True):
            said[row].append(token)
        embeds_BTD = model.get_input_embeddings()(chosen_B[:, None])
        mask_BT = torch.cat([mask_BT, mask_BT.new_ones(len(mask_BT), 1)], dim=1)
    return said
