"""Random light: its filter against the kernels of the environment, and what a person could measure."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from voxlume.render.environment import Environment, _irradiance, look_up_irradiance, look_up_radiance
from voxlume.render.lights import Lights, random_lights


def lights_of(radiance: Tensor, key: float = 0.0) -> Lights:
    """The pictures (e, 64, 128, 3) with a key light from straight above."""
    e = len(radiance)
    up = torch.tensor([[0.0, 0, 1]]).expand(e, 3)
    return Lights.from_radiance(
        radiance, up, torch.full((e, 3), key), torch.full((e,), 0.01), torch.zeros((e, 2, 3))
    )


def directions(count: int, seed: int = 0) -> Tensor:
    d = torch.randn((count, 3), generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(d, dim=1)


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    """Two smooth pictures with a bright window each."""
    random = torch.Generator().manual_seed(0)
    coarse = torch.rand((2, 3, 4, 8), generator=random)
    smooth = torch.nn.functional.interpolate(coarse, (64, 128), mode="bicubic").clamp(0).permute(0, 2, 3, 1)
    smooth[0, 10:20, 30:50] += 4
    smooth[1, 30:36, 100:128] += 4
    return smooth.contiguous()


def test_even_light_stays_even() -> None:
    lights = lights_of(torch.full((3, 64, 128, 3), 0.7))
    d, e = directions(500), torch.arange(500) % 3
    for roughness in (0.0, 0.2, 0.5, 1.0):
        found = lights.radiance(e, d, torch.full((500,), roughness))
        torch.testing.assert_close(found, torch.full((500, 3), 0.7), atol=1e-4, rtol=0)
    torch.testing.assert_close(lights.matt(e, d), torch.full((500, 3), 0.7), atol=2e-3, rtol=0)


@pytest.mark.parametrize("which", [0, 1])
def test_lobes_are_those_of_the_environment(pictures: Tensor, which: int) -> None:
    lights = lights_of(pictures)
    other = Environment.from_radiance(pictures[which].numpy())
    d = directions(300)
    for roughness, tolerance in ((0.0, 0.05), (0.25, 0.15), (0.5, 0.06), (1.0, 0.04)):
        found = lights.radiance(torch.full((300,), which), d, torch.full((300,), roughness)).numpy()
        # Our z is its y, our -y its z.
        expected = np.array(
            [
                look_up_radiance(other.levels, other.level_size, x, z, -y, roughness)
                for x, y, z in d.double().numpy()
            ]
        )
        assert np.abs(found - expected).mean() < tolerance * expected.mean()


def test_matt_light_is_that_of_the_environment(pictures: Tensor) -> None:
    lights = lights_of(pictures)
    d = directions(50)
    sh = _irradiance(pictures[1].numpy())
    found = lights.matt(torch.ones(50, dtype=torch.long), d)
    for (x, y, z), value in zip(d.double().numpy(), found, strict=True):
        for c in range(3):
            assert float(value[c]) == pytest.approx(look_up_irradiance(sh, x, z, -y, c), abs=2e-3)


def test_environments_do_not_mix(pictures: Tensor) -> None:
    together, alone = lights_of(pictures), lights_of(pictures[1:])
    d = directions(200)
    for roughness in (0.0, 0.6, 1.0):
        r = torch.full((200,), roughness)
        torch.testing.assert_close(
            together.radiance(torch.ones(200, dtype=torch.long), d, r),
            alone.radiance(torch.zeros(200, dtype=torch.long), d, r),
            atol=1e-3,
            rtol=1e-3,
        )


def test_random_lights_expose_a_white_surface_well() -> None:
    lights = random_lights(40, torch.Generator().manual_seed(0))
    assert len(lights) == 40
    for tensor in (lights.levels, lights.irradiance, lights.key_radiance, lights.backdrop):
        assert tensor.isfinite().all()
    assert lights.levels.min() >= 0
    normals = torch.tensor([[0.0, -1, 0], [0, -0.7071, 0.7071]])
    matt = torch.stack([lights.matt(torch.arange(40), n.expand(40, 3)) for n in normals])
    lambert = (lights.key_direction @ normals.T).clamp(min=0).T[..., None]
    brightness = (matt + lambert * lights.key_radiance).mean((0, 2))
    assert 0.5 < float(brightness.min()) < 0.7
    assert 0.9 < float(brightness.max()) < 1.2
    # They differ in direction and in colour.
    assert lights.irradiance.std(0)[:4].min() > 0.02
    warmth = lights.irradiance[:, 0, 0] / lights.irradiance[:, 0, 2]
    assert warmth.min() < 0.95
    assert warmth.max() > 1.05


def test_the_same_seed_gives_the_same_lights() -> None:
    a, b = (random_lights(2, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(a.levels, b.levels)
    assert not torch.equal(a.levels, random_lights(2, torch.Generator().manual_seed(4)).levels)
