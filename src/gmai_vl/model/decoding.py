"""Answers that are written word by word side by side: others may join between two words, and each leaves on its own."""

# B answers under way · N newcomers · T tokens · D language width · V vocabulary · R rows that are sampled

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache

from gmai_vl.foundation import stable_fraction
from gmai_vl.model.asked import Opened, Prompt, Sampling, hidden
from gmai_vl.model.vlm import Vlm


@dataclass(frozen=True, slots=True)
class Word:
    """The next token of an answer."""

    number: int
    """Of its prompt."""

    token: int

    logprob: float | None = None
    """Natural logarithm of its probability before any temperature; None where the prompt does not ask for it."""

    likeliest: tuple[tuple[int, float], ...] = ()
    """The most likely tokens and their logprobs, as many as the prompt asks for, from the most likely on."""


class Decoding:
    """Answers under way, all of one model. Rows end on the right, so those of any length stand side by side.

    Use it within `answering(vlm)`. What an answer says does not depend on its company, but for the rounding of sums
    over longer rows.
    """

    def __init__(self, vlm: Vlm) -> None:
        """Begin without any answer."""
        self._vlm = vlm
        self._prompts: list[Prompt] = []
        self._places: list[int] = []
        """How many words each answer has."""

        self._chosen_B = torch.empty(0, dtype=torch.long, device=vlm.model.device)
        """The last word of each answer, which the model has still to read."""

        self._mask_BT = torch.empty(0, 0, dtype=torch.long, device=vlm.model.device)
        """Real tokens, the last word not among them."""

        self._cache: DynamicCache | None = None

    def __len__(self) -> int:
        """Return the number of answers under way."""
        return len(self._prompts)

    def join(self, batch: Opened) -> list[Word]:
        """Read newcomers to their end, take them in, and return the first word of each."""
        words, chosen_N = self._next(batch.prompts, [0] * len(batch.prompts), batch)
        mask_NT, cache = batch.mask_BT, batch.cache
        if self._cache is None:
            self._chosen_B, self._mask_BT, self._cache = chosen_N, mask_NT, cache
        else:
            length = max(self._mask_BT.shape[1], mask_NT.shape[1])
            self._chosen_B = torch.cat([self._chosen_B, chosen_N])
            self._mask_BT = torch.cat([_widened(self._mask_BT, length, dim=1), _widened(mask_NT, length, dim=1)])
            _take_in(self._cache, cache)
        self._prompts += batch.prompts
        self._places += [1] * len(batch.prompts)
        return words

    def step(self) -> list[Word]:
        """Return the next word of every answer under way, in the order in which they joined."""
        assert self._cache is not None
        embeds_B1D = self._vlm.model.get_input_embeddings()(self._chosen_B[:, None])
        mask_BT = torch.cat([self._mask_BT, self._mask_BT.new_ones(len(self._prompts), 1)], dim=1)
        unread = Opened(self._prompts, embeds_B1D, mask_BT, self._cache)
        words, self._chosen_B = self._next(self._prompts, self._places, unread)
        self._mask_BT = mask_BT
        self._places = [place + 1 for place in self._places]
        return words

    def leave(self, numbers: Collection[int]) -> None:
        """Give up the answers to the prompts of these numbers, and the columns that only they had."""
        keep = [row for row, prompt in enumerate(self._prompts) if prompt.number not in numbers]
        if len(keep) == len(self._prompts):
            return
        self._prompts = [self._prompts[row] for row in keep]
        self._places = [self._places[row] for row in keep]
        if not keep:
            self._cache = None
            self._chosen_B, self._mask_BT = self._chosen_B[:0], self._mask_BT[:0]
            return
        assert self._cache is not None
        rows_B = torch.tensor(keep, device=self._mask_BT.device)
        self._chosen_B, mask_BT = self._chosen_B[rows_B], self._mask_BT[rows_B]
        first = int(mask_BT.any(dim=0).int().argmax())
        self._mask_BT = mask_BT[:, first:]
        self._cache.batch_select_indices(rows_B)
        _keep_last(self._cache, self._mask_BT.shape[1])

    def _next(self, prompts: Sequence[Prompt], places: Sequence[int], unread: Opened) -> tuple[list[Word], Tensor]:
        model = self._vlm.model
        hidden_BD = hidden(self._vlm, unread.embeds_BTD, unread.mask_BT, unread.cache)[:, -1]
        logits_BV = _logits(model.lm_head, hidden_BD)
        logits_BV[:, self._vlm.processor.image_token_id] = -torch.inf  # the place of an image is no word
        chosen_B = _chosen(logits_BV, [prompt.sampling for prompt in prompts], places)
        return _words(prompts, logits_BV, chosen_B), chosen_B


