"""The words of a stage that aligns images with words: those of its answers that tell one image from another."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LlavaProcessor

from gmai_vl.foundation import UserError
from gmai_vl.model import IGNORED, encode
from gmai_vl.training.mixture import Example

FEWEST_USES = 3
"""Answers that must use a word: what is said once or twice cannot be learned."""

HIGHEST_SHARE = 0.6
"""Share of the answers above which a word belongs to the language, not to the image."""


def telling_words(processor: LlavaProcessor, examples: Sequence[Example], stage: str) -> Tensor:
    """Return the tokens [W], ascending, that some but not most of the distinct answers of `examples` use.

    Raises UserError, naming the `stage`, for a sample that does not show exactly one image, and where there is no
    such token.
    """
    answers = {example.sample.id: example for example in examples}
    uses: Counter[int] = Counter()
    for id, example in answers.items():
        encoded = encode(processor, example.sample.turns)
        if len(encoded.images) != 1:
            raise UserError(
                f"stage {stage}: sample {id} shows {len(encoded.images)} images; `objective: words` needs one each, "
                f"narrow the mixture with `subsets` or `forms`"
            )
        uses.update({token for token in encoded.labels if token != IGNORED})
    words = sorted(word for word, count in uses.items() if FEWEST_USES <= count <= HIGHEST_SHARE * len(answers))
    if not words:
        raise UserError(
            f"stage {stage}: no word is used by some but not most of its {len(answers)} answers, so `objective: words` "
            f"has nothing to learn; take captions, or `objective: text`"
        )
    return torch.tensor(words)
