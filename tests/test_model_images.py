"""Images reach the vision tower as stock LLaVA with padding would bring them there."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gmai_vl.model import ModelSettings, build_model, image_token_count, prepare_image
from gmai_vl.model.images import sized

PROCESSORS = [build_model(ModelSettings(preset=name), seed=0).processor for name in ("tiny", "tiny-clip")]


@given(
    width=st.integers(1, 150),
    height=st.integers(1, 150),
    colours=st.sampled_from([(), (3,)]),
    seed=st.integers(0, 9),
    processor=st.sampled_from(PROCESSORS),
)
@settings(max_examples=60, deadline=None)
def test_prepared_as_the_stock_processor_does(width, height, colours, seed, processor):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, *colours), dtype=np.uint8)
    colour = pixels if colours else np.repeat(pixels[..., None], 3, axis=2)
    stock = processor.image_processor(colour, return_tensors="pt", input_data_format="channels_last").pixel_values[0]
    torch.testing.assert_close(prepare_image(processor, pixels), stock, atol=1e-5, rtol=0)
    square = np.asarray(sized(processor, Image.fromarray(pixels)))
    assert torch.equal(prepare_image(processor, square), prepare_image(processor, pixels))


def test_padding_has_the_mean_colour_so_it_is_zero_for_the_tower():
    wide = np.full((2, 64, 3), 255, dtype=np.uint8)
    prepared = prepare_image(PROCESSORS[0], wide)
    assert prepared[:, 0].abs().max() == 0
    assert prepared[:, 32].min() > 0.9


def test_a_thin_strip_does_not_become_a_huge_square():
    strip = np.zeros((1, 3_000_000), dtype=np.uint8)
    assert prepare_image(PROCESSORS[0], strip).shape == (3, 64, 64)


@pytest.mark.parametrize("pixels", [np.zeros((4, 4)), np.zeros((4, 4, 4), np.uint8), np.zeros(4, np.uint8)])
def test_other_pixels_are_refused(pixels):
    with pytest.raises(ValueError, match="8-bit"):
        prepare_image(PROCESSORS[0], pixels)


def test_as_many_tokens_as_features():
    for name, processor in zip(("tiny", "tiny-clip"), PROCESSORS, strict=True):
        model = build_model(ModelSettings(preset=name), seed=0).model
        image = prepare_image(processor, np.zeros((9, 9), np.uint8))[None]
        (features,) = model.get_image_features(pixel_values=image).pooler_output
        assert len(features) == image_token_count(processor)
