"""Trackers: pages beside the log that a user may want, by libraries that share three functions."""

from importlib import import_module
from typing import Any, Literal

from gmai_vl.foundation import UserError

TrackerName = Literal["trackio", "wandb"]
"""trackio keeps its pages on this machine; wandb sends the numbers of the log, and nothing else, to its servers."""

PROJECT = "gmai-vl"


def open_tracker(name: TrackerName, run: str) -> Any:
    """Begin a page for `run`; return the library, of which `log(values, step=n)` and `finish()` are used.

    Raises UserError where it is not installed.
    """
    try:
        library = import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise UserError(f"tracker: {name} is not installed; `pip install {name}`, or leave `tracker` out") from None
    library.init(project=PROJECT, name=run)
    return library
