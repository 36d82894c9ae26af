"""The model and its processor as one value, and the three parts that training freezes and frees."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn
from transformers import LlavaForConditionalGeneration, LlavaProcessor
from transformers.utils import logging

from gmai_vl.foundation import UserError, nearest


@dataclass(frozen=True)
class Vlm:
    """A vision-language model with what prepares its input."""

    model: LlavaForConditionalGeneration
    processor: LlavaProcessor


@dataclass(frozen=True, slots=True)
class Count:
    """Number of parameters of one part; shared ones count once."""

    total: int
    trainable: int


def parts(model: LlavaForConditionalGeneration) -> dict[str, nn.ModuleList]:
    """Return the modules of `vision`, `projector` and `language` (with the output head); every weight is in one."""
    return {
        "vision": nn.ModuleList([model.model.vision_tower]),
        "projector": nn.ModuleList([model.model.multi_modal_projector]),
        "language": nn.ModuleList([model.model.language_model, model.lm_head]),
    }


def set_trainable(model: LlavaForConditionalGeneration, names: Iterable[str]) -> None:
    """Let the weights of the named parts learn and freeze all others. Raises UserError for an unknown name."""
    modules = parts(model)
    wanted = set(names)
    for name in sorted(wanted - set(modules)):
        raise UserError(f"part `{name}`: unknown; {nearest(name, modules)}")
    for name, module in modules.items():
        module.requires_grad_(name in wanted)


def count_parameters(model: LlavaForConditionalGeneration) -> dict[str, Count]:
    """Count the parameters of every part."""
    counts = {}
    for name, module in parts(model).items():
        weights = list(module.parameters())
        trainable = sum(weight.numel() for weight in weights if weight.requires_grad)
        counts[name] = Count(sum(weight.numel() for weight in weights), trainable)
    return counts


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Keep transformers' progress bars and load reports off the terminal; what matters in them, we check and raise."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
