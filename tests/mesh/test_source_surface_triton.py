"""The kernel that finds nearest points: interpreted on the CPU, compiled on a GPU where there is one."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

from tests.interpreter import interpreted, needs_gpu, needs_triton
from voxlume.mesh.textured import TexturedOptions, textured_asset


@needs_triton
def test_kernel_agrees_with_its_twin_in_the_interpreter() -> None:
    results = json.loads(interpreted("-m", "tests.mesh.nearest_cases"))
    assert len(results) == 5
    assert [(name, wrong) for name, wrong in results if wrong > 0] == []


@pytest.mark.gpu
@needs_gpu
def test_kernel_agrees_with_its_twin_on_the_gpu() -> None:
    from tests.mesh.nearest_cases import cases

    # Two faces may be equally near but for a rounding.
    assert [(name, wrong) for name, wrong in cases("cuda", 60, 50_000) if wrong > 1e-3] == []


@pytest.mark.gpu
@needs_gpu
def test_an_asset_is_the_same_on_the_gpu() -> None:
    from tests.mesh.nearest_cases import walls

    options = {"faces": 8000, "texture_size": 256, "normal_map": True}
    expected = textured_asset(walls(100), TexturedOptions(**options, device="cpu"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, again = (textured_asset(walls(100), TexturedOptions(**options, device="cuda")) for _ in "12")
    np.testing.assert_array_equal(found.meshes[0].faces, expected.meshes[0].faces)
    np.testing.assert_allclose(found.meshes[0].vertices, expected.meshes[0].vertices, rtol=0, atol=1e-6)
    for name in ("base_color_texture", "metallic_roughness_texture", "normal_texture"):
        one, two, three = (getattr(asset.materials[0], name).image for asset in (found, expected, again))
        assert (np.abs(one.astype(int) - two) <= 1).mean() > 0.999
        np.testing.assert_array_equal(one, three)


@needs_triton
def test_a_wrong_kernel_is_switched_off_with_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.mesh.nearest_cases import walls
    from voxlume.mesh import source_surface_triton
    from voxlume.mesh.source_surface import SourceSurface

    def broken(*_: object) -> None:
        raise RuntimeError("LLVM ERROR: no such instruction\nand a long dump")

    monkeypatch.setattr(source_surface_triton, "DeviceSurface", broken)
    with pytest.warns(RuntimeWarning, match="RuntimeError: LLVM ERROR: no such instruction$"):
        assert source_surface_triton.surface_on("cuda:99", SourceSurface(walls(8))) is None
