from __future__ import annotations

import numpy as np
import pytest

from tests.mesh.shapes import (
    Triangles,
    area_vectors,
    cube,
    cylinder,
    edge_counts,
    grid,
    sphere,
    together,
    volume,
)
from voxlume.errors import AssetError
from voxlume.mesh.clean import CleanOptions, clean, hidden_parts
from voxlume.mesh.edges import edge_table, with_reversed
from voxlume.mesh.manifold import split_nonmanifold
from voxlume.mesh.normals import split_at_creases
from voxlume.mesh.visibility import embree_tracer, even_directions, igl_tracer, visible_faces
from voxlume.ovoxel.extract import extract_mesh
from voxlume.ovoxel.voxelize import voxelize_surface


def without(mesh: Triangles, *gone: int) -> Triangles:
    return mesh[0], np.delete(mesh[1], gone, axis=0)


def test_edge_table_against_sorting() -> None:
    random = np.random.default_rng(0)
    faces = random.integers(0, 50, (400, 3)).astype(np.int32)
    table = edge_table(faces, 50)
    ends = np.sort(np.stack([faces, np.roll(faces, -1, axis=1)], axis=-1).reshape(-1, 2), axis=1)
    unique, number = np.unique(ends, axis=0, return_inverse=True)
    np.testing.assert_array_equal(table.of_half_edges(), number.reshape(-1))
    np.testing.assert_array_equal(table.counts(), np.bincount(number.reshape(-1), minlength=len(unique)))


def test_a_clean_mesh_stays_as_it_is() -> None:
    vertices, faces = sphere(12)
    result = clean(vertices, faces)
    np.testing.assert_array_equal(result.vertices, vertices)
    np.testing.assert_array_equal(result.faces, faces)
    assert result.filled == result.flipped == result.dust == 0


