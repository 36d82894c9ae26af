"""Tiny models with weights so large that they say different things about different questions."""

import torch

from gmai_vl.model import ModelSettings, Vlm, build_model


def outspoken(preset: str = "tiny") -> Vlm:
    """Return a tiny model, always the same, with noise on its matrices."""
    vlm = build_model(ModelSettings(preset=preset), seed=0)
    random = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, weight in vlm.model.named_parameters():
            if weight.ndim == 2:
                weight += torch.randn(weight.shape, generator=random) * (1.0 if "projector" in name else 0.2)
    return vlm
