"""Small glTF files for tests, put together by hand: arrays become accessors, the rest is plain JSON."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

COMPONENT_TYPES = {"b": 5120, "B": 5121, "h": 5122, "H": 5123, "i": 5124, "I": 5125, "f": 5126}
TYPES = {(): "SCALAR", (2,): "VEC2", (3,): "VEC3", (4,): "VEC4", (4, 4): "MAT4"}

QUAD = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float32)
QUAD_UV = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)
QUAD_FACES = np.array([0, 1, 2, 0, 2, 3], np.uint16)


class Gltf:
    """A glTF document under construction; ``doc`` may be edited freely."""

    def __init__(self) -> None:
        self.binary = b""
        self.doc: dict[str, Any] = {"asset": {"version": "2.0"}}

    def add(self, key: str, **fields: Any) -> int:
        """Append an object to a top-level list; its index."""
        self.doc.setdefault(key, []).append(fields)
        return len(self.doc[key]) - 1

    def view(self, data: bytes, **fields: Any) -> int:
        """A buffer view of these bytes, 4-byte aligned."""
        self.binary += b"\0" * (-len(self.binary) % 4)
        offset = len(self.binary)
        self.binary += data
        return self.add("bufferViews", buffer=0, byteOffset=offset, byteLength=len(data), **fields)

    def accessor(self, array: NDArray, **fields: Any) -> int:
        """An accessor over a tightly packed copy of the array (count, ...)."""
        array = np.ascontiguousarray(array)
        return self.add(
            "accessors",
            bufferView=self.view(array.tobytes()),
            componentType=COMPONENT_TYPES[array.dtype.char],
            count=len(array),
            type=TYPES[array.shape[1:]],
            **fields,
        )

    def image(self, pixels: NDArray[np.uint8], file_format: str = "PNG", **options: Any) -> int:
        """An embedded image file of these pixels (h, w, c)."""
        stream = io.BytesIO()
        Image.fromarray(np.squeeze(pixels)).save(stream, file_format, **options)
        mime = f"image/{file_format.lower()}"
        return self.add("images", bufferView=self.view(stream.getvalue()), mimeType=mime)

    def texture(self, pixels: NDArray[np.uint8], **sampler: Any) -> int:
        fields = {"sampler": self.add("samplers", **sampler)} if sampler else {}
        return self.add("textures", source=self.image(pixels), **fields)

    def quad(self, **primitive: Any) -> int:
        """A unit square in the xy plane, facing +z, as a mesh."""
        attributes = {"POSITION": self.accessor(QUAD), "TEXCOORD_0": self.accessor(QUAD_UV)}
        fields = {"attributes": attributes, "indices": self.accessor(QUAD_FACES), **primitive}
        return self.add("meshes", primitives=[fields])

    def show(self, *meshes: int) -> Gltf:
        """One node for each mesh, all in the default scene."""
        nodes = [self.add("nodes", mesh=mesh) for mesh in meshes]
        return self.scene(*nodes)

    def scene(self, *nodes: int) -> Gltf:
        self.doc["scene"] = self.add("scenes", nodes=list(nodes))
        return self

    def finished(self) -> dict[str, Any]:
        if self.binary and "buffers" not in self.doc:
            self.doc["buffers"] = [{"byteLength": len(self.binary)}]
        return self.doc

    def glb(self) -> bytes:
        return pack_glb(json.dumps(self.finished()).encode(), self.binary)

    def save(self, folder: Path, name: str = "test.glb") -> Path:
        path = folder / name
        path.write_bytes(self.glb())
        return path


def pack_glb(text: bytes, binary: bytes) -> bytes:
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text
    if binary:
        chunks += struct.pack("<II", len(binary), 0x004E4942) + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def quad_glb() -> Gltf:
    """The smallest complete scene: one square."""
    gltf = Gltf()
    return gltf.show(gltf.quad())
