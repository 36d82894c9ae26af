"""What a model is made of, read off its modules: matrix products, attention, and what autograd keeps beside them."""

import copy
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration, LlavaModel, PreTrainedModel
from transformers.activations import QuickGELUActivation
from transformers.modeling_layers import GradientCheckpointingLayer

from gmai_vl.foundation import UserError, say
from gmai_vl.model import Vlm
from gmai_vl.training.recipe import Part

Unit = Literal["image", "token", "answer"]
"""What numbers are counted per: an image, a token that the language model reads, a supervised token."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Product:
    """A linear layer or a convolution."""

    macs: int
    """Multiply-adds per unit."""

    reads: int
    """Elements of its input per unit."""

    weights: int
    """Elements of its matrix."""

    rows: int = 1
    """How often the matrix is applied per unit."""

    sides: int = 0
    """Input and output width together, by which a low-rank adapter grows; 0 for what gets none."""

    is_convolution: bool = False

    learnable: bool = True
    """A gradient can reach it; none reaches the layers of a tower above the one that features are taken from."""

    shares: bool = False
    """It reads what the product before it reads, as keys and values do with queries, and a gate with what it opens."""

    after_attention: bool = False
    """It reads what attention gives."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Attention:
    """What an attention layer does without weights: scores, and means of values."""

    rows: int
    """Tokens per unit."""

    heads: int
    width: int
    """Of all heads together."""

    key_width: int
    """Of all heads of keys together, and of values."""

    learnable: bool = True


@dataclass(kw_only=True, slots=True)
class Layer:
    """What checkpointing recomputes and devices gather at once; or, of each part, all that lies outside of those."""

    part: Part
    unit: Unit
    repeats: bool
    """It is one of the layers, not what lies outside of them."""

    parameters: int = 0
    learnable: int = 0
    """Parameters that a gradient can reach."""

    width: int = 0
    """Elements of its input per unit."""

    products: list[Product] = field(default_factory=list)
    attentions: list[Attention] = field(default_factory=list)

    layer_norms: int = 0
    """Elements per unit that layer norms read, and keep."""

    rms_norms: int = 0
    """Elements per unit that RMS norms read and keep, in fp32; where they learn, what their scale multiplies too."""

    maps: int = 0
    """Elements per unit that batch norms keep, and the activation functions after them."""

    activations: int = 0
    """Elements per unit that activation functions and gates keep."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """A model in numbers."""

    layers: list[Layer]
    """In the order of the data; the last one is the output head."""

    image_tokens: int
    """Tokens of an image."""

    vocabulary: int
    is_tied: bool
    """The head uses the matrix of the embedding, which counts there."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much goes through a module per unit, in elements."""

    reads: int
    gives: int


PARTS: dict[Part, str] = {
    "vision": "vision_tower",
    "projector": "multi_modal_projector",
    "language": "language_model",
}
"""Where each part lies; the output head, which belongs to the language part, lies beside them."""


def survey(model: LlavaForConditionalGeneration) -> Survey:
    """Read the numbers off `model`, whose weights may lie on any device and stay as they are.

    Vision tower and projector are run once, on PyTorch's device `meta`, where only shapes are computed: that tells how
    large the maps of convolutions are, and which weights the features depend on. The language model is walked: each of
    its linear layers sees each token once. Raises UserError for one of which that does not tell what it computes.
    """
    _check_language(model.model.language_model)
    sizes, reached, image_tokens = _dry_run(model.model)
    sizes |= _sizes_of_language(model.model.language_model)
    layers: list[Layer] = []
    for part, name in PARTS.items():
        rest = Layer(part=part, unit="token" if part == "language" else "image", repeats=False)
        layers.append(rest)
        _visit(model.model.get_submodule(name), name, rest, layers, sizes, reached)
    head = model.lm_head
    is_tied = head.weight is model.get_input_embeddings().weight
    own = 0 if is_tied else head.weight.numel()
    matrix = Product(macs=head.weight.numel(), reads=head.in_features, weights=head.weight.numel())
    layers.append(
        Layer(part="language", unit="answer", repeats=False, parameters=own, learnable=own, products=[matrix])
    )
    return Survey(layers=layers, image_tokens=image_tokens, vocabulary=head.out_features, is_tied=is_tied)


def survey_if_known(vlm: Vlm) -> Survey | None:
    """Return the survey of a model; None, and a word to the user, for one that cannot be surveyed."""
    try:
        return survey(vlm.model)
    except UserError as error:
        say(f"memory and operations are not estimated: {error}")
        return None


def _check_language(language: PreTrainedModel) -> None:
    """Raise UserError for a language model with mixtures of experts or fused projections."""
    modules = list(language.modules())
    apart = any(
        weight.ndim > 1 and not isinstance(module, nn.Linear | nn.Embedding)
        for module in modules
        for weight in module.parameters(recurse=False)
    )
    if apart or not any(hasattr(module, "q_proj") for module in modules):
        what = "weights outside of its linear layers" if apart else "no `q_proj` in its attention"
        kind = language.config.model_type
        raise UserError(f"language model of type `{kind}`: has {what}, so its cost cannot be told; take another one")


