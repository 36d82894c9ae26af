"""Phantoms: procedural medical studies with exact annotation, seeded, one patient id each."""

from gmai_vl.sources.phantom.cohort import FAMILIES, list_items, read_item

__all__ = ["FAMILIES", "list_items", "read_item"]
