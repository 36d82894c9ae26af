"""Who makes the parts of a build: this process, processes beside it, or the machines of a Ray cluster."""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Literal

from gmai_vl.corpus.parts import Part, make_part
from gmai_vl.corpus.recipe import DataRecipe, LlmWriter, purse_of
from gmai_vl.endpoint import Client, in_order, store_path
from gmai_vl.foundation import Interrupted, UserError, progress

Engine = Literal["local", "ray"]


class WorkerKilledError(Interrupted):
    """A worker process died."""


def make_parts(parts: Sequence[Part], recipe: DataRecipe, out: Path, engine: Engine, workers: int) -> None:
    """Make `parts` below `out`. Raises UserError for what a source raises, Interrupted if a worker or an
    endpoint gave out.

    Where a language model writes, the parts are made here in as many threads as it answers requests at a time.
    """
    if not parts:
        return
    if isinstance(recipe.writer, LlmWriter):
        if engine == "ray":
            raise UserError(
                "--engine ray: a writer of kind `llm` works with the local engine, one account for all; leave it out"
            )
        _in_threads(parts, recipe, recipe.writer, out)
        return
    make: Callable[..., None] = _on_ray if engine == "ray" else _in_processes if workers > 1 else _here
    make(parts, recipe, out, workers, f"{recipe.name}: parts")


def _here(parts: Sequence[Part], recipe: DataRecipe, out: Path, workers: int, label: str) -> None:
    for part in progress(parts, label, len(parts)):
        make_part(part, recipe, out)


def _in_threads(parts: Sequence[Part], recipe: DataRecipe, writer: LlmWriter, out: Path) -> None:
    with Client(writer.endpoint, store_path(), purse_of(recipe)) as client:
        made = in_order(lambda part: make_part(part, recipe, out, client), parts, writer.concurrency)
        for _ in progress(made, f"{recipe.name}: parts", len(parts)):
            pass


def _in_processes(parts: Sequence[Part], recipe: DataRecipe, out: Path, workers: int, label: str) -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_follow_parent) as pool:
        futures = [pool.submit(make_part, part, recipe, out) for part in parts]
        try:
            for future in progress(as_completed(futures), label, len(parts)):
                future.result()
        except BrokenProcessPool:
            raise _killed(out) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _killed(out: Path) -> WorkerKilledError:
    return WorkerKilledError(
        f"{out}: a worker process was killed, perhaps for want of memory; run the same command with fewer "
        "workers, it goes on where it stopped"
    )


def _follow_parent() -> None:
    """Leave Ctrl-C to the parent, and end when it ends: a killed build leaves no worker behind that still writes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _on_ray(parts: Sequence[Part], recipe: DataRecipe, out: Path, workers: int, label: str) -> None:
    """Make the parts with Ray Data, on the cluster of RAY_ADDRESS or, without one, on this machine.

    Sources and `out` must be the same folders on every machine. `workers` is the number of CPUs of a cluster of one.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise UserError("--engine ray needs the package `ray`; run `pip install 'gmai-vl[ray]'`") from None

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no word to anybody about who builds what
    if not ray.is_initialized():
        on_cluster = "RAY_ADDRESS" in os.environ
        ray.init(
            num_cpus=None if on_cluster else workers,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    shared = ray.put((list(parts), recipe, out.resolve()))

    def make(row: dict[str, Any]) -> dict[str, Any]:
        all_parts, its_recipe, folder = ray.get(shared)
        try:
            make_part(all_parts[row["id"]], its_recipe, folder)
        except UserError as error:
            return {"fault": str(error)}  # as a value: an exception would come back as Ray's own, with a traceback
        return {"fault": None}

    made = ray.data.range(len(parts), override_num_blocks=len(parts)).map(make).iter_rows()
    try:
        for row in progress(made, label, len(parts)):
            if row["fault"] is not None:
                raise UserError(row["fault"])
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError, ray.exceptions.NodeDiedError):
        raise _killed(out) from None
