"""The words of a stage that aligns images with words: those of its answers that tell one image from another."""

from collections import Counter

import torch
from torch import Tensor

from gmai_vl.foundation import UserError
from gmai_vl.model import IGNORED
from gmai_vl.training.mixture import Mixture

FEWEST_USES = 3
"""Answers that must use a word: what is said once or twice cannot be learned."""

HIGHEST_SHARE = 0.6
"""Share of the answers above which a word belongs to the language, not to the image."""


def telling_words(mixture: Mixture, stage: str) -> Tensor:
    """Return the tokens [W], ascending, that some but not most of the distinct answers of `mixture` use.

    Raises UserError, naming the `stage`, for a sample that does not show exactly one image, and where there is no
    such token.
    """
    uses: Counter[int] = Counter()
    answers = {(mixture.store_N[index], mixture.row_N[index]): index for index in range(len(mixture))}
    for index in answers.values():
        encoded = mixture.read(index).encoded
        if len(encoded.images) != 1:
            raise UserError(
                f"stage {stage}: sample {mixture.ids([index])[0]} shows {len(encoded.images)} images; `objective: "
                "words` needs one each, narrow the mixture with `subsets` or `forms`"
            )
        uses.update({token for token in encoded.labels if token != IGNORED})
    words = sorted(word for word, count in uses.items() if FEWEST_USES <= count <= HIGHEST_SHARE * len(answers))
    if not words:
        raise UserError(
            f"stage {stage}: no word is used by some but not most of its {len(answers)} answers, so `objective: words` "
            f"has nothing to learn; take captions, or `objective: text`"
        )
    return torch.tensor(words)
