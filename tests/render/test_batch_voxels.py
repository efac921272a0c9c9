"""The surfaces of several O-Voxels together are those of each alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.render.shapes import box, plain, sphere
from voxlume.ovoxel.extract_torch import extract_mesh_torch, extract_training_mesh
from voxlume.ovoxel.grid import OVoxel
from voxlume.render.batch import maps, random_cameras
from voxlume.render.batch_voxels import surfaces_of_voxels, training_surfaces_of_voxels

RESOLUTION = 20


@pytest.fixture(scope="module")
def grids() -> list[OVoxel]:
    meshes = [sphere(12), box((0, 0, 0), (1, 2, 0.5))]
    return [OVoxel.from_asset(plain(mesh), RESOLUTION) for mesh in meshes]


def tensors(grids: list[OVoxel | None]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Coordinates (n, 4), dual vertices, flags and attributes of a batch; None is an empty sample."""
    rows = [(i, o) for i, o in enumerate(grids) if o is not None]
    coords = [torch.cat([torch.full((len(o), 1), i), torch.from_numpy(o.coords)], 1).int() for i, o in rows]
    parts = (
        [torch.from_numpy(getattr(o, k)) for _, o in rows]
        for k in ("dual_vertices", "intersected", "attributes")
    )
    return torch.cat(coords), *(torch.cat(part) for part in parts)  # type: ignore[return-value]


def test_each_sample_is_as_if_alone(grids: list[OVoxel]) -> None:
    surfaces = surfaces_of_voxels(*tensors([grids[0], None, grids[1]]), RESOLUTION, batch_size=4)
    assert len(surfaces) == 4
    first = 0
    for i, ovoxel in ((0, grids[0]), (2, grids[1])):
        vertices, faces = extract_mesh_torch(
            torch.from_numpy(ovoxel.coords),
            torch.from_numpy(ovoxel.dual_vertices),
            torch.from_numpy(ovoxel.intersected),
            RESOLUTION,
            orient=False,
        )
        rows = slice(int(surfaces.face_starts[i]), int(surfaces.face_starts[i + 1]))
        assert torch.equal(surfaces.faces[rows] - first, faces)
        torch.testing.assert_close(surfaces.vertices[first : first + len(vertices)], vertices)
        first += len(vertices)
    assert surfaces.face_starts[1] == surfaces.face_starts[2]
    assert surfaces.face_starts[4] == len(surfaces.faces)


def test_the_training_surface_is_as_if_alone_and_differentiable(grids: list[OVoxel]) -> None:
    coords, dual, flags, attributes = tensors([grids[0], grids[1]])
    dual, attributes = dual.clone().requires_grad_(), attributes.clone().requires_grad_()
    weights = torch.rand(len(coords), generator=torch.Generator().manual_seed(0)) + 0.5
    weights.requires_grad_()
    surfaces = training_surfaces_of_voxels(coords, dual, flags, weights, attributes, RESOLUTION)
    n = len(grids[0])
    vertices, faces = extract_training_mesh(coords[n:, 1:], dual[n:], flags[n:], RESOLUTION, weights[n:])
    alone = vertices[faces.long()].detach()
    rows = slice(int(surfaces.face_starts[1]), int(surfaces.face_starts[2]))
    together = surfaces.vertices[surfaces.faces[rows].long()]
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
    assert surfaces.attributes is not None
    assert len(surfaces.attributes) == len(surfaces.vertices)

    cameras = random_cameras(2, torch.Generator().manual_seed(0))
    seen = maps(surfaces, cameras, 48)
    assert seen.attributes is not None
    (seen.depth.sum() + seen.normal.square()[..., 0].sum() + seen.attributes.sum()).backward()
    for leaf in (dual, weights, attributes):
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
        assert leaf.grad.abs().max() > 0


def test_a_batch_without_voxels_has_no_faces() -> None:
    none = torch.zeros((0, 3))
    surfaces = surfaces_of_voxels(
        torch.zeros((0, 4), dtype=torch.int32), none, none.bool(), None, RESOLUTION, batch_size=2
    )
    assert len(surfaces) == 2
    assert len(surfaces.faces) == 0


@pytest.mark.parametrize(
    ("coords", "message"),
    [
        ([[1, 0, 0, 0], [0, 0, 0, 0]], "ascending"),
        ([[0, 0, RESOLUTION, 0]], "must lie in"),
        ([[0, 0, -1, 0]], "must lie in"),
        ([[0, 0, 0]], "must be"),
    ],
)
def test_wrong_coordinates_are_refused(coords: list[list[int]], message: str) -> None:
    n = len(coords)
    with pytest.raises(ValueError, match=message):
        surfaces_of_voxels(
            torch.tensor(coords), torch.zeros((n, 3)), torch.zeros((n, 3)).bool(), None, RESOLUTION
        )
