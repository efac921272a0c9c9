"""The outer layer of glTF 2.0: GLB chunks, the JSON text, buffers and URIs (specification 3.6, 4).

Resources are taken from inside the file or from its own folder, never from anywhere else.
"""

from __future__ import annotations

import binascii
import json
import re
import struct
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

from voxlume.errors import AssetError
from voxlume.mesh.gltf.budget import Budget
from voxlume.mesh.gltf.values import Record, one_line

GLB_MAGIC = b"glTF"
_JSON_CHUNK = 0x4E4F534A
_BIN_CHUNK = 0x004E4942
MAX_RESOURCE_BYTES = 2**32
MAX_WARNINGS = 40
MAX_LINE = 300
"""Characters of an error or a warning: names in a file may be of any length."""
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.\-]*:")


class GltfFile:
    """An opened glTF file: its JSON and access to the bytes that it refers to.

    Attributes
    ----------
    root : the JSON document.
    budget : limits what may be made out of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._warnings: dict[str, None] = {}
        data = read_file(path, MAX_RESOURCE_BYTES)
        self._chunk: bytes | memoryview | None = None
        text: bytes | memoryview = data
        if data[:4] == GLB_MAGIC:
            text, self._chunk = self._split_glb(data)
        self.root = Record(_parse_json(text))
        version = self.root.record("asset").text("version")
        if not version.startswith("2."):
            raise AssetError(
                f"glTF version {version[:10]!r} is not supported, only 2.x; convert the file first"
            )
        self.budget = Budget(len(data))
        self._buffers = self.root.records("buffers")
        self._loaded: dict[int, bytes | memoryview] = {}
        self._read_files: dict[Path, tuple[int, bytes]] = {}

    def warn(self, line: str) -> None:
        """Note something that was dropped or replaced; the same line is kept once."""
        self._warnings[one_line(line, MAX_LINE)] = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was dropped or replaced, in lines; of very many, the first."""
        lines = tuple(self._warnings)
        more = len(lines) - MAX_WARNINGS
        return lines if more <= 0 else (*lines[:MAX_WARNINGS], f"and {more} more warnings")

    def buffer(self, index: int) -> bytes | memoryview:
        """The bytes of a buffer, at least as many as its ``byteLength`` says.

        Raises
        ------
        AssetError : missing, unreadable, outside the folder or shorter than declared.
        """
        if index not in self._loaded:
            record = self._buffers[index]
            length = record.integer("byteLength", low=1)
            if "uri" in record:
                data: bytes | memoryview = self.resource(record.text("uri"), record.where, length)
            elif index == 0 and self._chunk is not None:
                data = self._chunk
            else:
                raise AssetError(f"{record.where} has neither a uri nor a binary chunk")
            if len(data) < length:
                raise AssetError(
                    f"{record.where} is {len(data)} bytes long instead of {length}; the file is incomplete"
                )
            self._loaded[index] = data
        return self._loaded[index]

    @property
    def has_binary_chunk(self) -> bool:
        """Whether this is a GLB with data of its own, which is the first buffer's unless that has a uri."""
        return self._chunk is not None

    @property
    def num_buffers(self) -> int:
        return len(self._buffers)

    def buffer_slice(self, view: Record) -> memoryview:
        """The stretch of a buffer that ``buffer``, ``byteOffset`` and ``byteLength`` of a record describe."""
        index = view.integer("buffer", high=max(self.num_buffers - 1, 0))
        if index >= self.num_buffers:
            view.fail("buffer", "refers to a buffer that is not there")
        offset = view.integer("byteOffset", 0)
        length = view.integer("byteLength", low=1)
        declared = self._buffers[index].integer("byteLength", low=1)
        if offset + length > declared:
            raise AssetError(
                f"{view.where} ends at byte {offset + length}, but buffers[{index}] has only {declared}"
            )
        return memoryview(self.buffer(index))[offset : offset + length]

    def resource(self, uri: str, where: str, max_bytes: int) -> bytes:
        """The first ``max_bytes`` bytes behind a data URI or a relative path inside the file's folder.

        Raises
        ------
        AssetError : another kind of URI, a path that leaves the folder, or an unreadable file.
        """
        if uri[:5].lower() == "data:":
            return _decode_data_uri(uri, where)
        path = self._inside_folder(uri, where)
        asked, data = self._read_files.get(path, (0, b""))
        if asked < max_bytes:
            self.budget.file_bytes -= len(data)
            data = read_file(path, max_bytes, where)
            self.budget.file_bytes += len(data)
            self._read_files[path] = max_bytes, data
        return data

    def _inside_folder(self, uri: str, where: str) -> Path:
        if _SCHEME.match(uri):
            raise AssetError(
                f"{where} refers to {_short(uri)}: only data URIs and files in the folder are read"
            )
        name = unquote(uri)
        folder = self.path.parent.resolve()
        if "\0" in name or not name:
            raise AssetError(f"{where} refers to a file without a usable name")
        try:
            target = (folder / name).resolve()
        except (OSError, RuntimeError) as error:
            raise AssetError(f"{where} refers to {_short(uri)}, which cannot be found") from error
        if not target.is_relative_to(folder):
            raise AssetError(f"{where} refers to {_short(uri)}, which lies outside the file's own folder")
        return target

    def _split_glb(self, data: bytes) -> tuple[memoryview, memoryview | None]:
        """JSON and binary chunk of a GLB container."""
        if len(data) < 20:
            raise AssetError("GLB file is cut off inside its header")
        version, length = struct.unpack_from("<II", data, 4)
        if version != 2:
            raise AssetError(
                f"GLB container version {version} is not supported, only 2; convert the file first"
            )
        if length < len(data):
            self.warn(f"{len(data) - length} bytes after the end of the GLB container are ignored")
        elif length > len(data):
            self.warn(f"the GLB header announces {length} bytes, the file has {len(data)}")
        view = memoryview(data)[: max(length, 12)]
        chunks: dict[int, memoryview] = {}
        position, first = 12, True
        while position + 8 <= len(view):
            size, kind = struct.unpack_from("<II", view, position)
            position += 8
            if size > len(view) - position:
                raise AssetError(
                    f"a GLB chunk announces {size} bytes where {len(view) - position} are left; "
                    f"the file is cut off or damaged"
                )
            if first and kind != _JSON_CHUNK:
                raise AssetError("the first chunk of the GLB file is not JSON")
            chunks.setdefault(kind, view[position : position + size])
            position += size
            first = False
            if _BIN_CHUNK in chunks:
                break
        if _JSON_CHUNK not in chunks:
            raise AssetError("the GLB file has no JSON chunk")
        return chunks[_JSON_CHUNK], chunks.get(_BIN_CHUNK)


