"""The training losses: of the text, and of the words that an image speaks for before any text is read."""

# B conversations · T tokens of the longest · N tokens of all · D language width · K positions with a label
# V vocabulary · W words · P tokens of an image

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
    where there is a label: those of all positions would be most of the memory. Padding, a third of a mixed batch, is
    left out: the conversations go through the model as one row, each from position 0 and attending to itself only.
    """
    real_BT = batch.attention_mask.bool()
    place_BT = batch.attention_mask.cumsum(dim=1) - 1
    hidden_ND = model.model(
        input_ids=batch.input_ids[real_BT][None],
        position_ids=place_BT[real_BT][None],
        pixel_values=batch.pixel_values,
        use_cache=False,
        segments=batch.attention_mask.sum(dim=1).tolist(),
    ).last_hidden_state[0]
    next_N = batch.labels.roll(-1, dims=1)[real_BT]
    # What a conversation begins with, no token before it tells.
    next_N[place_BT.roll(-1, dims=1)[real_BT] <= 0] = IGNORED
    labelled_N = next_N != IGNORED
    logits_KV = model.lm_head(hidden_ND[labelled_N]).float()
    return F.cross_entropy(logits_KV, next_N[labelled_N], reduction="sum"), int(labelled_N.sum())


def words_loss_sum(model: LlavaForConditionalGeneration, batch: Batch, words_W: Tensor) -> tuple[Tensor, int]:
    """Return how badly the image tokens alone tell which of the tokens `words_W` the answers use.

    A word is likely where one image token is like its embedding, taken from the mean of all embeddings; the loss is
    the sum of the binary cross-entropies of all words and images, in float32, given with the number of labelled tokens
    as `loss_sum` does. The language model is not run, so this costs a tenth of it and reaches vision tower and
    projector only. Raises ValueError unless every conversation shows one image.
    """
    if batch.pixel_values is None or len(batch.pixel_values) != len(batch.labels):
        shown = 0 if batch.pixel_values is None else len(batch.pixel_values)
        raise ValueError(f"{shown} images for {len(batch.labels)} conversations; each must show one")
    pooled = model.get_image_features(pixel_values=batch.pixel_values).pooler_output
    image_BPD = torch.stack(list(pooled)).float()
    embedding_VD = model.get_input_embeddings().weight.detach().float()
    word_WD = embedding_VD[words_W] - embedding_VD.mean(dim=0)
    likeness_BPW = SHARPNESS * image_BPD @ word_WD.T
    logits_BW = likeness_BPW.logsumexp(dim=1) - math.log(image_BPD.shape[1]) + LOG_ODDS_OF_SILENCE
    used_BW = (batch.labels[:, :, None] == words_W).any(dim=1)
    loss = F.binary_cross_entropy_with_logits(logits_BW, used_BW.float(), reduction="sum")
    return loss, int((batch.labels != IGNORED).sum())
