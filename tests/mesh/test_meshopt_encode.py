"""The meshopt encoder against our decoder, which streams of the reference library keep to the standard."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.mesh.full_asset import plain_asset
from voxlume.mesh import meshopt_encode
from voxlume.mesh.meshopt import decode_buffer_view
from voxlume.mesh.meshopt_encode import (
    encode_attributes,
    encode_triangles,
    exponential,
    first_use_order,
    from_exponential,
    octahedral,
)

RNG = np.random.default_rng(5)


def elements(kind: str, count: int, stride: int) -> NDArray[np.uint8]:
    if kind == "noise":
        return RNG.integers(0, 256, (count, stride), np.uint8)
    if kind == "constant":
        return np.full((count, stride), 200, np.uint8)
    if kind == "small steps":
        return np.cumsum(RNG.integers(-2, 3, (count, stride)), axis=0).astype(np.uint8)
    # Now and then a large one among small ones: values beside the packed bits.
    steps = np.where(RNG.random((count, stride)) < 0.1, RNG.integers(-99, 99, (count, stride)), 1)
    return np.cumsum(steps, axis=0).astype(np.uint8)


@pytest.mark.parametrize("kind", ["noise", "constant", "small steps", "outliers"])
@pytest.mark.parametrize("count", [1, 15, 16, 17, 256, 1000])
@pytest.mark.parametrize("stride", [4, 12, 64, 256])
def test_attributes_come_back(kind: str, count: int, stride: int) -> None:
    values = elements(kind, count, stride)
    stream = encode_attributes(values)
    assert decode_buffer_view(stream, count, stride, "ATTRIBUTES") == values.tobytes()
    if kind == "constant":  # nothing but headers, one byte for 64 values of a column
        block = min(8192 // stride & ~15, 256)
        blocks = [min(block, count - first) for first in range(0, count, block)]
        assert len(stream) == 1 + sum(stride * -(-size // 64) for size in blocks) + max(stride, 32)


def smallest_rotation(faces: NDArray[np.integer]) -> NDArray[np.integer]:
    """Of the three ways to name each triangle in its own direction the first in the alphabet."""
    return np.array([min((a, b, c), (b, c, a), (c, a, b)) for a, b, c in faces.tolist()])


@pytest.mark.parametrize("kind", ["grid", "grid in order of use", "random", "degenerate", "one"])
def test_triangles_come_back(kind: str) -> None:
    faces = plain_asset().meshes[0].faces
    if kind == "grid in order of use":
        faces = faces.reshape(2, -1, 3).transpose(1, 0, 2).reshape(-1, 3)  # quad by quad
        order, renumbered = first_use_order(faces)
        np.testing.assert_array_equal(order[renumbered], faces)
        faces = renumbered
    elif kind == "random":
        faces = RNG.integers(0, 100_000, (3000, 3)).astype(np.int32)
    elif kind == "degenerate":
        faces = RNG.integers(0, 4, (500, 3)).astype(np.int32)
    elif kind == "one":
        faces = np.array([[0, 1, 2]], np.int32)
    stream = encode_triangles(faces)
    decoded = np.frombuffer(decode_buffer_view(stream, faces.size, 4, "TRIANGLES"), np.uint32)
    np.testing.assert_array_equal(smallest_rotation(decoded.reshape(-1, 3)), smallest_rotation(faces))
    if kind == "grid in order of use":
        assert len(stream) < 2.5 * len(faces)


def test_kernels_agree_with_their_python(monkeypatch: pytest.MonkeyPatch) -> None:
    faces, values = plain_asset().meshes[0].faces, elements("outliers", 70, 12)
    expected = encode_triangles(faces), encode_attributes(values)
    for name in ("_pack_deltas", "_pack_triangles", "_write_step"):
        monkeypatch.setattr(meshopt_encode, name, getattr(meshopt_encode, name).py_func)
    assert (encode_triangles(faces), encode_attributes(values)) == expected


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e6, 1e30])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_exponential_keeps_its_step(scale: float, offset: float) -> None:
    values = ((RNG.random((50, 3)) + offset) * scale).astype(np.float32)
    packed = exponential(values, scale * 2.0**-16)
    decoded = decode_buffer_view(encode_attributes(packed), 50, 12, "ATTRIBUTES", "EXPONENTIAL")
    again = np.frombuffer(decoded, np.float32).reshape(-1, 3)
    np.testing.assert_array_equal(again, from_exponential(packed))
    np.testing.assert_allclose(again, values, rtol=2.0**-23, atol=scale * 2.0**-17)
    assert not exponential(np.zeros((2, 2), np.float32), 0.0).astype(np.uint8).any()


def test_octahedral_keeps_directions() -> None:
    normals = RNG.normal(size=(500, 3))
    normals[:6] = np.concatenate([np.eye(3), -np.eye(3)])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    packed = octahedral(normals, 10)
    decoded = decode_buffer_view(encode_attributes(packed), len(normals), 8, "ATTRIBUTES", "OCTAHEDRAL")
    again = np.frombuffer(decoded, np.int16).reshape(-1, 4)[:, :3] / 32767
    angle = np.degrees(np.arccos(np.clip((again * normals).sum(axis=1), -1, 1)))
    assert angle.max() < 0.5
