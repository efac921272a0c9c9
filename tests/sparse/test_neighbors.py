"""The neighbour map: three ways to it agree with a dictionary, on any range of coordinates."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from voxlume.errors import VoxlumeError
from voxlume.sparse import SparseTensor, subdivide
from voxlume.sparse.keys import bounds_of
from voxlume.sparse.lineage import bounds_within
from voxlume.sparse.neighbors import OFFSETS, find_neighbors, neighbor_map, voxel_keys
from voxlume.sparse.resample import parents_of
from voxlume.sparse.tensor import CoordinateSet


def by_dictionary(coords: Tensor) -> Tensor:
    row = {tuple(c): i for i, c in enumerate(coords.tolist())}
    found = [
        [row.get((b, x + dx, y + dy, z + dz), -1) for dx, dy, dz in OFFSETS] for b, x, y, z in coords.tolist()
    ]
    return torch.tensor(found, dtype=torch.int32).reshape(-1, 27)


def random_coords(seed: int = 0, batch: int = 3, size: int = 7) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    coords = (torch.rand((batch, size, size + 1, size + 2), generator=random) < 0.3).nonzero().int()
    shuffled = coords[torch.randperm(len(coords), generator=random)]
    return shuffled[torch.argsort(shuffled[:, 0], stable=True)]


def test_search_agrees_with_a_dictionary() -> None:
    coords = random_coords()
    assert torch.equal(neighbor_map(CoordinateSet(coords, 3)), by_dictionary(coords))


def test_search_at_the_edges_of_huge_grids_and_batches() -> None:
    corner = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 1], [0, 1, 1, 0], [0, 0, 1, 2047], [0, 1, 0, 2047]])
    opposite = torch.tensor([0, 2047, 2047, 2047]) - corner * torch.tensor([0, 1, 1, 1])
    coords = torch.cat([corner, opposite]).int()
    # 2048^3 voxels are 33 bits and a billion samples 30 more; then the key counts only samples that exist.
    for last in (1, 2**30, 2**31 - 2):
        later = coords + torch.tensor([last, 0, 0, 0], dtype=torch.int32)
        both = torch.cat([coords, later])
        assert torch.equal(find_neighbors(*voxel_keys(both)), by_dictionary(both))


def test_keys_are_ordered_as_coordinates_are() -> None:
    coords = random_coords()
    in_order = sorted(coords.tolist())
    keys, _ = voxel_keys(coords)
    assert coords[torch.argsort(keys)].tolist() == in_order


def test_narrow_keys_are_the_same_keys() -> None:
    coords = random_coords()
    # Far from the origin, where 32 bits overflow on the way.
    for shift in ([0, 0, 0, 0], [2**30, 2**30, -(2**30), 2**29]):
        moved = coords + torch.tensor(shift, dtype=torch.int32)
        keys, narrow = voxel_keys(moved)[0], voxel_keys(moved, narrow=True)[0]
        assert narrow.dtype == torch.int32
        assert torch.equal(keys, narrow.long())
        assert torch.equal(keys, voxel_keys(coords)[0])
    far = torch.tensor([[0, 0, 0, 0], [0, 2**11, 2**11, 2**11]], dtype=torch.int32)
    assert voxel_keys(far, narrow=True)[0].dtype == torch.int64


def test_bounds_of_ancestors_follow_from_those_of_the_voxels() -> None:
    coordinates = CoordinateSet(random_coords() * 3 - 5, 3)
    parents = parents_of(coordinates).parents
    assert bounds_within(parents) == bounds_of(parents.coords)
    grandparents = parents_of(parents).parents
    assert bounds_within(grandparents) == bounds_of(grandparents.coords)


def test_coordinates_that_cannot_be_keyed_are_refused() -> None:
    coords = torch.tensor([[0, 0, 0, 0], [0, 2**30, 2**30, 2**30]], dtype=torch.int32)
    with pytest.raises(VoxlumeError, match="too far apart"):
        voxel_keys(coords)


def test_children_derive_their_map_from_their_parents() -> None:
    x = SparseTensor(random_coords(), torch.empty(len(random_coords()), 0), 3)
    kept = torch.rand((len(x), 8), generator=torch.Generator().manual_seed(1)) < 0.6
    children = subdivide(x, kept).children
    assert torch.equal(neighbor_map(children), by_dictionary(children.coords))
    grandchildren = subdivide(
        SparseTensor.on(children, torch.empty(len(children), 0)), torch.ones(len(children), 8).bool()
    )
    assert torch.equal(neighbor_map(grandchildren.children), by_dictionary(grandchildren.children.coords))


def test_no_voxels() -> None:
    empty = CoordinateSet(torch.zeros((0, 4), dtype=torch.int32), 2)
    assert neighbor_map(empty).shape == (0, 27)
    assert len(parents_of(empty).parents) == 0


def test_the_map_is_built_once_and_shared_by_tensors_on_the_same_voxels() -> None:
    x = SparseTensor(random_coords(), torch.zeros(len(random_coords()), 2), 3)
    other = SparseTensor(random_coords(1), torch.zeros(len(random_coords(1)), 2), 3)
    assert neighbor_map(x.cache) is neighbor_map(x.with_features(torch.ones(len(x), 5)).cache)
    assert neighbor_map(x.cache) is not neighbor_map(other.cache)
