"""Read OFF files (Geomview's Object File Format), text form."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numba import njit
from numpy.typing import NDArray

from voxlume.asset import Asset, Mesh
from voxlume.errors import AssetError
from voxlume.mesh.finish import check_corners, finish, number_colors, read_asset, unit_normals
from voxlume.mesh.polygons import triangulate
from voxlume.mesh.text import (
    Bytes,
    count_words,
    ends_number,
    line_end,
    line_number,
    read_integer,
    read_number,
    skip_space,
)

_KEYWORD = re.compile(rb"\s*(?:#[^\n]*\n\s*)*(ST)?(C)?(N)?(4)?(n)?OFF(?=[\s#]|$)(\s+BINARY)?")


def read_off(path: str | Path) -> Asset:
    """Read an OFF, COFF, NOFF, CNOFF or STOFF file.

    Coordinates are taken as glTF frame (Y-up) as they are, since the format has no convention. Vertex
    colours, 0 to 255 or 0 to 1, count as sRGB-encoded. Polygons are cut into triangles; colours of faces
    are ignored.

    Raises
    ------
    AssetError : missing, damaged, of higher dimension or binary, or without any surface.
    """
    return read_asset(path, _read)


def _read(path: Path, data: bytes) -> Asset:
    text = np.frombuffer(data, np.uint8)
    keyword = _KEYWORD.match(data)
    texcoords, colored, normals, four, any_size, binary = keyword.groups() if keyword else (None,) * 6
    if four or any_size or binary:
        raise AssetError("four-dimensional, n-dimensional and binary OFF files are not supported")
    counts, at = _read_counts(text, keyword.end() if keyword else 0)
    fixed = 3 + (3 if normals else 0) + (2 if texcoords else 0)
    vertices, at = _read_vertices(text, at, counts[0], fixed, bool(colored))
    named, starts = _read_polygons(text, at, counts[1])
    corners = check_corners(named, len(vertices))
    positions = np.ascontiguousarray(vertices[:, :3])
    faces = corners[triangulate(positions, corners, starts)]
    after_normal = 6 if normals else 3
    before_uv = vertices.shape[1] - (2 if texcoords else 0)
    mesh = Mesh(
        positions,
        faces,
        normals=unit_normals(vertices[:, 3:6]) if normals else None,
        uvs=((vertices[:, before_uv:] * (1, -1) + (0, 1)).astype(np.float32),) if texcoords else (),
        colors=number_colors(vertices[:, after_normal:before_uv]) if colored else None,
    )
    return finish(path, [mesh])


def _damaged(text: Bytes, at: int) -> AssetError:
    if at >= len(text):
        return AssetError("the OFF file ends too early; it is cut off")
    return AssetError(f"line {line_number(text, at)} of the OFF file is damaged")


def _read_counts(text: Bytes, at: int) -> tuple[tuple[int, int], int]:
    """Numbers of vertices and faces; that of edges is often wrong or missing and not needed."""
    values = []
    for _ in range(2):
        at = skip_space(text, at, len(text))
        value, after = read_integer(text, at, len(text))
        # Every vertex takes at least six bytes and every face four.
        if after < 0 or not ends_number(text, after, len(text)) or not 0 <= value <= len(text) // 4 + 1:
            raise _damaged(text, at)
        values.append(value)
        at = after
    return (values[0], values[1]), line_end(text, at, len(text))


def _read_vertices(
    text: Bytes, at: int, count: int, fixed: int, colored: bool
) -> tuple[NDArray[np.float64], int]:
    """(n, k) numbers of every vertex, k = fixed plus three or four for a colour."""
    at = skip_space(text, at, len(text))
    in_line = count_words(text, at, len(text))
    width = fixed
    if colored:
        width = in_line if in_line in (fixed + 3, fixed + 4) else fixed + 4
    # A few numbers more than the keyword announces are skipped; many are vertices on the same line.
    skip_rest = width < in_line <= width + 7
    if count * 2 * width > len(text) - at + 1:
        raise _damaged(text, len(text))
    vertices = np.empty((count, width))
    at, bad = _scan_vertices(text, at, skip_rest, vertices)
    if bad:
        raise _damaged(text, at)
    return vertices, at


@njit(cache=True, nogil=True)
def _scan_vertices(text: Bytes, at: int, skip_rest: bool, vertices: NDArray[np.float64]) -> tuple[int, bool]:
    end = len(text)
    for i in range(vertices.shape[0]):
        for k in range(vertices.shape[1]):
            at = skip_space(text, at, end)
            vertices[i, k], after = read_number(text, at, end)
            if after < 0:
                return at, True
            at = after
        if skip_rest:
            at = line_end(text, at, end)
    return at, False


def _read_polygons(text: Bytes, at: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Corners of all polygons and where each begins."""
    if count * 4 > len(text) - at + 1:
        raise _damaged(text, len(text))
    starts = np.zeros(count + 1, np.int64)
    corners = np.empty((len(text) - at) // 2 + 1, np.int64)
    at, bad = _scan_polygons(text, at, starts, corners)
    if bad:
        raise _damaged(text, at)
    return corners[: starts[-1]], starts


@njit(cache=True, nogil=True)
def _scan_polygons(
    text: Bytes, at: int, starts: NDArray[np.int64], corners: NDArray[np.int64]
) -> tuple[int, bool]:
    end = len(text)
    used = 0
    for i in range(len(starts) - 1):
        at = skip_space(text, at, end)
        size, after = read_integer(text, at, end)
        if after < 0 or size < 0 or size > len(corners) - used or not ends_number(text, after, end):
            return at, True
        for _ in range(size):
            at = skip_space(text, after, end)
            corners[used], after = read_integer(text, at, end)
            if after < 0 or not ends_number(text, after, end):
                return at, True
            used += 1
        starts[i + 1] = used
        at = line_end(text, after, end)  # a colour may follow
    return at, False
