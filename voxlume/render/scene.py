"""An asset made ready for drawing: one list of faces, their normals, their look-ups, their bounds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from voxlume.asset import DEFAULT_MATERIAL, Asset, Material, Mesh, Texture
from voxlume.errors import AssetError
from voxlume.mesh.normals import CreaseNormals, face_normals
from voxlume.render.raster import Fragments, rasterize
from voxlume.texture import MaterialSampler, TexturePack, pack_textures


class ShadingArrays(NamedTuple):
    """What shading needs beside :class:`voxlume.texture.SurfaceArrays`, as flat arrays for the kernels.

    Attributes
    ----------
    face_normal : float32 (m, 3) unit normals, zero where a face has no area.
    vertex_normal : float32 (n, 3), zero where the file brings none.
    same, start, corners, angle : see :class:`voxlume.mesh.normals.CreaseNormals`; empty where every
        mesh brings normals.
    detail : int64 (materials, 2), normal and emissive texture in the scene's ``detail_pack``, -1 for none.
    normal_scale : float64 (materials,).
    emissive : float64 (materials, 3), linear factor.
    uv : float32 (2, n, 2) for the two textures, transform applied (one row where there are none).
    """

    face_normal: NDArray[np.float32]
    vertex_normal: NDArray[np.float32]
    same: NDArray[np.int32]
    start: NDArray[np.int32]
    corners: NDArray[np.int32]
    angle: NDArray[np.float32]
    detail: NDArray[np.int64]
    normal_scale: NDArray[np.float64]
    emissive: NDArray[np.float64]
    uv: NDArray[np.float32]


class Part:
    """Some of the faces of a scene, cheap to rasterise on their own.

    Attributes
    ----------
    index : int32 (k,), the faces' numbers in the scene.
    vertices : int32 (n,), the vertices they use, or None for all vertices.
    faces : int32 (k, 3), over ``vertices``.
    """

    def __init__(self, faces: NDArray[np.int32], index: NDArray[np.integer], num_vertices: int) -> None:
        self.index = index.astype(np.int32)
        self.vertices: NDArray[np.int32] | None = None
        if len(index) == len(faces):
            self.faces = faces
            return
        used = np.zeros(num_vertices, np.bool_)
        used[faces[index]] = True
        self.vertices = np.flatnonzero(used).astype(np.int32)
        self.faces = (np.cumsum(used, dtype=np.int32) - np.int32(1))[faces[index]]

    def __len__(self) -> int:
        return len(self.index)

    def rasterize(
        self,
        clip: NDArray[np.float64],
        height: int,
        width: int,
        *,
        near: float = 1e-9,
        beyond: Fragments | None = None,
        before: NDArray[np.float32] | None = None,
    ) -> Fragments:
        """:func:`voxlume.render.raster.rasterize` of this part, given all clip positions of the scene.

        Face indices are local; ``index`` leads back to the scene.
        """
        if self.vertices is not None:
            clip = clip[self.vertices]
        return rasterize(clip, self.faces, height, width, near=near, beyond=beyond, before=before)


class Scene:
    """An asset ready for drawing from any side.

    Attributes
    ----------
    sampler : material look-up; its ``surface.faces`` are the faces.
    vertices : float64 (n, 3), relative to ``center``.
    shading, detail_pack : the further arrays, and the normal and emissive textures.
    solid, see_through : the faces that hide what is behind them, and those that may not.
    center, radius : the sphere about the middle of the bounding box that holds every used vertex.
    floor : the smallest y.

    Raises
    ------
    AssetError : the asset has no triangle, or a used vertex is not finite, or all vertices coincide.
    """

    def __init__(self, asset: Asset) -> None:
        if not asset.num_faces:
            raise AssetError(f"{asset.name or 'asset'}: no geometry (no triangle) to draw")
        self.sampler = MaterialSampler(asset)
        vertices, faces = self.sampler.vertices, self.sampler.surface.faces
        used = np.zeros(len(vertices), np.bool_)
        used[faces.reshape(-1)] = True
        points = vertices[used]
        low, high = points.min(axis=0), points.max(axis=0)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise AssetError(f"{asset.name or 'asset'}: the positions are not finite numbers")
        self.center = low / 2 + high / 2
        self.radius = float(np.sqrt(((points - self.center) ** 2).sum(axis=1).max()))
        if not (0 < self.radius < np.inf):
            raise AssetError(f"{asset.name or 'asset'}: all vertices coincide, there is nothing to draw")
        self.floor = float(low[1])
        # Barycentrics are single precision: about a far-away origin they would not find the place.
        self.vertices = vertices - self.center
        meshes = [m for m in asset.meshes if len(m.faces)]
        solid = _solid_faces(asset, meshes)
        self.solid = Part(faces, np.flatnonzero(solid), len(vertices))
        self.see_through = Part(faces, np.flatnonzero(~solid), len(vertices))
        self.shading, self.detail_pack = _shading_arrays(asset, meshes, self.vertices, faces)


def _solid_faces(asset: Asset, meshes: list[Mesh]) -> NDArray[np.bool_]:
    """Which faces certainly hide what is behind them; only the others need layers."""
    parts = []
    for mesh in meshes:
        material = asset.material_of(mesh)
        solid = np.full(len(mesh.faces), _is_solid(material))
        if material.alpha_mode != "OPAQUE" and mesh.colors is not None:
            solid &= (mesh.colors[:, 3] >= 0.998)[mesh.faces].all(axis=1)
        parts.append(solid)
    return np.concatenate(parts)


def _is_solid(material: Material) -> bool:
    if material.transmission_factor > 0:
        return False
    if material.alpha_mode == "OPAQUE":
        return True
    texture = material.base_color_texture
    cut = (
        texture is not None
        and texture.image.shape[2] in (2, 4)
        and bool((texture.image[..., -1] < 255).any())
    )
    return material.base_color_factor[3] >= 1 and not cut


def _shading_arrays(
    asset: Asset, meshes: list[Mesh], vertices: NDArray[np.float64], faces: NDArray[np.int32]
) -> tuple[ShadingArrays, TexturePack]:
    vertex_normal = np.zeros((len(vertices), 3), np.float32)
    first = np.cumsum([0] + [len(m.vertices) for m in meshes])
    for mesh, start in zip(meshes, first, strict=False):
        if mesh.normals is not None:
            vertex_normal[start : start + len(mesh.vertices)] = mesh.normals
    if all(m.normals is not None for m in meshes):
        empty = np.zeros(0, np.int32)
        same, start_of, corners, angle = empty, empty, empty, np.zeros((0, 3), np.float32)
    else:
        crease = CreaseNormals(vertices, faces)
        same, start_of, corners, angle = crease.same, crease.start, crease.corners, crease.angle
    materials = [*asset.materials, DEFAULT_MATERIAL]
    textures: list[Texture] = []
    detail = np.full((len(materials), 2), -1, np.int64)
    for m, material in enumerate(materials):
        for slot, texture in enumerate((material.normal_texture, material.emissive_texture)):
            if texture is not None:
                detail[m, slot] = len(textures)
                textures.append(texture)
    uv = np.zeros((2, len(vertices) if textures else 1, 2), np.float32)
    for mesh, start in zip(meshes, first, strict=False):
        for slot in range(2):
            t = detail[mesh.material % len(materials), slot]
            if t >= 0 and textures[t].texcoord < len(mesh.uvs):
                transform = textures[t].transform
                corner = mesh.uvs[textures[t].texcoord].astype(np.float64)
                uv[slot, start : start + len(mesh.vertices)] = corner @ transform[:, :2].T + transform[:, 2]
    arrays = ShadingArrays(
        face_normal=face_normals(vertices, faces),
        vertex_normal=vertex_normal,
        same=same,
        start=start_of,
        corners=corners,
        angle=angle,
        detail=detail,
        normal_scale=np.array([m.normal_scale for m in materials], np.float64),
        emissive=np.array([m.emissive_factor for m in materials], np.float64),
        uv=uv,
    )
    return arrays, pack_textures(textures)
