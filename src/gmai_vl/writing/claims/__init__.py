"""Reads what a free text claims about an image, and holds it against the annotation."""

from gmai_vl.writing.claims.check import CHECKS, check_text

__all__ = ["CHECKS", "check_text"]
