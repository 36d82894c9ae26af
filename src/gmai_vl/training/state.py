"""State: what a stage needs to go on as if it had never stopped, saved while it goes on, whole or absent.

OUT/state/<stage>-<step>/ holds one safetensors file per rank and state.json. Files are written and read by PyTorch's
distributed checkpoint (DCP), so that any number of ranks can go on from any other number, but through its storage for
safetensors: DCP's own keeps a `.metadata` beside the tensors, which is a pickle and read as one (pytorch#189308), and
no file of ours may run code. Where in a whole tensor a piece lies, stands in the header of the file that holds it.
"""

import json
import random
import shutil
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint import CheckpointException, HuggingFaceStorageReader, HuggingFaceStorageWriter

from gmai_vl.foundation import UserError, atomic_folder, stable_rng, write_json
from gmai_vl.training.ranks import TIMEOUT, Ranks, wait_for_all

NUMBERS = "state.json"

# DCP says so of every save and load of a single rank, which is no news.
warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)


def seed_chance(seed: int, rank: int) -> None:
    """Seed what Python, numpy and PyTorch draw from on this rank, differently for every rank."""
    rng = stable_rng(seed, "rank", rank)
    random.seed(rng.getrandbits(64))
    np.random.seed(rng.getrandbits(32))
    torch.manual_seed(rng.getrandbits(63))


class StateWriter:
    """Saves states below OUT while the training goes on. All ranks make one and ask the same of it.

    OUT must lie on a disk that all ranks see. Closing it, as `with` does, waits for the last state.
    """

    def __init__(self, out: Path, ranks: Ranks, *, keep: int = 2) -> None:
        """Remove what an interrupted save left below `out`, and keep the last `keep` states from now on."""
        self._folder = out / "state"
        self._ranks = ranks
        self._keep = keep
        # What the thread agrees on with the threads of other ranks must not mix with what the training does.
        self._group = dist.new_group(backend="gloo", timeout=TIMEOUT) if ranks.world > 1 else None
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._saving: Future[None] | None = None
        if ranks.is_main and self._folder.is_dir():
            for left_over in self._folder.glob(".*"):
                shutil.rmtree(left_over, ignore_errors=True)

    def save(
        self,
        stage: str,
        step: int,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        numbers: Mapping[str, Any],
        *,
        best: int | None = None,
    ) -> None:
        """Save the state after `step` steps of `stage`; return as soon as all is copied, and let a thread write it.

        That is: weights that learn, buffers, the optimizer's tensors, the state of chance, and `numbers`, which JSON
        can hold. The copy takes as much memory of the CPU as they do, and its writing as much again. Waits for the
        state before; raises its error. The state after `best` steps is kept beside the last ones.
        """
        self.wait()
        live = _tensors(_weights(model), optimizer.state)
        tensors = {name: tensor.detach().to("cpu", copy=True) for name, tensor in live.items()}
        tensors[f"chance/{self._ranks.rank}"] = _chance(self._ranks.device)
        self._saving = self._thread.submit(self._write, stage, step, tensors, deepcopy(dict(numbers)), best)

    def wait(self) -> None:
        """Wait until the state that is under way is on the disk. Raises UserError where the disk does not take it."""
        if self._saving is not None:
            saving, self._saving = self._saving, None
            saving.result()

    def folder(self, stage: str, step: int) -> Path:
        """Return where the state after `step` steps of `stage` lies, once every rank has saved what is under way."""
        self.wait()
        wait_for_all(self._ranks)
        return self._folder / f"{stage}-{step}"

    def clear(self) -> None:
        """Remove all states: what they led to is a checkpoint."""
        self._remove_all_but([])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None:
            self.wait()
        self._thread.shutdown()

    def _write(
        self, stage: str, step: int, tensors: dict[str, Tensor], numbers: dict[str, Any], best: int | None
    ) -> None:
        path = self._folder / f"{stage}-{step}"
        try:
            if not self._ranks.is_main:
                self._write_tensors(self._told(None), tensors)
                return
            with atomic_folder(path) as folder:
                self._write_tensors(self._told(folder), tensors)
                files = _files(folder)
                if len(files) < self._ranks.world:
                    raise UserError(
                        f"{path}: only {len(files)} of {self._ranks.world} ranks wrote their part there; "
                        "`out` must lie on a disk that all machines share"
                    )
                write_json(folder / NUMBERS, {"numbers": numbers, "files": files})
        except OSError as error:
            raise UserError(
                f"{path}: the training state cannot be saved: {error.strerror or error}; earlier ones are whole, "
                "make room and go on with --resume"
            ) from error
        # Earlier stages are checkpoints by now.
        self._remove_all_but([*_states(self._folder, stage)[-self._keep :], self._folder / f"{stage}-{best}"])

    def _told(self, folder: Path | None) -> Path:
        """Tell the folder of rank 0 to all ranks."""
        told = [folder]
        if self._group is not None:
            dist.broadcast_object_list(told, src=0, group=self._group, device=torch.device("cpu"))
        (found,) = told
        assert found is not None
        return found

    def _write_tensors(self, folder: Path, tensors: dict[str, Tensor]) -> None:
        """Write the parts of all ranks; return when they are on the disk, or raise the error of one of them."""
        writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
        try:
            dcp.save(tensors, storage_writer=writer, process_group=self._group, no_dist=self._group is None)
        except CheckpointException as failed:
            raise _cause(failed) from failed

    def _remove_all_but(self, kept: Sequence[Path]) -> None:
        for entry in self._folder.iterdir() if self._folder.is_dir() else ():
            if entry.is_dir() and entry not in kept:
                shutil.rmtree(entry)


