"""Building surfaces: lofts, lathes, sweeps, boxes, blocks, plates, sheets.

Everything is in the glTF frame (Y-up) and in object units. Faces are counter-clockwise seen from outside.
UVs are in object units too (materials hold the size of a tile), except where a function says that they run
over 0..1. Around closed cross-sections u is stretched to a multiple of half a unit, so that tiles meet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Points = ArrayLike | Sequence[Any]
"""Whatever numpy makes an array of points from, lists that mix tuples and arrays too."""
_UP = np.array([0.0, 1.0, 0.0])


@dataclass(frozen=True, eq=False)
class Shape:
    """Triangles with one UV set.

    Attributes
    ----------
    vertices : float64 (n, 3).
    uvs : float64 (n, 2).
    faces : int64 (m, 3).
    """

    vertices: Array
    uvs: Array
    faces: NDArray[np.int64]

    def moved(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Shape:
        """Shifted."""
        return Shape(self.vertices + (x, y, z), self.uvs, self.faces)

    def turned(self, *, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Shape:
        """Turned about the origin by angles in radians, first about x, then y, then z."""
        return Shape(_apply(rotation(x, y, z), self.vertices), self.uvs, self.faces)

    def scaled(self, x: float, y: float | None = None, z: float | None = None) -> Shape:
        """Scaled about the origin, evenly where only one number is given; negative mirrors."""
        factors = np.array([x, x if y is None else y, x if z is None else z])
        faces = self.faces[:, ::-1] if factors.prod() < 0 else self.faces
        return Shape(self.vertices * factors, self.uvs, faces)

    def flipped(self) -> Shape:
        """Inside out."""
        return Shape(self.vertices, self.uvs, self.faces[:, ::-1])

    def aimed(self, start: Points, end: Points) -> Shape:
        """A shape built along +y from 0 moved so that it starts at ``start`` and points to ``end``."""
        origin, axis = np.asarray(start, np.float64), np.subtract(end, start).astype(np.float64)
        axis = axis / math.sqrt(float(axis @ axis))
        side = np.cross(axis, (0.0, 0.0, 1.0) if abs(axis[2]) < 0.9 else (1.0, 0.0, 0.0))
        side /= math.sqrt(float(side @ side))
        return Shape(_apply(np.stack([side, axis, np.cross(side, axis)], 1), self.vertices) + origin,
                     self.uvs, self.faces)  # fmt: skip


def join(shapes: Sequence[Shape]) -> Shape:
    """Several shapes as one."""
    first = np.cumsum([0] + [len(s.vertices) for s in shapes[:-1]])
    return Shape(
        np.concatenate([s.vertices for s in shapes]),
        np.concatenate([s.uvs for s in shapes]),
        np.concatenate([s.faces + f for s, f in zip(shapes, first, strict=True)]),
    )


def rotation(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Array:
    """(3, 3): first about x, then y, then z."""
    cx, sx, cy, sy, cz, sz = (f(a) for a in (x, y, z) for f in (math.cos, math.sin))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def _apply(matrix: Array, points: Array) -> Array:
    x, y, z = points[:, 0:1], points[:, 1:2], points[:, 2:3]
    return x * matrix[:, 0] + y * matrix[:, 1] + z * matrix[:, 2]


# --- curves -------------------------------------------------------------------------------------------


def spline(points: Points, count: int) -> Array:
    """(count, d) points of the Catmull-Rom curve through the given ones, ends included."""
    p = np.asarray(points, np.float64)
    padded = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    t = np.linspace(0, len(p) - 1, count)
    i = np.minimum(t.astype(np.intp), len(p) - 2)
    f = (t - i)[:, None]
    a, b, c, d = padded[i], padded[i + 1], padded[i + 2], padded[i + 3]
    return 0.5 * (2 * b + f * (c - a + f * (2 * a - 5 * b + 4 * c - d + f * (3 * b - a - 3 * c + d))))


def circle(segments: int, radius: float = 1.0) -> Array:
    """(segments, 2) counter-clockwise."""
    angle = 2 * np.pi * np.arange(segments) / segments
    return radius * np.stack([np.cos(angle), np.sin(angle)], 1)


def superellipse(segments: int, width: float, height: float, power: float) -> Array:
    """(segments, 2): an ellipse for power 2, towards a rectangle for larger powers."""
    c = circle(segments)
    bent = np.sign(c) * np.abs(c) ** (2 / power)
    return bent * (width / 2, height / 2)


def rounded_rectangle(width: float, height: float, radius: float, corner: int = 4) -> Array:
    """(4 (corner + 1), 2) counter-clockwise."""
    quarter = np.linspace(0, np.pi / 2, corner + 1)
    angle = np.concatenate([quarter + k * np.pi / 2 for k in range(4)])
    middle = np.repeat([[1, 1], [-1, 1], [-1, -1], [1, -1]], corner + 1, axis=0)
    r = min(radius, width / 2, height / 2)
    return middle * (width / 2 - r, height / 2 - r) + r * np.stack([np.cos(angle), np.sin(angle)], 1)


# --- lofts --------------------------------------------------------------------------------------------


def loft(rings: Points, *, caps: tuple[bool, bool] = (True, True), loop: bool = False) -> Shape:
    """The surface through closed cross-sections.

    Parameters
    ----------
    rings : (k, s, 3); each ring runs counter-clockwise seen against the direction in which they follow.
    caps : close the first, the last ring by a fan.
    loop : the last ring is followed by the first (a torus); no caps then.
    """
    p = np.asarray(rings, np.float64)
    if loop:
        p = np.concatenate([p, p[:1]])
    k, s = p.shape[:2]
    around = np.concatenate([p, p[:, :1]], 1)
    steps = np.sqrt((np.diff(around, axis=1) ** 2).sum(-1)).max(0)
    along = np.sqrt((np.diff(p, axis=0) ** 2).sum(-1)).mean(1)
    u = np.concatenate([[0.0], np.cumsum(steps)])
    if u[-1] > 0.25:
        u *= max(1.0, np.floor(u[-1] / 0.5 + 0.5)) * 0.5 / u[-1]
    v = -np.concatenate([[0.0], np.cumsum(along)])
    uv = np.stack(np.broadcast_arrays(u[None], v[:, None]), -1)
    parts = [Shape(around.reshape(-1, 3), uv.reshape(-1, 2), grid_faces(k, s + 1))]
    if not loop:
        parts += [cap(p[0]).flipped()] * caps[0] + [cap(p[-1])] * caps[1]
    return join(parts) if len(parts) > 1 else parts[0]


@lru_cache(maxsize=256)
def grid_faces(rows: int, columns: int) -> NDArray[np.int64]:
    """(2 (rows-1)(columns-1), 3) faces over row-major vertices; do not write into it."""
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(columns - 1), indexing="ij")
    a = (i * columns + j).ravel()
    b, c, d = a + 1, a + columns + 1, a + columns
    return np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])


def cap(ring: Array) -> Shape:
    """A fan over a star-shaped ring (s, 3); its outside is where the ring runs counter-clockwise."""
    s = len(ring)
    middle = ring.mean(0)
    flat = ring - middle
    e1 = flat[0] / max(math.sqrt(float(flat[0] @ flat[0])), 1e-12)
    normal = np.cross(flat, np.roll(flat, -1, 0)).sum(0)
    normal /= max(math.sqrt(float(normal @ normal)), 1e-12)
    e2 = np.cross(normal, e1)
    uv = np.stack([(flat * e1).sum(1), (flat * e2).sum(1)], 1)
    index = np.arange(s)
    faces = np.stack([np.full(s, s), index, (index + 1) % s], 1)
    return Shape(np.concatenate([ring, middle[None]]), np.concatenate([uv, [[0.0, 0.0]]]), faces)


def lathe(
    profile: Points,
    segments: int = 32,
    *,
    radius: Array | None = None,
    depth: float = 1.0,
) -> Shape:
    """A profile turned about the y axis.

    Parameters
    ----------
    profile : (k, 2) distance from the axis and height. Upwards for an outside; down again for an inside.
    radius : (segments,) or (k, segments) factors on the distance, for fluted, square or twisted bodies.
    depth : factor on z, for oval bodies.
    """
    p = np.asarray(profile, np.float64)
    c = circle(segments if radius is None else radius.shape[-1])
    r = p[:, :1] * (1.0 if radius is None else radius)
    rings = np.stack(np.broadcast_arrays(r * c[:, 0], p[:, 1:2], -depth * r * c[:, 1]), -1)
    return loft(rings, caps=(False, False))


def vessel(outer: Array, wall: float, segments: int = 40, *, radius: Array | None = None) -> Shape:
    """A hollow body: up the outer profile (k, 2), over the rim, down the inside to a floor."""
    inner = np.maximum(outer - (wall, 0), 0)[::-1]
    floor = max(1.6 * wall, 0.02 * float(outer[-1, 1])) + float(outer[0, 1])
    inner = inner[inner[:, 1] > floor]
    foot = np.interp(floor, outer[:, 1], outer[:, 0]) - wall
    rim = 0.5 * (outer[-1] + inner[0]) + (0, 0.4 * wall)
    profile = np.concatenate([[[0, outer[0, 1]]], outer, [rim], inner, [[max(foot, 0), floor], [0, floor]]])
    return lathe(profile, segments, radius=radius)


def filling(outer: Array, wall: float, level: float, segments: int = 40) -> Shape:
    """What stands in a vessel up to a height, a hair away from its inside."""
    y = np.linspace(float(outer[0, 1]) + 1.7 * wall, level, 14)
    rising = np.maximum.accumulate(outer[:, 1])
    r = np.maximum(np.interp(y, rising, outer[:, 0]) - 1.25 * wall, 0.0)
    profile = np.stack([r, y], 1)
    return lathe(np.concatenate([[[0, y[0]]], profile, [[0, y[-1]]]]), segments)


def tube(path: Points, radius: ArrayLike, segments: int = 10, *, caps: bool = True) -> Shape:
    """A round rod along a path (k, 3), the radius a number or one per point."""
    p = np.asarray(path, np.float64)
    r = np.broadcast_to(np.asarray(radius, np.float64), (len(p),))
    return sweep(p, circle(segments)[None] * r[:, None, None], caps=caps)


def sweep(path: Points, section: ArrayLike, *, caps: bool = True, up: ArrayLike | None = None) -> Shape:
    """A cross-section carried along a path without twisting.

    Parameters
    ----------
    path : (k, 3).
    section : (s, 2) or (k, s, 2), counter-clockwise, over the axes side and up of the path's frame.
    up : where the section's second axis points at the start; by default away from the path's first step.
    """
    p = np.asarray(path, np.float64)
    tangent = np.gradient(p, axis=0)
    tangent /= np.maximum(np.sqrt((tangent**2).sum(1, keepdims=True)), 1e-12)
    start = _UP if up is None else np.asarray(up, np.float64)
    if abs(float(tangent[0] @ start)) > 0.95 * math.sqrt(float(start @ start)):
        start = np.array([0.0, 0.0, -1.0])
    ups = np.empty_like(p)
    current = start
    for i, t in enumerate(tangent):
        current = current - t * float(current @ t)
        current = current / math.sqrt(float(current @ current))
        ups[i] = current
    side = np.cross(ups, tangent)
    section = np.broadcast_to(np.asarray(section, np.float64), (len(p), *np.shape(section)[-2:]))
    rings = p[:, None] + section[..., :1] * side[:, None] + section[..., 1:] * ups[:, None]
    return loft(rings, caps=(caps, caps))


def ellipsoid(
    size: ArrayLike, *, power: float = 2.0, top: float | None = None, segments: int = 24, rows: int = 14
) -> Shape:
    """A (super)ellipsoid about the origin.

    Parameters
    ----------
    size : full width, height, depth.
    power : of the horizontal section, 2 round to 8 nearly square; ``top`` of the vertical one. Above 4
        UVs are those of a box.
    """
    w, h, d = (float(x) for x in np.broadcast_to(np.asarray(size, np.float64), (3,)))
    angle = np.linspace(-np.pi / 2, np.pi / 2, rows)
    e = 2 / (power if top is None else top)
    ring, height = np.abs(np.cos(angle)) ** e, np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** e
    ring[[0, -1]] = 0.0
    c = superellipse(segments, 1.0, 1.0, power)
    rings = np.stack(
        np.broadcast_arrays(
            w * ring[:, None] * c[:, 0], 0.5 * h * height[:, None], -d * ring[:, None] * c[:, 1]
        ),
        -1,
    )
    shape = loft(rings, caps=(False, False))
    return boxed(shape) if power > 4 else shape


def torus(radius: float, thickness: float, segments: int = 32, around: int = 12) -> Shape:
    """A ring about the y axis; both numbers are radii."""
    a, c = circle(segments), circle(around, thickness)
    r = radius + c[:, 0]
    rings = np.stack(np.broadcast_arrays(a[:, :1] * r, -c[:, 1] + 0 * a[:, :1], -a[:, 1:] * r), -1)
    return loft(rings, loop=True)


def cylinder(radius: float, height: float, segments: int = 24, *, top: float | None = None) -> Shape:
    """Standing on the origin along +y; ``top`` is the radius there."""
    end = radius if top is None else top
    return lathe([(0, 0), (radius, 0), (end, height), (0, height)], segments)


# --- boxes and plates ---------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _chamfered() -> tuple[Array, NDArray[np.intp], NDArray[np.int64]]:
    """Signs (96, 3), the face axis of each vertex (96,), and faces of a box with cut edges."""
    signs: list[tuple[float, ...]] = []
    axes: list[int] = []
    faces: list[tuple[int, int, int]] = []

    def polygon(corners: list[tuple[tuple[float, ...], int]], outward: Array) -> None:
        first = len(signs)
        signs.extend(s for s, _ in corners)
        axes.extend(a for _, a in corners)
        q = np.array([np.array(s) * (1 - 0.3 * (np.arange(3) != a)) for s, a in corners])
        straight = float(np.cross(q[1] - q[0], q[2] - q[0]) @ outward) > 0
        for i in range(1, len(corners) - 1):
            faces.append((first, first + i, first + i + 1) if straight else (first, first + i + 1, first + i))

    def at(**values: float) -> tuple[float, ...]:
        return tuple(values["xyz"[i]] for i in range(3))

    for axis in range(3):
        b, c = (axis + 1) % 3, (axis + 2) % 3
        for s in (-1.0, 1.0):
            corners = []
            for kb, kc in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
                corners.append((at(**{"xyz"[axis]: s, "xyz"[b]: float(kb), "xyz"[c]: float(kc)}), axis))
            polygon(corners, np.eye(3)[axis] * s)
        for sb in (-1.0, 1.0):
            for sc in (-1.0, 1.0):
                low = at(**{"xyz"[axis]: -1.0, "xyz"[b]: sb, "xyz"[c]: sc})
                high = at(**{"xyz"[axis]: 1.0, "xyz"[b]: sb, "xyz"[c]: sc})
                polygon([(low, b), (high, b), (high, c), (low, c)], np.eye(3)[b] * sb + np.eye(3)[c] * sc)
    for sx in (-1.0, 1.0):
        for sy in (-1.0, 1.0):
            for sz in (-1.0, 1.0):
                polygon([((sx, sy, sz), a) for a in range(3)], np.array([sx, sy, sz]))
    return np.array(signs), np.array(axes, np.intp), np.array(faces, np.int64)


def box(size: ArrayLike, center: Points = (0.0, 0.0, 0.0), *, bevel: float = 0.0) -> Shape:
    """A box with cut edges; v runs along the longer side of every face, so grain does."""
    half = np.asarray(size, np.float64) / 2
    signs, axes, faces = _chamfered()
    if bevel <= 0:
        signs, axes, faces = signs[_PLAIN_VERTICES], axes[_PLAIN_VERTICES], _PLAIN_FACES
    inset = min(bevel, 0.45 * float(half.min()) * 2) * (np.arange(3) != axes[:, None])
    p = signs * (half - inset)
    # Of the two axes that lie in a face, the longer one becomes v.
    lying = np.array([[a for a in np.argsort(half, kind="stable") if a != axis] for axis in range(3)])
    short, long = lying[axes].T
    rows = np.arange(len(p))
    uv = np.stack([p[rows, short], p[rows, long]], 1)
    return Shape(p + np.asarray(center), uv, faces)


def _plain() -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """The six faces alone of the chamfered box."""
    _, axes, faces = _chamfered()
    is_face = np.array([len({int(axes[i]) for i in f}) == 1 for f in faces])
    kept = faces[is_face]
    used = np.unique(kept)
    return used.astype(np.intp), np.searchsorted(used, kept).astype(np.int64)


_PLAIN_VERTICES, _PLAIN_FACES = _plain()


def blocks(x: ArrayLike, y: ArrayLike, z: ArrayLike, filled: ArrayLike) -> Shape:
    """The outside of some cells of a rectilinear grid: walls with windows, steps, trays, frames.

    Parameters
    ----------
    x, y, z : increasing grid lines, (nx + 1,), (ny + 1,), (nz + 1,).
    filled : bool (nx, ny, nz).
    """
    lines = [np.asarray(a, np.float64) for a in (x, y, z)]
    inside = np.pad(np.asarray(filled, bool), 1)
    corners, outward = [], []
    for axis in range(3):
        b, c = (axis + 1) % 3, (axis + 2) % 3
        step = np.diff(inside.astype(np.int8), axis=axis)
        at = np.argwhere(step != 0)
        sign = step[tuple(at.T)]
        # A quad lies on grid line at[axis]; along the two other axes it spans the cell at - 1.
        p = np.empty((len(at), 4, 3))
        p[..., axis] = lines[axis][at[:, axis]][:, None]
        for k, (db, dc) in enumerate(((0, 0), (1, 0), (1, 1), (0, 1))):
            p[:, k, b] = lines[b][at[:, b] - 1 + db]
            p[:, k, c] = lines[c][at[:, c] - 1 + dc]
        corners.append(np.where((sign < 0)[:, None, None], p, p[:, ::-1]))
        outward.append(np.full(len(at), axis))
    p = np.concatenate(corners)
    axis_of = np.repeat(np.concatenate(outward), 4)
    flat = p.reshape(-1, 3)
    uv = np.stack(
        [np.where(axis_of == 0, flat[:, 2], flat[:, 0]), np.where(axis_of == 1, flat[:, 2], -flat[:, 1])], 1
    )
    first = 4 * np.arange(len(p))[:, None]
    return Shape(flat, uv, np.concatenate([first + (0, 1, 2), first + (0, 2, 3)]))


def plate(outline: ArrayLike, thickness: float) -> Shape:
    """A simple polygon (n, 2), counter-clockwise in x and y, given a thickness along z about 0."""
    p = np.asarray(outline, np.float64)
    triangles = _ear_clip(p)
    n, half = len(p), thickness / 2
    front = np.concatenate([p, np.full((n, 1), half)], 1)
    back = np.concatenate([p, np.full((n, 1), -half)], 1)
    rim = loft(np.stack([back, front]), caps=(False, False))
    return join([Shape(front, p, triangles), Shape(back, p, triangles[:, ::-1]), rim])


def ring_plate(outer: ArrayLike, inner: ArrayLike, thickness: float) -> Shape:
    """A plate (about z = 0) between two outlines of equally many points (n, 2), both counter-clockwise."""
    o, i, half = np.asarray(outer, np.float64), np.asarray(inner, np.float64), thickness / 2
    z = np.full((len(o), 1), half)
    return loft(
        np.stack([np.hstack([o, -z]), np.hstack([o, z]), np.hstack([i, z]), np.hstack([i, -z])]), loop=True
    )


def _ear_clip(p: Array) -> NDArray[np.int64]:
    """Triangles (n - 2, 3) of a simple counter-clockwise polygon."""
    left = list(range(len(p)))
    out = []
    while len(left) > 3:
        q = p[left]
        before, after = np.roll(q, 1, 0), np.roll(q, -1, 0)
        turn = _cross(q - before, after - q)
        best, best_size = -1, -1.0
        for k in np.argsort(-turn, kind="stable"):
            if turn[k] <= 0:
                break
            a, b, c = before[k], q[k], after[k]
            inside = (_cross(b - a, q - a) >= 0) & (_cross(c - b, q - b) >= 0) & (_cross(a - c, q - c) >= 0)
            inside[[k - 1, k, (k + 1) % len(left)]] = False
            if not inside.any():
                # The fattest ear keeps slivers away.
                size = turn[k] / float(((c - a) ** 2).sum())
                if size > best_size:
                    best, best_size = int(k), size
        if best < 0:
            best = int(np.argmax(turn))
        out.append((left[best - 1], left[best], left[(best + 1) % len(left)]))
        del left[best]
    out.append((left[0], left[1], left[2]))
    return np.array(out, np.int64)


def _cross(a: Array, b: Array) -> Array:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


# --- sheets -------------------------------------------------------------------------------------------


def sheet(points: ArrayLike, *, unit: bool = False) -> Shape:
    """An open surface over a grid of points (rows, columns, 3).

    u runs along the columns and v along the rows, in object units or, with ``unit``, over 0..1. The front
    is the side that sees row 0 at the top and column 0 on the left.
    """
    p = np.asarray(points, np.float64)
    rows, columns = p.shape[:2]
    if unit:
        u, v = np.linspace(0, 1, columns), np.linspace(0, 1, rows)
    else:
        u = np.concatenate([[0.0], np.cumsum(np.sqrt((np.diff(p, axis=1) ** 2).sum(-1)).mean(0))])
        v = np.concatenate([[0.0], np.cumsum(np.sqrt((np.diff(p, axis=0) ** 2).sum(-1)).mean(1))])
    uv = np.stack(np.broadcast_arrays(u[None], v[:, None]), -1).reshape(-1, 2)
    return Shape(p.reshape(-1, 3), uv, grid_faces(rows, columns)[:, ::-1])


def slab(points: ArrayLike, thickness: float) -> Shape:
    """A bent board: the sheet over a grid of points (rows, columns, 3), thickened behind its front."""
    p = np.asarray(points, np.float64)
    normal = np.cross(np.gradient(p, axis=1), -np.gradient(p, axis=0))
    normal /= np.maximum(np.sqrt((normal**2).sum(-1, keepdims=True)), 1e-12)
    q = p - thickness * normal
    # Around the border as the front sees it counter-clockwise: down the left side first.
    border = np.concatenate([_border(p), _border(q)]).reshape(2, -1, 3)
    rim = loft(border[::-1], caps=(False, False))
    return join([sheet(p), sheet(q).flipped(), rim])


def _border(p: Array) -> Array:
    return np.concatenate([p[:-1, 0], p[-1, :-1], p[:0:-1, -1], p[0, :0:-1]])


def blade(spine: Points, width: Points, across: Points, *, fold: float = 0.0) -> Shape:
    """A leaf, feather or strap: an open strip of three columns, UV over 0..1, v from the tip down.

    Parameters
    ----------
    spine : (k, 3) from the root to the tip.
    width : (k,) full width.
    across : (3,) or (k, 3), direction of the width.
    fold : how far the borders are lifted, as a share of the half width.
    """
    p = np.asarray(spine, np.float64)[::-1]
    half = 0.5 * np.broadcast_to(np.asarray(width, np.float64), (len(p),))[::-1, None]
    side = np.broadcast_to(np.asarray(across, np.float64), p.shape)[::-1]
    side = side / np.maximum(np.sqrt((side**2).sum(1, keepdims=True)), 1e-12)
    lift = np.cross(np.gradient(p, axis=0), side)
    lift /= np.maximum(np.sqrt((lift**2).sum(1, keepdims=True)), 1e-12)
    edge = fold * half * lift
    return sheet(np.stack([p - side * half + edge, p, p + side * half + edge], 1), unit=True)


# --- mapping ------------------------------------------------------------------------------------------


def box_mapped(
    vertices: Array, faces: NDArray[np.integer]
) -> tuple[NDArray[np.int64], Array, NDArray[np.int64]]:
    """UVs by projecting every face along its dominant axis.

    Returns
    -------
    source int64 (k,): the vertex each new vertex copies; uvs float64 (k, 2) in object units; faces (m, 3).
    """
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    axis = np.abs(np.cross(b - a, c - a)).argmax(1)
    key = faces.astype(np.int64) * 3 + axis[:, None]
    used, new = np.unique(key.ravel(), return_inverse=True)
    source, plane = used // 3, used % 3
    p = vertices[source]
    uv = np.stack([np.where(plane == 0, p[:, 2], p[:, 0]), np.where(plane == 1, p[:, 2], -p[:, 1])], 1)
    return source, uv, new.reshape(-1, 3)


def boxed(shape: Shape) -> Shape:
    """With the UVs of :func:`box_mapped`."""
    source, uv, faces = box_mapped(shape.vertices, shape.faces)
    return Shape(shape.vertices[source], uv, faces)
