"""Flattening the scene: every drawn node's mesh in world space, with instances, morph weights and skins."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from voxlume.asset import Mesh
from voxlume.errors import AssetError
from voxlume.mesh.gltf.accessors import Accessors
from voxlume.mesh.gltf.budget import PRIMITIVE_BYTES
from voxlume.mesh.gltf.container import GltfFile
from voxlume.mesh.gltf.primitives import read_primitive
from voxlume.mesh.gltf.scene import Scene
from voxlume.mesh.gltf.surface import Surface, place, pose
from voxlume.mesh.gltf.values import Record

POSE_BYTES = 320
"""Per vertex, for the blended matrices of a skin while it is posed."""

_Shape: TypeAlias = tuple[int, tuple[float, ...] | None]
"""A mesh and the morph weights that a node gives it, None for the mesh's own."""


def flatten(file: GltfFile, scene: Scene, accessors: Accessors, num_materials: int) -> list[Mesh]:
    """All triangles of the drawn nodes in world space; materials are indices into the file's list.

    Nodes that show the same mesh in the same shape become one mesh per primitive.

    Raises
    ------
    AssetError : anything that the nodes need is malformed.
    """
    return _Flattener(file, accessors, num_materials).flatten(scene)


@dataclass(frozen=True, eq=False)
class Shown:
    """A primitive that the scene shows.

    Attributes
    ----------
    mesh, primitive : indices in the file.
    surface : in the mesh's own frame, with the morph weights of the node.
    placed : in world space, where the first node that shows it puts it; vertices and faces in the same order
        as the surface's, faces turned round where the node mirrors.
    times : how many times the scene shows it.
    """

    mesh: int
    primitive: int
    surface: Surface
    placed: Mesh
    times: int


def shown_primitives(file: GltfFile, scene: Scene, accessors: Accessors, num_materials: int) -> list[Shown]:
    """Every primitive with triangles in the scene, in the order of meshes and primitives.

    Raises
    ------
    AssetError : anything that the nodes need is malformed.
    """
    return _Flattener(file, accessors, num_materials).shown(scene)


