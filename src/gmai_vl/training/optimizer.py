"""The optimizer: AdamW over the parts that learn, each with its own peak learning rate."""

import math
from collections.abc import Mapping

import torch
from torch import nn

from gmai_vl.model import parts
from gmai_vl.training.recipe import Part
from gmai_vl.training.sharding import whole


def make_optimizer(model: nn.Module, rates: Mapping[Part, float], weight_decay: float) -> torch.optim.AdamW:
    """Make an AdamW over the parts that `rates` names. Weight decay falls on matrices only, never on biases and norms.

    Each group has its `part` and, as `peak`, its learning rate before the schedule.
    """
    modules = parts(model)
    groups = []
    for part, rate in rates.items():
        parameters = [parameter for parameter in modules[part].parameters() if parameter.requires_grad]
        matrices = [parameter for parameter in parameters if parameter.ndim > 1]
        others = [parameter for parameter in parameters if parameter.ndim <= 1]
        groups += [
            {"params": matrices, "part": part, "lr": rate, "peak": rate, "weight_decay": weight_decay},
            {"params": others, "part": part, "lr": rate, "peak": rate, "weight_decay": 0.0},
        ]
    # beta 0.9 and 0.999: arXiv 2411.14522, Table 8.
    return torch.optim.AdamW([group for group in groups if group["params"]], betas=(0.9, 0.999), fused=True)


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> dict[str, float]:
    """Set every group to `factor` times its peak; return the learning rate of each part."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
    return {group["part"]: group["lr"] for group in optimizer.param_groups}


def clip_gradients(optimizer: torch.optim.Optimizer, limit: float | None) -> float:
    """Scale all gradients together so that their norm is at most `limit`; return the norm that they had."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return float(whole(nn.utils.clip_grad_norm_(parameters, math.inf if limit is None else limit)))