def test_soup_is_welded_and_double_faces_go() -> None:
    vertices, faces = sphere(8)
    soup = vertices[faces].reshape(-1, 3)
    soup = soup + np.random.default_rng(1).normal(size=soup.shape) * 1e-11
    numbers = np.arange(len(soup), dtype=np.int32).reshape(-1, 3)
    numbers = np.concatenate([numbers, numbers[5:9, [1, 2, 0]], numbers[20:23, ::-1], [[0, 0, 1]]])
    result = clean(soup, numbers)
    assert len(result.vertices) == len(vertices)
    assert len(result.faces) == len(faces)
    assert (result.duplicate, result.degenerate) == (7, 1)
    np.testing.assert_array_equal(result.vertices, soup[result.origin])
    assert edge_counts((result.vertices, result.faces)) == {2: len(faces) * 3 // 2}


@pytest.mark.parametrize("scale", [1e-7, 1.0, 1e7])
def test_dust_goes_at_any_scale(scale: float) -> None:
    big, speck = sphere(16), cube(1)
    vertices, faces = together(big, (speck[0] * 1e-3 + [0.6, 0, 0], speck[1]))
    result = clean(vertices * scale, faces)
    assert result.dust == 12
    assert len(result.faces) == len(big[1])
    assert clean(vertices * scale, faces, CleanOptions(dust_voxels=0)).dust == 0


def test_small_parts_stay_where_there_is_nothing_else() -> None:
    speck = cube(1)
    parts = [(speck[0] * 1e-4 + [i, j, 0], speck[1]) for i in range(40) for j in range(40)]
    vertices, faces = together(*parts)
    assert len(clean(vertices, faces).faces) == len(faces)


def test_winding_becomes_consistent_and_keeps_its_side() -> None:
    vertices, faces = sphere(10)
    mixed = faces.copy()
    turned = np.random.default_rng(2).random(len(faces)) < 0.3
    mixed[turned] = mixed[turned][:, ::-1]
    result = clean(vertices, mixed)
    assert volume((result.vertices, result.faces)) == pytest.approx(volume((vertices, faces)))
    assert result.flipped == turned.sum()


@pytest.mark.parametrize("missing", [1, 2, 6])
def test_holes_in_a_surface_are_filled(missing: int) -> None:
    vertices, faces = sphere(32)
    at_one_vertex = np.flatnonzero((faces == faces[100, 0]).any(axis=1))
    gone = at_one_vertex if missing == 6 else np.arange(100, 100 + missing)
    result = clean(*without((vertices, faces), *gone), CleanOptions(largest_hole=256))
    assert set(edge_counts((result.vertices, result.faces))) == {2}
    assert result.flipped == 0
    assert volume((result.vertices, result.faces)) == pytest.approx(volume((vertices, faces)), rel=1e-3)


def test_a_missing_corner_of_a_cube_is_filled() -> None:
    vertices, faces = cube(16)
    corner = np.flatnonzero((np.abs(vertices - 0.5) < 1e-9).all(axis=1))[0]
    gone = np.flatnonzero((faces == corner).any(axis=1))
    result = clean(*without((vertices, faces), *gone), CleanOptions(largest_hole=300))
    assert set(edge_counts((result.vertices, result.faces))) == {2}


def test_two_holes_that_meet_in_a_vertex_are_filled_apart() -> None:
    vertices, faces = grid(8)
    half = len(faces) // 2
    # Quads (3, 3) and (4, 4) touch in one vertex.
    gone = [3 * 8 + 3, half + 3 * 8 + 3, 4 * 8 + 4, half + 4 * 8 + 4]
    result = clean(*without((vertices, faces), *gone), CleanOptions(largest_hole=300))
    assert result.filled == 4
    assert area_vectors((result.vertices, result.faces))[:, 2].min() > 0
    assert area_vectors((result.vertices, result.faces))[:, 2].sum() == pytest.approx(1)


def test_holes_of_missing_voxels_are_filled() -> None:
    vertices, faces = sphere(40)
    coords, dual, intersected, _ = voxelize_surface(vertices.astype(np.float32), faces, 64)
    random = np.random.default_rng(3)
    keep = random.random(len(coords)) > 0.01
    intersected = intersected & (random.random(intersected.shape) > 0.01)
    broken = extract_mesh(coords[keep], dual[keep], intersected[keep], 64)
    result = clean(*broken, voxel=1 / 64)
    before, after = edge_counts(broken)[1], edge_counts((result.vertices, result.faces)).get(1, 0)
    assert before > 1500
    assert after < 0.01 * before
    assert volume((result.vertices, result.faces)) == pytest.approx(volume((vertices, faces)), rel=2e-3)


def test_sheets_that_grew_together_keep_their_sides() -> None:
    """A flap that joins the outside of a ball to the inside makes it one-sided; only the flap gives way."""
    vertices, faces = sphere(16)
    # Faces i and j lie apart and point outwards; a strip from an edge of one to an edge of the other would
    # ask for opposite winding.
    hole_a, hole_b = faces[10], faces[200]
    strip = np.array(
        [
            [hole_a[0], hole_a[1], hole_b[0]],
            [hole_a[1], hole_b[1], hole_b[0]],
        ],
        np.int32,
    )
    joined = np.concatenate([np.delete(faces, [10, 200], axis=0), strip])
    result = clean(vertices, joined, CleanOptions(largest_hole=0))
    kept = len(faces) - 2
    np.testing.assert_array_equal(result.faces[:kept], joined[:kept])


def test_openings_of_the_object_stay_open() -> None:
    """The rims of a thin tube and the outline of a small leaf are short loops too."""
    tube, leaf = cylinder(8, 8), grid(2)
    big = sphere(32)
    vertices, faces = together(
        big, (tube[0] * 0.01 + [0.8, 0, 0], tube[1]), (leaf[0] * 0.01 + [0, 0.8, 0], leaf[1])
    )
    result = clean(vertices, faces, CleanOptions(largest_hole=256, dust_voxels=0))
    assert result.filled == 0


def test_large_holes_stay() -> None:
    vertices, faces = sphere(32)
    top = np.flatnonzero(vertices[faces][..., 2].min(axis=1) > 0.4)
    assert clean(*without((vertices, faces), *top)).filled == 0


def test_nonmanifold_edges_are_cut() -> None:
    vertices, faces = grid(6)
    crossing = vertices[:, [0, 2, 1]] + [0, 0.5, -0.5]
    both, joint = together((vertices, faces), (crossing, faces))
    places, number = np.unique(np.round(both, 9), axis=0, return_inverse=True)
    joint = number.reshape(-1)[joint].astype(np.int32)
    assert edge_counts((places, joint))[4] == 6
    cut, source = split_nonmanifold(joint, len(places))
    assert max(edge_counts((places[source], cut))) == 2
    np.testing.assert_array_equal(source[cut], joint)
    closed = sphere(6)
    same, source = split_nonmanifold(closed[1], len(closed[0]))
    np.testing.assert_array_equal(same, closed[1])


def test_a_book_of_single_triangles_is_cut() -> None:
    """An edge with three faces that are all joined at both its ends by other faces."""
    faces = np.array([[0, 1, 2], [0, 1, 3], [0, 1, 4], [0, 2, 3], [0, 3, 4], [1, 2, 3], [1, 3, 4]], np.int32)
    cut, source = split_nonmanifold(faces, 5)
    assert edge_table(cut, len(source)).counts().max() == 2
    np.testing.assert_array_equal(source[cut], faces)


@pytest.mark.parametrize("tracer", [embree_tracer, igl_tracer])
def test_inner_shells_are_hidden(tracer) -> None:  # type: ignore[no-untyped-def]
    if tracer is embree_tracer:
        pytest.importorskip("embreex")
    outer, inner = sphere(12), cube(4)
    vertices, faces = together(outer, (inner[0] * 0.5, inner[1]))
    seen = visible_faces(vertices, faces, blocked=tracer(vertices, faces))
    np.testing.assert_array_equal(seen, np.arange(len(faces)) < len(outer[1]))


def test_hidden_removal_leaves_open_and_nested_parts_alone() -> None:
    # A tube is seen from inside through its ends; a shell within a closed one is not.
    outer, inner = sphere(16), sphere(8)
    tube = cylinder(16, 8)
    vertices, faces = together(outer, (inner[0] * 0.6, inner[1]), (tube[0] + [2, 0, 0], tube[1]))
    hidden = hidden_parts(vertices, faces)
    n = len(outer[1])
    np.testing.assert_array_equal(
        hidden, (np.arange(len(faces)) >= n) & (np.arange(len(faces)) < n + len(inner[1]))
    )
    assert clean(vertices, faces, CleanOptions(remove_hidden=True)).hidden == len(inner[1])


def test_directions_are_even() -> None:
    rays = even_directions(48)
    np.testing.assert_allclose(np.linalg.norm(rays, axis=1), 1)
    assert np.linalg.norm(rays.mean(axis=0)) < 0.02
    assert (rays @ rays.T - 2 * np.eye(48)).max() < np.cos(np.radians(20))


def test_normals_of_a_cube_are_hard_and_of_a_sphere_smooth() -> None:
    vertices, faces = cube(4)
    source, split, normals = split_at_creases(vertices, faces)
    assert len(source) == 6 * 25
    np.testing.assert_array_equal(source[split], faces)
    flat = area_vectors((vertices, faces))
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    np.testing.assert_allclose(normals[split], np.repeat(flat[:, None], 3, axis=1), atol=1e-6)
    vertices, faces = sphere(24)
    source, split, normals = split_at_creases(vertices, faces)
    np.testing.assert_array_equal(source, np.arange(len(vertices)))
    assert (normals * vertices * 2).sum(axis=1).min() > 0.999


def test_bad_input() -> None:
    vertices, faces = cube(2)
    broken = vertices.copy()
    broken[3] = np.inf
    for points, corners, message in (
        (broken, faces, "not finite"),
        (vertices[:5], faces, "does not exist"),
        (vertices, faces[:0], "no triangle"),
        (vertices * 0, faces, "coincide"),
        (vertices, faces[:, [0, 0, 1]], "degenerate"),
    ):
        with pytest.raises(AssetError, match=message):
            clean(points, corners)


def test_the_edge_table_of_reversed_faces() -> None:
    _, faces = sphere(12)
    count = int(faces.max()) + 1
    flipped = np.random.default_rng(0).random(len(faces)) < 0.3
    other = np.where(flipped[:, None], faces[:, ::-1], faces)
    for found, expected in zip(
        with_reversed(edge_table(faces, count), flipped), edge_table(other, count), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
