"""EfficientNet-Lite as a vision tower of transformers: a plain convolution network, one feature per 32 x 32 pixels.

Architecture: the TensorFlow TPU repository's EfficientNet-Lite (EfficientNet-B0 without squeeze-and-excitation, ReLU6
for swish). Importing this module registers it with AutoConfig and AutoModel.
"""

# N images · H, W pixels · h, w grid of features · P = h * w · C channels · V feature width

import re
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  the name that everybody knows
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling

NORM_EPSILON = 1e-3
"""Of the pretrained weights (TensorFlow's default); PyTorch's is 1e-5."""


class EfficientNetLiteConfig(PretrainedConfig):
    """Stages of blocks, one entry per stage; the defaults are EfficientNet-Lite0, 3.4 million parameters."""

    model_type = "gmai_efficientnet_lite"

    image_size: int = 128
    patch_size: int = 32
    stem_width: int = 32
    widths: list[int] | tuple[int, ...] = (16, 24, 40, 80, 112, 192, 320)
    repeats: list[int] | tuple[int, ...] = (1, 2, 2, 3, 3, 4, 1)
    kernels: list[int] | tuple[int, ...] = (3, 3, 5, 3, 5, 5, 3)
    strides: list[int] | tuple[int, ...] = (1, 2, 2, 2, 1, 2, 1)
    expansions: list[int] | tuple[int, ...] = (1, 6, 6, 6, 6, 6, 6)
    hidden_size: int = 1280


class FixedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm that keeps the pretrained statistics: batches of a fine-tuning step are too small for their own."""

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Normalise with the kept statistics, in training too; scale and shift still learn."""
        mean, variance = self.running_mean, self.running_var
        return F.batch_norm(x_NCHW, mean, variance, self.weight, self.bias, training=False, eps=self.eps)


class ConvNorm(nn.Module):
    """Convolution with TensorFlow's "same" padding, then batch norm."""

    def __init__(self, into: int, out: int, *, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        # With stride 2 and even sizes, "same" puts the odd row and column of padding at the end.
        self.before, self.after = (kernel - stride) // 2, (kernel - stride + 1) // 2
        even = self.before == self.after
        self.conv = nn.Conv2d(into, out, kernel, stride, self.before if even else 0, groups=groups, bias=False)
        self.norm = FixedBatchNorm2d(out, eps=NORM_EPSILON)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return [N, out, H / stride, W / stride]."""
        if self.before != self.after:
            x_NCHW = F.pad(x_NCHW, (self.before, self.after, self.before, self.after))
        return self.norm(self.conv(x_NCHW))


class Block(nn.Module):
    """Inverted residual: widen, filter each channel, narrow; add the input where the shape allows."""

    def __init__(self, into: int, out: int, *, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = into * expansion
        self.expand = ConvNorm(into, inner) if expansion > 1 else None
        self.depthwise = ConvNorm(inner, inner, kernel=kernel, stride=stride, groups=inner)
        self.project = ConvNorm(inner, out)
        self.residual = stride == 1 and into == out

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return [N, out, H / stride, W / stride]."""
        inner = x_NCHW if self.expand is None else F.relu6(self.expand(x_NCHW))
        narrow = self.project(F.relu6(self.depthwise(inner)))
        return x_NCHW + narrow if self.residual else narrow


class EfficientNetLiteModel(PreTrainedModel):
    """Vision tower with the interface that LLaVA expects of one: hidden states [N, 1 + P, V], row 0 the mean."""

    config_class = EfficientNetLiteConfig
    main_input_name = "pixel_values"
    base_model_prefix = "efficientnet_lite"
    # There is no attention in here, so every implementation of it will do.
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__(config)
        self.stem = ConvNorm(3, config.stem_width, kernel=3, stride=2)
        self.blocks = nn.ModuleList()
        width = config.stem_width
        stages = zip(config.widths, config.repeats, config.kernels, config.strides, config.expansions, strict=True)
        for out, repeats, kernel, stride, expansion in stages:
            for number in range(repeats):
                first = number == 0
                block = Block(width, out, kernel=kernel, stride=stride if first else 1, expansion=expansion)
                self.blocks.append(block)
                width = out
        self.head = ConvNorm(width, config.hidden_size)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            # Keeps the scale of the signal through the depth, which a fixed 0.02 does not without batch statistics.
            init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        else:
            super()._init_weights(module)

    def forward(self, pixel_values: Tensor, **_: Any) -> BaseModelOutputWithPooling:
        """Encode pixels [N, 3, H, W], normalised as (0-255 value - 127) / 128; H and W multiples of `patch_size`.

        `hidden_states` has one entry, the features of the last layer, so LLaVA's `vision_feature_layer` is -1.
        Raises ValueError for another image size.
        """
        patch = self.config.patch_size
        if pixel_values.shape[-2] % patch or pixel_values.shape[-1] % patch:
            raise ValueError(f"image of {tuple(pixel_values.shape[-2:])} pixels: sides must be multiples of {patch}")
        # Thin convolutions, one channel at a time: under a CPU's bf16 autocast their backward takes half as long again.
        own_precision = torch.autocast("cpu", enabled=False) if pixel_values.device.type == "cpu" else nullcontext()
        with own_precision:
            x_NChw = F.relu6(self.stem(pixel_values.contiguous(memory_format=torch.channels_last)))
            for block in self.blocks:
                x_NChw = block(x_NChw)
            grid_NPV = F.relu6(self.head(x_NChw)).flatten(2).transpose(1, 2)
        mean_NV = grid_NPV.mean(dim=1)
        rows = torch.cat([mean_NV[:, None], grid_NPV], dim=1)
        return BaseModelOutputWithPooling(last_hidden_state=rows, pooler_output=mean_NV, hidden_states=(rows,))


_LAYERS = {
    "conv_stem": "stem.conv",
    "conv_head": "head.conv",
    "expand_conv": "expand.conv",
    "depthwise_conv": "depthwise.conv",
    "project_conv": "project.conv",
}
_NORMS_OF_BLOCK = {"bn0": "expand.norm", "bn1": "depthwise.norm", "bn2": "project.norm"}
_NORMS_OF_NETWORK = {"bn0": "stem.norm", "bn1": "head.norm"}


def our_weight_names(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of the package `efficientnet-lite-pytorch` to ours, without its classifier."""
    ours = {}
    for name, weight in theirs.items():
        match = re.fullmatch(r"(?:_blocks\.(\d+)\.)?_(\w+)\.(\w+)", name)
        assert match, name
        block, layer, kind = match.groups()
        if layer == "fc":
            continue
        norms = _NORMS_OF_NETWORK if block is None else _NORMS_OF_BLOCK
        prefix = "" if block is None else f"blocks.{block}."
        ours[f"{prefix}{(_LAYERS | norms)[layer]}.{kind}"] = weight
    return ours


AutoConfig.register(EfficientNetLiteConfig.model_type, EfficientNetLiteConfig)
AutoModel.register(EfficientNetLiteConfig, EfficientNetLiteModel)
