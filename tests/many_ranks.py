"""Run a function in several processes that are the ranks of one training, as torchrun would start them."""

import os
import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch
from forks import forks
from torch import distributed as dist

PATIENCE = 300
"""Seconds after which ranks that wait for each other are ended."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one rank ended."""

    result: Any
    """What the function returned; None where it did not come to that."""

    error: str
    """The traceback, empty for none."""

    code: int | None
    """Exit code, negative for the number of a signal."""


def outcomes(world: int, function: Callable[..., Any], *arguments: Any, **environment: str) -> list[Outcome]:
    """Call `function(*arguments)`, of the top level of a test module, in `world` processes; tell how each ended.

    `environment` changes what torchrun would set.
    """
    # The store lives here, as it lives in torchrun's own process, so that it outlives every rank.
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    started = []
    for rank in range(world):
        ours, theirs = forks.Pipe(duplex=False)
        as_torchrun = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(world),
            "LOCAL_WORLD_SIZE": str(world),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "TORCHELASTIC_RESTART_COUNT": "0",
        }
        process = forks.Process(
            target=_be_a_rank, args=(theirs, as_torchrun | environment, function, arguments), daemon=True
        )
        process.start()
        theirs.close()
        started.append((process, ours))
    ended = []
    for process, ours in started:
        result, error = _received(ours)
        process.join(PATIENCE)
        process.kill()
        process.join()
        ended.append(Outcome(result, error, process.exitcode))
    return ended


def run_ranks(world: int, function: Callable[..., Any], *arguments: Any, **environment: str) -> list[Any]:
    """Do what `outcomes` does and return the results of all ranks; an error of one of them is an error here."""
    ended = outcomes(world, function, *arguments, **environment)
    for rank, outcome in enumerate(ended):
        assert outcome.code == 0, f"rank {rank} of {world} ended with {outcome.code}\n{outcome.error}"
    return [outcome.result for outcome in ended]


def _received(pipe: Connection) -> tuple[Any, str]:
    if not pipe.poll(PATIENCE):
        return None, f"nothing within {PATIENCE} seconds"
    try:
        return pickle.loads(pipe.recv_bytes())
    except EOFError:
        return None, "died"


def _be_a_rank(
    pipe: Connection, environment: dict[str, str], function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)  # as torchrun does, by a variable that PyTorch has read by now
    try:
        pipe.send_bytes(pickle.dumps((function(*arguments), "")))  # `send` would lend tensors, not give them
    except BaseException:
        pipe.send_bytes(pickle.dumps((None, traceback.format_exc())))
        raise
