"""The voxeliser in plain PyTorch: the obvious twin of :mod:`voxlume.ovoxel.tiles`, and what runs on CUDA.

The same arithmetic in the same order of operations, written as whole-array steps: list all crossings of
grid lines with triangles, sort them into voxels, list all (voxel, triangle) overlaps, sum, solve.

Legend for shapes: m triangles, r rows of the scan conversion, k crossings, n active voxels, p pairs of
an active voxel and a triangle that overlaps it.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxlume.ovoxel.boundary import boundary_edges, edge_voxels
from voxlume.ovoxel.materials import voxel_materials
from voxlume.texture import MaterialSampler
from voxlume.texture_torch import to_device

if TYPE_CHECKING:
    from voxlume.ovoxel.tiles import Weights

_CHUNK = 1 << 22
"""Candidates that are expanded at a time; bounds the memory of the temporaries."""


def voxelize_torch(
    v: NDArray[np.float64],
    faces: NDArray[np.int32],
    resolution: int,
    *,
    sampler: MaterialSampler | None,
    footprint: float,
    weights: Weights,
    weld: bool,
    device: str,
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32] | None]:
    """Voxelise triangles given in voxel units; see :func:`voxlume.ovoxel.voxelize.voxelize_surface`."""
    tri_m33 = torch.as_tensor(v, device=device)[torch.as_tensor(faces, device=device).long()]
    normal_m3, has_area_m = _unit_normals(tri_m33)

    key, triangle, point, flag = _crossings(tri_m33, has_area_m, resolution)
    key_n = torch.unique(key)
    if not len(key_n):
        none = np.zeros((0, 6), np.float32)
        return none[:, :3].astype(np.int32), none[:, :3], none[:, :3] > 0, none if sampler else None
    slot = torch.searchsorted(key_n, key)
    coords_n3 = _coords_of(key_n, resolution)

    energy = _Energy(len(key_n), device)
    energy.add_planes(slot, triangle, 1.0, normal_m3, tri_m33, coords_n3)
    energy.add_points(slot, point - coords_n3[slot])
    intersected_n3 = torch.zeros(len(key_n), 3, dtype=torch.bool, device=device)
    flagged = torch.nonzero(flag >= 0)[:, 0]
    intersected_n3[slot[flagged], flag[flagged]] = True

    pair_slot, pair_triangle = _overlaps(tri_m33, normal_m3, has_area_m, key_n, resolution)
    energy.add_planes(pair_slot, pair_triangle, weights.face, normal_m3, tri_m33, coords_n3)
    if weights.boundary > 0:
        _add_boundary(energy, v, faces, weld, weights.boundary, key_n, coords_n3, resolution)
    dual_n3 = energy.minimum(weights.regularization)

    attributes = None
    if sampler is not None:
        # Voxels that no triangle overlaps by the half-open rule speak through their first crossing.
        first = torch.full((len(key_n),), len(faces), dtype=torch.int64, device=device)
        first.scatter_reduce_(0, slot, triangle, "amin")
        bare = torch.nonzero(torch.bincount(pair_slot, minlength=len(key_n)) == 0)[:, 0]
        pair_slot, pair_triangle = torch.cat([pair_slot, bare]), torch.cat([pair_triangle, first[bare]])
        materials = to_device(sampler, device)
        log2_footprint = math.log2(footprint) if footprint > 0 else -1e9
        values_n6 = voxel_materials(materials, tri_m33, pair_slot, pair_triangle, coords_n3, log2_footprint)
        (attributes,) = _to_host(values_n6)
    coords, dual, intersected = _to_host(coords_n3.int(), dual_n3.float(), intersected_n3)
    return coords, dual, intersected, attributes


def _to_host(*tensors: Tensor) -> list[NDArray]:
    """Arrays on the host; from CUDA through page-locked memory, ten times as fast as ordinary memory.

    The arrays keep that memory, which goes back to PyTorch's pool when they are dropped.
    """
    if tensors[0].device.type != "cuda":
        return [t.cpu().numpy() for t in tensors]
    copies = [torch.empty(t.shape, dtype=t.dtype, pin_memory=True) for t in tensors]
    for copy, tensor in zip(copies, tensors, strict=True):
        copy.copy_(tensor, non_blocking=True)
    torch.cuda.synchronize(tensors[0].device)
    return [copy.numpy() for copy in copies]


def _unit_normals(tri_m33: Tensor) -> tuple[Tensor, Tensor]:
    """Unit normals (m, 3), and which triangles have an area."""
    a, b = tri_m33[:, 1] - tri_m33[:, 0], tri_m33[:, 2] - tri_m33[:, 0]
    n = torch.stack(
        [a[:, (c + 1) % 3] * b[:, (c + 2) % 3] - a[:, (c + 2) % 3] * b[:, (c + 1) % 3] for c in range(3)], 1
    )
    length = (n[:, 0] ** 2 + n[:, 1] ** 2 + n[:, 2] ** 2).sqrt()
    return n / length[:, None], length > 0


def _expand(count: Tensor) -> tuple[Tensor, Tensor]:
    """Repeat each row ``count`` times: (row number, running number within the row)."""
    count = count.clamp(min=0)
    row = torch.repeat_interleave(count)
    start = torch.cumsum(count, 0) - count
    return row, torch.arange(len(row), device=count.device) - start[row]


def _coords_of(key: Tensor, resolution: int) -> Tensor:
    return torch.stack(
        [key // (resolution * resolution), key // resolution % resolution, key % resolution], 1
    )


def _crossings(tri_m33: Tensor, has_area_m: Tensor, resolution: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """All (voxel, crossing) pairs: voxel key, triangle, point (., 3), axis whose flag it sets or -1."""
    keys, triangles, points, flags = [], [], [], []
    for axis in range(3):
        triangle, point, p, q, s = _axis_crossings(tri_m33, has_area_m, axis, resolution)
        u_axis, v_axis = (axis + 1) % 3, (axis + 2) % 3
        for i in (-1, 0):
            for j in (-1, 0):
                cell: list[Tensor] = [s, s, s]
                cell[axis], cell[u_axis], cell[v_axis] = s, p + i, q + j
                inside = torch.ones_like(s, dtype=torch.bool)
                for c in cell:
                    inside &= (c >= 0) & (c < resolution)
                key = (cell[0] * resolution + cell[1]) * resolution + cell[2]
                keys.append(key[inside])
                triangles.append(triangle[inside])
                points.append(point[inside])
                flags.append(torch.full_like(keys[-1], axis if i + j == -2 else -1))
    return torch.cat(keys), torch.cat(triangles), torch.cat(points), torch.cat(flags)


def _axis_crossings(
    tri_m33: Tensor, has_area_m: Tensor, axis: int, resolution: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Crossings of grid lines along ``axis``: triangle, point (k, 3), p, q (k,) integers, slab s."""
    u_axis, v_axis = (axis + 1) % 3, (axis + 2) % 3
    rows = tri_m33[:, :, [u_axis, v_axis, axis]]
    rows = rows.gather(1, rows[:, :, 1].argsort(dim=1, stable=True)[:, :, None].expand(-1, -1, 3))
    first_q = (rows[:, 0, 1].floor().long() + 1).clamp(min=0)
    last_q = rows[:, 2, 1].floor().long().clamp(max=resolution)
    count = torch.where(has_area_m, last_q - first_q + 1, 0)
    triangle_r, offset = _expand(count)
    q_r = first_q[triangle_r] + offset
    u0, w0, u1, w1 = _row_span(rows[triangle_r], q_r)

    first_p = (u0.floor().long() + 1).clamp(min=0)
    row_k, offset = _expand(u1.floor().long().clamp(max=resolution) - first_p + 1)
    p, q = first_p[row_k] + offset, q_r[row_k]
    w = w0[row_k] + (p - u0[row_k]) / (u1[row_k] - u0[row_k]) * (w1[row_k] - w0[row_k])
    s = w.floor().long()
    keep = (s >= 0) & (s < resolution)
    p, q, s, w, row_k = p[keep], q[keep], s[keep], w[keep], row_k[keep]
    columns = {axis: w, u_axis: p.double(), v_axis: q.double()}
    return triangle_r[row_k], torch.stack([columns[0], columns[1], columns[2]], 1), p, q, s


