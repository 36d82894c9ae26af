"""Sharding: weights, gradients and moments spread over the ranks (FSDP2), each fetched where it is needed."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from transformers import LlavaForConditionalGeneration
from transformers.modeling_layers import GradientCheckpointingLayer

from gmai_vl.foundation import UserError
from gmai_vl.model import Batch, set_trainable
from gmai_vl.training.adapters import freeze_all_but_adapters
from gmai_vl.training.precision import Precision, autocast
from gmai_vl.training.ranks import Ranks
from gmai_vl.training.recipe import Part, Strategy

T = TypeVar("T")

Loss = Callable[[LlavaForConditionalGeneration, Batch], tuple[Tensor, int]]
"""Gives the sum of the losses of a micro-batch and the number of its supervised tokens."""


class Learner(nn.Module):
    """The model with its loss as forward: one module to shard, for one rank as for many.

    FSDP fetches weights where a module's forward begins, and losses reach into the model past its own forward.
    """

    def __init__(
        self, model: LlavaForConditionalGeneration, precision: Precision, ranks: Ranks, strategy: Strategy
    ) -> None:
        super().__init__()
        self.model = model
        self.strategy = strategy
        self.precision = precision
        self.ranks = ranks

    def forward(self, compute: Callable[[LlavaForConditionalGeneration, Batch], T], batch: Batch) -> T:
        """Return what `compute`, a loss or any other reading, makes of the model and `batch`, moved to the device."""
        # Shards are fetched in the precision to compute in.
        with nullcontext() if self.is_sharded else autocast(self.precision, self.ranks.device):
            return compute(self.model, batch.to(self.ranks.device))

    @property
    def is_sharded(self) -> bool:
        """Whether other ranks hold parts of it."""
        return isinstance(self, FSDPModule)

    def learn(self, parts: tuple[Part, ...], adapted: tuple[Part, ...] = ()) -> None:
        """Let the weights of `parts` learn, of those `adapted` the adapters only, and freeze all others."""
        set_trainable(self.model, parts)
        freeze_all_but_adapters(self.model, adapted)
        for module in self.modules():
            if isinstance(module, FSDPModule):
                # FSDP notes once, when weights are first fetched, in what precision gradients are to come; a weight
                # that was frozen then has none.
                module.unshard()
                module.reshard()

    def reduce_gradients(self, due: bool) -> None:
        """Say whether adding the gradients up over the ranks is due: in the last round of a step.

        `full` does it in every round, so that a rank holds its share of them only; the others let each rank gather
        those of all weights until then, which costs memory and spares the network.
        """
        if isinstance(self, FSDPModule):
            self.set_requires_gradient_sync(due or self.strategy == "full")


def shard(model: LlavaForConditionalGeneration, ranks: Ranks, strategy: Strategy, precision: Precision) -> Learner:
    """Spread rank 0's `model` over the ranks in place, and put it on their devices.

    Of the others only the shapes count: an outline will do. Weights go from rank 0 to all layer by layer, so that no
    rank but the first ever holds all of them. From here on parameters are shares, so optimizers are made afterwards.
    Gradients are summed, not averaged: each rank gives those of its part of the loss. Weights and moments stay fp32, as
    does all of an EfficientNet tower; in bf16 the others are fetched and computed with in it, and their gradients
    summed in fp32. One rank shards nothing.
    """
    learner = Learner(model, precision, ranks, strategy)
    if ranks.world == 1:
        return learner.to(ranks.device)
    mesh = _mesh(ranks, strategy)
    mixed = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if precision == "bf16" else MixedPrecisionPolicy()
    layers: list[nn.Module] = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    units = dict.fromkeys(layers, mixed)
    # What a CLIP tower has beside its layers goes with the root: sharding changes the class of a module, and
    # transformers looks up by class which hidden states of a tower to hand out.
    tower = model.model.vision_tower
    if not any(module in units for module in tower.modules()):
        units[tower] = MixedPrecisionPolicy(output_dtype=mixed.param_dtype)
    _take_buffers(learner, ranks)
    for module, policy in units.items():
        _take_weights(module, ranks)
        fully_shard(module, mesh=mesh, mp_policy=policy, reshard_after_forward=strategy != "zero2")
    _take_weights(learner, ranks)
    # The tower wants its pixels as they are.
    fully_shard(learner, mesh=mesh, mp_policy=replace(mixed, cast_forward_inputs=False))
    for module in learner.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo cannot multiply while it sums
    return learner


def _take_weights(module: nn.Module, ranks: Ranks) -> None:
    """Give the weights of `module` that are not spread yet the values that rank 0 has; shared ones stay shared."""
    taken: dict[nn.Parameter, nn.Parameter] = {}
    for owner in module.modules():
        for name, weight in list(owner.named_parameters(recurse=False)):
            if isinstance(weight, DTensor):
                continue
            if weight not in taken:
                taken[weight] = nn.Parameter(_from_first(weight.detach(), ranks), weight.requires_grad)
            setattr(owner, name, taken[weight])


def _take_buffers(module: nn.Module, ranks: Ranks) -> None:
    for owner in module.modules():
        for name, buffer in list(owner.named_buffers(recurse=False)):
            setattr(owner, name, _from_first(buffer, ranks))


def _from_first(tensor: Tensor, ranks: Ranks) -> Tensor:
    """Return the tensor that rank 0 has, on the device of this rank."""
    if ranks.is_main:
        received = tensor.to(ranks.device).contiguous()
    else:
        received = torch.empty_like(tensor, device=ranks.device, memory_format=torch.contiguous_format)
    dist.broadcast(received, src=0)
    return received


def _mesh(ranks: Ranks, strategy: Strategy) -> DeviceMesh:
    if strategy != "hybrid":
        return init_device_mesh(ranks.device.type, (ranks.world,))
    machines, left_over = divmod(ranks.world, ranks.local_world)
    if left_over:
        raise UserError(
            f"strategy hybrid: {ranks.world} ranks are not {ranks.local_world} on each machine; "
            "give every machine the same --nproc-per-node, or take `full`"
        )
    return init_device_mesh(ranks.device.type, (machines, ranks.local_world), mesh_dim_names=("replicate", "shard"))


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor whose parts lie on all ranks as one; any other as it is. Every rank must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_weights(learner: Learner) -> dict[str, Tensor]:
    """Return all weights and buffers of the model on rank 0, on the CPU, by name, to be saved; on other ranks nothing.

    Every rank must ask. One weight at a time is made whole. Shared ones stay shared.
    """
    gathered: dict[int, Tensor] = {}
    state = learner.model.state_dict(keep_vars=True)
    for tensor in state.values():
        if id(tensor) not in gathered:
            as_one = whole(tensor.detach())
            gathered[id(tensor)] = as_one.cpu() if learner.ranks.is_main else torch.empty(0)
    return {name: gathered[id(tensor)] for name, tensor in state.items()} if learner.ranks.is_main else {}