def read_file(path: Path, max_bytes: int, where: str = "") -> bytes:
    """At most ``max_bytes`` bytes of a regular file.

    Raises
    ------
    AssetError : missing, not a regular file, or unreadable.
    """
    subject = f"{where}: {one_line(path.name, 60)}" if where else path.name
    try:
        if not path.exists():
            raise AssetError(f"{subject} does not exist")
        if not path.is_file():
            raise AssetError(f"{subject} is not a regular file")
        with path.open("rb") as stream:
            return stream.read(min(max_bytes, path.stat().st_size))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise AssetError(f"{subject} cannot be read: {reason}") from error


def _parse_json(text: bytes | memoryview) -> dict[str, Any]:
    try:
        document = json.loads(str(text, "utf-8-sig"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise AssetError(f"the JSON part is not UTF-8 (byte {error.start})") from error
    except RecursionError as error:
        raise AssetError("the JSON part is nested too deeply") from error
    except ValueError as error:
        raise AssetError(f"neither GLB nor glTF JSON: {error}") from error
    if not isinstance(document, dict):
        raise AssetError("the JSON part is not an object")
    return document


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _decode_data_uri(uri: str, where: str) -> bytes:
    head, comma, payload = uri.partition(",")
    if not comma:
        raise AssetError(f"{where} has a data URI without data")
    if not head.lower().rstrip().endswith(";base64"):
        return unquote_to_bytes(payload)
    try:
        return binascii.a2b_base64(unquote(payload) if "%" in payload else payload)
    except ValueError as error:
        raise AssetError(f"{where} has a damaged base64 data URI: {error}") from error


def _short(uri: str) -> str:
    return one_line(repr(uri[:60]), 60)
