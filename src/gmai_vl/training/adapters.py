"""LoRA: beside the frozen matrices of a part, small ones that learn, and are added to them when a stage is saved."""

from collections.abc import Mapping

import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration

from gmai_vl.foundation import UserError
from gmai_vl.model import parts
from gmai_vl.training.recipe import Lora, Part

_BASE, _A, _B = ".base_layer.", ".lora_A.default.", ".lora_B.default."
"""What peft puts into the names of weights."""


def add_adapters(model: LlavaForConditionalGeneration, lora: Lora, *, seed: int) -> None:
    """Put adapters beside every linear layer of the parts that `lora` names, but not beside the output head.

    They begin as no change: A is random, by `seed`, B is zero (Hu et al., arXiv 2106.09685, section 4.1). Raises
    UserError where one of the parts has no linear layer, as EfficientNet has none: nothing of it would learn.
    """
    adapted: set[int] = set()
    for part in lora.parts:
        linear = {id(module) for module in parts(model)[part].modules() if isinstance(module, nn.Linear)}
        linear.discard(id(model.lm_head))
        if not linear:
            raise UserError(f"lora.parts: `{part}` of this model has no linear layers to adapt; take it out of `lora`")
        adapted |= linear
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=[name for name, module in model.named_modules() if id(module) in adapted],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model)


def freeze_all_but_adapters(model: LlavaForConditionalGeneration, adapted: tuple[Part, ...]) -> None:
    """Of the parts that have adapters let nothing else learn."""
    for part in adapted:
        for name, weight in parts(model)[part].named_parameters():
            weight.requires_grad_(".lora_" in name)


def merged(weights: Mapping[str, Tensor], lora: Lora) -> dict[str, Tensor]:
    """Return the weights of a model with adapters as those of the model without: W + alpha / rank * B A."""
    plain = {}
    for name, weight in weights.items():
        if _A in name or _B in name:
            continue
        if _BASE in name and name.endswith(".weight"):
            a, b = (weights[name.replace(_BASE, part)] for part in (_A, _B))
            weight = weight + lora.alpha / lora.rank * (b @ a)
        plain[name.replace(_BASE, ".")] = weight
    return plain
