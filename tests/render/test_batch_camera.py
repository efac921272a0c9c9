"""Cameras of training: where they stand, what they see."""

from __future__ import annotations

import math

import pytest
import torch

from voxlume.render.batch_camera import ALL_ELEVATIONS, BatchCameras, orbit_cameras, random_cameras
from voxlume.render.camera import View, orbit


def test_distances_follow_the_published_law() -> None:
    cameras = random_cameras(4000, torch.Generator().manual_seed(0))
    radius = cameras.position.norm(dim=1)
    half_fov = torch.atan(1 / cameras.focal)
    torch.testing.assert_close(radius, math.sqrt(3) / 2 / half_fov.sin(), rtol=1e-4, atol=0)
    fov = torch.rad2deg(2 * half_fov)
    assert 10 <= float(fov.min()) < 13
    assert 69 < float(fov.max()) <= 70.01
    inverse = radius**-2
    uniform = (inverse.sort().values - inverse.min()) / (inverse.max() - inverse.min())
    assert (uniform - torch.linspace(0, 1, 4000)).abs().max() < 0.03


def test_directions_are_uniform_over_the_band() -> None:
    cameras = random_cameras(4000, torch.Generator().manual_seed(1))
    sine = cameras.position[:, 2] / cameras.position.norm(dim=1)
    low, high = math.sin(math.radians(-10)), math.sin(math.radians(60))
    assert ((sine.sort().values - low) / (high - low) - torch.linspace(0, 1, 4000)).abs().max() < 0.03
    everywhere = random_cameras(
        4000, torch.Generator().manual_seed(1), radius_range=(2, 100), elevation=ALL_ELEVATIONS
    )
    distance = everywhere.position.norm(dim=1)
    assert 2 <= float(distance.min()) < 2.01
    assert 20 < float(distance.max()) <= 100
    assert (everywhere.position / distance[:, None]).mean(0).abs().max() < 0.03


def test_axes_are_those_of_the_other_cameras() -> None:
    for azimuth, elevation in ((0.0, 0.0), (30.0, 18.0), (210.0, -40.0)):
        ours = orbit_cameras(
            torch.tensor([azimuth]), torch.tensor([elevation]), torch.tensor([3.0]), torch.ones(1)
        )
        other = orbit(torch.zeros(3).double().numpy(), 1.0, View("", azimuth, elevation))
        # glTF frame to the model frame.
        axes = torch.from_numpy(other.axes).float()
        expected = torch.stack([axes[:, 0], -axes[:, 2], axes[:, 1]], 1)
        torch.testing.assert_close(ours.axes[0], expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(ours.position[0], -3 * expected[2], atol=1e-5, rtol=0)


def test_straight_above_is_a_direction_too() -> None:
    camera = orbit_cameras(torch.zeros(1), torch.tensor([90.0]), torch.tensor([3.0]), torch.ones(1))
    torch.testing.assert_close(camera.axes[0] @ camera.axes[0].T, torch.eye(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(camera.axes[0, 1], torch.tensor([0.0, 1, 0]), atol=1e-6, rtol=0)


def test_the_whole_cube_is_in_every_picture() -> None:
    cameras = random_cameras(200, torch.Generator().manual_seed(2), elevation=ALL_ELEVATIONS)
    corners = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5])] * 3)
    seen = projected(cameras, corners)
    assert seen.abs().max() <= 1.0001
    assert seen.abs().amax((1, 2)).min() > 0.4


def test_a_window_is_a_part_of_the_picture() -> None:
    cameras = random_cameras(3, torch.Generator().manual_seed(3))
    points = torch.rand((20, 3), generator=torch.Generator().manual_seed(4)) - 0.5
    window = torch.tensor([[-0.2, -0.1, 0.4, 0.5], [-1, -1, 1, 1], [0.1, 0.2, 0.3, 0.4]])
    whole, part = projected(cameras, points), projected(cameras.cropped(window), points)
    low, high = window[:, None, :2], window[:, None, 2:]
    torch.testing.assert_close(part, (whole - low) / (high - low) * 2 - 1, atol=2e-4, rtol=1e-3)
    x, y = cameras.cropped(window).plane_positions(10)
    assert x[0, 0] == pytest.approx(-0.2 + 0.6 / 20)
    assert y[0, 0] == pytest.approx(0.5 - 0.6 / 20)


def test_cameras_are_drawn_again_from_the_same_seed() -> None:
    a, b = (random_cameras(5, torch.Generator().manual_seed(6)) for _ in range(2))
    assert torch.equal(a.position, b.position)
    assert torch.equal(a.focal, b.focal)


def projected(cameras: BatchCameras, points: torch.Tensor) -> torch.Tensor:
    """Picture positions (b, n, 2), from the axes or from the matrix where there is a window."""
    if cameras.window is not None:
        ones = torch.cat([points, torch.ones((len(points), 1))], 1)
        clip = torch.einsum("bkj,nj->bnk", cameras.matrix(), ones)
        return clip[..., :2] / clip[..., 2:]
    local = torch.einsum("bkj,bnj->bnk", cameras.axes, points[None] - cameras.position[:, None])
    return cameras.focal[:, None, None] * local[..., :2] / local[..., 2:]
