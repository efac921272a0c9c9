from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.ovoxel.samples import DualGrid, ball, golden, golden_cases, grid_of_sign, grid_of_triangles
from voxlume.ovoxel.extract import extract_mesh


def oriented(grid: DualGrid) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    vertices, faces = extract_mesh(grid.coords, grid.dual_vertices, grid.intersected, grid.resolution)
    return vertices.astype(np.float64), faces


def wrong_edges(faces: NDArray[np.int32]) -> int:
    """Edges of exactly two faces that both run along them in the same direction."""
    half = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    _, edge, count = np.unique(np.sort(half, 1), axis=0, return_inverse=True, return_counts=True)
    balance = np.bincount(edge, weights=np.where(half[:, 0] < half[:, 1], 1, -1))
    return int(((count == 2) & (balance != 0)).sum())


def volume(vertices: NDArray[np.float64], faces: NDArray[np.int32]) -> float:
    a, b, c = vertices[faces].transpose(1, 0, 2)
    return float((np.cross(a, b) * c).sum() / 6)


@pytest.mark.parametrize("case", golden_cases("flexible_dual_grid"))
def test_winding_is_consistent(case: str) -> None:
    _, grid = golden("flexible_dual_grid", case)
    _, faces = extract_mesh(grid.coords, grid.dual_vertices, grid.intersected, grid.resolution, orient=False)
    assert wrong_edges(faces) > 0
    assert wrong_edges(oriented(grid)[1]) == 0


def test_closed_surface_faces_outwards() -> None:
    vertices, faces = oriented(ball(24, 0.35))
    assert volume(vertices, faces) == pytest.approx(4 / 3 * np.pi * 0.35**3, rel=0.1)


def test_every_shell_faces_outwards() -> None:
    vertices, faces = oriented(ball(24, 0.4, 0.2))
    assert volume(vertices, faces) == pytest.approx(4 / 3 * np.pi * (0.4**3 + 0.2**3), rel=0.1)


def test_thin_closed_plate_faces_outwards() -> None:
    inside = np.zeros((41, 41, 41), np.bool_)
    inside[4:36, 4:36, 20] = True
    grid = grid_of_sign(inside)
    dual = np.full_like(grid.dual_vertices, 0.5)
    vertices, faces = oriented(DualGrid(grid.coords, dual, grid.intersected, grid.resolution))
    assert volume(vertices, faces) == pytest.approx(32 * 32 / 40**3, rel=1e-3)


def test_open_bowl_faces_its_convex_side() -> None:
    grid = ball(24, 0.4)
    low = grid.coords[:, 2] < 12
    vertices, faces = oriented(
        DualGrid(grid.coords[low], grid.dual_vertices[low], grid.intersected[low], grid.resolution)
    )
    a, b, c = vertices[faces].transpose(1, 0, 2)
    assert ((np.cross(b - a, c - a) * (a - [0, 0, 0])).sum(1) > 0).mean() > 0.95


def test_flat_sheets_face_away_from_each_other() -> None:
    coords, flags = [], []
    for height in (2, 12):
        for x in range(10):
            for y in range(10):
                coords.append((x, y, height))
                flags.append((False, False, True))
    dual = np.full((len(coords), 3), 0.5, np.float32)
    vertices, faces = extract_mesh(np.array(coords, np.int32), dual, np.array(flags), 16)
    a, b, c = vertices[faces].transpose(1, 0, 2)
    normal = np.cross(b - a, c - a)[:, 2]
    assert (np.sign(normal) == np.sign(a[:, 2] + 0.5 - 7.5 / 16)).all()


def test_one_flat_sheet_faces_up() -> None:
    coords = np.array([(x, y, 3) for x in range(6) for y in range(6)], np.int32)
    flags = np.tile([False, False, True], (len(coords), 1))
    vertices, faces = extract_mesh(coords, np.full((36, 3), 0.5, np.float32), flags, 8)
    a, b, c = vertices[faces].transpose(1, 0, 2)
    assert (np.cross(b - a, c - a)[:, 2] > 0).all()


def test_outside_decides_for_a_bowl_turned_inside_out() -> None:
    # Two shallow bowls back to back: seen from outside their concave sides are in front.
    x, y = np.meshgrid(np.arange(20), np.arange(20), indexing="ij")
    sag = ((x - 9.5) ** 2 + (y - 9.5) ** 2) / 40
    points, flags = [], []
    for middle, direction in ((12, -1), (6, 1)):
        height = middle - direction * (sag.max() - sag)
        points.append(np.stack([x + 0.5, y + 0.5, height], -1).reshape(-1, 3))
        flags.append(np.tile([False, False, True], (400, 1)))
    position = np.concatenate(points)
    layer = np.repeat([12, 6], 400)
    coords = np.stack([position[:, 0], position[:, 1], layer], 1).astype(np.int32)
    dual = (position - coords).astype(np.float32)
    vertices, faces = extract_mesh(coords, dual, np.concatenate(flags), 32)
    a, b, c = vertices[faces].transpose(1, 0, 2)
    normal = np.cross(b - a, c - a)[:, 2]
    upper = coords[faces[:, 0], 2] == 12
    assert (normal[upper] > 0).all()
    assert (normal[~upper] < 0).all()


def test_moebius_strip_stays_wrong_along_one_cut() -> None:
    u, t = np.meshgrid(np.linspace(0, 2 * np.pi, 101), np.linspace(-0.123, 0.123, 5), indexing="ij")
    r = 0.3 + t * np.cos(u / 2)
    strip = np.stack([r * np.cos(u) + 0.0137, r * np.sin(u) + 0.0071, t * np.sin(u / 2) + 0.0093], -1)
    a, b, c, d = strip[:-1, :-1], strip[1:, :-1], strip[1:, 1:], strip[:-1, 1:]
    triangles = np.concatenate([np.stack([a, b, c], 2), np.stack([a, c, d], 2)]).reshape(-1, 3, 3)
    grid = grid_of_triangles(triangles, 32)
    _, faces = extract_mesh(grid.coords, grid.dual_vertices, grid.intersected, 32, orient=False)
    assert wrong_edges(faces) > 100
    # A cut across the strip is about eight voxels wide.
    assert 0 < wrong_edges(oriented(grid)[1]) < 40
