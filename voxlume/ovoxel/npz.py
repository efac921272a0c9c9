"""O-Voxels as ``.npz``: NumPy's zip archive of arrays, lossless.

Entries: ``resolution``, ``coords``, ``dual_vertices``, ``intersected``, ``center``, ``scale`` and, where
there are any, ``attributes`` and ``splitting_weights``; shapes and units as in
:class:`~voxlume.ovoxel.grid.OVoxel`, center and scale as in :class:`~voxlume.asset.Placement`.
"""

from __future__ import annotations

import lzma
import math
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from voxlume.asset import Placement
from voxlume.errors import VoxelFileError
from voxlume.ovoxel.grid import ATTRIBUTE_CHANNELS, OVoxel
from voxlume.ovoxel.index import MAX_RESOLUTION, VoxelIndex

BYTES_FOR_FREE = 1 << 27
BYTES_PER_BYTE = 256
"""How much an archive of b bytes may unpack to: the first plus b times the second."""

_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    RuntimeError,
    tokenize.TokenError,
)
"""What the standard library and NumPy raise on damaged archives and array headers."""


def write_npz(ovoxel: OVoxel, file: BinaryIO) -> None:
    """Write all arrays uncompressed, so that reading is fast and exact."""
    arrays: dict[str, Any] = {
        "resolution": np.int64(ovoxel.resolution),
        "coords": np.ascontiguousarray(ovoxel.coords),
        "dual_vertices": np.ascontiguousarray(ovoxel.dual_vertices),
        "intersected": np.ascontiguousarray(ovoxel.intersected),
        "center": np.array(ovoxel.placement.center),
        "scale": np.float64(ovoxel.placement.scale),
    }
    if ovoxel.attributes is not None:
        arrays["attributes"] = np.ascontiguousarray(ovoxel.attributes)
    if ovoxel.splitting_weights is not None:
        arrays["splitting_weights"] = np.ascontiguousarray(ovoxel.splitting_weights)
    np.savez(file, **arrays)


def read_npz(path: str | Path, resolution: int | None = None) -> OVoxel:
    """Read an archive written by :func:`write_npz` or by ``numpy.savez`` with the same names.

    Arrays are checked against their entry's size before they are read; pickled ones are refused.

    Raises
    ------
    VoxelFileError : damaged, or an array is missing, misshapen, of a wrong type or out of range.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = _Arrays(archive, Path(path).stat().st_size)
            stored = arrays.read("resolution", "iu", ())
            coords = arrays.read("coords", "iu", (None, 3))
            count = len(coords)
            dual_vertices = arrays.read("dual_vertices", "f", (count, 3))
            intersected = arrays.read("intersected", "b", (count, 3))
            center, scale = arrays.read("center", "f", (3,)), arrays.read("scale", "f", ())
            attributes = weights = None
            if "attributes" in arrays:
                attributes = arrays.read("attributes", "f", (count, len(ATTRIBUTE_CHANNELS)))
            if "splitting_weights" in arrays:
                weights = arrays.read("splitting_weights", "f", (count,))
                if count and not weights.min() > 0:
                    raise VoxelFileError("a splitting weight is not a positive number")
    except _DAMAGE:
        raise VoxelFileError("the archive is damaged or cut off") from None
    size = int(stored) if resolution is None else resolution
    if not 1 <= size <= MAX_RESOLUTION or (count and (coords.min() < 0 or coords.max() >= size)):
        raise VoxelFileError(f"the voxels do not fit into a grid of resolution {size}")
    coords = coords.astype(np.int32, copy=False)
    try:
        VoxelIndex(coords)
    except ValueError as error:
        raise VoxelFileError(str(error)) from None
    if not scale > 0:
        raise VoxelFileError("the scale is not a positive number")
    return OVoxel(
        size,
        coords,
        dual_vertices.astype(np.float32, copy=False),
        intersected,
        None if attributes is None else attributes.astype(np.float32, copy=False),
        None if weights is None else weights.astype(np.float32, copy=False),
        Placement((float(center[0]), float(center[1]), float(center[2])), float(scale)),
    )


class _Arrays:
    """The arrays of an archive, read one by one under a common budget."""

    def __init__(self, archive: zipfile.ZipFile, num_bytes: int) -> None:
        self._archive = archive
        self._entries = {entry.filename: entry for entry in archive.infolist()}
        self._budget = BYTES_FOR_FREE + BYTES_PER_BYTE * num_bytes

    def __contains__(self, name: str) -> bool:
        return f"{name}.npy" in self._entries

    def read(self, name: str, kinds: str, shape: tuple[int | None, ...]) -> NDArray[Any]:
        """One array of a dtype kind out of ``kinds``; None in ``shape`` stands for any length."""
        if name not in self:
            raise VoxelFileError(f"the archive has no {name}; it is not an O-Voxel")
        entry = self._entries[f"{name}.npy"]
        with self._archive.open(entry) as file:
            version = np.lib.format.read_magic(file)
            header = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            found, fortran, dtype = header(file)
            if dtype.kind not in kinds or dtype.kind == "O":
                raise VoxelFileError(f"{name} has the type {dtype}")
            if len(found) != len(shape) or any(
                n is not None and n != m for n, m in zip(shape, found, strict=True)
            ):
                raise VoxelFileError(f"{name} has the shape {found}")
            size = math.prod(found) * dtype.itemsize
            self._budget -= size
            if size > entry.file_size or self._budget < 0:
                raise VoxelFileError(f"{name} claims more than the file can hold")
            data = file.read(size)
        if len(data) != size:
            raise VoxelFileError(f"{name} is cut off")
        array = np.frombuffer(bytearray(data), dtype).reshape(found, order="F" if fortran else "C")
        if dtype.kind == "f" and not np.isfinite(array).all():
            raise VoxelFileError(f"{name} has values that are not finite")
        return np.ascontiguousarray(array) if found else array
