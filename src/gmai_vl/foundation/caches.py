"""Where what is fetched or paid for once is kept, for all folders that a user works in."""

import os
from pathlib import Path


def cache_home() -> Path:
    """Return the folder of all caches: GMAI_CACHE, else XDG_CACHE_HOME/gmai-vl or ~/.cache/gmai-vl."""
    if cache := os.environ.get("GMAI_CACHE"):
        return Path(cache)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gmai-vl"
