"""Maps of normals and materials: against surfaces whose every pixel is known."""

from __future__ import annotations

import numpy as np

from tests.render.shapes import box, plain, quad, sphere
from voxlume.asset import Asset, Material
from voxlume.evaluation.maps import draw_maps, framing
from voxlume.render.camera import View

FRONT = (View("front", 0, 0),)
SIZE = 64


def test_a_ball() -> None:
    asset = plain(
        sphere(96), base_color_factor=(1.0, 0.0, 1.0, 1.0), metallic_factor=0.25, roughness_factor=0.75
    )
    (camera,) = framing(asset, FRONT)
    maps = draw_maps(asset, [camera], SIZE)
    # The ball touches the frame but for three per cent.
    assert abs(maps.covered.sum() / SIZE**2 - np.pi / 4 / 1.03**2) < 0.01
    inside = maps.covered[0] == 1
    np.testing.assert_allclose(
        maps.attributes[0][inside], [[1, 0, 1, 0.25, 0.75, 1]] * inside.sum(), atol=0.01
    )
    # Rays from the eye to the pixel centres meet the unit sphere where the normal is the place itself.
    row, column = np.nonzero(inside)
    slope = np.tan(camera.fov / 2)
    x, y = slope * ((2 * column + 1) / SIZE - 1), slope * (1 - (2 * row + 1) / SIZE)
    ray = np.stack([x, y, np.ones_like(x)], 1) @ camera.axes
    ray /= np.linalg.norm(ray, axis=1, keepdims=True)
    along = -(ray @ camera.position)
    reach = along - np.sqrt(np.maximum(along**2 - camera.position @ camera.position + 1, 0))
    normal = camera.position + reach[:, None] * ray
    facing = np.einsum("nc,nc->n", normal, -ray) > 0.4
    found = 2 * maps.normal[0][row, column] - 1
    np.testing.assert_allclose(found[facing], normal[facing], atol=0.06)
    assert not maps.normal[0][maps.covered[0] == 0].any()


def test_what_hides_what() -> None:
    """Glass hides what is behind it; what is cut away hides nothing."""
    materials = (
        Material(base_color_factor=(1, 0, 0, 0.3), alpha_mode="BLEND", metallic_factor=0),
        Material(base_color_factor=(0, 1, 0, 0.0), alpha_mode="BLEND", metallic_factor=0),
        Material(base_color_factor=(0, 0, 1, 1.0), metallic_factor=0),
    )
    glass, nothing = quad(0.5, 1.0, 0), quad(1.0, 1.5, 1)
    wall = quad(2.0, 0.0, 2)
    asset = Asset((nothing, glass, wall), materials)
    maps = draw_maps(asset, framing(asset, FRONT), SIZE)
    middle, beside = maps.attributes[0, SIZE // 2, SIZE // 2], maps.attributes[0, SIZE // 2, SIZE * 5 // 16]
    np.testing.assert_allclose(middle[[0, 1, 2, 5]], [1, 0, 0, 0.3], atol=1e-3)
    np.testing.assert_allclose(beside[[0, 1, 2, 5]], [0, 0, 1, 1], atol=1e-3)
    np.testing.assert_allclose(
        maps.normal[0][maps.covered[0] == 1], [[0.5, 0.5, 1]] * (maps.covered == 1).sum()
    )


def test_far_away_assets_lose_nothing() -> None:
    near, far = (plain(box(*corners)) for corners in (((0, 0, 0), (1, 2, 1)), ((1e7, 0, 0), (1e7 + 1, 2, 1))))
    first, second = (draw_maps(asset, framing(asset), SIZE) for asset in (near, far))
    assert np.abs(first.normal - second.normal).mean() < 1e-3


def test_nothing_to_draw() -> None:
    cameras = framing(plain(quad()))
    maps = draw_maps(Asset(()), cameras, 16)
    assert maps.attributes.shape == (4, 16, 16, 6)
    assert not maps.covered.any()