def _row_span(rows_r33: Tensor, q_r: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ends (u, w) of the cut of each triangle with v = q, the smaller u first."""
    index = torch.arange(len(q_r), device=q_r.device)
    lower = torch.where(q_r <= rows_r33[:, 1, 1], 0, 1)
    ends = []
    for start, end in ((lower, lower + 1), (torch.zeros_like(lower), torch.full_like(lower, 2))):
        a, b = rows_r33[index, start], rows_r33[index, end]
        t = (q_r - a[:, 1]) / (b[:, 1] - a[:, 1])
        ends.append((a[:, 0] + t * (b[:, 0] - a[:, 0]), a[:, 2] + t * (b[:, 2] - a[:, 2])))
    (u0, w0), (u1, w1) = ends
    ordered = u0 <= u1
    return (
        torch.where(ordered, u0, u1),
        torch.where(ordered, w0, w1),
        torch.where(ordered, u1, u0),
        torch.where(ordered, w1, w0),
    )


def _overlaps(
    tri_m33: Tensor, normal_m3: Tensor, has_area_m: Tensor, key_n: Tensor, resolution: int
) -> tuple[Tensor, Tensor]:
    """All pairs of an active voxel and a triangle that overlaps it: (slot, triangle)."""
    slots, triangles = [], []
    low = tri_m33.amin(1).floor().long().clamp(min=0)
    high = tri_m33.amax(1).floor().long().clamp(max=resolution - 1)
    setup = _overlap_setup(tri_m33, normal_m3)
    dominant = normal_m3.abs().nan_to_num(-1.0).argmax(1)
    for axis in range(3):
        # Columns along the axis closest to the normal hold only a few voxels of a triangle each.
        u_axis, v_axis = (axis + 1) % 3, (axis + 2) % 3
        mine = torch.nonzero(has_area_m & (dominant == axis))[:, 0]
        size = high[mine] - low[mine] + 1
        columns = size[:, u_axis].clamp(min=0) * size[:, v_axis].clamp(min=0)
        for part in _chunks(columns):
            row, offset = _expand(columns[part])
            t = mine[part][row]
            width = size[part][row, v_axis]
            u, v = low[t, u_axis] + offset // width, low[t, v_axis] + offset % width
            first, last = _column_reach(tri_m33, normal_m3, t, u, v, axis, low, high)
            row, offset = _expand(last - first + 1)
            cell: list[Tensor] = [row, row, row]
            cell[axis], cell[u_axis], cell[v_axis] = first[row] + offset, u[row], v[row]
            t = t[row]
            key = (cell[0] * resolution + cell[1]) * resolution + cell[2]
            slot = torch.searchsorted(key_n, key).clamp(max=len(key_n) - 1)
            active = torch.nonzero(key_n[slot] == key)[:, 0]
            t, slot = t[active], slot[active]
            hit = _overlap(setup, normal_m3, t, [c[active] for c in cell])
            slots.append(slot[hit])
            triangles.append(t[hit])
    empty = key_n[:0]
    return torch.cat([empty, *slots]), torch.cat([empty, *triangles])


def _chunks(count: Tensor) -> list[slice]:
    """Slices of rows with about ``_CHUNK`` expanded elements each (one row may exceed it)."""
    if not len(count):
        return []
    block = (torch.cumsum(count, 0) - count) // _CHUNK
    cuts = torch.nonzero(block[1:] != block[:-1])[:, 0].add(1).tolist()
    edges = [0, *cuts, len(count)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def _column_reach(
    tri_m33: Tensor,
    normal_m3: Tensor,
    t: Tensor,
    u: Tensor,
    v: Tensor,
    axis: int,
    low: Tensor,
    high: Tensor,
) -> tuple[Tensor, Tensor]:
    """Voxels [first, last] along ``axis`` at column (u, v) that the plane and bounding box allow."""
    n, a = normal_m3[t], tri_m33[t, 0]
    u_axis, v_axis = (axis + 1) % 3, (axis + 2) % 3
    d = (n * a).sum(1)
    middle = (d - n[:, u_axis] * (u + 0.5) - n[:, v_axis] * (v + 0.5)) / n[:, axis]
    reach = 0.5 * (n[:, u_axis].abs() + n[:, v_axis].abs()) / n[:, axis].abs()
    first = torch.maximum((middle - reach).floor().long() - 1, low[t, axis])
    last = torch.minimum((middle + reach).floor().long() + 1, high[t, axis])
    return first, last


def _overlap_setup(tri_m33: Tensor, normal_m3: Tensor) -> Tensor:
    """(m, 11, 3) constants of the overlap test; see :func:`voxlume.ovoxel.triangle.overlap_setup`."""
    rows = []
    for axis in range(3):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        sign = torch.where(normal_m3[:, axis] >= 0, 1.0, -1.0)
        for e in range(3):
            p, q = tri_m33[:, e], tri_m33[:, (e + 1) % 3]
            n_i, n_j = -(q[:, j] - p[:, j]) * sign, (q[:, i] - p[:, i]) * sign
            offset = -(n_i * p[:, i] + n_j * p[:, j]) + n_i.clamp(min=0) + n_j.clamp(min=0)
            rows.append(torch.stack([n_i, n_j, offset], 1))
    n, a = normal_m3, tri_m33[:, 0]
    d = n[:, 0] * a[:, 0] + n[:, 1] * a[:, 1] + n[:, 2] * a[:, 2]
    far = n.clamp(min=0)
    near = n.clamp(max=0)
    rows.append(torch.stack([d, far[:, 0] + far[:, 1] + far[:, 2], near[:, 0] + near[:, 1] + near[:, 2]], 1))
    return torch.stack(rows, 1)


def _overlap(setup: Tensor, normal_m3: Tensor, t: Tensor, cell: list[Tensor]) -> Tensor:
    """Which candidates overlap; see :func:`voxlume.ovoxel.triangle.overlaps`."""
    x, y, z = (c.double() for c in cell)
    n, k = normal_m3[t], setup[t]
    s = n[:, 0] * x + n[:, 1] * y + n[:, 2] * z - k[:, 9, 0]
    hit = (s + k[:, 9, 1] >= 0) & (s + k[:, 9, 2] <= 0)
    for e in range(3):
        hit &= k[:, e, 0] * y + k[:, e, 1] * z + k[:, e, 2] >= 0
        hit &= k[:, 3 + e, 0] * z + k[:, 3 + e, 1] * x + k[:, 3 + e, 2] >= 0
        hit &= k[:, 6 + e, 0] * x + k[:, 6 + e, 1] * y + k[:, 6 + e, 2] >= 0
    return hit


class _Energy:
    """Sums of x^T A x - 2 b^T x per voxel, x relative to the voxel's minimum corner."""

    def __init__(self, count: int, device: str) -> None:
        self.a = torch.zeros(count, 6, dtype=torch.float64, device=device)
        self.b = torch.zeros(count, 3, dtype=torch.float64, device=device)
        self.points = torch.zeros(count, 3, dtype=torch.float64, device=device)
        self.count = torch.zeros(count, dtype=torch.float64, device=device)

    def add_planes(
        self,
        slot: Tensor,
        triangle: Tensor,
        weight: float,
        normal_m3: Tensor,
        tri_m33: Tensor,
        coords_n3: Tensor,
    ) -> None:
        for part in torch.arange(len(slot), device=slot.device).split(_CHUNK):
            s, t = slot[part], triangle[part]
            n, corner = normal_m3[t], coords_n3[s].double()
            d = weight * ((n * tri_m33[t, 0]).sum(1) - (n * corner).sum(1))
            self.a.index_add_(0, s, weight * _outer(n))
            self.b.index_add_(0, s, d[:, None] * n)

    def add_points(self, slot: Tensor, point: Tensor) -> None:
        self.points.index_add_(0, slot, point)
        self.count.index_add_(0, slot, torch.ones_like(point[:, 0]))

    def add_lines(self, slot: Tensor, ends: Tensor, corner: Tensor, weight: float) -> None:
        t = ends[:, 1] - ends[:, 0]
        t = t / (t * t).sum(1, keepdim=True).sqrt()
        p = ends[:, 0] - corner
        across = p - (t * p).sum(1, keepdim=True) * t
        identity = torch.tensor([1.0, 0, 0, 1, 0, 1], dtype=torch.float64, device=t.device)
        self.a.index_add_(0, slot, weight * (identity - _outer(t)))
        self.b.index_add_(0, slot, weight * across)

    def minimum(self, regularization: float) -> Tensor:
        """(n, 3) the minimum over the unit box; see :mod:`voxlume.ovoxel.dual_vertex`."""
        trace = self.a[:, 0] + self.a[:, 3] + self.a[:, 5]
        damping = torch.maximum(regularization * self.count, 1e-6 * trace)
        b = self.b + (damping / self.count)[:, None] * self.points
        a = self.a.clone()
        a[:, [0, 3, 5]] += damping[:, None]
        full = a[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].view(-1, 3, 3)
        best_x = _solve3(a, b)
        outside = torch.nonzero(((best_x < 0) | (best_x > 1)).any(1))[:, 0]
        if len(outside):
            best_x[outside] = _constrained(full[outside], b[outside])
        return best_x


def _outer(n: Tensor) -> Tensor:
    """Upper triangle of n n^T."""
    return torch.stack([n[:, i] * n[:, j] for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))], 1)


