"""Read PLY files: text, and binary of either byte order."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from voxlume.asset import Asset, Mesh
from voxlume.errors import AssetError
from voxlume.mesh.finish import check_corners, finish, read_asset, unit_normals, vertex_colors
from voxlume.mesh.polygons import triangulate
from voxlume.mesh.text import Bytes, line_number, read_number, skip_space

_Order = Literal["=", "<", ">"]
_TYPES = {
    "char": "i1",
    "int8": "i1",
    "uchar": "u1",
    "uint8": "u1",
    "short": "i2",
    "int16": "i2",
    "ushort": "u2",
    "uint16": "u2",
    "int": "i4",
    "int32": "i4",
    "uint": "u4",
    "uint32": "u4",
    "float": "f4",
    "float32": "f4",
    "double": "f8",
    "float64": "f8",
}
_ORDERS: dict[str, _Order] = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}
_MOST_HEADER_BYTES = 2**20
_CORNER_LISTS = ("vertex_indices", "vertex_index")
_COLORS = (("red", "green", "blue", "alpha"), ("diffuse_red", "diffuse_green", "diffuse_blue", "alpha"))
_UVS = (("s", "t"), ("u", "v"), ("texture_u", "texture_v"))


def read_ply(path: str | Path) -> Asset:
    """Read a PLY file.

    Coordinates are taken as glTF frame (Y-up) as they are, since the format has no convention. Vertex
    colours count as sRGB-encoded; UVs have their origin at the lower left. Polygons are cut into
    triangles, other elements and properties are skipped.

    Raises
    ------
    AssetError : missing, damaged, or without any surface.
    """
    return read_asset(path, _read)


@dataclass(frozen=True)
class _Property:
    name: str
    dtype: np.dtype
    count_dtype: np.dtype | None = None  # of the length before a list


@dataclass(frozen=True)
class _Element:
    name: str
    count: int
    properties: list[_Property] = field(default_factory=list)

    @property
    def has_lists(self) -> bool:
        return any(p.count_dtype is not None for p in self.properties)


def _read(path: Path, data: bytes) -> Asset:
    order, elements, start = _parse_header(data)
    source = _Text(data, start) if order == "=" else _Binary(data, start, order)
    vertices: dict[str, NDArray] = {}
    corners, starts = np.zeros(0, np.int64), np.zeros(1, np.int64)
    warnings: list[str] = []
    for element in elements:
        if element.name == "vertex":
            if element.has_lists:
                raise AssetError("PLY vertices with list properties are not supported")
            vertices = source.scalars(element)
        elif element.name == "face" and element.count:
            corners, starts = source.lists(element, _corner_list(element))
            if any(p.name in ("red", "texcoord") for p in element.properties):
                warnings.append("colours or UVs of faces are ignored; only those of vertices are read")
        elif element.has_lists:
            source.lists(element, -1)
        else:
            source.scalars(element)
    return finish(path, [_mesh(vertices, corners, starts)], warnings=warnings)


def _parse_header(data: bytes) -> tuple[_Order, list[_Element], int]:
    """Byte order ("=" for text), elements, and where the data begin."""
    end = data.find(b"end_header", 0, _MOST_HEADER_BYTES)
    if not data.startswith(b"ply") or end < 0:
        raise AssetError("not a PLY file, or its header does not end")
    after = end + len(b"end_header")
    after += 2 if data[after : after + 2] == b"\r\n" else 1
    order: _Order | None = None
    elements: list[_Element] = []
    for line in data[:end].decode("ascii", "replace").splitlines():
        words = line.split()
        try:
            if words[:1] == ["format"]:
                order = _ORDERS[words[1]]
            elif words[:1] == ["element"]:
                elements.append(_Element(words[1], int(words[2])))
            elif words[:1] == ["property"]:
                elements[-1].properties.append(_parse_property(words))
        except (IndexError, KeyError, ValueError):
            raise AssetError(f"the PLY header has a line that cannot be understood: {line[:60]!r}") from None
    if order is None or any(e.count < 0 for e in elements):
        raise AssetError("the PLY header has no format or a negative count")
    if order != "=":
        elements = [_with_order(e, order) for e in elements]
    return order, elements, after


def _parse_property(words: list[str]) -> _Property:
    if words[1] == "list":
        count = np.dtype(_TYPES[words[2]])
        if count.kind == "f":
            raise ValueError(words[2])
        return _Property(words[4], np.dtype(_TYPES[words[3]]), count)
    return _Property(words[2], np.dtype(_TYPES[words[1]]))


def _with_order(element: _Element, order: _Order) -> _Element:
    properties = [
        _Property(p.name, p.dtype.newbyteorder(order), p.count_dtype and p.count_dtype.newbyteorder(order))
        for p in element.properties
    ]
    return _Element(element.name, element.count, properties)


def _corner_list(element: _Element) -> int:
    for i, prop in enumerate(element.properties):
        if prop.name in _CORNER_LISTS and prop.count_dtype is not None and prop.dtype.kind in "iu":
            return i
    raise AssetError("the faces of the PLY file have no list of vertex indices")


def _mesh(vertices: dict[str, NDArray], named: NDArray[np.int64], starts: NDArray[np.int64]) -> Mesh:
    if not all(axis in vertices for axis in "xyz"):
        raise AssetError("the PLY file has no vertices with x, y and z")
    positions = _columns(vertices, ("x", "y", "z"), np.float64)
    corners = check_corners(named, len(positions))
    faces = corners[triangulate(positions, corners, starts)]
    uv_names = next((names for names in _UVS if all(n in vertices for n in names)), None)
    normals = None
    if all(n in vertices for n in ("nx", "ny", "nz")):
        normals = unit_normals(_columns(vertices, ("nx", "ny", "nz"), np.float64))
    return Mesh(
        positions,
        faces,
        normals=normals,
        uvs=(_flipped(_columns(vertices, uv_names, np.float32)),) if uv_names else (),
        colors=_colors(vertices),
    )


def _columns(vertices: dict[str, NDArray], names: tuple[str, ...], dtype: type) -> NDArray:
    return np.stack([vertices[name].astype(dtype) for name in names], axis=1)


def _flipped(uv: NDArray[np.float32]) -> NDArray[np.float32]:
    uv[:, 1] = 1 - uv[:, 1]
    return uv


def _colors(vertices: dict[str, NDArray]) -> NDArray[np.float32] | None:
    for names in _COLORS:
        present = [n for n in names if n in vertices]
        if len(present) >= 3:
            scale = [_full_scale(vertices[n].dtype) for n in present]
            return vertex_colors(_columns(vertices, tuple(present), np.float64) / scale)
    return None


def _full_scale(dtype: np.dtype) -> float:
    return 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)


def _cut_off() -> AssetError:
    return AssetError("the PLY data end before everything that the header announces; the file is cut off")


class _Binary:
    """Elements from binary data, one after another."""

    def __init__(self, data: bytes, start: int, order: _Order) -> None:
        self._data = data
        self._at = start
        self._big_endian = order == ">"

    def scalars(self, element: _Element) -> dict[str, NDArray]:
        """All properties of an element without lists."""
        names = [p.name for p in element.properties]
        record = np.dtype({"names": _distinct(names), "formats": [p.dtype for p in element.properties]})
        if element.count * record.itemsize > len(self._data) - self._at:
            raise _cut_off()
        if not names:
            return {}
        table = np.frombuffer(self._data, record, element.count, self._at)
        self._at += table.nbytes
        return {name: table[name] for name in names}

    def lists(self, element: _Element, wanted: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Values of one list property (-1: none, skip the element) and where each list begins."""
        layout = np.array(
            [(p.dtype.itemsize, p.count_dtype.itemsize if p.count_dtype else 0) for p in element.properties],
            np.int64,
        )
        least = int(np.where(layout[:, 1] > 0, layout[:, 1], layout[:, 0]).sum())
        if element.count * least > len(self._data) - self._at:
            raise _cut_off()
        starts = np.zeros(element.count + 1, np.int64)
        offsets = np.zeros(element.count if wanted >= 0 else 0, np.int64)
        data = np.frombuffer(self._data, np.uint8)
        end = _find_lists(data, self._at, layout, wanted, self._big_endian, starts, offsets)
        if end < 0:
            raise _cut_off()
        self._at = end
        values = np.zeros(starts[-1] if wanted >= 0 else 0, np.int64)
        if wanted >= 0:
            dtype = element.properties[wanted].dtype
            _gather(data, offsets, starts, dtype.itemsize, dtype.kind == "i", self._big_endian, values)
        return values, starts


