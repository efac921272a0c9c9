"""Numbers as text, fast enough for meshes of millions of vertices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxlume.asset import Mesh

_ROWS_AT_ONCE = 1 << 15

FLOAT32_DIGITS = 9
"""Significant digits that bring every float32 back."""


def digits_for(meshes: Sequence[Mesh]) -> int:
    """Significant digits of coordinates that keep what float32 would at the origin, wherever they lie."""
    low = np.min([mesh.vertices.min(0) for mesh in meshes], 0)
    high = np.max([mesh.vertices.max(0) for mesh in meshes], 0)
    extent = float((high / 2 - low / 2).max()) * 2
    farthest = float(np.abs([low, high]).max())
    if not farthest > extent:
        return FLOAT32_DIGITS
    return min(FLOAT32_DIGITS + int(np.ceil(np.log10(farthest / max(extent, farthest * 1e-8)))), 17)


def rows(
    table: NDArray[Any], before: str, between: str, after: str, number: str = f".{FLOAT32_DIGITS}g"
) -> Iterator[bytes]:
    """Rows of a table (n, k) in pieces of text, each row ``before a between b ... after``."""
    row = before + between.join([f"%{number}"] * table.shape[1]) + after
    for first in range(0, len(table), _ROWS_AT_ONCE):
        part = table[first : first + _ROWS_AT_ONCE]
        yield ((row * len(part)) % tuple(part.reshape(-1).tolist())).encode()


def words(table: NDArray[np.bytes_], before: bytes, after: bytes) -> Iterator[bytes]:
    """Rows of words (n, k) of fixed width, without the padding: ``before a b c after``."""
    for first in range(0, len(table), _ROWS_AT_ONCE):
        part = table[first : first + _ROWS_AT_ONCE]
        spaced = np.full((*part.shape, part.dtype.itemsize + 1), ord(" "), np.uint8)
        spaced[..., :-1] = np.ascontiguousarray(part).view(np.uint8).reshape(*part.shape, -1)
        lines = spaced.reshape(len(part), -1)
        ends = [
            np.broadcast_to(np.frombuffer(end, np.uint8), (len(part), len(end))) for end in (before, after)
        ]
        joined = np.concatenate([ends[0], lines[:, :-1], ends[1]], axis=1)
        yield joined[joined != 0].tobytes()
