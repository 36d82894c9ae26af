"""What every recipe says that teaches a model to reason."""

from pydantic import Field

from gmai_vl.foundation import Settings


class Base(Settings):
    """The model that a training begins with."""

    init: str
    """Folder of a checkpoint, relative to the recipe file."""


class Teaching(Settings):
    """Which model is taught by which questions, and where the result goes."""

    name: str = Field(min_length=1)
    out: str
    """Folder to write, relative to the recipe file."""

    seed: int = 0
    model: Base
    questions: str
    """Folder that `gmai reason questions` wrote, relative to the recipe file."""
