"""Cameras become what a head tells, and cameras again."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from voxlume.errors import ModelFileError
from voxlume.models.camera_head import CameraHead, CameraHeadConfig, CameraTold, CameraTrue
from voxlume.models.published import build, describe, parse
from voxlume.render.batch_camera import BatchCameras, focal_at, random_cameras

CONFIG = CameraHeadConfig(32, queries=3, values=5, hidden=16, directions=12, precision="float32")


def cropped_cameras(count: int = 20) -> BatchCameras:
    """With a square window each, somewhere in the picture."""
    g = torch.Generator().manual_seed(0)
    cameras = random_cameras(count, g)
    middle = 0.3 * torch.rand((count, 2), generator=g) - 0.15
    half = 0.3 + 0.5 * torch.rand((count, 1), generator=g)
    return cameras.cropped(torch.cat([middle - half, middle + half], 1))


def numbers_of(cameras: BatchCameras) -> Tensor:
    assert cameras.window is not None
    return torch.cat([cameras.position, cameras.focal[:, None], cameras.window], 1)


def test_cameras_come_back() -> None:
    cameras = cropped_cameras()
    true = CameraTrue.of(numbers_of(cameras))
    for row in range(len(cameras)):
        one = slice(row, row + 1)
        told = CameraTold(torch.zeros(1, 12), true.elevation[one], true.nearness[one], true.window[one])
        again = told.cameras(true.azimuth[one])
        # Both see just the whole cube from where they stand.
        torch.testing.assert_close(numbers_of(again), numbers_of(cameras[one]), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(again.matrix(), cameras[one].matrix(), rtol=1e-3, atol=1e-3)
        turned = told.cameras(true.azimuth[one] + torch.tensor([0, math.pi]))
        assert len(turned) == 2
        back = turned.position[1] * torch.tensor([-1.0, -1, 1])
        torch.testing.assert_close(back, turned.position[0], rtol=1e-4, atol=1e-4)


def test_the_window_hardly_depends_on_the_distance() -> None:
    """A ball that fills the picture is told the same way from near and from far, but for perspective."""
    windows = []
    for distance in (4.0, 8.0):
        focal = float(focal_at(torch.tensor([distance])))
        seen = focal * 0.3 / math.sqrt(distance**2 - 0.3**2)
        of = CameraTrue.of(torch.tensor([[0, -distance, 0, focal, -seen, -seen, seen, seen]]))
        assert float(of.azimuth) == 0
        assert float(of.elevation) == 0
        windows.append(of.window)
    torch.testing.assert_close(windows[0], torch.tensor([[0, 0, 0.3]]), rtol=0.01, atol=1e-6)
    torch.testing.assert_close(windows[0], windows[1], rtol=0.01, atol=1e-6)


def test_in_a_mirror() -> None:
    cameras = cropped_cameras(4)
    assert cameras.window is not None
    across = numbers_of(cameras) * torch.tensor([-1.0, 1, 1, 1, -1, 1, -1, 1])
    across = across[:, [0, 1, 2, 3, 6, 5, 4, 7]]
    which = torch.tensor([True, False, True, False])
    mirrored = CameraTrue.of(numbers_of(cameras)).mirrored(which)
    expected = CameraTrue.of(torch.where(which[:, None], across, numbers_of(cameras)))
    for name in ("azimuth", "elevation", "nearness", "window"):
        torch.testing.assert_close(getattr(mirrored, name), getattr(expected, name))


def test_shares_lie_on_the_two_nearest_directions() -> None:
    azimuth = torch.deg2rad(torch.tensor([-180.0, -175, 0, 2.5, 90, 178, 180]))
    rest = torch.zeros(len(azimuth))
    shares = CameraTrue(azimuth, rest, rest, rest[:, None].expand(-1, 3)).shares(36)
    torch.testing.assert_close(shares.sum(1), torch.ones(len(azimuth)))
    expected = [{0: 1}, {0: 0.5, 1: 0.5}, {18: 1}, {18: 0.75, 19: 0.25}, {27: 1}, {35: 0.2, 0: 0.8}, {0: 1}]
    for row, places in zip(shares, expected, strict=True):
        wanted = torch.zeros(36)
        for place, share in places.items():
            wanted[place] = share
        torch.testing.assert_close(row, wanted, atol=1e-4, rtol=0)


def test_a_head_tells_every_picture_by_itself() -> None:
    torch.manual_seed(0)
    head = CameraHead(CONFIG)
    tokens = torch.randn(3, 7, 32)
    told = head(tokens)
    assert told.logits.shape == (3, 12)
    assert told.elevation.shape == told.nearness.shape == (3,)
    assert told.window.shape == (3, 3)
    # In any order of the tokens: where they belong is in themselves.
    alone = head(tokens[1:2].flip(1))
    for name in ("logits", "elevation", "nearness", "window"):
        torch.testing.assert_close(getattr(alone, name)[0], getattr(told, name)[1], rtol=1e-4, atol=1e-5)
    # A fresh head is not far from what is usual.
    cameras = told.cameras(torch.zeros(1))
    assert 1.2 < cameras.position.norm().item() < 8


def test_description() -> None:
    told = describe(CONFIG)
    assert told["name"] == "CameraHead"
    assert parse(told["name"], told["args"]) == CONFIG
    assert isinstance(build(CONFIG), CameraHead)
    with pytest.raises(ModelFileError, match="directions"):
        parse("CameraHead", told["args"] | {"directions": 0})
    with pytest.raises(ModelFileError, match="missing"):
        parse("CameraHead", {})
