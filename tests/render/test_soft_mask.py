"""The soft mask against areas that are known, and its gradients against their derivatives."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.render.shapes import sphere
from tests.render.test_batch import close_cameras, surface, triangle_soup
from voxlume.render.batch import BatchCameras, Surfaces, maps, orbit_cameras
from voxlume.render.soft_mask import soft_mask

FOCAL, DISTANCE = 4.0, 3.0


def front() -> BatchCameras:
    return orbit_cameras(torch.zeros(1), torch.zeros(1), torch.tensor([DISTANCE]), torch.tensor([FOCAL]))


def turned_square(angle: float, half: Tensor) -> Surfaces:
    """A square of half side ``half`` in the plane y = 0, turned in it."""
    cos, sin = math.cos(angle), math.sin(angle)
    corners = torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1]]) @ torch.tensor([[cos, sin], [-sin, cos]])
    vertices = torch.stack([corners[:, 0], torch.zeros(4), corners[:, 1]], 1) * half
    return Surfaces.joined([(vertices, torch.tensor([[0, 1, 2], [0, 2, 3]]), None)])


@pytest.mark.parametrize("angle", [0.0, 0.1, 0.6, math.pi / 4, 1.3])
@pytest.mark.parametrize("samples", [1, 3])
def test_area_of_a_square_and_its_derivative(angle: float, samples: int) -> None:
    half = torch.tensor(0.31, requires_grad=True)
    area = soft_mask(turned_square(angle, half), front(), 20, samples).sum() * (2 / 20) ** 2
    area.backward()
    scale = FOCAL / DISTANCE
    side = 2 * float(half.detach()) * scale
    assert half.grad is not None
    assert float(area.detach()) == pytest.approx(side**2, rel=0.15 if samples == 1 else 0.07)
    assert float(half.grad) == pytest.approx(2 * side * 2 * scale, rel=0.15 if samples == 1 else 0.06)


def test_a_sphere_of_small_faces_grows_as_a_disk_does() -> None:
    plain = surface(sphere(40, 0.4))
    radius = torch.tensor(1.0, requires_grad=True)
    grown = Surfaces(plain.vertices * radius, plain.faces, plain.face_starts)
    size = 48
    area = soft_mask(grown, front(), size, 4).sum() * (2 / size) ** 2
    area.backward()

    def disk(r: float) -> float:
        return math.pi * (FOCAL * r) ** 2 / (DISTANCE**2 - r**2)

    assert float(area.detach()) == pytest.approx(disk(0.4), rel=0.01)
    derivative = 0.4 * (disk(0.401) - disk(0.399)) / 0.002
    assert radius.grad is not None
    assert float(radius.grad) == pytest.approx(derivative, rel=0.1)


def test_a_square_that_moves_keeps_its_area() -> None:
    shift = torch.zeros(3, requires_grad=True)
    still = turned_square(0.3, torch.tensor(0.3))
    moved = Surfaces(still.vertices + shift * torch.tensor([1.0, 0, 1]), still.faces, still.face_starts)
    x = torch.linspace(-1, 1, 24)
    mask = soft_mask(moved, front(), 24)
    (gradient,) = torch.autograd.grad(mask.sum() * (2 / 24) ** 2, shift, retain_graph=True)
    assert gradient.abs().max() < 0.05
    # Its centre of mass moves with it.
    (gradient,) = torch.autograd.grad((mask * x[None, None]).sum() / mask.sum().detach(), shift)
    assert float(gradient[0]) == pytest.approx(FOCAL / DISTANCE, rel=0.08)


def test_inside_and_outside_it_is_the_mask() -> None:
    surfaces, cameras = triangle_soup(2), close_cameras(2, 2)
    soft, hard = soft_mask(surfaces, cameras, 40, 5), maps(surfaces, cameras, 40).mask
    assert float(soft.min()) >= 0
    assert float(soft.max()) <= 1
    sure = (soft == 0) | (soft == 1)
    assert sure.float().mean() > 0.5
    assert torch.equal(soft[sure], hard[sure])
    assert float(soft.mean()) == pytest.approx(float(hard.mean()), abs=0.02)


def test_nothing_covers_nothing() -> None:
    none = Surfaces.joined([(torch.zeros((0, 3)), torch.zeros((0, 3), dtype=torch.int32), None)])
    assert soft_mask(none, front(), 8).sum() == 0
