"""From an O-Voxel to an asset that any program shows: clean, simplify, unwrap, bake."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from voxlume.asset import AlphaMode, Asset, Material, Mesh, Texture
from voxlume.devices import check_device, chosen_device
from voxlume.errors import AssetError
from voxlume.mesh.alpha import alpha_mode_of, cut_outs
from voxlume.mesh.bake import bake
from voxlume.mesh.clean import CleanOptions, clean
from voxlume.mesh.normals import split_at_creases
from voxlume.mesh.occlusion_map import occlusion_map
from voxlume.mesh.remesh import LARGEST_RESOLUTION, SMALLEST_RESOLUTION, remesh_watertight
from voxlume.mesh.sidedness import needs_both_sides
from voxlume.mesh.simplify import SMALLEST_BUDGET, simplify
from voxlume.mesh.source_surface import SourceSurface
from voxlume.mesh.unwrap import check_texture_size, unwrap
from voxlume.mesh.write_images import ImageEncoding, TextureImage
from voxlume.ovoxel.grid import OVoxel
from voxlume.progress import Progress

DEFAULT_FACES = 500_000
DEFAULT_TEXTURE_SIZE = 2048


@dataclass(frozen=True)
class TexturedOptions:
    """How to make the asset.

    Attributes
    ----------
    faces : budget of triangles; None keeps all.
    textures : False leaves out unwrapping and baking.
    texture_size : side of the square textures.
    cleaning : what to repair before; None leaves the surface as extracted.
    remesh : make one closed surface of it, for printing; see :mod:`voxlume.mesh.remesh`.
    normal_map : bake the detail that simplification took away.
    occlusion : bake how much of the sky each texel sees, at half the textures' size.
    alpha_mode : None decides by how much of the surface is translucent.
    double_sided : None decides by whether the back of some of the surface can be seen.
    device : where to simplify and bake, "auto" for the first CUDA device if there is one.
    """

    faces: int | None = DEFAULT_FACES
    textures: bool = True
    texture_size: int = DEFAULT_TEXTURE_SIZE
    cleaning: CleanOptions | None = field(default_factory=CleanOptions)
    remesh: bool = False
    normal_map: bool = False
    occlusion: bool = False
    alpha_mode: AlphaMode | None = None
    double_sided: bool | None = None
    device: str = "auto"

    def check(self) -> None:
        """Refuse what cannot be, before any work is done.

        Raises
        ------
        VoxlumeError : a budget, a texture size or a device that is not possible.
        """
        check_texture_size(self.texture_size)
        if self.faces is not None and self.faces < SMALLEST_BUDGET:
            raise AssetError(
                f"a budget of {self.faces} faces is too small, ask for {SMALLEST_BUDGET} or more"
            )
        if self.device not in ("auto", "cpu"):
            check_device(self.device)


def textured_asset(
    ovoxel: OVoxel,
    options: TexturedOptions | None = None,
    *,
    name: str = "",
    encoding: ImageEncoding | None = None,
    progress: Progress | None = None,
) -> Asset:
    """The surface of an O-Voxel as one mesh with base-colour and metallic-roughness textures.

    Parameters
    ----------
    ovoxel : with materials; without, the mesh gets neither UVs nor textures.
    name : of the asset, its mesh and its material.
    encoding : begins with every texture as soon as it is there, for :func:`voxlume.mesh.write.write_asset`.

    Returns
    -------
    Asset in the frame of the asset that the voxels were made from; the same to the bit for the same input
    on the same kind of device. What a device has no memory for is done on the CPU, with a warning.

    Raises
    ------
    VoxlumeError : no surface, values that are not finite, a budget, texture size or device that is not
        possible.
    Cancelled : by the callback.
    """
    options = options or TexturedOptions()
    options.check()
    device = chosen_device(options.device)
    try:
        return _made_on(device, ovoxel, options, name, encoding, progress)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # PyTorch's, which need not be imported here
            raise
    warnings.warn(f"{device} has too little free memory, the asset is made on the CPU", stacklevel=2)
    return _made_on("cpu", ovoxel, options, name, encoding, progress)


def _made_on(
    device: str,
    ovoxel: OVoxel,
    options: TexturedOptions,
    name: str,
    encoding: ImageEncoding | None,
    progress: Progress | None,
) -> Asset:
    source = SourceSurface(ovoxel, device)
    vertices, faces = _reduced(source, options, device, progress)
    origin, faces, normals = split_at_creases(vertices, faces)
    vertices = ovoxel.placement.to_gltf(vertices[origin] / ovoxel.resolution - 0.5)
    normals = np.stack([normals[:, 0], normals[:, 2], -normals[:, 1]], axis=1)

    def double_sided() -> bool:
        return needs_both_sides(vertices, faces) if options.double_sided is None else options.double_sided

    if source.attributes is None or not options.textures:
        material = Material(name=name, metallic_factor=0.0, double_sided=double_sided())
        mesh = Mesh(vertices=vertices, faces=faces, normals=normals, material=0, name=name)
        return Asset(meshes=(mesh,), materials=(material,), name=name)

    cut = unwrap(vertices, faces, texture_size=options.texture_size, progress=progress)
    mesh = Mesh(
        vertices=vertices[cut.vertex],
        faces=cut.faces,
        normals=normals[cut.vertex],
        uvs=(cut.uvs,),
        material=0,
        name=name,
    )
    mode = options.alpha_mode or source_alpha_mode(source)
    baked = bake(
        source,
        mesh.vertices,
        mesh.faces,
        cut.uvs,
        normals=mesh.normals if options.normal_map else None,
        size=options.texture_size,
        placement=ovoxel.placement,
        device=device,
        progress=progress,
    )

    def begin(image: NDArray[np.uint8], **kind: bool) -> None:
        if encoding is not None:
            encoding.begin(TextureImage(image, **kind))

    begin(baked.metallic_roughness, exact=True)
    if baked.normal is not None:
        begin(baked.normal, exact=True)
    base_color = baked.base_color if mode != "OPAQUE" else np.ascontiguousarray(baked.base_color[..., :3])
    begin(base_color, alpha=mode != "OPAQUE")
    occlusion = None
    if options.occlusion:
        side = max(options.texture_size // 2, 1)
        assert mesh.normals is not None
        occlusion = occlusion_map(mesh.vertices, mesh.faces, cut.uvs, mesh.normals, side, progress=progress)
    material = Material(
        name=name,
        base_color_texture=_texture(base_color),
        metallic_roughness_texture=_texture(baked.metallic_roughness),
        normal_texture=None if baked.normal is None else _texture(baked.normal),
        occlusion_texture=None if occlusion is None else _texture(occlusion),
        alpha_mode=mode,
        double_sided=double_sided(),  # not before, so that the textures are encoded meanwhile
    )
    return Asset(meshes=(mesh,), materials=(material,), name=name)


def source_alpha_mode(source: SourceSurface) -> AlphaMode:
    """What the alpha of the voxels, weighted by their area, asks for; see :mod:`voxlume.mesh.alpha`."""
    if source.attributes is None:
        return "OPAQUE"
    alpha, areas = source.attributes[:, 5], source.vertex_areas()
    mode = alpha_mode_of(alpha, areas)
    if mode != "MASK":  # only a mask depends on what is cut out
        return mode
    return alpha_mode_of(alpha, areas, cuts=cut_outs(source.vertices, source.faces, alpha))


def _texture(image: NDArray[np.uint8]) -> Texture:
    return Texture(image, wrap=("clamp", "clamp"))


def _reduced(
    source: SourceSurface, options: TexturedOptions, device: str, progress: Progress | None
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """The source's surface in voxel units, cleaned and within the budget."""
    vertices, faces, attributes = source.vertices, source.faces, source.attributes
    if options.cleaning is not None:
        cleaned = clean(vertices, faces, options.cleaning, voxel=1.0, progress=progress)
        vertices, faces = cleaned.vertices, cleaned.faces
        attributes = None if attributes is None else attributes[cleaned.origin]
    if options.remesh:
        resolution = min(max(source.resolution, SMALLEST_RESOLUTION), LARGEST_RESOLUTION)
        vertices, faces = remesh_watertight(vertices, faces, resolution, progress=progress)
        attributes = None
    if not len(faces):
        raise AssetError("nothing is left of the surface after cleaning; keep small parts with dust_voxels=0")
    if options.faces is not None:
        reduced = simplify(
            vertices, faces, options.faces, colors=attributes, device=device, progress=progress
        )
        vertices, faces = reduced.vertices, reduced.faces
    return vertices, faces