def _distinct(names: list[str]) -> list[str]:
    """Names for a record type, where a repeated one would not be allowed."""
    return [name if name not in names[:i] else f"{name} {i}" for i, name in enumerate(names)]


@njit(cache=True, nogil=True)
def _unsigned(data: Bytes, at: int, size: int, big_endian: bool) -> int:
    value = 0
    for i in range(size):
        byte = int(data[at + i] if big_endian else data[at + size - 1 - i])
        value = value << 8 | byte
    return value


@njit(cache=True, nogil=True)
def _find_lists(
    data: Bytes,
    at: int,
    layout: NDArray[np.int64],
    wanted: int,
    big_endian: bool,
    starts: NDArray[np.int64],
    offsets: NDArray[np.int64],
) -> int:
    """Walk records of (size, size of the length or 0) properties; the position after them, or -1."""
    end = len(data)
    for record in range(len(starts) - 1):
        starts[record + 1] = starts[record]
        for k in range(len(layout)):
            size, count = layout[k, 0], 1
            if layout[k, 1]:
                if at + layout[k, 1] > end:
                    return -1
                count = _unsigned(data, at, layout[k, 1], big_endian)
                at += layout[k, 1]
            if count > (end - at) // size:
                return -1
            if k == wanted:
                offsets[record] = at
                starts[record + 1] += count
            at += size * count
    return at


