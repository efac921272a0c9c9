"""From a glTF 2.0 file to an asset: the default scene, flattened to world space."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from voxlume.asset import Asset, Material, Mesh
from voxlume.errors import AssetError
from voxlume.mesh.gltf.accessors import Accessors
from voxlume.mesh.gltf.container import MAX_LINE, GltfFile
from voxlume.mesh.gltf.extensions import IGNORED_EXTENSIONS, READ_EXTENSIONS
from voxlume.mesh.gltf.flatten import flatten
from voxlume.mesh.gltf.materials import Materials
from voxlume.mesh.gltf.scene import Scene
from voxlume.mesh.gltf.values import one_line
from voxlume.mesh.soundness import drop_broken_vertices, require_area, with_sound_normals


def read_gltf(path: str | Path) -> Asset:
    """Read a ``.glb`` or ``.gltf`` file (glTF 2.0).

    The default scene in its bind pose, with default morph weights and the default material variant, every
    instance expanded. Textures that cannot be read are left out with a line in ``warnings``; points and
    lines are skipped with one.

    Raises
    ------
    AssetError : the file is damaged, reaches outside its own folder, needs an unknown extension, or holds
        no triangle.
    """
    path = Path(path)
    try:
        return _read(path)
    except AssetError as error:
        raise AssetError(f"{path.name}: {one_line(str(error), MAX_LINE)}") from error
    except MemoryError as error:
        raise AssetError(f"{path.name}: needs more memory than there is") from error


def _read(path: Path) -> Asset:
    file = GltfFile(path)
    check_extensions(file)
    scene = Scene(file.root, file.budget)
    accessors = Accessors(file)
    materials = Materials(file, accessors)
    placed = flatten(file, scene, accessors, len(materials.records))
    meshes = []
    for mesh in placed:
        sound, dropped = drop_broken_vertices(mesh)
        if dropped:
            file.warn(f"mesh {mesh.name!r}: {dropped} faces dropped that touch NaN or infinite vertices")
        if len(sound.faces):
            meshes.append(with_sound_normals(sound))
    if placed and not meshes:
        raise AssetError("every face touches a NaN or infinite vertex; nothing is left")
    if not meshes:
        raise AssetError("no geometry: the default scene has no triangle")
    require_area(meshes)
    used = sorted({mesh.material for mesh in meshes if mesh.material >= 0})
    read = materials.read(used)
    renumber = {old: new for new, old in enumerate(used)}
    for i, mesh in enumerate(meshes):
        if mesh.material >= 0:
            material = renumber[mesh.material]
            meshes[i] = replace(_with_uv_sets(mesh, read[material], file), material=material)
    return Asset(tuple(meshes), tuple(read), path.name, file.warnings)


def check_extensions(file: GltfFile) -> None:
    """Refuse a file that requires an extension whose meaning is not known.

    Raises
    ------
    AssetError : it does.
    """
    required = file.root.texts("extensionsRequired")
    unknown = sorted(set(required) - READ_EXTENSIONS - IGNORED_EXTENSIONS)
    if unknown:
        names = ", ".join(one_line(name, 60) for name in unknown[:4])
        raise AssetError(f"the file requires {names}, which is not supported; export it without")
    ignored = sorted(set(required) & IGNORED_EXTENSIONS)
    if ignored:
        file.warn(f"required but without effect here: {', '.join(ignored)}")


def _with_uv_sets(mesh: Mesh, material: Material, file: GltfFile) -> Mesh:
    """The mesh with as many UV sets as its material's textures ask for; missing ones are all zero.

    That is what graphics hardware does with an absent attribute, and no user of the mesh needs to check.
    """
    textures = (
        material.base_color_texture,
        material.metallic_roughness_texture,
        material.normal_texture,
        material.occlusion_texture,
        material.emissive_texture,
        material.transmission_texture,
    )
    needed = max((t.texcoord + 1 for t in textures if t is not None), default=0)
    missing = needed - len(mesh.uvs)
    if missing <= 0:
        return mesh
    file.warn(f"mesh {mesh.name!r} has no TEXCOORD_{needed - 1} for its material's textures; zeros used")
    zeros = np.zeros((len(mesh.vertices), 2), np.float32)
    return replace(mesh, uvs=mesh.uvs + (zeros,) * missing)
