"""TRL's GRPO with medical rewards, and settled groups left out."""

# G groups of a step · A answers of one · B answers of all · P parts of a reward · T tokens of the longest answer

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model as load_weights
from safetensors.torch import save_model as save_weights
from torch import Tensor
from trl import GRPOTrainer

from gmai_vl.evaluation import Question
from gmai_vl.model import Vlm
from gmai_vl.reasoning.grpo.recipe import CONTENT
from gmai_vl.reasoning.grpo.telemetry import FAULT
from gmai_vl.reasoning.rewards import Rewarded, count_hacks

WEIGHTS = "weights.safetensors"
"""Name of the file in a state."""

Judge = Callable[[Question, str], Rewarded]


class RewardedAnswers:
    """The reward as TRL calls it, which keeps what it found: TRL itself only wants the sums."""

    __name__ = "reward"

    def __init__(self, questions: Sequence[Question], judge: Judge) -> None:
        """Judge answers to `questions`, which TRL names by their places."""
        self._questions, self._judge = questions, judge
        self.last: list[Rewarded] = []
        """Of the answers that were judged last."""

    def __call__(
        self,
        *,
        completions: Sequence[list[dict[str, str]]],
        place: Sequence[int],
        log_metric: Callable[[str, float], None],
        **_: Any,
    ) -> list[float]:
        """Return what each answer earns, and log its parts and the signs of misuse, as shares of the answers."""
        asked = [self._questions[each] for each in place]
        said = [completion[0]["content"] for completion in completions]
        self.last = [self._judge(question, text) for question, text in zip(asked, said, strict=True)]
        for name in self.last[0].parts:
            log_metric(f"reward_{name}", sum(each.parts[name] for each in self.last) / len(self.last))
        for sign, number in count_hacks(asked, said).items():
            log_metric(f"hack_{sign}", number / len(said))
        faults = Counter(fault for each in self.last for fault in each.faults)
        log_metric("faults", faults.total())
        for fault, number in faults.items():
            log_metric(f"{FAULT}{fault}", number)
        return [each.total for each in self.last]


class Trainer(GRPOTrainer):
    """GRPO on a LLaVA of ours."""

    def __init__(self, vlm: Vlm, *, rewarded: RewardedAnswers, drop_settled: bool, **given: Any) -> None:
        """Take TRL's arguments, and whether settled groups are left out of the loss."""
        super().__init__(model=vlm.model, processing_class=vlm.processor, reward_funcs=rewarded, **given)
        self._rewarded = rewarded
        self._drop_settled = drop_settled

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        # Under the names that the model has in memory. transformers would write those of files, and find none of them
        # again when it goes on, without a word.
        assert output_dir is not None
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        save_weights(self.accelerator.unwrap_model(self.model), str(Path(output_dir) / WEIGHTS))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        model = self.model if model is None else model
        load_weights(model, str(Path(resume_from_checkpoint) / WEIGHTS), strict=True)

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        scored: dict[str, Any] = super()._generate_and_score_completions(inputs)
        if not self.model.training:
            return scored
        assert self.num_generations is not None
        settled_B = settled([_content(each) for each in self._rewarded.last], self.num_generations)
        self._metrics["train"]["settled_groups"].append(settled_B.float().mean().item())
        if self._drop_settled:
            mask_BT = scored["completion_mask"] * (~settled_B).to(scored["completion_mask"].device)[:, None]
            scored["completion_mask"] = mask_BT
            scored["num_items_in_batch"] = self.accelerator.gather(mask_BT.sum()).sum()
        return scored


def _content(rewarded: Rewarded) -> tuple[float, ...]:
    return tuple(rewarded.parts.get(part, 0.0) for part in CONTENT)


def settled(earned: Sequence[Sequence[float]], group: int) -> Tensor:
    """Return [B]: whether an answer is of a group whose answers all earn the same, in each of the given parts.

    Answers of a group follow each other. Where all are right, or all are wrong, there is nothing to compare but form
    and length, and advantages would reward style alone.
    """
    earned_GAP = torch.tensor(earned, dtype=torch.float64).view(-1, group, len(earned[0]))
    same_G = (earned_GAP == earned_GAP[:, :1]).all(dim=2).all(dim=1)
    return same_G.repeat_interleave(group)
