"""Typed arrays out of buffers: buffer views, accessors, sparse substitution (glTF 2.0, 3.6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxlume.errors import AssetError
from voxlume.mesh.gltf.container import GltfFile
from voxlume.mesh.gltf.values import Record

COMPONENT_DTYPES: dict[int, np.dtype[Any]] = {
    5120: np.dtype("<i1"),
    5121: np.dtype("<u1"),
    5122: np.dtype("<i2"),
    5123: np.dtype("<u2"),
    5125: np.dtype("<u4"),
    5126: np.dtype("<f4"),
}
NUM_COMPONENTS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
MESHOPT_EXTENSIONS = ("EXT_meshopt_compression", "KHR_meshopt_compression")


@dataclass(frozen=True, eq=False)
class Accessor:
    """Elements as stored, before normalised integers become fractions.

    Attributes
    ----------
    data : (count, components) in the stored type, possibly a strided view of the file; read-only.
    normalized : integers stand for [0, 1] (unsigned) or [-1, 1] (signed).
    """

    data: NDArray[Any]
    normalized: bool
    where: str

    def __len__(self) -> int:
        return len(self.data)

    def floats(
        self,
        rows: NDArray[np.intp] | None = None,
        *,
        dtype: type[np.floating] = np.float32,
        always_normalized: bool = False,
    ) -> NDArray[np.floating]:
        """The elements (of some rows) as numbers, shape (rows, components)."""
        raw = self.data if rows is None else self.data[rows]
        with np.errstate(invalid="ignore"):  # signalling NaNs
            values = raw.astype(dtype)
        if raw.dtype.kind in "iu" and (self.normalized or always_normalized):
            values /= np.iinfo(raw.dtype).max
            if raw.dtype.kind == "i":
                np.maximum(values, -1, out=values)
        return values


class Accessors:
    """The file's accessors, each read at most once."""

    def __init__(self, file: GltfFile) -> None:
        self._file = file
        self.records = file.root.records("accessors")
        self._views = file.root.records("bufferViews")
        self._unpacked: dict[int, memoryview] = {}
        self._read: dict[int, Accessor] = {}

    def view_bytes(self, owner: Record, key: str = "bufferView") -> memoryview:
        """The bytes of the buffer view that ``owner[key]`` refers to, decompressed if need be."""
        return self._view(owner, key)[0]

    def _view(self, owner: Record, key: str = "bufferView") -> tuple[memoryview, int | None]:
        """Bytes and declared stride of a buffer view."""
        index = owner.reference(key, self._views)
        if index is None:
            owner.fail(key, "is missing")
        record = self._views[index]
        stride = record.integer("byteStride", 0, high=4096) or None
        for name in MESHOPT_EXTENSIONS:
            compressed = record.extension(name)
            if compressed is not None:
                if index not in self._unpacked:
                    self._unpacked[index] = self._decompress(compressed)
                return self._unpacked[index], stride
        return self._file.buffer_slice(record), stride

    def _decompress(self, packed: Record) -> memoryview:
        """EXT_meshopt_compression: the bytes of a buffer view stored as a compressed stream."""
        from voxlume.mesh.meshopt import decode_buffer_view

        count = packed.integer("count", low=1, high=2**31 - 1)
        stride = packed.integer("byteStride", low=1, high=256)
        mode = packed.choice("mode", ("ATTRIBUTES", "TRIANGLES", "INDICES"))
        filter_name = packed.choice(
            "filter", ("NONE", "OCTAHEDRAL", "QUATERNION", "EXPONENTIAL", "COLOR"), "NONE"
        )
        self._file.budget.spend(count * stride, packed.where)
        data = bytes(self._file.buffer_slice(packed))
        try:
            return memoryview(decode_buffer_view(data, count, stride, mode, filter_name))
        except AssetError as error:
            raise AssetError(f"{packed.where}: {error}") from error

    def read(self, index: int) -> Accessor:
        """An accessor with its sparse substitutions.

        Raises
        ------
        AssetError : it reaches outside its buffer view, or is malformed in another way.
        """
        if index not in self._read:
            self._read[index] = self._load(self.records[index])
        return self._read[index]

    def count(self, index: int) -> int:
        return self.records[index].integer("count", low=1, high=2**31 - 1)

    def _load(self, record: Record) -> Accessor:
        dtype = COMPONENT_DTYPES[record.choice("componentType", tuple(COMPONENT_DTYPES))]
        kind = record.text("type")
        if kind not in NUM_COMPONENTS:
            record.fail("type", f"is {kind[:10]!r}, not one of {', '.join(NUM_COMPONENTS)}")
        width = NUM_COMPONENTS[kind]
        count = record.integer("count", low=1, high=2**31 - 1)
        normalized = record.flag("normalized")
        if "bufferView" in record:
            data = self._elements(record, count, dtype, width)
        else:
            self._file.budget.spend(count * width * dtype.itemsize, record.where)
            data = np.zeros((count, width), dtype)
        if "sparse" in record:
            data = self._substitute(record.record("sparse"), data)
        return Accessor(data, normalized, record.where)

    def _elements(self, record: Record, count: int, dtype: np.dtype[Any], width: int) -> NDArray[Any]:
        """A read-only strided view (count, width) of the buffer view that the record refers to."""
        view, stride = self._view(record)
        offset = record.integer("byteOffset", 0)
        size = dtype.itemsize * width
        step = stride or size
        if step < size:
            record.fail("bufferView", f"has a byteStride of {step}, less than an element's {size} bytes")
        end = offset + step * (count - 1) + size
        if end > len(view):
            raise AssetError(f"{record.where} needs {end} bytes, but its bufferView has only {len(view)}")
        return np.ndarray((count, width), dtype, view, offset, (step, dtype.itemsize))

    def _substitute(self, sparse: Record, dense: NDArray[Any]) -> NDArray[Any]:
        """A copy of ``dense`` (count, width) with the sparse elements put in."""
        count = sparse.integer("count", low=1, high=len(dense))
        places, values = sparse.record("indices"), sparse.record("values")
        dtype = COMPONENT_DTYPES[places.choice("componentType", (5121, 5123, 5125))]
        rows = self._elements(places, count, dtype, 1)[:, 0]
        if int(rows.max()) >= len(dense):
            raise AssetError(f"{places.where} points past the accessor's {len(dense)} elements")
        self._file.budget.spend(dense.nbytes, sparse.where)
        result = dense.copy()
        result[rows] = self._elements(values, count, dense.dtype, dense.shape[1])
        return result
