"""Change a glTF file without exporting it anew: whatever is not touched stays as it was written.

Sources: glTF 2.0, 3.6 and 4.4; EXT_meshopt_compression for buffers without data.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxlume.errors import AssetError
from voxlume.mesh.gltf.accessors import MESHOPT_EXTENSIONS
from voxlume.mesh.gltf.container import GltfFile
from voxlume.mesh.gltf.extensions import IGNORED_EXTENSIONS, READ_EXTENSIONS
from voxlume.mesh.gltf.pack import pack_glb
from voxlume.mesh.gltf.prune import drop_orphans
from voxlume.mesh.gltf.values import Record
from voxlume.mesh.images import KTX2_MAGIC

Json = dict[str, Any]

_ALIGNMENT = 16
_COMPONENT_TYPES = {
    "int8": 5120,
    "uint8": 5121,
    "int16": 5122,
    "uint16": 5123,
    "uint32": 5125,
    "float32": 5126,
}
_ELEMENT_TYPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}
_LARGEST_IMAGE_FILE = 2**31


class GltfEdit:
    """A copy of a glTF file's JSON to change, with all its buffers and pictures drawn into one.

    Attributes
    ----------
    document : the JSON. Until it is packed lists only grow, so every index keeps its meaning.
    notes : a line for everything that could not be taken along.
    """

    def __init__(self, file: GltfFile) -> None:
        self._original = file.root.fields
        self.document: Json = copy.deepcopy(file.root.fields)
        self.notes: list[str] = []
        self._parts: list[bytes | memoryview] = []
        self._length = 0
        self._join_buffers(file)
        self._embed_images(file)

    def append(self, key: str, item: Json) -> int:
        """Add an object to a top-level list; its index."""
        self.document.setdefault(key, []).append(item)
        return len(self.document[key]) - 1

    def append_bytes(self, data: bytes | memoryview, **fields: int) -> int:
        """A new buffer view over these bytes; its index."""
        start = self._store(data)
        return self.append(
            "bufferViews", {"buffer": 0, "byteOffset": start, "byteLength": len(data)} | fields
        )

    def append_accessor(
        self, elements: NDArray[Any], target: int, like: Json | None = None, *, bounds: bool = False
    ) -> int:
        """A new accessor over elements (n, k), each padded to a multiple of 4 bytes; its index.

        Parameters
        ----------
        target : what the buffer view is for, 34962 (attributes) or 34963 (indices).
        like : an accessor whose name and other fields are kept.
        bounds : state the smallest and the largest element.
        """
        elements = np.ascontiguousarray(elements)
        size = elements.dtype.itemsize * elements.shape[1]
        fields = {"target": target}
        data = elements.view(np.uint8).reshape(len(elements), size)
        if target == 34962 and size % 4:
            data = np.pad(data, ((0, 0), (0, -size % 4)))
            fields["byteStride"] = data.shape[1]
        kept = {k: v for k, v in (like or {}).items() if k in ("name", "normalized", "extras")}
        accessor = kept | {
            "bufferView": self.append_bytes(data.tobytes(), **fields),
            "componentType": _COMPONENT_TYPES[elements.dtype.name],
            "count": len(elements),
            "type": _ELEMENT_TYPES[elements.shape[1]],
        }
        if bounds:
            accessor |= {"min": elements.min(0).tolist(), "max": elements.max(0).tolist()}
        return self.append("accessors", accessor)

    def use_extension(self, name: str, *, required: bool = False) -> None:
        """Name an extension among those that the file uses."""
        for key in ("extensionsUsed", *(["extensionsRequired"] if required else [])):
            names = self.document.setdefault(key, [])
            if name not in names:
                names.append(name)

    def pack(self) -> list[bytes | memoryview]:
        """The bytes of the changed file as GLB, in order, without what the changes left unused.

        Raises
        ------
        AssetError : more than 4 GiB.
        """
        if drop_orphans(self.document, self._original, READ_EXTENSIONS | IGNORED_EXTENSIONS):
            self._drop_unused_bytes()
        buffers = self.document.setdefault("buffers", [{}])
        buffers[0]["byteLength"] = self._length
        return pack_glb(self.document, self._parts)

    def _store(self, data: bytes | memoryview) -> int:
        """Where in the joined buffer these bytes begin."""
        start = self._length
        padding = -len(data) % _ALIGNMENT
        self._parts += [data, bytes(padding)]
        self._length += len(data) + padding
        return start

    def _drop_unused_bytes(self) -> None:
        """Keep of the joined buffer what views look at, moved together."""
        views = [v for v in _buffer_references(Record(self.document)) if v.integer("buffer") == 0]
        old = memoryview(b"".join(self._parts))
        self._parts, self._length = [], 0
        end = moved = 0  # what was copied up to here lies so much farther on
        for view in sorted(views, key=lambda v: v.integer("byteOffset", 0)):
            first = view.integer("byteOffset", 0)
            last = first + view.integer("byteLength")
            aligned = first - first % _ALIGNMENT
            if aligned >= end:
                end, moved = aligned, self._length - aligned
            if last > end:
                stop = last + -last % _ALIGNMENT
                self._store(old[end:stop])
                end = stop
            view.fields["byteOffset"] = first + moved

    def _join_buffers(self, file: GltfFile) -> None:
        """All buffers that have data become the first one, behind one another."""
        root = Record(self.document)
        joined: Json = {"byteLength": 0}
        kept: list[Json] = [joined]
        places: list[tuple[int, int]] = []  # of each old buffer: new index, first byte
        for i, buffer in enumerate(root.records("buffers")):
            if "uri" not in buffer and (i > 0 or not file.has_binary_chunk) and _is_fallback(buffer):
                places.append((len(kept), 0))
                kept.append(buffer.fields)
                continue
            data = memoryview(file.buffer(i))[: buffer.integer("byteLength", low=1)]
            places.append((0, self._store(data)))
            joined |= {k: v for k, v in buffer.fields.items() if k not in ("uri", "byteLength")}
        self.document["buffers"] = kept
        for reference in _buffer_references(root):
            index = reference.reference("buffer", places)
            if index is None:
                reference.fail("buffer", "is missing")
            offset = reference.integer("byteOffset", 0)
            reference.fields["buffer"], start = places[index]
            if start or "byteOffset" in reference:
                reference.fields["byteOffset"] = offset + start

    def _embed_images(self, file: GltfFile) -> None:
        """Picture files beside the glTF file come into the buffer; what cannot be read stays a name."""
        for image in Record(self.document).records("images"):
            uri = image.text("uri", "")
            if not uri or uri[:5].lower() == "data:":
                continue
            try:
                data = file.resource(uri, image.where, _LARGEST_IMAGE_FILE)
                kind = _mime_type(data)
                if kind is None:
                    raise AssetError(f"{image.where} is a file of no known type")
            except AssetError as error:
                self.notes.append(f"a texture was not taken along: {error}")
                continue
            del image.fields["uri"]
            image.fields.update(mimeType=kind, bufferView=self.append_bytes(data))


def _is_fallback(buffer: Record) -> bool:
    """Whether a buffer only reserves the place that compressed views take when unpacked."""
    found = [buffer.extension(name) for name in MESHOPT_EXTENSIONS]
    return any(extension is not None and extension.flag("fallback") for extension in found)


def _buffer_references(root: Record) -> Iterator[Record]:
    """Everything that names a stretch of a buffer."""
    for view in root.records("bufferViews"):
        yield view
        for name in MESHOPT_EXTENSIONS:
            extension = view.extension(name)
            if extension is not None:
                yield extension


def _mime_type(data: bytes) -> str | None:
    if data.startswith(b"\x89PNG"):
        return "image/png"
    if data.startswith(b"\xff\xd8"):
        return "image/jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data.startswith(KTX2_MAGIC):
        return "image/ktx2"
    return "image/avif" if data[4:12] == b"ftypavif" else None
