"""Morton codes, the octree stream and the filters against slow, obvious versions."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from voxlume.ovoxel.morton import chunk_keys, decode_morton
from voxlume.ovoxel.octree import count_leaves, decode_octree, encode_octree
from voxlume.ovoxel.predict import (
    from_differences,
    predict_from_neighbors,
    predict_from_parents,
    to_differences,
)

SETS = [(1, 0.5), (2, 0.3), (3, 0.05), (3, 1.0), (5, 0.01), (9, 1e-6)]


def random_codes(levels: int, share: float) -> NDArray[np.int64]:
    rng = np.random.default_rng(levels)
    count = max(1, round(share * 8**levels))
    codes = np.unique(rng.integers(0, 8**levels, count)) if share < 1 else np.arange(8**levels)
    return codes.astype(np.int64)


def coordinate(code: int) -> tuple[int, int, int]:
    x = y = z = 0
    for bit in range(21):
        x |= (code >> (3 * bit + 2) & 1) << bit
        y |= (code >> (3 * bit + 1) & 1) << bit
        z |= (code >> (3 * bit) & 1) << bit
    return x, y, z


def slow_octree(codes: list[int], level: int) -> list[int]:
    octants: dict[int, list[int]] = {}
    for code in codes:
        octants.setdefault(code >> 3 * (level - 1), []).append(code & (8 ** (level - 1) - 1))
    masks = [sum(1 << octant for octant in octants)]
    if level > 1:
        for octant in sorted(octants):
            masks += slow_octree(octants[octant], level - 1)
    return masks


def slow_parent_stream(codes: list[int], values: list[int], level: int) -> list[int]:
    octants: dict[int, list[int]] = {}
    for i, code in enumerate(codes):
        octants.setdefault((code >> 3 * (level - 1)) & 7, []).append(i)
    children = [octants[octant] for octant in sorted(octants)]
    stream = [(values[b[0]] - values[a[0]]) % 256 for a, b in pairwise(children)]
    if level > 1:
        for child in children:
            stream += slow_parent_stream([codes[i] for i in child], [values[i] for i in child], level - 1)
    return stream


@pytest.mark.parametrize("levels", [1, 4, 8, 20])
def test_chunk_keys(levels: int) -> None:
    coords = np.random.default_rng(0).integers(0, 1 << 20, (200, 3)).astype(np.int32)
    keys = chunk_keys(coords, levels)
    order = np.argsort(keys)
    chunks = [tuple(c) for c in (coords[order] >> levels).tolist()]
    assert chunks == sorted(chunks)
    for key, coord in zip(keys.tolist(), coords.tolist(), strict=True):
        assert coordinate(key % 8**levels) == tuple(c % (1 << levels) for c in coord)


def test_decode_morton() -> None:
    codes = np.random.default_rng(0).integers(0, 8**20, 100)
    coords, origin = np.empty((100, 3), np.int32), np.array([10, 20, 30])
    decode_morton(codes, origin, coords)
    np.testing.assert_array_equal(coords - origin, [coordinate(c) for c in codes.tolist()])


@pytest.mark.parametrize(("levels", "share"), SETS)
def test_octree(levels: int, share: float) -> None:
    codes = random_codes(levels, share)
    masks = encode_octree(codes, levels)
    assert masks.tolist() == slow_octree(codes.tolist(), levels)
    assert count_leaves(masks, levels, len(codes)) == len(codes)
    np.testing.assert_array_equal(decode_octree(masks, levels, len(codes)), codes)
    assert count_leaves(masks, levels, len(codes) - 1) == -1


@pytest.mark.parametrize(
    ("masks", "levels"),
    [([], 2), ([1], 2), ([3, 1], 2), ([0], 1), ([1, 0], 2), ([1, 1, 1], 2), ([1, 1], 1), ([255], 3)],
)
def test_damaged_octree(masks: list[int], levels: int) -> None:
    assert count_leaves(np.array(masks, np.uint8), levels, 100) == -1


@pytest.mark.parametrize(("levels", "share"), SETS)
def test_neighbor_filter(levels: int, share: float) -> None:
    codes = random_codes(levels, share)
    values = np.random.default_rng(0).integers(0, 256, (len(codes), 2)).astype(np.uint8)
    at = {coordinate(c): i for i, c in enumerate(codes.tolist())}
    steps = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1)]
    expected = []
    for (x, y, z), i in at.items():
        before = np.zeros(2, np.uint8)
        for dx, dy, dz in steps:  # the last one that exists counts
            if (x - dx, y - dy, z - dz) in at:
                before = values[at[x - dx, y - dy, z - dz]]
        expected.append(values[i] - before)
    source, place = predict_from_neighbors(codes), np.arange(len(codes), dtype=np.int32)
    stream = to_differences(values, source, place)
    np.testing.assert_array_equal(stream, expected)
    np.testing.assert_array_equal(from_differences(stream, source, place), values)


@pytest.mark.parametrize(("levels", "share"), SETS)
def test_parent_filter(levels: int, share: float) -> None:
    codes = random_codes(levels, share)
    values = np.random.default_rng(0).integers(0, 256, (len(codes), 2)).astype(np.uint8)
    source, place = predict_from_parents(codes, levels)
    stream = to_differences(values, source, place)
    for channel in range(2):
        column = values[:, channel].tolist()
        assert stream[:, channel].tolist() == [
            column[0],
            *slow_parent_stream(codes.tolist(), column, levels),
        ]
    np.testing.assert_array_equal(from_differences(stream, source, place), values)