def _logits(head: torch.nn.Module, hidden_BD: Tensor) -> Tensor:
    """Return the logits [B, V] of some rows."""
    on_cpu = hidden_BD.device.type == "cpu" and hidden_BD.dtype == torch.float32
    if on_cpu and type(head) is torch.nn.Linear:
        # The other way round: for 2 to 32 rows and 49,152 words that takes a third to four fifths of the time.
        product_BV = (head.weight @ hidden_BD.T).T.contiguous()
        return product_BV if head.bias is None else product_BV + head.bias
    logits_BV: Tensor = head(hidden_BD)
    return logits_BV


def _words(prompts: Sequence[Prompt], logits_BV: Tensor, chosen_B: Tensor) -> list[Word]:
    words = []
    for row, (prompt, token) in enumerate(zip(prompts, chosen_B.tolist(), strict=True)):
        if prompt.likeliest is None:
            words.append(Word(prompt.number, token))
            continue
        logprobs_V = logits_BV[row].float().log_softmax(dim=-1)
        top = logprobs_V.topk(prompt.likeliest)
        likeliest = tuple(zip(top.indices.tolist(), top.values.tolist(), strict=True))
        words.append(Word(prompt.number, token, float(logprobs_V[token]), likeliest))
    return words


def _widened(values: Tensor, length: int, *, dim: int) -> Tensor:
    """Return a tensor with zeros before it, so that it is `length` long in one dimension."""
    shape = list(values.shape)
    shape[dim] = length - shape[dim]
    return values if not shape[dim] else torch.cat([values.new_zeros(shape), values], dim=dim)


def _take_in(cache: DynamicCache, newcomers: DynamicCache) -> None:
    """Put the rows of a cache behind those of another.

    A layer with a sliding window holds the last tokens only, and counts the others.
    """
    for layer, more in zip(cache.layers, newcomers.layers, strict=True):
        held = max(layer.keys.shape[-2], more.keys.shape[-2])
        layer.keys = torch.cat([_widened(layer.keys, held, dim=-2), _widened(more.keys, held, dim=-2)])
        layer.values = torch.cat([_widened(layer.values, held, dim=-2), _widened(more.values, held, dim=-2)])
        if hasattr(layer, "cumulative_length"):
            layer.cumulative_length = max(layer.cumulative_length, more.cumulative_length)


def _keep_last(cache: DynamicCache, length: int) -> None:
    """Leave the last `length` tokens of a cache, which are all that any of its rows has."""
    for layer in cache.layers:
        layer.keys, layer.values = layer.keys[..., -length:, :], layer.values[..., -length:, :]
        if hasattr(layer, "cumulative_length"):
            layer.cumulative_length = length


def _chosen(logits_BV: Tensor, samplings: Sequence[Sampling | None], places: Sequence[int]) -> Tensor:
    """Return the next token of every row [B]: the most likely one, or where it is to be sampled the one drawn."""
    chosen_B = logits_BV.argmax(dim=-1)
    for whole in (True, False):  # sorting a vocabulary takes longer than a small model's step, so only where it must be
        sampled = {row: one for row, one in enumerate(samplings) if one is not None and (one.top_p == 1) == whole}
        if sampled:
            chances = [stable_fraction(one.seed, places[row]) for row, one in sampled.items()]
            chosen_B[list(sampled)] = drawn(logits_BV[list(sampled)], list(sampled.values()), chances)
    return chosen_B


def drawn(logits_RV: Tensor, samplings: Sequence[Sampling], chances: Sequence[float]) -> Tensor:
    """Return the tokens [R] that chances in [0, 1) fall on.

    One number draws a token, so that the same seed draws the same answer in any batch. Where some rows have a top_p
    below 1, the words of all rows stand from the most likely to the least; else in the order of the vocabulary.
    """
    temperature_R1 = logits_RV.new_tensor([[one.temperature] for one in samplings], dtype=torch.float64)
    top_p_R1 = logits_RV.new_tensor([[one.top_p] for one in samplings], dtype=torch.float64)
    chance_R1 = logits_RV.new_tensor([[chance] for chance in chances], dtype=torch.float64)
    share_RV = (logits_RV / temperature_R1).softmax(dim=-1)
    order_RV = None
    if any(one.top_p < 1 for one in samplings):
        share_RV, order_RV = share_RV.sort(dim=-1, descending=True, stable=True)
        # The word that reaches top_p is in as well (Holtzman et al. 2020).
        share_RV = share_RV.where(share_RV.cumsum(dim=-1) - share_RV < top_p_R1, 0.0)
    up_to_RV = share_RV.cumsum(dim=-1)
    last_R1 = (share_RV > 0).double().cumsum(dim=-1).argmax(dim=-1, keepdim=True)
    place_R1 = torch.searchsorted(up_to_RV, chance_R1 * up_to_RV[:, -1:], right=True).minimum(last_R1)
    return (place_R1 if order_RV is None else order_RV.gather(-1, place_R1))[:, 0]
