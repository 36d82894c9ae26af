"""The train recipe: what a user writes down about the model, its stages and their data."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator, model_validator

from gmai_vl.foundation import Settings, load_settings, nearest, overridden, read_yaml
from gmai_vl.model import ModelSettings
from gmai_vl.training.batches import StepSize
from gmai_vl.training.packing import Packing, PackLimits
from gmai_vl.training.trackers import TrackerName
from gmai_vl.vocabulary import SUBSETS, Language
from gmai_vl.writing import FORMS

Part = Literal["vision", "projector", "language"]

Strategy = Literal["full", "hybrid", "zero2"]
"""full: every rank holds its share of everything, least memory. hybrid: the ranks of one machine share, each machine
holds everything; for slow networks. zero2: weights stay whole from forward to backward, less to fetch. The last two
also hold the gradients of all weights until the last micro-batch of a step."""

RESERVED_NAMES = ("final", "log.jsonl", "run.json", "state", "tensorboard")
"""What stands in the output folder beside the stages."""


class MixturePart(Settings):
    """Samples of one corpus."""

    corpus: str
    """Folder of the corpus, relative to the recipe file."""

    ratio: PositiveFloat = 1.0
    """Share of the samples that pass the filters: 0.05 takes 5 % of them, 2.5 each twice and half of them once more."""

    subsets: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Sub-datasets to take; all by default."""

    languages: tuple[Language, ...] | None = Field(default=None, min_length=1)
    """Languages to take; all by default."""

    forms: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Forms to take, such as caption, modality, presence; all by default."""

    min_words: PositiveInt | None = None
    """Fewest words of the answers, of Chinese characters; all by default."""

    min_confidence: float | None = Field(default=None, gt=0, le=1)
    """Least confidence that the model has in the answers when the stage begins: e to the mean log-probability of their
    tokens. GMAI-VL's third stage leaves out what the earlier ones were very unsure of; all by default."""

    quality: Literal["pass"] | None = None
    """pass: of sources only that `gmai data review` gave the verdict pass; all by default."""

    @field_validator("subsets")
    @classmethod
    def _subsets_exist(cls, subsets: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for subset in subsets or ():
            if subset not in SUBSETS:
                raise ValueError(f"`{subset}` is no sub-dataset; {nearest(subset, SUBSETS)}")
        return subsets

    @field_validator("forms")
    @classmethod
    def _forms_exist(cls, forms: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for form in forms or ():
            if form not in FORMS:
                raise ValueError(f"`{form}` is no form of a sample; {nearest(form, FORMS)}")
        return forms


class Validation(Settings):
    """Loss on samples of the mixture's corpora that stand in their split val."""

    every: PositiveInt
    """Optimizer steps between two validations; the last step of a stage is always followed by one."""

    samples: PositiveInt = 512
    """At most so many, chosen by the seed, the same ones every time."""

    keep: Literal["last", "best"] = "last"
    """best: the stage ends with the weights of the validation with the lowest loss."""


class Lora(Settings):
    """Small matrices that learn in place of the large ones beside them (Hu et al., arXiv 2106.09685)."""

    parts: tuple[Part, ...] = Field(min_length=1)
    """Parts of `train` of which only adapters learn."""

    # 64 and 16: the official trainer's.
    rank: PositiveInt = 64
    alpha: PositiveInt = 16
    """The change is scaled by alpha / rank."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of what adapters read that is dropped."""


class Stage(Settings):
    """One stage: what learns, from what, for how long."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the stage and of its folder below `out`."""

    train: tuple[Part, ...] = Field(min_length=1)
    """Parts that learn; the others stay as they are, to the bit."""

    objective: Literal["text", "words"] = "text"
    """text: the answers, token by token. words: which words the answers use, told from the image features alone; the
    language model is not run, so only vision and projector can learn."""

    learning_rate: PositiveFloat | dict[Part, PositiveFloat]
    """Peak learning rate, one for all or one per part."""

    global_batch: PositiveInt | None = None
    """Samples per optimizer step; packs where the recipe packs them. Or `batch_tokens`."""

    batch_tokens: PositiveInt | None = None
    """Tokens per optimizer step on average, of text and image, in whole samples or packs. Or `global_batch`."""

    micro_batch_tokens: PositiveInt = 2048
    """Tokens that go through the model at once, for samples not packed: decides memory and speed, not the result."""

    epochs: PositiveInt | None = None
    """Passes over the mixture; or `max_steps`."""

    max_steps: PositiveInt | None = None
    """Optimizer steps, over as many passes as it takes; or `epochs`."""

    # 0.03, 0 and 1: the official training command's warm-up ratio, weight decay and clipping norm.
    warmup_ratio: float = Field(default=0.03, ge=0, lt=1)
    """Share of the steps in which the learning rate rises linearly; a cosine to 0 follows."""

    weight_decay: NonNegativeFloat = 0.0
    """Of AdamW, on matrices only."""

    clip: PositiveFloat | None = 1.0
    """Largest gradient norm, over all parts together; null clips nothing."""

    lora: Lora | None = None
    """None: whole weights learn."""

    gradient_checkpointing: tuple[Part, ...] = ()
    """Parts whose layers are computed again in the backward: more to compute, much less memory."""

    validation: Validation | None = None
    """None: no validation."""

    mixture: tuple[MixturePart, ...] = Field(min_length=1)
    """Where the samples come from."""

    @field_validator("name")
    @classmethod
    def _name_is_free(cls, name: str) -> str:
        if name in RESERVED_NAMES:
            raise ValueError(f"`{name}` is taken by the run itself; choose another name")
        return name

    @field_validator("train")
    @classmethod
    def _parts_are_distinct(cls, train: tuple[Part, ...]) -> tuple[Part, ...]:
        if len(set(train)) < len(train):
            raise ValueError("a part stands twice; name each once")
        return train

    @model_validator(mode="after")
    def _length_and_rates_fit(self) -> "Stage":
        if (self.epochs is None) == (self.max_steps is None):
            raise ValueError("give either `epochs` or `max_steps`")
        if (self.global_batch is None) == (self.batch_tokens is None):
            raise ValueError("give either `global_batch` or `batch_tokens`")
        if self.objective == "words" and "language" in self.train:
            raise ValueError("`objective: words` does not reach the language part; leave it out of `train`")
        if self.lora and not set(self.lora.parts) <= set(self.train):
            raise ValueError("`lora` names a part that does not learn; name it in `train`, or take it out of `lora`")
        if isinstance(self.learning_rate, dict) and set(self.learning_rate) != set(self.train):
            raise ValueError(f"`learning_rate` must name exactly the parts that learn: {', '.join(self.train)}")
        return self

    @property
    def step_size(self) -> StepSize:
        """How much makes an optimizer step."""
        if self.global_batch is not None:
            return StepSize(self.global_batch, "units")
        assert self.batch_tokens is not None
        return StepSize(self.batch_tokens, "tokens")

    @property
    def rates(self) -> dict[Part, float]:
        """Peak learning rate of each part that learns."""
        rates = self.learning_rate
        return {part: rates[part] if isinstance(rates, dict) else rates for part in self.train}


class LeakCheck(Settings):
    """What the corpora of all mixtures must share nothing with."""

    against: tuple[str, ...] = Field(min_length=1)
    """Corpora, or folders of pictures, relative to the recipe file."""
    on_leak: Literal["stop", "warn"] = "stop"


class Saving(Settings):
    """How often what `--resume` goes on from is saved."""

    every: PositiveInt = 500
    """Optimizer steps from one to the next (the official trainer's interval). The end of a stage is always saved."""

    keep: PositiveInt = 2
    """So many of the last ones are kept."""


class TrainRecipe(Settings):
    """A whole training: a model and its stages, in order."""

    name: str = Field(min_length=1)
    out: str
    """Folder to write, relative to the recipe file."""

    seed: int = 0
    """Of the model's new weights, the choice of samples and their order."""

    model: ModelSettings
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Of the computation; weights are always fp32. auto: bf16 where the processor computes in it, else fp32."""

    packing: Packing | Literal["none"] = "none"
    """bfd, next-fit: steps are of packs. none: steps are of samples."""

    pack_length: PositiveInt = 2048
    """Most tokens of a pack, text and image."""

    max_images_per_pack: PositiveInt = 4

    too_long: Literal["cut", "quarantine"] = "cut"
    """Of a sample longer than a pack: cut its last answer, or leave it out."""

    strategy: Strategy = "full"
    """How weights, gradients and moments are spread over the ranks that torchrun starts."""

    tracker: TrackerName | None = None
    """Where the numbers of the log are shown too; none by default. wandb sends them to its servers."""

    deterministic: bool = False
    """On a GPU: kernels that give the same bits every time, which costs speed. On a CPU they always do."""

    state: Saving = Saving()
    stop_at_leap: PositiveFloat | None = 4.0
    """A step whose loss is so many times the usual one stops the run; null: none does."""

    leak_check: LeakCheck | None = None
    stages: tuple[Stage, ...] = Field(min_length=1)

    @property
    def pack_limits(self) -> PackLimits | None:
        """How samples are packed; None where they are not."""
        if self.packing == "none":
            return None
        return PackLimits(
            packing=self.packing,
            length=self.pack_length,
            most_images=self.max_images_per_pack,
            too_long=self.too_long,
        )

    @model_validator(mode="after")
    def _confidence_has_a_model(self) -> "TrainRecipe":
        unsure = any(part.min_confidence is not None for part in self.stages[0].mixture)
        if unsure and self.model.init is None:
            raise ValueError(
                "`min_confidence` in the first stage: nothing has learnt yet that could be sure; take it out there, or "
                "begin with `model: {init: CHECKPOINT}`"
            )
        return self

    @field_validator("stages")
    @classmethod
    def _names_are_distinct(cls, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        names = [stage.name for stage in stages]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two stages are called `{name}`; give each its own name")
        return stages


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> TrainRecipe:
    """Read a train recipe and change it by `overrides`, such as `stages.0.learning_rate=1e-4` (values are YAML).

    Raises UserError that names the file, the key and the fix.
    """
    return load_settings(TrainRecipe, overridden(read_yaml(path), overrides), path)
