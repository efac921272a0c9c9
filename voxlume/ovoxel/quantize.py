"""An O-Voxel as the bytes of a ``.vxz`` file, and back.

Writing takes floor(255 x), the published rule. Reading undoes it without bias and so that writing again
gives the same bytes: a material value was a texture's byte and becomes u / 255; a dual vertex was any number
in its byte's interval and becomes the middle of it, (u + 1/2) / 255, with 1 for the last byte.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from voxlume.asset import Placement
from voxlume.errors import VoxelFileError
from voxlume.jit import parallel_kernel
from voxlume.ovoxel.grid import OVoxel
from voxlume.ovoxel.index import MAX_RESOLUTION, pack_keys
from voxlume.ovoxel.vxz import Voxels

MATERIAL = (("base_color", 3, 1.0), ("metallic", 1, 0.0), ("roughness", 1, 1.0), ("alpha", 1, 1.0))
"""Names and channels of the material in a file, in the order of ``OVoxel.attributes``, and what holds where a
file has only some of them."""

USUAL_RESOLUTIONS = (64, 128, 256, 512, 1024, 1536, 2048)
KNOWN_NAMES = ("dual_vertices", "intersected", *(name for name, _, _ in MATERIAL))
FRAME = "z-up"

_BYTES = np.arange(256)
VALUE_OF_BYTE = (_BYTES / 255).astype(np.float32)
MIDDLE_OF_BYTE = np.minimum((_BYTES + 0.5) / 255, 1.0).astype(np.float32)
FLAG_BITS = np.array([1, 2, 4], np.uint8)


def to_voxels(ovoxel: OVoxel) -> Voxels:
    """The content of a ``.vxz`` file; 8 bits per value, values outside [0, 1] clipped.

    Resolution, placement and frame, which the published header lacks, go into the extension; splitting
    weights into its byte stream, as float16 (the two bytes as channels).
    """
    attributes = {}
    if ovoxel.attributes is not None:
        column = 0
        for name, channels, _ in MATERIAL:
            attributes[name] = quantize(ovoxel.attributes[:, column : column + channels])
            column += channels
    attributes["dual_vertices"] = quantize(ovoxel.dual_vertices)
    attributes["intersected"] = (ovoxel.intersected.astype(np.uint8) @ FLAG_BITS)[:, None]
    extension = {
        "resolution": ovoxel.resolution,
        "frame": FRAME,
        "center": list(ovoxel.placement.center),
        "scale": ovoxel.placement.scale,
    }
    extra = None
    if ovoxel.splitting_weights is not None:
        limits = np.finfo(np.float16)
        weights = np.clip(ovoxel.splitting_weights, limits.smallest_normal, limits.max)
        extra = weights.astype("<f2").reshape(-1, 1).view(np.uint8)
    return Voxels(ovoxel.coords, attributes, extension, extra)


def from_voxels(voxels: Voxels, resolution: int | None = None) -> OVoxel:
    """The O-Voxel in a ``.vxz`` file, its voxels in lexicographic order.

    Parameters
    ----------
    resolution : overrides the file's; where neither says, the smallest usual one that holds the voxels.

    Raises
    ------
    VoxelFileError : no geometry in the file, attributes of another size, or a damaged extension.
    """
    if "dual_vertices" not in voxels.attributes or "intersected" not in voxels.attributes:
        raise VoxelFileError("the file has no geometry (dual_vertices and intersected)")
    _check_channels(voxels.attributes)
    order = np.argsort(pack_keys(voxels.coords))
    coords = voxels.coords[order]
    material = None
    if any(name in voxels.attributes for name, _, _ in MATERIAL):
        material = np.empty((len(order), sum(channels for _, channels, _ in MATERIAL)), np.float32)
        column = 0
        for name, channels, default in MATERIAL:
            values = voxels.attributes.get(name)
            material[:, column : column + channels] = (
                default if values is None else VALUE_OF_BYTE[values[order]]
            )
            column += channels
    flags = voxels.attributes["intersected"][order]
    extension = voxels.extension
    return OVoxel(
        _resolution(coords, resolution, extension.get("resolution")),
        coords,
        MIDDLE_OF_BYTE[voxels.attributes["dual_vertices"][order]],
        (flags & FLAG_BITS) != 0,
        material,
        _splitting_weights(voxels.extra, order),
        _placement(extension),
    )


def quantize(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """floor(255 x) of values clipped to [0, 1], uint8 in the shape of ``values`` (n, c); NaN gives 0."""
    quantized = np.empty(values.shape, np.uint8)
    _quantize(np.asarray(values, np.float32), quantized)
    return quantized


@parallel_kernel
def _quantize(values: NDArray[np.float32], quantized: NDArray[np.uint8]) -> None:
    for i in prange(values.shape[0]):
        for channel in range(values.shape[1]):
            x = values[i, channel]
            # In single precision, where 255 * (u / 255) is u again for every byte.
            scaled = np.float32(255) * x
            quantized[i, channel] = 255 if x >= 1 else np.uint8(scaled) if x > 0 else 0


def _check_channels(attributes: Mapping[str, NDArray[np.uint8]]) -> None:
    channels = {"dual_vertices": 3, "intersected": 1, **{name: count for name, count, _ in MATERIAL}}
    for name, values in attributes.items():
        if name in channels and values.shape[1] != channels[name]:
            raise VoxelFileError(f"{name} has {values.shape[1]} channels instead of {channels[name]}")


def _resolution(coords: NDArray[np.int32], asked: int | None, stored: object) -> int:
    least = int(coords.max()) + 1 if len(coords) else 1
    if asked is None and stored is None:
        usual = [n for n in USUAL_RESOLUTIONS if n >= least]
        return usual[0] if usual else 1 << (least - 1).bit_length()
    resolution = stored if asked is None else asked
    if type(resolution) is not int or not least <= resolution <= MAX_RESOLUTION:
        raise VoxelFileError(f"the voxels need a resolution of at least {least}, not {str(resolution)[:20]}")
    return resolution


def _placement(extension: Mapping[str, Any]) -> Placement:
    if extension.get("frame", FRAME) != FRAME:
        raise VoxelFileError(f"the file's frame is not {FRAME}")
    center, scale = extension.get("center", [0.0, 0.0, 0.0]), extension.get("scale", 1.0)
    numbers = [*center, scale] if isinstance(center, list) and len(center) == 3 else []
    if not numbers or not all(_is_finite(x) for x in numbers) or scale <= 0:
        raise VoxelFileError("the file's placement (center and scale) is not made of possible numbers")
    return Placement((float(center[0]), float(center[1]), float(center[2])), float(scale))


def _is_finite(x: object) -> bool:
    """A JSON number that a double can hold."""
    return isinstance(x, int | float) and not isinstance(x, bool) and abs(x) <= sys.float_info.max


def _splitting_weights(
    extra: NDArray[np.uint8] | None, order: NDArray[np.int64]
) -> NDArray[np.float32] | None:
    if extra is None:
        return None
    if extra.shape[1] != 2:
        raise VoxelFileError("the splitting weights are not 16-bit numbers")
    weights = np.ascontiguousarray(extra[order]).view("<f2")[:, 0].astype(np.float32)
    if not (np.isfinite(weights) & (weights > 0)).all():
        raise VoxelFileError("a splitting weight is not a positive number")
    return weights
