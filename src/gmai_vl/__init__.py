"""gmai-vl: general medical vision-language models, from annotated images to an evaluated model."""

__version__ = "0.1.0"

NOTICE = "research use only, not for diagnosis"
"""Stands at everything that a clinician could see."""
