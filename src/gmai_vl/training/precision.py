"""Precision: bf16 only where the processor computes in it; elsewhere it is emulated and slower than fp32."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

Precision = Literal["bf16", "fp32"]

NATIVE_BF16 = ("avx512_bf16", "amx_bf16", "bf16")
"""CPU features, x86 and ARM, that compute in bf16."""


def resolve_precision(wanted: Literal["auto", "bf16", "fp32"], device: torch.device) -> Precision:
    """Return `wanted`, with auto resolved by what `device` computes in natively."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    features = torch.cpu.get_capabilities()
    return "bf16" if any(features.get(name) for name in NATIVE_BF16) else "fp32"


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[None]:
    """Give the context to compute a loss in; weights stay fp32."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
