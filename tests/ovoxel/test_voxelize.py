from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.paths import ASSETS_DIR, PARITY_DIR, golden_tensors, manifest_assets
from voxlume.asset import Asset, Material, Mesh, Placement
from voxlume.errors import AssetError, Cancelled
from voxlume.mesh.read import load
from voxlume.ovoxel.boundary import boundary_edges, edge_voxels
from voxlume.ovoxel.tiles import Weights
from voxlume.ovoxel.voxelize import DEFAULT_WEIGHTS, voxelize_asset, voxelize_surface
from voxlume.ovoxel.voxelize_torch import voxelize_torch
from voxlume.texture import MaterialSampler

GRIDS = golden_tensors("flexible_dual_grid")
CASES = json.loads((PARITY_DIR / "flexible_dual_grid.json").read_text())["cases"] if GRIDS else []
needs_grids = pytest.mark.skipif(GRIDS is None, reason=f"no flexible_dual_grid in {PARITY_DIR}")


def golden(case: str) -> dict[str, NDArray]:
    assert GRIDS is not None
    prefix = f"io.{case}."
    return {key[len(prefix) :]: value for key, value in GRIDS.items() if key.startswith(prefix)}


def energy(vertices: NDArray, faces: NDArray, resolution: int, voxel: NDArray) -> Any:
    """The dual vertex's energy at a voxel, straight from its definition (a slow third opinion)."""
    v = (vertices - np.float32(-0.5)).astype(np.float64) * resolution
    terms: list[tuple[float, NDArray, float]] = []
    points = []
    for tri in v[faces]:
        normal = np.cross(tri[1] - tri[0], tri[2] - tri[0])
        if not np.linalg.norm(normal) > 0:
            continue
        normal /= np.linalg.norm(normal)
        plane = (normal, float(normal @ (tri[0] - voxel)))
        for axis in range(3):
            u, w = (axis + 1) % 3, (axis + 2) % 3
            for p in (voxel[u], voxel[u] + 1):
                for q in (voxel[w], voxel[w] + 1):
                    hit = line_hit(tri, axis, u, w, p, q)
                    if hit is not None and math.floor(hit) == voxel[axis]:
                        point = np.empty(3)
                        point[axis], point[u], point[w] = hit, p, q
                        points.append(point - voxel)
                        terms.append((1.0, *plane))
        if overlaps_by_clipping(tri, voxel):
            terms.append((DEFAULT_WEIGHTS.face, *plane))
    mean = np.mean(points, 0)
    open_edges = boundary_edges(v, faces, weld=False)
    cells, owners = edge_voxels(v, open_edges, resolution)
    lines = [v[open_edges[e]] for e in owners[(cells == voxel).all(1)]]

    def evaluate(x: NDArray) -> float:
        total = sum(weight * (normal @ x - d) ** 2 for weight, normal, d in terms)
        total += DEFAULT_WEIGHTS.regularization * len(points) * float(((x - mean) ** 2).sum())
        for a, b in lines:
            along = (b - a) / np.linalg.norm(b - a)
            offset = x + voxel - a
            total += DEFAULT_WEIGHTS.boundary * float(offset @ offset - (along @ offset) ** 2)
        return total

    return evaluate


def line_hit(tri: NDArray, axis: int, u: int, w: int, p: float, q: float) -> float | None:
    """Where the grid line (p, q) along ``axis`` meets a triangle, by the published half-open rule."""
    rows = tri[np.argsort(tri[:, w], kind="stable")][:, [u, w, axis]]
    if not rows[0, 1] < q <= rows[2, 1]:
        return None
    ends = []
    for a, b in ((rows[0], rows[1]) if q <= rows[1, 1] else (rows[1], rows[2]), (rows[0], rows[2])):
        t = (q - a[1]) / (b[1] - a[1])
        ends.append((a[0] + t * (b[0] - a[0]), a[2] + t * (b[2] - a[2])))
    (u0, w0), (u1, w1) = sorted(ends)
    return w0 + (p - u0) / (u1 - u0) * (w1 - w0) if u0 < p <= u1 else None


def overlaps_by_clipping(tri: NDArray, voxel: NDArray) -> bool:
    polygon = [tuple(p) for p in tri - voxel]
    for axis in range(3):
        for sign, limit in ((1, 0.0), (-1, -1.0)):
            clipped = []
            for a, b in zip(polygon, polygon[1:] + polygon[:1], strict=True):
                d_a, d_b = sign * a[axis] - limit, sign * b[axis] - limit
                if d_a >= 0:
                    clipped.append(a)
                if (d_a >= 0) != (d_b >= 0):
                    t = d_a / (d_a - d_b)
                    clipped.append(tuple(np.array(a) + t * (np.array(b) - np.array(a))))
            polygon = clipped
            if not polygon:
                return False
    # A triangle that only touches the maximum face does not count.
    return bool((np.floor(tri.min(0)) <= voxel).all())


