from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.ovoxel.samples import ball
from tests.paths import PARITY_DIR, golden_tensors
from voxlume.ovoxel.index import VoxelIndex
from voxlume.ovoxel.index_torch import TorchVoxelIndex
from voxlume.ovoxel.lookup import nearest, trilinear, trilinear_reference
from voxlume.ovoxel.lookup_torch import nearest_torch, trilinear_torch

Lookup = Callable[..., NDArray[np.float32]]


def through_torch(
    coords: NDArray, values: NDArray, points: NDArray, nearest_fallback: bool = False
) -> NDArray[np.float32]:
    tensors = (torch.from_numpy(np.ascontiguousarray(a)) for a in (coords, values, points))
    return trilinear_torch(*tensors, nearest_fallback).numpy()


LOOKUPS = [trilinear, trilinear_reference, through_torch]


@pytest.mark.parametrize("lookup", LOOKUPS)
def test_published_lookup(lookup: Lookup) -> None:
    data = golden_tensors("trilinear")
    if data is None:
        pytest.skip(f"no trilinear in {PARITY_DIR}")
    out = lookup(data["io.coords"], data["io.attrs"], data["io.query"])
    assert np.abs(out - data["io.out"]).max() < 1e-6


@pytest.mark.parametrize("lookup", [trilinear, through_torch])
@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("fallback", [False, True])
@pytest.mark.parametrize("spread", [0.5, 3.0, 30.0])
def test_twin(lookup: Lookup, shuffled: bool, fallback: bool, spread: float) -> None:
    rng = np.random.default_rng(0)
    coords = ball(20).coords
    if shuffled:
        coords = rng.permutation(coords)
    values = rng.random((len(coords), 5), np.float32)
    points = coords[rng.integers(0, len(coords), 500)] + 0.5 + rng.normal(0, spread, (500, 3))
    points[:3] = [[np.nan, 1, 1], [np.inf, 0, 0], [-900, 5, 5]]
    if not fallback:  # so far away all voxels are equally near
        points[3:5] = [[-1e30, 5, 5], [1e18, 1e18, 3]]
    expected = trilinear_reference(coords, values, points, fallback)
    np.testing.assert_allclose(lookup(coords, values, points, fallback), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("lookup", LOOKUPS)
def test_a_centre_has_its_voxels_value(lookup: Lookup) -> None:
    coords = np.array([[0, 0, 0], [5, 2, 1], [5, 2, 2]], np.int32)
    values = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    np.testing.assert_array_equal(lookup(coords, values, coords + 0.5), values)


@pytest.mark.parametrize("lookup", LOOKUPS)
def test_lone_voxel_fills_its_neighbourhood(lookup: Lookup) -> None:
    coords, values = np.array([[3, 3, 3]], np.int32), np.array([[0.25]], np.float32)
    points = np.array([[2.6, 4.4, 3.5], [2.4, 3.5, 3.5], [2.5, 3.5, 3.5]])
    assert lookup(coords, values, points).tolist() == [[0.25], [0.0], [0.0]]
    assert lookup(coords, values, points, True).tolist() == [[0.25]] * 3


@pytest.mark.parametrize("lookup", LOOKUPS)
def test_no_voxels_give_zeros(lookup: Lookup) -> None:
    out = lookup(np.zeros((0, 3), np.int32), np.zeros((0, 2), np.float32), np.ones((3, 3)), True)
    assert out.tolist() == [[0, 0]] * 3


def test_one_index_serves_many_lookups() -> None:
    coords = ball(12).coords
    values = np.random.default_rng(0).random((len(coords), 3), np.float32)
    points = coords[::3] + 0.8
    expected = trilinear(coords, values, points)
    np.testing.assert_array_equal(trilinear(VoxelIndex(coords), values, points), expected)
    index = TorchVoxelIndex(torch.from_numpy(coords))
    out = trilinear_torch(index, torch.from_numpy(values), torch.from_numpy(points))
    np.testing.assert_allclose(out.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("spread", [0.5, 4.0, 40.0])
def test_nearest_is_the_nearest(spread: float) -> None:
    rng = np.random.default_rng(1)
    coords = rng.permutation(ball(20).coords)
    points = coords[rng.integers(0, len(coords), 300)] + 0.5 + rng.normal(0, spread, (300, 3))
    least = np.sqrt(((points[:, None] - coords - 0.5) ** 2).sum(2)).min(1)
    numbers = nearest(VoxelIndex(coords), points)
    np.testing.assert_allclose(np.linalg.norm(coords[numbers] + 0.5 - points, axis=1), least)
    numbers = nearest_torch(TorchVoxelIndex(torch.from_numpy(coords)), torch.from_numpy(points)).numpy()
    np.testing.assert_allclose(np.linalg.norm(coords[numbers] + 0.5 - points, axis=1), least)


def test_index_finds_only_what_is_there() -> None:
    coords = np.random.default_rng(0).permutation(ball(12).coords)
    asked = np.concatenate([coords[::-1], [[-1, 0, 0], [0, -1, 0], [0, 0, -1], [0, 1 << 40, 0], [6, 6, 6]]])
    expected = [*range(len(coords) - 1, -1, -1), -1, -1, -1, -1, -1]
    assert VoxelIndex(coords).find(asked).tolist() == expected
    assert TorchVoxelIndex(torch.from_numpy(coords)).find(torch.from_numpy(asked)).tolist() == expected


def test_wrong_number_of_values() -> None:
    with pytest.raises(ValueError, match="2 values for 1 voxels"):
        trilinear(np.zeros((1, 3), np.int32), np.zeros((2, 1), np.float32), np.zeros((1, 3)))
    with pytest.raises(ValueError, match="2 values for 1 voxels"):
        trilinear_torch(torch.zeros(1, 3, dtype=torch.int32), torch.zeros(2, 1), torch.zeros(1, 3))


def test_lookup_is_differentiable_in_the_values() -> None:
    coords = torch.from_numpy(ball(6).coords)[:8]
    values = torch.rand(len(coords), 2, dtype=torch.float64, requires_grad=True)
    points = coords[::4].double() + 0.9
    points[0] -= 5  # one point takes the nearest voxel
    torch.autograd.gradcheck(lambda v: trilinear_torch(coords, v, points, True), (values,))
