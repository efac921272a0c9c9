"""Drawing many surfaces at once: against its twins, against rays, against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.interpreter import interpreted, needs_gpu, needs_triton
from tests.render.shapes import sphere
from voxlume.asset import Mesh
from voxlume.backend import kernels
from voxlume.render.batch import (
    BatchCameras,
    Points,
    Projection,
    Surfaces,
    interpolate,
    maps,
    orbit_cameras,
    random_cameras,
    rasterize,
    vertex_normals,
)
from voxlume.render.batch_raster import check_kernels


def triangle_soup(seed: int, samples: int = 2, count: int = 80) -> Surfaces:
    """Faces from a fraction of a pixel to half the picture, three attributes each."""
    random = torch.Generator().manual_seed(seed)
    meshes = []
    for _ in range(samples):
        spread = 0.01 * 80 ** torch.rand((count, 1, 1), generator=random)
        middle = torch.rand((count, 1, 3), generator=random) - 0.5
        # All in front of every camera.
        corners = (middle + spread * torch.randn((count, 3, 3), generator=random)).clamp(-0.6, 0.6)
        faces = torch.arange(3 * count).reshape(-1, 3)
        meshes.append((corners.reshape(-1, 3), faces, torch.rand((3 * count, 3), generator=random)))
    return Surfaces.joined(meshes)  # type: ignore[arg-type]


def close_cameras(count: int, seed: int) -> BatchCameras:
    return random_cameras(count, torch.Generator().manual_seed(seed), radius_range=(1.5, 2.0))


def surface(mesh: Mesh) -> Surfaces:
    """A mesh of the glTF frame as one sample, its positions as attributes."""
    x, y, z = torch.from_numpy(mesh.vertices).float().unbind(1)
    vertices = torch.stack([x, -z, y], 1)
    return Surfaces.joined([(vertices, torch.from_numpy(mesh.faces), vertices)])


def hits(surfaces: Surfaces, origin: Tensor, direction: Tensor, sample: int) -> list[tuple[float, int]]:
    """Distances and faces that a ray meets, by Moller and Trumbore in double precision."""
    rows = torch.arange(int(surfaces.face_starts[sample]), int(surfaces.face_starts[sample + 1]))
    v0, v1, v2 = surfaces.vertices.double()[surfaces.faces[rows].long()].unbind(1)
    e1, e2 = v1 - v0, v2 - v0
    p = torch.linalg.cross(direction.expand_as(e2), e2)
    det = (e1 * p).sum(1)
    s = origin - v0
    u = (s * p).sum(1) / det
    q = torch.linalg.cross(s, e1)
    v = (direction * q).sum(1) / det
    t = (e2 * q).sum(1) / det
    inside = (u > 0) & (v > 0) & (u + v < 1) & (t > 0)
    return sorted(zip(t[inside].tolist(), rows[inside].tolist(), strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_both_ways_of_the_cpu_agree(seed: int) -> None:
    surfaces = triangle_soup(seed)
    cameras = close_cameras(2, seed)
    fast = rasterize(surfaces, cameras, 40, layers=3)
    with kernels("reference"):
        slow = rasterize(surfaces, cameras, 40, layers=3)
    # They round positions in different precision, which may move a pixel across an edge.
    assert (fast.face != slow.face).float().mean() < 2e-3
    same = (fast.face == slow.face) & (fast.face >= 0)
    assert same[0].float().mean() > 0.2
    assert same[2].any()
    torch.testing.assert_close(fast.depth[same], slow.depth[same], rtol=1e-5, atol=0)
    torch.testing.assert_close(fast.barycentric[same], slow.barycentric[same])


@needs_triton
def test_kernels_agree_with_the_twin_in_the_interpreter() -> None:
    program = (
        "import torch; from voxlume.render import batch_raster, batch_triton;"
        # What the interpreter spends, it spends per block.
        "t = batch_triton; t._FACES = 256; t._BLOCKS = t._PARTS = 1; t._PIXELS = 1024;"
        "print(batch_raster.check_kernels(torch.device('cpu')))"
    )
    assert float(interpreted("-c", program)) <= 1e-5


@pytest.mark.gpu
@needs_gpu
def test_kernels_agree_with_the_twin_on_the_gpu() -> None:
    assert check_kernels(torch.device("cuda")) <= 1e-3


@pytest.mark.gpu
@needs_gpu
def test_pictures_are_the_same_on_the_gpu() -> None:
    surfaces = triangle_soup(5)
    cameras = close_cameras(2, 5)
    here = rasterize(surfaces, cameras, 64, layers=2)
    there = Surfaces(*(t.cuda() for t in (surfaces.vertices, surfaces.faces, surfaces.face_starts)))
    found = rasterize(there, cameras.to("cuda"), 64, layers=2)
    assert (found.face.cpu() != here.face).float().mean() < 2e-3


def test_layers_are_what_rays_meet() -> None:
    surfaces = triangle_soup(7)
    cameras = close_cameras(2, 7)
    size, layers = 24, 3
    found = rasterize(surfaces, cameras, size, layers)
    x, y = cameras.plane_positions(size)
    right, up, forward = cameras.axes.double().unbind(1)
    seen = near_edge = 0
    for sample in range(2):
        for row in range(0, size, 3):
            for column in range(0, size, 3):
                direction = (
                    forward[sample]
                    + x[sample, column] / cameras.focal[sample] * right[sample]
                    + y[sample, row] / cameras.focal[sample] * up[sample]
                )
                expected = hits(surfaces, cameras.position[sample].double(), direction, sample)
                # The direction has length 1 along the viewing axis: distances are depths.
                faces = found.face[:, sample, row, column].tolist()
                if faces != [f for _, f in expected][:layers] + [-1] * (layers - len(expected)):
                    near_edge += 1
                    continue
                seen += len(expected) > 0
                depths = found.depth[:, sample, row, column].tolist()
                for depth, (t, _) in zip(depths, expected, strict=False):
                    assert depth == pytest.approx(t, rel=1e-4)
    assert seen > 40
    assert near_edge <= 2


def test_faces_with_a_corner_behind_the_camera_are_not_drawn() -> None:
    corners = torch.tensor([[-0.2, 0.0, -0.2], [0.2, 0.0, -0.2], [0.0, -5.0, 0.3]])
    surfaces = Surfaces.joined([(corners, torch.tensor([[0, 1, 2]]), None)])
    camera = orbit_cameras(torch.zeros(1), torch.zeros(1), torch.tensor([2.0]), torch.tensor([1.0]))
    for choice in ("auto", "reference"):
        with kernels(choice):  # type: ignore[arg-type]
            assert (rasterize(surfaces, camera, 16).face == -1).all()


def test_a_sphere_from_the_front() -> None:
    surfaces = surface(sphere(48, radius=0.4))
    focal = 4.0
    camera = orbit_cameras(torch.zeros(1), torch.zeros(1), torch.tensor([3.0]), torch.tensor([focal]))
    seen = maps(surfaces, camera, 101, normals="smooth")
    middle = seen.depth[0, 50, 50]
    assert float(middle) == pytest.approx(2.6, abs=1e-3)
    # The silhouette of a sphere is a circle of tangent radius / sqrt(distance^2 - radius^2).
    radius = focal * 0.4 / np.sqrt(3.0**2 - 0.4**2)
    assert float(seen.mask.mean()) == pytest.approx(np.pi * radius**2 / 4, rel=0.02)
    inside = seen.mask[0] > 0
    position = seen.attributes[0][inside]  # type: ignore[index]
    torch.testing.assert_close(
        seen.normal[0][inside], position / position.norm(dim=1)[:, None], atol=0.05, rtol=0
    )
    # Front is -y; up in the picture is +z, right is +x.
    top, left = seen.attributes[0, 30, 50], seen.attributes[0, 50, 30]  # type: ignore[index]
    assert top[2] > 0.1
    assert top[1] < 0
    assert left[0] < -0.1
    # Both kinds of normals look outwards whatever the winding.
    turned = Surfaces(surfaces.vertices, surfaces.faces.flip(1), surfaces.face_starts)
    flat = maps(turned, camera, 101)
    torch.testing.assert_close(flat.normal, seen.normal, atol=0.12, rtol=0)
    assert (flat.normal[~(flat.mask > 0)] == 0).all()


def test_gradients_equal_finite_differences() -> None:
    surfaces = triangle_soup(3, samples=1, count=20)
    cameras = close_cameras(1, 2)
    face = rasterize(surfaces, cameras, 12).face.flatten().long()
    pixel = (face >= 0).nonzero()[:, 0][::3]
    assert len(pixel) >= 8

    def seen(vertices: Tensor, attributes: Tensor) -> tuple[Tensor, ...]:
        moved = Surfaces(vertices, surfaces.faces, surfaces.face_starts, attributes)
        points = Points(Projection(moved, cameras, 12), face[pixel], pixel)
        smooth = points.smooth_normals(vertex_normals(moved, cameras.position))
        return points.depth, points.face_normals(), smooth, points.interpolate(attributes)

    inputs = [
        t.double().clone().requires_grad_()
        for t in (surfaces.vertices, surfaces.attributes)  # type: ignore[union-attr]
    ]
    # Weights at an edge are clamped, which finite differences there do not see.
    assert torch.autograd.gradcheck(seen, inputs, eps=1e-6, atol=1e-3, rtol=1e-3)


def test_maps_and_interpolation_pass_gradients_on() -> None:
    plain = triangle_soup(4)
    cameras = close_cameras(2, 4)
    vertices = plain.vertices.clone().requires_grad_()
    attributes = plain.attributes.clone().requires_grad_()  # type: ignore[union-attr]
    surfaces = Surfaces(vertices, plain.faces, plain.face_starts, attributes)
    seen = maps(surfaces, cameras, 32)
    layer = interpolate(surfaces, rasterize(surfaces, cameras, 32))[0]
    torch.testing.assert_close(layer, seen.attributes)
    for value in (seen.depth, seen.normal, seen.attributes):
        assert value is not None
        (gradient,) = torch.autograd.grad(value.square().sum(), vertices, retain_graph=True)
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0
    weights = rasterize(surfaces, cameras, 32)
    used = torch.zeros(len(vertices))
    hit = weights.face[0] >= 0
    used.index_add_(
        0, plain.faces[weights.face[0][hit].long()].long().flatten(), weights.barycentric[0][hit].flatten()
    )
    (gradient,) = torch.autograd.grad(layer.sum(), attributes)
    torch.testing.assert_close(gradient, used[:, None].expand(-1, 3), atol=1e-5, rtol=1e-4)


def test_a_shifted_surface_is_seen_shifted() -> None:
    """The gradient of the mean depth of a wall that moves towards the camera is -1."""
    corners = torch.tensor([[-0.4, 0, -0.4], [0.4, 0, -0.4], [0.4, 0, 0.4], [-0.4, 0, 0.4]])
    camera = orbit_cameras(torch.zeros(1), torch.zeros(1), torch.tensor([2.0]), torch.tensor([4.0]))
    shift = torch.zeros(1, requires_grad=True)
    moved = corners - torch.tensor([0.0, 1, 0]) * shift
    surfaces = Surfaces.joined([(moved, torch.tensor([[0, 1, 2], [0, 2, 3]]), None)])
    seen = maps(surfaces, camera, 32)
    (seen.depth.sum() / seen.mask.sum()).backward()
    assert float(shift.grad) == pytest.approx(-1, abs=1e-5)  # type: ignore[arg-type]


def test_samples_do_not_see_each_other() -> None:
    both = triangle_soup(9)
    cameras = close_cameras(2, 9)
    together = rasterize(both, cameras, 32).face[0]
    for i in range(2):
        rows = slice(int(both.face_starts[i]), int(both.face_starts[i + 1]))
        alone = Surfaces(both.vertices, both.faces[rows], torch.tensor([0, len(both.faces[rows])]))
        face = rasterize(alone, cameras[i : i + 1], 32).face[0, 0]
        assert torch.equal(together[i], torch.where(face >= 0, face + rows.start, -1))


def test_repeated_samples_are_seen_from_several_cameras() -> None:
    surfaces = triangle_soup(10)
    cameras = close_cameras(4, 10)
    seen = maps(surfaces.repeated(2), cameras, 24)
    for view in range(2):
        rows = slice(2 * view, 2 * view + 2)
        once = maps(surfaces, cameras[rows], 24)
        torch.testing.assert_close(seen.depth[rows], once.depth)
        torch.testing.assert_close(seen.attributes[rows], once.attributes)  # type: ignore[index]


def test_empty_samples_are_black() -> None:
    soup = triangle_soup(1, samples=1)
    none = (torch.zeros((0, 3)), torch.zeros((0, 3), dtype=torch.int32), torch.zeros((0, 3)))
    full = (soup.vertices, soup.faces, soup.attributes)
    seen = maps(Surfaces.joined([none, full, none]), random_cameras(3), 16)
    assert seen.mask.sum((1, 2)).bool().tolist() == [False, True, False]
    assert maps(Surfaces.joined([none]), random_cameras(1), 16).mask.sum() == 0


def test_as_many_cameras_as_samples_are_needed() -> None:
    with pytest.raises(ValueError, match="3 cameras for 2 samples"):
        rasterize(triangle_soup(0), random_cameras(3), 8)
