"""One process or many: who this process is, and agreeing on a number."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist

from voxlume.errors import VoxlumeError
from voxlume.pipelines.memory import pick_device


@dataclass(frozen=True)
class Processes:
    """This process among those that train together, and its device."""

    rank: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def lanes(self, lanes: int) -> list[int]:
        """Which of the lanes (see :class:`.config.LoopConfig`) are this process's.

        Raises
        ------
        VoxlumeError : they cannot be divided among the processes.
        """
        if lanes % self.count:
            raise VoxlumeError(f"{lanes} lanes cannot be divided among {self.count} processes")
        return list(range(self.rank, lanes, self.count))

    def agreed(self, values: Sequence[float]) -> list[float]:
        """The first process's numbers, in every process; waits for the device."""
        if self.count == 1:
            return list(values)
        shared = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.broadcast(shared, 0)
        return shared.tolist()

    def largest(self, value: float) -> float:
        """The largest of all processes' numbers."""
        if self.count == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(shared, dist.ReduceOp.MAX)
        return float(shared)

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """The processes' mean of a tensor."""
        if self.count == 1:
            return values
        values = values.clone()
        dist.all_reduce(values)
        return values / self.count


@contextmanager
def processes(device: str = "auto") -> Iterator[Processes]:
    """The processes that ``torchrun`` started, or this one alone.

    Parameters
    ----------
    device : with several CUDA processes each takes the card of its local rank.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes(0, 1, pick_device(device))
        return
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    if device in ("auto", "cuda") and torch.cuda.is_available():
        chosen = torch.device("cuda", local)
        torch.cuda.set_device(chosen)
        dist.init_process_group("nccl", device_id=chosen)
    else:
        chosen = torch.device("cpu")
        dist.init_process_group("gloo")
    try:
        yield Processes(rank, count, chosen)
    finally:
        dist.destroy_process_group()
