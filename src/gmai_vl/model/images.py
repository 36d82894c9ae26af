"""From image pixels to the tensor that the vision tower reads; the same way in training and in use."""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import LlavaProcessor
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

MAX_SIDE = 4096
"""Longer images shrink to this before they are padded, or one thin strip would become a huge square."""


def image_processor(side: int, mean: tuple[float, ...], std: tuple[float, ...]) -> LlavaImageProcessorPil:
    """Return the stock processor, set to pad to a square and never crop, so that plain transformers does as we do.

    `mean` and `std` are per channel, of values 0-1.
    """
    square = {"height": side, "width": side}
    return LlavaImageProcessorPil(
        size=square,
        crop_size=square,  # LlavaProcessor counts image tokens by it, also where nothing is cropped
        do_center_crop=False,
        do_pad=True,
        image_mean=list(mean),
        image_std=list(std),
    )


def image_side(processor: LlavaProcessor) -> int:
    """Return the side in pixels of the square that the vision tower sees."""
    return int(processor.image_processor.crop_size["height"])


def image_token_count(processor: LlavaProcessor) -> int:
    """Return how many tokens one image takes in the text."""
    return (image_side(processor) // processor.patch_size) ** 2


def prepare_image(processor: LlavaProcessor, pixels: NDArray[np.uint8]) -> Tensor:
    """Pad [H, W] or [H, W, 3] to a square with the mean colour, resize and normalise: float32 [3, S, S].

    A checkpoint of others whose settings do not pad gets what its own processor makes of the image.
    Raises ValueError for anything but 8-bit grey or RGB pixels.
    """
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}; 8-bit [H, W] or [H, W, 3] is needed")
    settings = processor.image_processor
    image = sized(processor, Image.fromarray(pixels))
    if not _pads(processor):
        values_CHW: Tensor = settings(image, return_tensors="pt")["pixel_values"][0]
        return values_CHW
    values_HWC = np.asarray(image, dtype=np.float32) / 255
    normal_HWC = (values_HWC - np.float32(settings.image_mean)) / np.float32(settings.image_std)
    return torch.from_numpy(np.ascontiguousarray(normal_HWC.transpose(2, 0, 1)))


def sized(processor: LlavaProcessor, image: Image.Image) -> Image.Image:
    """Return an image in RGB as the square that the vision tower sees, which this function leaves as it is.

    For a checkpoint of others whose settings do not pad, in the size that it has.
    """
    image = image.convert("RGB")
    if not _pads(processor):
        return image
    image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.BICUBIC)
    if image.width != image.height:
        red, green, blue = (int(mean * 255) for mean in processor.image_processor.image_mean)
        longer = max(image.size)
        square = Image.new("RGB", (longer, longer), (red, green, blue))
        square.paste(image, ((longer - image.width) // 2, (longer - image.height) // 2))
        image = square
    side = image_side(processor)
    return image.resize((side, side), Image.Resampling.BICUBIC)


def _pads(processor: LlavaProcessor) -> bool:
    return bool(getattr(processor.image_processor, "do_pad", False))
