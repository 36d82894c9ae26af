"""What the sources of a recipe have in common: checked names, labels, patients, files below a root."""

import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from gmai_vl import vocabulary
from gmai_vl.foundation import Settings, UserError
from gmai_vl.vocabulary import Term


def _known(look_up: Callable[[str], Term]) -> AfterValidator:
    """A name of the vocabulary, written as the vocabulary writes it."""

    def check(name: str) -> str:
        try:
            return look_up(name).en
        except UserError as error:
            raise ValueError(str(error)) from None

    return AfterValidator(check)


def _check_pattern(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    if groups < 1:
        raise ValueError("needs a group: put round brackets about the part to keep")
    return pattern


def _check_below_root(path: str) -> str:
    if not path or PurePosixPath(path).is_absolute() or "\\" in path:
        raise ValueError("is no path below `root`; write it relative to `root`, with `/`")
    return path


def _plain_label(value: Any) -> Any:
    return {"en": str(value)} if isinstance(value, str | int) and not isinstance(value, bool) else value


def _text_keys(value: Any) -> Any:
    """Class names such as 0 and 1 are numbers in YAML."""
    if not isinstance(value, dict):
        return value
    return {str(key) if type(key) is int else key: entry for key, entry in value.items()}


Modality = Annotated[str, _known(vocabulary.modality)]
Department = Annotated[str, _known(vocabulary.department)]
ClinicalTask = Annotated[str, _known(vocabulary.clinical_task)]
Regex = Annotated[str, AfterValidator(_check_pattern)]
"""A regular expression whose first group is what counts."""
PathBelowRoot = Annotated[str, AfterValidator(_check_below_root)]
"""A file, a folder or a glob, relative to `root`; `..` leaves `root` because the recipe says so."""


class Label(Settings):
    """What a source label means: a term, or with `negative` that nothing was found."""

    en: str | None = None
    """None: the source label as it stands, underscores as blanks."""
    zh: str | None = None
    """None: the vocabulary's Chinese for `en`, where it has one."""
    negative: bool = False


LabelOrNull = Annotated[Label | None, BeforeValidator(_plain_label)]
"""A plain string is short for {en: string}; null excludes what bears the label."""
Labels = Annotated[dict[str, LabelOrNull], BeforeValidator(_text_keys)]


class Patient(Settings):
    """Where an item's patient id comes from: the first group of a regular expression, or a table."""

    regex: Regex | None = None
    of: Literal["path", "name"] = "path"
    """Where `regex` is searched: in the path below root and, if that fails, in the file name; or in the name only."""

    table: PathBelowRoot | None = None
    """Table (CSV, TSV, XLSX or Parquet) with a line of column names."""
    key: str | None = None
    """Column that holds the path below root, the file name, or the file name without its ending."""
    value: str | None = None
    """Column that holds the patient id."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.regex is None) == (self.table is None):
            raise ValueError("give either `regex`, or `table` with `key` and `value`")
        if self.table is not None and (self.key is None or self.value is None):
            raise ValueError("`table` needs `key` and `value`, the names of its columns")
        return self


class AnySource(Settings):
    """What every source has."""

    name: str = Field(min_length=1)
    modality: Modality | None = None
    department: Department | None = None
    clinical_task: ClinicalTask | None = None
    license: str | None = None
    url: str | None = None
    limit: int | None = Field(default=None, ge=1)
    """At most so many items, spread evenly over the sorted names; for trials."""


class FileSource(AnySource):
    """What a source of files below a root has."""

    root: str
    """Folder, relative to the recipe."""
    images: PathBelowRoot
    """Folder (with all below it) or glob."""
    patient: Patient | None = None


class LabelledSource(FileSource):
    """What sources with labels in words have in common."""

    modality: Modality
    labels: Labels = Field(default_factory=dict)
    """Source label -> term; null excludes what bears it."""
    unknown_labels: Literal["keep", "quarantine"] = "keep"
    """What becomes of an image with a label that `labels` does not name."""
    severity: tuple[str, ...] = ()
    """Source labels that are grades of one thing, from the least to the most severe."""
