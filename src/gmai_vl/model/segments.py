"""Conversations that lie end to end in one row, without padding: attention stays within each of them."""

# H heads · K heads of keys and values · T tokens of the row · E width of a head

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, LlavaForConditionalGeneration
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "segments"
"""Of this attention among those of transformers."""


def attend_within_segments(model: LlavaForConditionalGeneration) -> None:
    """Let the language part of `model` take `segments`; without them it computes what it computed before."""
    model.set_attn_implementation({"text_config": NAME})


def _attention(
    module: nn.Module,
    query_1HTE: Tensor,
    key_1KTE: Tensor,
    value_1KTE: Tensor,
    attention_mask: Tensor | None,
    *,
    segments: Sequence[int] | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attend causally within each of the `segments`, token counts that add up to T; return [1, T, H, E].

    A loop costs a CPU less than one pass under a mask: it computes nothing that the mask would then hide. Raises
    ValueError for a layer that attends within a window or drops weights by chance, which the loop does not.
    """
    if segments is None:
        return sdpa_attention_forward(module, query_1HTE, key_1KTE, value_1KTE, attention_mask, **options)
    if options.get("sliding_window") is not None or options.get("dropout"):
        raise ValueError("segments honour no sliding window and no dropout of attention; the language model has one")
    groups = query_1HTE.shape[1] // key_1KTE.shape[1]
    states = (query_1HTE, key_1KTE.repeat_interleave(groups, dim=1), value_1KTE.repeat_interleave(groups, dim=1))
    parts = zip(*(state.split(list(segments), dim=2) for state in states), strict=True)
    attended = [_causal(query, key, value, options["scaling"]) for query, key, value in parts]
    return torch.cat(attended, dim=2).transpose(1, 2), None


def _causal(query_1HTE: Tensor, key_1HTE: Tensor, value_1HTE: Tensor, scaling: float) -> Tensor:
    """Return what each token attends to, [1, H, T, E].

    Written out: PyTorch's fused kernel takes a CPU three times as long in the backward of a segment of 70 tokens
    (benchmarks/segments.py).
    """
    later_TT = torch.ones(query_1HTE.shape[2], query_1HTE.shape[2], dtype=torch.bool, device=query_1HTE.device).triu(1)
    scores_1HTT = (query_1HTE @ key_1HTE.transpose(2, 3) * scaling).masked_fill(later_TT, -torch.inf)
    exact = torch.promote_types(scores_1HTT.dtype, torch.float32)
    return scores_1HTT.softmax(dim=-1, dtype=exact).to(query_1HTE.dtype) @ value_1HTE


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
