"""Read STL files, text and binary."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numba import njit
from numpy.typing import NDArray

from voxlume.asset import Asset, Mesh
from voxlume.errors import AssetError
from voxlume.mesh.finish import finish, read_asset
from voxlume.mesh.text import Bytes, line_end, line_number, read_number, skip_blanks, skip_space, skip_word
from voxlume.mesh.weld import weld_by_position

_HEADER = 84
_FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_VERTEX = np.frombuffer(b"vertex", np.uint8)
_SOLID, _END_SOLID = np.frombuffer(b"solid", np.uint8), np.frombuffer(b"endsolid", np.uint8)
_END_LOOP = np.frombuffer(b"endloop", np.uint8)


def read_stl(path: str | Path) -> Asset:
    """Read an STL file.

    STL has neither units nor an axis convention. Files for printing are Z-up, so coordinates are taken as
    such and turned to the glTF frame: (x, y, z) -> (x, z, -y). Vertices at exactly the same place become
    one; the stored facet normals are redundant and ignored.

    Raises
    ------
    AssetError : missing, damaged, or without any surface.
    """
    return read_asset(path, _read)


def _read(path: Path, data: bytes) -> Asset:
    warnings: list[str] = []
    if _is_text(data):
        corners = _read_text(data, warnings)
    else:
        corners = _read_binary(data, warnings)
    y_up = np.stack([corners[:, 0], corners[:, 2], -corners[:, 1]], axis=1)
    first = weld_by_position(y_up)
    kept = first == np.arange(len(first))
    faces = (np.cumsum(kept, dtype=np.int32) - 1)[first].reshape(-1, 3)
    return finish(path, [Mesh(y_up[kept], faces)], warnings=warnings)


def _is_text(data: bytes) -> bool:
    """Whether this is the text form; many binary files begin with ``solid``, too."""
    if len(data) >= _HEADER and len(data) == _HEADER + _FACET.itemsize * _announced(data):
        return False
    head = data[:4096].lstrip().lower()
    return head.startswith(b"solid") and (b"facet" in head or b"endsolid" in head)


def _announced(data: bytes) -> int:
    return int.from_bytes(data[80:_HEADER], "little")


def _read_binary(data: bytes, warnings: list[str]) -> NDArray[np.float64]:
    """(3 m, 3) corners."""
    if len(data) < _HEADER:
        raise AssetError("neither text nor binary STL: it ends inside the header")
    count, stored = _announced(data), (len(data) - _HEADER) // _FACET.itemsize
    if stored < count:
        raise AssetError(
            f"the STL header announces {count} triangles, only {stored} are there; it is cut off"
        )
    if len(data) > _HEADER + count * _FACET.itemsize:
        warnings.append("bytes after the last triangle are ignored")
    return np.frombuffer(data, _FACET, count, _HEADER)["corners"].reshape(-1, 3).astype(np.float64)


def _read_text(data: bytes, warnings: list[str]) -> NDArray[np.float64]:
    """(3 m, 3) corners."""
    text = np.frombuffer(data, np.uint8)
    # A line "vertex x y z" has at least 13 bytes.
    corners = np.empty((len(text) // 13 + 1, 3))
    count, bad = _scan_text(text, corners)
    if bad >= 0:
        raise AssetError(f"line {line_number(text, bad)} of the STL text is damaged")
    if b"endsolid" not in data[-4096:].lower():
        warnings.append("the text ends without endsolid; it may be cut off")
    return corners[:count]


@njit(cache=True, nogil=True)
def _is_word(text: Bytes, start: int, end: int, word: Bytes) -> bool:
    if end - start != len(word):
        return False
    for i in range(len(word)):  # noqa: SIM110 (numba compiles no generator)
        if int(text[start + i]) | 32 != word[i]:
            return False
    return True


@njit(cache=True, nogil=True)
def _scan_text(text: Bytes, corners: NDArray[np.float64]) -> tuple[int, int]:
    """Fill corners; returns their number and the position of a mistake, -1 if there is none."""
    end = len(text)
    at = count = 0
    while True:
        at = skip_space(text, at, end)
        if at >= end:
            return count, (-1 if count % 3 == 0 else end)
        start, at = at, skip_word(text, at, end)
        if _is_word(text, start, at, _VERTEX):
            if count == len(corners):
                return count, start
            for axis in range(3):
                at = skip_blanks(text, at, end)
                corners[count, axis], at = read_number(text, at, end)
                if at < 0:
                    return count, start
            count += 1
        elif _is_word(text, start, at, _SOLID) or _is_word(text, start, at, _END_SOLID):
            at = line_end(text, at, end)  # the rest is a name, which may be any words
        elif _is_word(text, start, at, _END_LOOP) and count % 3:
            return count, start
