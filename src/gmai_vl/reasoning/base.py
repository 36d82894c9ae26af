"""What a recipe of reasoning says of the model that it begins with."""

from gmai_vl.foundation import Settings


class Base(Settings):
    """The model that a training begins with."""

    init: str
    """Folder of a checkpoint, relative to the recipe file."""
