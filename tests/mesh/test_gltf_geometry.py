"""Shapes in glTF: nodes, modes, accessors, morph targets, skins, instances, against plain arithmetic."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.mesh.gltf_builder import COMPONENT_TYPES, QUAD, QUAD_FACES, QUAD_UV, Gltf, quad_glb
from voxlume.asset import Asset
from voxlume.errors import AssetError
from voxlume.mesh.read import load


def triangles(asset: Asset) -> NDArray[np.float64]:
    """All triangles as corner positions (m, 3, 3)."""
    return np.concatenate([m.vertices[m.faces] for m in asset.meshes])


def face_normals(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def assert_same_triangles(corners: NDArray[np.float64], expected: NDArray[np.floating]) -> None:
    """Equal up to the order of triangles and the rotation (not the direction) of their corners."""

    def canonical(triangle: NDArray) -> tuple[tuple[float, ...], ...]:
        points = [tuple(np.round(np.asarray(p, np.float64), 9) + 0.0) for p in triangle]
        start = points.index(min(points))
        return tuple(points[start:] + points[:start])

    assert sorted(map(canonical, corners)) == sorted(map(canonical, expected))


QUAD_TRIANGLES = QUAD[QUAD_FACES].reshape(-1, 3, 3).astype(np.float64)


# -- primitive modes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
@pytest.mark.parametrize("mode", [4, 5, 6, None])
def test_modes_and_index_types(tmp_path: Path, mode: int | None, dtype: type) -> None:
    rng = np.random.default_rng(3)
    points = rng.normal(size=(9, 3)).astype(np.float32)
    order = rng.permutation(9).astype(dtype)
    gltf = Gltf()
    primitive = {"attributes": {"POSITION": gltf.accessor(points)}, "indices": gltf.accessor(order)}
    if mode is not None:
        primitive["mode"] = mode
    gltf.show(gltf.add("meshes", primitives=[primitive]))
    expected = []
    p = points[order]
    if mode == 5:
        for i in range(7):  # every second triangle of a strip is turned round
            expected.append((p[i], p[i + 1 + i % 2], p[i + 2 - i % 2]))
    elif mode == 6:
        for i in range(1, 8):
            expected.append((p[0], p[i], p[i + 1]))
    else:
        for i in range(0, 9, 3):
            expected.append((p[i], p[i + 1], p[i + 2]))
    assert_same_triangles(triangles(load(gltf.save(tmp_path))), np.array(expected))


def test_points_and_lines_are_skipped_with_a_warning(tmp_path: Path) -> None:
    gltf = Gltf()
    position = gltf.accessor(QUAD)
    primitives = [{"attributes": {"POSITION": position}, "mode": mode} for mode in range(7)]
    asset = load(gltf.show(gltf.add("meshes", primitives=primitives)).save(tmp_path))
    assert asset.num_faces == 1 + 2 + 2
    assert [w.split(": ")[1].split()[0] for w in asset.warnings[:4]] == [
        "POINTS",
        "LINES",
        "LINE_LOOP",
        "LINE_STRIP",
    ]


def test_only_points_is_no_geometry(tmp_path: Path) -> None:
    gltf = Gltf()
    mesh = gltf.add("meshes", primitives=[{"attributes": {"POSITION": gltf.accessor(QUAD)}, "mode": 0}])
    with pytest.raises(AssetError, match="no geometry"):
        load(gltf.show(mesh).save(tmp_path))


def test_unused_vertices_are_left_out(tmp_path: Path) -> None:
    gltf = Gltf()
    many = np.concatenate([np.full((1000, 3), 77, np.float32), QUAD])
    primitive = {"attributes": {"POSITION": gltf.accessor(many)}, "indices": gltf.accessor(QUAD_FACES + 1000)}
    asset = load(gltf.show(gltf.add("meshes", primitives=[primitive])).save(tmp_path))
    assert asset.num_vertices == 4
    assert_same_triangles(triangles(asset), QUAD_TRIANGLES)


# -- accessors -----------------------------------------------------------------------------------------------


def test_interleaved_attributes(tmp_path: Path) -> None:
    gltf = Gltf()
    normals = np.tile(np.float32([0, 0, 1]), (4, 1))
    record = np.concatenate([QUAD, normals, QUAD_UV], axis=1)
    view = gltf.view(record.tobytes(), byteStride=32)
    attributes = {}
    for name, offset, kind in (("POSITION", 0, "VEC3"), ("NORMAL", 12, "VEC3"), ("TEXCOORD_0", 24, "VEC2")):
        attributes[name] = gltf.add(
            "accessors", bufferView=view, byteOffset=offset, componentType=5126, count=4, type=kind
        )
    primitive = {"attributes": attributes, "indices": gltf.accessor(QUAD_FACES)}
    mesh = load(gltf.show(gltf.add("meshes", primitives=[primitive])).save(tmp_path)).meshes[0]
    np.testing.assert_array_equal(mesh.vertices, QUAD)
    np.testing.assert_array_equal(mesh.uvs[0], QUAD_UV)
    assert mesh.normals is not None
    np.testing.assert_array_equal(mesh.normals, normals)


@pytest.mark.parametrize("with_view", [True, False])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_sparse(tmp_path: Path, with_view: bool, dtype: type) -> None:
    gltf = Gltf()
    base = QUAD if with_view else np.zeros_like(QUAD)
    places, values = np.array([1, 2, 3], dtype), np.float32([[2, 0, 0], [2, 3, 0], [0, 3, 1]])
    component = COMPONENT_TYPES[places.dtype.char]
    sparse = {
        "count": 3,
        "indices": {"bufferView": gltf.view(places.tobytes()), "componentType": component},
        "values": {"bufferView": gltf.view(values.tobytes())},
    }
    fields = {"bufferView": gltf.view(base.tobytes())} if with_view else {}
    position = gltf.add("accessors", componentType=5126, count=4, type="VEC3", sparse=sparse, **fields)
    primitive = {"attributes": {"POSITION": position}, "indices": gltf.accessor(QUAD_FACES)}
    asset = load(gltf.show(gltf.add("meshes", primitives=[primitive])).save(tmp_path))
    expected = base.copy()
    expected[[1, 2, 3]] = values
    np.testing.assert_array_equal(asset.meshes[0].vertices, expected)


@pytest.mark.parametrize(
    ("dtype", "divisor"), [(np.int8, 127), (np.uint8, 255), (np.int16, 32767), (np.uint16, 65535)]
)
@pytest.mark.parametrize("normalized", [True, False])
def test_quantised_positions_and_uvs(tmp_path: Path, dtype: type, divisor: int, normalized: bool) -> None:
    info = np.iinfo(dtype)
    positions = np.array(
        [[0, 0, 0], [info.max, 0, 5], [info.max, info.max, 9], [info.min, info.max // 3, 0]], dtype
    )
    uvs = np.array([[0, 1], [2, 3], [info.max, 4], [info.min, 7]], dtype)
    gltf = Gltf()
    gltf.doc["extensionsUsed"] = gltf.doc["extensionsRequired"] = ["KHR_mesh_quantization"]
    padded = np.zeros((4, 4), dtype)
    padded[:, :3] = positions
    view = gltf.view(padded.tobytes(), byteStride=padded.itemsize * 4)
    kind = {np.int8: 5120, np.uint8: 5121, np.int16: 5122, np.uint16: 5123}[dtype]
    position = gltf.add(
        "accessors", bufferView=view, componentType=kind, count=4, type="VEC3", normalized=normalized
    )
    attributes = {"POSITION": position, "TEXCOORD_0": gltf.accessor(uvs, normalized=normalized)}
    primitive = {"attributes": attributes, "indices": gltf.accessor(QUAD_FACES)}
    mesh = load(gltf.show(gltf.add("meshes", primitives=[primitive])).save(tmp_path)).meshes[0]

    def meaning(values: NDArray) -> NDArray[np.float64]:
        numbers = values.astype(np.float64)
        return np.maximum(numbers / divisor, -1) if normalized else numbers

    np.testing.assert_allclose(mesh.vertices, meaning(positions), rtol=1e-15)
    np.testing.assert_allclose(mesh.uvs[0], meaning(uvs), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.uint16])
@pytest.mark.parametrize("width", [3, 4])
@pytest.mark.parametrize("flagged", [True, False])
def test_vertex_colours(tmp_path: Path, dtype: type, width: int, flagged: bool) -> None:
    """Integer colours are fractions even where the exporter forgot to say so."""
    values = np.random.default_rng(0).uniform(size=(4, width))
    stored = values.astype(dtype) if dtype is np.float32 else (values * np.iinfo(dtype).max).astype(dtype)
    gltf = Gltf()
    mesh = gltf.quad()
    padded = np.zeros((4, 4), dtype)
    padded[:, :width] = stored
    view = gltf.view(padded.tobytes(), byteStride=padded.itemsize * 4)
    color = gltf.add(
        "accessors",
        bufferView=view,
        componentType={np.float32: 5126, np.uint8: 5121, np.uint16: 5123}[dtype],
        count=4,
        type=f"VEC{width}",
        normalized=flagged and dtype is not np.float32,
    )
    gltf.doc["meshes"][mesh]["primitives"][0]["attributes"]["COLOR_0"] = color
    colors = load(gltf.show(mesh).save(tmp_path)).meshes[0].colors
    assert colors is not None
    expected = stored / (1 if dtype is np.float32 else np.iinfo(dtype).max)
    np.testing.assert_allclose(colors[:, :width], expected, atol=1e-7)
    if width == 3:
        np.testing.assert_array_equal(colors[:, 3], 1)


def test_application_attributes_and_several_uv_sets(tmp_path: Path) -> None:
    gltf = Gltf()
    mesh = gltf.quad()
    attributes = gltf.doc["meshes"][mesh]["primitives"][0]["attributes"]
    metallic = np.float32([0, 0.25, 0.5, 1])
    attributes["_METALLIC"] = gltf.accessor(metallic)
    attributes["_ROUGHNESS"] = gltf.accessor(np.uint8([0, 51, 102, 255]), normalized=True)
    attributes["TEXCOORD_1"] = gltf.accessor(QUAD_UV * 2)
    attributes["TEXCOORD_2"] = gltf.accessor(QUAD_UV * 3)
    read = load(gltf.show(mesh).save(tmp_path)).meshes[0]
    np.testing.assert_array_equal(read.attributes["METALLIC"], metallic)
    np.testing.assert_allclose(read.attributes["ROUGHNESS"], [0, 0.2, 0.4, 1], atol=1e-7)
    assert [float(uv.max()) for uv in read.uvs] == [1, 2, 3]


# -- nodes ---------------------------------------------------------------------------------------------------


def rotation_about(axis: int, angle: float) -> tuple[list[float], NDArray[np.float64]]:
    """A unit quaternion (x, y, z, w) and the same rotation as a matrix, from its geometric definition."""
    quaternion = [0.0, 0.0, 0.0, np.cos(angle / 2)]
    quaternion[axis] = np.sin(angle / 2)
    matrix = np.eye(3)
    u, v = (axis + 1) % 3, (axis + 2) % 3
    matrix[u, u] = matrix[v, v] = np.cos(angle)
    matrix[u, v], matrix[v, u] = -np.sin(angle), np.sin(angle)
    return quaternion, matrix


def test_nested_transforms_shear(tmp_path: Path) -> None:
    quaternion, rotation = rotation_about(2, 0.7)
    gltf = Gltf()
    mesh = gltf.quad()
    child = gltf.add("nodes", mesh=mesh, rotation=quaternion, translation=[1, 0, 0])
    middle = gltf.add("nodes", children=[child], scale=[2, 0.5, 3])
    matrix = np.array([[0, -1, 0, 5], [1, 0, 0, 6], [0, 0, 1, 7], [0, 0, 0, 1]], float)
    top = gltf.add("nodes", children=[middle], matrix=matrix.T.ravel().tolist())
    asset = load(gltf.scene(top).save(tmp_path))
    points = (rotation @ QUAD_TRIANGLES.reshape(-1, 3).T).T + np.array([1, 0, 0])
    points = points * [2, 0.5, 3]
    points = (matrix[:3, :3] @ points.T).T + matrix[:3, 3]
    assert_same_triangles(triangles(asset), points.reshape(-1, 3, 3))


def solid(gltf: Gltf) -> tuple[int, NDArray[np.float64]]:
    """A tetrahedron with outward flat normals, non-indexed; its triangles."""
    p = np.float32([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    corners = p[[[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]]
    normals = face_normals(corners.astype(np.float64))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    attributes = {
        "POSITION": gltf.accessor(corners.reshape(-1, 3)),
        "NORMAL": gltf.accessor(np.repeat(normals, 3, axis=0).astype(np.float32)),
    }
    return gltf.add("meshes", primitives=[{"attributes": attributes}]), corners.astype(np.float64)


@pytest.mark.parametrize("scale", [[1, 1, 1], [-1, 1, 1], [2, -3, 0.5], [-1, -2, 1], [-1e-4, -1e-4, -3e-4]])
def test_mirrored_nodes_stay_outside_out(tmp_path: Path, scale: list[float]) -> None:
    gltf = Gltf()
    mesh, _ = solid(gltf)
    asset = load(gltf.scene(gltf.add("nodes", mesh=mesh, scale=scale)).save(tmp_path))
    read = triangles(asset)
    volume = np.einsum("ij,ij->i", read[:, 0], np.cross(read[:, 1], read[:, 2])).sum() / 6
    np.testing.assert_allclose(volume, abs(np.prod(scale)) / 6, rtol=1e-9)
    normals = asset.meshes[0].normals
    assert normals is not None
    geometric = face_normals(read)
    geometric /= np.linalg.norm(geometric, axis=1, keepdims=True)
    np.testing.assert_allclose(normals[asset.meshes[0].faces[:, 0]], geometric, atol=1e-6)


def test_zero_scale_keeps_faces_and_gives_unit_normals(tmp_path: Path) -> None:
    gltf = Gltf()
    mesh, _ = solid(gltf)
    nodes = [gltf.add("nodes", mesh=mesh, scale=scale) for scale in ([1, 1, 0], [0, 0, 0], [1, 1, 1])]
    asset = load(gltf.scene(*nodes).save(tmp_path))
    assert asset.num_faces == 12
    for read in asset.meshes:
        assert read.normals is not None
        np.testing.assert_allclose(np.linalg.norm(read.normals, axis=1), 1, atol=1e-6)


def test_far_and_tiny_nodes_keep_their_shape(tmp_path: Path) -> None:
    gltf = Gltf()
    far = gltf.add("nodes", mesh=gltf.quad(), translation=[6.4e6, -4.2e6, 3.8e6])
    asset = load(gltf.scene(gltf.add("nodes", children=[far], scale=[1e-7] * 3)).save(tmp_path))
    corners = triangles(asset) - triangles(asset)[0, 0]
    np.testing.assert_allclose(corners, QUAD_TRIANGLES * 1e-7, atol=1e-15)


def test_shared_mesh_under_many_nodes(tmp_path: Path) -> None:
    gltf = Gltf()
    mesh = gltf.quad()
    nodes = [gltf.add("nodes", mesh=mesh, translation=[0, 0, i], scale=[(-1) ** i, 1, 1]) for i in range(5)]
    asset = load(gltf.scene(*nodes).save(tmp_path))
    expected = []
    for i in range(5):
        moved = QUAD_TRIANGLES * [(-1) ** i, 1, 1] + [0, 0, i]
        expected.append(moved[:, ::-1] if i % 2 else moved)
    assert_same_triangles(triangles(asset), np.concatenate(expected))
    assert all(len(mesh.uvs[0]) == len(mesh.vertices) for mesh in asset.meshes)


def test_quaternions_need_not_be_of_unit_length(tmp_path: Path) -> None:
    quaternion, rotation = rotation_about(2, 0.7)
    gltf = Gltf()
    node = gltf.add("nodes", mesh=gltf.quad(), rotation=(3 * np.array(quaternion)).tolist())
    asset = load(gltf.scene(node).save(tmp_path))
    assert_same_triangles(triangles(asset), QUAD_TRIANGLES @ rotation.T)


def test_default_scene_only(tmp_path: Path) -> None:
    gltf = Gltf()
    first, second, third = gltf.quad(), gltf.quad(), gltf.quad()
    a, b, _ = (gltf.add("nodes", mesh=m, translation=[10 * m, 0, 0]) for m in (first, second, third))
    gltf.add("scenes", nodes=[a])
    gltf.scene(b)
    assert load(gltf.save(tmp_path)).bounds()[0, 0] == 10
    del gltf.doc["scene"]
    assert load(gltf.save(tmp_path)).bounds()[0, 0] == 0
    del gltf.doc["scenes"]
    assert load(gltf.save(tmp_path)).num_faces == 6


def test_invisible_nodes_are_not_drawn(tmp_path: Path) -> None:
    gltf = Gltf()
    hidden = gltf.add("nodes", mesh=gltf.quad())
    above = gltf.add("nodes", children=[hidden], extensions={"KHR_node_visibility": {"visible": False}})
    shown = gltf.add("nodes", mesh=gltf.quad(), translation=[5, 0, 0])
    asset = load(gltf.scene(above, shown).save(tmp_path))
    assert asset.num_faces == 2
    assert asset.bounds()[0, 0] == 5


def test_node_graph_must_be_a_tree(tmp_path: Path) -> None:
    gltf = Gltf()
    shared = gltf.add("nodes", mesh=gltf.quad())
    parents = [gltf.add("nodes", children=[shared]) for _ in range(2)]
    with pytest.raises(AssetError, match="more than one parent"):
        load(gltf.scene(*parents).save(tmp_path))
    gltf = Gltf()
    mesh = gltf.quad()
    gltf.add("nodes", children=[1])
    gltf.add("nodes", children=[0], mesh=mesh)
    with pytest.raises(AssetError, match="cycle"):
        load(gltf.scene(0).save(tmp_path))


def test_projective_matrix_is_refused(tmp_path: Path) -> None:
    gltf = Gltf()
    node = gltf.add("nodes", mesh=gltf.quad(), matrix=[1, 0, 0, 0.5, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1])
    with pytest.raises(AssetError, match="affine"):
        load(gltf.scene(node).save(tmp_path))


# -- instances -----------------------------------------------------------------------------------------------


def test_gpu_instancing(tmp_path: Path) -> None:
    quaternion, rotation = rotation_about(1, 1.1)
    gltf = Gltf()
    mesh, corners = solid(gltf)
    shifts = np.float32([[0, 0, 0], [3, 0, 0], [0, 4, 1]])
    scales = np.float32([[1, 1, 1], [-1, 1, 1], [2, 2, 0.5]])
    turns = np.float32([[0, 0, 0, 1], quaternion, quaternion])
    instancing = {
        "TRANSLATION": gltf.accessor(shifts),
        "SCALE": gltf.accessor(scales),
        "ROTATION": gltf.accessor(np.round(turns * 32767).astype(np.int16), normalized=True),
    }
    node = gltf.add(
        "nodes",
        mesh=mesh,
        scale=[2, 2, 2],
        extensions={"EXT_mesh_gpu_instancing": {"attributes": instancing}},
    )
    gltf.doc["extensionsRequired"] = ["EXT_mesh_gpu_instancing"]
    asset = load(gltf.scene(node).save(tmp_path))
    read = triangles(asset)
    for i, matrix in enumerate((np.eye(3), rotation, rotation)):
        points = ((corners * scales[i]) @ matrix.T + shifts[i]) * 2
        mine = read[4 * i : 4 * i + 4]
        np.testing.assert_allclose(
            np.sort(mine.reshape(-1, 3), 0), np.sort(points.reshape(-1, 3), 0), atol=2e-3
        )
        local = mine - mine.reshape(-1, 3).mean(0)
        volume = np.einsum("ij,ij->i", local[:, 0], np.cross(local[:, 1], local[:, 2])).sum() / 6
        np.testing.assert_allclose(volume, 8 * abs(np.prod(scales[i])) / 6, rtol=1e-3)
    assert asset.num_faces == 12


def test_instancing_bomb_is_refused(tmp_path: Path) -> None:
    gltf = Gltf()
    count = 2**31 - 1
    shifts = gltf.add("accessors", componentType=5126, count=count, type="VEC3")
    extension = {"EXT_mesh_gpu_instancing": {"attributes": {"TRANSLATION": shifts}}}
    node = gltf.add("nodes", mesh=gltf.quad(), extensions=extension)
    with pytest.raises(AssetError, match="would unfold"):
        load(gltf.scene(node).save(tmp_path))


# -- morph targets and skins ---------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["mesh", "node", "both", "neither"])
def test_morph_targets_use_default_weights(tmp_path: Path, place: str) -> None:
    rng = np.random.default_rng(1)
    moves = rng.normal(size=(2, 4, 3)).astype(np.float32)
    gltf = Gltf()
    mesh = gltf.quad(targets=[{"POSITION": gltf.accessor(move)} for move in moves])
    node = gltf.add("nodes", mesh=mesh)
    weights = [0.0, 0.0]
    if place in ("mesh", "both"):
        gltf.doc["meshes"][mesh]["weights"] = weights = [0.25, -1.5]
    if place in ("node", "both"):
        gltf.doc["nodes"][node]["weights"] = weights = [2.0, 0.5]
    asset = load(gltf.scene(node).save(tmp_path))
    expected = QUAD + weights[0] * moves[0] + weights[1] * moves[1]
    np.testing.assert_allclose(asset.meshes[0].vertices, expected, atol=1e-6)


def skinned_quad(gltf: Gltf, joints: list[int], weights: NDArray, bind: NDArray | None) -> int:
    mesh = gltf.quad()
    attributes = gltf.doc["meshes"][mesh]["primitives"][0]["attributes"]
    attributes["JOINTS_0"] = gltf.accessor(np.uint8([[0, 1, 0, 0]] * 4))
    attributes["WEIGHTS_0"] = gltf.accessor(weights)
    skin: dict = {"joints": joints}
    if bind is not None:
        skin["inverseBindMatrices"] = gltf.accessor(bind.transpose(0, 2, 1).astype(np.float32))
    return gltf.add(
        "nodes", mesh=mesh, skin=gltf.add("skins", **skin), translation=[100, 0, 0], scale=[9, 9, 9]
    )


def test_skin_moves_vertices_and_ignores_the_nodes_own_transform(tmp_path: Path) -> None:
    quaternion, rotation = rotation_about(0, 0.9)
    gltf = Gltf()
    first = gltf.add("nodes", translation=[0, 1, 0])
    second = gltf.add("nodes", rotation=quaternion, translation=[0, 0, 2])
    root = gltf.add("nodes", children=[first, second], translation=[5, 0, 0])
    bind = np.tile(np.eye(4), (2, 1, 1))
    bind[1, :3, 3] = [-1, -1, 0]
    weights = np.float32([[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0, 1, 0, 0], [0.2, 0.6, 0, 0]])
    node = skinned_quad(gltf, [first, second], weights, bind)
    asset = load(gltf.scene(root, node).save(tmp_path))
    a = QUAD.astype(np.float64) + np.array([5, 1, 0])
    b = (QUAD + np.array([-1, -1, 0])) @ rotation.T + np.array([5, 0, 2])
    w = weights[:, :2] / weights.sum(1, keepdims=True)
    np.testing.assert_allclose(asset.meshes[0].vertices, w[:, :1] * a + w[:, 1:] * b, atol=1e-6)


def test_skin_with_quantised_weights_and_no_bind_matrices(tmp_path: Path) -> None:
    gltf = Gltf()
    joints = [gltf.add("nodes", translation=[3, 0, 0]), gltf.add("nodes", translation=[0, 7, 0])]
    stored = np.uint8([[255, 0, 0, 0], [0, 255, 0, 0], [127, 127, 0, 0], [0, 0, 0, 0]])
    node = skinned_quad(gltf, joints, stored, None)
    gltf.doc["accessors"][-1]["normalized"] = True
    asset = load(gltf.scene(*joints, node).save(tmp_path))
    moved = QUAD + np.array([[3, 0, 0], [0, 7, 0], [1.5, 3.5, 0], [3, 0, 0]])
    np.testing.assert_allclose(asset.meshes[0].vertices, moved, atol=1e-12)


def test_mirrored_skeleton_flips_the_winding(tmp_path: Path) -> None:
    gltf = Gltf()
    joints = [gltf.add("nodes", scale=[-1, 1, 1]), gltf.add("nodes", scale=[-1, 1, 1])]
    node = skinned_quad(gltf, joints, np.float32([[1, 0, 0, 0]] * 4), None)
    asset = load(gltf.scene(*joints, node).save(tmp_path))
    assert (face_normals(triangles(asset))[:, 2] > 0).all()
    assert asset.bounds()[0, 0] == -1


@pytest.mark.parametrize("joint", [2, 255])
def test_joint_out_of_range(tmp_path: Path, joint: int) -> None:
    gltf = Gltf()
    joints = [gltf.add("nodes"), gltf.add("nodes")]
    node = skinned_quad(gltf, joints, np.float32([[1, 0, 0, 0]] * 4), None)
    attributes = gltf.doc["meshes"][0]["primitives"][0]["attributes"]
    attributes["JOINTS_0"] = gltf.accessor(np.uint8([[joint, 0, 0, 0]] * 4))
    with pytest.raises(AssetError, match="joint"):
        load(gltf.scene(*joints, node).save(tmp_path))


# -- compression ---------------------------------------------------------------------------------------------


def draco_quad(gltf: Gltf, *, plain_copy: bool = False, **encode: bool) -> int:
    import DracoPy

    stream = DracoPy.encode(
        QUAD.astype(np.float64), QUAD_FACES.reshape(-1, 3), tex_coord=QUAD_UV.astype(np.float64), **encode
    )
    by_type = {int(a["attribute_type"]): a["unique_id"] for a in DracoPy.decode(stream).attributes}
    ids = {"POSITION": by_type[0], "TEXCOORD_0": by_type[3]}
    fields = {"bufferView": gltf.view(stream), "attributes": ids}
    plain = {"POSITION": QUAD, "TEXCOORD_0": QUAD_UV}
    attributes = {}
    for name, array in plain.items():
        attributes[name] = gltf.accessor(array)
        if not plain_copy:
            del gltf.doc["accessors"][-1]["bufferView"]
    indices = gltf.accessor(QUAD_FACES)
    if not plain_copy:
        del gltf.doc["accessors"][indices]["bufferView"]
    primitive = {
        "attributes": attributes,
        "indices": indices,
        "extensions": {"KHR_draco_mesh_compression": fields},
    }
    gltf.doc["extensionsUsed"] = gltf.doc["extensionsRequired"] = ["KHR_draco_mesh_compression"]
    return gltf.add("meshes", primitives=[primitive])


@pytest.mark.parametrize("preserve_order", [True, False])
def test_draco(tmp_path: Path, preserve_order: bool) -> None:
    gltf = Gltf()
    asset = load(gltf.show(draco_quad(gltf, preserve_order=preserve_order)).save(tmp_path))
    mesh = asset.meshes[0]
    corners = triangles(asset)
    assert corners.shape == (2, 3, 3)
    np.testing.assert_allclose(face_normals(corners), [[0, 0, 1]] * 2, atol=1e-3)
    np.testing.assert_allclose(
        mesh.uvs[0], np.stack([mesh.vertices[:, 0], 1 - mesh.vertices[:, 1]], 1), atol=1e-3
    )


def test_draco_stream_must_fit_its_accessors(tmp_path: Path) -> None:
    gltf = Gltf()
    mesh = draco_quad(gltf)
    gltf.doc["accessors"][-1]["count"] = 9
    with pytest.raises(AssetError, match="2 triangles"):
        load(gltf.show(mesh).save(tmp_path))
    gltf.doc["accessors"][-1]["count"] = 6
    gltf.doc["accessors"][0]["count"] = 5
    with pytest.raises(AssetError, match="the Draco stream holds"):
        load(gltf.save(tmp_path))


def test_plain_copy_is_preferred_to_draco(tmp_path: Path) -> None:
    gltf = Gltf()
    mesh = draco_quad(gltf, plain_copy=True)
    gltf.doc["extensionsRequired"] = []
    np.testing.assert_array_equal(load(gltf.show(mesh).save(tmp_path)).meshes[0].vertices, QUAD)


# -- containers and resources --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["external", "percent", "base64", "plain data"])
def test_gltf_resources(tmp_path: Path, kind: str) -> None:
    gltf = quad_glb()
    doc = gltf.finished()
    if kind == "base64":
        uri = "data:application/octet-stream;base64," + base64.b64encode(gltf.binary).decode()
    elif kind == "plain data":
        uri = "data:," + "".join(f"%{byte:02x}" for byte in gltf.binary)
    else:
        folder = tmp_path / "my data"
        folder.mkdir()
        (folder / "a+b é.bin").write_bytes(gltf.binary)
        uri = "my%20data/a+b%20%C3%A9.bin" if kind == "percent" else "my data/../my data/a+b é.bin"
    doc["buffers"][0]["uri"] = uri
    path = tmp_path / "scene.gltf"
    path.write_text(json.dumps(doc), encoding="utf-8-sig" if kind == "external" else "utf-8")
    assert_same_triangles(triangles(load(path)), QUAD_TRIANGLES)


@pytest.mark.parametrize("embedded", [True, False])
def test_short_buffers_are_named_as_such(tmp_path: Path, embedded: bool) -> None:
    gltf = quad_glb()
    doc = gltf.finished()
    (tmp_path / "short.bin").write_bytes(gltf.binary[:-8])
    uri = "data:;base64," + base64.b64encode(gltf.binary[:-8]).decode()
    doc["buffers"][0]["uri"] = uri if embedded else "short.bin"
    path = tmp_path / "scene.gltf"
    path.write_text(json.dumps(doc))
    with pytest.raises(AssetError, match="incomplete"):
        load(path)


@pytest.mark.parametrize(
    "uri",
    [
        "../outside.bin",
        "sub/../../outside.bin",
        "%2e%2e/outside.bin",
        "link.bin",
        "folder_link/outside.bin",
        "file:///etc/hostname",
        "FILE:outside.bin",
        "https://example.org/a.bin",
        "c:outside.bin",
        "",
        "a\0b",
        ".",
        "x" * 5000,
    ],
)
def test_only_the_files_own_folder(tmp_path: Path, uri: str) -> None:
    gltf = quad_glb()
    home = tmp_path / "home"
    (home / "sub").mkdir(parents=True)
    (tmp_path / "outside.bin").write_bytes(gltf.binary)
    (home / "link.bin").symlink_to(tmp_path / "outside.bin")
    (home / "folder_link").symlink_to(tmp_path)
    doc = gltf.finished()
    doc["buffers"][0]["uri"] = uri
    path = home / "scene.gltf"
    path.write_text(json.dumps(doc))
    with pytest.raises(AssetError):
        load(path)


def test_absolute_path_is_refused(tmp_path: Path) -> None:
    gltf = quad_glb()
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "outside.bin").write_bytes(gltf.binary)
    doc = gltf.finished()
    doc["buffers"][0]["uri"] = str(tmp_path / "outside.bin")
    (home / "scene.gltf").write_text(json.dumps(doc))
    with pytest.raises(AssetError, match="outside the file's own folder"):
        load(home / "scene.gltf")


def test_link_to_the_file_itself_is_fine(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real = quad_glb().save(tmp_path / "real")
    (tmp_path / "link.glb").symlink_to(real)
    assert load(tmp_path / "link.glb").num_faces == 2


def test_content_decides_before_the_name(tmp_path: Path) -> None:
    gltf = quad_glb()
    for name in ("a.gltf", "a.obj", "a.bin", "a"):
        assert load(gltf.save(tmp_path, name)).num_faces == 2


@pytest.mark.parametrize("what", ["missing", "folder", "empty", "unknown"])
def test_unusable_paths(tmp_path: Path, what: str) -> None:
    path = tmp_path / "x.dat"
    if what == "folder":
        path.mkdir()
    elif what != "missing":
        path.write_bytes(b"" if what == "empty" else b"hello there")
    with pytest.raises(AssetError) as caught:
        load(path)
    assert "\n" not in str(caught.value)


# -- hygiene -------------------------------------------------------------------------------------------------


def test_faces_at_broken_vertices_are_dropped(tmp_path: Path) -> None:
    gltf = Gltf()
    points = np.concatenate([QUAD, [[np.nan, 0, 0], [0, np.inf, 0]]]).astype(np.float32)
    faces = np.uint8([0, 1, 2, 0, 2, 3, 0, 1, 4, 5, 2, 3])
    uvs = np.float32([[0, 0], [1, 0], [np.nan, 1], [0, 1], [0, 0], [0, 0]])
    attributes = {"POSITION": gltf.accessor(points), "TEXCOORD_0": gltf.accessor(uvs)}
    mesh = gltf.add("meshes", primitives=[{"attributes": attributes, "indices": gltf.accessor(faces)}])
    asset = load(gltf.show(mesh).save(tmp_path))
    assert_same_triangles(triangles(asset), QUAD_TRIANGLES)
    assert np.isfinite(asset.meshes[0].uvs[0]).all()
    assert len(asset.meshes[0].vertices) == len(asset.meshes[0].uvs[0]) == 4
    assert "2 faces dropped" in asset.warnings[0]


def test_nothing_but_broken_vertices(tmp_path: Path) -> None:
    gltf = Gltf()
    mesh = gltf.add("meshes", primitives=[{"attributes": {"POSITION": gltf.accessor(QUAD[:3] * np.nan)}}])
    with pytest.raises(AssetError, match="NaN or infinite"):
        load(gltf.show(mesh).save(tmp_path))


def test_overflow_in_transforms_is_caught(tmp_path: Path) -> None:
    gltf = Gltf()
    child = gltf.add("nodes", mesh=gltf.quad(), scale=[1e200] * 3)
    with pytest.raises(AssetError, match="NaN or infinite"):
        load(gltf.scene(gltf.add("nodes", children=[child], scale=[1e200] * 3)).save(tmp_path))


def test_zero_normals_are_replaced(tmp_path: Path) -> None:
    gltf = Gltf()
    mesh = gltf.quad()
    normals = np.float32([[0, 0, 2], [0, 0, 0], [np.nan, 0, 0], [0, 0, 1]])
    gltf.doc["meshes"][mesh]["primitives"][0]["attributes"]["NORMAL"] = gltf.accessor(normals)
    read = load(gltf.show(mesh).save(tmp_path)).meshes[0]
    assert read.normals is not None
    np.testing.assert_allclose(read.normals, [[0, 0, 1]] * 4, atol=1e-7)


def test_lines_of_zero_area_are_no_surface(tmp_path: Path) -> None:
    gltf = Gltf()
    points = np.float32([[0, 0, 0], [1, 1, 1], [2, 2, 2]])
    mesh = gltf.add("meshes", primitives=[{"attributes": {"POSITION": gltf.accessor(points)}}])
    with pytest.raises(AssetError, match="zero area"):
        load(gltf.show(mesh).save(tmp_path))


# -- limits and tolerance ------------------------------------------------------------------------------------


def test_small_files_cannot_ask_for_much(tmp_path: Path) -> None:
    """Every way of multiplying a few bytes ends at the budget, before memory or time is gone."""

    def refused(gltf: Gltf) -> None:
        with pytest.raises(AssetError, match="would unfold the file"):
            load(gltf.save(tmp_path))

    gltf = Gltf()
    refused(
        gltf.show(gltf.add("meshes", primitives=[{"attributes": {"POSITION": gltf.accessor(QUAD)}}] * 50_000))
    )

    gltf = quad_glb()
    gltf.doc["nodes"] += [{}] * 600_000
    refused(gltf)

    gltf = Gltf()
    points = gltf.accessor(np.random.default_rng(0).normal(size=(30_000, 3)).astype(np.float32))
    primitive = {"attributes": {"POSITION": points}, "targets": [{"POSITION": points}] * 5000}
    refused(gltf.show(gltf.add("meshes", primitives=[primitive], weights=[1] * 5000)))

    gltf = Gltf()
    zeros = gltf.add("accessors", componentType=5126, count=2**31 - 1, type="VEC3")
    refused(gltf.show(gltf.add("meshes", primitives=[{"attributes": {"POSITION": zeros}}])))

    gltf = Gltf()
    points = gltf.accessor(np.random.default_rng(0).normal(size=(30_000, 3)).astype(np.float32))
    big = gltf.add("meshes", primitives=[{"attributes": {"POSITION": points}}])
    refused(gltf.scene(*[gltf.add("nodes", mesh=big, translation=[i, 0, 0]) for i in range(4000)]))


def test_warnings_stay_few_and_short(tmp_path: Path) -> None:
    gltf = Gltf()
    mesh = gltf.quad()
    position = gltf.doc["meshes"][mesh]["primitives"][0]["attributes"]["POSITION"]
    gltf.doc["meshes"][mesh]["primitives"] += [{"attributes": {"POSITION": position}, "mode": 0}] * 500
    asset = load(gltf.show(mesh).save(tmp_path))
    assert 10 < len(asset.warnings) < 50
    assert all(len(line) <= 300 and "\n" not in line for line in asset.warnings)


def test_nameless_and_endless_names(tmp_path: Path) -> None:
    gltf = Gltf()
    mesh = gltf.quad()
    gltf.doc["meshes"][mesh]["primitives"][0]["attributes"]["_X\nY" * 1000] = "no index"
    with pytest.raises(AssetError) as caught:
        load(gltf.show(mesh).save(tmp_path))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_deep_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "deep.gltf"
    path.write_text('{"asset":{"version":"2.0"},"extras":' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(AssetError, match="nested too deeply"):
        load(path)


def test_what_exporters_get_slightly_wrong_is_read(tmp_path: Path) -> None:
    gltf = Gltf()
    mesh = gltf.quad()
    primitive = gltf.doc["meshes"][mesh]["primitives"][0]
    primitive["indices"] = float(primitive["indices"])
    primitive["attributes"]["_MATRIX"] = gltf.add("accessors", componentType=5126, count=4, type="MAT3")
    for view in gltf.doc["bufferViews"]:
        view["byteStride"] = 0
    node = gltf.add("nodes", mesh=mesh, rotation=[0, 0, 0, 0], scale=[2, 2, 2])
    gltf.doc["extensionsUsed"] = ["VENDOR_something"]
    asset = load(gltf.scene(node).save(tmp_path))
    assert_same_triangles(triangles(asset), QUAD_TRIANGLES * 2)
    assert "_MATRIX" in asset.warnings[0]


def test_garbage_in_joints_without_weight_is_ignored(tmp_path: Path) -> None:
    gltf = Gltf()
    joints = [gltf.add("nodes"), gltf.add("nodes")]
    node = skinned_quad(gltf, joints, np.float32([[1, 0, 0, 0]] * 4), None)
    attributes = gltf.doc["meshes"][0]["primitives"][0]["attributes"]
    attributes["JOINTS_0"] = gltf.accessor(np.uint8([[1, 99, 250, 7]] * 4))
    assert load(gltf.scene(*joints, node).save(tmp_path)).num_faces == 2


def test_uvs_without_a_place_become_zero(tmp_path: Path) -> None:
    gltf = Gltf()
    mesh = gltf.quad()
    uvs = np.float32([[1e38, 0.5], [np.inf, 2], [-1e20, 3], [1000, -1000]])
    gltf.doc["meshes"][mesh]["primitives"][0]["attributes"]["TEXCOORD_0"] = gltf.accessor(uvs)
    read = load(gltf.show(mesh).save(tmp_path)).meshes[0].uvs[0]
    np.testing.assert_array_equal(read, [[0, 0.5], [0, 2], [0, 3], [1000, -1000]])


@pytest.mark.parametrize("name", ["EXT_meshopt_compression", "KHR_meshopt_compression"])
def test_meshopt_views(tmp_path: Path, name: str) -> None:
    """Compressed positions (16-bit, 8 bytes apart) and indices, in a fallback buffer that is not there."""
    cases = json.loads((Path(__file__).parent.parent / "data" / "meshopt.json").read_text())
    case = next(c for c in cases if c["name"].startswith("words") and c["stride"] == 8)
    count = case["count"]
    positions = np.frombuffer(base64.b64decode(case["decoded"]), np.uint16).reshape(count, 4)[:, :3]
    gltf = Gltf()

    def compressed_view(stream: bytes, count: int, stride: int, mode: str, **fields: int) -> int:
        index = gltf.view(stream)
        offset = gltf.doc["bufferViews"][index]["byteOffset"]
        packed = {"buffer": 0, "byteOffset": offset, "byteLength": len(stream), "count": count}
        extension = {name: {**packed, "byteStride": stride, "mode": mode}}
        length = count * stride
        return gltf.add("bufferViews", buffer=1, byteLength=length, extensions=extension, **fields)

    view = compressed_view(base64.b64decode(case["stream"]), count, 8, "ATTRIBUTES", byteStride=8)
    position = gltf.add("accessors", bufferView=view, componentType=5123, count=count, type="VEC3")
    # Triangles (0, 1, 2) and (0, 2, 3), written by the rules of the index codec.
    stream = b"\xe1" + b"\xf0\x00" + bytes(16)
    indices = compressed_view(stream, 6, 4, "TRIANGLES")
    index = gltf.add("accessors", bufferView=indices, componentType=5125, count=6, type="SCALAR")
    primitive = {"attributes": {"POSITION": position}, "indices": index}
    gltf.doc["extensionsRequired"] = [name]
    gltf.show(gltf.add("meshes", primitives=[primitive]))
    gltf.doc["buffers"] = [{"byteLength": len(gltf.binary)}, {"byteLength": 10**6}]
    expected = positions[[[0, 1, 2], [0, 2, 3]]]
    assert_same_triangles(triangles(load(gltf.save(tmp_path))), expected)
