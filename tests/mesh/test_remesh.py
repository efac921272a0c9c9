from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from tests.mesh.shapes import Triangles, cube, cylinder, edge_counts, grid, sphere, together, volume
from tests.paths import ASSETS_DIR, SHARED_MISSING
from voxlume.errors import AssetError, Cancelled
from voxlume.mesh.components import face_components
from voxlume.mesh.manifold import split_nonmanifold
from voxlume.mesh.read import load
from voxlume.mesh.remesh import remesh_watertight
from voxlume.mesh.solid import OUTSIDE, SOLID, boundary_counts, boundary_quads, solid_nodes
from voxlume.ovoxel.voxelize import voxelize_surface
from voxlume.texture import MaterialSampler


def euler(mesh: Triangles) -> int:
    return len(mesh[0]) - sum(edge_counts(mesh).values()) + len(mesh[1])


def parts(mesh: Triangles) -> int:
    return face_components(mesh[1], len(mesh[0]))[1]


def assert_closed_manifold(mesh: Triangles) -> None:
    vertices, faces = mesh
    assert set(edge_counts(mesh)) == {2}
    tail, head = faces.reshape(-1).astype(np.int64), np.roll(faces, -1, axis=1).reshape(-1)
    assert len(np.unique(tail * len(vertices) + head)) == 3 * len(faces)  # each edge once in each direction
    assert len(split_nonmanifold(faces, len(vertices))[1]) == len(vertices)  # one fan of faces per vertex
    assert np.isfinite(vertices).all()


