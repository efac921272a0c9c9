"""Pictures whose content can be worked out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.render.shapes import box, painted, plain, quad, sphere
from voxlume.asset import Asset, Material, Mesh
from voxlume.errors import AssetError
from voxlume.render.camera import Camera, look_at
from voxlume.render.draw import Frame, draw
from voxlume.render.environment import Environment
from voxlume.render.scene import Scene
from voxlume.render.tonemap import neutral

FOV = math.radians(40)


def even_light(level: float) -> Environment:
    """The same light from everywhere and no key light."""
    return Environment.from_radiance(np.full((64, 128, 3), level, np.float32))


def front(distance: float) -> Camera:
    return look_at((0, 0, distance), (0, 0, 0), FOV, near=1e-3)


def exact_front(size: float) -> Camera:
    """The camera whose picture a square of this size at z = 0 fills exactly."""
    return front(size / 2 / math.tan(FOV / 2))


def shot(asset: Asset, camera: Camera, size: int = 64, light: float = 0.5, supersampling: int = 1) -> Frame:
    return draw(Scene(asset), camera, size, size, environment=even_light(light), supersampling=supersampling)


def test_sphere_silhouette_depth_and_normals() -> None:
    camera = front(4.0)
    frame = shot(plain(sphere(128)), camera, 128)
    row, column = np.mgrid[:128, :128]
    x, y = (2 * column + 1) / 128 - 1, 1 - (2 * row + 1) / 128
    ray = np.stack([x * math.tan(FOV / 2), y * math.tan(FOV / 2), -np.ones_like(x)], -1)
    ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
    along = -4.0 * ray[..., 2]
    miss = np.sqrt(16.0 - along**2)
    sure = np.abs(miss - 1) > 2e-3
    np.testing.assert_array_equal((frame.covered > 0)[sure], (miss < 1)[sure])
    hit = miss < 0.97
    distance = along - np.sqrt(np.maximum(1 - miss**2, 0))
    np.testing.assert_allclose(frame.depth[hit], distance[hit], atol=2e-3)
    normal = np.array([0, 0, 4.0]) + ray * distance[..., None]
    # Smooth normals although the mesh brings none.
    assert (frame.normal[hit] * normal[hit]).sum(-1).min() > 0.9998


def test_hard_edges_stay_hard() -> None:
    frame = shot(plain(box((-1, -1, -1), (1, 1, 1))), look_at((3, 4, 5), (0, 0, 0), FOV, 1e-3), 64)
    seen = frame.normal[frame.covered > 0]
    assert np.abs(seen).max(axis=-1).min() > 0.9999
    assert len(np.unique(np.round(seen), axis=0)) == 3


def test_winding_does_not_change_the_picture() -> None:
    mesh = sphere(24)
    rng = np.random.default_rng(0)
    turned = np.where(rng.random((len(mesh.faces), 1)) < 0.5, mesh.faces, mesh.faces[:, ::-1]).astype(
        np.int32
    )
    camera = look_at((1, 2, 3), (0, 0, 0), FOV, 1e-3)
    a = shot(plain(mesh), camera, light=0.7)
    b = shot(plain(Mesh(mesh.vertices, turned)), camera, light=0.7)
    np.testing.assert_allclose(a.normal, b.normal, atol=1e-4)
    np.testing.assert_allclose(a.color, b.color, atol=1e-4)


def test_textured_square_seen_straight_on_is_its_texture() -> None:
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    frame = shot(painted(quad(2.0), image), exact_front(2.0), 64)
    np.testing.assert_allclose(frame.base_color * 255, image, atol=1.0)


def test_supersampling_averages_in_the_texture_s_place() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, 32:] = 255
    frame = shot(painted(quad(2.0), image), exact_front(2.0), 32, supersampling=2)
    assert (frame.base_color[:, :15] < 0.01).all()
    assert (frame.base_color[:, 17:] > 0.99).all()


@pytest.mark.parametrize("metallic", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("roughness", [0.0, 0.3, 0.7, 1.0])
def test_white_furnace(metallic: float, roughness: float) -> None:
    """White material in even light gives the light back: it neither glows nor swallows any."""
    asset = plain(sphere(48), metallic_factor=metallic, roughness_factor=roughness)
    frame = shot(asset, front(4.0), 48)
    shown = frame.covered > 0
    expected = neutral(0.5, 0.5, 0.5)[0]
    assert frame.color[shown].max() <= expected + 0.005
    assert frame.color[shown].min() >= expected - 0.02


def test_metal_mirrors_and_matt_does_not() -> None:
    light = np.full((64, 128, 3), 0.05, np.float32)
    light[20:28, 50:60] = 20
    environment = Environment.from_radiance(light)
    camera = front(4.0)

    def contrast(**material: float) -> float:
        scene = Scene(plain(sphere(48), base_color_factor=(0.5, 0.5, 0.5, 1), **material))
        color = draw(scene, camera, 64, 64, environment=environment, supersampling=1).color[..., 1]
        return float(color.max() / max(np.median(color[color > 0]), 1e-6))

    polished, brushed = (contrast(metallic_factor=1.0, roughness_factor=r) for r in (0.1, 0.6))
    matt = contrast(metallic_factor=0.0, roughness_factor=1.0)
    assert polished > 2 * brushed > 2 * matt


def test_glass_before_a_wall_blends() -> None:
    wall = quad(4.0, -1.0, material=0)
    pane = quad(4.0, 0.0, material=1)
    materials = (
        Material(base_color_factor=(1, 0, 0, 1), metallic_factor=0, roughness_factor=1),
        Material(
            base_color_factor=(0, 0, 1, 0.25), metallic_factor=0, roughness_factor=1, alpha_mode="BLEND"
        ),
    )
    camera = look_at((0, 0, 3), (0, 0, 0), math.radians(20), 1e-3)
    both = shot(Asset((wall, pane), materials), camera, 8)
    alone = shot(Asset((wall,), materials), camera, 8)
    red = both.color[4, 4, 0] / alone.color[4, 4, 0]
    assert 0.70 < red < 0.76
    assert both.color[4, 4, 2] > 0.08
    assert (both.passed == 0).all()
    np.testing.assert_allclose(both.alpha, 0.25, atol=1e-6)
    only_pane = shot(Asset((pane,), materials), camera, 8)
    assert 0.70 < only_pane.passed[4, 4, 0] <= 0.75


def test_many_panes_are_all_seen() -> None:
    material = Material(base_color_factor=(1, 1, 1, 0.1), metallic_factor=0, alpha_mode="BLEND")
    panes = tuple(quad(4.0, -0.1 * i, material=0) for i in range(10))
    frame = shot(Asset(panes, (material,)), look_at((0, 0, 3), (0, 0, 0), math.radians(20), 1e-3), 4)
    assert 0.2 < frame.passed[2, 2, 0] <= 0.9**10


def test_cut_out_texture_shows_what_is_behind() -> None:
    image = np.full((64, 64, 4), 255, np.uint8)
    image[:, :32, 3] = 0
    leaf = painted(quad(2.0), image, alpha_mode="MASK")
    wall = quad(20.0, -1.0, material=1)
    green = Material(base_color_factor=(0, 1, 0, 1), metallic_factor=0, roughness_factor=1)
    frame = shot(Asset((*leaf.meshes, wall), (*leaf.materials, green)), exact_front(2.0), 32)
    np.testing.assert_allclose(frame.base_color[:, :15], np.broadcast_to([0, 1, 0], (32, 15, 3)), atol=1e-5)
    np.testing.assert_allclose(frame.base_color[:, 17:], 1, atol=1e-5)
    np.testing.assert_allclose(frame.alpha, 1)


def test_opaque_mode_ignores_alpha() -> None:
    image = np.zeros((4, 4, 4), np.uint8)
    frame = shot(painted(quad(2.0), image), exact_front(2.0), 8)
    assert (frame.passed == 0).all()


def test_camera_inside_a_room_sees_wall_everywhere() -> None:
    frame = shot(
        plain(box((-1, -1, -1), (1, 1, 1))), look_at((0.3, 0.2, 0.1), (1, -0.4, 0.5), math.radians(100), 1e-4)
    )
    assert (frame.covered == 1).all()
    assert 0.3 < frame.depth.min() < frame.depth.max() < 3.5


def test_far_away_and_tiny_assets_look_the_same() -> None:
    reference = None
    for scale, offset in ((1.0, 0.0), (1e-7, 0.0), (1.0, 4e6)):
        mesh = box((0, 0, 0), (1, 2, 1))
        asset = plain(Mesh(mesh.vertices * scale + offset, mesh.faces))
        scene = Scene(asset)
        camera = look_at(
            scene.center + np.array([2, 2, 3]) * scene.radius, scene.center, FOV, 1e-3 * scene.radius
        )
        frame = draw(scene, camera, 32, 32)
        reference = frame if reference is None else reference
        np.testing.assert_allclose(frame.color, reference.color, atol=2e-3)


def test_shadow_falls_behind() -> None:
    """A plate between the key light and the floor darkens it."""
    floor = box((-3, -0.1, -3), (3, 0, 3))
    plate = box((-0.7, 1, -0.7), (0.7, 1.1, 0.7))
    both = Asset((floor, plate))
    light = Environment.from_radiance(np.full((64, 128, 3), 0.1, np.float32), (0, 1, 0), (0.5, 0.5, 0.5))
    camera = look_at((0, 1.5, 8), (0, 0, 0), FOV, 1e-3)
    column = draw(Scene(both), camera, 64, 64, environment=light).color[30:41, 32, 1]
    alone = draw(Scene(Asset((floor,))), camera, 64, 64, environment=light).color[30:41, 32, 1]
    assert alone.min() > 0.5
    assert column.min() < 0.2
    np.testing.assert_allclose(column[-3:], alone[-3:], rtol=0.05)


def test_same_input_same_bytes() -> None:
    asset = plain(sphere(32), base_color_factor=(0.8, 0.3, 0.2, 0.5), alpha_mode="BLEND")
    camera = look_at((1, 2, 3), (0, 0, 0), FOV, 1e-3)
    first, second = (draw(Scene(asset), camera, 48, 48) for _ in range(2))
    assert first.color.tobytes() == second.color.tobytes()


def test_nothing_to_draw_is_said() -> None:
    with pytest.raises(AssetError, match="no geometry"):
        Scene(Asset(()))
    point = Mesh(np.ones((3, 3)), np.array([[0, 1, 2]], np.int32))
    with pytest.raises(AssetError, match="coincide"):
        Scene(Asset((point,)))
    with pytest.raises(AssetError, match="finite"):
        Scene(Asset((Mesh(np.full((3, 3), np.nan), np.array([[0, 1, 2]], np.int32)),)))