def _solve3(a: Tensor, b: Tensor) -> Tensor:
    a0, a1, a2, a3, a4, a5 = a.unbind(1)
    c00, c01, c02 = a3 * a5 - a4 * a4, a2 * a4 - a1 * a5, a1 * a4 - a2 * a3
    c11, c12, c22 = a0 * a5 - a2 * a2, a1 * a2 - a0 * a4, a0 * a3 - a1 * a1
    inverse = 1.0 / (a0 * c00 + a1 * c01 + a2 * c02)
    x = (c00 * b[:, 0] + c01 * b[:, 1] + c02 * b[:, 2]) * inverse
    y = (c01 * b[:, 0] + c11 * b[:, 1] + c12 * b[:, 2]) * inverse
    z = (c02 * b[:, 0] + c12 * b[:, 1] + c22 * b[:, 2]) * inverse
    return torch.stack([x, y, z], 1)


def _constrained(a_n33: Tensor, b_n3: Tensor) -> Tensor:
    """The best point on the box's surface: faces, then edges with their corners."""
    best = torch.full_like(b_n3[:, 0], math.inf)
    at = torch.full_like(b_n3, 0.5)

    def consider(x: Tensor, feasible: Tensor) -> None:
        nonlocal best, at
        energy = torch.einsum("ni,nij,nj->n", x, a_n33, x) - 2 * (b_n3 * x).sum(1)
        better = feasible & (energy < best)
        best, at = torch.where(better, energy, best), torch.where(better[:, None], x, at)

    for k in range(3):
        i, j = (k + 1) % 3, (k + 2) % 3
        ii, ij, jj = a_n33[:, i, i], a_n33[:, i, j], a_n33[:, j, j]
        det = ii * jj - ij * ij
        for side in (0.0, 1.0):
            r_i, r_j = b_n3[:, i] - a_n33[:, i, k] * side, b_n3[:, j] - a_n33[:, j, k] * side
            x = torch.full_like(b_n3, side)
            x[:, i], x[:, j] = (jj * r_i - ij * r_j) / det, (ii * r_j - ij * r_i) / det
            consider(x, (det > 1e-14 * ii * jj) & ((x >= 0) & (x <= 1)).all(1))
    for k in range(3):
        i, j = (k + 1) % 3, (k + 2) % 3
        for f_i in (0.0, 1.0):
            for f_j in (0.0, 1.0):
                x = torch.empty_like(b_n3)
                x[:, i], x[:, j] = f_i, f_j
                r = b_n3[:, k] - a_n33[:, k, i] * f_i - a_n33[:, k, j] * f_j
                x[:, k] = (r / a_n33[:, k, k]).clamp(0.0, 1.0)
                consider(x, torch.ones_like(best, dtype=torch.bool))
    return at


def _add_boundary(
    energy: _Energy,
    v: NDArray[np.float64],
    faces: NDArray[np.int32],
    weld: bool,
    weight: float,
    key_n: Tensor,
    coords_n3: Tensor,
    resolution: int,
) -> None:
    """The boundary term; the few open edges are found and walked on the CPU."""
    edges = boundary_edges(v, faces, weld)
    cell, edge = edge_voxels(v, edges, resolution)
    if not len(cell):
        return
    device = key_n.device
    cell_t = torch.as_tensor(cell, device=device).long()
    key = (cell_t[:, 0] * resolution + cell_t[:, 1]) * resolution + cell_t[:, 2]
    slot = torch.searchsorted(key_n, key).clamp(max=len(key_n) - 1)
    active = key_n[slot] == key
    slot = slot[active]
    ends = torch.as_tensor(v[edges][edge], device=device)[active]
    energy.add_lines(slot, ends, coords_n3[slot].double(), weight)
