"""Ranks: the processes that torchrun started for one training, how they begin, add up, and end together."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed as dist

from gmai_vl.foundation import UserError

TIMEOUT = timedelta(minutes=30)
"""A rank that waits so long for the others gives up. They do wait: while rank 0 writes the checkpoint of a large model,
for minutes."""

ELSEWHERE = 1
"""Exit code of a rank that ends because another one failed."""

_FAILED = "ranks that failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranks:
    """Which of the processes of a training this one is."""

    rank: int = 0
    """From 0; rank 0 logs and saves."""

    world: int = 1
    """Number of ranks."""

    local_world: int = 1
    """Number of ranks on each machine."""

    device: torch.device
    """What this rank computes on."""

    @property
    def is_main(self) -> bool:
        """Whether this is the rank that logs and saves."""
        return self.rank == 0

    @property
    def has_own_device(self) -> bool:
        """Whether the model computes elsewhere than the rest, so that batches can be made meanwhile."""
        return self.device.type != "cpu"

    @property
    def is_first_of_machine(self) -> bool:
        """Whether this is the rank that fills the caches of its machine."""
        return self.rank % self.local_world == 0


@contextmanager
def start_ranks() -> Iterator[Ranks]:
    """Join the ranks that torchrun started, by its environment; without torchrun be the only one, without a group.

    Where one rank fails, all end: it raises its error, which names it, and torchrun stops the others; what they stumble
    over meanwhile ends them without a word, so that the user reads one line. Without torchrun they end when they next
    need the rank that is gone, at the latest after TIMEOUT. Raises UserError where the environment is incomplete or a
    machine has fewer GPUs than ranks.
    """
    world = _from_environment("WORLD_SIZE", default=1)
    if world == 1:
        yield Ranks(device=torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        return
    ranks = Ranks(
        rank=_from_environment("RANK"),
        world=world,
        local_world=_from_environment("LOCAL_WORLD_SIZE"),
        device=_device(_from_environment("LOCAL_RANK")),
    )
    store, _, _ = next(dist.rendezvous("env://", timeout=TIMEOUT))
    backend = "cpu:gloo,cuda:nccl" if ranks.device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=ranks.rank, world_size=world, timeout=TIMEOUT)
    try:
        yield ranks
    except BaseException as error:
        if not _is_first_to_fail(store):
            raise SystemExit(ELSEWHERE) from error
        if isinstance(error, UserError):
            error.args = (f"rank {ranks.rank}: {error}",)
        raise  # the group is left as it is: to close it, one would have to wait for the others
    dist.destroy_process_group()


def _from_environment(name: str, default: int | None = None) -> int:
    text = os.environ.get(name, default)
    try:
        return int(text)  # type: ignore[arg-type]  # None and words are the two mistakes
    except (TypeError, ValueError):
        raise UserError(f"{name}: is `{text}`, not a number; start more than one rank with torchrun") from None


def _device(local_rank: int) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise UserError(
            f"LOCAL_RANK {local_rank}: this machine has {torch.cuda.device_count()} GPUs; lower --nproc-per-node"
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def _is_first_to_fail(store: dist.Store) -> bool:
    """Say whether no rank failed before; the store outlives a rank, unless it was held by one that has failed."""
    try:
        return store.add(_FAILED, 1) == 1
    except RuntimeError:
        return False


def total(values: Sequence[float], ranks: Ranks) -> list[float]:
    """Return the sums over all ranks of each of `values`, in float64; what is not finite on one rank is so for all."""
    sums = torch.tensor(values, dtype=torch.float64, device=ranks.device)
    if ranks.world > 1:
        dist.all_reduce(sums)
    return [float(number) for number in sums.tolist()]


def wait_for_all(ranks: Ranks) -> None:
    """Return once every rank has come here."""
    total([0], ranks)
