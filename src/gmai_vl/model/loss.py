"""The training losses: of the text, and of the words that an image speaks for before any text is read."""

# B conversations · T tokens of all of them · D language width · K supervised tokens · V vocabulary · W words
# P tokens of an image

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.checkpoint import checkpoint
from transformers import LlavaForConditionalGeneration

from gmai_vl.model.chatml import IGNORED, Batch
from gmai_vl.model.segments import hidden_states

LOGITS_AT_ONCE = 2**26
"""256 MiB in float32. With 2000 supervised tokens of 151,936 words that leaves 1.2 GiB of 3.6 at the peak and costs a
CPU two thirds more time for the head; smaller pieces cost more than they save (benchmarks/cross_entropy.py)."""

SHARPNESS = 4.0
"""By so much a likeness of image token and word counts: image features then end up about as large as words are."""

LOG_ODDS_OF_SILENCE = -4.0
"""Log-odds of a word that the image does not speak for: 2 %, about the share of all words that one caption uses."""


def loss_sum(model: LlavaForConditionalGeneration, batch: Batch) -> tuple[Tensor, int]:
    """Return the sum of the cross-entropies of all supervised tokens, in float32, and how many there are.

    A sum, so that the caller can take one mean over a global batch however it is cut up. Each conversation begins at
    position 0 and attends to itself only. Logits are computed only where a token is supervised, and of many such tokens
    one piece after the other, again in the backward: all of them would be most of the memory.
    Raises UserError where the language model would mix the conversations.
    """
    hidden_KD, next_K, _ = _supervised(model, batch)
    *pieces, last = _pieces(model, hidden_KD, next_K)
    sums = [checkpoint(_cross_entropy_sum, model.lm_head, *piece, use_reentrant=False) for piece in pieces]
    # The backward begins with the last piece, so nothing is gained by making its logits twice.
    return torch.stack([*sums, _cross_entropy_sum(model.lm_head, *last)]).sum(), len(next_K)


@torch.no_grad()
def answers(model: LlavaForConditionalGeneration, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return of each conversation [B] the sum of its supervised tokens' cross-entropies, and whether all are right.

    Right is a token that is the most likely one given the true tokens before it: those are the answers that greedy
    decoding would give exactly. One without a supervised token counts as right.
    """
    hidden_KD, next_K, number_K = _supervised(model, batch)
    losses, right = [], []
    for hidden, expected in _pieces(model, hidden_KD, next_K):
        logits = _logits(model.lm_head, hidden)
        losses.append(F.cross_entropy(logits, expected, reduction="none"))
        right.append(logits.argmax(dim=-1) == expected)
    loss_K = torch.cat(losses)
    loss_B = loss_K.new_zeros(len(batch.lengths)).index_add(0, number_K, loss_K)
    right_B = torch.ones(len(batch.lengths), dtype=torch.bool, device=next_K.device)
    right_B[number_K[~torch.cat(right)]] = False
    return loss_B, right_B


def _supervised(model: LlavaForConditionalGeneration, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Return hidden states [K, D] before the supervised tokens, those tokens [K], and their conversations' numbers."""
    hidden_TD = hidden_states(model, batch)
    lengths_B = torch.tensor(batch.lengths, device=batch.labels.device)
    next_T = batch.labels.roll(-1)
    # What a conversation begins with, no token before it tells.
    next_T[lengths_B.cumsum(dim=0) - 1] = IGNORED
    supervised_K = (next_T != IGNORED).nonzero()[:, 0]
    number_T = torch.arange(len(lengths_B), device=lengths_B.device).repeat_interleave(lengths_B)
    return hidden_TD[supervised_K], next_T[supervised_K], number_T[supervised_K]


def _pieces(model: LlavaForConditionalGeneration, hidden_KD: Tensor, next_K: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Cut the supervised tokens into pieces that have at most LOGITS_AT_ONCE logits each."""
    most = max(1, LOGITS_AT_ONCE // model.config.text_config.vocab_size)
    count = max(1, -(-len(next_K) // most))
    return zip(hidden_KD.tensor_split(count), next_K.tensor_split(count), strict=True)


def _cross_entropy_sum(head: nn.Module, hidden_KD: Tensor, next_K: Tensor) -> Tensor:
    return F.cross_entropy(_logits(head, hidden_KD), next_K, reduction="sum")


def _logits(head: nn.Module, hidden_KD: Tensor) -> Tensor:
    logits_KV = head(hidden_KD)
    return logits_KV.to(torch.promote_types(logits_KV.dtype, torch.float32))


def words_loss_sum(model: LlavaForConditionalGeneration, batch: Batch, words_W: Tensor) -> tuple[Tensor, int]:
    """Return how badly the image tokens alone tell which of the tokens `words_W` the answers use.

    A word is likely where one image token is like its embedding, taken from the mean of all embeddings; the loss is
    the sum of the binary cross-entropies of all words and images, in float32, given with the number of labelled tokens
    as `loss_sum` does. The language model is not run, so this costs a tenth of it and reaches vision tower and
    projector only. Raises ValueError unless every conversation shows one image.
    """
    if batch.pixel_values is None or len(batch.pixel_values) != len(batch.lengths):
        shown = 0 if batch.pixel_values is None else len(batch.pixel_values)
        raise ValueError(f"{shown} images for {len(batch.lengths)} conversations; each must show one")
    pooled = model.get_image_features(pixel_values=batch.pixel_values).pooler_output
    image_BPD = torch.stack(list(pooled)).float()
    embedding_VD = model.get_input_embeddings().weight.detach().float()
    word_WD = embedding_VD[words_W] - embedding_VD.mean(dim=0)
    likeness_BPW = SHARPNESS * image_BPD @ word_WD.T
    logits_BW = likeness_BPW.logsumexp(dim=1) - math.log(image_BPD.shape[1]) + LOG_ODDS_OF_SILENCE
    used_BW = torch.stack([torch.isin(words_W, labels) for labels in batch.labels.split(batch.lengths)])
    loss = F.binary_cross_entropy_with_logits(logits_BW, used_BW.float(), reduction="sum")
    return loss, int((batch.labels != IGNORED).sum())
