"""Condition pictures: against the other renderer, and what each part of them must show."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.render.shapes import plain, sphere
from tests.render.test_lights import lights_of
from voxlume.pipelines.preprocess import crop_to_object
from voxlume.render.batch import Surfaces, orbit_cameras, random_cameras
from voxlume.render.camera import look_at
from voxlume.render.conditioning import Lighting, condition_pictures, crop_to_surfaces
from voxlume.render.draw import draw
from voxlume.render.environment import Environment
from voxlume.render.lights import random_lights
from voxlume.render.picture import cut_out
from voxlume.render.scene import Scene
from voxlume.render.tonemap import neutral
from voxlume.render.tonemap_torch import linear_to_srgb_torch, neutral_torch, srgb_to_linear_torch
from voxlume.srgb import linear_to_srgb, srgb_to_linear

GREY = (0.6, 0.6, 0.6, 0.0, 0.8, 1.0)


def surface(*parts: tuple[Tensor, Tensor, tuple[float, ...]]) -> Surfaces:
    """One sample of several (vertices, faces, material)."""
    joined = Surfaces.joined([(v, f, torch.tensor([m]).expand(len(v), 6)) for v, f, m in parts])
    return Surfaces(joined.vertices, joined.faces, torch.tensor([0, len(joined.faces)]), joined.attributes)


def ball(radius: float = 0.4, center: tuple[float, float, float] = (0, 0, 0)) -> tuple[Tensor, Tensor]:
    mesh = sphere(40, radius)
    x, y, z = torch.from_numpy(mesh.vertices).float().unbind(1)
    return torch.stack([x, -z, y], 1) + torch.tensor(center), torch.from_numpy(mesh.faces)


def wall(y: float, size: float = 0.8) -> tuple[Tensor, Tensor]:
    """A square that faces the front (-y)."""
    s = size / 2
    corners = torch.tensor([[-s, y, -s], [s, y, -s], [s, y, s], [-s, y, s]])
    return corners, torch.tensor([[0, 1, 2], [0, 2, 3]])


def front(distance: float = 3.0, focal: float = 4.0):
    return orbit_cameras(torch.zeros(1), torch.zeros(1), torch.tensor([distance]), torch.tensor([focal]))


def even_light(level: float = 0.8, backdrop: float = 0.0) -> Lighting:
    lights = lights_of(torch.full((1, 64, 128, 3), level))
    lights.backdrop.fill_(backdrop)
    return Lighting(lights, torch.zeros(1, dtype=torch.long), torch.zeros(1))


def test_pictures_are_those_of_the_other_renderer() -> None:
    """The same ball in the same light, once here and once by the kernels of single pictures."""
    random = torch.Generator().manual_seed(0)
    radiance = torch.nn.functional.interpolate(
        torch.rand((1, 3, 4, 8), generator=random), (64, 128), mode="bilinear"
    ).permute(0, 2, 3, 1)
    environment = Environment.from_radiance(radiance[0].contiguous().numpy())
    lighting = Lighting(lights_of(radiance), torch.zeros(1, dtype=torch.long), torch.zeros(1))
    for metallic, roughness in ((0.0, 1.0), (1.0, 0.25), (0.0, 0.5)):
        vertices, faces = ball()
        color = (0.8, 0.5, 0.3)
        here = condition_pictures(
            surface((vertices, faces, (*color, metallic, roughness, 1.0))),
            size=64,
            cameras=front(),
            lighting=lighting,
            crop=False,
        )
        linear = (*srgb_to_linear(np.array(color)).tolist(), 1.0)
        asset = plain(
            sphere(40, 0.4), base_color_factor=linear, metallic_factor=metallic, roughness_factor=roughness
        )
        camera = look_at((0, 0, 3), (0, 0, 0), 2 * math.atan(1 / 4), 0.1)
        frame = draw(Scene(asset), camera, 64, 64, environment=environment, light_azimuth=0.0)
        there = cut_out(frame).astype(np.float32)
        there = there[..., :3] * there[..., 3:] / 255
        difference = np.abs(here.rgb[0].numpy() - there)
        assert difference.mean() < 1.5
        assert np.percentile(difference, 98) < 8
        assert np.abs(here.mask[0].numpy() - frame.covered).mean() < 0.01


def test_a_matt_surface_in_even_light_has_its_own_brightness() -> None:
    white = surface((*wall(0.0), (1.0, 1.0, 1.0, 0.0, 1.0, 1.0)))
    bright, dim = (
        condition_pictures(white, size=32, cameras=front(), lighting=even_light(level)).rgb[0, 16, 16, 0]
        for level in (0.5, 0.25)
    )
    # The tone mapper takes 0.02 of reflected surroundings off.
    for value, level in ((bright, 0.5), (dim, 0.25)):
        assert float(srgb_to_linear(np.array(float(value) / 255))) == pytest.approx(level - 0.02, abs=0.02)


def test_the_object_fills_the_square_as_the_pipeline_would_crop_it() -> None:
    small = surface((*ball(0.1, (0.2, 0.1, -0.2)), GREY))
    wide = condition_pictures(small, size=512, cameras=front(), lighting=even_light(), crop=False)
    close = condition_pictures(small, size=96, cameras=front(), lighting=even_light())
    alpha = (wide.mask[0, ..., None] * 255 + 0.5).byte()
    from PIL import Image

    straight = wide.rgb[0] / wide.mask[0, ..., None].clamp(min=1e-3)
    rgba = torch.cat([straight.clamp(0, 255).byte(), alpha], 2).numpy()
    cropped = Image.fromarray(crop_to_object(Image.fromarray(rgba))).resize((96, 96), Image.Resampling.BOX)
    # The pipeline crops whole pixels of a picture of 512.
    assert np.abs(np.asarray(cropped, np.float32) - close.rgb[0].numpy()).mean() < 4
    rows = close.mask[0].amax(1).nonzero()[:, 0]
    columns = close.mask[0].amax(0).nonzero()[:, 0]
    assert (int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])) == (0, 95, 0, 95)


def test_glass_shows_what_is_behind_it_and_covers_it() -> None:
    red = (0.9, 0.1, 0.1, 0.0, 0.9, 1.0)
    pane = (1.0, 1.0, 1.0, 0.0, 0.1, 0.2)
    through = condition_pictures(
        surface((*wall(-0.2), pane), (*wall(0.2, 0.4), red)),
        size=64,
        cameras=front(),
        lighting=even_light(0.8, 0.5),
    )
    assert (through.mask[0, 4:60, 4:60] == 1).all()
    middle, side = through.rgb[0, 32, 32].int(), through.rgb[0, 32, 6].int()
    assert middle[0] > middle[1] + 60
    assert side[0] == pytest.approx(int(side[1]), abs=2)
    # Beside the red square the backdrop is seen, and it alone changes with the backdrop.
    dark = condition_pictures(
        surface((*wall(-0.2), pane), (*wall(0.2, 0.4), red)),
        size=64,
        cameras=front(),
        lighting=even_light(0.8, 0.0),
    )
    assert dark.rgb[0, 32, 6, 1] + 40 < through.rgb[0, 32, 6, 1]
    assert abs(int(dark.rgb[0, 32, 32, 1]) - int(middle[1])) <= 1


def test_what_has_no_alpha_is_not_there() -> None:
    air = (0.2, 0.9, 0.2, 0.0, 0.1, 0.0)
    alone = surface((*wall(0.2, 0.4), GREY))
    both = surface((*wall(-0.2), air), (*wall(0.2, 0.4), GREY))
    a, b = (condition_pictures(s, size=32, cameras=front(), lighting=even_light()) for s in (alone, both))
    assert torch.equal(a.rgb, b.rgb)
    assert torch.equal(a.mask, b.mask)
    nothing = condition_pictures(surface((*wall(0.0), air)), size=32, cameras=front(), lighting=even_light())
    assert nothing.mask.sum() == 0
    assert nothing.rgb.sum() == 0


def test_an_opaque_surface_behind_many_panes_is_seen() -> None:
    pane = (1.0, 1.0, 1.0, 0.0, 0.5, 0.1)
    panes = [(*wall(-0.3 + 0.05 * i), pane) for i in range(8)]
    red = (0.9, 0.0, 0.0, 0.0, 0.9, 1.0)
    seen = condition_pictures(
        surface(*panes, (*wall(0.3), red)), size=16, cameras=front(), lighting=even_light(0.5)
    )
    assert seen.rgb[0, 8, 8, 0] > seen.rgb[0, 8, 8, 1] + 30


def test_the_key_light_casts_shadows() -> None:
    """A ball hangs before a wall; the light comes from the upper left in front."""
    lights = lights_of(torch.full((1, 64, 128, 3), 0.1), key=0.6)
    lights.key_direction[:] = torch.nn.functional.normalize(torch.tensor([[-0.5, -1.0, 0.5]]), dim=1)
    lighting = Lighting(lights, torch.zeros(1, dtype=torch.long), torch.zeros(1))
    scene = surface((*wall(0.3), GREY), (*ball(0.12, (0, 0.0, 0)), GREY))
    seen = condition_pictures(scene, size=128, cameras=front(), lighting=lighting, crop=False)
    plane = seen.rgb[0, :, :, 0].float()
    # 0.3 behind the ball the shadow lies 0.15 to the right and 0.15 down.
    pixels = 64 * 4.0 / 3.3
    shadow = plane[int(64 + 0.15 * pixels) + 6, int(64 + 0.15 * pixels) + 6]
    lit = plane[int(64 - 0.25 * pixels), int(64 - 0.25 * pixels)]
    assert shadow < 0.7 * lit


def test_a_corner_is_darker_than_the_open_wall() -> None:
    floor = wall(0.0)[0][:, [0, 2, 1]] * torch.tensor([1.0, 1, 1]) + torch.tensor([0.0, 0.0, -0.4])
    scene = surface((*wall(0.4), GREY), (floor, wall(0.0)[1], GREY))
    camera = orbit_cameras(torch.zeros(1), torch.tensor([20.0]), torch.tensor([3.0]), torch.tensor([4.0]))
    seen = condition_pictures(scene, size=128, cameras=camera, lighting=even_light(), crop=False)
    column = seen.rgb[0, :, 64, 0].float()
    covered = (seen.mask[0, :, 64] == 1).nonzero()[:, 0]
    # Where the wall meets the floor, projected.
    clip = camera.matrix()[0] @ torch.tensor([0.0, 0.4, -0.4, 1.0])
    corner = int((1 - clip[1] / clip[2]) * 64)
    assert column[corner - 2 : corner + 2].mean() < 0.95 * column[covered[0] + 4]


def test_pictures_of_a_batch_are_those_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    from voxlume.render import conditioning

    one, two = surface((*ball(), GREY)), surface((*wall(0.0), GREY))
    meshes = [(s.vertices, s.faces, s.attributes) for s in (one, two, one)]
    cameras = random_cameras(3, torch.Generator().manual_seed(1))
    lights = random_lights(3, torch.Generator().manual_seed(2))
    lighting = Lighting(lights, torch.arange(3), torch.tensor([0.0, 1.0, 2.0]))
    both = condition_pictures(Surfaces.joined(meshes), size=32, cameras=cameras, lighting=lighting)
    monkeypatch.setitem(conditioning._SAMPLES_AT_ONCE, "cpu", 1)
    parts = condition_pictures(Surfaces.joined(meshes), size=32, cameras=cameras, lighting=lighting)
    assert torch.equal(both.rgb, parts.rgb)
    last = Lighting(lights, torch.tensor([2]), torch.tensor([2.0]))
    alone = condition_pictures(one, size=32, cameras=cameras[2:3], lighting=last)
    assert (alone.rgb[0].int() - both.rgb[2].int()).abs().max() <= 1


def test_the_same_seed_gives_the_same_pictures() -> None:
    ball_ = surface((*ball(), GREY))
    a, b = (condition_pictures(ball_, torch.Generator().manual_seed(7), size=32) for _ in range(2))
    assert torch.equal(a.rgb, b.rgb)
    assert not torch.equal(a.rgb, condition_pictures(ball_, torch.Generator().manual_seed(8), size=32).rgb)
    assert a.cameras.window is not None


def test_no_samples_no_pictures() -> None:
    none = Surfaces(
        torch.zeros((0, 3)),
        torch.zeros((0, 3), dtype=torch.int32),
        torch.zeros(1).long(),
        torch.zeros((0, 6)),
    )
    assert condition_pictures(none, size=16).rgb.shape == (0, 16, 16, 3)


def test_an_empty_sample_is_black() -> None:
    full = surface((*ball(), GREY))
    none = (torch.zeros((0, 3)), torch.zeros((0, 3), dtype=torch.int32), torch.zeros((0, 6)))
    seen = condition_pictures(Surfaces.joined([none, (full.vertices, full.faces, full.attributes)]), size=16)
    assert seen.mask[0].sum() == 0
    assert seen.mask[1].sum() > 0


def test_wrong_attributes_are_refused() -> None:
    with pytest.raises(ValueError, match="six attributes"):
        condition_pictures(Surfaces.joined([(*wall(0.0), torch.zeros((4, 3)))]))


def test_a_crop_ignores_what_does_not_show() -> None:
    air = (0.2, 0.9, 0.2, 0.0, 0.1, 0.0)
    scene = surface((*wall(-0.2), air), (*wall(0.2, 0.4), GREY))
    alone = crop_to_surfaces(surface((*wall(0.2, 0.4), GREY)), front())
    visible = torch.tensor([False, False, True, True])
    assert alone.window is not None
    torch.testing.assert_close(crop_to_surfaces(scene, front(), visible).window, alone.window)
    half = 4.0 * 0.2 / 3.2
    torch.testing.assert_close(alone.window, torch.tensor([[-half, -half, half, half]]), atol=1e-5, rtol=0)


def test_curves_are_those_of_the_arrays() -> None:
    values = torch.rand((200, 3), generator=torch.Generator().manual_seed(0)) ** 3 * 4
    expected = [neutral(*map(float, v)) for v in values]
    torch.testing.assert_close(neutral_torch(values), torch.tensor(expected), atol=1e-5, rtol=1e-5)
    unit = torch.linspace(0, 1, 300)
    np.testing.assert_allclose(linear_to_srgb_torch(unit), linear_to_srgb(unit.numpy()), atol=1e-6)
    np.testing.assert_allclose(srgb_to_linear_torch(unit), srgb_to_linear(unit.numpy()), atol=1e-6)
