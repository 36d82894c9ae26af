"""How the parts of a model run in a stage: learning or frozen, layers remembered or computed again."""

from functools import partial

from torch.utils.checkpoint import checkpoint
from transformers import LlavaForConditionalGeneration
from transformers.modeling_layers import GradientCheckpointingLayer

from gmai_vl.foundation import UserError
from gmai_vl.model import parts
from gmai_vl.training.recipe import Stage


def set_modes(model: LlavaForConditionalGeneration, stage: Stage) -> None:
    """Put the parts that learn into training mode, the frozen ones, dropout and statistics included, out of it.

    Layers of the parts under `gradient_checkpointing` keep only what they are given for the backward, and are computed
    again there: a third more to compute, a fraction of the memory. Raises UserError for a part without such layers.
    """
    for name, part in parts(model).items():
        part.train(name in stage.train)
        layers = [module for module in part.modules() if isinstance(module, GradientCheckpointingLayer)]
        again = name in stage.gradient_checkpointing
        if again and not layers:
            raise UserError(
                f"stage {stage.name}: gradient_checkpointing: the {name} part has no layers to compute again; "
                "leave it out"
            )
        for layer in layers:
            layer.gradient_checkpointing = again
            layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
            # transformers computes again in training mode only; gradients pass through frozen layers too. What is below
            # the layer keeps its mode, and with it dropout.
            layer.training |= again
