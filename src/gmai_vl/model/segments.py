"""Conversations that lie end to end in one row, without padding: attention stays within each of them."""

# H heads · K heads of keys and values · T tokens of the row · E width of a head

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from transformers import AttentionInterface, AttentionMaskInterface, LlavaForConditionalGeneration
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from gmai_vl.foundation import UserError

NAME = "segments"
"""Of this attention among those of transformers."""


def attend_within_segments(model: LlavaForConditionalGeneration) -> None:
    """Let the language part of `model` take `segments`; without them it computes what it computed before.

    Raises UserError for one whose attention caps its scores or has sinks, which would be passed over in silence.
    """
    text = model.config.text_config
    has_sinks = any(name.endswith(".sinks") for name, _ in model.model.language_model.named_parameters())
    if has_sinks or getattr(text, "attn_logit_softcapping", None):
        what = "has sinks in its attention" if has_sinks else "caps its attention scores"
        raise UserError(f"language model of type `{text.model_type}`: {what}, which is not supported; take another one")
    model.set_attn_implementation({"text_config": NAME})


def _attention(
    module: nn.Module,
    query_1HTE: Tensor,
    key_1KTE: Tensor,
    value_1KTE: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    segments: Sequence[int] | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attend causally within each of the `segments`, token counts that add up to T; return [1, T, H, E].

    A loop costs a CPU less than one pass under a mask: it computes nothing that the mask would then hide.
    """
    if segments is None:
        options |= {"scaling": scaling, "dropout": dropout, "sliding_window": sliding_window}
        return sdpa_attention_forward(module, query_1HTE, key_1KTE, value_1KTE, attention_mask, **options)
    groups = query_1HTE.shape[1] // key_1KTE.shape[1]
    states = (query_1HTE, key_1KTE.repeat_interleave(groups, dim=1), value_1KTE.repeat_interleave(groups, dim=1))
    attended = [
        _causal(query, key, value, scaling, dropout, sliding_window)
        for query, key, value in zip(*(state.split(list(segments), dim=2) for state in states), strict=True)
    ]
    return torch.cat(attended, dim=2).transpose(1, 2), None


def _causal(
    query_1HTE: Tensor, key_1HTE: Tensor, value_1HTE: Tensor, scaling: float, dropout: float, window: int | None
) -> Tensor:
    """Return what each token reads from itself and those before it, of a window the last `window`; [1, H, T, E].

    Written out: PyTorch's fused kernel takes a CPU three times as long in the backward of a segment of 70 tokens
    (benchmarks/segments.py).
    """
    pairs_TT = torch.ones(query_1HTE.shape[2], query_1HTE.shape[2], dtype=torch.bool, device=query_1HTE.device)
    hidden_TT = pairs_TT.triu(1) if window is None else pairs_TT.triu(1) | pairs_TT.tril(-window)
    scores_1HTT = (query_1HTE @ key_1HTE.transpose(2, 3) * scaling).masked_fill(hidden_TT, -torch.inf)
    exact = torch.promote_types(scores_1HTT.dtype, torch.float32)
    weights_1HTT = scores_1HTT.softmax(dim=-1, dtype=exact).to(query_1HTE.dtype)
    return F.dropout(weights_1HTT, dropout) @ value_1HTE


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
