"""Small dual grids for tests: golden ones from files, others from a function's sign."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.paths import PARITY_DIR, golden_tensors


@dataclass(frozen=True)
class DualGrid:
    coords: NDArray[np.int32]
    dual_vertices: NDArray[np.float32]
    intersected: NDArray[np.bool_]
    resolution: int


def golden_cases(name: str) -> list[str]:
    """The cases a golden file lists, or one that skips where the file is missing."""
    listing = PARITY_DIR / f"{name}.json"
    if not listing.is_file():
        return [pytest.param("missing", marks=pytest.mark.skip(f"no golden data at {listing}"))]  # type: ignore[list-item]
    return list(json.loads(listing.read_text())["cases"])


def golden(name: str, case: str) -> tuple[dict[str, NDArray], DualGrid]:
    """All arrays of one case, and its dual grid."""
    data = golden_tensors(name)
    assert data is not None, f"{name}.json has no tensors beside it"
    arrays = {
        key[len(f"io.{case}.") :]: value for key, value in data.items() if key.startswith(f"io.{case}.")
    }
    grid = DualGrid(
        arrays["coords"], arrays["dual_vertices"], arrays["intersected"], int(case.rsplit(".", 1)[1])
    )
    return arrays, grid


def grid_of_sign(inside: NDArray[np.bool_]) -> DualGrid:
    """The dual grid of the surface between the True and False corners of an (N+1)^3 lattice."""
    crossings = []
    for axis in range(3):
        low = np.argwhere(np.diff(inside, axis=axis))
        low[:, [a for a in range(3) if a != axis]] -= 1
        crossings.append(low)
    return _grid_of_crossings(crossings, len(inside) - 1)


def grid_of_triangles(triangles: NDArray[np.float64], n: int) -> DualGrid:
    """The dual grid of triangles (m, 3, 3) in the model frame, not on lattice lines."""
    crossings = []
    for axis in range(3):
        found = []
        for corners in (triangles + 0.5) * n:
            flat = np.delete(np.roll(corners, -axis, 1), 0, 1)
            low, high = np.ceil(flat.min(0)).astype(int), np.floor(flat.max(0)).astype(int)
            for p in range(low[0], high[0] + 1):
                for q in range(low[1], high[1] + 1):
                    weights = np.linalg.solve(np.vstack([flat.T, np.ones(3)]), [p, q, 1])
                    if weights.min() >= 0:
                        found.append(np.roll([int(weights @ corners[:, axis]), p - 1, q - 1], axis))
        crossings.append(np.array(found).reshape(-1, 3))
    return _grid_of_crossings(crossings, n)


def _grid_of_crossings(crossings: Sequence[NDArray[np.integer]], n: int) -> DualGrid:
    """Per axis the voxels that get the flag; dual vertices are random inside the voxels."""
    found: dict[tuple[int, ...], list[bool]] = {}
    for axis, lows in enumerate(crossings):
        for low in lows:
            for step in ((0, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1)):
                voxel = low + np.roll(step, axis)
                if voxel.min() >= 0 and voxel.max() < n:
                    flags = found.setdefault(tuple(voxel.tolist()), [False] * 3)
                    flags[axis] |= not any(step)
    voxels = sorted(found)
    dual = np.random.default_rng(0).uniform(0.1, 0.9, (len(voxels), 3)).astype(np.float32)
    return DualGrid(np.array(voxels, np.int32), dual, np.array([found[v] for v in voxels]), n)


def ball(n: int = 16, radius: float = 0.35, hollow: float = 0.0) -> DualGrid:
    """A sphere about the middle of an n^3 grid, with a spherical hole if ``hollow`` > 0."""
    axis = np.linspace(-0.5, 0.5, n + 1)
    r = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None] ** 2)
    return grid_of_sign((r < radius) & (r >= hollow))
