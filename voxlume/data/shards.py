"""The files of a voxel store: shards that describe themselves, and an index.

A shard is a safetensors file with the voxels of some dozens of samples one after another, 13 bytes each (16
on grids finer than 256): ``coords`` uint8 or int16 (n, 3), ``dual_vertices`` uint8 (n, 3) and ``attributes``
uint8 (n, 6) in 255ths, ``flags`` uint8 (n, 1) with a bit for each axis of ``intersected``. Its metadata lists
the samples. Nothing here needs PyTorch, so that processes which build start quickly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as safetensors_bytes

from voxlume.errors import VoxelFileError, VoxlumeError
from voxlume.files import atomic_write
from voxlume.ovoxel.grid import OVoxel

FORMAT = "voxlume voxel shard 1"
INDEX = "index.json"
COLUMNS = {"coords": 3, "dual_vertices": 3, "flags": 1, "attributes": 6}
FLAG_BITS = (1, 2, 4)


def pack(ovoxel: OVoxel) -> dict[str, NDArray[Any]]:
    """An O-Voxel with material as the bytes of a shard: 255ths, rounded to the nearest.

    Raises
    ------
    VoxlumeError : no material, or a value that is not a finite number.
    """
    if ovoxel.attributes is None:
        raise VoxlumeError("voxels without material cannot be stored")
    for values in (ovoxel.dual_vertices, ovoxel.attributes):
        if not np.isfinite(values).all():
            raise VoxlumeError("a value of the voxels is not a finite number")
    return {
        "coords": ovoxel.coords.astype(_coords_dtype(ovoxel.resolution)),
        "dual_vertices": _to_bytes(ovoxel.dual_vertices),
        "flags": (ovoxel.intersected.astype(np.uint8) @ np.array(FLAG_BITS, np.uint8))[:, None],
        "attributes": _to_bytes(ovoxel.attributes),
    }


def write_shard(
    path: Path,
    samples: Sequence[tuple[str, str, Mapping[str, NDArray[Any]]]],
    resolution: int,
    note: Mapping[str, Any],
) -> None:
    """Write samples ``(name, kind, packed)``; ``note`` (JSON) is kept with them, see :func:`read_note`.

    Raises
    ------
    VoxlumeError : the file cannot be written.
    """
    none = {name: np.zeros((0, width), np.uint8) for name, width in COLUMNS.items()}
    none["coords"] = none["coords"].astype(_coords_dtype(resolution))
    columns = {
        name: np.concatenate([none[name], *(packed[name] for _, _, packed in samples)]) for name in none
    }
    listed = [[name, kind, len(packed["coords"])] for name, kind, packed in samples]
    metadata = {
        "format": FORMAT,
        "resolution": str(resolution),
        "samples": json.dumps(listed),
        "note": json.dumps(dict(note)),
    }
    with atomic_write(path) as file:
        file.write(safetensors_bytes(columns, metadata=metadata))


def read_note(path: Path) -> tuple[list[tuple[str, str, int]], dict[str, Any]]:
    """The samples ``(name, kind, voxels)`` of a shard and what was noted with them; reads no voxel.

    Raises
    ------
    VoxelFileError : the file is missing, damaged or no shard.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
        if metadata.get("format") != FORMAT:
            raise VoxelFileError(f"{path} is not a shard of voxels")
        samples = [
            (str(name), str(kind), int(count)) for name, kind, count in json.loads(metadata["samples"])
        ]
        return samples, json.loads(metadata["note"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise VoxelFileError(f"{path} is missing or damaged: {error}; build the store again") from error


def read_index(folder: Path) -> dict[str, Any]:
    """The index of a store: ``resolution``, ``settings``, ``splits`` with their shards.

    Raises
    ------
    VoxlumeError : the folder is no store.
    """
    path = folder / INDEX
    try:
        index = json.loads(path.read_text())
        if not isinstance(index["resolution"], int) or not isinstance(index["splits"], dict):
            raise ValueError("not the index of a store")
    except FileNotFoundError as error:
        raise VoxlumeError(
            f"{folder} is no voxel store (no {INDEX}); make one with `python -m voxlume.data build`"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VoxlumeError(f"{path} is damaged: {error}") from error
    return index


def write_index(folder: Path, index: Mapping[str, Any]) -> None:
    with atomic_write(folder / INDEX) as file:
        file.write((json.dumps(index, indent=1) + "\n").encode())


def _to_bytes(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    return (np.clip(values, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)


def _coords_dtype(resolution: int) -> type[np.uint8] | type[np.int16]:
    return np.uint8 if resolution <= 256 else np.int16
