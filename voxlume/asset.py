"""What an asset is in memory: meshes with their materials, as a file describes them.

These types sit below every other room of the package: readers make them, the voxeliser, the
renderer and the exporters take them. Nothing here reads files or computes anything heavy.

Conventions
-----------
* Positions are in the **glTF frame** (right-handed, Y-up, metres or whatever the file's unit is), in
  double precision, with all node transforms applied.
* UV (0, 0) is the **upper left** corner of the image, as in glTF: v grows downwards with the rows.
* Images are as stored: base colour and emissive sRGB-encoded, everything else linear. Colour *factors*
  and vertex colours are linear, as glTF defines them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from voxlume.errors import AssetError

Wrap = Literal["repeat", "mirror", "clamp"]
AlphaMode = Literal["OPAQUE", "MASK", "BLEND"]


@dataclass(frozen=True, eq=False)
class Texture:
    """An image and how a material looks it up.

    Attributes
    ----------
    image : uint8 (h, w, c)
        c is 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA); row 0 is the top row. Any size is legal.
        Textures that share an image share the array object.
    wrap : wrap mode along u and v.
    nearest : True where the sampler asks for nearest-texel look-up; otherwise bilinear with mip-maps.
    texcoord : which of the mesh's UV sets to use.
    transform : float64 (2, 3), applied to (u, v, 1) before look-up (KHR_texture_transform).
    """

    image: NDArray[np.uint8]
    wrap: tuple[Wrap, Wrap] = ("repeat", "repeat")
    nearest: bool = False
    texcoord: int = 0
    transform: NDArray[np.float64] = field(default_factory=lambda: np.eye(2, 3))


@dataclass(frozen=True, eq=False)
class Material:
    """A metallic-roughness material with glTF 2.0's meaning and defaults.

    Specular-glossiness materials are converted by the reader, so nothing else needs to know them.

    Attributes
    ----------
    base_color_factor : linear RGBA, multiplies texture (after decoding) and vertex colour.
    metallic_roughness_texture : green is roughness, blue is metallic.
    alpha_mode, alpha_cutoff : OPAQUE ignores alpha, MASK compares with the cut-off, BLEND uses it.
    transmission_factor, transmission_texture : KHR_materials_transmission (red channel).
    """

    name: str = ""
    base_color_factor: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    base_color_texture: Texture | None = None
    metallic_factor: float = 1.0
    roughness_factor: float = 1.0
    metallic_roughness_texture: Texture | None = None
    alpha_mode: AlphaMode = "OPAQUE"
    alpha_cutoff: float = 0.5
    double_sided: bool = False
    emissive_factor: tuple[float, float, float] = (0.0, 0.0, 0.0)
    emissive_texture: Texture | None = None
    normal_texture: Texture | None = None
    normal_scale: float = 1.0
    occlusion_texture: Texture | None = None
    transmission_factor: float = 0.0
    transmission_texture: Texture | None = None


DEFAULT_MATERIAL = Material(name="default", metallic_factor=0.0, roughness_factor=1.0)
"""What a mesh without a material is made of: white, rough, not metal."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles of one material.

    Attributes
    ----------
    vertices : float64 (n, 3), glTF frame.
    faces : int32 (m, 3), counter-clockwise seen from outside.
    normals : float32 (n, 3) unit vectors, or None.
    uvs : one float32 (n, 2) array per UV set.
    colors : float32 (n, 4) linear RGBA vertex colours (COLOR_0), or None.
    attributes : further per-vertex arrays float32 (n,) or (n, k) under their glTF names without the
        underscore; ``METALLIC`` and ``ROUGHNESS`` multiply the material's values when sampled.
    material : index into the asset's materials, or -1 for :data:`DEFAULT_MATERIAL`.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int32]
    normals: NDArray[np.float32] | None = None
    uvs: tuple[NDArray[np.float32], ...] = ()
    colors: NDArray[np.float32] | None = None
    attributes: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    material: int = -1
    name: str = ""


@dataclass(frozen=True)
class Placement:
    """Where the unit cube of the model frame lies in the asset's own frame.

    ``model = to_model_axes(gltf - center) * scale``; the longest side of the asset becomes 0.99999.
    """

    center: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: float = 1.0

    def to_model(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """glTF frame (n, 3) to the Z-up model frame: (x, y, z) -> (x, -z, y)."""
        p = (np.asarray(points, np.float64) - self.center) * self.scale
        return np.stack([p[:, 0], -p[:, 2], p[:, 1]], axis=1)

    def to_gltf(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Z-up model frame (n, 3) back to the asset's own coordinates in the glTF frame."""
        p = np.asarray(points, np.float64)
        return np.stack([p[:, 0], p[:, 2], -p[:, 1]], axis=1) / self.scale + np.asarray(self.center)


@dataclass(frozen=True, eq=False)
class Asset:
    """A scene flattened to world space: meshes, their materials, and what the reader had to say.

    ``warnings`` lists, one line each, whatever was dropped or replaced while reading.
    """

    meshes: tuple[Mesh, ...]
    materials: tuple[Material, ...] = ()
    name: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def num_faces(self) -> int:
        return sum(len(m.faces) for m in self.meshes)

    @property
    def num_vertices(self) -> int:
        return sum(len(m.vertices) for m in self.meshes)

    def material_of(self, mesh: Mesh) -> Material:
        return self.materials[mesh.material] if mesh.material >= 0 else DEFAULT_MATERIAL

    def bounds(self) -> NDArray[np.float64]:
        """(2, 3) smallest and largest coordinate over the vertices that faces use.

        Raises
        ------
        AssetError : there is no face.
        """
        used = [_used_vertices(m) for m in self.meshes if len(m.faces)]
        if not used:
            raise AssetError(f"{self.name or 'asset'}: no geometry (no triangle) in the file")
        return np.stack([np.min([u.min(0) for u in used], 0), np.max([u.max(0) for u in used], 0)])

    def placement(self) -> Placement:
        """The normalisation that the networks expect: centred, longest side 0.99999.

        Raises
        ------
        AssetError : no geometry, or all vertices coincide.
        """
        lo, hi = self.bounds()
        # Halving first keeps the sum and the difference of values near the largest double finite.
        center, extent = lo / 2 + hi / 2, float((hi / 2 - lo / 2).max()) * 2
        if not extent > 0:
            raise AssetError(f"{self.name or 'asset'}: all vertices coincide, there is no surface to work on")
        x, y, z = (float(c) for c in center)
        return Placement(center=(x, y, z), scale=0.99999 / extent)


def _used_vertices(mesh: Mesh) -> NDArray[np.float64]:
    is_used = np.zeros(len(mesh.vertices), np.bool_)
    is_used[mesh.faces] = True
    return mesh.vertices[is_used]
