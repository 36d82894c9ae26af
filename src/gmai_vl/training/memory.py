"""Memory: what one step frees, the next takes again; and how much there was at most."""

import ctypes
import resource
import sys
from pathlib import Path

import torch

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt (man 3 mallopt)."""


def keep_freed_memory() -> None:
    """Let the process hold blocks below 1 GiB that it frees, where the C library is glibc; elsewhere do nothing.

    By default glibc returns large blocks to the system at once. The gradients of every step are such blocks, to be
    fetched page by page again: on a CPU that is nothing to a sixth of a step (docs/status.md).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 2**30)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def peak_memory(device: torch.device) -> int:
    """Return the most bytes that were held so far: on a GPU by tensors, elsewhere by the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if not status.exists():
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    # On Linux ru_maxrss begins with what the process held that started this one.
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
