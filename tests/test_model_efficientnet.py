"""The convolution tower: padding, fixed statistics, and the interface that LLaVA expects."""

import math

import pytest
import torch
from torch.nn import functional as F  # noqa: N812
from transformers import AutoModel

from gmai_vl.model import ModelSettings, build_model, is_present, pull
from gmai_vl.model.efficientnet import ConvNorm, EfficientNetLiteConfig


def tensorflow_same(x, weight, stride, groups):
    """Convolve with the padding that TensorFlow documents for "same"."""
    kernel = weight.shape[-1]
    pads = []
    for size in (x.shape[-1], x.shape[-2]):
        total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return F.conv2d(F.pad(x, pads), weight, stride=stride, groups=groups)


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (5, 1), (3, 2), (5, 2)])
def test_padding_is_tensorflows(kernel, stride):
    torch.manual_seed(0)
    layer = ConvNorm(4, 4, kernel=kernel, stride=stride, groups=4)
    x = torch.randn(2, 4, 8, 12)
    expected = tensorflow_same(x, layer.conv.weight, stride, groups=4) / math.sqrt(1 + 1e-3)
    torch.testing.assert_close(layer(x), expected)


def test_lite0_has_the_published_size():
    model = AutoModel.from_config(EfficientNetLiteConfig())
    # 4,652,008 parameters with the classifier of 1280 x 1000 + 1000 (EfficientNet-Lite0, TensorFlow TPU repository).
    assert sum(weight.numel() for weight in model.parameters()) == 4_652_008 - 1_281_000


def test_statistics_stay_in_training_while_scale_and_shift_learn():
    tower = build_model(ModelSettings(preset="tiny"), seed=0).model.model.vision_tower
    before = {name: value.clone() for name, value in tower.named_buffers()}
    images = torch.randn(2, 3, 64, 64)
    in_evaluation = tower(images).last_hidden_state
    tower.train()
    in_training = tower(images).last_hidden_state
    in_training.sum().backward()
    assert torch.equal(in_evaluation, in_training)
    assert all(torch.equal(value, before[name]) for name, value in tower.named_buffers())
    assert tower.stem.norm.weight.grad.abs().max() > 0


def test_row_zero_is_the_mean_of_the_grid():
    tower = build_model(ModelSettings(preset="tiny"), seed=0).model.model.vision_tower
    (rows,) = tower(torch.randn(3, 3, 64, 96)).hidden_states
    assert rows.shape == (3, 1 + 2 * 3, 32)
    torch.testing.assert_close(rows[:, 0], rows[:, 1:].mean(dim=1))


def test_other_sizes_are_refused():
    tower = build_model(ModelSettings(preset="tiny"), seed=0).model.model.vision_tower
    with pytest.raises(ValueError, match="multiples of 32"):
        tower(torch.zeros(1, 3, 64, 65))


@pytest.mark.skipif(not is_present("efficientnet-lite0"), reason="run `gmai backbones pull efficientnet-lite0`")
@pytest.mark.parametrize(("side", "grid"), [(128, 16), (224, 49)])
def test_pretrained_features_are_not_those_of_chance(side, grid):
    tower = AutoModel.from_pretrained(pull("efficientnet-lite0"), local_files_only=True)
    with torch.inference_mode():
        (rows,) = tower(torch.zeros(1, 3, side, side)).hidden_states
    assert rows.shape == (1, 1 + grid, 1280)
    # ReLU6 leaves most of the pretrained features at zero; a random head would leave half.
    assert (rows[:, 1:] == 0).float().mean() > 0.7
