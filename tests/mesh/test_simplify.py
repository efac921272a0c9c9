from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from tests.mesh.shapes import area_vectors, cube, cylinder, edge_counts, grid, sphere, together, volume
from tests.paths import ROOT
from voxlume.errors import AssetError, Cancelled
from voxlume.mesh.clean import clean
from voxlume.mesh.edges import edge_table
from voxlume.mesh.quadric import collapse_target, collapse_target_reference
from voxlume.mesh.simplify import Reduction, Simplified, simplify
from voxlume.ovoxel.extract import extract_mesh
from voxlume.ovoxel.voxelize import voxelize_surface


def shape(result: Simplified) -> tuple[np.ndarray, np.ndarray]:
    return result.vertices, result.faces


@pytest.mark.parametrize("budget", [4000, 1000, 100, 12])
def test_cube_keeps_its_edges_and_corners_exactly(budget: int) -> None:
    result = simplify(*cube(32), budget)
    assert len(result.faces) in (budget - 1, budget)
    assert edge_counts(shape(result)) == {2: len(result.faces) * 3 // 2}
    assert np.abs(np.abs(result.vertices).max(axis=1) - 0.5).max() < 1e-9
    assert volume(shape(result)) == pytest.approx(1, abs=1e-9)
    corners = {tuple(p) for p in np.round(result.vertices, 9) if (np.abs(p) > 0.5 - 1e-9).all()}
    assert len(corners) == 8


def test_no_face_of_a_plane_flips_and_its_hole_keeps_its_border() -> None:
    vertices, faces = grid(40)
    middle = vertices[faces].mean(axis=1)
    hole = (np.abs(middle[:, 0] - 0.5) < 0.2) & (np.abs(middle[:, 1] - 0.4) < 0.1)
    mesh = vertices, faces[~hole]
    result = simplify(*mesh, 60)
    vectors = area_vectors(shape(result))
    assert (vectors[:, 2] > 0).all()
    # The square less the hole, and no border has moved: any bite or bulge changes the area.
    assert vectors[:, 2].sum() == pytest.approx(area_vectors(mesh)[:, 2].sum(), abs=1e-9)
    assert np.abs(result.vertices[:, 2]).max() < 1e-12


def test_sphere_stays_within_the_error_of_its_edges() -> None:
    mesh = sphere(40)
    result = simplify(*mesh, 1000)
    assert len(result.faces) in (999, 1000)
    radius = np.linalg.norm(result.vertices, axis=1)
    # Chords as long as those of 1000 equal triangles lie within about 1 % of the radius.
    assert np.abs(radius / 0.5 - 1).max() < 0.01
    assert volume(shape(result)) == pytest.approx(volume(mesh), rel=0.005)
    normals, middle = area_vectors(shape(result)), result.vertices[result.faces].mean(axis=1)
    cos = (normals * middle).sum(1) / np.linalg.norm(normals, axis=1) / np.linalg.norm(middle, axis=1)
    assert cos.min() > 0.8
    assert edge_counts(shape(result)) == {2: len(result.faces) * 3 // 2}


def test_open_cylinder_keeps_its_rims_round() -> None:
    mesh = cylinder(64, 64)
    result = simplify(*mesh, 400)
    rim = result.vertices[np.isin(result.vertices[:, 2].round(9), [0, 1])]
    assert len(rim) >= 24
    assert np.abs(np.linalg.norm(rim[:, :2], axis=1) / 0.2 - 1).max() < 0.02
    assert result.vertices[:, 2].min() == pytest.approx(0, abs=1e-6)
    assert result.vertices[:, 2].max() == pytest.approx(1, abs=1e-6)


def test_thin_double_walls_stay_two() -> None:
    front, back = grid(40), grid(40)
    back = back[0] + [0, 0, -1e-4], back[1][:, ::-1]
    result = simplify(*together(front, back), 200)
    upper = result.vertices[result.faces][..., 2].mean(axis=1) > -0.5e-4
    vectors = area_vectors(shape(result))
    assert vectors[upper, 2].sum() == pytest.approx(1, abs=1e-6)
    assert vectors[~upper, 2].sum() == pytest.approx(-1, abs=1e-6)


def test_three_sheets_at_one_edge_stay_together() -> None:
    vertices, faces = grid(30)
    upright = vertices[:, [2, 1, 0]] + [0.5, 0, 0]
    both, joint = together((vertices, faces), (upright, faces))
    places, number = np.unique(np.round(both, 9), axis=0, return_inverse=True)
    mesh = places, number.reshape(-1)[joint].astype(np.int32)
    assert edge_counts(mesh)[3] == 30
    result = simplify(*mesh, 300)
    crossing = np.isclose(result.vertices[:, 0], 0.5) & np.isclose(result.vertices[:, 2], 0)
    assert edge_counts(shape(result))[3] == crossing.sum() - 1
    assert max(edge_counts(shape(result))) == 3
    flat = np.abs(result.vertices[:, 2]) < 1e-9
    assert (flat | np.isclose(result.vertices[:, 0], 0.5)).all()


def test_walls_thinner_than_a_voxel_stay_sound() -> None:
    """A tilted plate whose two sides share their voxels: edges of three and four faces where they meet."""
    vertices, faces = cube(8)
    turn, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))
    plate = (vertices * [0.7, 0.5, 0.012]) @ turn.T
    coords, dual, intersected, _ = voxelize_surface(plate.astype(np.float32), faces, 96)
    cleaned = clean(*extract_mesh(coords, dual, intersected, 96), voxel=1 / 96)
    mesh = cleaned.vertices, cleaned.faces
    assert max(edge_counts(mesh)) > 2
    for budget in (500, 60):
        result = simplify(*mesh, budget)
        assert 0.97 * budget <= len(result.faces) <= budget
        table = edge_table(result.faces, len(result.vertices))
        pair = table.start[:-1][table.counts() == 2]
        tail = result.faces.reshape(-1)[table.half_edges]
        assert (tail[pair] != tail[pair + 1]).all()
        assert np.linalg.norm(area_vectors(shape(result)), axis=1).min() > 0
        if budget == 500:
            assert np.ptp(result.vertices @ turn, axis=0) == pytest.approx([0.7, 0.5, 0.012], abs=1 / 96)


