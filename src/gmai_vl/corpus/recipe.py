"""The data recipe: what a corpus is made from, checked before anything is read."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from gmai_vl.endpoint import EndpointSettings
from gmai_vl.foundation import Settings, canonical_json, load_settings, read_yaml, sha256_of_text
from gmai_vl.records import Split, Subset
from gmai_vl.sources import SourceSpec
from gmai_vl.vocabulary import Language
from gmai_vl.writing import LlmOptions, prompts_version

NAME = r"[\w.-]+"
"""Names stand in ids and file names."""

Share = Annotated[float, Field(ge=0, le=1)]


def _adds_up(shares: dict[Language, float]) -> dict[Language, float]:
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise ValueError(f"the shares add up to {sum(shares.values()):g}; make them add up to 1")
    return shares


class SplitShares(Settings):
    """Shares of the cases of every source, 0-1."""

    train: Share = 0.8
    val: Share = 0.1
    test: Share = 0.1
    by: Literal["patient", "image"] = "patient"
    """`patient`: whole patients, single images where a source names no patients. `image`: no source names patients."""

    @model_validator(mode="after")
    def _check(self) -> "SplitShares":
        if abs(sum(self.shares.values()) - 1) > 1e-6:
            raise ValueError(f"the shares add up to {sum(self.shares.values()):g}; make them add up to 1")
        return self

    @property
    def shares(self) -> dict[Split, float]:
        """Side -> share."""
        return {"train": self.train, "val": self.val, "test": self.test}


class TemplateWriter(Settings):
    """Texts composed of the annotation by templates."""

    kind: Literal["template"] = "template"
    answer_with: Literal["letter", "text"] = "letter"
    """What the assistant says to a multiple-choice question: the option's letter, as the benchmarks ask for, or its
    text, which models of some hundred million parameters learn far sooner."""
    further: bool = True
    """Whether there are questions of the further forms, at most two of a case in each subset: relations, contact,
    laterality, measures, the largest, the closest, and others."""


class LlmWriter(EndpointSettings):
    """Texts by a language model behind an OpenAI-compatible server, guided by the annotation and held against it."""

    kind: Literal["llm"]
    answer_with: Literal["letter", "text"] = "letter"
    """As of the template writer, for questions that the source itself asks."""

    zh_share: Share = 0.3
    """Share of the texts that are translated into Chinese besides (0.3: arXiv 2411.14522, section 3.1)."""

    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    send_images: bool = True
    """Whether the model sees the image, or only what the annotation tells."""

    image_side: Annotated[int, Field(ge=32, le=8192)] = 1024
    """Longest side in pixels of the image that is sent."""

    @property
    def options(self) -> LlmOptions:
        """How the model is to write."""
        return LlmOptions(
            zh_share=self.zh_share,
            temperature=self.temperature,
            send_images=self.send_images,
            image_side=self.image_side,
        )

    @property
    def endpoint(self) -> EndpointSettings:
        """The settings of the endpoint alone."""
        return EndpointSettings(**{name: getattr(self, name) for name in EndpointSettings.model_fields})


_CHANGES_NO_TEXT = frozenset(EndpointSettings.model_fields) - {"model", "structured"}
"""Where and how fast a model is asked, and what it may cost, is not what a corpus is made of."""


def _tagged(writer: Any) -> Any:
    return {"kind": "template", **writer} if isinstance(writer, dict) else writer


Writer = Annotated[TemplateWriter | LlmWriter, Field(discriminator="kind"), BeforeValidator(_tagged)]
"""Who writes the texts; the template writer where no kind is given."""


class DataRecipe(Settings):
    """A recipe as the user writes it down."""

    name: Annotated[str, Field(pattern=f"^{NAME}$", max_length=100)]
    seed: int = 0
    languages: Annotated[dict[Language, Share], Field(min_length=1), AfterValidator(_adds_up)]
    """Language -> share of the samples; adds up to 1. What a source itself says keeps its language."""

    subsets: Annotated[tuple[Subset, ...], Field(min_length=1)] = get_args(Subset)
    split: SplitShares = SplitShares()
    writer: Writer = TemplateWriter()
    near_duplicates: Literal["tie", "keep"] = "tie"
    """tie: pictures that look the same stand on one side of the split, with all pictures of their patients. keep: they
    are not looked for. Pixel-equal pictures are kept once in any case."""

    max_quarantined: Share = 0.2
    """Share of the items of a source that may be unusable; the build stops above it."""

    sources: Annotated[tuple[SourceSpec, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_are_plain_and_unique(self) -> "DataRecipe":
        names = [source.name for source in self.sources]
        for name in names:
            if not re.fullmatch(NAME, name):
                raise ValueError(f"source `{name}`: a name is made of letters, digits, `_`, `.` and `-`")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two sources are called `{twice[0]}`; give each its own name")
        return self

    @model_validator(mode="after")
    def _model_writes_english(self) -> "DataRecipe":
        if isinstance(self.writer, LlmWriter) and self.languages.get("en") != 1:
            raise ValueError("a writer of kind `llm` writes English and translates; write `languages: {en: 1.0}`")
        return self


def read_recipe(path: Path) -> DataRecipe:
    """Read a recipe. Raises UserError with file, key and fix for the first fault; does not look into the sources."""
    return load_settings(DataRecipe, read_yaml(path), path)


def source_root(recipe_path: Path, source: SourceSpec) -> Path:
    """Return the folder that a source is read from; `root` counts from the folder of the recipe file."""
    return (recipe_path.parent / source.root).resolve()


def recipe_sha256(recipe: DataRecipe) -> str:
    """Return the hash of what a recipe says: not of its comments, order of keys, or defaults left out.

    Address, speed and budget of an endpoint do not enter it: a build may go on after they were changed.
    """
    said = recipe.model_dump(mode="json")
    if isinstance(recipe.writer, LlmWriter):
        said["writer"] = {key: value for key, value in said["writer"].items() if key not in _CHANGES_NO_TEXT}
        said["prompts"] = prompts_version()  # an unfinished corpus is not gone on with in other words
    return sha256_of_text(canonical_json(said))


def purse_of(recipe: DataRecipe) -> str:
    """Return who pays for what a model writes: all runs of one recipe together, comparisons included."""
    return f"{recipe.name}-{recipe_sha256(recipe)[:16]}"
