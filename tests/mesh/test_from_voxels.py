from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from examples.lantern import lantern
from voxlume.mesh.from_voxels import surface_of
from voxlume.mesh.read import load
from voxlume.mesh.write_glb import write_glb
from voxlume.ovoxel.grid import OVoxel
from voxlume.ovoxel.voxelize import voxelize_asset
from voxlume.texture import MaterialSampler


@pytest.fixture(scope="module")
def voxels() -> OVoxel:
    return voxelize_asset(lantern(), 40)


def test_a_vertex_keeps_its_voxels_material_through_a_file(voxels: OVoxel, tmp_path: Path) -> None:
    """All six channels come back at every vertex, although the material's factors are only their means."""
    assert voxels.attributes is not None
    write_glb(surface_of(voxels), tmp_path / "x.glb")
    asset = load(tmp_path / "x.glb")
    sampler = MaterialSampler(asset)
    corner = np.eye(3)[np.arange(len(sampler.surface.faces)) % 3]
    values = sampler.sample(np.arange(len(corner)), corner)
    vertex = sampler.surface.faces[np.arange(len(corner)), np.arange(len(corner)) % 3]
    used = np.zeros(len(voxels), bool)
    position = voxels.placement.to_gltf((voxels.coords + voxels.dual_vertices) / 40 - 0.5)
    # Vertices keep the voxels' order; find each by its place.
    key = {tuple(np.round(p, 4)): i for i, p in enumerate(position)}
    for value, v in zip(values, sampler.vertices[vertex], strict=True):
        i = key.get(tuple(np.round(v, 4)))
        if i is not None:
            used[i] = True
            np.testing.assert_allclose(value, voxels.attributes[i], atol=2.5 / 255)
    assert used.mean() > 0.9


def test_stray_translucent_voxels_do_not_blend_the_whole(voxels: OVoxel) -> None:
    assert voxels.attributes is not None
    opaque = voxels.attributes.copy()
    opaque[:, 5] = 1
    opaque[:3, 5] = 0.2
    few = replace(voxels, attributes=opaque)
    assert surface_of(few).materials[0].alpha_mode == "OPAQUE"
    assert surface_of(few, exact_alpha=True).materials[0].alpha_mode == "BLEND"
    assert surface_of(voxels).materials[0].alpha_mode == "BLEND"


def test_bare_geometry(voxels: OVoxel) -> None:
    asset = surface_of(replace(voxels, attributes=None))
    assert asset.materials == ()
    assert asset.num_faces > 1000
