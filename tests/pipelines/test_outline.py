"""What lies outside the outline of the picture is no part of the object."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from voxlume.errors import VoxelFileError, VoxlumeError
from voxlume.models.camera_head import CameraTold, CameraTrue
from voxlume.pipelines import stages
from voxlume.pipelines.checkpoint import save_network
from voxlume.pipelines.image_to_3d import ImageTo3D, ImageTo3DOptions
from voxlume.pipelines.model_folder import CAMERA_HEAD, IMAGE_ENCODER, IMAGE_TO_3D
from voxlume.pipelines.outline import directions, inside_outline, mask_of
from voxlume.pipelines.preprocess import preprocess_image, preprocess_with_outline
from voxlume.pipelines.results import ImageCondition, load_result, save_result
from voxlume.pipelines.stages import _agreed

Options = Callable[..., ImageTo3DOptions]
Array = NDArray[np.uint8]

GRID, SIZE = 32, 256
CENTER, RADIUS = torch.tensor([0.12, -0.05, 0.08]), 0.25


def centres() -> Tensor:
    axis = (torch.arange(GRID) + 0.5) / GRID - 0.5
    return torch.cartesian_prod(axis, axis, axis)


def tell(azimuths: dict[float, float], elevation: float = 20.0, distance: float = 3.0) -> CameraTold:
    """A head's answer: probabilities of azimuths in degrees, a window about the ball."""
    zero = torch.zeros(1)
    likely = torch.zeros(36)
    for azimuth, share in azimuths.items():
        turn = torch.deg2rad(torch.tensor([azimuth]))
        likely += share * CameraTrue(turn, zero, zero, torch.zeros(1, 3)).shares(36)[0]
    window = torch.tensor([[0.0, 0.0, 0.42]])
    elevations = torch.deg2rad(torch.tensor([elevation]))
    return CameraTold((likely + 1e-9).log()[None], elevations, torch.tensor([1 / distance]), window)


def photographed(told: CameraTold, azimuth: float) -> NDArray[np.bool_]:
    """Where the ball is seen from a told camera: rays through the middles of pixels that meet it."""
    camera = told.cameras(torch.deg2rad(torch.tensor([azimuth])))
    x, y = camera.plane_positions(SIZE)
    right, up, forward = camera.axes[0]
    focal = float(camera.focal)
    rays = x[0][None, :, None] / focal * right + y[0][:, None, None] / focal * up + forward
    rays = rays / rays.norm(dim=-1, keepdim=True)
    to = CENTER - camera.position[0]
    along = rays @ to
    return ((to @ to - along**2) < RADIUS**2).numpy()


def ball() -> Tensor:
    return ((centres() - CENTER).norm(dim=1) < RADIUS).reshape(GRID, GRID, GRID)


@pytest.mark.parametrize("azimuth", [0.0, 30.0, 90.0, 135.0, 180.0, -94.0])
def test_the_object_stays_and_what_is_beside_it_goes(azimuth: float) -> None:
    told = tell({azimuth: 1.0})
    inside = inside_outline(told, photographed(told, azimuth), GRID)
    assert inside.shape == (GRID, GRID, GRID)
    assert inside.dtype == torch.float32
    assert (inside[ball()] == 1).all()
    # Beside the line of sight through its middle: outside, by as much as is allowed and perspective.
    position = told.cameras(torch.deg2rad(torch.tensor([azimuth]))).position[0]
    forward = (CENTER - position) / (CENTER - position).norm()
    away = centres() - CENTER
    beside = (away - (away @ forward)[:, None] * forward).norm(dim=1).reshape(GRID, GRID, GRID)
    assert (inside[beside > 0.45] == 0).all()
    assert 0.1 < float(inside.mean()) < 0.6
    # Along that line nothing is known.
    assert (inside[beside < 0.1] == 1).all()


