"""Mesh primitives to triangles: every mode, indexed or not, with morph targets (glTF 2.0, 3.7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from voxlume.errors import AssetError
from voxlume.mesh.gltf.accessors import NUM_COMPONENTS, Accessor, Accessors
from voxlume.mesh.gltf.budget import ATTRIBUTE_BYTES, PRIMITIVE_BYTES
from voxlume.mesh.gltf.container import GltfFile
from voxlume.mesh.gltf.draco import decode_draco
from voxlume.mesh.gltf.surface import Surface
from voxlume.mesh.gltf.values import Record

TRIANGLES, TRIANGLE_STRIP, TRIANGLE_FAN = 4, 5, 6
_MODES = ("POINTS", "LINES", "LINE_LOOP", "LINE_STRIP", "TRIANGLES", "TRIANGLE_STRIP", "TRIANGLE_FAN")
MAX_UV_SETS = 16
_MAX_SKIN_SETS = 16


def read_primitive(
    primitive: Record, morph_weights: Sequence[float], skinned: bool, accessors: Accessors, file: GltfFile
) -> Surface | None:
    """One primitive as triangles, or None (with a warning) where it has none.

    Only vertices that some face uses are kept, because primitives often share one large vertex buffer.

    Raises
    ------
    AssetError : indices or accessors that do not fit.
    """
    file.budget.spend(PRIMITIVE_BYTES, primitive.where)
    mode = primitive.integer("mode", TRIANGLES, high=6)
    if mode < TRIANGLES:
        file.warn(f"{primitive.where}: {_MODES[mode]} skipped, only triangles make a surface")
        return None
    attributes = primitive.record("attributes")
    if "POSITION" not in attributes:
        file.warn(f"{primitive.where}: no POSITION, skipped")
        return None
    stored, faces = stored_arrays(primitive, attributes, accessors, file)
    if len(faces) == 0:
        file.warn(f"{primitive.where}: too few vertices for a triangle, skipped")
        return None
    num_vertices = len(stored["POSITION"])
    highest = int(faces.max())
    if highest >= num_vertices:
        raise AssetError(
            f"{primitive.where}: index {highest} is out of range, there are {num_vertices} vertices"
        )
    file.budget.spend(12 * len(faces), primitive.where)
    rows, faces = _used_vertices(faces, num_vertices)

    arrays = _vertex_arrays(stored, rows, skinned, file, primitive.where)
    _apply_morph(primitive, morph_weights, arrays, rows, num_vertices, accessors, file)
    return _surface(arrays, faces)


def stored_arrays(
    primitive: Record, attributes: Record, accessors: Accessors, file: GltfFile
) -> tuple[dict[str, Accessor], NDArray[np.integer]]:
    """Attributes as stored and triangles (m, 3), from accessors or a Draco stream.

    The triangles are those of :func:`read_primitive` in the same order, before unused vertices are dropped.
    """
    draco = primitive.extension("KHR_draco_mesh_compression")
    if draco is not None and not _has_plain_copy(primitive, attributes, accessors):
        return decode_draco(draco, primitive, attributes, accessors, file)
    stored = {}
    for name in attributes.fields:
        index = attributes.reference(name, accessors.records)
        if index is not None and _is_read(name, accessors.records[index], file):
            stored[name] = accessors.read(index)
    count = len(stored["POSITION"])
    for name, accessor in stored.items():
        if len(accessor) != count:
            raise AssetError(f"{primitive.where}: {name} has {len(accessor)} elements, POSITION has {count}")
    index = primitive.reference("indices", accessors.records)
    if index is None:
        file.budget.spend(4 * count, primitive.where)
        indices: NDArray[np.integer] = np.arange(count, dtype=np.uint32)
    else:
        indices = _index_list(accessors.read(index))
    mode = primitive.integer("mode", TRIANGLES)
    if mode == TRIANGLES and len(indices) % 3:
        file.warn(f"{primitive.where}: {len(indices) % 3} left-over indices ignored")
    return stored, assemble_triangles(indices, mode)


def _has_plain_copy(primitive: Record, attributes: Record, accessors: Accessors) -> bool:
    """True where the uncompressed data is in the file too: it is exact, the compressed copy is not."""
    indices = [attributes.reference(name, accessors.records) for name in attributes.fields]
    indices.append(primitive.reference("indices", accessors.records))
    return all("bufferView" in accessors.records[i] for i in indices if i is not None)


def _index_list(accessor: Accessor) -> NDArray[np.integer]:
    if accessor.data.dtype.kind != "u" or accessor.data.shape[1] != 1:
        raise AssetError(f"{accessor.where} must hold unsigned integers to be used as indices")
    return accessor.data[:, 0]


def assemble_triangles(indices: NDArray[np.integer], mode: int) -> NDArray[np.integer]:
    """Vertex indices (n,) to triangles (m, 3) in drawing order; degenerate ones are kept."""
    if mode == TRIANGLES:
        return indices[: len(indices) // 3 * 3].reshape(-1, 3)
    if len(indices) < 3:
        return indices[:0].reshape(-1, 3)
    if mode == TRIANGLE_STRIP:
        triangles = np.stack([indices[:-2], indices[1:-1], indices[2:]], axis=1)
        triangles[1::2] = triangles[1::2][:, [0, 2, 1]]
        return triangles
    return np.stack([indices[1:-1], indices[2:], np.full(len(indices) - 2, indices[0])], axis=1)


def _used_vertices(
    faces: NDArray[np.integer], num_vertices: int
) -> tuple[NDArray[np.intp] | None, NDArray[np.int32]]:
    """The vertices that faces refer to (None for all), and the faces renumbered to them."""
    if faces.size * 8 < num_vertices:
        rows, inverse = np.unique(faces, return_inverse=True)
        return rows.astype(np.intp), inverse.reshape(-1, 3).astype(np.int32)
    used = np.zeros(num_vertices, bool)
    used[faces.ravel()] = True
    if used.all():
        return None, faces.astype(np.int32)
    renumber = np.cumsum(used, dtype=np.int32) - 1
    return np.flatnonzero(used), renumber[faces.astype(np.intp)].astype(np.int32)


def _is_read(name: str, accessor: Record, file: GltfFile) -> bool:
    """Whether the attribute has a place in a mesh; an application's own may be of any type."""
    if name.startswith("_"):
        if accessor.fields.get("type") in NUM_COMPONENTS:
            return True
        file.warn(f"{accessor.where}: attribute {name} skipped, its type is not read")
        return False
    return name in ("POSITION", "NORMAL", "COLOR_0") or name.startswith(("TEXCOORD_", "JOINTS_", "WEIGHTS_"))


