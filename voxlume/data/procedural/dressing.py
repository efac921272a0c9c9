"""Procedural PBR materials on any geometry: real models bring shapes and colours, but little else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from voxlume.asset import Asset, Material, Mesh, Texture
from voxlume.data.procedural import materials as m
from voxlume.data.procedural.noise import clouds
from voxlume.data.procedural.palettes import Color
from voxlume.data.procedural.shapes import box_mapped
from voxlume.srgb import linear_to_srgb

_SPAN = 1.5
"""Length in UV units that an asset's longest side becomes, so that tiles are as large as on objects made
here."""

_MOST_REGIONS = 6
_GLASS_SHARE = 0.08
_TINTED = (
    m.wood, m.weathered_paint, m.polished_metal, m.brushed_metal, m.hammered_metal, m.painted_metal,
    m.car_paint, m.ceramic, m.ceramic, m.plastic, m.plastic, m.fabric, m.leather,
)  # fmt: skip


def dress(asset: Asset, seed: int) -> Asset:
    """The same geometry with other materials.

    Faces of one material and one colour (many models paint their parts from a palette texture) are a
    region. Half of the seeds keep the asset's own base colours and give every region metallic and
    roughness; the other half replace the regions' materials, with the region's own colour or another one.
    Now and then a region becomes glass. What is cut out or translucent keeps its material.

    Parameters
    ----------
    asset : anything; needs no UVs.
    seed : 0 or greater; the same asset and seed give the same result.

    Returns
    -------
    Asset of the same faces in the same places; meshes are split by region, and vertices where the box
    projection that gives the new UVs changes its side.
    """
    rng = np.random.default_rng([2, seed])
    keeps_color = bool(rng.random() < 0.5)
    tinted = bool(rng.random() < 0.6)
    if not any(len(mesh.faces) for mesh in asset.meshes):
        return asset
    low, high = asset.bounds()
    scale = _SPAN / max(float((high - low).max()), 1e-30)
    meshes: list[Mesh] = []
    new: list[Material] = []
    given: dict[tuple[int, int], int] = {}
    for mesh in asset.meshes:
        if not len(mesh.faces):
            continue
        source = asset.material_of(mesh)
        region, colors = _regions(mesh, source)
        for number, color in enumerate(colors):
            faces = mesh.faces[region == number]
            if not len(faces):
                continue
            key = (mesh.material, _packed(color))
            part = _box_uvs(mesh, faces, low, scale, keeps_color)
            if key not in given:
                given[key] = len(new)
                if source.alpha_mode != "OPAQUE" or source.transmission_factor > 0:
                    dressed = source
                elif rng.random() < _GLASS_SHARE:
                    dressed = _glazed(rng, source, color, keeps_color)
                elif keeps_color:
                    dressed = _finished(rng, source, len(mesh.uvs))
                else:
                    dressed = _replaced(rng, color, tinted)
                new.append(replace(dressed, double_sided=source.double_sided or dressed.double_sided))
            material = new[given[key]]
            if not keeps_color and (source.alpha_mode != "OPAQUE" or source.transmission_factor > 0):
                part = _box_uvs(mesh, faces, low, scale, True)
            meshes.append(replace(part, material=given[key], name=material.name))
    return Asset(tuple(meshes), tuple(new), asset.name, asset.warnings)


def _finished(rng: np.random.Generator, source: Material, texcoord: int) -> Material:
    """The source's colours under a finish: metallic and roughness that vary over the UV set ``texcoord``."""
    metallic = 1.0 if rng.random() < 0.35 else 0.0
    low = float(rng.choice([0.08, 0.2, 0.35, 0.55, 0.75]))
    worn = clouds(rng, float(rng.choice([0.1, 0.25, 0.5])), stretch=float(rng.choice([1.0, 1.0, 8.0])))
    finish = m.compose("finish", (1.0, 1.0, 1.0), np.clip(low + 0.25 * worn, 0, 1), metallic)
    texture = finish.metallic_roughness_texture
    assert texture is not None
    return replace(
        source, metallic_factor=1.0, roughness_factor=1.0,
        metallic_roughness_texture=replace(texture, texcoord=texcoord),
    )  # fmt: skip


