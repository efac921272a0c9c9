"""What all writers ask of an asset, and the values that they store of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from voxlume.asset import Asset, Material, Mesh, Texture
from voxlume.errors import AssetError


def sound_meshes(asset: Asset) -> list[Mesh]:
    """The meshes that have faces, whose arrays are known to fit together afterwards.

    Raises
    ------
    AssetError : no face at all, a value that is not finite, arrays that do not fit together.
    """
    meshes = [mesh for mesh in asset.meshes if len(mesh.faces)]
    if not meshes:
        raise AssetError(f"{asset.name or 'asset'}: there is no triangle to write")
    for mesh in meshes:
        if not np.isfinite(mesh.vertices).all():
            raise AssetError(f"mesh '{mesh.name}': a vertex coordinate is not a finite number")
        _check_arrays(mesh)
    return meshes


def float32_offset(meshes: Sequence[Mesh]) -> NDArray[np.float64]:
    """Zero, or the centre of all vertices if float32 would lose much more than at the origin.

    One offset for all meshes, because neighbours that share a border must be rounded alike.
    """
    lo = np.min([mesh.vertices.min(0) for mesh in meshes], 0)
    hi = np.max([mesh.vertices.max(0) for mesh in meshes], 0)
    extent = float((hi / 2 - lo / 2).max()) * 2
    # At the origin rounding costs up to 2^-25 of the extent; up to 2^-22 goes unseen.
    lost = max(_rounding_loss(mesh.vertices) for mesh in meshes)
    return lo / 2 + hi / 2 if lost > extent * 2.0**-22 else np.zeros(3)


def _rounding_loss(values: NDArray[np.float64]) -> float:
    with np.errstate(over="ignore"):
        return float(np.abs(values - values.astype(np.float32)).max())


def float32_positions(mesh: Mesh, offset: NDArray[np.float64]) -> NDArray[np.float32]:
    """Vertices (n, 3) relative to an offset.

    Raises
    ------
    AssetError : too large for the type.
    """
    with np.errstate(over="ignore"):
        positions = (mesh.vertices - offset).astype(np.float32)
    if not np.isfinite(positions).all():
        raise AssetError(f"mesh '{mesh.name}': coordinates are too large for float32; scale the asset down")
    return positions


def unit_normals(mesh: Mesh) -> NDArray[np.float32]:
    """Normals (n, 3) of exactly unit length as far as float32 goes; unusable ones from the faces."""
    assert mesh.normals is not None
    normals, good = _normalize(mesh.normals.astype(np.float64))
    if not good.all():
        # Scaled to unit size so that cross products neither overflow nor vanish.
        p = mesh.vertices - mesh.vertices.mean(0)
        p = p / max(float(np.abs(p).max()), np.finfo(np.float64).tiny)
        a, b, c = (p[mesh.faces[:, k]] for k in range(3))
        area_vectors = np.cross(b - a, c - a)
        sums = np.zeros_like(p)
        for k in range(3):
            np.add.at(sums, mesh.faces[:, k], area_vectors)
        substitute, usable = _normalize(sums)
        substitute[~usable] = (0.0, 1.0, 0.0)
        normals[~good] = substitute[~good]
    return normals.astype(np.float32)


def _normalize(vectors: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        length = np.linalg.norm(vectors, axis=1)
        good = (length > 1e-30) & (length < np.inf)
        return np.where(good[:, None], vectors / length[:, None], 0.0), good


def textures_of(material: Material) -> list[Texture]:
    """All textures of a material."""
    textures = [
        material.base_color_texture,
        material.metallic_roughness_texture,
        material.emissive_texture,
        material.normal_texture,
        material.occlusion_texture,
        material.transmission_texture,
    ]
    return [t for t in textures if t is not None]


def _check_arrays(mesh: Mesh) -> None:
    n = len(mesh.vertices)
    if mesh.faces.min() < 0 or mesh.faces.max() >= n:
        raise AssetError(f"mesh '{mesh.name}': a face names a vertex that does not exist")
    arrays = {f"UV set {i}": (uv, (2,)) for i, uv in enumerate(mesh.uvs)}
    if mesh.normals is not None:
        arrays["normals"] = (mesh.normals, (3,))
    if mesh.colors is not None:
        arrays["colours"] = (mesh.colors, (4,))
    for name, values in mesh.attributes.items():
        width = values.shape[1:] if values.shape[1:] in {(), (1,), (2,), (3,), (4,)} else (4,)
        arrays[f"attribute {name}"] = (values, width)
    for what, (array, width) in arrays.items():
        if array.shape != (n, *width):
            raise AssetError(f"mesh '{mesh.name}': {what} has shape {array.shape}, expected {(n, *width)}")
        if what != "normals" and not np.isfinite(array).all():
            raise AssetError(f"mesh '{mesh.name}': {what} holds a value that is not a finite number")