class _Flattener:
    """Reads each primitive once and places it wherever a node shows it."""

    def __init__(self, file: GltfFile, accessors: Accessors, num_materials: int) -> None:
        self._file = file
        self._accessors = accessors
        self._materials = range(num_materials)
        self._meshes = file.root.records("meshes")
        self._skins = file.root.records("skins")
        self._surfaces: dict[tuple[_Shape, bool], list[tuple[Surface, int, int]]] = {}
        self._skinnable: dict[int, bool] = {}
        self._joints: dict[int, NDArray[np.float64]] = {}

    def flatten(self, scene: Scene) -> list[Mesh]:
        rigid: dict[_Shape, list[NDArray[np.float64]]] = defaultdict(list)
        names: dict[_Shape, str] = {}
        skinned: list[tuple[_Shape, int, str]] = []
        for index in scene.drawn:
            node = scene.nodes[index]
            mesh = node.reference("mesh", self._meshes)
            if mesh is None:
                continue
            weights = tuple(node.numbers("weights", None)) if "weights" in node else None
            shape, skin = (mesh, weights), node.reference("skin", self._skins)
            if skin is not None and self._has_joints(mesh):
                skinned.append((shape, skin, self._name(node, mesh)))
                continue
            if shape not in names:
                names[shape] = self._name(node, mesh)
            rigid[shape].append(self._instances(node, scene.world[index]))
        placed = []
        for shape, matrices in rigid.items():
            placed += self._place(shape, np.concatenate(matrices), names[shape])
        for shape, skin, name in skinned:
            placed += self._pose(shape, self._joint_matrices(skin, scene), name)
        return placed

    def shown(self, scene: Scene) -> list[Shown]:
        found: dict[tuple[int, int], Shown] = {}
        for index in scene.drawn:
            node = scene.nodes[index]
            mesh = node.reference("mesh", self._meshes)
            if mesh is None:
                continue
            shape: _Shape = mesh, tuple(node.numbers("weights", None)) if "weights" in node else None
            skin = node.reference("skin", self._skins)
            skinned = skin is not None and self._has_joints(mesh)
            matrices = self._instances(node, scene.world[index])
            for surface, material, primitive in self._surfaces_of(shape, skinned=skinned):
                known = found.get((mesh, primitive))
                if known is not None:
                    found[mesh, primitive] = replace(known, times=known.times + 1)
                    continue
                if skinned and skin is not None:
                    placed = self._posed(surface, self._joint_matrices(skin, scene), material, "", mesh)
                else:
                    placed = place(surface, matrices[:1], material, "")
                found[mesh, primitive] = Shown(
                    mesh, primitive, surface, placed, 1 if skinned else len(matrices)
                )
        return [found[key] for key in sorted(found)]

    def _name(self, node: Record, mesh: int) -> str:
        return node.text("name", "") or self._meshes[mesh].text("name", "")

    def _has_joints(self, mesh: int) -> bool:
        if mesh not in self._skinnable:
            primitives = self._meshes[mesh].records("primitives")
            self._skinnable[mesh] = any("JOINTS_0" in p.record("attributes") for p in primitives)
        return self._skinnable[mesh]

    def _instances(self, node: Record, world: NDArray[np.float64]) -> NDArray[np.float64]:
        """World matrices (k, 4, 4) of a node: one, or those of EXT_mesh_gpu_instancing."""
        extension = node.extension("EXT_mesh_gpu_instancing")
        if extension is None:
            return world[None]
        attributes = extension.record("attributes")
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

    def _joint_matrices(self, index: int, scene: Scene) -> NDArray[np.float64]:
        """What each joint does to a vertex (j, 4, 4): into the joint's frame as bound, then to the world."""
        if index not in self._joints:
            self._joints[index] = self._read_skin(self._skins[index], scene)
        return self._joints[index]

    def _read_skin(self, skin: Record, scene: Scene) -> NDArray[np.float64]:
        joints = skin.references("joints", scene.nodes)
        if not joints:
            skin.fail("joints", "is missing or empty")
        self._file.budget.spend(len(joints) * 512, skin.where)
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

    def _place(self, shape: _Shape, matrices: NDArray[np.float64], name: str) -> list[Mesh]:
        placed = []
        for surface, material, _ in self._surfaces_of(shape, skinned=False):
            num_bytes = PRIMITIVE_BYTES + surface.num_bytes * len(matrices)
            self._file.budget.spend(num_bytes, f"meshes[{shape[0]}]")
            if len(surface.positions) * len(matrices) >= 2**31:
                raise AssetError(f"meshes[{shape[0]}] would have more vertices than 32-bit indices reach")
            placed.append(place(surface, matrices, material, name))
        return placed

    def _pose(self, shape: _Shape, joint_matrices: NDArray[np.float64], name: str) -> list[Mesh]:
        return [
            self._posed(surface, joint_matrices, material, name, shape[0])
            for surface, material, _ in self._surfaces_of(shape, skinned=True)
        ]

    def _posed(
        self, surface: Surface, joint_matrices: NDArray[np.float64], material: int, name: str, mesh: int
    ) -> Mesh:
        where = f"meshes[{mesh}]"
        num_bytes = PRIMITIVE_BYTES + surface.num_bytes + POSE_BYTES * len(surface.positions)
        self._file.budget.spend(num_bytes, where)
        if surface.joints is None:
            raise AssetError(f"{where} is skinned, but a primitive of it has no joints")
        if surface.joints.min() < 0 or surface.joints.max() >= len(joint_matrices):
            raise AssetError(f"{where} refers to a joint past the skin's {len(joint_matrices)}")
        return pose(surface, joint_matrices, material, name)

    def _surfaces_of(self, shape: _Shape, *, skinned: bool) -> list[tuple[Surface, int, int]]:
        """Surface, material and own index of each primitive that has triangles."""
        key = (shape, skinned)
        if key not in self._surfaces:
            mesh, weights = self._meshes[shape[0]], shape[1]
            if weights is None:
                weights = tuple(mesh.numbers("weights", None, ()))
            found = []
            for i, primitive in enumerate(mesh.records("primitives")):
                surface = read_primitive(primitive, weights, skinned, self._accessors, self._file)
                if surface is not None:
                    material = primitive.reference("material", self._materials)
                    found.append((surface, -1 if material is None else material, i))
            self._surfaces[key] = found
        return self._surfaces[key]


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