@needs_grids
@pytest.mark.parametrize("case", CASES)
def test_published_dual_grid(case: str) -> None:
    data = golden(case)
    resolution = int(case.rsplit(".", 1)[1])
    coords, dual, intersected, _ = voxelize_surface(data["vertices"], data["faces"], resolution, weld=False)
    np.testing.assert_array_equal(coords, data["coords"])
    assert (intersected == data["intersected"]).mean() >= 0.9998
    error = np.abs(dual - data["dual_vertices"]).max(1)
    assert error.mean() < 1e-3
    assert error.max() < 0.25
    # The published solver sometimes keeps a worse candidate: where we differ, ours must not be worse.
    for i in np.flatnonzero(error > 2e-3)[:25]:
        e = energy(data["vertices"], data["faces"], resolution, coords[i].astype(np.float64))
        theirs = float(e(data["dual_vertices"][i].astype(np.float64)))
        assert float(e(dual[i].astype(np.float64))) <= theirs * (1 + 1e-6) + 1e-9


@needs_grids
def test_dual_vertices_of_all_cases_together() -> None:
    close = []
    for case in CASES:
        data = golden(case)
        _, dual, _, _ = voxelize_surface(
            data["vertices"], data["faces"], int(case.rsplit(".", 1)[1]), weld=False
        )
        close.append(np.abs(dual - data["dual_vertices"]).max(1) <= 2e-3)
    assert np.concatenate(close).mean() >= 0.99


@needs_grids
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("weld", [False, True])
def test_twin_on_golden_meshes(case: str, weld: bool) -> None:
    data = golden(case)
    check_twin(data["vertices"], data["faces"], int(case.rsplit(".", 1)[1]), None, weld)


def check_twin(
    vertices: NDArray, faces: NDArray, resolution: int, sampler: MaterialSampler | None, weld: bool
) -> None:
    fast = voxelize_surface(vertices, faces, resolution, sampler=sampler, footprint=0.01, weld=weld)
    v = (vertices.astype(np.float32) - np.float32(-0.5)).astype(np.float64) * resolution
    twin = voxelize_torch(
        v,
        faces,
        resolution,
        sampler=sampler,
        footprint=0.01,
        weights=DEFAULT_WEIGHTS,
        weld=weld,
        device="cpu",
    )
    np.testing.assert_array_equal(fast[0], twin[0])
    np.testing.assert_array_equal(fast[2], twin[2])
    np.testing.assert_allclose(fast[1], twin[1], rtol=0, atol=1e-6)
    if sampler is not None:
        assert fast[3] is not None
        assert twin[3] is not None
        np.testing.assert_allclose(fast[3], twin[3], rtol=0, atol=1e-5)