def test_material_border_stays_in_place() -> None:
    """A disc of one colour on a plane of another: the flat plane's budget goes to the colour's border."""
    vertices, faces = grid(64)
    inside = np.linalg.norm(vertices[:, :2] - 0.5, axis=1) < 0.3
    colors = np.where(inside[:, None], [0.9, 0.1, 0.1], [0.1, 0.1, 0.9])
    result = simplify(vertices, faces, 600, colors=colors)
    near = np.abs(np.linalg.norm(vertices[:, :2] - 0.5, axis=1) - 0.3) < 1 / 64
    kept = np.unique(result.origin[near])
    assert len(kept) > 100
    moved = np.linalg.norm(result.vertices[result.origin[near]] - vertices[near], axis=1)
    radial = np.abs(np.linalg.norm(result.vertices[kept][:, :2] - 0.5, axis=1) - 0.3)
    assert radial.max() < 1.5 / 64
    assert np.median(moved) < 2 / 64
    plain = simplify(vertices, faces, 600)
    assert len(np.unique(plain.origin[near])) < len(kept) / 2


@pytest.mark.parametrize("budget", [0, 3, -5])
def test_budget_too_small(budget: int) -> None:
    with pytest.raises(AssetError, match="too small"):
        simplify(*cube(2), budget)


def test_budget_above_the_input_changes_nothing() -> None:
    vertices, faces = cube(4)
    result = simplify(vertices, faces, 10**6)
    np.testing.assert_array_equal(result.vertices[result.faces], vertices[faces])
    np.testing.assert_array_equal(result.origin, np.arange(len(vertices)))