def test_a_mask_is_seen_the_right_way_up() -> None:
    told = tell({0.0: 1.0}, elevation=0.0)
    mask = np.zeros((SIZE, SIZE), bool)
    mask[: SIZE // 4, : SIZE // 4] = True  # above, and to the left: the camera stands at -y
    x, _, z = (centres()[inside_outline(told, mask, GRID).flatten() > 0]).T
    assert x.max() < 0
    assert z.min() > 0
    # The same whatever its size.
    small = mask[::4, ::4]
    assert torch.equal(inside_outline(told, small, GRID), inside_outline(told, mask, GRID))


def test_directions_count_as_they_are_likely() -> None:
    one, other = tell({30.0: 1.0}), tell({-150.0: 1.0})
    mask = photographed(one, 30.0)
    unsure = inside_outline(tell({30.0: 0.6, -150.0: 0.4}), mask, GRID)
    parts = [inside_outline(told, mask, GRID) for told in (one, other)]
    torch.testing.assert_close(unsure, 0.6 * parts[0] + 0.4 * parts[1], atol=1e-4, rtol=0)
    assert {round(v, 2) for v in unsure.unique().tolist()} == {0.0, 0.4, 0.6, 1.0}


def test_what_lies_between_directions_is_one_direction() -> None:
    likely, azimuth = directions(tell({33.0: 1.0}))
    assert len(likely) == 2
    torch.testing.assert_close(torch.rad2deg(azimuth), torch.tensor([33.0, 33.0]), atol=1e-2, rtol=0)
    likely, azimuth = directions(tell({178.0: 0.9, 10.0: 0.1}))
    assert sorted(round(v) % 360 for v in torch.rad2deg(azimuth).tolist()) == [10, 178, 178]
    # Negligible ones are left out, but never all.
    likely, azimuth = directions(tell({50.0: 0.99, 100.0: 0.01}))
    assert len(likely) == 1
    assert float(likely) == 1
    told = CameraTold(torch.zeros(1, 100), torch.zeros(1), torch.ones(1) / 3, torch.tensor([[0, 0, 0.5]]))
    assert len(directions(told)[0]) == 100


@pytest.mark.parametrize("fill", [False, True])
def test_no_outline_tells_nothing(fill: bool) -> None:
    assert (inside_outline(tell({0.0: 1.0}), np.full((50, 50), fill), GRID) == 1).all()
    specks = np.full((50, 50), fill)
    if fill:
        specks[::9, ::7] = False
        assert (inside_outline(tell({0.0: 1.0}), specks, GRID) == 1).all()


def test_masks_of_pictures() -> None:
    ring = np.zeros((120, 120, 4), np.uint8)
    y, x = np.mgrid[-1:1:120j, -1:1:120j]
    seen = (x**2 + y**2 < 0.9) & (x**2 + y**2 > 0.1)
    ring[seen] = (90, 50, 10, 255)
    ring[55:65, 5:30] = (0, 0, 0, 255)  # black paint
    picture, mask = preprocess_with_outline(Image.fromarray(ring))
    assert np.array_equal(picture, preprocess_image(Image.fromarray(ring)))
    assert picture.shape[:2] == mask.shape
    assert mask[len(mask) // 2, 10]
    assert not mask[len(mask) // 2, len(mask) // 2]
    # An array that comes without transparency has only its black to go by.
    assert np.array_equal(mask_of(picture), mask & picture.any(-1))
    assert mask_of(picture).sum() < mask.sum()
    opaque = preprocess_with_outline(Image.fromarray(ring[..., :3] + np.uint8(1)), "keep")
    assert opaque[1].all()


def test_structures_make_up_for_what_is_cut_away() -> None:
    logits = torch.full((2, 8, 8, 8), -6.0)
    logits[:, :4, :4, :4] = 4
    logits[0, 4, :4, :4] = logits[1, :4, :4, 4] = 1
    logits[:, 3, 3, 5:] = -1
    plain = _agreed(logits)
    everywhere = torch.ones(1, 8, 8, 8)
    assert torch.equal(_agreed(logits, everywhere), plain)
    inside = everywhere.clone()
    inside[0, 4:] = 0
    inside[0, 3, :2] = 0
    cut = _agreed(logits, inside)
    assert not cut[inside[0] == 0].any()
    assert cut[3, 3, 5:].all()  # the likeliest of what is left
    assert int(cut.sum()) >= int(plain.sum())
    # Of several pictures the least counts; the same one twice is one.
    other = everywhere.clone()
    other[0, :, :, 6:] = 0
    both = torch.cat([inside, other])
    assert not _agreed(logits, both)[torch.minimum(inside, other)[0] == 0].any()
    assert torch.equal(_agreed(logits, torch.cat([inside, inside])), cut)
    # With a single voter too.
    alone = _agreed(logits[:1], inside)
    assert not alone[inside[0] == 0].any()
    assert alone.any()


@pytest.mark.parametrize("votes", [1, 3])
def test_a_structure_is_never_empty(votes: int) -> None:
    """Where hardly anything is left, the camera must be wrong."""
    logits = torch.randn((votes, 8, 8, 8), generator=torch.Generator().manual_seed(0))
    plain = _agreed(logits)
    for inside in (torch.zeros(1, 8, 8, 8), 1e-30 * torch.ones(2, 8, 8, 8), 0.1 * torch.rand(1, 8, 8, 8)):
        assert torch.equal(_agreed(logits, inside), plain)
    assert not _agreed(-logits.abs(), torch.ones(1, 8, 8, 8)).any()


# -- the pipeline ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def telling(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose head says of every picture that it was taken from the front."""
    folder = tmp_path_factory.mktemp("telling") / "model"
    shutil.copytree(tiny_model, folder)
    head = ImageTo3D.from_pretrained(folder).folder.load(CAMERA_HEAD, None, torch.device("cpu"))
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        bias = head.output.bias  # type: ignore[union-attr]
        bias[18] = 30  # type: ignore[index]
        bias[36:] = torch.tensor([-0.4, -0.1, 0, 0, -0.1])  # type: ignore[index]
    save_network(head, folder / "ckpts" / CAMERA_HEAD)
    return folder


def without_head(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target)
    path = target / IMAGE_TO_3D
    content = json.loads(path.read_text())
    content["args"]["models"].pop(CAMERA_HEAD)
    path.write_text(json.dumps(content))
    return target


def cells(made: Any) -> list[list[int]]:
    return made[0].structure.coords.tolist()


@pytest.fixture(scope="module")
def narrow() -> Array:
    """An upright post on black, already preprocessed."""
    picture = np.zeros((96, 96, 3), np.uint8)
    picture[:, 30:66] = (200, 120, 60)
    return picture


def test_models_without_a_head_are_as_before(
    telling: Path, tmp_path: Path, narrow: Array, quick: Options
) -> None:
    with_head = ImageTo3D.from_pretrained(telling, device="cpu")
    without = ImageTo3D.from_pretrained(without_head(telling, tmp_path / "m"), device="cpu")
    options = quick(material=False)
    before = without.run(narrow, options, save_to=tmp_path / "old")
    assert without.condition(narrow).inside is None
    assert cells(without.run(narrow, replace(options, outline=False))) == cells(before)
    assert cells(with_head.run(narrow, replace(options, outline=False))) == cells(before)
    kept = cells(with_head.run(narrow, options))
    assert kept != cells(before)
    # The whole picture is 0.8 wide; half a cell and the error are allowed beside the post.
    across = (torch.tensor(kept)[:, 0] + 0.5) / before[0].structure.resolution - 0.5
    assert across.abs().max() < 0.3
    # Folders from before know nothing of it.
    for path in (tmp_path / "old").glob("s*.safetensors"):
        path.unlink()
    assert cells(with_head.run((), options, resume_from=tmp_path / "old")) == cells(before)


def test_saved_and_resumed(telling: Path, tmp_path: Path, narrow: Array, quick: Options) -> None:
    pipeline = ImageTo3D.from_pretrained(telling, device="cpu")
    options = quick(material=False)
    made = pipeline.run(narrow, options, save_to=tmp_path / "run")
    saved = load_result(tmp_path / "run" / "condition.safetensors", ImageCondition)
    inside = pipeline.condition(narrow).inside
    assert inside is not None
    assert saved.inside is not None
    assert torch.equal(saved.inside, inside)
    assert inside.shape == (1, *[made[0].structure.resolution] * 3)
    for path in (tmp_path / "run").glob("s*.safetensors"):
        path.unlink()
    again = pipeline.run((), options, resume_from=tmp_path / "run")
    assert cells(again) == cells(made)
    other = pipeline.run((), replace(options, outline=False), resume_from=tmp_path / "run")
    assert cells(other) != cells(made)
    for wrong in (inside[0], 2 * inside, inside.repeat(2, 1, 1, 1), inside.double(), inside[:, 1:]):
        save_result(replace(saved, inside=wrong), tmp_path / "wrong.safetensors")
        with pytest.raises(VoxelFileError, match="inside"):
            load_result(tmp_path / "wrong.safetensors", ImageCondition)
    latent = torch.randn(1, 8, 4, 4, 4)
    with pytest.raises(VoxlumeError, match="encode the picture again"):
        stages.decode_structure(pipeline.networks, latent, inside=torch.ones(1, 8, 8, 8))


def test_only_structures_are_told(telling: Path, narrow: Array) -> None:
    networks = ImageTo3D.from_pretrained(telling, device="cpu").networks
    assert stages.encode_images(networks, [narrow]).inside is None
    condition = stages.encode_images(networks, [narrow] * 2, masks=[mask_of(narrow), narrow[..., 0] < 0])
    condition.check()
    assert condition.inside is not None
    assert condition.inside[0].min() == 0
    assert condition.inside[1].min() == 1


def test_a_head_reads_only_its_own_encoder(
    telling: Path, tmp_path: Path, narrow: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = ImageTo3D.from_pretrained(telling, device="cpu")
    assert pipeline.folder.tells_cameras
    assert not ImageTo3D.from_pretrained(telling, device="cpu", image_encoder=tmp_path).folder.tells_cameras
    # Another width cannot be read.
    folder = tmp_path / "wide"
    shutil.copytree(telling, folder)
    config = replace(pipeline.networks.config(CAMERA_HEAD), condition_width=64)  # type: ignore[arg-type]
    from voxlume.models.published import build

    save_network(build(config), folder / "ckpts" / CAMERA_HEAD)
    wide = ImageTo3D.from_pretrained(folder, device="cpu")
    assert wide.networks.config(IMAGE_ENCODER).width != 64  # type: ignore[union-attr]
    assert wide.condition(narrow).inside is None