@njit(cache=True, nogil=True)
def _gather(
    data: Bytes,
    offsets: NDArray[np.int64],
    starts: NDArray[np.int64],
    size: int,
    signed: bool,
    big_endian: bool,
    values: NDArray[np.int64],
) -> None:
    for record in range(len(offsets)):
        for i in range(starts[record], starts[record + 1]):
            value = _unsigned(data, offsets[record] + (i - starts[record]) * size, size, big_endian)
            if signed and value >> (8 * size - 1):
                value -= 1 << (8 * size)
            values[i] = value


class _Text:
    """Elements from text, one after another."""

    def __init__(self, data: bytes, start: int) -> None:
        self._data = np.frombuffer(data, np.uint8)
        self._at = start

    def _check(self, least_numbers: int) -> None:
        if 2 * least_numbers > len(self._data) - self._at + 1:
            raise _cut_off()

    def _advance(self, at: int, bad: bool) -> None:
        if bad and at >= len(self._data):
            raise _cut_off()
        if bad:
            raise AssetError(f"line {line_number(self._data, at)} of the PLY file is damaged")
        self._at = at

    def scalars(self, element: _Element) -> dict[str, NDArray]:
        """All properties of an element without lists, in the types that the header gives them."""
        self._check(element.count * len(element.properties))
        if not element.properties:
            return {}
        table = np.empty((element.count, len(element.properties)))
        self._advance(*_scan_numbers(self._data, self._at, table))
        return {p.name: _as_type(table[:, i], p.dtype) for i, p in enumerate(element.properties)}

    def lists(self, element: _Element, wanted: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Values of one list property (-1: none, skip the element) and where each list begins."""
        self._check(element.count * len(element.properties))
        is_list = np.array([p.count_dtype is not None for p in element.properties])
        starts = np.zeros(element.count + 1, np.int64)
        values = np.empty((len(self._data) - self._at) // 2 + 1 if wanted >= 0 else 0, np.int64)
        self._advance(*_scan_lists(self._data, self._at, is_list, wanted, starts, values))
        return values[: starts[-1]], starts


def _as_type(values: NDArray[np.float64], dtype: np.dtype) -> NDArray:
    if dtype.kind == "f":
        return values
    info = np.iinfo(dtype)
    return np.clip(np.nan_to_num(values), info.min, info.max).astype(dtype)


@njit(cache=True, nogil=True)
def _scan_numbers(text: Bytes, at: int, table: NDArray[np.float64]) -> tuple[int, bool]:
    end = len(text)
    for i in range(table.shape[0]):
        for k in range(table.shape[1]):
            at = skip_space(text, at, end)
            table[i, k], after = read_number(text, at, end)
            if after < 0:
                return at, True
            at = after
    return at, False


@njit(cache=True, nogil=True)
def _scan_lists(
    text: Bytes,
    at: int,
    is_list: NDArray[np.bool_],
    wanted: int,
    starts: NDArray[np.int64],
    values: NDArray[np.int64],
) -> tuple[int, bool]:
    end = len(text)
    used = 0
    for record in range(len(starts) - 1):
        for k in range(len(is_list)):
            count = 1
            if is_list[k]:
                at = skip_space(text, at, end)
                number, after = read_number(text, at, end)
                if after < 0 or not 0 <= number <= end:
                    return at, True
                count, at = int(number), after
            for _ in range(count):
                at = skip_space(text, at, end)
                number, after = read_number(text, at, end)
                if after < 0:
                    return at, True
                if k == wanted:
                    if not -1e15 < number < 1e15:
                        return at, True
                    values[used] = int(number)
                    used += 1
                at = after
        starts[record + 1] = used
    return at, False