def _dry_run(inner: LlavaModel) -> tuple[dict[str, Size], set[str], int]:
    """Return the sizes in tower and projector per image, the names of weights that can learn, and tokens per image."""
    weights = {id(weight): nn.Parameter(torch.empty_like(weight, device="meta")) for weight in inner.parameters()}
    buffers = {id(buffer): torch.empty_like(buffer, device="meta") for buffer in inner.buffers()}
    # A deep copy takes for each weight what it is told to: no weight is copied.
    twin = copy.deepcopy(inner, weights | buffers).eval()
    sizes: dict[str, Size] = {}
    for name, module in twin.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d) or _is_norm(module):
            module.register_forward_hook(partial(_note, sizes, name))
    side = inner.vision_tower.config.image_size
    with torch.enable_grad():
        features = twin.get_image_features(pixel_values=torch.empty(1, 3, side, side, device="meta")).pooler_output
        named = dict(twin.named_parameters())
        gradients = torch.autograd.grad(features[0].sum(), list(named.values()), allow_unused=True)
    reached = {name for name, gradient in zip(named, gradients, strict=True) if gradient is not None}
    return sizes, reached | {name for name in named if name.startswith("language_model.")}, len(features[0])


def _note(sizes: dict[str, Size], name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    sizes[name] = Size(inputs[0].numel(), output.numel())


def _sizes_of_language(language: nn.Module) -> dict[str, Size]:
    """Return the sizes in the language model per token."""
    sizes = {}
    for name, module in language.named_modules(prefix="language_model"):
        if isinstance(module, nn.Linear):
            sizes[name] = Size(module.in_features, module.out_features)
        elif _is_norm(module):
            width = module.weight.numel()
            sizes[name] = Size(width, width)
    # Norms of queries and keys have one scale for all heads.
    for name in list(sizes):
        if name.endswith(("q_norm", "k_norm")) and (projected := sizes.get(name.removesuffix("norm") + "proj")):
            sizes[name] = Size(projected.gives, projected.gives)
    return sizes


def _visit(
    module: nn.Module, name: str, layer: Layer, layers: list[Layer], sizes: dict[str, Size], reached: set[str]
) -> None:
    """Count what `module` and all below it are made of in `layer`, or in new ones that are added to `layers`."""
    if isinstance(module, GradientCheckpointingLayer):
        layer = Layer(part=layer.part, unit=layer.unit, repeats=True)
        layers.append(layer)
    for own, weight in module.named_parameters(recurse=False):
        layer.parameters += weight.numel()
        layer.learnable += weight.numel() if f"{name}.{own}" in reached else 0
    linear = [f"{name}.{own}" for own, below in module.named_children() if isinstance(below, nn.Linear)]
    attends = hasattr(module, "q_proj")
    assert linear or not attends, f"{name}: its linear layers are wrapped; survey the model without adapters"
    for own, below in module.named_children():
        inner = f"{name}.{own}"
        learnable = f"{inner}.weight" in reached
        if inner in sizes and isinstance(below, nn.Linear | nn.Conv2d):
            product = _product(below, sizes[inner], learnable)
            # Of the linear layers of a block all but the last read one input: queries, keys, values; gate and up.
            shares, is_last = inner in linear[1:-1], linear[-1:] == [inner]
            layer.products.append(replace(product, shares=shares, after_attention=attends and is_last))
        elif inner in sizes and learnable and _is_norm(below):
            _count_norm(layer, below, sizes[inner])
            if not layer.width and isinstance(module, GradientCheckpointingLayer):
                layer.width = sizes[inner].reads
        _visit(below, inner, layer, layers, sizes, reached)
    if linear and linear[-1] in sizes and f"{linear[-1]}.weight" in reached:
        width = sizes[linear[-1]].reads
        layer.activations += width * sum(_kept_copies(below, len(linear)) for below in module.children())
    if attends:
        layer.attentions.append(_attention(module, name, sizes, f"{linear[-1]}.weight" in reached))


def _product(module: nn.Linear | nn.Conv2d, size: Size, learnable: bool) -> Product:
    outputs, weights = module.weight.shape[0], module.weight.numel()
    return Product(
        # Each element given is a sum over one row of the matrix, for convolutions as for linear layers.
        macs=size.gives * weights // outputs,
        reads=size.reads,
        weights=weights,
        rows=size.gives // outputs,
        sides=sum(module.weight.shape) if isinstance(module, nn.Linear) else 0,
        is_convolution=isinstance(module, nn.Conv2d),
        learnable=learnable,
    )


def _count_norm(layer: Layer, norm: nn.Module, size: Size) -> None:
    if isinstance(norm, nn.BatchNorm2d):
        layer.maps += size.reads + size.gives
    elif isinstance(norm, nn.LayerNorm):
        layer.layer_norms += size.reads
    else:
        layer.rms_norms += size.reads


def _kept_copies(module: nn.Module, linear: int) -> int:
    """Return how many tensors are kept of an activation function beside `linear` linear layers; 0 for other modules.

    Its input; of one written as a product with a sigmoid that too; of a gate what it gives and what it opens. What goes
    into the linear layer after it counts there.
    """
    if type(module).__module__ not in ("transformers.activations", "torch.nn.modules.activation"):
        return 0
    return 1 + isinstance(module, QuickGELUActivation) + 2 * (linear == 3)


def _attention(module: Any, name: str, sizes: dict[str, Size], learnable: bool) -> Attention:
    rows = sizes[f"{name}.q_proj"].gives // module.q_proj.out_features
    return Attention(
        rows=rows,
        heads=module.q_proj.out_features // module.head_dim,
        width=module.q_proj.out_features,
        key_width=module.k_proj.out_features,
        learnable=learnable,
    )


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.LayerNorm | nn.BatchNorm2d) or "RMSNorm" in type(module).__name__
