"""The learning rate over a stage: a linear warm-up, then a cosine to 0 (arXiv 2411.14522, Table 8)."""

import math


def learning_rate_factor(step: int, steps: int, warmup_ratio: float) -> float:
    """Return the share, 0-1, of the peak learning rate at `step` (from 0) of `steps`.

    The first floor(warmup_ratio * steps) steps rise in equal parts, beginning above 0; the step after them has the
    peak; 0 is what a step after the last would have.
    """
    warmup = int(warmup_ratio * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2
