"""Attention within segments against the formula, every way to compute it that this machine has."""

import math
from itertools import pairwise

import pytest
import torch

from gmai_vl.model import attention
from gmai_vl.model.attention import SHORT_SEGMENT, Segments, attend, way_to_attend

LENGTHS = [3, 1, 40, 2]
CPU = torch.device("cpu")


def states(lengths, kind=torch.float32, width=16, device=CPU):
    """Queries of 4 heads, keys and values of 2, each [1, heads, tokens, width]."""
    torch.manual_seed(0)
    tokens = sum(lengths)
    return [torch.randn(1, heads, tokens, width, dtype=kind, device=device).requires_grad_() for heads in (4, 2, 2)]


def formula(query, key, value, lengths, window):
    """[1, tokens, heads, width] in float64, under a mask of all tokens by all tokens."""
    query, key, value = (state.double() for state in (query, key, value))
    key, value = (state.repeat_interleave(2, dim=1) for state in (key, value))
    of = torch.tensor([number for number, length in enumerate(lengths) for _ in range(length)], device=query.device)
    back = torch.arange(len(of))[:, None] - torch.arange(len(of))
    seen = (of[:, None] == of) & ((back >= 0) & (back < (window or len(of)))).to(of.device)
    scores = torch.einsum("nhqe,nhke->nhqk", query, key) * 0.3
    return torch.einsum("nhqk,nhke->nqhe", scores.masked_fill(~seen, -math.inf).softmax(dim=-1), value)


def worst(ours, expected):
    """Largest error, by the largest number that is expected, or by one where all are smaller."""
    return ((ours.double() - expected).abs().max() / expected.abs().max().clamp(min=1)).item()


def compare(lengths, kind, window, tolerance, device=CPU, width=16):
    """Hold result and gradients against the formula."""
    given = states(lengths, kind, width, device)
    ours = attend(*given, Segments(lengths, device), scaling=0.3, dropout=0.0, window=window)
    assert ours.is_contiguous() and ours.dtype == kind
    expected = formula(*given, lengths, window)
    assert worst(ours, expected) < tolerance
    pull = torch.randn(ours.shape, device=device)
    gradients = torch.autograd.grad((ours * pull).sum(), given)
    for gradient, exact in zip(gradients, torch.autograd.grad((expected * pull).sum(), given), strict=True):
        assert worst(gradient, exact.double()) < tolerance


@pytest.mark.parametrize("window", [None, 1, 5, 1000])
@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_a_cpu_computes_the_formula(kind, tolerance, window):
    compare(LENGTHS, kind, window, tolerance)


@pytest.mark.parametrize("window", [None, 150])
def test_so_it_does_on_both_sides_of_short(window):
    compare([SHORT_SEGMENT, SHORT_SEGMENT - 1], torch.bfloat16, window, 2e-2)


def test_places_begin_anew_with_each_segment():
    assert Segments([3, 1, 2], CPU).places().tolist() == [0, 1, 2, 0, 0, 1]


def test_dropped_weights_are_made_up_for():
    torch.manual_seed(0)
    # A token that stands alone in its segment has one weight: dropped, or doubled as the other half is.
    for kind in (torch.float32, torch.bfloat16):
        value = torch.randn(1, 2, 60, 8, dtype=kind)
        out = attend(value, value, value, Segments([1] * 60, CPU), scaling=1.0, dropout=0.5, window=None)
        kept = torch.isclose(out, 2 * value.transpose(1, 2)).all(dim=-1)
        assert 30 < kept.sum() < 90
        assert not out[~kept].any()


@pytest.mark.parametrize("window", [None, 1, 5, 1000])
def test_flex_attention_is_told_of_the_same_tokens(window):
    segments = Segments(LENGTHS, CPU)
    given = [state.detach() for state in states(LENGTHS)]  # on a CPU it has no backward
    with torch.compiler.set_stance("force_eager"):
        ours = attention._flex(*given, segments, 0.3, window)
        assert worst(ours, formula(*given, LENGTHS, window)) < 1e-5
    assert segments.block_mask(window) is segments.block_mask(window)


def kernel_as_documented(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale, window_size, enable_gqa=False):
    """torch.nn.attention.varlen.varlen_attn, which runs on CUDA only, by the words of its documentation."""
    assert cu_seq_q.dtype == torch.int32 and query.shape[0] == cu_seq_q[-1]
    assert max_q == max_k == cu_seq_q.diff().max()
    if not enable_gqa:
        assert query.shape[1] == key.shape[1]
    key, value = (state.repeat_interleave(query.shape[1] // state.shape[1], dim=1) for state in (key, value))
    out = torch.empty_like(query)
    left, right = (math.inf if size == -1 else size for size in window_size)
    for start, end in pairwise(cu_seq_q.tolist()):
        ahead = torch.arange(end - start) - torch.arange(end - start)[:, None]
        hidden = (ahead > right) | (-ahead > left)
        scores = torch.einsum("qhe,khe->hqk", query[start:end], key[start:end]) * scale
        out[start:end] = torch.einsum(
            "hqk,khe->qhe", scores.masked_fill(hidden, -math.inf).softmax(dim=-1), value[start:end]
        )
    return out


@pytest.mark.parametrize("window", [None, 1, 5, 1000])
@pytest.mark.parametrize("takes_groups", [True, False])
def test_the_kernel_for_rows_is_given_what_it_documents(monkeypatch, window, takes_groups):
    monkeypatch.setattr(attention, "varlen_attn", kernel_as_documented)
    monkeypatch.setattr(attention, "_VARLEN_GROUPS", takes_groups)
    given = states(LENGTHS)
    ours = attention._varlen(*given, Segments(LENGTHS, CPU), 0.3, window)
    assert worst(ours, formula(*given, LENGTHS, window)) < 1e-5


@pytest.mark.parametrize(
    ("kind", "width", "dropout", "capability", "way"),
    [
        (torch.bfloat16, 64, 0.0, (8, 0), "varlen"),
        (torch.float16, 256, 0.0, (9, 0), "varlen"),
        (torch.float16, 64, 0.0, (7, 5), "flex"),
        (torch.float32, 64, 0.0, (9, 0), "flex"),
        (torch.bfloat16, 288, 0.0, (9, 0), "flex"),
        (torch.bfloat16, 36, 0.0, (9, 0), "flex"),
        (torch.float32, 8, 0.0, (9, 0), "loop"),
        (torch.bfloat16, 64, 0.1, (9, 0), "loop"),
    ],
)
def test_the_way_goes_with_what_the_kernels_take(monkeypatch, kind, width, dropout, capability, way):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)

    class OnCuda:
        device, dtype, shape = torch.device("cuda"), kind, (1, 2, 3, width)

    assert way_to_attend(OnCuda(), OnCuda(), dropout) == way
    here = torch.empty(1, 2, 3, width, dtype=kind)
    assert way_to_attend(here, here, dropout) == "loop"


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


@needs_cuda
@pytest.mark.parametrize("window", [None, 1, 5, 1000])
@pytest.mark.parametrize(
    ("kind", "width", "tolerance"),
    [(torch.bfloat16, 64, 2e-2), (torch.float16, 64, 2e-3), (torch.float32, 64, 1e-4), (torch.bfloat16, 36, 2e-2)],
)
def test_cuda_computes_the_formula(kind, width, tolerance, window):
    compare(LENGTHS, kind, window, tolerance, torch.device("cuda"), width)
