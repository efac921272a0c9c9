"""Read Wavefront OBJ files; their materials are in :mod:`voxlume.mesh.mtl`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numba import njit
from numpy.typing import NDArray

from voxlume.asset import Asset, Material, Mesh
from voxlume.errors import AssetError
from voxlume.mesh.finish import check_corners, finish, number_colors, read_asset, unit_normals
from voxlume.mesh.mtl import read_materials
from voxlume.mesh.polygons import triangulate
from voxlume.mesh.text import (
    HASH,
    NEWLINE,
    SLASH,
    Bytes,
    ends_number,
    is_blank,
    line_end,
    line_number,
    read_integer,
    read_number,
    skip_blanks,
)

_V, _T, _N, _F = (ord(c) for c in "vtnf")
_USEMTL, _MTLLIB = np.frombuffer(b"usemtl", np.uint8), np.frombuffer(b"mtllib", np.uint8)
_VERTEX, _TEXCOORD, _NORMAL, _FACE, _MATERIAL, _LIBRARY, _OTHER = range(7)
_ABSENT = -1
_MOST_NUMBERS = 7
_MOST_MATERIALS = 2**14
_MOST_LIBRARIES = 100
_NAME_SLOTS = 4 * _MOST_MATERIALS


def read_obj(path: str | Path) -> Asset:
    """Read an OBJ file with the material libraries and textures beside it.

    Coordinates are taken as glTF frame (Y-up) as they are, since the format has no convention. Polygons
    are cut into triangles; there is one mesh per material. Vertex colours (``v x y z r g b``) count as
    sRGB-encoded. Libraries and textures are read only from the file's own folder; those that cannot be
    read are left out with a line in ``warnings``.

    Raises
    ------
    AssetError : missing, damaged, or without any surface.
    """
    return read_asset(path, _read)


def _read(path: Path, data: bytes) -> Asset:
    if b"\n" not in data:
        data = data.replace(b"\r", b"\n")
    if b"\\" in data:  # a backslash at the end joins two lines
        data = data.replace(b"\\\r\n", b"   ").replace(b"\\\n", b"  ")
    content = _scan(np.frombuffer(data, np.uint8))
    names = content.material_names
    warnings: list[str] = []
    used = [names[i] for i in np.unique(content.materials).tolist()]
    materials, slots = read_materials(path, content.libraries, used, warnings)
    triangles = triangulate(content.positions, content.corners[:, 0], content.starts)
    polygon = np.searchsorted(content.starts, triangles[:, 0], side="right") - 1
    by_material = content.materials[polygon]
    order = np.argsort(by_material, kind="stable")
    splits = np.searchsorted(by_material[order], np.arange(len(names) + 1))
    meshes = []
    for i, name in enumerate(names):
        chosen = triangles[order[splits[i] : splits[i + 1]]]
        if len(chosen):
            slot = slots.get(name, -1)
            material = materials[slot] if slot >= 0 else None
            meshes.append(_mesh(content, chosen, name, slot, material, warnings))
    return finish(path, meshes, materials, warnings)


@dataclass(frozen=True)
class _Content:
    """What the lines of the file hold.

    ``corners`` (c, 3): indices of vertex, UV and normal, -1 where absent; polygon i has the corners
    ``starts[i] : starts[i + 1]`` and the material with the name ``material_names[materials[i]]``, the first
    of which is empty for none.
    """

    positions: NDArray[np.float64]
    colors: NDArray[np.float64]
    texcoords: NDArray[np.float64]
    normals: NDArray[np.float64]
    corners: NDArray[np.int32]
    starts: NDArray[np.int64]
    materials: NDArray[np.int32]
    material_names: list[str]
    libraries: list[str]


def _scan(text: Bytes) -> _Content:
    counts, num_corners = _count_lines(text)
    positions, colors = np.empty((counts[_VERTEX], 3)), np.ones((counts[_VERTEX], 3))
    texcoords, normals = np.zeros((counts[_TEXCOORD], 2)), np.empty((counts[_NORMAL], 3))
    corners = np.empty((num_corners, 3), np.int64)
    starts = np.zeros(counts[_FACE] + 1, np.int64)
    materials = np.zeros(counts[_FACE], np.int32)
    names, libraries = np.zeros((_MOST_MATERIALS, 2), np.int64), np.zeros((_MOST_LIBRARIES, 2), np.int64)
    bad, colored, num_names, num_libraries = _fill(
        text, positions, colors, texcoords, normals, corners, starts, materials, names, libraries
    )
    if num_names > _MOST_MATERIALS:
        raise AssetError(f"more than {_MOST_MATERIALS - 1} materials are used; merge some of them")
    if bad >= 0:
        raise AssetError(f"line {line_number(text, bad)} of the OBJ file is damaged")
    corners = corners[: starts[-1]]  # words of comments were counted, too
    named = np.full(corners.shape, _ABSENT, np.int32)
    named[:, 0] = check_corners(corners[:, 0], len(positions))
    for column, values in ((1, texcoords), (2, normals)):
        inside = (corners[:, column] >= 0) & (corners[:, column] < len(values))
        named[inside, column] = corners[inside, column]
    if not colored:
        colors = colors[:0]
    return _Content(
        positions,
        colors,
        texcoords,
        normals,
        named,
        starts,
        materials,
        _texts(text, names[:num_names]),
        _texts(text, libraries[:num_libraries]),
    )


def _texts(text: Bytes, spans: NDArray[np.int64]) -> list[str]:
    return [os.fsdecode(text[start:end].tobytes()) for start, end in spans.tolist()]


@njit(cache=True, nogil=True)
def _kind(text: Bytes, at: int, end: int) -> int:
    """What a line is, by its first letters; ``at`` is its first byte that is not blank."""
    if at + 1 >= end:
        return _OTHER
    first, second = text[at], text[at + 1]
    if first == _V and is_blank(second):
        return _VERTEX
    if first == _F and is_blank(second):
        return _FACE
    if first == _V and at + 2 < end and is_blank(text[at + 2]):
        if second == _T:
            return _TEXCOORD
        if second == _N:
            return _NORMAL
    if _is_keyword(text, at, end, _USEMTL):
        return _MATERIAL
    return _LIBRARY if _is_keyword(text, at, end, _MTLLIB) else _OTHER


@njit(cache=True, nogil=True)
def _is_keyword(text: Bytes, at: int, end: int, word: Bytes) -> bool:
    if at + len(word) >= end or not is_blank(text[at + len(word)]):
        return False
    for i in range(len(word)):  # noqa: SIM110 (numba compiles no generator)
        if text[at + i] != word[i]:
            return False
    return True


@njit(cache=True, nogil=True)
def _count_lines(text: Bytes) -> tuple[NDArray[np.int64], int]:
    """Lines of each kind, and words in face lines: no fewer than corners."""
    end = len(text)
    counts = np.zeros(7, np.int64)
    at = corners = 0
    while at < end:
        at = skip_blanks(text, at, end)
        kind = _kind(text, at, end)
        counts[kind] += 1
        if kind == _FACE:
            at += 1
            while at < end and text[at] != NEWLINE:
                if is_blank(text[at]) and at + 1 < end and not ends_number(text, at + 1, end):
                    corners += 1
                at += 1
        at = line_end(text, at, end) + 1
    return counts, corners


@njit(cache=True, nogil=True)
def _fill(
    text: Bytes,
    positions: NDArray[np.float64],
    colors: NDArray[np.float64],
    texcoords: NDArray[np.float64],
    normals: NDArray[np.float64],
    corners: NDArray[np.int64],
    starts: NDArray[np.int64],
    materials: NDArray[np.int32],
    names: NDArray[np.int64],
    libraries: NDArray[np.int64],
) -> tuple[int, bool, int, int]:
    """Fill the arrays; names and libraries with where in the text they stand.

    Returns where a damaged line begins or -1, whether a vertex has a colour, the number of names (more
    than fit if there are too many) and that of libraries (never more than fit).
    """
    end = len(text)
    slots = np.full(_NAME_SLOTS, -1, np.int32)
    num_names, num_libraries, material = 1, 0, 0
    done = np.zeros(7, np.int64)
    numbers = np.empty(_MOST_NUMBERS)
    at = used = 0
    colored = False
    while at < end:
        at = skip_blanks(text, at, end)
        line, kind = at, _kind(text, at, end)
        i = done[kind]
        done[kind] += 1
        if kind == _FACE:
            used = _read_face(text, at + 1, end, done, corners, used)
            if used < 0:
                return line, colored, num_names, num_libraries
            starts[i + 1] = used
            materials[i] = material
        elif kind in (_MATERIAL, _LIBRARY):
            start, stop = _trimmed(text, at + len(_USEMTL), end)
            if kind == _LIBRARY and num_libraries < len(libraries):
                libraries[num_libraries, 0], libraries[num_libraries, 1] = start, stop
                num_libraries += 1
            elif kind == _MATERIAL:
                material = _intern(text, start, stop, slots, names, num_names)
                num_names = max(num_names, material + 1)
                if num_names > len(names):
                    return -1, colored, num_names, num_libraries
        elif kind != _OTHER:
            found = _read_numbers(text, at + (1 if kind == _VERTEX else 2), end, numbers)
            if found < (1 if kind == _TEXCOORD else 3):
                return line, colored, num_names, num_libraries
            # Loops, because numba takes seconds to compile the assignment of a slice.
            for k in range(min(found, 2) if kind == _TEXCOORD else 3):
                if kind == _TEXCOORD:
                    texcoords[i, k] = numbers[k]
                elif kind == _NORMAL:
                    normals[i, k] = numbers[k]
                else:
                    positions[i, k] = numbers[k]
            # A fourth number is a weight that only curves use, six or seven are position and colour.
            if kind == _VERTEX and found >= 6:
                for k in range(3):
                    colors[i, k] = numbers[3 + k]
                colored = True
        at = line_end(text, line, end) + 1
    return -1, colored, num_names, num_libraries


@njit(cache=True, nogil=True)
def _trimmed(text: Bytes, at: int, end: int) -> tuple[int, int]:
    """The rest of the line without blanks on either side."""
    start, stop = skip_blanks(text, at, end), line_end(text, at, end)
    while stop > start and is_blank(text[stop - 1]):
        stop -= 1
    return start, stop


@njit(cache=True, nogil=True)
def _intern(
    text: Bytes, start: int, end: int, slots: NDArray[np.int32], names: NDArray[np.int64], count: int
) -> int:
    """The number of a name among the ``count`` known ones; a new one is added if there is room."""
    h = np.uint64(0xCBF29CE484222325)
    for i in range(start, end):
        h = (h ^ np.uint64(text[i])) * np.uint64(0x100000001B3)
    slot = np.int64((h ^ (h >> np.uint64(32))) & np.uint64(len(slots) - 1))
    while slots[slot] >= 0:
        known = slots[slot]
        same = names[known, 1] - names[known, 0] == end - start
        for i in range(end - start if same else 0):
            same = same and text[names[known, 0] + i] == text[start + i]
        if same:
            return known
        slot = (slot + 1) % len(slots)
    if count < len(names):
        slots[slot] = count
        names[count, 0], names[count, 1] = start, end
    return count


@njit(cache=True, nogil=True)
def _read_numbers(text: Bytes, at: int, end: int, numbers: NDArray[np.float64]) -> int:
    """How many of the line's numbers were read, or -1 if something else stands among them."""
    for i in range(len(numbers)):
        at = skip_blanks(text, at, end)
        if at >= end or text[at] == NEWLINE or text[at] == HASH:
            return i
        numbers[i], at = read_number(text, at, end)
        if at < 0:
            return -1
    return len(numbers)


