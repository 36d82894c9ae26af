"""How likely a model holds given answers to be: mean losses of their tokens after what is asked."""

# B requests of a batch · R rows, an answer each · K tokens of an answer · T tokens · D language width · V vocabulary

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from gmai_vl.model.asked import Opened, Request, answering, hidden, image_features, opened, prepare
from gmai_vl.model.chatml import text_tokens
from gmai_vl.model.vlm import Vlm


@dataclass(frozen=True, slots=True)
class Weighing:
    """A conversation that waits for the assistant, and what the assistant might say."""

    request: Request
    answers: tuple[str, ...]

    begins: str = ""
    """What each answer begins with, on which no loss is taken."""


@dataclass(frozen=True, slots=True)
class _Answer:
    tokens: list[int]
    given: int
    """Tokens of the common beginning."""


def mean_losses(vlm: Vlm, weighings: Sequence[Weighing], *, batch_size: int) -> list[list[float]]:
    """Return for each conversation the mean cross-entropy of each answer, in nats a token, in the order given.

    The end token is no part of an answer. A prompt is read once for all its answers; `batch_size` counts answers, but
    at least one prompt is read at a time. Raises ValueError where an answer has no tokens beyond what it begins with,
    or a request shows an image that it does not bring.
    """
    answers = [_tokens(vlm, weighing) for weighing in weighings]
    most = max((len(some) for some in answers), default=1)
    losses: dict[int, list[float]] = {}
    with answering(vlm):
        prompts, pixels = prepare(vlm, [weighing.request for weighing in weighings])
        features = image_features(vlm, pixels, batch_size)
        for batch in opened(vlm, prompts, features, max(1, batch_size // most)):
            losses |= _losses(vlm, batch, [answers[prompt.number] for prompt in batch.prompts])
    return [losses[number] for number in range(len(weighings))]


def _tokens(vlm: Vlm, weighing: Weighing) -> list[_Answer]:
    begins, *wholes = text_tokens(
        vlm.processor, [weighing.begins, *(weighing.begins + answer for answer in weighing.answers)]
    )
    for answer, whole in zip(weighing.answers, wholes, strict=True):
        if len(whole) <= len(begins):
            raise ValueError(f"answer {answer!r} has no tokens of its own after {weighing.begins!r}")
    return [_Answer(whole, len(begins)) for whole in wholes]


def _losses(vlm: Vlm, batch: Opened, answers: Sequence[Sequence[_Answer]]) -> dict[int, list[float]]:
    device, cache = vlm.model.device, batch.cache
    before_BD = hidden(vlm, batch.embeds_BTD, batch.mask_BT, cache)[:, -1]
    row_of = torch.tensor([place for place, some in enumerate(answers) for _ in some], device=device)
    rows = [answer for some in answers for answer in some]
    said_RK, learnt_RK = _right_padded(rows, device)
    cache.batch_select_indices(row_of)
    hidden_RKD = before_BD[row_of][:, None]
    if said_RK.shape[1] > 1:
        going_RT = torch.cat([batch.mask_BT[row_of], (said_RK[:, :-1] >= 0).long()], dim=1)
        embeds_RKD = vlm.model.get_input_embeddings()(said_RK[:, :-1].clamp(min=0))
        hidden_RKD = torch.cat([hidden_RKD, hidden(vlm, embeds_RKD, going_RT, cache)], dim=1)
    mean_R = [
        F.cross_entropy(vlm.model.lm_head(hidden_KD[learnt_K]).float(), said_K[learnt_K]).item()
        for hidden_KD, said_K, learnt_K in zip(hidden_RKD, said_RK, learnt_RK, strict=True)
    ]
    means = iter(mean_R)
    return {prompt.number: [next(means) for _ in some] for prompt, some in zip(batch.prompts, answers, strict=True)}


def _right_padded(answers: Sequence[_Answer], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the tokens [R, K] of answers, -1 behind their end, and where a loss is taken."""
    longest = max(len(answer.tokens) for answer in answers)
    said_RK = torch.full((len(answers), longest), -1)
    learnt_RK = torch.zeros_like(said_RK, dtype=torch.bool)
    for row, answer in enumerate(answers):
        said_RK[row, : len(answer.tokens)] = torch.tensor(answer.tokens)
        learnt_RK[row, answer.given : len(answer.tokens)] = True
    return said_RK.to(device), learnt_RK.to(device)
