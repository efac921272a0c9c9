"""The check after a run notices what broken kernels and overflows leave behind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from voxlume.ovoxel.extract import extract_mesh
from voxlume.ovoxel.grid import OVoxel
from voxlume.ovoxel.voxelize import voxelize_surface
from voxlume.pipelines.sanity import check_ovoxel, connectivity

RNG = np.random.default_rng(0)


def cube(offset: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * 0.1 + offset
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = [t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))]
    return corners.astype(np.float32), np.array(faces, np.int32)


def voxels(*offsets: float) -> OVoxel:
    """Cubes apart from one another, as a decoder would give them."""
    parts = [cube(o) for o in offsets]
    vertices = np.concatenate([v for v, _ in parts])
    faces = np.concatenate([f + 8 * i for i, (_, f) in enumerate(parts)])
    coords, dual, intersected, _ = voxelize_surface(vertices, faces, 64)
    return OVoxel(64, coords, dual, intersected, np.full((len(coords), 6), 0.5, np.float32))


def confetti() -> OVoxel:
    """Voxels that meet here and there, with random flags."""
    cells = np.argwhere(RNG.random((40, 40, 40)) < 0.4).astype(np.int32)
    flags = RNG.random((len(cells), 3)) < 0.3
    return OVoxel(64, cells, np.full((len(cells), 3), 0.5, np.float32), flags)


def test_a_sound_result_is_left_alone() -> None:
    ovoxel = voxels(-0.25, 0.25)
    checked, warnings = check_ovoxel(ovoxel)
    assert checked is ovoxel
    assert warnings == []


def test_pieces_are_counted() -> None:
    ovoxel = voxels(-0.3, 0.0, 0.3)
    surface = connectivity(ovoxel)
    assert surface.components == 3
    assert abs(surface.largest_share - 1 / 3) < 0.05
    arrays = (ovoxel.coords, ovoxel.dual_vertices, ovoxel.intersected)
    assert surface.faces == len(extract_mesh(*arrays, ovoxel.resolution)[1])
    order = np.random.default_rng(1).permutation(len(ovoxel))
    coords, dual, intersected = (array[order] for array in arrays)
    assert connectivity(OVoxel(ovoxel.resolution, coords, dual, intersected)) == surface


def test_confetti_is_noticed() -> None:
    _, warnings = check_ovoxel(confetti())
    assert len(warnings) == 1
    assert "not an object" in warnings[0]
    assert "doctor" in warnings[0]


def test_no_surface_is_noticed() -> None:
    ovoxel = voxels(0.0)
    bare = replace(ovoxel, intersected=np.zeros_like(ovoxel.intersected))
    assert "no surface" in check_ovoxel(bare)[1][0]


def test_overflows_are_mended_and_named() -> None:
    ovoxel = voxels(0.0)
    assert ovoxel.attributes is not None
    dual, attributes = ovoxel.dual_vertices.copy(), ovoxel.attributes.copy()
    dual[:5], attributes[3:9, 2] = np.nan, np.inf
    weights = np.full(len(ovoxel), np.nan, np.float32)
    broken = replace(ovoxel, dual_vertices=dual, attributes=attributes, splitting_weights=weights)
    checked, warnings = check_ovoxel(broken)
    assert len(warnings) == 3
    assert "bfloat16" in warnings[0]
    assert np.isfinite(checked.dual_vertices).all()
    assert checked.attributes is not None
    assert np.isfinite(checked.attributes).all()
    assert checked.splitting_weights is None
    assert np.isfinite(checked.to_mesh().vertices).all()


def test_vertices_far_outside_are_noticed() -> None:
    ovoxel = voxels(0.0)
    dual = ovoxel.dual_vertices.copy()
    dual[0] = 3.0
    assert "outside" in check_ovoxel(replace(ovoxel, dual_vertices=dual))[1][0]
