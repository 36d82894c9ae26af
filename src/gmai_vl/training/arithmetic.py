"""What a training step costs before it is run: floating point operations and memory per device, from shapes alone."""

from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from gmai_vl.model import SHORT_SEGMENT
from gmai_vl.training.precision import Precision
from gmai_vl.training.recipe import Part, Stage, Strategy
from gmai_vl.training.survey import Layer, Survey

Mode = Literal["frozen", "adapters", "all"]
"""Which weights of a layer learn."""

# bf16 with fp32 accumulation, dense. NVIDIA's data sheets and, for the RTX 4090, the Ada whitepaper (appendix A); where
# a sheet gives the figure with sparsity only, half of it.
PEAK_FLOPS = {
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100-PCIE-40GB": 312e12,
    "NVIDIA A100 80GB PCIe": 312e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100 NVL": 835e12,
    "NVIDIA H200": 989e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA GeForce RTX 4090": 165e12,
}
"""Operations per second that a device can do at most, by the name that `torch.cuda.get_device_name` gives."""


def peak_flops(device: torch.device) -> float | None:
    """Return the operations a second that a device can do at most, in bf16; None where that is not known."""
    return PEAK_FLOPS.get(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


USABLE = 0.92
"""Share of a device's memory that tensors can fill: CUDA's own context, workspaces and gaps take the rest."""

PACK_STEP, MOST_TOKENS = 256, 2**20
"""Packs are looked for in steps of so many tokens, up to so many."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What goes through the model: in a micro-batch, or, for operations, in a whole step."""

    tokens: int
    """Text and image tokens; 0 where the language model is not run (`objective: words`)."""

    squares: int
    """Sum of the squared lengths of the segments that attention stays within."""

    images: int
    supervised: int
    """Tokens that the loss looks at."""

    short: int = 0
    """Tokens of segments below `SHORT_SEGMENT`, within which a CPU in bf16 writes attention out."""

    short_squares: int = 0
    """Sum of the squared lengths of those."""


def together(loads: Collection[Load]) -> Load:
    """Return several loads as one."""
    return Load(
        tokens=sum(load.tokens for load in loads),
        squares=sum(load.squares for load in loads),
        images=sum(load.images for load in loads),
        supervised=sum(load.supervised for load in loads),
        short=sum(load.short for load in loads),
        short_squares=sum(load.short_squares for load in loads),
    )


def load_of(segments: Sequence[int], *, images: int, supervised: int) -> Load:
    """Return the load of conversations of these token counts."""
    short = [length for length in segments if length < SHORT_SEGMENT]
    return Load(
        tokens=sum(segments),
        squares=sum(length**2 for length in segments),
        images=images,
        supervised=supervised,
        short=sum(short),
        short_squares=sum(length**2 for length in short),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Adapters:
    """Low-rank adapters (LoRA) on every linear layer of some parts, whose own weights are frozen then."""

    parts: Collection[Part] = ()
    rank: int = 0


NO_ADAPTERS = Adapters()


def adapters_of(stage: Stage) -> Adapters:
    """Return the adapters that a stage trains."""
    return Adapters(parts=stage.lora.parts, rank=stage.lora.rank) if stage.lora else NO_ADAPTERS


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Where a model trains, and in which form."""

    devices: int = 1
    strategy: Strategy = "full"
    """full: weights, gradients and optimizer shared out over all devices, layers
    gathered when they are needed (FSDP2). hybrid: the same within a node, nodes hold copies. zero2: as full, but
    gathered weights stay until the backward pass is over."""

    devices_per_node: int = 8
    precision: Precision = "bf16"
    """bf16: fp32 weights, bf16 matrix products. fp32: all in fp32."""

    checkpointing: Collection[Part] = ()
    """Parts whose layers keep their input only and are computed again in the backward pass."""

    lora: Adapters = NO_ADAPTERS
    attention: Literal["fused", "segments"] = "fused"
    """Of the language model. fused: one kernel for all segments. segments: one after the other, as on a CPU, which
    copies keys, values and what comes of them; in bf16 the scores of short ones are kept instead."""

    accumulates: bool = False
    """Shared-out gradients are added up over the devices in the last micro-batch of a step only; until then each device
    holds its own, of all that learns."""

    @property
    def shards(self) -> int:
        """Devices that a model's weights are shared out over."""
        return min(self.devices, self.devices_per_node) if self.strategy == "hybrid" else self.devices

    @property
    def size(self) -> int:
        """Bytes of an element in a matrix product."""
        return 2 if self.precision == "bf16" else 4

    @property
    def stream(self) -> int:
        """Bytes of an element between layers: autocast leaves it in fp32, shared-out weights arrive in bf16."""
        return self.size if self.shards > 1 else 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Flops:
    """Floating point operations of matrix products; a multiplication with its addition counts as two."""

    forward: int
    backward: int
    recompute: int
    """What gradient checkpointing computes a second time."""

    @property
    def model(self) -> int:
        """What the step needs: the numerator of MFU."""
        return self.forward + self.backward

    @property
    def hardware(self) -> int:
        """What the device does."""
        return self.model + self.recompute


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Bytes on each device at the moment of a step when they are most; shares are of `Placement.shards` devices.

    Holds from the second micro-batch of the second step on: before, gradients and moments are not there yet.
    """

    weights: int
    """A share of all weights and adapters, 4 bytes each, frozen ones too."""

    gathered: int
    """Copies to compute with. Of a whole model in bf16: 2 bytes for each matrix that gradients pass through, of layers
    that are frozen and recomputed for one at a time. Of shares, at the size of the precision: all that lies outside of
    the layers and two layers, the one in use and the next; in zero2 everything."""

    gradients: int
    """A share of 4 bytes for each weight that gradients reach; beside it one layer's before it is shared out, and what
    of it is sent."""

    optimizer: int
    """A share of AdamW's two moments: 8 bytes for each weight that gradients reach."""

    activations: int
    """What autograd keeps for the backward pass, of layers before which nothing learns nothing; with checkpointing the
    input of each layer and, where that is the peak, all of one layer with its gradients."""

    logits: int
    """What stands beside that for a moment: logits, probabilities and their gradients, 12 bytes for each word of the
    vocabulary at each supervised token; or the new gradient of the output head."""

    @property
    def total(self) -> int:
        """All together."""
        return self.weights + self.gathered + self.gradients + self.optimizer + self.activations + self.logits


def flops_of_step(
    numbers: Survey,
    load: Load,
    *,
    train: Collection[Part],
    checkpointing: Collection[Part] = (),
    lora: Adapters = NO_ADAPTERS,
) -> Flops:
    """Return the operations of a step that learns the parts `train` from `load`, on all devices together.

    Counted are the products of linear layers, convolutions and attention, the last causally within segments, and logits
    at supervised positions alone. Backward takes one product for the gradient of a matrix that learns, and one for that
    of its input where something before it learns; attention takes twice its forward. `numbers` are of a model without
    adapters: they are added by `lora`.
    """
    forward = backward = recompute = 0
    flows = False
    for layer in numbers.layers:
        units = _units(layer, load)
        mode = _mode(layer, train, lora)
        if not units:
            continue
        once = back = 0
        for product in layer.products:
            learns = product.learnable and mode == "all"
            once += product.macs * units
            back += product.macs * units * (learns + (product.learnable and flows))
            flows = flows or learns
            if product.learnable and mode == "adapters" and product.sides:
                added = lora.rank * product.sides * product.rows * units
                once, back, flows = once + added, back + 2 * added, True
        for attention in layer.attentions:
            pairs = (load.squares + load.tokens) // 2 if layer.unit == "token" else attention.rows**2 * units
            macs = 2 * attention.width * pairs
            once += macs
            back += 2 * macs * (attention.learnable and flows)
        flows = flows or (mode == "all" and layer.learnable > 0)
        forward += 2 * once
        backward += 2 * back
        if layer.repeats and layer.part in checkpointing and back:
            # PyTorch stops once it has all that was kept; what the last product gives was not.
            skipped = layer.products[-1].macs * units if mode != "adapters" else 0
            recompute += 2 * (once - skipped)
    return Flops(forward=forward, backward=backward, recompute=recompute)


def memory_of_step(numbers: Survey, placement: Placement, load: Load, *, train: Collection[Part]) -> Memory:
    """Return what a step that learns the parts `train` takes on each device; `load` is its largest micro-batch.

    `numbers` are of a model without adapters: they are added by `placement`.
    """
    layers = numbers.layers
    new = [_adapters(layer, train, placement.lora) for layer in layers]
    held = [layer.parameters + own for layer, own in zip(layers, new, strict=True)]
    learning = [
        layer.learnable if _mode(layer, train, placement.lora) == "all" else own
        for layer, own in zip(layers, new, strict=True)
    ]
    shards = placement.shards
    gradients = 4 * sum(learning) // shards
    gathered, activations, logits = max(_moments(numbers, placement, load, train), key=sum)
    if shards > 1:
        whole = _at_once(layers, held)
        resident = sum(whole) if placement.strategy == "zero2" else whole[0] + 2 * max(whole[1:], default=0)
        gathered = placement.size * resident
        due = _at_once(layers, learning)
        if placement.accumulates:
            gradients = 4 * sum(due) + placement.size * max(due)
        else:
            # The whole gradient of a layer, and beside it what of it is sent, fp32.
            gradients += (placement.size + 4) * max(due)
    return Memory(
        weights=4 * sum(held) // shards,
        gathered=gathered,
        gradients=gradients,
        optimizer=8 * sum(learning) // shards,
        activations=activations,
        logits=logits,
    )


def _moments(numbers: Survey, placement: Placement, load: Load, train: Collection[Part]) -> list[tuple[int, int, int]]:
    """Return bytes of bf16 copies, of activations and of logits with what follows, at the moments that can be the peak.

    Copies are those of autocast, on a device that has a whole model: the backward pass keeps them as it keeps
    activations; of a layer that is recomputed they stay until the forward pass ends, where its weights learn.
    """
    size, bf16 = placement.size, placement.precision == "bf16" and placement.shards == 1
    kept = of_images = copies = cached = largest = largest_copy = 0
    flows = False
    for layer in numbers.layers:
        units, mode = _units(layer, load), _mode(layer, train, placement.lora)
        if not units or not (flows or mode != "frozen"):
            continue
        whole = _kept(layer, mode, placement, load)
        copy = 2 * bf16 * sum(product.weights for product in layer.products if product.learnable)
        if layer.repeats and layer.part in placement.checkpointing:
            kept += placement.stream * layer.width * units * (layer.learnable > 0)
            cached += copy * (mode == "all")
            # Beside what is kept, the gradients of a gate's two sides and of their product are there at once.
            wide = max((product.reads for product in layer.products if product.learnable), default=0)
            largest = max(largest, whole + 3 * size * wide * units)
            largest_copy = max(largest_copy, copy)
        else:
            kept += whole
            copies += copy
        flows = flows or layer.learnable > 0
        of_images = kept if layer.unit == "image" else of_images
    answers = load.supervised * numbers.vocabulary * (flows and load.tokens > 0)
    head = numbers.layers[-1]
    learns = _mode(head, train, placement.lora) == "all" and placement.shards == 1 and load.tokens > 0
    matrix = head.products[0].weights * learns
    # The head's gradient, where it is that of the embedding too, waits for the embedding's.
    waits = 4 * matrix * numbers.is_tied
    return [
        # The forward pass ends: logits and logarithms of probabilities, fp32.
        (copies + cached, kept, 8 * answers),
        # The backward pass of the loss: gradients of the probabilities and of the logits beside the latter.
        (copies, kept, 12 * answers),
        # That of the head.
        (copies, kept, size * answers + (size * bf16 + 4) * matrix),
        # That of a layer that is recomputed.
        (copies + largest_copy, kept + largest, waits),
        # That of the embedding.
        (copies, of_images, waits + 4 * matrix),
    ]


def _kept(layer: Layer, mode: Mode, placement: Placement, load: Load) -> int:
    """Return the bytes that autograd keeps of a layer.

    Of a linear layer or convolution its input, where the matrix learns; those that read the same share it, unless each
    makes a bf16 copy of its own. Of norms, activation functions and gates what `Layer` says.
    """
    size, stream = placement.size, placement.stream
    units = _units(layer, load)
    loops = placement.attention != "fused" and layer.unit == "token"
    per_unit = stream * layer.layer_norms + 4 * (layer.rms_norms + layer.maps) + size * layer.activations
    if mode == "all":
        per_unit += stream * layer.rms_norms
    for product in layer.products:
        if mode == "frozen" or not product.learnable:
            continue
        shares = product.shares and size == stream
        # What fused attention gives is kept below; under autocast an adapter takes a copy of it.
        is_kept_below = product.after_attention and not loops and (mode == "all" or size == stream)
        if not shares and not is_kept_below:
            per_unit += product.reads * (4 if product.is_convolution else size)
        if mode == "adapters" and product.sides:
            per_unit += size * placement.lora.rank * product.rows
    attended = 0
    for attention in layer.attentions:
        if not attention.learnable:
            continue
        if loops:
            # Queries, keys and values for each head.
            per_unit += 3 * size * attention.width * attention.rows
            short, squares = (load.short, load.short_squares) if size == 2 else (0, 0)
            # What comes of them, and a sum for each row of scores; of short ones the scores twice, and a mask.
            attended += (units - short) * (size * attention.width + 4 * attention.heads)
            attended += squares * (6 * attention.heads + 1)
        else:
            # Queries, keys, values, what comes of them, and a sum for each row of scores.
            per_unit += attention.rows * (2 * size * (attention.width + attention.key_width) + 4 * attention.heads)
    return per_unit * units + attended


def largest_pack(
    numbers: Survey,
    placement: Placement,
    device_bytes: int,
    *,
    train: Collection[Part],
    images: int,
    supervised: float,
) -> int | None:
    """Return the largest pack length, a multiple of 256 tokens, that trains on a device of `device_bytes`.

    A pack shows `images` images, or as many as it has room for; of its other tokens the share `supervised` is. It is
    one segment, the worst case. None where not even 256 tokens fit.
    """

    def fits(length: int) -> bool:
        shown = min(images, length // numbers.image_tokens)
        answers = int(supervised * (length - shown * numbers.image_tokens))
        load = load_of([length], images=shown, supervised=answers)
        return memory_of_step(numbers, placement, load, train=train).total <= USABLE * device_bytes

    most = bisect_left(range(PACK_STEP, MOST_TOKENS + 1, PACK_STEP), True, key=lambda length: not fits(length))
    return most * PACK_STEP or None


def _units(layer: Layer, load: Load) -> int:
    return {"image": load.images, "token": load.tokens, "answer": load.supervised if load.tokens else 0}[layer.unit]


def _mode(layer: Layer, train: Collection[Part], lora: Adapters) -> Mode:
    if layer.part not in train:
        return "frozen"
    return "adapters" if layer.part in lora.parts else "all"


def _adapters(layer: Layer, train: Collection[Part], lora: Adapters) -> int:
    """Return the parameters of a layer's adapters that gradients reach."""
    if _mode(layer, train, lora) != "adapters":
        return 0
    return lora.rank * sum(product.sides for product in layer.products if product.learnable)


def _at_once(layers: Sequence[Layer], counts: Sequence[int]) -> list[int]:
    """Return the counts of what is gathered at once: first all outside of the layers, which stays, then each layer."""
    outside = sum(count for layer, count in zip(layers, counts, strict=True) if not layer.repeats)
    return [outside, *(count for layer, count in zip(layers, counts, strict=True) if layer.repeats)]
