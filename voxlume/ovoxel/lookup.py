"""Values at points between voxels: trilinear over the voxel centres that exist."""

from __future__ import annotations

import numpy as np
from numba import get_num_threads, prange
from numpy.typing import NDArray

from voxlume.jit import inner_kernel, parallel_kernel
from voxlume.ovoxel.index import AXIS_BITS, MAX_RESOLUTION, VoxelIndex, lower_bound

NEAR = 3
"""Voxels within which the nearest one is searched in the sorted keys; beyond, a KD-tree is faster."""


def trilinear(
    voxels: VoxelIndex | NDArray[np.integer],
    values: NDArray[np.float32],
    points: NDArray[np.floating],
    nearest_fallback: bool = False,
) -> NDArray[np.float32]:
    """Interpolate voxel values at points.

    Of the eight voxel centres around a point those that exist are weighted trilinearly and the weights
    renormalised.

    Parameters
    ----------
    voxels : int32 (n, 3) coordinates, or their index where several look-ups share it.
    values : float32 (n, c), at the voxel centres ``coords + 0.5``.
    points : (k, 3) in voxel units, that is (model frame + 0.5) * resolution.
    nearest_fallback : give a point with no voxel around it the value of the voxel with the nearest centre
        (any of them at equal distance) instead of zeros.

    Returns
    -------
    float32 (k, c). Points that are not finite get zeros.

    Raises
    ------
    ValueError : number of values and voxels differ.
    """
    index = voxels if isinstance(voxels, VoxelIndex) else VoxelIndex(voxels)
    if len(values) != len(index):
        raise ValueError(f"{len(values)} values for {len(index)} voxels")
    values = np.ascontiguousarray(values, np.float32)
    at = np.ascontiguousarray(points, np.float64)
    order = np.empty(0, np.int64) if index.order is None else index.order
    result = np.zeros((len(at), values.shape[1]), np.float32)
    found = np.empty(len(at), np.bool_)
    _interpolate(index.keys, index.slabs, index.first_x, order, values, at, result, found)
    if nearest_fallback and len(index) and not found.all():
        missed = np.flatnonzero(~found & np.isfinite(at).all(1))
        result[missed] = values[nearest(index, at[missed])]
    return result


def trilinear_reference(
    voxels: NDArray[np.integer],
    values: NDArray[np.float32],
    points: NDArray[np.floating],
    nearest_fallback: bool = False,
) -> NDArray[np.float32]:
    """Slow twin of :func:`trilinear`."""
    numbers = {tuple(c): i for i, c in enumerate(voxels.tolist())}
    result = np.zeros((len(points), values.shape[1]), np.float32)
    for row, point in enumerate(np.asarray(points, np.float64)):
        if not np.isfinite(point).all():
            continue
        low = np.floor(point - 0.5)
        fraction = point - 0.5 - low
        total = 0.0
        weighted = np.zeros(values.shape[1])
        for step in np.ndindex(2, 2, 2):
            number = numbers.get(tuple(int(x) for x in low + step))
            if number is not None:
                weight = float(np.prod(np.where(step, fraction, 1 - fraction)))
                weighted += weight * values[number].astype(np.float64)
                total += weight
        if total > 0:
            result[row] = weighted / total
        elif nearest_fallback and len(voxels):
            result[row] = values[((voxels + 0.5 - point) ** 2).sum(1).argmin()]
    return result


def nearest(index: VoxelIndex, points: NDArray[np.floating]) -> NDArray[np.int64]:
    """Number of the voxel whose centre is nearest to each finite point (k, 3) in voxel units.

    ``index`` must not be empty. Near points are found in the sorted keys, the others in a KD-tree.
    """
    at = np.ascontiguousarray(points, np.float64)
    numbers = np.empty(len(at), np.int64)
    _search_near(index.keys, index.slabs, index.first_x, at, numbers)
    if index.order is not None:
        numbers = np.where(numbers >= 0, index.order[numbers], -1)
    far = np.flatnonzero(numbers < 0)
    if len(far):
        numbers[far] = index.tree().query(at[far] - 0.5, workers=get_num_threads())[1]
    return numbers


