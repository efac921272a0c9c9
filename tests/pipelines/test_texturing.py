"""A picture onto a mesh: the geometry stays, the material is new."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from voxlume.asset import Asset, Mesh
from voxlume.errors import ModelFileError, VoxlumeError
from voxlume.ovoxel.grid import OVoxel
from voxlume.pipelines.image_to_3d import SamplerOptions
from voxlume.pipelines.texturing import Texturing, TexturingOptions

FEW = SamplerOptions(steps=2)


@pytest.fixture(scope="module")
def texturing(tiny_model: Path) -> Texturing:
    return Texturing.from_pretrained(tiny_model, device="cpu")


@pytest.fixture(scope="module")
def pyramid() -> Asset:
    """Off centre and not of unit size."""
    vertices = np.array([[0, 0, 0], [4, 0, 0], [4, 0, 4], [0, 0, 4], [2, 3, 2]], np.float64) + 10
    faces = np.array([[0, 1, 2], [0, 2, 3], [0, 4, 1], [1, 4, 2], [2, 4, 3], [3, 4, 0]], np.int32)
    return Asset((Mesh(vertices, faces),), name="pyramid")


@pytest.mark.parametrize(("asked", "resolution"), [(None, 64), (512, 32), (1024, 64), (32, 32)])
def test_geometry_is_the_meshs(
    asked: int | None, resolution: int, texturing: Texturing, pyramid: Asset, picture: NDArray[np.uint8]
) -> None:
    result = texturing.run(pyramid, picture, TexturingOptions(resolution=asked, material_sampler=FEW)).ovoxel
    mesh = OVoxel.from_asset(pyramid, resolution)
    assert result.resolution == resolution
    assert result.placement == mesh.placement
    for name in ("coords", "dual_vertices", "intersected"):
        assert np.array_equal(getattr(result, name), getattr(mesh, name))
    assert result.attributes is not None
    assert result.attributes.shape == (len(mesh), 6)
    assert result.attributes.std() > 1e-3


def test_seed_and_picture_decide_the_material(
    texturing: Texturing, pyramid: Asset, picture: NDArray[np.uint8]
) -> None:
    def attributes(seed: int, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        options = TexturingOptions(resolution=512, seed=seed, material_sampler=FEW)
        found = texturing.run(pyramid, image, options).ovoxel.attributes
        assert found is not None
        return found

    first = attributes(1, picture)
    assert np.array_equal(first, attributes(1, picture))
    assert not np.array_equal(first, attributes(2, picture))
    assert not np.array_equal(first, attributes(1, 255 - picture))


def test_refusals(texturing: Texturing, pyramid: Asset, picture: NDArray[np.uint8], tmp_path: Path) -> None:
    with pytest.raises(VoxlumeError, match="no pipeline type '100'"):
        texturing.run(pyramid, picture, TexturingOptions(resolution=100))
    with pytest.raises(ModelFileError, match=r"has no texturing_pipeline\.json"):
        Texturing.from_pretrained(tmp_path)
