"""Surfaces that decoders predict, mended: against a slow twin, and on what must and must not change."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import trimesh
from numpy.typing import NDArray

from voxlume.asset import Asset, Mesh
from voxlume.mesh.edges import edge_table
from voxlume.ovoxel import mend
from voxlume.ovoxel.extract import RING_AXES
from voxlume.ovoxel.grid import OVoxel
from voxlume.ovoxel.mend import mended, with_missing_voxels
from voxlume.ovoxel.voxelize import voxelize_asset

SURE = 4.0
"""A logit that this decoder is sure of."""


def ball(resolution: int = 24) -> OVoxel:
    sphere = trimesh.creation.icosphere(3)
    vertices = sphere.vertices.astype(np.float32)
    return voxelize_asset(Asset((Mesh(vertices=vertices, faces=sphere.faces.astype(np.int32)),)), resolution)


def sheet(resolution: int = 24) -> OVoxel:
    """An open square, tilted a little."""
    vertices = np.array([[-1, 0, -1], [1, 0.1, -1], [1, 0.2, 1], [-1, 0.1, 1]], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    return voxelize_asset(Asset((Mesh(vertices=vertices, faces=faces),)), resolution)


def logits_of(ovoxel: OVoxel) -> NDArray[np.float32]:
    return np.where(ovoxel.intersected, np.float32(SURE), np.float32(-SURE))


def side_counts(ovoxel: OVoxel) -> NDArray[np.int64]:
    mesh = ovoxel.to_mesh()
    return edge_table(mesh.faces, len(mesh.vertices)).counts()


def open_sides(ovoxel: OVoxel) -> int:
    return int((side_counts(ovoxel) == 1).sum())


def inner_quads(ovoxel: OVoxel) -> list[tuple[int, int]]:
    """Crossed edges whose quad shares every side with one other quad."""
    quads = {}
    numbers = {tuple(c): i for i, c in enumerate(ovoxel.coords.tolist())}
    sides: dict[tuple[int, int], int] = {}
    for row, axis in np.argwhere(ovoxel.intersected).tolist():
        ring = ring_of(numbers, ovoxel.coords[row].tolist(), axis)
        if ring is not None:
            quads[row, axis] = ring
            for side in ring:
                sides[side] = sides.get(side, 0) + 1
    return [where for where, ring in quads.items() if all(sides[side] == 2 for side in ring)]


def ring_of(numbers: dict[tuple[int, ...], int], coord: list[int], axis: int) -> list[tuple[int, int]] | None:
    """The four sides of the quad around an edge, as pairs of voxels; None without all four voxels."""
    s, t = (np.eye(3, dtype=int)[a] for a in RING_AXES[axis])
    corners = [tuple((np.array(coord) + i * s + j * t).tolist()) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))]
    if any(c not in numbers for c in corners):
        return None
    rows = [numbers[c] for c in corners]
    return [tuple(sorted((rows[i], rows[(i + 1) % 4]))) for i in range(4)]  # type: ignore[misc]


def mended_reference(ovoxel: OVoxel, logits: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Slow twin of the changes of crossings, on voxels that lack none."""
    numbers = {tuple(c): i for i, c in enumerate(ovoxel.coords.tolist())}
    crossed = logits > 0
    rings = {
        (row, axis): ring_of(numbers, ovoxel.coords[row].tolist(), axis)
        for row, axis in product(range(len(ovoxel)), range(3))
    }
    changed = set()
    for _ in range(mend.SWEEPS):
        before = len(changed)
        for where, ring in rings.items():
            if ring is None or where in changed:
                continue
            counts = [sum(crossed[other] for other, o in rings.items() if o and side in o) for side in ring]
            odd = sum(count % 2 for count in counts)
            if crossed[where]:
                worth = mend.REMOVING * (2 * odd - 4) - logits[where]
            else:
                worth = mend.ADDING * (2 * odd - 4) + logits[where] + mend.CORNER * (odd >= 2)
            if worth > 0:
                crossed[where] = not crossed[where]
                changed.add(where)
        if len(changed) == before:
            break
    return crossed


@pytest.mark.parametrize("seed", range(3))
def test_against_the_slow_twin(seed: int) -> None:
    whole = ball(7)
    generator = np.random.default_rng(seed)
    logits = (logits_of(whole) + generator.normal(0, 3, whole.intersected.shape)).astype(np.float32)
    complete, logits = with_missing_voxels(replace(whole, intersected=logits > 0), logits)
    found = mended(complete, logits)
    np.testing.assert_array_equal(found.coords, complete.coords)
    np.testing.assert_array_equal(found.intersected, mended_reference(complete, logits))
    assert not np.array_equal(found.intersected, logits > 0)


def test_what_is_whole_stays() -> None:
    for surface in (ball(), sheet()):
        found = mended(surface, logits_of(surface))
        for name in ("coords", "dual_vertices", "intersected"):
            np.testing.assert_array_equal(getattr(found, name), getattr(surface, name))