def triangle_soup(seed: int, count: int = 60) -> Mesh:
    """Triangles of all sizes, some on grid planes, some without area, with colours."""
    rng = np.random.default_rng(seed)
    size = 10.0 ** rng.uniform(-3, -0.3, (count, 1, 1))
    corners = np.clip(
        rng.uniform(-0.45, 0.45, (count, 1, 3)) + size * rng.normal(size=(count, 3, 3)), -0.5, 0.5
    )
    corners[::5] = np.round(corners[::5] * 16) / 16
    corners[::11, 2] = corners[::11, 1]
    n = 3 * count
    return Mesh(
        vertices=corners.reshape(n, 3).astype(np.float32).astype(np.float64),
        faces=np.arange(n, dtype=np.int32).reshape(count, 3),
        colors=rng.random((n, 4), np.float32),
        material=0,
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("resolution", [1, 7, 32, 50])
def test_twin_on_triangle_soup(seed: int, resolution: int) -> None:
    mesh = triangle_soup(seed)
    sampler = MaterialSampler(Asset((mesh,), (Material(alpha_mode="BLEND"),)))
    check_twin(mesh.vertices.astype(np.float32), mesh.faces, resolution, sampler, weld=True)


def test_voxels_are_in_lexicographic_order_and_unique() -> None:
    mesh = triangle_soup(9)
    coords, _, _, _ = voxelize_surface(mesh.vertices.astype(np.float32), mesh.faces, 100)
    key = (coords[:, 0].astype(np.int64) * 100 + coords[:, 1]) * 100 + coords[:, 2]
    assert (np.diff(key) > 0).all()


def test_regularization_zero_stays_at_the_mean_in_free_directions() -> None:
    vertices = np.array(
        [[-0.4, -0.4, 0.01], [0.4, -0.4, 0.01], [0.4, 0.4, 0.01], [-0.4, 0.4, 0.01]], np.float32
    )
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    coords, dual, _, _ = voxelize_surface(
        vertices, faces, 16, weights=Weights(face=1.0, boundary=0.0, regularization=0.0)
    )
    inner = (coords[:, :2] > 3).all(1) & (coords[:, :2] < 12).all(1)
    np.testing.assert_allclose(dual[inner, 2], (0.01 + 0.5) * 16 - 8, atol=1e-4)
    np.testing.assert_allclose(dual[inner, :2], 0.5, atol=1e-3)


def test_open_sheet_reaches_its_border() -> None:
    """The boundary term pulls border vertices onto the edge instead of a voxel's middle."""
    vertices = np.array(
        [[-0.31, -0.31, 0.0], [0.31, -0.31, 0.0], [0.31, 0.31, 0.0], [-0.31, 0.31, 0.0]], np.float32
    )
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    coords, dual, _, _ = voxelize_surface(vertices, faces, 64)
    positions = (coords + dual) / 64 - 0.5
    assert abs(positions[:, 0].max() - 0.31) < 0.1 / 64
    assert abs(positions[:, 1].min() + 0.31) < 0.1 / 64


def test_weld_hides_seams_but_not_borders() -> None:
    vertices = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 1, 0], [0, 1, 0]], np.float64)
    faces = np.array([[0, 1, 2], [3, 4, 5]], np.int32)
    assert len(boundary_edges(vertices, faces, weld=False)) == 6
    assert len(boundary_edges(vertices, faces, weld=True)) == 4


def test_edge_walk_visits_every_voxel_of_a_segment() -> None:
    rng = np.random.default_rng(0)
    vertices = rng.uniform(0.5, 15.5, (40, 3))
    edges = np.arange(40).reshape(20, 2)
    cells, owner = edge_voxels(vertices, edges, 16)
    for e, (a, b) in enumerate(vertices[edges]):
        points = a + np.linspace(0, 1, 5000)[:, None] * (b - a)
        visited = {tuple(c) for c in cells[owner == e].tolist()}
        assert {tuple(c) for c in np.floor(points).astype(int).tolist()} <= visited
        assert len(visited) == 1 + np.abs(np.floor(a) - np.floor(b)).sum()


def quad(z: float, material: int) -> Mesh:
    return Mesh(
        np.array([[-1, -1, z], [1, -1, z], [1, 1, z], [-1, 1, z]], np.float64),
        np.array([[0, 1, 2], [0, 2, 3]], np.int32),
        material=material,
    )


def test_materials_keep_their_side() -> None:
    asset = Asset(
        (quad(-0.5, 0), quad(0.5, 1)),
        (
            Material(base_color_factor=(1, 0, 0, 1), metallic_factor=1, roughness_factor=0.25),
            Material(
                base_color_factor=(0, 0, 1, 0.5), alpha_mode="BLEND", metallic_factor=0, roughness_factor=0.75
            ),
        ),
    )
    voxels = voxelize_asset(asset, 40)
    assert voxels.attributes is not None
    front = voxels.placement.to_gltf((voxels.coords + 0.5) / 40 - 0.5)[:, 2] > 0
    np.testing.assert_allclose(voxels.attributes[front], [[0, 0, 1, 0, 0.75, 0.5]] * front.sum(), atol=1e-6)
    np.testing.assert_allclose(voxels.attributes[~front], [[1, 0, 0, 1, 0.25, 1]] * (~front).sum(), atol=1e-6)


def test_shared_voxels_mix_by_area() -> None:
    """A voxel cut in two materials along x = 0.3 of its width gets them 30 : 70."""
    cut = -0.5 + 0.3 / 4
    corners = [(-0.5, cut), (cut, 0.5)]
    meshes = [
        Mesh(
            np.array([[a, -0.5, 0.01], [b, -0.5, 0.01], [b, 0.5, 0.01], [a, 0.5, 0.01]], np.float64),
            np.array([[0, 1, 2], [0, 2, 3]], np.int32),
            material=i,
        )
        for i, (a, b) in enumerate(corners)
    ]
    asset = Asset(tuple(meshes), (Material(metallic_factor=0.0), Material(metallic_factor=1.0)))
    sampler = MaterialSampler(asset)
    coords, _, _, attributes = voxelize_surface(
        sampler.vertices.astype(np.float32), sampler.surface.faces, 4, sampler=sampler, weld=True
    )
    assert attributes is not None
    mixed = attributes[(coords[:, 0] == 0), 3]
    np.testing.assert_allclose(mixed, 0.7, atol=1e-5)