@pytest.mark.parametrize(("share", "rebuilt"), [(0.6, True), (0.74, False)])
def test_refused_edges_are_not_tried_again_for_the_last_faces(
    share: float, rebuilt: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rebuilds = []
    monkeypatch.setattr(Reduction, "_rebuild", lambda work: rebuilds.append(work.alive))
    vertices, faces = sphere(40)
    budget = int(share * len(faces))
    assert budget - 1 <= len(simplify(vertices, faces, budget).faces) <= budget
    assert bool(rebuilds) == rebuilt


def test_many_small_parts_reach_a_budget_below_their_number() -> None:
    small = cube(2)
    parts = [(small[0] * (1 + i % 5) + [6.0 * i, 0, 0], small[1]) for i in range(50)]
    result = simplify(*together(*parts), 100)
    assert 98 <= len(result.faces) <= 100


def test_bad_input() -> None:
    vertices, faces = cube(4)
    broken = vertices.copy()
    broken[7, 1] = np.nan
    with pytest.raises(AssetError, match="not finite"):
        simplify(broken, faces, 20)
    with pytest.raises(AssetError, match="does not exist"):
        simplify(vertices[:10], faces, 20)


def test_it_stops_when_asked() -> None:
    with pytest.raises(Cancelled):
        simplify(*cube(16), 100, progress=lambda done, total, what: False)


@pytest.mark.parametrize(("scale", "shift"), [(1e-6, 0.0), (1e6, 0.0), (1.0, 1e5)])
def test_units_do_not_matter(scale: float, shift: float) -> None:
    vertices, faces = sphere(16)
    plain = simplify(vertices, faces, 500)
    other = simplify(vertices * scale + shift, faces, 500)
    assert len(other.faces) == len(plain.faces)
    assert volume(((other.vertices - shift) / scale, other.faces)) == pytest.approx(
        volume(shape(plain)), rel=1e-3
    )


def test_where_vertices_went() -> None:
    """Every vertex of a fine sphere went to one that is not far away."""
    vertices, faces = sphere(24)
    result = simplify(vertices, faces, 800)
    assert result.origin.min() >= 0
    assert set(result.origin) == set(range(len(result.vertices)))
    assert np.linalg.norm(result.vertices[result.origin] - vertices, axis=1).max() < 0.15


def test_the_number_of_threads_changes_nothing() -> None:
    code = """
import hashlib
from tests.mesh.shapes import sphere
from voxlume.mesh.simplify import simplify
r = simplify(*sphere(30), 1000)
print(hashlib.sha256(r.vertices.tobytes() + r.faces.tobytes() + r.origin.tobytes()).hexdigest())
"""
    digests = set()
    for threads in ("1", "2"):
        environment = {**os.environ, "NUMBA_NUM_THREADS": threads, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
            cwd=ROOT,
        )
        digests.add(done.stdout)
    assert len(digests) == 1


def test_target_against_its_slow_twin() -> None:
    random = np.random.default_rng(0)
    from numba import njit

    @njit
    def fast(q: np.ndarray, p: np.ndarray, a: int, b: int) -> tuple[float, float, float, float]:
        return collapse_target(q, p, a, b)

    for case in range(200):
        points = random.normal(size=(2, 3))
        quadrics = np.zeros((2, 10))
        # From a single plane, which leaves two directions free, to many.
        for v in range(2):
            for _ in range(1 + case % 4):
                n = random.normal(size=3)
                n /= np.linalg.norm(n)
                p = np.append(n, -n @ points[v])
                quadrics[v] += (
                    random.random()
                    * np.outer(p, p)[[0, 0, 0, 1, 1, 2, 0, 1, 2, 3], [0, 1, 2, 1, 2, 2, 3, 3, 3, 3]]
                )
        np.testing.assert_allclose(
            fast(quadrics, points, 0, 1), collapse_target_reference(quadrics, points, 0, 1), atol=1e-9
        )
