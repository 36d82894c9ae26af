"""Conversations that lie end to end in one row go through a language model of transformers without meeting."""

# H heads · K heads of keys and values · T tokens of the row · D language width · E width of a head

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, LlavaForConditionalGeneration, PreTrainedConfig
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from gmai_vl.foundation import UserError
from gmai_vl.model.attention import Segments, attend
from gmai_vl.model.chatml import Batch

NAME = "segments"
"""Of our attention among those of transformers."""


def attend_within_segments(model: LlavaForConditionalGeneration) -> None:
    """Let the language part of `model` take `segments`; without them it computes what it computed before.

    Raises UserError for one that has more to it than attention to the tokens before, which would be passed over or
    would mix segments.
    """
    language, text = model.model.language_model, model.config.text_config
    if any(name.endswith(".sinks") for name, _ in language.named_parameters()):
        raise _refused(text, "has sinks in its attention")
    if getattr(text, "attn_logit_softcapping", None):
        raise _refused(text, "caps its attention scores")
    if language._is_stateful or any(isinstance(module, nn.Conv1d) for module in language.modules()):
        raise _refused(text, "hands more from token to token than by attention")
    model.set_attn_implementation({"text_config": NAME})


def hidden_states(model: LlavaForConditionalGeneration, batch: Batch) -> Tensor:
    """Return [T, D]: what the language model makes of each conversation of `batch`, as if it stood alone.

    Raises UserError where not every layer attends through this module: the others would mix the conversations.
    """
    segments = Segments(batch.lengths, batch.input_ids.device)
    hidden_1TD = model.model(
        input_ids=batch.input_ids[None],
        position_ids=segments.places()[None],
        attention_mask=_unread_mask(batch.input_ids),
        pixel_values=batch.pixel_values,
        use_cache=False,
        segments=segments,
    ).last_hidden_state
    text = model.config.text_config
    if segments.attended != text.num_hidden_layers:
        apart = f"{segments.attended} of its {text.num_hidden_layers} layers keep the conversations of a batch apart"
        raise _refused(text, f"{apart}, the others would mix them")
    return hidden_1TD[0]


def _refused(text: PreTrainedConfig, why: str) -> UserError:
    return UserError(f"language model of type `{text.model_type}`: {why}, which is not supported; take another one")


def _unread_mask(ids_T: Tensor) -> Tensor:
    """Return a mask [1, 1, T, T] that is one number, seen T x T times.

    A mask of four dimensions is handed on as it is; without one transformers would fill T x T bytes from the places of
    the tokens. Our attention does not look at it, but for telling it from one that a model makes by itself.
    """
    return torch.ones((), dtype=torch.bool, device=ids_T.device).expand(1, 1, len(ids_T), len(ids_T))


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
    segments: Segments | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attend within the `segments`, where there are some, and else as transformers does; [1, T, H, E]."""
    if segments is None:
        options |= {"scaling": scaling, "dropout": dropout, "sliding_window": sliding_window}
        return sdpa_attention_forward(module, query_1HTE, key_1KTE, value_1KTE, attention_mask, **options)
    if attention_mask is not None and any(attention_mask.stride()):
        raise _refused(module.config, "masks its attention in a way of its own")
    attended_1THE = attend(
        query_1HTE, key_1KTE, value_1KTE, segments, scaling=scaling, dropout=dropout, window=sliding_window
    )
    return attended_1THE, None


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
