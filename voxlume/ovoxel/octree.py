"""Occupied cells of a cube as an octree of child masks, the ``svo`` stream of a ``.vxz`` file.

One byte per node that has children, depth first, parents before children; bit b is set when child octant b
(three bits of the Morton code) exists. The bits of the deepest nodes are the voxels themselves.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from voxlume.jit import inner_kernel


@njit(cache=True, nogil=True)
def encode_octree(codes: NDArray[np.int64], levels: int) -> NDArray[np.uint8]:
    """Masks uint8 (m,) of ascending, unique Morton codes (n,) of ``levels`` bits per axis."""
    count = 0
    for i in range(len(codes)):
        count += levels - _shared_levels(codes, i, levels)
    masks = np.zeros(count, np.uint8)
    path = np.empty(levels, np.int64)
    used = 0
    for i in range(len(codes)):
        shared = _shared_levels(codes, i, levels)
        for level in range(shared, levels):
            path[level] = used
            used += 1
        # A new child appears at the deepest shared node and at every new one below it.
        for level in range(max(shared - 1, 0), levels):
            masks[path[level]] |= np.uint8(1 << ((codes[i] >> 3 * (levels - 1 - level)) & 7))
    return masks


@njit(cache=True, nogil=True)
def count_leaves(masks: NDArray[np.uint8], levels: int, most: int) -> int:
    """Number of voxels in a stream, or -1 if it is not one octree or holds more than ``most``."""
    pending = np.zeros(levels + 1, np.int64)  # nodes still to come at each level of the current path
    pending[0] = 1
    level, leaves = 0, 0
    for i in range(len(masks)):
        while level > 0 and pending[level] == 0:
            level -= 1
        if pending[level] == 0 or masks[i] == 0:
            return -1
        pending[level] -= 1
        children = 0
        for octant in range(8):
            children += (masks[i] >> octant) & 1
        if level == levels - 1:
            leaves += children
            if leaves > most:
                return -1
        else:
            level += 1
            pending[level] = children
    return leaves if pending.sum() == 0 else -1


@njit(cache=True, nogil=True)
def decode_octree(masks: NDArray[np.uint8], levels: int, leaves: int) -> NDArray[np.int64]:
    """Ascending Morton codes int64 (leaves,) of a stream that :func:`count_leaves` has accepted."""
    codes = np.empty(leaves, np.int64)
    rest = np.zeros(levels, np.int64)  # children still to visit at each level of the current path
    level, node, found, prefix = 0, 1, 0, 0
    if len(masks):
        rest[0] = masks[0]
    while found < leaves:
        if rest[level] == 0:
            level -= 1
            prefix >>= 3
            continue
        octant = 0
        while not (rest[level] >> octant) & 1:
            octant += 1
        rest[level] &= rest[level] - 1
        if level == levels - 1:
            codes[found] = (prefix << 3) | octant
            found += 1
        else:
            prefix = (prefix << 3) | octant
            level += 1
            rest[level] = masks[node]
            node += 1
    return codes


@inner_kernel
def _shared_levels(codes: NDArray[np.int64], i: int, levels: int) -> int:
    """How many nodes of voxel i's path already exist when voxels come in order."""
    if i == 0:
        return 0
    difference = codes[i] ^ codes[i - 1]
    shared = levels
    while difference:
        difference >>= 3
        shared -= 1
    return shared + 1
