from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.ovoxel.samples import DualGrid, ball, golden, golden_cases
from voxlume.ovoxel.extract import Diagonal, extract_mesh
from voxlume.ovoxel.extract_torch import extract_mesh_torch, extract_training_mesh

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def assert_same_as_numpy(
    grid: DualGrid, weights: np.ndarray | None, diagonal: Diagonal | None, device: str, shuffled: bool = False
) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    order = np.arange(len(grid.coords))
    if shuffled:
        order = np.random.default_rng(5).permutation(order)
    arrays = [grid.coords[order], grid.dual_vertices[order], grid.intersected[order]]
    g = None if weights is None else weights[order]
    tensors = [torch.from_numpy(a).to(device) for a in arrays]
    g_tensor = None if g is None else torch.from_numpy(g).to(device)
    for orient in (False, True):
        vertices, faces = extract_mesh_torch(*tensors, grid.resolution, g_tensor, diagonal, orient=orient)
        expected_vertices, expected_faces = extract_mesh(*arrays, grid.resolution, g, diagonal, orient=orient)
        np.testing.assert_array_equal(faces.cpu().numpy(), expected_faces)
        np.testing.assert_allclose(vertices.cpu().numpy(), expected_vertices, rtol=0, atol=1e-7)
        assert faces.dtype == torch.int32
        assert vertices.dtype == torch.float32
        assert faces.device.type == vertices.device.type == device


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", golden_cases("flexible_dual_grid"))
@pytest.mark.parametrize("diagonal", ["normals", "first"])
def test_same_as_numpy(case: str, diagonal: Diagonal, device: str) -> None:
    assert_same_as_numpy(golden("flexible_dual_grid", case)[1], None, diagonal, device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", golden_cases("dual_grid_splitting"))
@pytest.mark.parametrize("shuffled", [False, True])
def test_same_as_numpy_with_weights(case: str, shuffled: bool, device: str) -> None:
    arrays, grid = golden("dual_grid_splitting", case)
    assert_same_as_numpy(grid, arrays["splitting_weight"], None, device, shuffled)


def test_same_as_numpy_where_nothing_is_orientable() -> None:
    # Random flags give edges of every valence and components that cannot be oriented.
    rng = np.random.default_rng(0)
    coords = np.argwhere(rng.random((12, 12, 12)) < 0.9).astype(np.int32)
    dual = rng.random(coords.shape, np.float32)
    grid = DualGrid(coords, dual, rng.random(coords.shape) < 0.4, 12)
    assert_same_as_numpy(grid, None, None, "cpu")


def test_no_voxels() -> None:
    empty = torch.zeros(0, 3)
    vertices, faces = extract_mesh_torch(empty.int(), empty, empty.bool(), 8)
    assert vertices.shape == faces.shape == (0, 3)


def test_wrong_coordinates() -> None:
    with pytest.raises(ValueError, match="twice"):
        extract_mesh_torch(torch.ones(2, 3, dtype=torch.int32), torch.zeros(2, 3), torch.zeros(2, 3), 4)


@pytest.mark.parametrize("case", golden_cases("dual_grid_splitting"))
def test_published_training_extraction(case: str) -> None:
    arrays, grid = golden("dual_grid_splitting", case)
    vertices, faces = extract_training_mesh(
        *(torch.from_numpy(a) for a in (grid.coords, grid.dual_vertices, grid.intersected)),
        grid.resolution,
        torch.from_numpy(arrays["splitting_weight"]),
    )
    np.testing.assert_array_equal(faces.numpy(), arrays["training_faces"])
    assert np.abs(vertices.numpy() - arrays["training_vertices"]).max() < 1e-6


@pytest.mark.parametrize("shuffled", [False, True])
def test_training_extraction_is_differentiable(shuffled: bool) -> None:
    grid = ball(6)
    order = np.arange(len(grid.coords))
    if shuffled:
        order = np.random.default_rng(5).permutation(order)
    coords, flags = torch.from_numpy(grid.coords[order]), torch.from_numpy(grid.intersected[order])
    v = torch.from_numpy(grid.dual_vertices[order]).double().requires_grad_()
    g = torch.rand(len(order), dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.1
    torch.autograd.gradcheck(
        lambda v, g: extract_training_mesh(coords, v, flags, 6, g)[0], (v, g.requires_grad_())
    )


def test_training_extraction_of_shuffled_voxels_is_the_same_surface() -> None:
    grid = ball(8)
    order = np.random.default_rng(5).permutation(len(grid.coords))
    g = torch.rand(len(order), generator=torch.Generator().manual_seed(0)) + 0.1
    surfaces = []
    for p in (np.arange(len(order)), order):
        tensors = [torch.from_numpy(a[p]) for a in (grid.coords, grid.dual_vertices, grid.intersected)]
        vertices, faces = extract_training_mesh(*tensors, 8, g[torch.from_numpy(p)])
        surfaces.append({tuple(map(tuple, t)) for t in vertices[faces.long()].tolist()})
    assert surfaces[0] == surfaces[1]