def _glazed(rng: np.random.Generator, source: Material, color: Color, keeps_color: bool) -> Material:
    glass = m.glass(rng, color)
    if not keeps_color:
        return glass
    r, g, b, _ = source.base_color_factor
    alpha = 0.2 + 0.35 * float(rng.random())
    return replace(
        source, base_color_factor=(r, g, b, round(alpha, 4)), alpha_mode="BLEND", metallic_factor=0.0,
        roughness_factor=round(0.03 + 0.2 * float(rng.random()), 4), metallic_roughness_texture=None,
        double_sided=True,
    )  # fmt: skip


def _replaced(rng: np.random.Generator, color: Color, tinted: bool) -> Material:
    if tinted:
        return _TINTED[int(rng.integers(len(_TINTED)))](rng, color)
    return m.one_of(rng, m.SOLID)


def _box_uvs(
    mesh: Mesh, faces: NDArray[np.int32], low: NDArray[np.float64], scale: float, keeps_uvs: bool
) -> Mesh:
    """Some faces of a mesh with box UVs, alone or after the UV sets it has."""
    used = np.zeros(len(mesh.vertices), np.bool_)
    used[faces] = True
    kept = np.flatnonzero(used)
    local = (np.cumsum(used) - 1)[faces]
    source, uv, new_faces = box_mapped((mesh.vertices[kept] - low) * scale, local)
    source = kept[source]
    # Rounded, so that machines agree on the bytes.
    uv32 = (np.floor(uv * 2**16 + 0.5) / 2**16).astype(np.float32)
    return Mesh(
        mesh.vertices[source],
        new_faces.astype(np.int32),
        normals=None if mesh.normals is None else mesh.normals[source],
        uvs=(*(u[source] for u in mesh.uvs), uv32) if keeps_uvs else (uv32,),
        colors=mesh.colors[source] if keeps_uvs and mesh.colors is not None else None,
    )


def _regions(mesh: Mesh, material: Material) -> tuple[NDArray[np.intp], list[Color]]:
    """A region number for every face (m,), and each region's mean sRGB colour."""
    linear = np.broadcast_to(np.asarray(material.base_color_factor[:3]), (len(mesh.faces), 3))
    if mesh.colors is not None:
        linear = linear * mesh.colors[mesh.faces, :3].mean(1)
    color = linear_to_srgb(np.clip(linear, 0, 1))
    texture = material.base_color_texture
    if texture is not None and texture.texcoord < len(mesh.uvs):
        color = color * _face_colors(mesh, texture)
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    area = np.sqrt((np.cross(b - a, c - a) ** 2).sum(1))
    bins, number = np.unique((color * 3.999).astype(np.int64) @ (16, 4, 1), return_inverse=True)
    weight = np.asarray(area, np.float64) + 1e-300
    total = np.bincount(number, weight, len(bins))
    mean = np.stack([np.bincount(number, weight * color[:, k], len(bins)) / total for k in range(3)], 1)
    largest = np.argsort(-total, kind="stable")[:_MOST_REGIONS]
    distance = ((mean[:, None] - mean[None, largest]) ** 2).sum(-1)
    colors = [(float(r), float(g), float(b)) for r, g, b in np.clip(mean[largest], 0, 1)]
    return distance.argmin(1)[number], colors


def _face_colors(mesh: Mesh, texture: Texture) -> NDArray[np.float64]:
    """The texture's colour (m, 3) in the middle of every face, or its mean where faces show a picture."""
    corners = (
        mesh.uvs[texture.texcoord].astype(np.float64) @ texture.transform[:, :2].T + texture.transform[:, 2]
    )
    height, width, channels = texture.image.shape
    corner = corners[mesh.faces] * (width, height)
    rgb = texture.image[..., :3] if channels >= 3 else np.repeat(texture.image[..., :1], 3, 2)
    if np.median(np.ptp(corner, axis=1).max(1)) > 0.1 * max(width, height, 40):
        return np.broadcast_to(rgb.reshape(-1, 3).mean(0) / 255, (len(corner), 3))
    x, y = np.floor(corner.mean(1)).astype(np.int64).T
    return rgb[y % height, x % width].astype(np.float64) / 255


def _packed(color: Color) -> int:
    """One number for a colour as 8-bit values."""
    r, g, b = (int(c * 255 + 0.5) for c in color)
    return (r << 16) | (g << 8) | b