def test_missing_quads_come_back() -> None:
    whole = ball()
    assert open_sides(whole) == 0
    generator = np.random.default_rng(0)
    lost = [inner_quads(whole)[i] for i in generator.choice(len(inner_quads(whole)), 25, replace=False)]
    logits = logits_of(whole)
    for where in lost:
        logits[where] = -1.0
    holed = replace(whole, intersected=logits > 0)
    assert open_sides(holed) > 60
    np.testing.assert_array_equal(mended(holed, logits).intersected, whole.intersected)
    # Of a hole that the decoder is sure of it keeps the hole.
    for where in lost:
        logits[where] = -20.0
    np.testing.assert_array_equal(mended(holed, logits).intersected, holed.intersected)


def floor(layers: int) -> OVoxel:
    """Twelve by twelve voxels, in their lowest layer a flat surface."""
    coords = np.argwhere(np.ones((12, 12, layers), np.bool_)).astype(np.int32) + np.int32(2)
    crossed = np.zeros((len(coords), 3), np.bool_)
    crossed[:, 2] = (coords[:, :2] < 13).all(1) & (coords[:, 2] == 2)
    return OVoxel(16, coords, np.full((len(coords), 3), 0.5, np.float32), crossed)


def test_quads_that_stand_up_go() -> None:
    whole = floor(2)
    standing = (whole.coords == [5, 6, 2]).all(1) | (whole.coords == [9, 8, 2]).all(1)
    for logit, stays in ((0.5, False), (10.0, True)):
        logits = logits_of(whole)
        logits[standing, 0] = logit
        rough = replace(whole, intersected=logits > 0)
        assert (side_counts(rough) == 3).sum() == 2
        expected = rough if stays else whole
        np.testing.assert_array_equal(mended(rough, logits).intersected, expected.intersected)


def test_missing_voxels_come_back() -> None:
    whole = ball()
    colors = np.linspace(0, 1, 6 * len(whole), dtype=np.float32).reshape(-1, 6)
    whole = replace(whole, attributes=colors, splitting_weights=np.ones(len(whole), np.float32))
    generator = np.random.default_rng(2)
    kept = np.ones(len(whole), np.bool_)
    kept[generator.choice(len(whole), 12, replace=False)] = False
    parts = ("coords", "dual_vertices", "intersected", "attributes", "splitting_weights")
    holed = replace(whole, **{name: getattr(whole, name)[kept] for name in parts})
    assert open_sides(holed) > 40
    found = mended(holed, logits_of(holed))
    assert open_sides(found) <= 2
    lost = {tuple(c) for c in whole.coords[~kept].tolist()}
    added = {tuple(c) for c in found.coords.tolist()} - {tuple(c) for c in holed.coords.tolist()}
    assert len(lost & added) >= 11
    keys = [tuple(c) for c in found.coords.tolist()]
    assert keys == sorted(set(keys))
    rows = {c: i for i, c in enumerate(keys)}
    true = {tuple(c): i for i, c in enumerate(whole.coords.tolist())}
    for coord in lost & added:
        assert found.attributes is not None
        assert found.splitting_weights is not None
        assert found.splitting_weights[rows[coord]] == pytest.approx(1)
        moved = found.dual_vertices[rows[coord]] - whole.dual_vertices[true[coord]]
        assert np.linalg.norm(moved) < 0.8
        assert ((found.attributes[rows[coord]] >= 0) & (found.attributes[rows[coord]] <= 1)).all()
    # What was there keeps what it carries.
    same = [rows[tuple(c)] for c in holed.coords.tolist()]
    for name in ("dual_vertices", "attributes", "splitting_weights"):
        np.testing.assert_array_equal(getattr(found, name)[same], getattr(holed, name))


def test_larger_holes_close_from_their_corners() -> None:
    """A hole of three by three quads in a sheet, of which the decoder thinks that they are nearly there."""
    surface = floor(1)
    logits = logits_of(surface)
    hole = ((surface.coords[:, :2] >= 6) & (surface.coords[:, :2] < 9)).all(1)
    assert hole.sum() == 9
    logits[hole, 2] = -0.5
    found = mended(replace(surface, intersected=logits > 0), logits)
    np.testing.assert_array_equal(found.intersected, surface.intersected)


def test_nothing_and_the_grid_s_end() -> None:
    nothing = OVoxel(8, np.zeros((0, 3), np.int32), np.zeros((0, 3), np.float32), np.zeros((0, 3), np.bool_))
    assert len(mended(nothing, np.zeros((0, 3), np.float32))) == 0
    corner = OVoxel(
        8, np.array([[7, 7, 7]], np.int32), np.full((1, 3), 0.5, np.float32), np.ones((1, 3), bool)
    )
    found = mended(corner, np.full((1, 3), SURE, np.float32))
    assert found.coords.tolist() == [[7, 7, 7]]  # nothing is added outside
