"""Speed: how much of what its devices can do a step makes use of."""

from gmai_vl.training.arithmetic import Load, adapters_of, flops_of_step, peak_flops
from gmai_vl.training.ranks import Ranks
from gmai_vl.training.recipe import Stage
from gmai_vl.training.survey import Survey


def flops_and_mfu(load: Load, seconds: float, stage: Stage, survey: Survey | None, ranks: Ranks) -> dict[str, float]:
    """Return operations a second of a step of this load, of all ranks, without what is computed again; and the MFU.

    MFU is their share, 0-1, of what the devices can do. It is missing where that is not known; both are, where the cost
    of the model is not, that is without a `survey`.
    """
    if survey is None:
        return {}
    if stage.objective == "words":  # the language model is not run
        load = Load(tokens=0, squares=0, images=load.images, supervised=0)
    speed = flops_of_step(survey, load, train=stage.train, lora=adapters_of(stage)).model / seconds
    peak = peak_flops(ranks.device)
    return {"flops_per_second": speed} | ({"mfu": speed / (peak * ranks.world)} if peak else {})
