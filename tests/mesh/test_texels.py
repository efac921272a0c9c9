from __future__ import annotations

import numpy as np
import pytest

from voxlume.mesh.texels import assign_texels, assign_texels_reference


def _scattered(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Triangles apart from each other, some without area, some beyond the square, one not finite."""
    random = np.random.default_rng(seed)
    uvs = random.uniform(-0.1, 1.1, (count, 1, 2)) + random.uniform(-0.08, 0.08, (count, 3, 2))
    uvs[0, 1] = uvs[0, 2]
    uvs[1] = uvs[1, :1]
    uvs[2] = np.nan
    return uvs.reshape(-1, 2).astype(np.float32), np.arange(3 * count, dtype=np.int32).reshape(-1, 3)


@pytest.mark.parametrize("size", [16, 37])
def test_kernel_equals_its_twin(size: int) -> None:
    uvs, faces = _scattered(25, size)
    with np.errstate(invalid="ignore"):
        expected_face, expected_weights = assign_texels_reference(uvs, faces, size)
    face, weights = assign_texels(uvs, faces, size)
    np.testing.assert_array_equal(face, expected_face)
    np.testing.assert_allclose(weights, expected_weights, atol=1e-5)
    assert 0.2 < (face >= 0).mean() < 1


def test_strips_are_parts_of_the_whole() -> None:
    uvs, faces = _scattered(40, 1)
    face, weights = assign_texels(uvs, faces, 50)
    parts = [assign_texels(uvs, faces, 50, rows) for rows in ((0, 7), (7, 40), (40, 50))]
    np.testing.assert_array_equal(np.concatenate([f for f, _ in parts]), face)
    np.testing.assert_allclose(np.concatenate([w for _, w in parts]), weights, atol=1e-5)
