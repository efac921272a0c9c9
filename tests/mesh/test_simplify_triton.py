"""The kernels that simplify: interpreted on the CPU, compiled on a GPU where there is one."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

from tests.interpreter import interpreted, needs_gpu, needs_triton
from voxlume.mesh import simplify as simplify_module
from voxlume.mesh.edges import edge_table
from voxlume.mesh.simplify import Reduction, simplify


@needs_triton
def test_kernels_agree_with_their_twins_in_the_interpreter() -> None:
    results = json.loads(interpreted("-m", "tests.mesh.collapse_cases"))
    assert len(results) == 2
    assert [(name, error) for name, error in results if not error <= 1e-12] == []


@pytest.mark.gpu
@needs_gpu
def test_kernels_agree_with_their_twins_on_the_gpu() -> None:
    from tests.mesh.collapse_cases import cases

    assert [(name, error) for name, error in cases("cuda", 100) if not error <= 1e-12] == []


@needs_triton
def test_edges_on_the_device_are_those_of_the_table() -> None:
    import torch

    from voxlume.mesh.simplify_triton import edges_of

    # Borders, edges of two and of many faces, either winding.
    faces = (
        np.random.default_rng(0).permuted(np.tile(np.arange(40), (300, 1)), axis=1)[:, :3].astype(np.int32)
    )
    expected = edge_table(faces, 40)
    _, order, starts = edges_of(torch.as_tensor(faces))
    np.testing.assert_array_equal(order.numpy(), expected.half_edges)
    np.testing.assert_array_equal(starts.numpy(), expected.start[:-1])


@pytest.mark.gpu
@needs_gpu
def test_a_mesh_of_many_faces_is_reduced_alike_on_the_gpu() -> None:
    from voxlume.mesh.simplify_triton import bumps

    points, faces, colors = bumps(300)
    expected = simplify(points, faces, 20_000, colors=colors)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = [simplify(points, faces, 20_000, colors=colors, device="cuda") for _ in range(2)]
    np.testing.assert_array_equal(found[0].faces, expected.faces)
    np.testing.assert_allclose(found[0].vertices, expected.vertices, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(found[0].vertices, found[1].vertices)


@needs_triton
def test_wrong_kernels_are_switched_off_with_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    from voxlume.mesh import simplify_triton

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("LLVM ERROR: no such instruction\nand a long dump")

    monkeypatch.setattr(simplify_triton, "DeviceReduction", broken)
    with pytest.warns(RuntimeWarning, match="RuntimeError: LLVM ERROR: no such instruction$"):
        assert simplify_module._work_on("cuda:99") is Reduction
