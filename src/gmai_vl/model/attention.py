"""Causal attention within the segments of a row: a loop over them, on CUDA one kernel for all of them."""

# H heads · K heads of keys and values · T tokens of the row · E width of a head · S segments

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from torch.nn.attention.varlen import varlen_attn

SHORT_SEGMENT = 192
"""Below so many tokens the fused kernel takes a CPU up to twice as long in bf16 as the same written out
(benchmarks/segments.py)."""

_VARLEN_GROUPS = "enable_gqa" in inspect.signature(varlen_attn).parameters
"""Whether the kernel takes fewer heads of keys than of queries: since PyTorch 2.12."""


class Segments:
    """Where the segments of a row begin and end, and how often attention has kept to them.

    No dataclass: what spreads a model over devices may copy those on their way in, and the count with them.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        self.lengths = list(lengths)
        self.longest = max(lengths)
        self.bounds = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)
        """[S + 1]: where each begins and, last, where the row ends."""
        self.attended = 0
        self._block_masks: dict[int | None, BlockMask] = {}

    def places(self) -> Tensor:
        """Return [T]: how many tokens of its segment come before each token."""
        tokens_T = torch.arange(sum(self.lengths), device=self.bounds.device)
        return tokens_T - self.bounds[self._numbers()]

    def block_mask(self, window: int | None) -> BlockMask:
        """Return what FlexAttention has to know of the segments; made once for each `window`."""
        if window not in self._block_masks:
            numbers_T, tokens = self._numbers(), sum(self.lengths)

            def sees(batch: Tensor, head: Tensor, reader: Tensor, read: Tensor) -> Tensor:
                near = reader - read < (tokens if window is None else window)
                return (numbers_T[reader] == numbers_T[read]) & (reader >= read) & near

            self._block_masks[window] = create_block_mask(sees, None, None, tokens, tokens, device=numbers_T.device)
        return self._block_masks[window]

    def _numbers(self) -> Tensor:
        """Return [T]: the number of the segment that each token is in."""
        tokens_T = torch.arange(sum(self.lengths), device=self.bounds.device)
        return torch.bucketize(tokens_T, self.bounds, right=True) - 1


def attend(
    query_1HTE: Tensor,
    key_1KTE: Tensor,
    value_1KTE: Tensor,
    segments: Segments,
    *,
    scaling: float,
    dropout: float,
    window: int | None,
) -> Tensor:
    """Return [1, T, H, E]: what each token reads from itself and those before it in its segment.

    Of a `window` it reads the last so many only.
    """
    segments.attended += 1
    way = way_to_attend(query_1HTE, value_1KTE, dropout)
    if way == "loop":
        return _loop(query_1HTE, key_1KTE, value_1KTE, segments, scaling, dropout, window)
    # Where a model norms queries and keys, autocast leaves them in float32; the kernels take one kind only.
    query_1HTE, key_1KTE = query_1HTE.to(value_1KTE.dtype), key_1KTE.to(value_1KTE.dtype)
    kernel = _varlen if way == "varlen" else _flex
    return kernel(query_1HTE, key_1KTE, value_1KTE, segments, scaling, window).contiguous()


def way_to_attend(query_1HTE: Tensor, value_1KTE: Tensor, dropout: float) -> Literal["loop", "varlen", "flex"]:
    """Return how to attend: on CUDA by the kernel for such rows, or by FlexAttention where that one cannot."""
    if query_1HTE.device.type != "cuda" or dropout:  # neither of the two drops weights
        return "loop"
    width = query_1HTE.shape[-1]
    takes_kind = value_1KTE.dtype in (torch.bfloat16, torch.float16)
    takes_width = width % 8 == 0 and width <= 256 and width == value_1KTE.shape[-1]
    if takes_kind and takes_width and torch.cuda.get_device_capability(query_1HTE.device) >= (8, 0):
        return "varlen"
    return "flex" if width >= 16 else "loop"


def _loop(
    query_1HTE: Tensor,
    key_1KTE: Tensor,
    value_1KTE: Tensor,
    segments: Segments,
    scaling: float,
    dropout: float,
    window: int | None,
) -> Tensor:
    """Attend segment after segment.

    A CPU takes less for it than for one pass under a mask: nothing is computed that the mask would then hide.
    """
    states = (query_1HTE, _for_each_head(key_1KTE, query_1HTE), _for_each_head(value_1KTE, query_1HTE))
    attended = [
        _causal(query, key, value, scaling, dropout, window)
        for query, key, value in zip(*(state.split(segments.lengths, dim=2) for state in states), strict=True)
    ]
    return torch.cat(attended, dim=2).transpose(1, 2).contiguous()


def _causal(
    query_1HTE: Tensor, key_1HTE: Tensor, value_1HTE: Tensor, scaling: float, dropout: float, window: int | None
) -> Tensor:
    """Return [1, H, T, E] for one segment."""
    tokens = query_1HTE.shape[2]
    if value_1HTE.dtype != torch.bfloat16 or tokens >= SHORT_SEGMENT or query_1HTE.device.type != "cpu":
        narrow = window is not None and window < tokens
        sees_TT = _band(tokens, window, query_1HTE.device) if narrow else None
        return F.scaled_dot_product_attention(
            query_1HTE, key_1HTE, value_1HTE, sees_TT, dropout, is_causal=not narrow, scale=scaling
        )
    sees_TT = _band(tokens, window, query_1HTE.device)
    scores_1HTT = (query_1HTE @ key_1HTE.transpose(2, 3) * scaling).masked_fill(~sees_TT, -torch.inf)
    weights_1HTT = scores_1HTT.softmax(dim=-1, dtype=torch.float32).to(value_1HTE.dtype)
    return F.dropout(weights_1HTT, dropout) @ value_1HTE


def _band(tokens: int, window: int | None, device: torch.device) -> Tensor:
    """Return [T, T], true where the token of the row reads that of the column."""
    sees_TT = torch.ones(tokens, tokens, dtype=torch.bool, device=device).tril()
    return sees_TT if window is None else sees_TT.triu(1 - window)


def _varlen(
    query_1HTE: Tensor,
    key_1KTE: Tensor,
    value_1KTE: Tensor,
    segments: Segments,
    scaling: float,
    window: int | None,
) -> Tensor:
    options: dict[str, Any] = {"enable_gqa": True}
    if not _VARLEN_GROUPS:
        options = {}
        key_1KTE, value_1KTE = _for_each_head(key_1KTE, query_1HTE), _for_each_head(value_1KTE, query_1HTE)
    attended_THE = varlen_attn(
        query_1HTE[0].transpose(0, 1),
        key_1KTE[0].transpose(0, 1),
        value_1KTE[0].transpose(0, 1),
        segments.bounds,
        segments.bounds,
        segments.longest,
        segments.longest,
        scale=scaling,
        window_size=(-1 if window is None else window - 1, 0),  # tokens before and after the one that reads
        **options,
    )
    assert isinstance(attended_THE, Tensor)
    return attended_THE[None]


def _flex(
    query_1HTE: Tensor,
    key_1KTE: Tensor,
    value_1KTE: Tensor,
    segments: Segments,
    scaling: float,
    window: int | None,
) -> Tensor:
    mask = segments.block_mask(window)
    attended_1HTE = _compiled_flex()(query_1HTE, key_1KTE, value_1KTE, block_mask=mask, scale=scaling, enable_gqa=True)
    return attended_1HTE.transpose(1, 2)


@cache
def _compiled_flex() -> Callable[..., Tensor]:
    return torch.compile(flex_attention)


def _for_each_head(state_1KTE: Tensor, query_1HTE: Tensor) -> Tensor:
    """Return [1, H, T, E]: keys or values, repeated for the heads of queries that share them."""
    return state_1KTE.repeat_interleave(query_1HTE.shape[1] // state_1KTE.shape[1], dim=1)