@parallel_kernel
def _interpolate(
    keys: NDArray[np.int64],
    slabs: NDArray[np.int64],
    first_x: int,
    order: NDArray[np.int64],
    values: NDArray[np.float32],
    points: NDArray[np.float64],
    result: NDArray[np.float32],
    found: NDArray[np.bool_],
) -> None:
    channels = values.shape[1]
    for row in prange(len(points)):
        found[row] = False
        px, py, pz = points[row, 0] - 0.5, points[row, 1] - 0.5, points[row, 2] - 0.5
        # Written so that NaN fails too; beyond these bounds no voxel can be.
        if not (min(px, py, pz) >= -1 and max(px, py, pz) <= MAX_RESOLUTION):
            continue
        x, y, z = np.int64(np.floor(px)), np.int64(np.floor(py)), np.int64(np.floor(pz))
        fx, fy, fz = px - x, py - y, pz - z
        sums = np.zeros(channels)
        total = 0.0
        for i in range(2):
            slab = x + i - first_x
            if slab < 0 or slab >= len(slabs) - 1:
                continue
            end = slabs[slab + 1]
            position = slabs[slab]
            for j in range(2):
                if y + j < 0:
                    continue
                base = ((x + i) << 2 * AXIS_BITS) | ((y + j) << AXIS_BITS)
                low, high = base + (z if z > 0 else 0), base + z + 1
                position = lower_bound(keys, position, end, low)
                while position < end and keys[position] <= high:
                    upper = keys[position] == high
                    weight = (
                        (fx if i == 1 else 1 - fx) * (fy if j == 1 else 1 - fy) * (fz if upper else 1 - fz)
                    )
                    number = order[position] if len(order) else position
                    for channel in range(channels):
                        sums[channel] += weight * values[number, channel]
                    total += weight
                    position += 1
        if total > 0:
            found[row] = True
            for channel in range(channels):
                result[row, channel] = sums[channel] / total


@parallel_kernel
def _search_near(
    keys: NDArray[np.int64],
    slabs: NDArray[np.int64],
    first_x: int,
    points: NDArray[np.float64],
    positions: NDArray[np.int64],
) -> None:
    """Position in ``keys`` of the nearest voxel centre, or -1 where it may be farther than NEAR."""
    for row in prange(len(points)):
        positions[row] = -1
        px, py, pz = points[row, 0] - 0.5, points[row, 1] - 0.5, points[row, 2] - 0.5
        if not (min(px, py, pz) >= -NEAR and max(px, py, pz) <= MAX_RESOLUTION + NEAR):
            continue
        best = float(NEAR * NEAR)
        cx, cy, cz = np.int64(np.rint(px)), np.int64(np.rint(py)), np.int64(np.rint(pz))
        for i in range(2 * NEAR + 1):
            x = cx + _outwards(i)
            slab = x - first_x
            if slab < 0 or slab >= len(slabs) - 1 or (x - px) ** 2 > best:
                continue
            for j in range(2 * NEAR + 1):
                y = cy + _outwards(j)
                across = (x - px) ** 2 + (y - py) ** 2
                if y < 0 or across > best:
                    continue
                base = (x << 2 * AXIS_BITS) | (y << AXIS_BITS)
                end = slabs[slab + 1]
                position = lower_bound(keys, slabs[slab], end, base + (cz - NEAR if cz > NEAR else 0))
                while position < end and keys[position] <= base + cz + NEAR:
                    distance = across + (keys[position] - base - pz) ** 2
                    if distance < best or (distance == best and positions[row] < 0):
                        best = distance
                        positions[row] = position
                    position += 1


@inner_kernel
def _outwards(i: int) -> int:
    """0, -1, 1, -2, 2, ...: near steps first, so that the search narrows early."""
    return -((i + 1) >> 1) if i & 1 else i >> 1
