"""What is asked of a model, made ready: tokens, features of each distinct image, what several prompts begin with."""

# B requests of a batch · T tokens · P tokens of an image · D language width

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from inspect import signature

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import DynamicCache

from gmai_vl.model.chatml import Encoded, encode_prompt
from gmai_vl.model.images import image_token_count, prepare_image
from gmai_vl.model.vlm import Vlm
from gmai_vl.records import Turn, pixel_sha256

_KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How words are drawn. The same seed draws the same words, whatever else is asked at the time."""

    temperature: float = 1.0
    """Above 0: logits are divided by it."""

    top_p: float = 1.0
    """Above 0, at most 1: only the most likely words are drawn that together have this probability."""

    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError for numbers outside their ranges."""
        if not (0 < self.temperature < math.inf and 0 < self.top_p <= 1):
            raise ValueError(f"temperature {self.temperature} must be above 0 and top_p {self.top_p} in (0, 1]")


@dataclass(frozen=True, slots=True)
class Request:
    """A conversation that waits for the assistant's next words."""

    turns: tuple[Turn, ...]
    images: tuple[NDArray[np.uint8], ...] = field(default=())
    """Pixels [H, W] or [H, W, 3]; `ImageRef` in the turns counts into these."""

    sampling: Sampling | None = None
    """None: the most likely words."""

    likeliest: int | None = None
    """How many of the most likely tokens to tell at each place, with the probability of the one said; None: nothing."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request ready for the model."""

    number: int
    """Place of the request in the caller's order."""

    input_ids: list[int]
    images: tuple[str, ...]
    """sha256 of the shown images, in reading order."""

    sampling: Sampling | None = None
    likeliest: int | None = None