def latest(out: Path, stage: str) -> Path | None:
    """Return the folder of the last whole state of `stage` below `out`; None where there is none."""
    return next(reversed(_states(out / "state", stage)), None)


def load_state(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, ranks: Ranks, *, seed: int
) -> dict[str, Any]:
    """Put a state that any number of ranks saved into `model` and a new `optimizer`; return its numbers.

    Chance goes on where it stopped, on ranks that were there; others begin as `seed_chance` has them begin. Every rank
    must ask. Raises UserError where files are missing, cut off, ill, or of other weights than those that learn.
    """
    try:
        content = json.loads((folder / NUMBERS).read_text(encoding="utf-8"))
        if content["files"] != _files(folder):
            raise ValueError("files are missing, or not as long as they were")
        _load_tensors(folder, model, optimizer, ranks, seed)
        return dict(content["numbers"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, SafetensorError, RecursionError) as error:
        reason = _first_line(error)
        raise UserError(f"{folder}: cannot be read as a training state: {reason}; remove it and resume") from error


def _load_tensors(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, ranks: Ranks, seed: int) -> None:
    reader = HuggingFaceStorageReader(str(folder))
    saved: dict[str, Any] = dict(reader.read_metadata().state_dict_metadata)
    weights = _weights(model)
    found = {name: tensor.detach() for name, tensor in _tensors(weights, {}).items()}
    if found.keys() != {name for name in saved if name.startswith("weights/")}:
        raise ValueError("other weights learned then than are to learn now")

    of_optimizer: dict[str, dict[str, Tensor]] = {}
    for entry in saved:
        kind, key, *name = entry.split("/", 2)
        if kind == "optimizer":
            weight = weights[name[0]]
            # A moment is spread over the ranks as its weight is; a count of steps is the same on all.
            count = torch.zeros((), dtype=saved[entry].properties.dtype, device=weight.device)
            found[entry] = torch.zeros_like(weight) if saved[entry].size else count
            of_optimizer.setdefault(name[0], {})[key] = found[entry]

    chance = f"chance/{ranks.rank}"
    if chance in saved:
        found[chance] = torch.zeros(saved[chance].chunks[0].sizes, dtype=torch.uint8)
    try:
        dcp.load(found, storage_reader=reader, no_dist=ranks.world == 1)
    except CheckpointException as failed:
        raise ValueError(_first_line(_cause(failed))) from failed
    for name_of_weight, tensors in of_optimizer.items():
        optimizer.state[weights[name_of_weight]] = tensors
    if chance in saved:
        _set_chance(found[chance], ranks.device)
    else:
        seed_chance(seed, ranks.rank)


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights that learn, a shared one once, and the buffers."""
    # Asked for the state, FSDP puts the shards, which the optimizer knows, where whole weights may still stand.
    state = model.state_dict(keep_vars=True)
    first_name = {id(tensor): name for name, tensor in reversed(state.items())}
    return {
        name: tensor
        for name, tensor in state.items()
        if first_name[id(tensor)] == name and (tensor.requires_grad or not isinstance(tensor, nn.Parameter))
    }


def _tensors(weights: Mapping[str, Tensor], state: Mapping[Tensor, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Name the weights and what an optimizer, whose `state` it is, keeps about each."""
    tensors = {f"weights/{name}": weight for name, weight in weights.items()}
    for name, weight in weights.items():
        tensors |= {f"optimizer/{key}/{name}": tensor for key, tensor in state.get(weight, {}).items()}
    return tensors


def _chance(device: torch.device) -> Tensor:
    """Return the state of every source of chance, as the bytes of a JSON text."""
    algorithm, keys, *rest = np.random.get_state(legacy=True)
    state = {
        "python": random.getstate(),
        "numpy": [algorithm, np.asarray(keys).tolist(), *rest],
        "torch": torch.get_rng_state().tolist(),
        "cuda": torch.cuda.get_rng_state(device).tolist() if device.type == "cuda" else None,
    }
    return torch.frombuffer(bytearray(json.dumps(state).encode()), dtype=torch.uint8)


def _set_chance(text: Tensor, device: torch.device) -> None:
    state = json.loads(bytes(text.tolist()))
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    np.random.set_state(tuple(state["numpy"]))
    try:
        torch.set_rng_state(torch.tensor(state["torch"], dtype=torch.uint8))
        if device.type == "cuda" and state["cuda"]:
            torch.cuda.set_rng_state(torch.tensor(state["cuda"], dtype=torch.uint8), device)
    except RuntimeError as error:  # which is also what a lost connection is
        raise ValueError(_first_line(error)) from error


def _cause(failed: CheckpointException) -> BaseException:
    """Return the error of the first rank that had one."""
    return next(iter(failed.failures.values()))[0]


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _files(folder: Path) -> dict[str, int]:
    """Return the sizes of the tensor files in there, by name."""
    return {file.name: file.stat().st_size for file in sorted(folder.glob("*.safetensors"))}


def _states(folder: Path, stage: str) -> list[Path]:
    """Return the whole states of a stage, first to last."""
    steps = {
        int(number): entry
        for entry in folder.glob(f"{stage}-*")
        if (number := entry.name.removeprefix(f"{stage}-")).isdecimal() and (entry / NUMBERS).is_file()
    }
    return [steps[step] for step in sorted(steps)]
