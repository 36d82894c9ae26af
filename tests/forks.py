"""Processes of their own that begin at once: forks of one that has imported what takes long, and done nothing else."""

import multiprocessing

forks = multiprocessing.get_context("forkserver")

# One list for all: a later one would replace it.
forks.set_forkserver_preload(
    [
        "gmai_vl.training.run",
        "gmai_vl.training.sharding",
        "gmai_vl.training.state",
        "gmai_vl.sources",
        "SimpleITK",
        "highdicom",
        "nibabel",
        "openpyxl",
        "pycocotools.mask",
    ]
)
