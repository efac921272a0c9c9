"""Trilinear look-up with tensors on any device; same results as :mod:`voxlume.ovoxel.lookup`."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from voxlume.ovoxel.index import MAX_RESOLUTION
from voxlume.ovoxel.index_torch import TorchVoxelIndex
from voxlume.ovoxel.lookup import NEAR

CORNERS = tuple(itertools.product((0, 1), repeat=3))
FAR_CHUNK = 1 << 28
"""Distances computed at a time for points that are far from every voxel."""


def trilinear_torch(
    voxels: TorchVoxelIndex | Tensor, values: Tensor, points: Tensor, nearest_fallback: bool = False
) -> Tensor:
    """Interpolate voxel values at points; differentiable in ``values``.

    Parameters
    ----------
    voxels : integer (n, 3) coordinates, or their index where several look-ups share it.
    values : float (n, c), at the voxel centres ``coords + 0.5``.
    points : float (k, 3) in voxel units.
    nearest_fallback : give a point with no voxel around it the value of the nearest voxel instead of zeros.

    Returns
    -------
    (k, c) in the dtype of ``values``; weights are computed in double precision. Points that are not finite
    get zeros.

    Raises
    ------
    ValueError : number of values and voxels differ.
    """
    index = voxels if isinstance(voxels, TorchVoxelIndex) else TorchVoxelIndex(voxels)
    if len(values) != len(index):
        raise ValueError(f"{len(values)} values for {len(index)} voxels")
    finite = points.isfinite().all(1)
    centered = torch.where(finite[:, None], points, -4.0).double().clamp(-4, MAX_RESOLUTION + 4) - 0.5
    low = centered.floor()
    fraction = centered - low
    sums = torch.zeros(len(points), values.shape[1], dtype=torch.float64, device=points.device)
    total = torch.zeros(len(points), 1, dtype=torch.float64, device=points.device)
    for corner in CORNERS:
        step = torch.tensor(corner, device=points.device)
        number = index.find(low.long() + step)
        weight = torch.where(step == 1, fraction, 1 - fraction).prod(1, keepdim=True)
        weight = torch.where(number[:, None] >= 0, weight, 0.0)
        if len(index):
            sums = sums + weight * values[number.clamp(min=0)]
        total = total + weight
    result = torch.where(total > 0, sums / total.clamp(min=1e-300), 0.0).to(values.dtype)
    missed = (finite & (total[:, 0] == 0)).nonzero()[:, 0]
    if nearest_fallback and len(index) and len(missed):
        result = result.index_copy(0, missed, values[nearest_torch(index, points[missed])])
    return result


def nearest_torch(index: TorchVoxelIndex, points: Tensor) -> Tensor:
    """int64 (k,): voxel whose centre is nearest to each finite point (k, 3) in voxel units.

    ``index`` must not be empty. Shells of neighbours are tried outwards; points farther than a few voxels
    from all of them are compared with every voxel.
    """
    centered = points.double() - 0.5
    base = centered.clamp(-2 * NEAR, MAX_RESOLUTION + 2 * NEAR).round()
    best = torch.full((len(points),), float(NEAR * NEAR), dtype=torch.float64, device=points.device)
    numbers = torch.full((len(points),), -1, device=points.device)
    reach = range(-NEAR, NEAR + 1)
    for step in sorted(itertools.product(reach, repeat=3), key=lambda s: sum(x * x for x in s)):
        # The nearest a voxel of this step can be, from a point that is up to half a voxel off its base.
        bound = sum(max(abs(x) - 0.5, 0.0) ** 2 for x in step)
        open_rows = (best >= bound).nonzero()[:, 0]
        if not len(open_rows):
            continue
        cell = base[open_rows] + torch.tensor(step, dtype=torch.float64, device=points.device)
        number = index.find(cell.long())
        distance = ((cell - centered[open_rows]) ** 2).sum(1)
        better = (number >= 0) & (distance <= best[open_rows])
        rows = open_rows[better]
        best[rows], numbers[rows] = distance[better], number[better]
    far = (numbers < 0).nonzero()[:, 0]
    for rows in far.split(max(1, FAR_CHUNK // len(index))):
        distances = torch.cdist(
            centered[rows], index.coords.double(), compute_mode="donot_use_mm_for_euclid_dist"
        )
        numbers[rows] = distances.argmin(1)
    return numbers
