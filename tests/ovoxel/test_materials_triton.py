"""The kernels that find voxels' materials: interpreted on the CPU, compiled on a GPU where there is one."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch

from tests.interpreter import interpreted, needs_gpu, needs_triton
from tests.ovoxel.material_cases import TOLERANCE, asset, cases
from voxlume.asset import Asset
from voxlume.backend import kernels
from voxlume.ovoxel import materials
from voxlume.ovoxel.voxelize import voxelize_asset


@needs_triton
def test_kernels_agree_with_their_twins_in_the_interpreter() -> None:
    results = json.loads(interpreted("-m", "tests.ovoxel.material_cases"))
    assert len(results) >= 20
    assert [(name, error) for name, error in results if not error <= TOLERANCE] == []


@pytest.mark.gpu
@needs_gpu
def test_kernels_agree_with_their_twins_on_the_gpu() -> None:
    results = list(cases(torch.device("cuda")))
    assert [(name, error) for name, error in results if not error <= TOLERANCE] == []


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("choice", ["auto", "reference"])
def test_voxels_are_the_same_on_the_gpu(seed: int, choice: str) -> None:
    scene = asset(seed, colored=seed == 1, painted=seed == 2)
    expected = voxelize_asset(scene, 60)
    with kernels(choice), warnings.catch_warnings():  # type: ignore[arg-type]
        warnings.simplefilter("error")
        found = voxelize_asset(scene, 60, device="cuda")
    np.testing.assert_array_equal(found.coords, expected.coords)
    np.testing.assert_array_equal(found.intersected, expected.intersected)
    np.testing.assert_allclose(found.dual_vertices, expected.dual_vertices, rtol=0, atol=1e-6)
    assert found.attributes is not None
    assert expected.attributes is not None
    # A nearest texel or an alpha at its cut-off may fall to the other side by a rounding.
    close = (np.abs(found.attributes - expected.attributes) <= 1e-5).all(1)
    assert close.mean() > 0.9999


@pytest.mark.gpu
@needs_gpu
def test_materials_repeat_exactly() -> None:
    scene = asset(5, colored=True, painted=True)
    first, second = (voxelize_asset(scene, 50, device="cuda") for _ in range(2))
    np.testing.assert_array_equal(first.attributes, second.attributes)


def test_results_of_the_twin_and_of_all_cores_agree() -> None:
    """The path that ``device='cuda'`` takes, walked on the CPU."""
    from tests.ovoxel.test_voxelize import check_twin
    from voxlume.texture import MaterialSampler

    scene = asset(7, colored=True, painted=True)
    sampler = MaterialSampler(scene)
    vertices = scene.placement().to_model(sampler.vertices).astype(np.float32)
    check_twin(vertices, sampler.surface.faces, 24, sampler, weld=True)


def test_wrong_kernels_are_switched_off_with_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(materials, "check_kernels", lambda _: float("nan"))
    device = torch.device("cuda", 99)
    with pytest.warns(RuntimeWarning, match="difference nan") as caught:
        assert not materials._kernels_are_right(device)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not materials._kernels_are_right(device)


def test_kernels_that_do_not_compile_count_as_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: torch.device) -> float:
        raise RuntimeError("LLVM ERROR: no such instruction\nand a long dump")

    monkeypatch.setattr(materials, "check_kernels", broken)
    with pytest.warns(RuntimeWarning, match="RuntimeError: LLVM ERROR: no such instruction$"):
        assert not materials._kernels_are_right(torch.device("cuda", 98))


def test_bounds_ignore_vertices_without_a_face() -> None:
    scene = asset(1, colored=False, painted=False, textured=False)
    mesh = scene.meshes[0]
    few = Asset((type(mesh)(np.concatenate([mesh.vertices, [[1e9, 0, 0]]]), mesh.faces[:2]),))
    used = mesh.vertices[:6]
    np.testing.assert_array_equal(few.bounds(), [used.min(0), used.max(0)])