def rows_at_once(vlm: Vlm) -> int:
    """Return how many prompts of 1,024 tokens to answer together: as many as have keys and values of 2 GiB, 4 to 32.

    On 2 cores, in bf16, more than 32 are no faster (benchmarks/evaluation.py). On a GPU, where a step takes about as
    long for one row as for hundreds, as many as have keys and values of a quarter of the memory that is free, 4 to 512.
    """
    device, config = vlm.model.device, vlm.model.config.text_config
    room, most = (torch.cuda.mem_get_info(device)[0] // 4, 512) if device.type == "cuda" else (2**31, 32)
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    bytes_a_token = 2 * config.num_hidden_layers * config.num_key_value_heads * width * vlm.model.dtype.itemsize
    return min(most, max(4, room // (1024 * bytes_a_token)))


@contextmanager
def answering(vlm: Vlm) -> Iterator[None]:
    """Put a model into its state for answering, and give each of its modules back its own."""
    in_training = [module for module in vlm.model.modules() if module.training]
    vlm.model.eval()
    try:
        # Without cuDNN's attention: it plans each new length anew, for 10 ms a layer, and every token makes a new one.
        with torch.inference_mode(), sdpa_kernel(_KERNELS):
            yield
    finally:
        for module in in_training:
            module.training = True


def prepare(vlm: Vlm, requests: Sequence[Request]) -> tuple[list[Prompt], dict[str, NDArray[np.uint8]]]:
    """Return the prompts and the distinct images that they show, by sha256."""
    prompts = []
    pixels: dict[str, NDArray[np.uint8]] = {}
    for number, request in enumerate(requests):
        encoded: Encoded = encode_prompt(vlm.processor, request.turns)
        if encoded.images and max(encoded.images) >= len(request.images):
            shown, given = max(encoded.images), len(request.images)
            raise ValueError(f"request {number} shows image {shown}, {given} images were given")
        names = [pixel_sha256(image) for image in request.images]
        shown_names = tuple(names[index] for index in encoded.images)
        pixels |= {names[index]: request.images[index] for index in encoded.images}
        prompts.append(Prompt(number, encoded.input_ids, shown_names, request.sampling, request.likeliest))
    return prompts, pixels


def image_features(vlm: Vlm, pixels: Mapping[str, NDArray[np.uint8]], batch_size: int) -> dict[str, Tensor]:
    """Return sha256 -> projected features [P, D]."""
    names = list(pixels)
    features: dict[str, Tensor] = {}
    for first in range(0, len(names), batch_size):
        some = names[first : first + batch_size]
        features |= features_of(vlm, {name: prepare_image(vlm.processor, pixels[name]) for name in some})
    return features


def features_of(vlm: Vlm, prepared: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return name -> projected features [P, D] of images as `prepare_image` gives them, in one pass."""
    pixels = torch.stack(list(prepared.values())).to(vlm.model.device, vlm.model.dtype)
    return dict(zip(prepared, vlm.model.get_image_features(pixel_values=pixels).pooler_output, strict=True))


@dataclass(frozen=True, slots=True)
class Opened:
    """Prompts of which the model has read how they begin."""

    prompts: list[Prompt]

    embeds_BTD: Tensor
    """What it has still to read."""

    mask_BT: Tensor
    """Real tokens, of what it has read and of what it has still to read."""

    cache: DynamicCache
    """Keys and values of what it has read; nothing of prompts that begin like no other."""


def opened(vlm: Vlm, prompts: Sequence[Prompt], features: Mapping[str, Tensor], size: int) -> Iterator[Opened]:
    """Yield the prompts in batches of at most `size`, of about one length.

    How prompts begin is read once for all that begin alike: all but the last token of prompts that are the same, else
    up to the end of the first image. At most `size` beginnings are held at a time, so that they take no more memory
    than a batch. A model with sliding windows reads each prompt whole: between a beginning and a rest that is shorter
    than others there are empty places, and a window counts those.
    """
    config = vlm.model.config.text_config
    times = Counter((tuple(prompt.input_ids), prompt.images) for prompt in prompts)
    alike: dict[tuple[tuple[int, ...], tuple[str, ...]], list[tuple[Prompt, Prompt]]] = defaultdict(list)
    for prompt in prompts:
        again = times[tuple(prompt.input_ids), prompt.images] > 1
        begins, rest = _split_at(vlm, prompt, len(prompt.input_ids) - 1 if again else _end_of_image(vlm, prompt))
        alike[tuple(begins.input_ids), begins.images].append((begins, rest))
    shared = [members for (tokens, _), members in alike.items() if tokens and len(members) > 1]
    shared = [] if any(layer.is_sliding for layer in DynamicCache(config=config).layers) else shared
    in_company = {rest.number for members in shared for _, rest in members}
    for batch in _by_length([prompt for prompt in prompts if prompt.number not in in_company], size):
        yield Opened(batch, *_left_padded(vlm, batch, features), DynamicCache(config=config))
    shared.sort(key=lambda members: len(members[0][0].input_ids))
    for first in range(0, len(shared), size):
        yield from _opened_together(vlm, shared[first : first + size], features, size)


def _opened_together(
    vlm: Vlm, groups: Sequence[Sequence[tuple[Prompt, Prompt]]], features: Mapping[str, Tensor], size: int
) -> Iterator[Opened]:
    """Yield batches of prompts, given as beginning and rest, of several groups whose beginnings are the same."""
    begun = DynamicCache(config=vlm.model.config.text_config)
    embeds_BTD, begun_BT = _left_padded(vlm, [group[0][0] for group in groups], features)
    hidden(vlm, embeds_BTD, begun_BT, begun)
    row_of = {rest.number: row for row, group in enumerate(groups) for _, rest in group}
    for batch in _by_length([rest for group in groups for _, rest in group], size):
        rows_B = torch.tensor([row_of[rest.number] for rest in batch], device=vlm.model.device)
        embeds_BTD, rest_BT = _left_padded(vlm, batch, features)
        yield Opened(batch, embeds_BTD, torch.cat([begun_BT[rows_B], rest_BT], dim=1), _rows_of(begun, rows_B))


def _by_length(prompts: Sequence[Prompt], size: int) -> Iterator[list[Prompt]]:
    ordered = sorted(prompts, key=lambda prompt: len(prompt.input_ids))
    for first in range(0, len(ordered), size):
        yield ordered[first : first + size]


def _rows_of(cache: DynamicCache, rows_B: Tensor) -> DynamicCache:
    """Return a cache of some rows of another, which stays as it is."""
    chosen = copy(cache)
    chosen.layers = [copy(layer) for layer in cache.layers]
    chosen.batch_select_indices(rows_B)
    return chosen


def _end_of_image(vlm: Vlm, prompt: Prompt) -> int:
    """Return where the first image of a prompt, or the first in a row, ends; 0 without one."""
    image = vlm.processor.image_token_id
    if image not in prompt.input_ids:
        return 0
    first = prompt.input_ids.index(image)
    return next((at for at, token in enumerate(prompt.input_ids[first:], first) if token != image), 0)


def _split_at(vlm: Vlm, prompt: Prompt, place: int) -> tuple[Prompt, Prompt]:
    """Return the first `place` tokens of a prompt, which end outside an image, and the rest."""
    shown = prompt.input_ids[:place].count(vlm.processor.image_token_id) // image_token_count(vlm.processor)
    begins = replace(prompt, input_ids=prompt.input_ids[:place], images=prompt.images[:shown])
    return begins, replace(prompt, input_ids=prompt.input_ids[place:], images=prompt.images[shown:])


def _left_padded(vlm: Vlm, batch: Sequence[Prompt], features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return embeddings [B, T, D] with image features in place, and the mask [B, T] of real tokens."""
    device = vlm.model.device
    longest = max(len(prompt.input_ids) for prompt in batch)
    ids_BT = torch.full((len(batch), longest), vlm.processor.tokenizer.pad_token_id)
    mask_BT = torch.zeros_like(ids_BT)
    for row, prompt in enumerate(batch):
        ids_BT[row, longest - len(prompt.input_ids) :] = torch.tensor(prompt.input_ids)
        mask_BT[row, longest - len(prompt.input_ids) :] = 1
    ids_BT, mask_BT = ids_BT.to(device), mask_BT.to(device)
    embeds_BTD = vlm.model.get_input_embeddings()(ids_BT)
    shown = [features[name] for prompt in batch for name in prompt.images]
    if shown:
        is_image_BT = ids_BT == vlm.processor.image_token_id
        embeds_BTD = embeds_BTD.masked_scatter(is_image_BT[..., None], torch.cat(shown).to(embeds_BTD.dtype))
    return embeds_BTD, mask_BT


def hidden(vlm: Vlm, embeds_BTD: Tensor, mask_BT: Tensor, cache: DynamicCache) -> Tensor:
    """Return the last hidden states [B, T, D] of embeddings that go on from a cache, which takes them in."""
    place_BT = (mask_BT.cumsum(dim=1) - 1).clamp(min=0)[:, -embeds_BTD.shape[1] :]
    language = vlm.model.model.language_model
    # transformers has renamed it, and will not take the former name from 5.40 on.
    name_of_cache = "cache" if "cache" in signature(language.forward).parameters else "past_key_values"
    hidden_BTD: Tensor = language(
        inputs_embeds=embeds_BTD,
        attention_mask=mask_BT,
        position_ids=place_BT,
        use_cache=True,
        **{name_of_cache: cache},
    ).last_hidden_state
    return hidden_BTD
