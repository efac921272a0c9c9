"""From a voxel's coordinate to its number: sorted 63-bit keys.

A key packs x, y, z into 21 bits each, x highest, so ascending keys are lexicographic coordinates and a
step of one voxel along an axis is the addition of a constant. Neighbours of *all* voxels are then a merge
of two sorted lists, and one voxel is a binary search inside its x slab.
"""

from __future__ import annotations

import numpy as np
from numba import get_num_threads, prange
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from voxlume.jit import inner_kernel, kernel, parallel_kernel

Integer = int | np.integer

AXIS_BITS = 21
MAX_RESOLUTION = 1 << 20
"""Largest grid the keys (and the file reader) accept, far above anything that fits in memory."""

KEY_STEPS = (1 << 2 * AXIS_BITS, 1 << AXIS_BITS, 1)
"""What one voxel along x, y, z adds to a key."""


def pack_keys(coords: NDArray[np.integer]) -> NDArray[np.int64]:
    """Keys int64 (n,) of voxel coordinates (n, 3).

    Raises
    ------
    ValueError : as :func:`check_range`.
    """
    check_range(coords)
    keys = np.empty(len(coords), np.int64)
    _pack_keys(np.ascontiguousarray(coords, np.int32), keys)
    return keys


def check_range(coords: NDArray[np.integer]) -> None:
    """Refuse what cannot be voxel coordinates.

    Raises
    ------
    ValueError : not (n, 3), or a coordinate outside [0, :data:`MAX_RESOLUTION`).
    """
    if coords.ndim != 2 or coords.shape[1] != 3:
        raise ValueError(f"voxel coordinates must be (n, 3), not {coords.shape}")
    if len(coords) and (int(coords.min()) < 0 or int(coords.max()) >= MAX_RESOLUTION):
        raise ValueError(f"voxel coordinates must lie in [0, {MAX_RESOLUTION})")


class VoxelIndex:
    """Numbers of voxels by coordinate; build once, ask often.

    Attributes
    ----------
    coords : int32 (n, 3), as given.
    keys : int64 (n,), ascending.
    order : int64 (n,), voxel number of each sorted key, or None where the voxels came sorted.
    slabs : int64 (x range + 2,), where each x begins in ``keys``, counted from ``first_x``.
    """

    def __init__(self, coords: NDArray[np.integer]) -> None:
        """Index coordinates (n, 3) in any order.

        Raises
        ------
        ValueError : as :func:`pack_keys`, or a coordinate occurs twice.
        """
        self.coords = np.ascontiguousarray(coords, np.int32)
        self.keys = pack_keys(self.coords)
        self.order: NDArray[np.int64] | None = None
        self._tree: cKDTree | None = None
        if not is_ascending(self.keys):
            self.order = np.argsort(self.keys)
            self.keys = self.keys[self.order]
            if not is_ascending(self.keys):
                raise ValueError("a voxel coordinate occurs twice")
        self.first_x = int(self.keys[0] >> 2 * AXIS_BITS) if len(self.keys) else 0
        last_x = int(self.keys[-1] >> 2 * AXIS_BITS) if len(self.keys) else -1
        starts = np.arange(self.first_x, last_x + 2, dtype=np.int64) << 2 * AXIS_BITS
        self.slabs = np.searchsorted(self.keys, starts).astype(np.int64)

    def __len__(self) -> int:
        return len(self.keys)

    def find(self, coords: NDArray[np.integer]) -> NDArray[np.int64]:
        """Voxel number of each coordinate (k, 3), or -1; coordinates outside the grid are not found."""
        positions = _find(self.keys, self.slabs, self.first_x, np.ascontiguousarray(coords, np.int64))
        return positions if self.order is None else np.where(positions >= 0, self.order[positions], -1)

    def tree(self) -> cKDTree:
        """KD-tree over the coordinates, built at the first call and kept."""
        if self._tree is None:
            self._tree = cKDTree(self.coords, balanced_tree=False, compact_nodes=False)
        return self._tree


def forward_neighbors(keys: NDArray[np.int64]) -> NDArray[np.int32]:
    """int32 (n, 3): position in the ascending ``keys`` of the voxel one step up each axis, or -1."""
    neighbors = np.empty((len(keys), 3), np.int32)
    for axis, step in enumerate(KEY_STEPS):
        neighbors_at(keys, step, even_ranges(len(keys)), neighbors[:, axis])
    return neighbors


def forward_neighbors_reference(coords: NDArray[np.integer]) -> NDArray[np.int32]:
    """Slow twin of :func:`forward_neighbors`, from the coordinates (n, 3) in the order of their keys."""
    numbers = {tuple(c): i for i, c in enumerate(coords.tolist())}
    steps = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    rows = [[numbers.get((x + i, y + j, z + k), -1) for i, j, k in steps] for x, y, z in coords.tolist()]
    return np.array(rows, np.int32).reshape(-1, 3)


def even_ranges(count: int) -> NDArray[np.int64]:
    """Bounds of a few ranges per thread that share ``count`` items evenly, for parallel kernels."""
    return np.linspace(0, count, 8 * get_num_threads() + 1).astype(np.int64)


@parallel_kernel
def _pack_keys(coords: NDArray[np.int32], keys: NDArray[np.int64]) -> None:
    for i in prange(len(coords)):
        x, y, z = np.int64(coords[i, 0]), np.int64(coords[i, 1]), np.int64(coords[i, 2])
        keys[i] = (x << 2 * AXIS_BITS) | (y << AXIS_BITS) | z


@kernel
def is_ascending(keys: NDArray[np.int64]) -> bool:
    """Each key is greater than the one before it."""
    ascending = True
    for i in range(1, len(keys)):
        ascending &= keys[i] > keys[i - 1]
    return ascending


@inner_kernel
def lower_bound(keys: NDArray[np.int64], low: Integer, high: Integer, key: Integer) -> Integer:
    """First position in [low, high) whose key is not less than ``key``, else ``high``."""
    while low < high:
        middle = (low + high) >> 1
        if keys[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low


@parallel_kernel
def _find(
    keys: NDArray[np.int64], slabs: NDArray[np.int64], first_x: int, coords: NDArray[np.int64]
) -> NDArray[np.int64]:
    found = np.full(len(coords), -1, np.int64)
    for i in prange(len(coords)):
        x, y, z = coords[i, 0], coords[i, 1], coords[i, 2]
        slab = x - first_x
        if slab < 0 or slab >= len(slabs) - 1 or min(y, z) < 0 or max(y, z) >= MAX_RESOLUTION:
            continue
        key = (x << 2 * AXIS_BITS) | (y << AXIS_BITS) | z
        position = lower_bound(keys, slabs[slab], slabs[slab + 1], key)
        if position < slabs[slab + 1] and keys[position] == key:
            found[i] = position
    return found


@parallel_kernel
def neighbors_at(
    keys: NDArray[np.int64], step: int, bounds: NDArray[np.int64], found: NDArray[np.int32]
) -> None:
    """Write into ``found`` (n,) the position of ``keys[i] + step`` in the ascending ``keys``, or -1."""
    for part in prange(len(bounds) - 1):
        low, high = bounds[part], bounds[part + 1]
        position = lower_bound(keys, 0, len(keys), keys[low] + step) if low < high else 0
        for i in range(low, high):
            target = keys[i] + step
            while position < len(keys) and keys[position] < target:
                position += 1
            found[i] = position if position < len(keys) and keys[position] == target else -1
