"""Measures of pairs whose answers are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.render.shapes import plain, quad, sphere
from voxlume.asset import Asset
from voxlume.errors import AssetError
from voxlume.evaluation.maps import Maps
from voxlume.evaluation.metrics import (
    MEASURES,
    MOST_DB,
    Truth,
    iou,
    material_scores,
    mean_ssim,
    normal_scores,
    open_edges,
    psnr,
)
from voxlume.evaluation.surface import f_score
from voxlume.ovoxel import OVoxel


def truth_of(asset: Asset) -> Truth:
    return Truth(asset, samples=2000, size=48)


def test_parallel_planes() -> None:
    truth = truth_of(plain(quad(10.0)))
    moved = plain(quad(10.0, z=0.2))
    scores = truth.distances(moved)
    assert scores["truth_to_result"] == pytest.approx(0.02, rel=1e-4)
    assert scores["mesh_distance"] == pytest.approx(0.02, rel=1e-4)
    assert (scores["f_score_0.05"], scores["f_score_0.01"]) == (1, 0)


def test_half_of_it_missing() -> None:
    """A square of which the result is the middle quarter: precise, but half complete along each side."""
    truth = truth_of(plain(quad(2.0)))
    scores = truth.distances(plain(quad(1.0)))
    assert scores["result_to_truth"] == pytest.approx(0, abs=1e-9)
    # Recall within 0.05 of the side: the quarter grown by 0.05 on each side, with round corners.
    recall = 0.6**2 - (4 - np.pi) * 0.05**2
    assert scores["f_score_0.05"] == pytest.approx(2 * recall / (1 + recall), abs=0.02)


def test_f_score() -> None:
    a, b = np.array([0.0, 1.0]), np.array([0.0, 0.0, 1.0, 1.0])
    assert f_score(a, b, 0.5) == 0.5
    assert f_score(a, b, 1.0) == 1
    assert f_score(a, b, -1.0) == 0


def test_psnr() -> None:
    a = np.full((4, 4), 0.5)
    assert psnr(a, a + 0.1) == pytest.approx(20)
    assert psnr(a, a + 0.01) == pytest.approx(40)
    assert psnr(a, a) == MOST_DB
    assert psnr(a[:0], a[:0]) is None


def test_iou_and_ssim() -> None:
    a, b = np.array([True, True, False, False]), np.array([True, False, True, False])
    assert iou(a, b) == pytest.approx(1 / 3)
    assert iou(~a & a, b & ~b) is None
    pictures = np.random.default_rng(0).random((2, 16, 16, 3))
    assert mean_ssim(pictures, pictures) == pytest.approx(1)
    assert mean_ssim(pictures, 1 - pictures) < 0


def maps_of(alpha: np.ndarray, base: float = 0.5) -> Maps:
    attributes = np.full((1, 16, 16, 6), base, np.float32)
    attributes[..., 5] = alpha
    return Maps(np.ones((1, 16, 16), np.float32), np.full((1, 16, 16, 3), 0.5, np.float32), attributes)


def test_materials_and_glass() -> None:
    solid, half = np.ones((16, 16)), np.ones((16, 16))
    half[:8] = 0.3
    quarter = np.ones((16, 16))
    quarter[:4] = 0.3
    scores = material_scores(maps_of(half), maps_of(quarter, 0.6))
    assert scores["alpha_iou"] == pytest.approx(0.5)
    assert scores["base_color_error"] == pytest.approx(0.1)
    assert scores["base_color_psnr"] == pytest.approx(20, abs=1e-3)
    assert scores["alpha_error"] == pytest.approx(0.7 / 4)
    assert material_scores(maps_of(half), maps_of(solid))["alpha_iou"] == 0
    assert material_scores(maps_of(solid), maps_of(half))["alpha_iou"] is None
    assert normal_scores(maps_of(solid), maps_of(half))["normal_psnr"] == MOST_DB


def test_voxels_of_the_truth_are_nearly_perfect() -> None:
    asset = plain(
        sphere(24), base_color_factor=(0.5, 0.2, 0.1, 0.4), roughness_factor=0.3, alpha_mode="BLEND"
    )
    moved = Asset(
        tuple(replace(mesh, vertices=100 + 7 * mesh.vertices) for mesh in asset.meshes), asset.materials
    )
    truth = truth_of(moved)
    scores = truth.score(OVoxel.from_asset(moved, 48))
    assert set(scores) == set(MEASURES)
    assert scores["f_score_0.01"] == 1
    assert scores["mesh_distance"] < 2e-3  # type: ignore[operator]
    assert scores["normal_psnr_object"] > 22  # type: ignore[operator]
    assert scores["silhouette_iou"] > 0.97  # type: ignore[operator]
    assert scores["alpha_iou"] > 0.97  # type: ignore[operator]
    assert scores["base_color_error"] < 0.01  # type: ignore[operator]
    assert scores["roughness_error"] < 0.01  # type: ignore[operator]


def test_results_without_a_surface() -> None:
    truth = truth_of(plain(sphere(16)))
    none = OVoxel(
        16, np.zeros((1, 3), np.int32), np.full((1, 3), 0.5, np.float32), np.zeros((1, 3), np.bool_)
    )
    scores = truth.score(none)
    assert scores["f_score_0.05"] == 0
    assert scores["mesh_distance"] is None
    assert scores["silhouette_iou"] == 0
    with pytest.raises(AssetError):
        Truth(Asset(()))


def test_open_edges() -> None:
    """None on a ball, the rim of one face more with every quad that is taken out of it."""
    ball = OVoxel.from_asset(plain(sphere(24)), 24)
    assert open_edges(ball) == 0
    edges = 3 * len(ball.to_mesh().faces) // 2
    crossed = ball.intersected.copy()
    crossed[tuple(np.argwhere(crossed)[0])] = False
    assert open_edges(replace(ball, intersected=crossed)) == pytest.approx(4 / (edges - 1))
    assert open_edges(replace(ball, intersected=np.zeros_like(crossed))) is None
