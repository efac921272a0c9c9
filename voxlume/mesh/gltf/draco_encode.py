"""Primitives as Draco streams for KHR_draco_mesh_compression; :mod:`.draco` takes them apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

POSITION_BITS, UV_BITS, NORMAL_BITS = 16, 14, 10
"""Steps per extent (for UVs, per texture) are two to the power of these; the rest is stored exactly."""

_LEVEL = 7  # of 10; beyond, time grows faster than files shrink
_POSITION, _NORMAL, _UV, _GENERIC = 0, 1, 3, 4  # kinds of attributes in Draco
_FIRST_GENERIC_ID = 16


def encode_draco(
    arrays: Mapping[str, NDArray[Any]], faces: NDArray[np.int32]
) -> tuple[bytes, dict[str, int], dict[str, NDArray[Any]], int]:
    """Compress triangles; the encoder orders faces and vertices anew.

    Parameters
    ----------
    arrays : (n, k) attributes under their glTF names, float32 or uint16; ``POSITION`` must be there.
    faces : int32 (m, 3).

    Returns
    -------
    stream, the number of each attribute in it, the attributes as they will be decoded, and how many faces.
    """
    import DracoPy

    generic = {
        _FIRST_GENERIC_ID + i: array
        for i, (name, array) in enumerate(arrays.items())
        if name not in ("POSITION", "NORMAL", "TEXCOORD_0")
    }
    normals, uvs = (arrays.get(name) for name in ("NORMAL", "TEXCOORD_0"))
    stream = DracoPy.encode(
        arrays["POSITION"],
        faces.astype(np.uint32),
        quantization_bits=POSITION_BITS,
        compression_level=_LEVEL,
        normals=None if normals is None else normals.astype(np.float64),
        tex_coord=None if uvs is None else uvs.astype(np.float64),
        tex_coord_quantization_bits=UV_BITS + _extra_bits(uvs),
        normal_quantization_bits=NORMAL_BITS,
        generic_attributes=generic or None,
    )
    decoded = DracoPy.decode(stream)
    names = dict(
        zip(generic, (n for n in arrays if n not in ("POSITION", "NORMAL", "TEXCOORD_0")), strict=True)
    )
    standard = {_POSITION: "POSITION", _NORMAL: "NORMAL", _UV: "TEXCOORD_0"}
    ids, values = {}, {}
    for attribute in decoded.attributes:
        number, kind = int(attribute["unique_id"]), int(attribute["attribute_type"])
        name = names[number] if kind == _GENERIC else standard[kind]
        ids[name] = number
        values[name] = (
            np.asarray(attribute["data"]).astype(arrays[name].dtype).reshape(-1, arrays[name].shape[1])
        )
    return stream, ids, values, len(decoded.faces)


def _extra_bits(uvs: NDArray[np.float32] | None) -> int:
    """Bits that keep the step where UVs reach over several repetitions of the texture."""
    extent = 1.0 if uvs is None else float(np.ptp(uvs.astype(np.float64), axis=0).max())
    return min(max(math.ceil(math.log2(max(extent, 1.0))), 0), 30 - UV_BITS)
