"""The GRPO recipe: what a user writes down about a model that is to reason, its questions and its rewards.

Defaults are those of GMAI-VL-R1's parents, for its own were not published: MM-EUREKA's script for Qwen2.5-VL-7B.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from gmai_vl.evaluation.prompts import BY_LIKELIHOOD, PROMPTS
from gmai_vl.foundation import Settings, load_settings, nearest, overridden, read_yaml
from gmai_vl.reasoning.base import Teaching
from gmai_vl.reasoning.rewards import Weights
from gmai_vl.training.recipe import Lora, Part

CONTENT = ("accuracy", "facts")
"""Parts of a reward that are about what is said, not about how. `grounding` is 0 for all questions with options."""


class Every(Settings):
    """How often greedy answers to unseen questions are judged."""

    every: PositiveInt
    """Optimizer steps from one to the next."""

    questions: PositiveInt = 128
    """At most so many of the side `val`, the same ones every time."""


class Saving(Settings):
    """How often what `--resume` goes on from is saved."""

    every: PositiveInt = 50
    """Optimizer steps from one to the next."""

    keep: PositiveInt = 2


class Vllm(Settings):
    """A vLLM server of TRL (`trl vllm-serve`) that answers in place of the model here; its weights are kept in step."""

    url: str


def _in_order(shares: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= shares[0] < shares[1] <= 1:
        raise ValueError("give two shares from 0 to 1, the smaller first, such as [0.1, 0.9]")
    return shares


Bounds = Annotated[tuple[float, float], AfterValidator(_in_order)]
"""Least and largest share of right answers, both included."""


class GrpoSettings(Settings):
    """How a model is reinforced, whatever model and questions these are."""

    prompt: str = "reason"
    shuffle_labels: bool = False
    """For a control: each question's right letter is drawn anew. What rises then is not knowledge."""

    group: int = Field(default=8, ge=2)
    """Answers to a question, which are compared with each other."""

    questions_per_step: PositiveInt = 128
    temperature: PositiveFloat = 1.0
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_new_tokens: PositiveInt = 1024
    """Longest answer, in tokens; longer ones are cut off and earn what they have."""

    rewards: Weights = Weights()
    drop_settled: bool = True
    """Whether groups whose answers are all right or all wrong are left out of the loss: MM-EUREKA's online filter.
    Where `facts` has a weight, only those whose thoughts are as true as each other, too."""

    train: tuple[Part, ...] = ("projector", "language")
    """Parts that learn."""

    lora: Lora | None = None
    """Adapters in place of the weights of some parts; None: the weights themselves."""

    learning_rate: PositiveFloat = 5e-7
    warmup_ratio: float = Field(default=0.03, ge=0, lt=1)
    max_steps: PositiveInt
    """Optimizer steps."""

    kl: NonNegativeFloat = 0.0
    """Weight of the divergence from the base model; above 0 a second copy of it is held in memory."""

    micro_batch: PositiveInt = 8
    """Most answers that go through the model at once; as many as memory holds. The largest number up to it is taken
    that divides the answers of a step."""

    precision: Literal["auto", "bf16", "fp32"] = "auto"
    validation: Every | None = None
    state: Saving = Saving()
    vllm: Vllm | None = None

    @field_validator("prompt")
    @classmethod
    def _prompt_exists(cls, prompt: str) -> str:
        if prompt not in PROMPTS or prompt == BY_LIKELIHOOD:
            raise ValueError(f"no prompt of that name to answer by; {nearest(prompt, PROMPTS)}")
        return prompt

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if not self.train or len(set(self.train)) < len(self.train):
            raise ValueError("`train` must name each part that learns once")
        if self.lora and not set(self.lora.parts) <= set(self.train):
            raise ValueError("`lora` names a part that does not learn; name it in `train`, or take it out of `lora`")
        return self

    @model_validator(mode="after")
    def _something_is_not_settled(self) -> Self:
        if self.drop_settled and not any(getattr(self.rewards, part) for part in CONTENT):
            raise ValueError(
                f"`drop_settled` leaves out every group where none of {', '.join(CONTENT)} has a weight: nothing would "
                "be learnt; give one of them a weight in `rewards`, or set `drop_settled` to false"
            )
        return self

    @property
    def answers_per_step(self) -> int:
        """Answers that an optimizer step rests on."""
        return self.group * self.questions_per_step

    @property
    def answers_at_once(self) -> int:
        """Answers that go through the model at once: all pieces of a step are of one size."""
        most = min(self.micro_batch, self.answers_per_step)
        return next(size for size in range(most, 0, -1) if self.answers_per_step % size == 0)


class GrpoRecipe(GrpoSettings, Teaching):
    """A whole reinforcement learning: group-relative policy optimisation (GRPO, arXiv 2402.03300).

    The side `train` of `questions` is learnt from.
    """

    difficulty: Bounds | None = None
    """Only questions that the base model answers right in this share of its tries, as `gmai reason difficulty` found;
    R1's parents take 0.1 to 0.9. None: all."""


def read_grpo_recipe(path: Path, overrides: Sequence[str] = ()) -> GrpoRecipe:
    """Read a recipe from YAML, with `key=value` in place of what stands there.

    Raises UserError, naming the file and the key, for what is no recipe.
    """
    return load_settings(GrpoRecipe, overridden(read_yaml(path), overrides), path)