def surface_nodes(mesh: Triangles, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The nodes of a mesh within [-0.4, 0.4]^3, and its voxels."""
    vertices, faces = mesh
    coords, dual, intersected, _ = voxelize_surface(vertices.astype(np.float32), faces, size)
    kind, _ = solid_nodes((vertices + 0.5) * size, faces, coords, dual, intersected, size)
    return kind, coords


def tumbled(mesh: Triangles, seed: int = 0) -> Triangles:
    """Turned at random, so that nothing is parallel to the grid."""
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return mesh[0] @ turn.T, mesh[1]


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e5])
def test_a_closed_surface_stays_where_it_is(scale: float) -> None:
    mesh = cube(3)
    vertices, faces = remesh_watertight(mesh[0] * scale + 3 * scale, mesh[1], 40)
    assert_closed_manifold((vertices, faces))
    vertices = vertices / scale - 3
    assert np.abs(np.abs(vertices).max(axis=1) - 0.5).max() < 5e-4  # creases and corners too
    assert volume((vertices, faces)) == pytest.approx(1, abs=1e-3)
    assert euler((vertices, faces)) == 2


def test_inner_shells_overlaps_and_winding_do_not_matter() -> None:
    ball = sphere(12)
    both = together(ball, (ball[0] * 0.5, ball[1]), (ball[0] + [0.5, 0, 0], ball[1]))
    turned = np.random.default_rng(1).random(len(both[1])) < 0.5
    both[1][turned] = both[1][turned][:, ::-1]
    mesh = remesh_watertight(*both, 60)
    assert_closed_manifold(mesh)
    assert (parts(mesh), euler(mesh)) == (1, 2)
    # Two balls less the lens they share: heights of both caps are half the radius.
    lens = 2 * np.pi * 0.25**2 * (3 * 0.5 - 0.25) / 3
    assert volume(mesh) == pytest.approx(2 * 4 / 3 * np.pi / 8 - lens, rel=0.01)


def test_a_tunnel_stays_and_a_thick_wall_is_not_doubled() -> None:
    outer, inner = cylinder(48, 4), cylinder(48, 4)
    inner = inner[0] * [0.6, 0.6, 1], inner[1]
    rims = []
    for z in (0.0, 1.0):
        a, b = (np.flatnonzero(np.isclose(tube[0][:, 2], z)) for tube in (outer, inner))
        b = b + len(outer[0])
        rims += [
            np.stack([a, np.roll(a, -1), b], axis=1),
            np.stack([b, np.roll(b, -1), np.roll(a, -1)], axis=1),
        ]
    vertices, faces = together(outer, inner)
    mesh = remesh_watertight(*tumbled((vertices, np.concatenate([faces, *rims]).astype(np.int32))), 64)
    assert_closed_manifold(mesh)
    assert (parts(mesh), euler(mesh)) == (1, 0)
    assert volume(mesh) == pytest.approx(np.pi * 0.04 * (1 - 0.36), rel=0.02)


def test_an_open_sheet_becomes_a_plate_one_voxel_thick() -> None:
    for mesh in (grid(8), tumbled(grid(8))):
        extent = float(np.ptp(mesh[0], axis=0).max())
        plate = remesh_watertight(*mesh, 64)
        assert_closed_manifold(plate)
        assert (parts(plate), euler(plate)) == (1, 2)
        assert volume(plate) / (extent / 64) == pytest.approx(1, rel=0.1)


def test_a_wire_thinner_than_a_voxel_stays_in_one_piece() -> None:
    vertices, faces = cylinder(8, 1)
    wire = tumbled((vertices * [0.01, 0.01, 1], faces), seed=3)
    mesh = remesh_watertight(*wire, 64)
    assert_closed_manifold(mesh)
    assert (parts(mesh), euler(mesh)) == (1, 2)
    ends = wire[0].min(axis=0), wire[0].max(axis=0)
    assert np.abs(mesh[0].min(axis=0) - ends[0]).max() < 1.5 / 64
    assert np.abs(mesh[0].max(axis=0) - ends[1]).max() < 1.5 / 64


def test_walls_closer_than_two_voxels_stay_apart() -> None:
    lower, upper = grid(6), grid(6)
    mesh = remesh_watertight(*together(lower, (upper[0] + [0, 0, 3 / 64], upper[1])), 64)
    assert_closed_manifold(mesh)
    assert parts(mesh) == 2


def test_enclosed_nodes_against_labelling_everything() -> None:
    """The flood along columns and the spreading between the voxels, against scipy on the dense grid."""
    ball = sphere(10)
    # A bowl: a ball without its top around a closed ball.
    bowl = ball[0], ball[1][ball[0][ball[1]][..., 2].max(axis=1) < 0.3]
    mesh = together((bowl[0] * 0.78, bowl[1]), (ball[0] * 0.3 + [0.02, 0, 0], ball[1]))
    size = 32
    kind, coords = surface_nodes(tumbled(mesh), size)
    empty = np.ones((size,) * 3, np.bool_)
    empty[tuple(coords.T)] = False
    label, _ = ndimage.label(empty)
    outside = label == label[0, 0, 0]
    for corner in range(8):
        x, y, z = corner & 1, corner >> 1 & 1, corner >> 2
        nodes = kind[x : x + size, y : y + size, z : z + size]
        assert (nodes[empty & ~outside] == SOLID).all()
        assert (nodes[outside] != SOLID).all()
    assert (empty & ~outside).sum() > 100


def test_nothing_touches_across_a_diagonal() -> None:
    for seed in range(3):
        random = np.random.default_rng(seed)
        soup = random.uniform(-0.35, 0.35, (60, 1, 3)) + random.normal(size=(60, 3, 3)) * 0.04
        kind, _ = surface_nodes((soup.reshape(-1, 3), np.arange(180, dtype=np.int32).reshape(-1, 3)), 48)
        inside = (kind & 1).astype(np.bool_)
        assert inside.any()
        corners = {
            (i, j, k): inside[i : i + 48, j : j + 48, k : k + 48]
            for i in (0, 1) for j in (0, 1) for k in (0, 1)
        }  # fmt: skip
        total = sum(c.astype(int) for c in corners.values())
        for (i, j, k), a in corners.items():
            antipode = corners[1 - i, 1 - j, 1 - k]
            assert not (a & antipode & (total == 2)).any()
            assert not (~a & ~antipode & (total == 6)).any()
            for p, q, r in ((i, 1 - j, 1 - k), (1 - i, j, 1 - k), (1 - i, 1 - j, k)):
                # The other two corners of the square that has these two on its diagonal.
                others = {(i, q, r), (p, j, r), (p, q, k)} - {(i, j, k), (p, q, r)}
                b, (c, d) = corners[p, q, r], (corners[o] for o in sorted(others)[:2])
                assert not (a & b & ~c & ~d).any()


def test_boundary_against_looking_everywhere() -> None:
    random = np.random.default_rng(0)
    kind = np.where(random.random((9, 9, 9)) < 0.3, SOLID, OUTSIDE).astype(np.uint8)
    kind[[0, -1]] = kind[:, [0, -1]] = kind[:, :, [0, -1]] = OUTSIDE
    offsets = np.cumsum(boundary_counts(kind))
    quads = np.empty((offsets[-1], 4), np.int64)
    boundary_quads(kind, np.concatenate([[0], offsets[:-1]]), quads)
    found = {tuple(np.roll(q, -np.argmin(q))) for q in quads.tolist()}
    expected = set()
    step = np.eye(3, dtype=int)
    for axis in range(3):
        s, t = step[(axis + 1) % 3], step[(axis + 2) % 3]
        for node in np.argwhere(np.ones((8, 8, 8))):
            own, other = kind[tuple(node)], kind[tuple(node + step[axis])]
            if own != other:
                ring = [node - s - t, node - t, node, node - s]
                numbers = [int(np.ravel_multi_index(tuple(p), kind.shape)) for p in ring]
                numbers = numbers if own else numbers[::-1]
                expected.add(tuple(np.roll(numbers, -np.argmin(numbers))))
    assert found == expected


@pytest.mark.parametrize("name", ["sunglasses.glb", "fox_skinned.glb", "openscad_nonmanifold_bare.glb"])
def test_real_assets_become_closed(name: str) -> None:
    if not (ASSETS_DIR / name).exists():
        pytest.skip(SHARED_MISSING)
    sampler = MaterialSampler(load(ASSETS_DIR / name))
    vertices, faces = np.asarray(sampler.vertices, np.float64), sampler.surface.faces
    mesh = remesh_watertight(vertices, faces, 96)
    assert_closed_manifold(mesh)
    voxel = float(np.ptp(vertices[np.unique(faces)], axis=0).max()) / 96
    assert np.abs(mesh[0].min(axis=0) - vertices[np.unique(faces)].min(axis=0)).max() < 1.5 * voxel
    assert np.abs(mesh[0].max(axis=0) - vertices[np.unique(faces)].max(axis=0)).max() < 1.5 * voxel


def test_bad_input() -> None:
    vertices, faces = cube(2)
    broken = vertices.copy()
    broken[3] = np.nan
    for points, corners, resolution, message in (
        (broken, faces, 32, "not finite"),
        (vertices[:5], faces, 32, "does not exist"),
        (vertices, faces[:0], 32, "no triangle"),
        (vertices * 0, faces, 32, "coincide"),
        (vertices, faces[:, [0, 0, 1]], 32, "degenerate"),
        (vertices, faces, 4, "choose 8"),
        (vertices, faces, 5000, "choose 8"),
    ):
        with pytest.raises(AssetError, match=message):
            remesh_watertight(points, corners, resolution)
    with pytest.raises(Cancelled):
        remesh_watertight(vertices, faces, 32, progress=lambda done, total, what: done < 2)
