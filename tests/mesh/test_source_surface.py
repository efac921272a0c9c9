from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from examples.lantern import lantern
from voxlume.asset import Asset, Material, Mesh
from voxlume.errors import AssetError
from voxlume.mesh.source_surface import SourceSurface, _extract_on
from voxlume.mesh.source_surface_reference import material_reference, nearest_reference
from voxlume.ovoxel.extract import extract_mesh
from voxlume.ovoxel.grid import OVoxel
from voxlume.ovoxel.voxelize import voxelize_asset


@pytest.fixture(scope="module")
def voxels() -> OVoxel:
    return voxelize_asset(lantern(), 24)


@pytest.fixture(scope="module")
def source(voxels: OVoxel) -> SourceSurface:
    return SourceSurface(voxels)


def _questions(source: SourceSurface, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Points near the surface and farther off, with normals of all directions and some of zeros."""
    random = np.random.default_rng(5)
    at = source.vertices[source.faces[random.integers(0, len(source.faces), count)]].mean(axis=1)
    spread = random.choice([0.05, 0.5, 3.0, 12.0], (count, 1))
    points, normals = at + spread * random.normal(size=(count, 3)), random.normal(size=(count, 3))
    normals[::3] = 0
    return points, normals


@pytest.mark.parametrize("facing", [False, True])
def test_nearest_equals_its_twin(source: SourceSurface, facing: bool) -> None:
    points, normals = _questions(source, 300)
    directions = normals if facing else None
    expected, at = nearest_reference(source, points, directions)
    face, weights = source.nearest(points, directions)
    np.testing.assert_array_equal(face >= 0, np.isfinite(expected))
    found = face >= 0
    assert 0.5 < found.mean() < 1
    place = np.einsum("nk,nkc->nc", weights, source.vertices[source.faces[face]])[found]
    np.testing.assert_allclose(np.linalg.norm(place - points[found], axis=1), expected[found], atol=1e-9)
    np.testing.assert_allclose(place, at[found], atol=1e-6)


def test_material_equals_its_twin(source: SourceSurface) -> None:
    points, _ = _questions(source, 300)
    face, weights = source.nearest(points)
    values = source.material(points, face, weights)
    found = face >= 0
    np.testing.assert_allclose(
        values[found], material_reference(source, face[found], weights[found]), atol=1e-5
    )
    assert source.attributes is not None
    lost = points[~found] - 0.5
    nearest = ((lost[:, None] - source.index.coords) ** 2).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(values[~found], source.attributes[nearest])


def thin_box(thickness: float) -> Asset:
    """A closed box, a unit wide, its upper side red, the lower one and the rim green."""
    low = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    vertices = np.concatenate([low, low + np.array([0, 0, thickness])])
    top = np.array([[4, 5, 6], [4, 6, 7]], np.int32)
    rest = [[0, 2, 1], [0, 3, 2]]
    for i in range(4):
        j = (i + 1) % 4
        rest += [[i, j, j + 4], [i, j + 4, i + 4]]
    return Asset(
        meshes=(Mesh(vertices, top, material=0), Mesh(vertices, np.array(rest, np.int32), material=1)),
        materials=(Material(base_color_factor=(1, 0, 0, 1)), Material(base_color_factor=(0, 1, 0, 1))),
    )


def test_sides_of_a_thin_wall_stay_apart() -> None:
    """Wherever inside a plate of a voxel and a half a point lies, it finds the side that it faces."""
    thickness = 1.5 / 32
    voxels = voxelize_asset(thin_box(thickness), 32)
    source = SourceSurface(voxels)
    inside = np.random.default_rng(0).uniform(0.15, 0.85, (200, 3)) * [1, 1, thickness]
    points = (voxels.placement.to_model(inside) + 0.5) * 32
    origin = voxels.placement.to_model(np.zeros((1, 3)))
    for z, color in ((1.0, (1, 0, 0)), (-1.0, (0, 1, 0))):
        normals = np.repeat(voxels.placement.to_model(np.array([[0, 0, z]])) - origin, 200, axis=0)
        values = source.material(points, *source.nearest(points, normals))
        np.testing.assert_allclose(values[:, :3], np.tile(color, (200, 1)), atol=1e-6)
    # Without normals each half of the points finds the side that is nearer.
    values = source.material(points, *source.nearest(points))
    np.testing.assert_allclose(values[:, 0], inside[:, 2] > thickness / 2, atol=1e-6)


def test_areas_add_up(source: SourceSurface) -> None:
    corners = source.vertices[source.faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert source.vertex_areas().sum() == pytest.approx(np.linalg.norm(cross, axis=1).sum() / 2)


def test_order_of_the_voxels_does_not_matter(voxels: OVoxel, source: SourceSurface) -> None:
    assert voxels.attributes is not None
    order = np.random.default_rng(1).permutation(len(voxels))
    shuffled = replace(
        voxels,
        coords=voxels.coords[order],
        dual_vertices=voxels.dual_vertices[order],
        intersected=voxels.intersected[order],
        attributes=voxels.attributes[order],
    )
    np.testing.assert_array_equal(SourceSurface(shuffled).faces, source.faces)
    np.testing.assert_array_equal(SourceSurface(shuffled).attributes, source.attributes)


def test_what_cannot_be_asked_is_one_line(voxels: OVoxel) -> None:
    assert voxels.attributes is not None
    broken = voxels.attributes.copy()
    broken[3, 2] = np.nan
    with pytest.raises(AssetError, match="material holds values that are not finite"):
        SourceSurface(replace(voxels, attributes=broken))
    duals = voxels.dual_vertices.copy()
    duals[0] = np.inf
    with pytest.raises(AssetError, match="surface holds values that are not finite"):
        SourceSurface(replace(voxels, dual_vertices=duals))
    with pytest.raises(AssetError, match="no surface"):
        SourceSurface(replace(voxels, intersected=np.zeros_like(voxels.intersected)))
    bare = SourceSurface(replace(voxels, attributes=None))
    face, weights = bare.nearest(bare.vertices[:4])
    with pytest.raises(AssetError, match="no material"):
        bare.material(bare.vertices[:4], face, weights)


@pytest.mark.parametrize("weighted", [False, True])
def test_extraction_with_tensors_is_the_same(voxels: OVoxel, weighted: bool) -> None:
    """The path that a CUDA device takes, walked on the CPU."""
    weights = np.random.default_rng(0).random(len(voxels)).astype(np.float32) if weighted else None
    given = voxels.coords, voxels.dual_vertices, voxels.intersected, voxels.resolution, weights
    np.testing.assert_array_equal(_extract_on("cpu")(*given), extract_mesh(*given)[1])
