"""Normals of one surface as a tangent-space normal map of another.

The frame of a texel is the mesh's interpolated normal, the direction in which u grows made orthogonal to it,
and their cross product: up in the image, because charts are never mirrored. Programs that derive tangents
from the UVs, as the glTF specification has it, arrive at the same frame.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class TangentFrames(NamedTuple):
    """Per face: the normals at its corners float32 (m, 3, 3), its tangent float32 (m, 3)."""

    normals: NDArray[np.float32]
    tangents: NDArray[np.float32]


def tangent_frames(
    corners: NDArray[np.float64], uvs: NDArray[np.floating], normals: NDArray[np.floating]
) -> TangentFrames:
    """From positions (m, 3, 3), UVs (m, 3, 2) and normals (m, 3, 3) at the corners of faces.

    A face without area in the plane gets any tangent.
    """
    edge_a, edge_b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    a, b = (uvs[:, k].astype(np.float64) - uvs[:, 0] for k in (1, 2))
    area = a[:, 0] * b[:, 1] - b[:, 0] * a[:, 1]
    along_u = (b[:, 1:] * edge_a - a[:, 1:] * edge_b) * np.sign(area)[:, None]
    length = np.linalg.norm(along_u, axis=1, keepdims=True)
    fallback = np.broadcast_to([1.0, 0.0, 0.0], along_u.shape).copy()
    tangents = np.divide(along_u, length, out=fallback, where=length > 0)
    return TangentFrames(normals.astype(np.float32), tangents.astype(np.float32))


def in_tangent_space(
    wanted: NDArray[np.float32],
    frames: TangentFrames,
    face: NDArray[np.int32],
    weights: NDArray[np.float32],
) -> NDArray[np.uint8]:
    """Encode normals for texels.

    Parameters
    ----------
    wanted : float32 (k, 3), unit and of either sign; where zero, the mesh's own normal is kept.
    face : int32 (k,). weights : float32 (k, 2), of the face's first two corners.

    Returns
    -------
    uint8 (k, 3), components from -1 to 1 as 0 to 255; 128, 128, 255 is no change.
    """
    full = np.column_stack([weights, 1 - weights.sum(axis=1)])
    normal = _unit(np.einsum("kc,kcd->kd", full, frames.normals[face]))
    tangent = frames.tangents[face]
    tangent = _unit(tangent - np.einsum("kd,kd->k", tangent, normal)[:, None] * normal)
    up = np.cross(normal, tangent)
    # The two windings may differ, and a normal beyond the horizon cannot be shown: both face outwards.
    along = np.einsum("kd,kd->k", wanted, normal)
    wanted = np.where(along[:, None] < 0, -wanted, wanted)
    local = np.stack([np.einsum("kd,kd->k", wanted, axis) for axis in (tangent, up, normal)], axis=1)
    local[~wanted.any(axis=1)] = (0, 0, 1)
    # 128 for zero, so that a flat map is exactly flat.
    return np.clip(np.rint(local * 127 + 128), 0, 255).astype(np.uint8)


def _unit(vectors: NDArray[np.floating]) -> NDArray[np.floating]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
