"""The nearest point of an O-Voxel's surface on CUDA, one thread per point; the twin is
:func:`voxlume.mesh.source_surface.SourceSurface.nearest`, step by step the same arithmetic."""

# mypy: allow-untyped-defs
from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor

from voxlume.mesh import source_surface
from voxlume.mesh.source_surface import SourceSurface
from voxlume.ovoxel.index import AXIS_BITS

LANES = 32
"""Points that one warp looks up; the interpreter is faster with more."""

_AXIS_BITS = tl.constexpr(AXIS_BITS)
_FARTHEST = tl.constexpr(source_surface.FARTHEST)
_PATIENCE = tl.constexpr(source_surface.PATIENCE)
_FIRST_RADIUS = tl.constexpr(source_surface.FIRST_RADIUS)
_LARGEST_POINT = tl.constexpr(source_surface.LARGEST_POINT)


def surface_on(device: str, source: SourceSurface) -> DeviceSurface | None:
    """The surface on that device; None where the kernels turn out to be wrong, with a warning.

    A few of the surface's own faces are looked up on both, every time: that takes milliseconds.
    """
    failure = ""
    try:
        surface = DeviceSurface(source, device)
        corners = source.vertices[source.faces[:: max(len(source.faces) // 500, 1)]]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        points = corners.mean(axis=1) + np.linspace(-2, 2, len(corners))[:, None] * [0.3, -0.7, 0.5]
        expected, places = source.nearest(points, normals)
        found, weights = surface.nearest(torch.as_tensor(points), torch.as_tensor(normals))
        same = found.cpu().numpy() == expected
        # Two faces may be equally near but for a rounding.
        close = np.abs(weights.cpu().numpy() - places)[same].max(initial=0) < 1e-6
        if not (same.mean() > 0.98 and close):
            failure = "it finds other faces"
    except Exception as error:  # whatever the compiler throws: the CPU does the same
        failure = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    if failure:
        warnings.warn(
            f"textures are baked on the CPU, the kernel is off on {device}: {failure}",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return surface


class DeviceSurface:
    """Surface and material of an O-Voxel in tensors on a device."""

    def __init__(self, source: SourceSurface, device: str) -> None:
        self.device = torch.device(device)
        self._first_x, self._overshoot = source.index.first_x, source.overshoot
        self._keys, self._slabs = self._moved(source.index.keys), self._moved(source.index.slabs)
        self._starts = self._moved(source.starts)
        self._vertices, self._faces = self._moved(source.vertices), self._moved(source.faces)
        self._attributes = None if source.attributes is None else self._moved(source.attributes)

    def _moved(self, array: NDArray) -> Tensor:
        return torch.as_tensor(array).to(self.device)

    def nearest(self, points: Tensor, normals: Tensor | None) -> tuple[Tensor, Tensor]:
        """Face int32 (k,) and weights float64 (k, 3), see :meth:`SourceSurface.nearest`."""
        points = points.to(self.device).contiguous()
        facing = points if normals is None else normals.to(self.device).contiguous()
        k = len(points)
        face = torch.full((k,), -1, dtype=torch.int32, device=self.device)
        weights = torch.zeros((k, 3), dtype=torch.float64, device=self.device)
        if k:
            _nearest_kernel[(triton.cdiv(k, LANES),)](
                self._keys,
                self._slabs,
                len(self._slabs) - 1,
                self._first_x,
                self._starts,
                torch.tensor([self._overshoot], dtype=torch.float64, device=self.device),
                self._vertices,
                self._faces,
                points,
                facing,
                face,
                weights,
                k,
                FACING=normals is not None,
                LANES=LANES,
                num_warps=1,
                enable_fp_fusion=False,
            )
        return face, weights

    def material(self, face: Tensor, weights: Tensor) -> Tensor:
        """Channels float32 (k, 6), see :meth:`SourceSurface.material`; of no use where ``face`` is -1."""
        assert self._attributes is not None
        corners = self._faces[face.clamp(min=0).long()].long()
        total = weights[:, :1] * self._attributes[corners[:, 0]]
        for i in (1, 2):
            total = total + weights[:, i : i + 1] * self._attributes[corners[:, i]]
        return total.float()

    def texel_look_up(
        self, source: SourceSurface, corners: NDArray[np.float64], facing: NDArray[np.float64]
    ) -> TexelLookUp:
        """For :func:`voxlume.mesh.bake.bake`, of a mesh with these corners (m, 3, 3) and normals (m, 3)."""
        at_corners, normals = self._moved(corners), self._moved(facing)

        def look_up(
            face: NDArray[np.int32], weights: NDArray[np.float32]
        ) -> tuple[NDArray[np.uint8], Callable[[], NDArray], Callable[[], NDArray]]:
            of_texel = self._moved(face).reshape(-1)
            texels = torch.nonzero(of_texel >= 0)[:, 0]
            chosen = of_texel[texels].long()
            share = self._moved(weights).reshape(-1, 2)[texels].double()
            u, v = share[:, :1], share[:, 1:]
            p = at_corners[chosen]
            at = u * p[:, 0] + v * p[:, 1] + (1 - u - v) * p[:, 2]
            found, place = self.nearest(at, normals[chosen])
            channels = self.material(found, place)
            lost = torch.nonzero(found < 0)[:, 0]
            if len(lost):
                nowhere = found[lost].cpu().numpy(), place[lost].cpu().numpy()
                channels[lost] = self._moved(source.material(at[lost].cpu().numpy(), *nowhere))
            values = torch.zeros((of_texel.numel(), 6), dtype=torch.uint8, device=self.device)
            values[texels] = torch.round(channels * 255).to(torch.uint8)
            return (
                values.reshape(*face.shape, 6).cpu().numpy(),
                lambda: found.cpu().numpy(),
                lambda: place.cpu().numpy(),
            )

        return look_up


TexelLookUp = Callable[
    [NDArray[np.int32], NDArray[np.float32]],
    tuple[NDArray[np.uint8], Callable[[], NDArray], Callable[[], NDArray]],
]


@triton.jit
def _any(mask):
    return tl.max(mask.to(tl.int32), axis=0) > 0


@triton.jit
def _point(points, v, here):
    x = tl.load(points + 3 * v, mask=here, other=0.0)
    y = tl.load(points + 3 * v + 1, mask=here, other=0.0)
    z = tl.load(points + 3 * v + 2, mask=here, other=0.0)
    return x, y, z


@triton.jit
def _over(a, b):
    """a / b, zero where b is not positive."""
    return tl.where(b > 0, a / tl.where(b > 0, b, 1.0), 0.0)


@triton.jit
def _nearest_in_face(ax, ay, az, ux, uy, uz, wx, wy, wz, x, y, z):
    """Squared distance and weights of the second and third corner, by the cases of the twin."""
    px, py, pz = x - ax, y - ay, z - az
    uu, uw, ww = ux * ux + uy * uy + uz * uz, ux * wx + uy * wy + uz * wz, wx * wx + wy * wy + wz * wz
    d1, d2 = ux * px + uy * py + uz * pz, wx * px + wy * py + wz * pz
    d3, d4, d5, d6 = d1 - uu, d2 - uw, d1 - uw, d2 - ww
    va, vb, vc = d3 * d6 - d5 * d4, d5 * d2 - d1 * d6, d1 * d4 - d3 * d2
    total = va + vb + vc
    divisor = tl.where(total != 0, total, 1.0)
    s, t = vb / divisor, vc / divisor
    # From the last of the twin's cases to the first, each over what the later ones said.
    third = (va <= 0) & (d4 >= d3) & (d5 >= d6)
    along = _over(d4 - d3, (d4 - d3) + (d5 - d6))
    s, t = tl.where(third, 1 - along, s), tl.where(third, along, t)
    second = (vb <= 0) & (d2 >= 0) & (d6 <= 0)
    s, t = tl.where(second, 0.0, s), tl.where(second, _over(d2, d2 - d6), t)
    first = (vc <= 0) & (d1 >= 0) & (d3 <= 0)
    s, t = tl.where(first, _over(d1, d1 - d3), s), tl.where(first, 0.0, t)
    at_c = (d6 >= 0) & (d5 <= d6)
    s, t = tl.where(at_c, 0.0, s), tl.where(at_c, 1.0, t)
    at_b = (d3 >= 0) & (d4 <= d3)
    s, t = tl.where(at_b, 1.0, s), tl.where(at_b, 0.0, t)
    at_a = (d1 <= 0) & (d2 <= 0)
    s, t = tl.where(at_a, 0.0, s), tl.where(at_a, 0.0, t)
    qx, qy, qz = px - s * ux - t * wx, py - s * uy - t * wy, pz - s * uz - t * wz
    return qx * qx + qy * qy + qz * qz, s, t


@triton.jit(do_not_specialize=["num_slabs", "first_x", "k"])
def _nearest_kernel(
    keys, slabs, num_slabs, first_x, starts, overshoot, vertices, faces, points, normals, face, weights, k,
    FACING: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * LANES + tl.arange(0, LANES)
    inside = row < k
    x, y, z = _point(points, row, inside)
    nx, ny, nz = _point(normals, row, inside)
    beyond = tl.load(overshoot)
    searching = inside & (tl.abs(x) + tl.abs(y) + tl.abs(z) < _LARGEST_POINT)
    far = tl.full((LANES,), float("inf"), tl.float64)
    zero = tl.full((LANES,), 0.0, tl.float64)
    near_any, any_s, any_t = far, zero, zero
    near_facing, facing_s, facing_t = far, zero, zero
    any_face = tl.full((LANES,), -1, tl.int32)
    facing_face = tl.full((LANES,), -1, tl.int32)
    radius = zero + _FIRST_RADIUS
    while _any(searching):
        # A voxel's quads end before the voxel after the next.
        back, ahead = radius + 2 + beyond, radius + beyond
        x1 = tl.floor(x + ahead).to(tl.int64)
        y0, y1 = tl.maximum(tl.ceil(y - back), 0.0).to(tl.int64), tl.floor(y + ahead).to(tl.int64)
        z0, z1 = tl.maximum(tl.ceil(z - back), 0.0).to(tl.int64), tl.floor(z + ahead).to(tl.int64)
        i = tl.ceil(x - back).to(tl.int64)
        while _any(searching & (i <= x1)):
            slab = i - first_x
            there = searching & (i <= x1) & (slab >= 0) & (slab < num_slabs)
            position = tl.load(slabs + slab, mask=there, other=0)
            end = tl.load(slabs + slab + 1, mask=there, other=0)
            j = y0
            while _any(there & (j <= y1)):
                column = there & (j <= y1)
                base = (i << (2 * _AXIS_BITS)) | (j << _AXIS_BITS)
                high = end
                split = column & (position < high)
                while _any(split):
                    middle = (position + high) >> 1
                    less = tl.load(keys + middle, mask=split, other=0) < base + z0
                    position = tl.where(split & less, middle + 1, position)
                    high = tl.where(split & (less == 0), middle, high)
                    split = column & (position < high)
                key = tl.load(keys + position, mask=column & (position < end), other=0)
                run = column & (position < end) & (key <= base + z1)
                while _any(run):
                    f = tl.load(starts + position, mask=run, other=0)
                    last = tl.load(starts + position + 1, mask=run, other=0)
                    asked = run & (f < last)
                    while _any(asked):
                        a = tl.load(faces + 3 * f, mask=asked, other=0)
                        b = tl.load(faces + 3 * f + 1, mask=asked, other=0)
                        c = tl.load(faces + 3 * f + 2, mask=asked, other=0)
                        ax, ay, az = _point(vertices, a, asked)
                        bx, by, bz = _point(vertices, b, asked)
                        cx, cy, cz = _point(vertices, c, asked)
                        ux, uy, uz = bx - ax, by - ay, bz - az
                        wx, wy, wz = cx - ax, cy - ay, cz - az
                        distance, s, t = _nearest_in_face(ax, ay, az, ux, uy, uz, wx, wy, wz, x, y, z)
                        closer = asked & (distance < near_any)
                        near_any = tl.where(closer, distance, near_any)
                        any_face = tl.where(closer, f.to(tl.int32), any_face)
                        any_s, any_t = tl.where(closer, s, any_s), tl.where(closer, t, any_t)
                        if FACING:
                            mx, my, mz = uy * wz - uz * wy, uz * wx - ux * wz, ux * wy - uy * wx
                            closer = asked & (distance < near_facing) & (mx * nx + my * ny + mz * nz > 0)
                            near_facing = tl.where(closer, distance, near_facing)
                            facing_face = tl.where(closer, f.to(tl.int32), facing_face)
                            facing_s, facing_t = tl.where(closer, s, facing_s), tl.where(closer, t, facing_t)
                        f += 1
                        asked = run & (f < last)
                    position = tl.where(run, position + 1, position)
                    key = tl.load(keys + position, mask=run & (position < end), other=0)
                    run = run & (position < end) & (key <= base + z1)
                j += 1
            i += 1
        if FACING:
            # Without a direction no face looks its way, and the nearest one is the answer.
            sided = (nx != 0) | (ny != 0) | (nz != 0)
            enough = tl.where(sided, near_facing, near_any) <= radius * radius
            patience = tl.maximum(_PATIENCE * tl.sqrt(near_any), 2.0)
            enough = enough | ((near_any < far) & (radius >= patience))
        else:
            enough = near_any <= radius * radius
        radius = radius * 2
        searching = searching & (enough == 0) & (radius <= _FARTHEST)
    limit = tl.minimum(tl.maximum(_PATIENCE * tl.sqrt(near_any), 2.0), _FARTHEST)
    faces_it = (facing_face >= 0) & (near_facing <= limit * limit)
    found = tl.where(faces_it, facing_face, tl.where(near_any > _FARTHEST * _FARTHEST, -1, any_face))
    s, t = tl.where(faces_it, facing_s, any_s), tl.where(faces_it, facing_t, any_t)
    known = inside & (tl.abs(x) + tl.abs(y) + tl.abs(z) < _LARGEST_POINT)
    tl.store(face + row, found, mask=known)
    tl.store(weights + 3 * row, 1 - s - t, mask=known)
    tl.store(weights + 3 * row + 1, s, mask=known)
    tl.store(weights + 3 * row + 2, t, mask=known)
