"""Run one stage of a training on this process alone."""

from pathlib import Path

import torch

from gmai_vl.model import Vlm
from gmai_vl.training.fit import fitted
from gmai_vl.training.loop import Run, Totals, run_stage
from gmai_vl.training.mixture import Mixture
from gmai_vl.training.packing import PackLimits
from gmai_vl.training.precision import Precision
from gmai_vl.training.ranks import Ranks
from gmai_vl.training.recipe import Stage
from gmai_vl.training.sharding import Learner, shard
from gmai_vl.training.state import StateWriter
from gmai_vl.training.telemetry import RunLog

ALONE = Ranks(device=torch.device("cpu"))


def learner_of(vlm: Vlm, precision: Precision = "fp32") -> Learner:
    """Return the model of `vlm` as one rank trains it."""
    return shard(vlm.model, ALONE, "full", precision)


def one_stage(
    vlm: Vlm,
    stage: Stage,
    mixture: Mixture,
    out: Path,
    held_out: Mixture | None = None,
    *,
    precision: Precision = "fp32",
    limits: PackLimits | None = None,
    stop_at_leap: float | None = None,
) -> Totals:
    """Train `vlm` in place on `mixture`; the log lies in `out`."""
    out.mkdir(exist_ok=True)
    with RunLog(out) as log, StateWriter(out, ALONE) as states:
        run = Run(
            vlm=vlm,
            learner=learner_of(vlm, precision),
            seed=0,
            limits=limits,
            log=log,
            states=states,
            save_every=10**9,
            stop_at_leap=stop_at_leap,
            survey=None,
        )
        data = fitted(vlm.processor, mixture, limits, stage.name)
        validated = None if held_out is None else fitted(vlm.processor, held_out, limits, stage.name)
        return run_stage(run, stage, data, validated)