def _vertex_arrays(
    stored: dict[str, Accessor], rows: NDArray[np.intp] | None, skinned: bool, file: GltfFile, where: str
) -> dict[str, NDArray]:
    """Per-vertex numbers by attribute name: what each attribute means, whatever type it is stored in."""
    count = len(stored["POSITION"]) if rows is None else len(rows)
    arrays: dict[str, NDArray] = {}

    def take(name: str, widths: tuple[int, ...], dtype: type = np.float32, normalized: bool = False) -> None:
        accessor = stored[name]
        if accessor.data.shape[1] not in widths:
            raise AssetError(f"{where}: {name} has {accessor.data.shape[1]} components")
        num_bytes = count * accessor.data.shape[1] * np.dtype(dtype).itemsize
        file.budget.spend(max(num_bytes, ATTRIBUTE_BYTES), f"{where}: {name}")
        arrays[name] = accessor.floats(rows, dtype=dtype, always_normalized=normalized)

    take("POSITION", (3,), np.float64)
    for name in stored:
        if name == "NORMAL":
            take(name, (3,))
        elif name == "COLOR_0":
            take(name, (3, 4), normalized=True)
        elif name.startswith("_"):
            take(name, (1, 2, 3, 4, 16))
    for i in _consecutive(stored, "TEXCOORD_", MAX_UV_SETS):
        take(f"TEXCOORD_{i}", (2,))
    if skinned:
        for i in _consecutive(stored, "JOINTS_", _MAX_SKIN_SETS):
            take(f"JOINTS_{i}", (4,), np.float64)
            if f"WEIGHTS_{i}" not in stored:
                raise AssetError(f"{where}: JOINTS_{i} without WEIGHTS_{i}")
            take(f"WEIGHTS_{i}", (4,), np.float64, normalized=True)
    return arrays


