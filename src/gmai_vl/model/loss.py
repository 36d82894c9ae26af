"""The training loss, with logits only where there is a label: those of all positions would be most of the memory."""

# B conversations · T tokens · D language width · K positions with a label

from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from transformers import LlavaForConditionalGeneration

from gmai_vl.model.chatml import IGNORED, Batch


def loss_sum(model: LlavaForConditionalGeneration, batch: Batch) -> tuple[Tensor, int]:
    """Return the sum of the cross-entropies of all labelled tokens, in float32, and how many there are.

    A sum, so that the caller can take one mean over a global batch however it is cut up.
    """
    hidden_BTD = model.model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        pixel_values=batch.pixel_values,
        use_cache=False,
    ).last_hidden_state
    next_BT = batch.labels[:, 1:]
    labelled_BT = next_BT != IGNORED
    logits_KV = model.lm_head(hidden_BTD[:, :-1][labelled_BT]).float()
    return F.cross_entropy(logits_KV, next_BT[labelled_BT], reduction="sum"), int(labelled_BT.sum())
