"""The synthesis recipe: what a user writes down about questions, the teacher that answers them, and what is kept."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from gmai_vl.endpoint import Prices
from gmai_vl.evaluation.remote import PREFIX
from gmai_vl.foundation import Settings, load_settings, overridden, read_yaml


class Demands(Settings):
    """What a trace must fulfil besides its form and the right answer."""

    facts: Literal["where_known", "required"] = "where_known"
    """required: a thought is kept only if the annotation of its case is at hand to hold it against."""

    min_words: NonNegativeInt = 20
    """Of the thought, in words of English and characters of Chinese."""

    max_words: PositiveInt = 600
    """Fit into the 1,024 tokens that the prompt `reason` gives to thought and answer."""

    most_repeats: PositiveInt = 3
    """Times that the same five words may follow each other in a thought."""

    most_alike: PositiveInt = 3
    """Traces, of all questions together, whose thoughts are the same but for case, punctuation and numbers."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min_words > self.max_words:
            raise ValueError(f"`min_words` {self.min_words} is more than `max_words` {self.max_words}")
        return self


class SynthesisSettings(Settings):
    """How a teacher is asked and what is kept, whatever questions these are."""

    teacher: str | None = Field(default=None, min_length=1)
    """Folder of a checkpoint, relative to the recipe file, or `openai:URL#MODEL`; None where the model is to be its own
    teacher."""

    tries: Annotated[int, Field(ge=1, le=1000)] = 4
    """Answers to each question. More of them may be asked for later."""

    temperature: Annotated[float, Field(gt=0, le=2)] = 1.0
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Of a checkpoint."""

    max_new_tokens: PositiveInt = 1024
    """Longest answer, in tokens; one that is cut off is not kept."""

    limit: PositiveInt | None = None
    """At most so many questions, the mix of all; None for all."""

    per_question: PositiveInt = 1
    """Traces that are kept of a question, the first ones that pass."""

    checks: Demands = Demands()

    concurrency: Annotated[int, Field(ge=1, le=1024)] = 8
    """Requests under way at a server."""

    key_env: Annotated[str, Field(pattern=r"^\w+$")] | None = None
    """Environment variable that holds the server's key."""

    budget_requests: PositiveInt | None = None
    """Most requests that all runs with the same `out` may send together."""

    timeout_s: PositiveFloat = 600.0
    """Seconds from sending a request until the last byte of its answer."""

    prices: Prices | None = None
    """US dollars for a million tokens, for the report."""

    @property
    def is_remote(self) -> bool:
        """Whether the teacher is behind a server."""
        return self.teacher is not None and self.teacher.startswith(PREFIX)

    @model_validator(mode="after")
    def _fits_the_teacher(self) -> Self:
        if self.is_remote and self.top_p != 1:
            raise ValueError("`top_p` is for checkpoints, a server is not told of it; leave it out")
        return self


class SynthesisRecipe(SynthesisSettings):
    """A whole rejection sampling."""

    questions: str
    """Folder that `gmai reason questions` wrote, relative to the recipe file."""

    teacher: str = Field(min_length=1)
    """Folder of a checkpoint, relative to the recipe file, or `openai:URL#MODEL`."""

    out: str
    """Folder to write, relative to the recipe file."""

    side: Literal["train", "val"] = "train"
    """Side of the questions. What is asked of a model in the end is not taught before."""

    seed: int = 0
    """With question and number of the try it gives the seed of an answer."""


def read_synthesis_recipe(path: Path, overrides: Sequence[str] = ()) -> SynthesisRecipe:
    """Read a recipe from YAML, with `key=value` in place of what stands there.

    Raises UserError, naming the file and the key, for what is no recipe.
    """
    return load_settings(SynthesisRecipe, overridden(read_yaml(path), overrides), path)
