"""The one-command run: from annotated images to a trained, evaluated model and its report."""

from gmai_vl.quickstart.run import run_quickstart

__all__ = ["run_quickstart"]
