"""Comparison on pairs whose answer is known."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from rich.console import Console

from tests.render.shapes import box, painted, plain, quad, sphere
from voxlume.asset import Asset, Material, Mesh
from voxlume.errors import AssetError
from voxlume.evaluation.compare import Comparison, compare
from voxlume.evaluation.components import face_components, is_oriented
from voxlume.evaluation.surface import Surface

SAMPLES = 4000


def check(a: Asset, b: Asset, **options: int) -> Comparison:
    return compare(a, b, **({"resolution": 100, "samples": SAMPLES} | options))


def test_identical_is_zero() -> None:
    asset = plain(sphere(24), base_color_factor=(0.3, 0.5, 0.7, 1))
    found = check(asset, asset)
    assert found.a_to_b.max < 1e-6
    assert found.b_to_a.max < 1e-6
    assert set(found.f_score.values()) == {1.0}
    assert found.normal_consistency > 0.9999
    assert found.normal_same_side == 1
    assert all(error.mean < 1e-3 for error in found.material.values())
    assert found.lost_count == 0


def test_parallel_planes_are_their_distance_apart() -> None:
    found = check(plain(quad(2.0)), plain(quad(2.0, z=0.03)))
    # One voxel is 2 / (100 * 0.99999).
    for stats in (found.a_to_b, found.b_to_a):
        np.testing.assert_allclose([stats.mean, stats.p95, stats.p99, stats.max], 1.5, rtol=1e-4)
        np.testing.assert_allclose([stats.mean_percent, stats.max_percent], 1.5, rtol=1e-6)
    assert found.f_score["1 voxel"] == 0
    assert found.f_score["5 %"] == 1
    assert found.normal_consistency == pytest.approx(1)


def test_scaled_sphere() -> None:
    found = check(plain(sphere(96)), plain(sphere(96, radius=1.05)))
    np.testing.assert_allclose([found.a_to_b.mean, found.b_to_a.mean], 2.5, rtol=0.01)
    assert found.f_score["0.5 voxel"] == 0


def test_directions_are_told_apart() -> None:
    """Half of B is missing: A is far from B, B is not far from A."""
    whole, half = plain(quad(2.0)), plain(box((-1, -1, 0), (0, 1, 0)))
    found, back = check(whole, half), check(half, whole)
    assert found.b_to_a.max < 1e-6
    np.testing.assert_allclose(found.a_to_b.mean_percent, 12.5, rtol=0.01)
    np.testing.assert_allclose(back.b_to_a.mean_percent, found.a_to_b.mean_percent, rtol=0.02)
    assert back.a_to_b.max < 1e-6
    np.testing.assert_allclose(found.f_score["0.5 voxel"], 2 * 0.505 / 1.505, rtol=0.02)


def test_known_material_error() -> None:
    a = painted(quad(2.0), np.full((8, 8, 3), (100, 150, 200), np.uint8), metallic_factor=0.2)
    b = painted(
        quad(2.0), np.full((8, 8, 3), (110, 150, 180), np.uint8), metallic_factor=0.5, roughness_factor=0.8
    )
    found = check(a, b).material
    assert found["red"].mean == pytest.approx(10, abs=1e-3)
    assert found["green"].mean == pytest.approx(0, abs=1e-3)
    assert found["blue"].p95 == pytest.approx(20, abs=1e-3)
    assert found["base color"].mean == pytest.approx(10, abs=1e-3)
    assert found["metallic"].mean == pytest.approx(0.3 * 255, abs=1e-3)
    assert found["roughness"].mean == pytest.approx(0.2 * 255, abs=1e-3)
    assert found["alpha"].mean == 0


def test_texture_finer_than_a_voxel_counts_at_full_detail_only() -> None:
    board = np.indices((256, 256)).sum(0) % 2 * 255
    checked = painted(quad(2.0), np.repeat(board[..., None], 3, -1).astype(np.uint8))
    grey = painted(quad(2.0), np.full((4, 4, 3), 128, np.uint8))
    assert compare(checked, grey, resolution=32, samples=SAMPLES).material["red"].mean < 2
    found = compare(checked, grey, resolution=32, samples=SAMPLES, detail="texel")
    assert found.material["red"].mean > 25
    assert found.base_color_smooth is None or found.smooth_share < 0.2


def test_invisible_colour_is_no_error() -> None:
    image = np.zeros((4, 4, 4), np.uint8)
    a = painted(quad(2.0), image, alpha_mode="BLEND")
    b = painted(quad(2.0), image + np.array([200, 0, 0, 0], np.uint8), alpha_mode="BLEND")
    found = check(a, b)
    assert set(found.material) == {"alpha"}
    assert found.base_color_smooth is None


def test_back_to_back_sheets_keep_their_own_colours() -> None:
    """Red above, blue below, a tenth of a voxel apart: the nearest point is the wrong sheet."""

    def sheets(gap: float) -> Asset:
        top = quad(2.0, gap / 2)
        below = quad(2.0, -gap / 2)
        materials = tuple(
            Material(base_color_factor=c, metallic_factor=0) for c in ((1.0, 0, 0, 1.0), (0, 0, 1.0, 1.0))
        )
        return Asset(
            (
                Mesh(top.vertices, top.faces, material=0),
                Mesh(below.vertices, below.faces[:, ::-1].copy(), material=1),
            ),
            materials,
        )

    found = check(sheets(0.002), sheets(-0.001 + 0.0001))
    assert found.material["red"].mean < 1
    assert found.normal_same_side == 1


def test_lost_component_is_named() -> None:
    body, knob, dust = sphere(24), sphere(8, 0.05, (1.5, 0, 0)), sphere(4, 0.005, (0, 1.5, 0))
    whole = Asset((body, knob, dust))
    found = check(whole, Asset((body,)), resolution=128)
    assert (found.components, found.lost_count) == (2, 1)
    assert found.lost[0].center == pytest.approx((1.5, 0, 0), abs=1e-6)
    assert found.lost[0].size_voxels == pytest.approx(0.1 / found.voxel, rel=1e-3)
    assert check(whole, whole, resolution=128).lost_count == 0


def test_seams_do_not_split_components() -> None:
    mesh = sphere(8)
    soup = Mesh(
        mesh.vertices[mesh.faces].reshape(-1, 3),
        np.arange(3 * len(mesh.faces), dtype=np.int32).reshape(-1, 3),
    )
    surface = Surface(soup.vertices, soup.faces)
    assert face_components(surface).max() == 0
    assert is_oriented(surface)
    turned = soup.faces.copy()
    turned[::2] = turned[::2, ::-1]
    assert not is_oriented(Surface(soup.vertices, turned))


def test_samples_are_uniform_by_area_and_skip_empty_faces() -> None:
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0], [3, 0, 0], [0, 1, 0]])
    faces = np.array([[0, 1, 1], [0, 1, 2], [1, 1, 1], [3, 4, 5], [2, 2, 2]])
    surface = Surface(vertices, faces)
    points = surface.draw(10_000, 3)
    assert np.bincount(points.face, minlength=5).tolist() == [0, 2500, 0, 7500, 0]
    np.testing.assert_allclose(points.position[points.face == 1].mean(0), [1 / 3, 1 / 3, 0], atol=0.02)
    distance, found = surface.nearest(np.array([[0.2, 0.2, 0.5], [-1.0, 0, 0]]))
    np.testing.assert_allclose(distance, [0.5, 1])
    np.testing.assert_allclose(found.position, [[0.2, 0.2, 0], [0, 0, 0]], atol=1e-12)
    rebuilt = np.einsum("nk,nkc->nc", found.barycentric, vertices[faces[found.face]])
    np.testing.assert_allclose(rebuilt, found.position, atol=1e-12)


@pytest.mark.parametrize(("scale", "offset"), [(1e-7, 0.0), (1.0, 6e6), (1e30, 0.0)])
def test_units_and_place_do_not_matter(scale: float, offset: float) -> None:
    def pair(s: float, o: float) -> Comparison:
        a, b = sphere(24), sphere(24, 1.01)
        return check(plain(Mesh(a.vertices * s + o, a.faces)), plain(Mesh(b.vertices * s + o, b.faces)))

    here, there = pair(1.0, 0.0), pair(scale, offset)
    assert there.a_to_b.mean == pytest.approx(here.a_to_b.mean, rel=1e-4)
    assert there.f_score == here.f_score


def test_repeatable_and_serialisable() -> None:
    a, b = plain(sphere(16)), plain(sphere(12))
    first, again, other = check(a, b), check(a, b), check(a, b, seed=5)
    assert json.loads(json.dumps(first.to_dict())) == json.loads(json.dumps(again.to_dict()))
    assert first.a_to_b != other.a_to_b
    console = Console(width=120, file=io.StringIO())
    console.print(first.table())
    assert "F-score within 0.5 voxel" in console.file.getvalue()


def test_different_frames_are_noted() -> None:
    assert check(plain(sphere(8)), plain(sphere(8, 50.0))).notes
    assert check(plain(sphere(8)), plain(sphere(8, center=(9, 0, 0)))).notes
    assert not check(plain(sphere(8)), plain(sphere(8, 1.2))).notes


def test_default_resolution_is_said_to_be_assumed() -> None:
    found = compare(plain(quad()), plain(quad()), samples=10)
    assert found.resolution_assumed
    assert found.resolution == 512
    assert found.detail == "texel"


def test_nothing_to_compare_is_said() -> None:
    good = plain(quad())
    flat = Asset((Mesh(np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]]), np.array([[0, 1, 2]], np.int32)),))
    with pytest.raises(AssetError, match="no geometry"):
        compare(good, Asset(()))
    with pytest.raises(AssetError, match="degenerate"):
        compare(good, flat)
    with pytest.raises(AssetError, match="finite"):
        compare(good, Asset((Mesh(np.full((3, 3), np.nan), np.array([[0, 1, 2]], np.int32)),)))
