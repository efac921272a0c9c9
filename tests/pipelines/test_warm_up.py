"""After warming up, nothing is left to compile for generating, decoding and drawing."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from numba.core.dispatcher import Dispatcher

from voxlume.app.cli import main
from voxlume.mesh.clean import clean
from voxlume.mesh.read import load
from voxlume.ovoxel.mend import mended
from voxlume.pipelines.warm_up import small_object, untidy, warm_up


def compiled() -> dict[str, int]:
    """How many versions there are of every kernel of the package."""
    kernels = {
        f"{module.__name__}.{name}": value
        for module in list(sys.modules.values())
        if module is not None and module.__name__.startswith("voxlume.")
        for name, value in vars(module).items()
        if isinstance(value, Dispatcher)
    }
    return {name: len(kernel.signatures) for name, kernel in kernels.items()}


def test_nothing_is_left_to_compile(tmp_path: Path) -> None:
    warm_up()
    before = compiled()
    assert sum(before.values()) > 50
    ball = small_object(0.6)
    logits = np.random.default_rng(1).normal(0, 4, (len(ball), 3)).astype(np.float32)
    assert len(mended(ball, logits)) > len(ball)
    noise = np.random.default_rng(0).uniform(0.5, 1, (len(ball), 6)).astype(np.float32)
    rough = replace(ball, attributes=noise)
    opaque = replace(
        ball, attributes=np.ones((len(ball), 6), np.float32), dual_vertices=ball.dual_vertices * 0.8
    )
    for number, voxels in enumerate((rough, opaque)):
        voxels.save(tmp_path / f"{number}.npz")
        out = str(tmp_path / f"{number}.glb")
        assert main(["decode", str(tmp_path / f"{number}.npz"), out, "--texture-size", "64"]) == 0
        assert main(["render", out, str(tmp_path / f"{number}.png"), "--size", "48"]) == 0
        cleaned = clean(*untidy(load(out).meshes[0], 5))
        assert cleaned.flipped
        assert cleaned.duplicate
    after = compiled()
    assert {name for name, count in after.items() if count > before.get(name, 0)} == set()