def _consecutive(stored: dict[str, Accessor], prefix: str, limit: int) -> list[int]:
    """0, 1, ... as long as the numbered attribute is there: glTF allows no gaps."""
    numbers: list[int] = []
    while f"{prefix}{len(numbers)}" in stored and len(numbers) < limit:
        numbers.append(len(numbers))
    return numbers


def _apply_morph(
    primitive: Record,
    weights: Sequence[float],
    arrays: dict[str, NDArray],
    rows: NDArray[np.intp] | None,
    num_vertices: int,
    accessors: Accessors,
    file: GltfFile,
) -> None:
    """Add the weighted displacements of the morph targets to the arrays, in place."""
    if not any(weights):
        return
    file.budget.spend(len(primitive.items("targets")) * ATTRIBUTE_BYTES, primitive.at("targets"))
    targets = primitive.records("targets")
    for weight, target in zip(weights, targets, strict=False):
        if weight == 0:
            continue
        for name in target.fields:
            if name not in arrays:
                continue
            index = target.reference(name, accessors.records)
            assert index is not None
            change = accessors.read(index)
            base = arrays[name]
            if len(change) != num_vertices or change.data.shape[1] > base.shape[1]:
                raise AssetError(f"{target.where}: {name} does not fit the primitive's vertices")
            file.budget.spend(base.nbytes, f"{target.where}: {name}")
            with np.errstate(over="ignore", invalid="ignore"):
                base[:, : change.data.shape[1]] += weight * change.floats(rows, dtype=base.dtype.type)


def _surface(arrays: dict[str, NDArray], faces: NDArray[np.int32]) -> Surface:
    colors = arrays.get("COLOR_0")
    if colors is not None and colors.shape[1] == 3:
        colors = np.concatenate([colors, np.ones((len(colors), 1), np.float32)], axis=1)
    extra = {name[1:]: _squeezed(a) for name, a in arrays.items() if name.startswith("_") and len(name) > 1}
    uv_names = sorted((n for n in arrays if n.startswith("TEXCOORD_")), key=lambda n: int(n[9:]))
    surface = Surface(
        positions=arrays["POSITION"],
        faces=faces,
        normals=arrays.get("NORMAL"),
        uvs=tuple(arrays[name] for name in uv_names),
        colors=colors,
        attributes=extra,
    )
    joint_sets = [n for n in arrays if n.startswith("JOINTS_")]
    if not joint_sets:
        return surface
    joints = np.concatenate([arrays[n] for n in joint_sets], axis=1).astype(np.int64)
    weights = _unit_sum(np.concatenate([arrays[n.replace("JOINTS", "WEIGHTS")] for n in joint_sets], axis=1))
    return replace(surface, joints=np.where(weights != 0, joints, 0), weights=weights)


def _squeezed(array: NDArray) -> NDArray:
    return array[:, 0] if array.shape[1] == 1 else array


def _unit_sum(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Joint weights made to sum to 1 (quantised ones rarely do); without any, the first joint leads."""
    total = weights.sum(axis=1, keepdims=True)
    usable = np.isfinite(total) & (total > 0)
    first = np.zeros_like(weights)
    first[:, 0] = 1
    return np.divide(weights, total, where=usable, out=first)