def test_progress_reports_and_cancels() -> None:
    asset = Asset((quad(0, -1), quad(0.7, -1)))
    seen: list[int] = []
    voxelize_asset(asset, 64, progress=lambda done, total, what: seen.append(done) is None)
    assert seen[-1] == 100
    assert seen == sorted(seen)
    with pytest.raises(Cancelled):
        voxelize_asset(asset, 64, progress=lambda *_: False)


@pytest.mark.parametrize("resolution", [0, -3, 5000])
def test_impossible_resolution(resolution: int) -> None:
    with pytest.raises(AssetError, match="resolution"):
        voxelize_asset(Asset((quad(0, -1),)), resolution)


def test_no_surface() -> None:
    line = Mesh(np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0]], np.float64), np.array([[0, 1, 2]], np.int32))
    with pytest.raises(AssetError, match="no area"):
        voxelize_asset(Asset((line,)), 16)


MATERIALS = golden_tensors("ovoxel_materials")
SOURCES = json.loads((PARITY_DIR / "ovoxel_materials.json").read_text()) if MATERIALS else {"assets": {}}


@pytest.mark.parametrize(
    "name", SOURCES["assets"] or [pytest.param("", marks=pytest.mark.skip("no golden materials"))]
)
def test_published_materials(name: str) -> None:
    """Voxels and materials of real assets as the published converter makes them (Y-up frame, 64^3)."""
    assert MATERIALS is not None
    about = SOURCES["assets"][name]
    path = ASSETS_DIR.parent / about["source"]
    if not path.is_file():
        pytest.skip(f"the asset {about['source']} is not here")
    sampler = MaterialSampler(load(path))
    shifted = sampler.vertices.astype(np.float32) + np.array(about["translate"], np.float32)
    resolution = SOURCES["resolution"]
    coords, dual, intersected, attributes = voxelize_surface(
        shifted * np.float32(about["scale"]),
        sampler.surface.faces,
        resolution,
        sampler=sampler,
        footprint=1 / (resolution * about["scale"]),
        weld=False,
    )
    expected = {k[len(name) + 1 :]: v for k, v in MATERIALS.items() if k.startswith(name + ".")}
    order = np.lexsort(expected["coords"].T[::-1])
    np.testing.assert_array_equal(coords, expected["coords"][order])
    bits = (intersected * [1, 2, 4]).sum(1)
    assert (bits == expected["intersected"][order, 0]).mean() > 0.9998
    assert np.abs(np.floor(255 * dual) - expected["dual_vertices"][order]).mean() < 0.255
    assert attributes is not None
    stored = np.floor(255 * attributes)
    for channel, part in (("base_color", slice(0, 3)), ("metallic", 3), ("roughness", 4), ("alpha", 5)):
        wanted = expected[channel][order].astype(float).reshape(len(coords), -1)
        assert np.abs(stored[:, part].reshape(wanted.shape) - wanted).mean() <= 3.0, channel


@pytest.mark.parametrize("entry", manifest_assets("real", "derived"))
def test_real_assets_lie_on_their_voxels(entry: dict[str, Any]) -> None:
    """Every dual vertex is near the surface; every channel is in range; coordinates come back."""
    asset = load(ASSETS_DIR / entry["file"])
    voxels = voxelize_asset(asset, 48)
    assert voxels.attributes is not None
    assert np.isfinite(voxels.attributes).all()
    assert voxels.attributes.min() >= 0
    assert voxels.attributes.max() <= 1
    assert voxels.dual_vertices.min() >= 0
    assert voxels.dual_vertices.max() <= 1
    assert voxels.coords.min() >= 0
    assert voxels.coords.max() < 48
    positions = voxels.placement.to_gltf((voxels.coords + voxels.dual_vertices) / 48 - 0.5)
    low, high = asset.bounds()
    slack = 1.01 * float((high - low).max()) / 48
    assert (positions >= low - slack).all()
    assert (positions <= high + slack).all()


def test_placement_round_trip() -> None:
    placement = Placement((3e6, -2.0, 7.0), 0.01)
    points = np.random.default_rng(0).uniform(-1, 1, (10, 3)) + np.array([3e6, -2, 7])
    np.testing.assert_allclose(placement.to_gltf(placement.to_model(points)), points, rtol=1e-12)
    np.testing.assert_allclose(placement.to_model(np.array([[3e6, -1.0, 7.0]])), [[0, 0, 0.01]], atol=1e-12)
