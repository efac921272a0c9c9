"""Simplification on a device against the CPU's, mesh by mesh; as a program, in Triton's interpreter."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np

from tests.mesh.shapes import grid
from voxlume.mesh import collapse_triton
from voxlume.mesh.simplify import Reduction
from voxlume.mesh.simplify_triton import DeviceReduction, bumps


def meshes() -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray | None]]:
    """Names, points, faces, colours."""
    points, faces, colors = bumps(6)
    yield "sheet of two colours", points, faces, colors
    # Windings that disagree, an upright sheet on the seam (edges of three faces), some faces twice.
    points, faces = grid(4)
    points = points / 2 + np.random.default_rng(0).normal(0, 0.02, points.shape)
    wrong = faces.copy()
    wrong[::7] = wrong[::7, ::-1]
    seam = np.arange(5) * 5
    upright = np.where(np.isin(faces, seam), faces, faces + len(points))
    tangle = np.concatenate([wrong, upright, faces[:6]]).astype(np.int32)
    yield "tangle", np.concatenate([points, points[:, [0, 2, 1]] - [0, 0, 0.1]]), tangle, None


def cases(device: str, rounds: int) -> Iterator[tuple[str, float]]:
    """Names and the largest difference of positions; infinite where meshes or edges are not alike."""
    for name, points, faces, colors in meshes():
        results = []
        for work in (Reduction(points, faces, colors), DeviceReduction(points, faces, colors, device=device)):
            for _ in range(rounds):
                if not (work.alive > 12 and work.collapse_round(12)):
                    break
            work.compact()
            results.append((*work.arrays(), *work.edges()))
        one, two = results
        same = all(np.array_equal(a, b) for a, b in zip(one[1:], two[1:], strict=True))
        assert len(one[1]) < len(faces)
        yield name, float(np.abs(one[0] - two[0]).max()) if same else float("inf")


if __name__ == "__main__":
    collapse_triton.LANES = 256
    print(json.dumps(list(cases("cpu", 2))))
