"""What the package writes, as three.js sees it: the same silhouette as in our own picture, no complaint."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from examples.lantern import lantern
from tests.mesh.full_asset import plain_asset
from tests.paths import ASSETS_DIR, SHARED_MISSING
from tests.threejs import Shot, shoot
from voxlume.asset import Asset
from voxlume.mesh.from_voxels import surface_of
from voxlume.mesh.read import load
from voxlume.mesh.textured import TexturedOptions, textured_asset
from voxlume.mesh.write_glb import Compression, write_glb
from voxlume.mesh.write_images import ImageFormat
from voxlume.ovoxel.grid import OVoxel
from voxlume.render.camera import FIXED_VIEWS, orbit
from voxlume.render.draw import draw
from voxlume.render.scene import Scene

SIZE = 384
FOV = 28.0
LEAST_IOU = 0.98


def silhouette_iou(path: Path) -> tuple[float, Shot]:
    """Agreement of the silhouettes of one file in three.js and in our own renderer."""
    scene = Scene(load(path))
    camera = orbit(scene.center, scene.radius, FIXED_VIEWS[0], math.radians(FOV))
    ours = draw(scene, camera, SIZE, SIZE, supersampling=1).covered > 0.5
    shot = shoot(path, camera.position, scene.center, FOV, SIZE)
    theirs = shot.picture[:, :, 3] > 0
    return float((ours & theirs).sum() / (ours | theirs).sum()), shot


@pytest.mark.parametrize("image_format", ["webp", "png", "jpeg"])
def test_textures_of_every_format(tmp_path: Path, image_format: ImageFormat) -> None:
    asset = plain_asset(double_sided=True)
    write_glb(asset, tmp_path / "a.glb", image_format=image_format)
    iou, shot = silhouette_iou(tmp_path / "a.glb")
    assert iou >= LEAST_IOU
    assert shot.problems == []
    assert shot.triangles == asset.num_faces
    assert shot.textures >= 2
    # The texture is there: many colours, not one.
    assert len(np.unique(shot.picture[shot.picture[:, :, 3] > 0] // 32, axis=0)) > 20


def test_exported_voxels(tmp_path: Path) -> None:
    ovoxel = OVoxel.from_asset(lantern(), 64)
    textured = textured_asset(ovoxel, TexturedOptions(faces=20_000, texture_size=256))
    for name, asset in (("colors", surface_of(ovoxel)), ("textured", textured)):
        write_glb(asset, tmp_path / f"{name}.glb", image_format="webp")
        iou, shot = silhouette_iou(tmp_path / f"{name}.glb")
        assert iou >= LEAST_IOU, name
        assert shot.problems == []


@pytest.mark.parametrize("compression", get_args(Compression))
def test_compressed_geometry(tmp_path: Path, compression: Compression) -> None:
    asset = plain_asset(double_sided=True)
    write_glb(asset, tmp_path / "a.glb", compression=compression)
    iou, shot = silhouette_iou(tmp_path / "a.glb")
    assert iou >= LEAST_IOU
    assert shot.problems == []
    assert shot.triangles == asset.num_faces


@pytest.mark.skipif(not ASSETS_DIR.is_dir(), reason=SHARED_MISSING)
def test_a_real_asset(tmp_path: Path) -> None:
    asset = load(ASSETS_DIR / "avocado.glb")
    asset = replace(asset, materials=tuple(replace(m, normal_texture=None) for m in asset.materials))
    write_glb(Asset(asset.meshes, asset.materials), tmp_path / "a.glb", image_format="webp")
    iou, shot = silhouette_iou(tmp_path / "a.glb")
    assert iou >= LEAST_IOU
    assert shot.problems == []
