"""The training losses: of the text, and of the words that an image speaks for before any text is read."""

# B conversations · T tokens of all of them · D language width · K positions with a label · V vocabulary · W words
# P tokens of an image

import math

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from transformers import LlavaForConditionalGeneration

from gmai_vl.model.chatml import IGNORED, Batch

SHARPNESS = 4.0
"""By so much a likeness of image token and word counts: image features then end up about as large as words are."""

LOG_ODDS_OF_SILENCE = -4.0
"""Log-odds of a word that the image does not speak for: 2 %, about the share of all words that one caption uses."""


def loss_sum(model: LlavaForConditionalGeneration, batch: Batch) -> tuple[Tensor, int]:
    """Return the sum of the cross-entropies of all labelled tokens, in float32, and how many there are.

    A sum, so that the caller can take one mean over a global batch however it is cut up. Logits are computed only
    where there is a label: those of all positions would be most of the memory. Each conversation begins at position 0
    and attends to itself only.
    """
    hidden_TD = model.model(
        input_ids=batch.input_ids[None],
        position_ids=torch.cat([torch.arange(length) for length in batch.lengths])[None].to(batch.input_ids.device),
        pixel_values=batch.pixel_values,
        use_cache=False,
        segments=batch.lengths,
    ).last_hidden_state[0]
    next_T = batch.labels.roll(-1)
    # What a conversation begins with, no token before it tells.
    next_T[torch.tensor(batch.lengths).cumsum(dim=0) - 1] = IGNORED
    labelled_T = next_T != IGNORED
    logits_KV = model.lm_head(hidden_TD[labelled_T]).float()
    return F.cross_entropy(logits_KV, next_T[labelled_T], reduction="sum"), int(labelled_T.sum())


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
