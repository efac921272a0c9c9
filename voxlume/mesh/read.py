"""One entry to all mesh files: what a file is decides its content, then its name."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

from voxlume.asset import Asset
from voxlume.errors import AssetError

_ENDINGS = {".glb": "gltf", ".gltf": "gltf", ".obj": "obj", ".ply": "ply", ".stl": "stl", ".off": "off"}
_OFF_KEYWORDS = (b"OFF", b"COFF", b"NOFF", b"CNOFF", b"STOFF", b"STCOFF")


def load(path: str | Path) -> Asset:
    """Read a mesh file: glTF 2.0 (``.glb``, ``.gltf``), OBJ, PLY, STL or OFF.

    Raises
    ------
    AssetError : the file is missing, unreadable, of no known type, damaged, or holds no geometry.
    """
    path = Path(path)
    return _reader(kind_of(path))(path)


def kind_of(path: Path) -> str:
    """Which format a file has.

    Raises
    ------
    AssetError : missing, a folder, unreadable, or neither content nor name tell a known format.
    """
    try:
        if path.is_dir():
            raise AssetError(f"{path.name or path} is a folder, not a mesh file")
        if not path.exists():
            raise AssetError(f"{path} does not exist")
        if not path.is_file():
            raise AssetError(f"{path.name} is not a regular file")
        with path.open("rb") as stream:
            head = stream.read(512)
        size = path.stat().st_size
    except (OSError, ValueError) as error:
        raise AssetError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not head:
        raise AssetError(f"{path.name} is empty")
    kind = _kind_of_content(head, size) or _ENDINGS.get(path.suffix.lower())
    if kind is None:
        known = ", ".join(_ENDINGS)
        raise AssetError(f"{path.name}: not a mesh file of a known type ({known})")
    return kind


def _kind_of_content(head: bytes, size: int) -> str | None:
    """The format that the first bytes show beyond doubt, or None."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(b"glTF") or text.startswith(b"{"):
        return "gltf"
    if head.startswith((b"ply\n", b"ply\r")):
        return "ply"
    if text.split(None, 1)[:1] and text.split(None, 1)[0] in _OFF_KEYWORDS:
        return "off"
    if text.startswith(b"solid") and b"facet" in text:
        return "stl"
    if len(head) >= 84 and size == 84 + 50 * struct.unpack_from("<I", head, 80)[0]:
        return "stl"
    return None


def _reader(kind: str) -> Callable[[Path], Asset]:
    # Imported when needed: a user of one format does not wait for the others.
    if kind == "gltf":
        from voxlume.mesh.gltf import read_gltf

        return read_gltf
    if kind == "obj":
        from voxlume.mesh.obj import read_obj

        return read_obj
    if kind == "ply":
        from voxlume.mesh.ply import read_ply

        return read_ply
    if kind == "stl":
        from voxlume.mesh.stl import read_stl

        return read_stl
    from voxlume.mesh.off import read_off

    return read_off
