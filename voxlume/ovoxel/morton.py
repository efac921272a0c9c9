"""Morton codes: the bits of x, y, z interleaved, x the highest of each triple."""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from voxlume.jit import inner_kernel, parallel_kernel
from voxlume.ovoxel.index import Integer


@inner_kernel
def spread_bits(x: Integer) -> Integer:
    """The low 21 bits of a non-negative integer, each followed by two zeros on its left."""
    x &= 0x1FFFFF
    x = (x | x << 32) & 0x1F00000000FFFF
    x = (x | x << 16) & 0x1F0000FF0000FF
    x = (x | x << 8) & 0x100F00F00F00F00F
    x = (x | x << 4) & 0x10C30C30C30C30C3
    return (x | x << 2) & 0x1249249249249249


@inner_kernel
def gather_bits(x: Integer) -> Integer:
    """Every third bit of a non-negative integer: the inverse of :func:`spread_bits`."""
    x &= 0x1249249249249249
    x = (x | x >> 2) & 0x10C30C30C30C30C3
    x = (x | x >> 4) & 0x100F00F00F00F00F
    x = (x | x >> 8) & 0x1F0000FF0000FF
    x = (x | x >> 16) & 0x1F00000000FFFF
    return (x | x >> 32) & 0x1FFFFF


@inner_kernel
def morton_code(x: Integer, y: Integer, z: Integer) -> Integer:
    return (spread_bits(x) << 2) | (spread_bits(y) << 1) | spread_bits(z)


@parallel_kernel
def chunk_keys(coords: NDArray[np.int32], levels: int) -> NDArray[np.int64]:
    """Keys int64 (n,) that sort voxels by chunk (x slowest), inside a chunk by Morton code.

    The low ``3 * levels`` bits are the Morton code of the coordinate inside its chunk of edge
    ``2 ** levels``; above them the chunk's x, y, z take ``21 - levels`` bits each.
    """
    keys = np.empty(len(coords), np.int64)
    mask, width = (1 << levels) - 1, 21 - levels
    for i in prange(len(coords)):
        x, y, z = np.int64(coords[i, 0]), np.int64(coords[i, 1]), np.int64(coords[i, 2])
        chunk = ((x >> levels) << 2 * width) | ((y >> levels) << width) | (z >> levels)
        keys[i] = (chunk << 3 * levels) | morton_code(x & mask, y & mask, z & mask)
    return keys


@njit(cache=True, nogil=True)
def decode_morton(codes: NDArray[np.int64], origin: NDArray[np.int64], coords: NDArray[np.int32]) -> None:
    """Write into ``coords`` (n, 3) what the codes (n,) stand for, moved to the chunk's corner."""
    for i in range(len(codes)):
        coords[i, 0] = origin[0] + gather_bits(codes[i] >> 2)
        coords[i, 1] = origin[1] + gather_bits(codes[i] >> 1)
        coords[i, 2] = origin[2] + gather_bits(codes[i])
