"""Voxel files: ``.vxz`` for exchange (compact, 8 bits per value) and ``.npz`` (lossless).

A ``.vxz`` written elsewhere lacks what only this package stores: its frame is taken as Z-up, its placement as
that of the model frame, and its resolution as the smallest usual one (64, 128, 256, 512, 1024, 1536, 2048)
that holds the voxels unless the caller says. Attributes this package has no use for (``emissive``,
``normal``) are passed over.
"""

from __future__ import annotations

from pathlib import Path

from voxlume.errors import VoxelFileError
from voxlume.files import atomic_write
from voxlume.ovoxel.grid import OVoxel
from voxlume.ovoxel.npz import read_npz, write_npz
from voxlume.ovoxel.quantize import KNOWN_NAMES, from_voxels, to_voxels
from voxlume.ovoxel.vxz import MAGIC, VxzOptions, read_vxz, write_vxz
from voxlume.progress import Progress

ENDINGS = (".vxz", ".npz")
"""Endings of the files that :func:`save_ovoxel` writes."""

ZIP_MAGIC = b"PK"


def save_ovoxel(
    ovoxel: OVoxel,
    path: str | Path,
    *,
    options: VxzOptions | None = None,
    progress: Progress | None = None,
) -> None:
    """Write ``.vxz`` or ``.npz`` by the name's ending; the file appears complete or not at all.

    Parameters
    ----------
    options : how to write a ``.vxz``.

    Raises
    ------
    VoxelFileError : another ending.
    VoxlumeError : the file cannot be written.
    Cancelled : ``progress`` asked to stop.
    """
    kind = Path(path).suffix.lower()
    if kind not in ENDINGS:
        raise VoxelFileError(f"{path}: voxels are written as .vxz or .npz; choose one of these endings")
    with atomic_write(path) as file:
        if kind == ".npz":
            write_npz(ovoxel, file)
        else:
            file.write(write_vxz(to_voxels(ovoxel), options, progress))


def load_ovoxel(
    path: str | Path, resolution: int | None = None, *, progress: Progress | None = None
) -> OVoxel:
    """Read ``.vxz`` or ``.npz``, whichever the content is.

    Parameters
    ----------
    resolution : overrides the file's, or says what the file does not.

    Raises
    ------
    VoxelFileError : missing, unreadable, damaged, cut off, or not a voxel file.
    Cancelled : ``progress`` asked to stop.
    """
    try:
        with open(path, "rb") as file:
            magic = file.read(len(MAGIC))
            data = magic + file.read() if magic == MAGIC else b""
        if data:
            return from_voxels(read_vxz(data, KNOWN_NAMES, progress), resolution)
        if magic.startswith(ZIP_MAGIC):
            return read_npz(path, resolution)
        raise VoxelFileError("neither .vxz nor .npz by its content")
    except OSError as error:
        raise VoxelFileError(f"cannot read {path}: {error.strerror or error}") from None
    except VoxelFileError as error:
        raise VoxelFileError(f"{path}: {error}") from None
