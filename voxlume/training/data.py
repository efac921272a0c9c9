"""Where the voxels of a run are kept: on its device if they leave room there, else in main memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from voxlume.data.shards import read_index
from voxlume.data.store import VoxelBatch, VoxelStore
from voxlume.progress import Progress
from voxlume.training.parallel import Processes

VOXEL_BYTES = 13
"""A voxel of a grid up to 256 in a store; three more on finer ones."""

DEVICE_SHARE = 0.35
"""Of the device's free memory, which the voxels may take; the rest is for training."""


def load_share(
    folder: Path,
    split: str,
    processes: Processes,
    limit: int | None = None,
    progress: Progress | None = None,
) -> VoxelStore:
    """This process's objects of a split: rank, rank + processes, ...

    Raises
    ------
    VoxlumeError : see :meth:`voxlume.data.store.VoxelStore.load`.
    """
    device = processes.device
    if device.type == "cuda":
        shards = read_index(folder)["splits"].get(split, [])
        counts = [sample[2] for shard in shards for sample in shard["samples"]][:limit]
        needed = (VOXEL_BYTES + 3) * sum(counts) / processes.count
        if needed > DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]:
            device = torch.device("cpu")
    return VoxelStore.load(
        folder, device, split, limit, rank=processes.rank, world=processes.count, progress=progress
    )


class Share:
    """A process's objects of a split, whose voxels are read when they are asked for.

    Attributes
    ----------
    names : of its objects.
    numbers, total : of its objects in the whole split as far as it is used, and how many these are.
    resolution : of the voxel grid.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        processes: Processes,
        limit: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        index = read_index(folder)
        names = [sample[0] for shard in index["splits"].get(split, []) for sample in shard["samples"]][:limit]
        self.total, self.resolution = len(names), index["resolution"]
        self.numbers = range(processes.rank, self.total, processes.count)
        self.names = [names[i] for i in self.numbers]
        self._load = lambda: load_share(folder, split, processes, limit, progress)
        self._voxels: VoxelStore | None = None

    def voxels(self) -> VoxelStore:
        """The voxels, kept until :meth:`release`.

        Raises
        ------
        VoxlumeError : see :meth:`voxlume.data.store.VoxelStore.load`.
        """
        if self._voxels is None:
            self._voxels = self._load()
        return self._voxels

    def release(self) -> None:
        """Give the memory of the voxels back."""
        self._voxels = None


def batch_on(device: torch.device, store: VoxelStore, indices: Sequence[int]) -> VoxelBatch:
    """A batch on the training device, wherever the store is; what is moved are bytes."""
    if store.device.type == device.type:
        return store.batch(indices)
    return store.select(indices).to(device).batch(range(len(indices)))


def batches_on(device: torch.device, store: VoxelStore, together: int = 64) -> Iterator[VoxelBatch]:
    """All samples of a store in their order, so many at a time, on the training device."""
    for first in range(0, len(store), together):
        yield batch_on(device, store, range(first, min(first + together, len(store))))


def rows_on(device: torch.device, rows: Sequence[int]) -> torch.Tensor:
    """Row numbers int64 (n,) on a device, without waiting for it."""
    numbers = torch.tensor(rows)
    return numbers.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else numbers
