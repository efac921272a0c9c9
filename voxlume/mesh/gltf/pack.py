"""The GLB container (glTF 2.0, section 4.4)."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

from voxlume.errors import AssetError


def pack_glb(document: dict[str, Any], binary: Sequence[bytes | memoryview]) -> list[bytes | memoryview]:
    """A file's bytes in order: header, JSON chunk, binary chunk.

    Parameters
    ----------
    document : the JSON; its first buffer is the binary chunk.
    binary : pieces whose lengths add up to a multiple of 4.

    Raises
    ------
    AssetError : more than the 4 GiB that the container can hold.
    """
    length = sum(map(len, binary))
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 4)
    total = 12 + 8 + len(text) + 8 + length
    if total >= 2**32:
        raise AssetError("the asset needs more than the 4 GiB a .glb can hold; simplify it first")
    header = struct.pack("<4sII", b"glTF", 2, total)
    return [
        header + struct.pack("<I4s", len(text), b"JSON") + text,
        struct.pack("<I4s", length, b"BIN\0"),
        *binary,
    ]
