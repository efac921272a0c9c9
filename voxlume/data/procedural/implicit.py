"""Solids given by signed distances, so that they can be united, cut and blended, and their surface.

A field is a function from points (n, 3) to values (n,), negative inside. The surface is found by dual
contouring (Ju et al., 2002): one vertex per cell that the surface crosses, placed by the planes at the
crossings, so edges of cuts stay sharp.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxlume.data.procedural.shapes import Array, Shape, boxed, rotation

Field = Callable[[Array], Array]

_BLOCK = 4


def ball(center: ArrayLike, size: ArrayLike) -> Field:
    """An ellipsoid with the given full sizes (a bound of the distance, exact for spheres)."""
    c, r = np.asarray(center, np.float64), np.broadcast_to(np.asarray(size, np.float64) / 2, (3,))
    return lambda p: (_length((p - c) / r) - 1) * float(r.min())


def block(center: ArrayLike, size: ArrayLike, *, rounding: float = 0.0, turn: Array | None = None) -> Field:
    """A box with rounded edges, turned by a matrix."""
    c, half = np.asarray(center, np.float64), np.asarray(size, np.float64) / 2 - rounding

    def field(p: Array) -> Array:
        local = p - c
        if turn is not None:
            local = np.stack([_dot(local, column) for column in turn.T], 1)
        q = np.abs(local) - half
        return _length(np.maximum(q, 0)) + np.minimum(q.max(1), 0) - rounding

    return field


def rod(start: ArrayLike, end: ArrayLike, radius: float, end_radius: float | None = None) -> Field:
    """A capsule, thicker at one end if asked."""
    a, b = np.asarray(start, np.float64), np.asarray(end, np.float64)
    axis = b - a
    squared = float((axis**2).sum())
    last = radius if end_radius is None else end_radius

    def field(p: Array) -> Array:
        q = p - a
        along = _dot(q, axis)
        t = np.clip(along / squared, 0, 1)
        # |q - t axis|^2, without another array of vectors.
        return np.sqrt(np.maximum(_squared(q) - t * (2 * along - t * squared), 0)) - (
            radius + (last - radius) * t
        )

    return field


def drum(start: ArrayLike, end: ArrayLike, radius: float) -> Field:
    """A cylinder with flat ends."""
    a, b = np.asarray(start, np.float64), np.asarray(end, np.float64)
    length = float(np.sqrt(((b - a) ** 2).sum()))
    axis = (b - a) / length

    def field(p: Array) -> Array:
        q = p - a
        t = _dot(q, axis)
        side = np.sqrt(np.maximum(_squared(q) - t * t, 0)) - radius
        return np.maximum(side, np.abs(t - length / 2) - length / 2)

    return field


def doughnut(center: ArrayLike, axis: ArrayLike, radius: float, thickness: float) -> Field:
    """A torus; both numbers are radii."""
    c, n = np.asarray(center, np.float64), np.asarray(axis, np.float64)
    n = n / np.sqrt((n**2).sum())

    def field(p: Array) -> Array:
        q = p - c
        t = _dot(q, n)
        ring = np.sqrt(np.maximum(_squared(q) - t * t, 0)) - radius
        return np.sqrt(ring**2 + t**2) - thickness

    return field


def union(fields: Sequence[Field], blend: float = 0.0) -> Field:
    """All of them; with ``blend`` they flow into each other over about this length."""

    def field(p: Array) -> Array:
        out = fields[0](p)
        for f in fields[1:]:
            other = f(p)
            if blend > 0:
                h = np.maximum(blend - np.abs(out - other), 0) / blend
                out = np.minimum(out, other) - h * h * blend / 4
            else:
                out = np.minimum(out, other)
        return out

    return field


def cut(body: Field, tools: Sequence[Field]) -> Field:
    """The body without the tools."""

    def field(p: Array) -> Array:
        out = body(p)
        for tool in tools:
            out = np.maximum(out, -tool(p))
        return out

    return field


def hollow(body: Field, wall: float) -> Field:
    """The wall inside the surface of a body."""

    def field(p: Array) -> Array:
        d = body(p)
        return np.maximum(d, -d - wall)

    return field


def random_turn(rng: np.random.Generator) -> Array:
    """A rotation matrix about random angles."""
    x, y, z = 2 * np.pi * rng.random(3)
    return rotation(float(x), float(y), float(z))


def surface(field: Field, low: ArrayLike, high: ArrayLike, cells: int = 44) -> Shape:
    """The surface of a solid that lies inside the box ``low`` .. ``high``.

    Parameters
    ----------
    cells : along the longest side of the box.

    Returns
    -------
    Shape, box-mapped; empty where the field is positive everywhere.
    """
    a, b = np.asarray(low, np.float64), np.asarray(high, np.float64)
    h = float((b - a).max()) / cells
    count = np.maximum(np.ceil((b - a) / h - 1e-9).astype(np.intp), 1) + 2
    origin = (a + b) / 2 - h * count / 2
    lines = [origin[k] + h * np.arange(count[k] + 1) for k in range(3)]
    grid = np.stack(np.meshgrid(*lines, indexing="ij"), -1)
    value = _sampled(field, grid, h)
    inside = value < 0
    inside[[0, -1]] = inside[:, [0, -1]] = inside[:, :, [0, -1]] = False
    points, quads, axes = [], [], []
    for axis in range(3):
        step = np.diff(inside.astype(np.int8), axis=axis)
        at = np.argwhere(step != 0)
        to = at.copy()
        to[:, axis] += 1
        p, q = grid[tuple(at.T)], grid[tuple(to.T)]
        points.append(_crossing(field, p, q, value[tuple(at.T)], value[tuple(to.T)]))
        other, third = np.eye(3, dtype=np.intp)[[(axis + 1) % 3, (axis + 2) % 3]]
        around = np.stack([at - other - third, at - third, at, at - other], 1)
        quads.append(np.where((step[tuple(at.T)] < 0)[:, None, None], around, around[:, ::-1]))
        axes.append(at)
    crossing, quad = np.concatenate(points), np.concatenate(quads)
    if not len(crossing):
        return Shape(np.zeros((0, 3)), np.zeros((0, 2)), np.zeros((0, 3), np.int64))
    number = np.ravel_multi_index(tuple(np.moveaxis(quad, -1, 0)), tuple(count))
    used, corner = np.unique(number.ravel(), return_inverse=True)
    corner = corner.reshape(-1, 4)
    cell = np.stack(np.unravel_index(used, tuple(count)), 1)
    vertices = _place(field, crossing, corner, origin + h * cell, h)
    faces = np.concatenate([corner[:, [0, 1, 2]], corner[:, [0, 2, 3]]])
    return boxed(Shape(vertices, np.zeros((len(vertices), 2)), faces))


def _sampled(field: Field, grid: Array, h: float) -> Array:
    """The field on grid points (nx, ny, nz, 3); far from the surface only its sign is right.

    Blocks of points are left out where the value in their middle is more than the way to their corners: no
    field here falls faster than a distance, but for tapered rods, which the margin allows for.
    """
    shape = grid.shape[:3]
    blocks = [-(-n // _BLOCK) for n in shape]
    middle = grid[0, 0, 0] + h * (
        np.stack(np.meshgrid(*(np.arange(n) for n in blocks), indexing="ij"), -1) * _BLOCK + (_BLOCK - 1) / 2
    )
    coarse = field(middle.reshape(-1, 3)).reshape(blocks)
    for axis in range(3):
        coarse = np.repeat(coarse, _BLOCK, axis)
    value = coarse[: shape[0], : shape[1], : shape[2]].copy()
    near = np.abs(value) < 1.2 * h * (3**0.5 * (_BLOCK - 1) / 2 + 1)
    value[near] = field(grid[near])
    return value


def _crossing(field: Field, p: Array, q: Array, vp: Array, vq: Array) -> Array:
    """Where the field is zero between p and q: two steps of the false position method."""
    for _ in range(2):
        t = vp / np.where(vp == vq, 1.0, vp - vq)
        t = np.clip(t, 0.02, 0.98)[:, None]
        middle = p + t * (q - p)
        v = field(middle)
        same = ((v < 0) == (vp < 0))[:, None]
        p, q = np.where(same, middle, p), np.where(same, q, middle)
        vp, vq = np.where(same[:, 0], v, vp), np.where(same[:, 0], vq, v)
    t = np.clip(vp / np.where(vp == vq, 1.0, vp - vq), 0, 1)[:, None]
    return p + t * (q - p)


def _place(field: Field, crossing: Array, corner: NDArray[np.int64], low: Array, h: float) -> Array:
    """One vertex per cell: least squares of the planes at its crossings, near their mean."""
    step = 1e-3 * h
    here = field(crossing)
    normal = np.stack([field(crossing + step * e) - here for e in np.eye(3)], 1)
    normal /= np.maximum(_length(normal), 1e-30)[:, None]
    n, flat = len(low), corner.ravel()
    repeated = np.repeat(np.arange(len(crossing)), 4)

    def total(values: Array) -> Array:
        return np.bincount(flat, values[repeated], n).astype(np.float64, copy=False)

    count = total(np.ones(len(crossing)))
    mean = np.stack([total(crossing[:, k]) for k in range(3)], 1) / count[:, None]
    offset = (normal * crossing).sum(1)
    a = np.empty((n, 3, 3))
    for i in range(3):
        for j in range(i, 3):
            a[:, i, j] = a[:, j, i] = total(normal[:, i] * normal[:, j])
    right = np.stack([total(normal[:, i] * offset) for i in range(3)], 1)
    right -= (a * mean[:, None, :]).sum(2)
    a[:, [0, 1, 2], [0, 1, 2]] += 0.02 * count[:, None]
    moved = mean + np.linalg.solve(a, right[..., None])[..., 0]
    return np.clip(moved, low, low + h)


def _length(p: Array) -> Array:
    return np.sqrt(_squared(p))


def _squared(p: Array) -> Array:
    return p[:, 0] ** 2 + p[:, 1] ** 2 + p[:, 2] ** 2


def _dot(p: Array, direction: Array) -> Array:
    # Not a matrix product: for those BLAS wakes all cores, which hurts where every core makes objects.
    return p[:, 0] * direction[0] + p[:, 1] * direction[1] + p[:, 2] * direction[2]
