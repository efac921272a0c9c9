from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.ovoxel.samples import DualGrid, ball, golden, golden_cases
from voxlume.asset import Placement
from voxlume.ovoxel import OVoxel
from voxlume.ovoxel.extract import (
    Diagonal,
    extract_mesh,
    extract_mesh_reference,
    ovoxel_to_mesh,
)
from voxlume.srgb import srgb_to_linear


def extract(grid: DualGrid, **options: object) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    return extract_mesh(grid.coords, grid.dual_vertices, grid.intersected, grid.resolution, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("case", golden_cases("flexible_dual_grid"))
def test_published_extraction(case: str) -> None:
    arrays, grid = golden("flexible_dual_grid", case)
    vertices, faces = extract(grid, diagonal="first", orient=False)
    np.testing.assert_array_equal(faces, arrays["mesh_faces"])
    assert np.abs(vertices - arrays["mesh_vertices"]).max() < 1e-6


@pytest.mark.parametrize("case", golden_cases("dual_grid_splitting"))
def test_published_splitting_weights(case: str) -> None:
    arrays, grid = golden("dual_grid_splitting", case)
    vertices, faces = extract(grid, splitting_weights=arrays["splitting_weight"], orient=False)
    np.testing.assert_array_equal(faces, arrays["mesh_faces"])
    assert np.abs(vertices - arrays["mesh_vertices"]).max() < 1e-6


@pytest.mark.parametrize("case", golden_cases("dual_grid_splitting"))
@pytest.mark.parametrize("diagonal", ["normals", "first", "weights"])
@pytest.mark.parametrize("orient", [False, True])
@pytest.mark.parametrize("shuffled", [False, True])
def test_twin(case: str, diagonal: Diagonal, orient: bool, shuffled: bool) -> None:
    arrays, grid = golden("dual_grid_splitting", case)
    order = np.arange(len(grid.coords))
    if shuffled:
        order = np.random.default_rng(3).permutation(order)
    inputs = (
        grid.coords[order],
        grid.dual_vertices[order],
        grid.intersected[order],
        grid.resolution,
        arrays["splitting_weight"][order],
        diagonal,
    )
    vertices, faces = extract_mesh(*inputs, orient=orient)
    expected_vertices, expected_faces = extract_mesh_reference(*inputs, orient=orient)
    np.testing.assert_array_equal(faces, expected_faces)
    np.testing.assert_allclose(vertices, expected_vertices, rtol=0, atol=1e-7)


def test_order_of_voxels_only_renumbers() -> None:
    grid = ball()
    order = np.random.default_rng(1).permutation(len(grid.coords))
    shuffled = DualGrid(
        grid.coords[order], grid.dual_vertices[order], grid.intersected[order], grid.resolution
    )
    vertices, faces = extract(grid)
    shuffled_vertices, shuffled_faces = extract(shuffled)
    np.testing.assert_array_equal(shuffled_vertices, vertices[order])
    assert (np.diff(shuffled_faces[::2, 0]) >= 0).all()
    expected = {tuple(map(tuple, t)) for t in vertices[faces].tolist()}
    assert {tuple(map(tuple, t)) for t in shuffled_vertices[shuffled_faces].tolist()} == expected


def test_default_diagonal_keeps_a_fold() -> None:
    # One corner bent down; cut beside it, the other triangle stays flat.
    coords = np.array([[0, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 0]], np.int32)
    dual = np.full((4, 3), 0.5, np.float32)
    dual[0, 2] = -0.4
    flags = np.zeros((4, 3), np.bool_)
    flags[0, 2] = True
    _, faces = extract_mesh(coords, dual, flags, 2, orient=False)
    assert faces.tolist() == [[0, 1, 2], [2, 1, 3]]
    _, faces = extract_mesh(coords, dual, flags, 2, diagonal="first", orient=False)
    assert faces.tolist() == [[0, 1, 3], [0, 3, 2]]


def test_triangle_without_area_takes_the_other_diagonal() -> None:
    coords = np.array([[0, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 0]], np.int32)
    dual = np.array([[0.5, 1, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]], np.float32)
    flags = np.zeros((4, 3), np.bool_)
    flags[0, 2] = True
    _, faces = extract_mesh(coords, dual, flags, 2, diagonal="first", orient=False)
    assert faces.tolist() == [[0, 1, 2], [2, 1, 3]]


def test_no_voxels() -> None:
    for function in (extract_mesh, extract_mesh_reference):
        empty = np.zeros((0, 3))
        vertices, faces = function(
            empty.astype(np.int32), empty.astype(np.float32), empty.astype(np.bool_), 8
        )
        assert vertices.shape == (0, 3)
        assert faces.shape == (0, 3)


@pytest.mark.parametrize(
    ("coords", "message"),
    [([[0, 0, 0], [0, 0, 0]], "twice"), ([[0, 0, -1], [0, 0, 0]], "lie in"), ([[0, 0], [0, 1]], r"\(n, 3\)")],
)
def test_wrong_coordinates(coords: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        extract_mesh(np.array(coords), np.zeros((2, 3), np.float32), np.zeros((2, 3), np.bool_), 4)


def test_weights_rule_needs_weights() -> None:
    with pytest.raises(ValueError, match="splitting weights"):
        extract(ball(8), diagonal="weights")


def test_mesh_of_ovoxel() -> None:
    grid = ball()
    rng = np.random.default_rng(0)
    attributes = rng.random((len(grid.coords), 6), np.float32)
    placement = Placement(center=(3.0, -2.0, 1.0), scale=0.25)
    ovoxel = OVoxel(
        grid.resolution, grid.coords, grid.dual_vertices, grid.intersected, attributes, None, placement
    )
    mesh = ovoxel_to_mesh(ovoxel)
    vertices, faces = extract(grid)
    np.testing.assert_allclose(mesh.vertices[mesh.faces], placement.to_gltf(vertices)[faces])
    assert len(np.unique(mesh.faces)) == len(mesh.vertices)
    assert mesh.colors is not None
    used = np.unique(faces)
    np.testing.assert_allclose(mesh.colors[:, :3], srgb_to_linear(attributes[used, :3]), atol=1e-7)
    np.testing.assert_array_equal(mesh.colors[:, 3], attributes[used, 5])
    np.testing.assert_array_equal(mesh.attributes["METALLIC"], attributes[used, 3])
    np.testing.assert_array_equal(mesh.attributes["ROUGHNESS"], attributes[used, 4])
    bare = ovoxel_to_mesh(OVoxel(grid.resolution, grid.coords, grid.dual_vertices, grid.intersected))
    assert bare.colors is None
    assert not bare.attributes