@njit(cache=True, nogil=True)
def _read_face(
    text: Bytes, at: int, end: int, done: NDArray[np.int64], corners: NDArray[np.int64], used: int
) -> int:
    """Store the corners of a face line; returns how many corners are stored now, or -1."""
    while True:
        at = skip_blanks(text, at, end)
        if at >= end or text[at] == NEWLINE or text[at] == HASH:
            return used
        if used >= len(corners):
            return -1
        corners[used, 1] = corners[used, 2] = _ABSENT
        for k in range(3):
            if k < 1 or (at < end and not ends_number(text, at, end) and text[at] != SLASH):
                value, after = read_integer(text, at, end)
                if after < 0 or value == 0:
                    return -1
                at = after
                # Negative indices count back from the last one defined so far.
                corners[used, k] = value - 1 if value > 0 else done[k] + value
                if corners[used, k] < 0:
                    return -1
            if at >= end or text[at] != SLASH:
                break
            at += 1
        if not ends_number(text, at, end):
            return -1
        used += 1


def _mesh(
    content: _Content,
    triangles: NDArray[np.int64],
    name: str,
    slot: int,
    material: Material | None,
    warnings: list[str],
) -> Mesh:
    """The mesh of some triangles (positions in the corners): equal corners become one vertex."""
    corners = content.corners[triangles.reshape(-1)]
    first, faces = _merge(corners)
    v, t, n = corners[first].T
    uvs: tuple[NDArray[np.float32], ...] = ()
    if (t != _ABSENT).any():
        uv = content.texcoords[t] * (1, -1) + (0, 1)
        uvs = (np.where(t[:, None] == _ABSENT, 0, uv).astype(np.float32),)
    elif material is not None and any(
        key.endswith("_texture") and value for key, value in vars(material).items()
    ):
        warnings.append(f"material {name!r} has textures, but its faces have no UVs; zeros are used")
        uvs = (np.zeros((len(v), 2), np.float32),)
    normals = None
    if (n != _ABSENT).any():
        normals = unit_normals(np.where(n[:, None] == _ABSENT, 0, content.normals[n]))
    return Mesh(
        content.positions[v],
        faces.reshape(-1, 3),
        normals=normals,
        uvs=uvs,
        colors=number_colors(content.colors[v]) if len(content.colors) else None,
        material=slot,
        name=name,
    )


@njit(cache=True, nogil=True)
def _merge(corners: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Distinct rows of (c, 3): where each occurs first, and for every row the number of its kind."""
    slots = 16
    while slots < 2 * len(corners):
        slots *= 2
    table = np.full(slots, -1, np.int32)
    first = np.empty(len(corners), np.int64)
    kinds = np.empty(len(corners), np.int32)
    count = 0
    for i in range(len(corners)):
        h = np.uint64(0)
        for k in range(3):
            h = (h ^ np.uint64(corners[i, k] + 1)) * np.uint64(0x9E3779B97F4A7C15)
            h ^= h >> np.uint64(29)
        slot = np.int64(h & np.uint64(slots - 1))
        while table[slot] >= 0:
            j = first[table[slot]]
            if (
                corners[j, 0] == corners[i, 0]
                and corners[j, 1] == corners[i, 1]
                and corners[j, 2] == corners[i, 2]
            ):
                break
            slot = (slot + 1) & (slots - 1)
        if table[slot] < 0:
            table[slot] = count
            first[count] = i
            count += 1
        kinds[i] = table[slot]
    return first[:count], kinds
