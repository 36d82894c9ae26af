"""What every room stands on: errors, safe files, checked settings, progress, seeded choice."""

from gmai_vl.foundation.caches import cache_home
from gmai_vl.foundation.chance import stable_fraction, stable_keys, stable_rng, stable_shuffle
from gmai_vl.foundation.code import code_identity
from gmai_vl.foundation.errors import BadItem, Interrupted, UserError, nearest, visible
from gmai_vl.foundation.files import (
    atomic_file,
    atomic_files,
    canonical_json,
    is_inside,
    sha256_of_file,
    sha256_of_text,
    write_json,
    write_text,
)
from gmai_vl.foundation.folders import atomic_folder
from gmai_vl.foundation.overrides import overridden
from gmai_vl.foundation.progress import progress, say
from gmai_vl.foundation.settings import Settings, load_settings, read_yaml

__all__ = [
    "BadItem",
    "Interrupted",
    "Settings",
    "UserError",
    "atomic_file",
    "atomic_files",
    "atomic_folder",
    "cache_home",
    "canonical_json",
    "code_identity",
    "is_inside",
    "load_settings",
    "nearest",
    "overridden",
    "progress",
    "read_yaml",
    "say",
    "sha256_of_file",
    "sha256_of_text",
    "stable_fraction",
    "stable_keys",
    "stable_rng",
    "stable_shuffle",
    "visible",
    "write_json",
    "write_text",
]
