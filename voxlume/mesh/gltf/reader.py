"""From a glTF 2.0 file to an asset: the default scene, flattened to world space."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxlume.asset import Asset, Material, Mesh
from voxlume.errors import AssetError
from voxlume.mesh.gltf.accessors import Accessors
from voxlume.mesh.gltf.budget import PRIMITIVE_BYTES
from voxlume.mesh.gltf.container import MAX_LINE, GltfFile
from voxlume.mesh.gltf.materials import Materials
from voxlume.mesh.gltf.primitives import read_primitive
from voxlume.mesh.gltf.scene import Scene
from voxlume.mesh.gltf.surface import Surface, place, pose
from voxlume.mesh.gltf.values import Record, one_line
from voxlume.mesh.soundness import drop_broken_vertices, require_area, with_sound_normals

READ_EXTENSIONS = frozenset(
    {
        "EXT_mesh_gpu_instancing",
        "EXT_meshopt_compression",
        "EXT_texture_avif",
        "EXT_texture_webp",
        "KHR_draco_mesh_compression",
        "KHR_materials_emissive_strength",
        "KHR_materials_pbrSpecularGlossiness",
        "KHR_materials_transmission",
        "KHR_materials_unlit",
        "KHR_materials_variants",
        "KHR_mesh_quantization",
        "KHR_meshopt_compression",
        "KHR_node_visibility",
        "KHR_texture_basisu",
        "KHR_texture_transform",
    }
)
"""Extensions whose meaning is read."""

IGNORED_EXTENSIONS = frozenset(
    {
        "KHR_animation_pointer",
        "KHR_lights_punctual",
        "KHR_materials_anisotropy",
        "KHR_materials_clearcoat",
        "KHR_materials_diffuse_transmission",
        "KHR_materials_dispersion",
        "KHR_materials_ior",
        "KHR_materials_iridescence",
        "KHR_materials_sheen",
        "KHR_materials_specular",
        "KHR_materials_volume",
        "KHR_node_hoverability",
        "KHR_node_selectability",
        "KHR_xmp_json_ld",
        "EXT_lights_image_based",
        "EXT_lights_ies",
        "EXT_mesh_manifold",
    }
)
"""Extensions without influence on what an asset holds here: shape and metallic-roughness material."""


POSE_BYTES = 320
"""Per vertex, for the blended matrices of a skin while it is posed."""


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


def _read(path: Path) -> Asset:
    file = GltfFile(path)
    _check_extensions(file)
    scene = Scene(file.root)
    accessors = Accessors(file)
    materials = Materials(file, accessors)
    placed = _MeshReader(file, accessors, materials).read(scene)
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
    renumber = {-1: -1} | {old: new for new, old in enumerate(used)}
    meshes = [replace(mesh, material=renumber[mesh.material]) for mesh in meshes]
    meshes = [
        _with_uv_sets(mesh, read[mesh.material], file) if mesh.material >= 0 else mesh for mesh in meshes
    ]
    return Asset(tuple(meshes), tuple(read), path.name, file.warnings)


def _check_extensions(file: GltfFile) -> None:
    required = file.root.texts("extensionsRequired")
    unknown = sorted(set(required) - READ_EXTENSIONS - IGNORED_EXTENSIONS)
    if unknown:
        names = ", ".join(one_line(name, 60) for name in unknown[:4])
        raise AssetError(f"the file requires {names}, which is not supported; export it without")
    ignored = sorted(set(required) & IGNORED_EXTENSIONS)
    if ignored:
        file.warn(f"required but without effect here: {', '.join(ignored)}")


class _MeshReader:
    """Turns the drawn nodes into placed meshes, reading each primitive once."""

    def __init__(self, file: GltfFile, accessors: Accessors, materials: Materials) -> None:
        self._file = file
        self._accessors = accessors
        self._materials = materials
        self._meshes = file.root.records("meshes")
        self._skins = file.root.records("skins")
        self._surfaces: dict[tuple[int, int, tuple[float, ...], bool], Surface | None] = {}

    def read(self, scene: Scene) -> list[Mesh]:
        """All meshes of the drawn nodes, in world space.

        Nodes that show the same mesh in the same shape become one mesh per primitive.
        """
        rigid: dict[tuple[int, tuple[float, ...]], list[NDArray[np.float64]]] = defaultdict(list)
        names: dict[tuple[int, tuple[float, ...]], str] = {}
        skinned: list[tuple[int, tuple[float, ...], int, str]] = []
        for index in scene.drawn:
            node = scene.nodes[index]
            mesh = node.reference("mesh", self._meshes)
            if mesh is None:
                continue
            weights = tuple(self._morph_weights(node, mesh))
            name = node.text("name", "") or self._meshes[mesh].text("name", "")
            skin = node.reference("skin", self._skins)
            if skin is not None and self._has_joints(mesh):
                skinned.append((mesh, weights, skin, name))
                continue
            rigid[mesh, weights].append(self._instances(node, scene.world[index]))
            names.setdefault((mesh, weights), name)
        placed = []
        for (mesh, weights), matrices in rigid.items():
            placed += self._place(mesh, weights, np.concatenate(matrices), names[mesh, weights])
        for mesh, weights, skin, name in skinned:
            placed += self._pose(mesh, weights, self._joint_matrices(self._skins[skin], scene), name)
        return placed

    def _morph_weights(self, node: Record, mesh: int) -> list[float]:
        owner = node if "weights" in node else self._meshes[mesh]
        return owner.numbers("weights", None, ())

    def _has_joints(self, mesh: int) -> bool:
        return any("JOINTS_0" in p.record("attributes") for p in self._meshes[mesh].records("primitives"))

    def _instances(self, node: Record, world: NDArray[np.float64]) -> NDArray[np.float64]:
        """World matrices (k, 4, 4) of a node: one, or those of EXT_mesh_gpu_instancing."""
        extension = node.extension("EXT_mesh_gpu_instancing")
        attributes = extension.record("attributes") if extension is not None else Record({})
        if not any(key in attributes for key in ("TRANSLATION", "ROTATION", "SCALE")):
            return world[None]
        parts: dict[str, NDArray[np.float64]] = {}
        for key, width in (("TRANSLATION", 3), ("ROTATION", 4), ("SCALE", 3)):
            index = attributes.reference(key, self._accessors.records)
            if index is not None:
                accessor = self._accessors.read(index)
                if accessor.data.shape[1] != width:
                    raise AssetError(f"{accessor.where}: {key} of instances must have {width} components")
                self._file.budget.spend(len(accessor) * 128, attributes.where)
                parts[key.lower()] = np.asarray(accessor.floats(dtype=np.float64), np.float64)
        counts = {len(values) for values in parts.values()}
        if len(counts) > 1:
            raise AssetError(f"{attributes.where}: instance attributes differ in length")
        with np.errstate(over="ignore", invalid="ignore"):
            return np.matmul(world, instance_matrices(counts.pop(), **parts))

    def _joint_matrices(self, skin: Record, scene: Scene) -> NDArray[np.float64]:
        """What each joint does to a vertex (j, 4, 4): into the joint's frame as bound, then to the world."""
        joints = skin.references("joints", scene.nodes)
        if not joints:
            skin.fail("joints", "is missing or empty")
        world = scene.world[joints]
        index = skin.reference("inverseBindMatrices", self._accessors.records)
        if index is None:
            return world
        accessor = self._accessors.read(index)
        if accessor.data.shape[1] != 16 or len(accessor) < len(joints):
            raise AssetError(f"{accessor.where} must hold a 4x4 matrix for each of {len(joints)} joints")
        bind = accessor.floats(dtype=np.float64)[: len(joints)].reshape(-1, 4, 4).transpose(0, 2, 1)
        with np.errstate(over="ignore", invalid="ignore"):
            return world @ bind

    def _place(
        self, mesh: int, weights: tuple[float, ...], matrices: NDArray[np.float64], name: str
    ) -> list[Mesh]:
        placed = []
        for surface, material in self._surfaces_of(mesh, weights, skinned=False):
            self._file.budget.spend(PRIMITIVE_BYTES + surface.num_bytes * len(matrices), f"meshes[{mesh}]")
            placed.append(place(surface, matrices, material, name))
        return placed

    def _pose(
        self, mesh: int, weights: tuple[float, ...], joint_matrices: NDArray[np.float64], name: str
    ) -> list[Mesh]:
        placed = []
        for surface, material in self._surfaces_of(mesh, weights, skinned=True):
            per_vertex = POSE_BYTES * len(surface.positions)
            self._file.budget.spend(PRIMITIVE_BYTES + surface.num_bytes + per_vertex, f"meshes[{mesh}]")
            if surface.joints is None:
                raise AssetError(f"meshes[{mesh}] is skinned, but a primitive of it has no joints")
            if surface.joints.min() < 0 or surface.joints.max() >= len(joint_matrices):
                raise AssetError(f"meshes[{mesh}] refers to a joint past the skin's {len(joint_matrices)}")
            placed.append(pose(surface, joint_matrices, material, name))
        return placed

    def _surfaces_of(
        self, mesh: int, weights: tuple[float, ...], *, skinned: bool
    ) -> list[tuple[Surface, int]]:
        """Surface and material index of each primitive that has triangles."""
        found = []
        for i, primitive in enumerate(self._meshes[mesh].records("primitives")):
            key = (mesh, i, weights, skinned)
            if key not in self._surfaces:
                self._surfaces[key] = read_primitive(
                    primitive, list(weights), skinned, self._accessors, self._file
                )
            surface = self._surfaces[key]
            if surface is not None:
                material = primitive.reference("material", self._materials.records)
                found.append((surface, -1 if material is None else material))
        return found


def instance_matrices(
    count: int,
    translation: NDArray[np.float64] | None = None,
    rotation: NDArray[np.float64] | None = None,
    scale: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Affine matrices (count, 4, 4) from translations (., 3), quaternions xyzw (., 4) and scales (., 3)."""
    matrices = np.tile(np.eye(4), (count, 1, 1))
    if rotation is not None:
        length = np.linalg.norm(rotation, axis=1, keepdims=True)
        identity = np.tile([0.0, 0.0, 0.0, 1.0], (count, 1))
        x, y, z, w = np.divide(rotation, length, where=length > 0, out=identity).T
        matrices[:, :3, :3] = np.stack(
            [
                1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
                2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
                2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
            ],
            axis=1,
        ).reshape(-1, 3, 3)  # fmt: skip
    if scale is not None:
        matrices[:, :3, :3] *= scale[:, None, :]
    if translation is not None:
        matrices[:, :3, 3] = translation
    return matrices


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
