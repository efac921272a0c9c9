"""The filters of ``.vxz`` files: store a value's difference to an earlier voxel's instead of the value.

Both filters are one scheme. ``source[i]`` is the voxel that predicts voxel i (-1: none), always one earlier
in Morton order, and ``place[i]`` is where the difference stands in the stream.

``neighbor``: the source is the last existing of x-1; y-1; z-1; (x-1, y-1); (x-1, z-1); (y-1, z-1);
(x-1, y-1, z-1) inside the chunk, and the stream is in voxel order.

``parent``: a node of the octree has the value of its first voxel. The stream begins with the root's value;
then every node, depth first and parents before children, adds the differences of its second to last child
to the child before it.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from voxlume.ovoxel.index import lower_bound
from voxlume.ovoxel.morton import gather_bits, morton_code

Filter = Literal["none", "parent", "neighbor"]

NEIGHBORS = ((1, 1, 1), (0, 1, 1), (1, 0, 1), (1, 1, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0))
"""Steps down to the voxel that predicts, the preferred one first."""


@njit(cache=True, nogil=True)
def predict_from_neighbors(codes: NDArray[np.int64]) -> NDArray[np.int32]:
    """Source of each voxel, int32 (n,), for the ascending Morton codes of one chunk."""
    source = np.full(len(codes), -1, np.int32)
    for i in range(len(codes)):
        x, y, z = gather_bits(codes[i] >> 2), gather_bits(codes[i] >> 1), gather_bits(codes[i])
        for dx, dy, dz in NEIGHBORS:
            if x < dx or y < dy or z < dz:
                continue
            code = morton_code(x - dx, y - dy, z - dz)
            position = lower_bound(codes, 0, i, code)
            if position < i and codes[position] == code:
                source[i] = position
                break
    return source


@njit(cache=True, nogil=True)
def predict_from_parents(
    codes: NDArray[np.int64], levels: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Source and place of each voxel, int32 (n,), for the ascending Morton codes of one chunk."""
    count = len(codes)
    source, place = np.full(count, -1, np.int32), np.zeros(count, np.int32)
    # Nodes still to visit as (first voxel, end, level); a node adds at most eight.
    first, end = np.empty(8 * levels + 1, np.int64), np.empty(8 * levels + 1, np.int64)
    level = np.empty(8 * levels + 1, np.int64)
    first[0], end[0], level[0] = 0, count, 0
    waiting, used = 1 if count else 0, 1
    children = np.empty(9, np.int64)
    while waiting:
        waiting -= 1
        low, high, depth = first[waiting], end[waiting], level[waiting]
        shift = 3 * (levels - 1 - depth)
        num_children = 0
        position = low
        while position < high:
            if num_children:
                source[position] = children[num_children - 1]
                place[position] = used
                used += 1
            children[num_children] = position
            num_children += 1
            position = lower_bound(codes, position, high, ((codes[position] >> shift) + 1) << shift)
        children[num_children] = high
        if depth + 1 < levels:
            for child in range(num_children - 1, -1, -1):
                # A node with one voxel has no further differences.
                if children[child + 1] - children[child] > 1:
                    first[waiting], end[waiting] = children[child], children[child + 1]
                    level[waiting] = depth + 1
                    waiting += 1
    return source, place


@njit(cache=True, nogil=True)
def to_differences(
    values: NDArray[np.uint8], source: NDArray[np.int32], place: NDArray[np.int32]
) -> NDArray[np.uint8]:
    """The stream (n, c) of values (n, c); differences are modulo 256."""
    stream = np.empty_like(values)
    for i in range(len(values)):
        for channel in range(values.shape[1]):
            before = values[source[i], channel] if source[i] >= 0 else np.uint8(0)
            stream[place[i], channel] = values[i, channel] - before
    return stream


@njit(cache=True, nogil=True)
def from_differences(
    stream: NDArray[np.uint8], source: NDArray[np.int32], place: NDArray[np.int32]
) -> NDArray[np.uint8]:
    """The values (n, c) of a stream (n, c)."""
    values = np.empty_like(stream)
    for i in range(len(values)):
        for channel in range(values.shape[1]):
            before = values[source[i], channel] if source[i] >= 0 else np.uint8(0)
            values[i, channel] = stream[place[i], channel] + before
    return values
