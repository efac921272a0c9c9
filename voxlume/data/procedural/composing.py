"""New objects put together of several real models' pieces: shapes that no collection holds.

Numbers that places depend on come from products, sums and comparisons of coordinates, so that machines agree
on the bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from voxlume.asset import Asset, Material, Mesh

MOST_FACES = 60_000
"""Of a composed object, unless the first model alone has more."""

_MOST_PIECES = 12
_CRUMB = 0.12
"""Diagonal below which a part is no piece of its own, in sides of the model."""

_LARGE = 0.3
"""Diagonal from which a piece is worth standing alone, in sides of the model."""

_SLENDER = 0.1
"""Share of its diagonal that the second longest side of such a piece has at least: others are mere lines."""

_SHORT = 0.7
"""Sides up to this length are repeated along, where there is one."""

_LONGEST_ROW = 2.5
"""Of copies, in sides of the model, if it is more than a pair."""

_MOST_STRETCH = 2.5
"""Most by which an axis is stretched or squeezed against the middle one where a piece is fitted in."""

_THIN = 0.02
"""Length, in sides of the model, that sizes are at least taken for, so that sheets have proportions too."""

_CELLS = 10
"""Cells along each side of the grid in which bodies are brought to touch."""

_POINTS = 60_000
"""Points, about, that stand for a body's surface there."""

_MOST_STEPS = 40
"""Points along the edge of a face at most: few faces need no more, the grid is coarse."""

_SINK = 0.004
"""Depth to which what is attached goes into what it touches."""

_Array = NDArray[np.float64]
_Body = tuple[Mesh, ...]


@dataclass(frozen=True)
class _Model:
    """A model of longest side 1, centred above the origin on the ground, and its pieces, largest first."""

    whole: _Body
    pieces: list[_Body]


def compose(assets: Sequence[Asset], seed: int) -> Asset:
    """One object out of several.

    By chance, pieces of the first model (that has several) are exchanged for others' pieces, others are put
    on it or fixed to its sides, several stand together, or some of its pieces are repeated. Every model is
    first brought to the same longest side. Models without a face are passed over; a model alone is joined
    with itself.

    Parameters
    ----------
    assets : at least one; glTF frame. The first gives the most, and its name.
    seed : 0 or greater; the same assets and seed give the same result.

    Returns
    -------
    Asset of about 1 to 3 units, without vertex normals, with the materials that its meshes use. The first
    asset itself if none has a face.
    """
    rng = np.random.default_rng([4, seed])
    materials: list[Material] = []
    models = []
    for asset in assets:
        meshes = [mesh for mesh in asset.meshes if len(mesh.faces)]
        if meshes and float(np.ptp(asset.bounds(), 0).max()) > 0:
            models.append(_model([_reindexed(mesh, len(materials)) for mesh in meshes]))
            materials += asset.materials
    if not models:
        return assets[0]
    way = _WAYS[rng.integers(len(_WAYS))]
    if way is _exchange:
        opened = next((i for i, model in enumerate(models) if len(model.pieces) > 1), None)
        if opened is None:
            way = _attach
        else:
            models.insert(0, models.pop(opened))
    bodies = way(rng, models[0], models[1:] or models)
    warnings = tuple(line for asset in assets for line in asset.warnings)
    return replace(_assembled(bodies, materials), name=assets[0].name, warnings=warnings)


def _exchange(rng: np.random.Generator, first: _Model, others: list[_Model]) -> list[_Body]:
    """The first model, of several pieces, with others' bodies in the places of some of its larger ones.

    Pieces of one size (legs, wheels) are all exchanged for the same, mirrored on the other side. Where
    nothing fits, something is attached instead.
    """
    boxes = [_box(piece) for piece in first.pieces]
    large = [i for i, box in enumerate(boxes) if _is_large(box)] or [0]
    new: dict[int, _Body] = {}
    for chosen in rng.permutation(large)[: 1 + rng.integers(3)]:
        twins = [i for i, box in enumerate(boxes) if np.abs(np.ptp(box - boxes[chosen], 0)).max() < _THIN]
        if chosen in new or len(new) + len(twins) >= len(boxes):
            continue
        drawn = [_turned(_drawn(rng, others), *_quarter(rng)) for _ in range(6)]
        spreads = [_spread(_box(body), boxes[chosen]) for body in drawn]
        if min(spreads) > _MOST_STRETCH**2:
            continue
        body = drawn[int(np.argmin(spreads))]
        for i in twins:
            mirrored = boxes[i][:, 0].sum() * boxes[chosen][:, 0].sum() < 0
            new[i] = _fitted(_mirrored(body) if mirrored else body, boxes[i])
    if not new:  # nothing fits, or all its pieces are of one size
        return _attach(rng, first, others)
    bodies = [new.get(i, piece) for i, piece in enumerate(first.pieces)]
    for i in new:  # what does not fill its place may have lost touch with the rest
        rest = _joined([body for k, body in enumerate(bodies) if k != i])
        between = _box(bodies[i]).sum(0) - _box(rest).sum(0)
        axis = int(np.abs(between).argmax())
        sign = 1 if between[axis] > 0 else -1
        if _gap(rest, bodies[i], axis, sign) > 0:
            bodies[i] = _pushed(rest, bodies[i], axis, sign, -_SINK)
    return bodies


def _attach(rng: np.random.Generator, first: _Model, others: list[_Model]) -> list[_Body]:
    """The first model with another body on top, at a side, in front or behind; or a mirrored pair of it."""
    base, (low, high) = first.whole, _box(first.whole)
    axis, sign = [(1, 1), (1, 1), (0, 1), (0, -1), (2, 1), (2, -1)][rng.integers(6)]
    body = _turned(_drawn(rng, others), *_quarter(rng))
    paired = bool(rng.random() < 0.4)
    body = _placed(body, _between(rng, 0.3, 0.6 if paired else 1.0))
    size = np.ptp(_box(body), 0)
    at = np.round((low + high) / 2 + 0.6 * (high - low) * (rng.random(3) - 0.5), 4)
    at[1] = _between(rng, 0, 1) * max(high[1] - size[1], 0) if rng.random() < 0.5 else 0
    if paired and axis != 0:
        at[0] = _between(rng, 0.15, 0.4) * (high[0] - low[0])
    elif rng.random() < 0.5:
        at[0] = 0
    body = _pushed(base, _placed(body, 1, at), axis, sign, -_SINK)
    if not paired:
        return [base, body]
    # Pushed once more: not every model is symmetric.
    twin = _pushed(base, _mirrored(body), axis, -sign if axis == 0 else sign, -_SINK)
    return [base, body, twin]


def _group(rng: np.random.Generator, first: _Model, others: list[_Model]) -> list[_Body]:
    """Bodies side by side on one ground: in a row, or each on any side of those before."""
    bodies = [first.whole]
    row = [(0, 1), (2, 1)][rng.integers(2)] if rng.random() < 0.4 else None
    for _ in range(1 + rng.integers(3)):
        body = _placed(_turned(_drawn(rng, others), *_angle(rng)), _between(rng, 0.35, 1.0))
        axis, sign = row or [(0, 1), (0, -1), (2, 1), (2, -1)][rng.integers(4)]
        low, high = _box(_joined(bodies))
        at = np.round((low + high) / 2 + 0.5 * (high - low) * (rng.random(3) - 0.5), 4) * (1, 0, 1)
        if row:
            at[2 - axis] = 0
        bodies.append(_pushed(_joined(bodies), _placed(body, 1, at), axis, sign, _between(rng, 0, 0.06)))
    return bodies


def _repeat(rng: np.random.Generator, first: _Model, others: list[_Model]) -> list[_Body]:
    """Pieces of the first model that lie together, and copies of them: a row, a stack, a mirrored pair."""
    boxes = [_box(piece) for piece in first.pieces]
    large = [i for i, box in enumerate(boxes) if _is_large(box)] or [0]
    start = boxes[large[rng.integers(len(large))]]
    near = np.argsort([_distance(start, box) for box in boxes], kind="stable")
    count = int(rng.integers(1, max(len(boxes), 2)))
    body = _standing(_joined([first.pieces[i] for i in near[:count]]))
    if not _is_large(_box(body)):
        body = first.whole
    size = np.ptp(_box(body), 0)
    # Along a long side a row soon is a line.
    short = [axis for axis in range(3) if size[axis] <= _SHORT] or [0, 1, 2]
    axis = short[rng.integers(len(short))]
    if axis == 0 and rng.random() < 0.6:
        return [body, _pushed(body, _mirrored(body), axis, [1, -1][rng.integers(2)], -_SINK)]
    gap = -_SINK if axis == 1 else _between(rng, -_SINK, 0.05)
    bodies = [body]
    most = max(int(_LONGEST_ROW / size[axis]), 2) if size[axis] > 0 else 4
    for _ in range(min(1 + int(rng.integers(3)), most - 1)):
        bodies.append(_pushed(bodies[-1], bodies[-1], axis, 1, gap))
    return bodies


_WAYS: tuple[Callable[[np.random.Generator, _Model, list[_Model]], list[_Body]], ...] = (
    _exchange,
    _attach,
    _group,
    _repeat,
)


def _drawn(rng: np.random.Generator, models: list[_Model]) -> _Body:
    """A whole model or a large piece of one, of longest side 1, standing above the origin."""
    model = models[rng.integers(len(models))]
    large = [piece for piece in model.pieces if _is_large(_box(piece))]
    if len(model.pieces) == 1 or not large or rng.random() < 0.6:
        return model.whole
    return _standing(large[rng.integers(len(large))])


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return round(low + (high - low) * float(rng.random()), 4)


def _quarter(rng: np.random.Generator) -> tuple[float, float]:
    """Cosine and sine of a multiple of a quarter turn."""
    return [(1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)][rng.integers(4)]


def _angle(rng: np.random.Generator) -> tuple[float, float]:
    """Cosine and sine of any angle, one time in four, or of a multiple of a quarter turn."""
    if rng.random() < 0.75:
        return _quarter(rng)
    angle = 2 * np.pi * rng.random()
    return round(float(np.cos(angle)), 4), round(float(np.sin(angle)), 4)


def _model(meshes: list[Mesh]) -> _Model:
    whole = _standing(tuple(_part(mesh, mesh.faces) for mesh in meshes))
    return _Model(whole, _pieces(whole))


def _pieces(body: _Body) -> list[_Body]:
    """Connected pieces, largest first: crumbs go with the nearest piece, and so do those beyond the limit."""
    label = _components(body)
    count = int(label.max()) + 1
    order = np.argsort(label, kind="stable")
    starts = np.searchsorted(label[order], np.arange(count))
    corners = np.concatenate([mesh.vertices[mesh.faces] for mesh in body])[order]
    low = np.minimum.reduceat(corners.min(1), starts)
    high = np.maximum.reduceat(corners.max(1), starts)
    size = ((high - low) ** 2).sum(1)
    by_size = np.argsort(-size, kind="stable")
    kept = by_size[: max(1, min(_MOST_PIECES, int((size >= _CRUMB**2).sum())))]
    gap = np.maximum(np.maximum(low[:, None] - high[kept], low[kept] - high[:, None]), 0)
    between = (low + high)[:, None] / 2 - (low + high)[kept] / 2
    # Among the boxes that a crumb lies in, the one around it is the best guess.
    piece = ((gap**2).sum(2) + 0.01 * (between**2).sum(2)).argmin(1)
    piece[kept] = np.arange(len(kept))
    ends = np.cumsum([len(mesh.faces) for mesh in body])
    of_mesh = np.split(piece[label], ends[:-1])
    return [
        tuple(
            _part(mesh, mesh.faces[own == number])
            for mesh, own in zip(body, of_mesh, strict=True)
            if (own == number).any()
        )
        for number in range(len(kept))
    ]


def _components(body: _Body) -> NDArray[np.int32]:
    """For every face of all meshes (m,) the connected component that it belongs to.

    Vertices in one place are one, also across meshes; the places have 18 bits an axis.
    """
    place = np.concatenate([np.floor(mesh.vertices * 2**17 + 0.5) for mesh in body]).astype(np.int64)
    place += 2**18
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in body)])
    faces = np.concatenate([mesh.faces + start for mesh, start in zip(body, starts, strict=False)])
    unique, number = np.unique(place @ (1 << 40, 1 << 20, 1), return_inverse=True)
    faces = number[faces]
    a, b = np.concatenate([faces[:, :2], faces[:, 1:]]).T
    graph = coo_matrix((np.ones(len(a), np.bool_), (a, b)), shape=(len(unique), len(unique)))
    label = connected_components(graph, directed=False)[1]
    return label[faces[:, 0]]


def _part(mesh: Mesh, faces: NDArray[np.int32]) -> Mesh:
    """Some faces of a mesh with the vertices that they use, without normals."""
    used = np.zeros(len(mesh.vertices), np.bool_)
    used[faces] = True
    return replace(
        mesh,
        vertices=mesh.vertices[used],
        faces=(np.cumsum(used, dtype=np.int32) - 1)[faces].astype(np.int32),
        normals=None,
        uvs=tuple(uv[used] for uv in mesh.uvs),
        colors=None if mesh.colors is None else mesh.colors[used],
        attributes={name: values[used] for name, values in mesh.attributes.items()},
    )


def _reindexed(mesh: Mesh, first: int) -> Mesh:
    return replace(mesh, material=mesh.material + first) if mesh.material >= 0 else mesh


def _assembled(bodies: list[_Body], materials: list[Material]) -> Asset:
    """Bodies as an asset: the first, and those after it that the limit of faces leaves room for."""
    faces = np.cumsum([sum(len(mesh.faces) for mesh in body) for body in bodies])
    meshes = _joined(bodies[: max(1, int((faces <= MOST_FACES).sum()))])
    used = sorted({mesh.material for mesh in meshes if mesh.material >= 0})
    number = {-1: -1, **{material: i for i, material in enumerate(used)}}
    return Asset(
        tuple(replace(mesh, material=number[mesh.material]) for mesh in meshes),
        tuple(materials[material] for material in used),
    )


def _joined(bodies: Sequence[_Body]) -> _Body:
    return tuple(mesh for body in bodies for mesh in body)


def _box(body: _Body) -> _Array:
    """(2, 3) smallest and largest coordinates."""
    low = np.min([mesh.vertices.min(0) for mesh in body], 0)
    return np.stack([low, np.max([mesh.vertices.max(0) for mesh in body], 0)])


def _diagonal(box: _Array) -> float:
    return math.sqrt(((box[1] - box[0]) ** 2).sum())


def _is_large(box: _Array) -> bool:
    diagonal = _diagonal(box)
    return diagonal >= _LARGE and bool(np.sort(box[1] - box[0])[1] >= _SLENDER * diagonal)


def _distance(box: _Array, other: _Array) -> float:
    """Squared, between two boxes; a little of that between their centres decides among those that touch."""
    gap = np.maximum(np.maximum(box[0] - other[1], other[0] - box[1]), 0)
    return float((gap**2).sum() + 0.01 * ((box.sum(0) - other.sum(0)) ** 2).sum())


def _spread(box: _Array, place: _Array) -> float:
    """How unequally the axes of a box must be stretched to fill a place: 1 or more."""
    ratio = _ratio(box, place)
    return float(ratio.max() / ratio.min())


def _ratio(box: _Array, place: _Array) -> _Array:
    size, wanted = (np.maximum(b[1] - b[0], _THIN) for b in (box, place))
    return wanted / size


def _fitted(body: _Body, place: _Array) -> _Body:
    """Moved into a box (2, 3) and stretched to fill it, within reason; on its floor, in its middle."""
    ratio = _ratio(_box(body), place)
    middle = np.sort(ratio)[1]
    body = _placed(body, np.clip(ratio, middle / _MOST_STRETCH, middle * _MOST_STRETCH))
    low, high = _box(body)
    offset = (place[0] + place[1]) / 2 - (low + high) / 2
    offset[1] = place[0, 1] - low[1]
    return _placed(body, 1, offset)


def _standing(body: _Body) -> _Body:
    """Scaled to a longest side of 1, above the origin, on the ground."""
    low, high = _box(body)
    scale = 1 / (high - low).max()
    center = (low + high) / 2
    return tuple(
        replace(mesh, vertices=(mesh.vertices - (center[0], low[1], center[2])) * scale) for mesh in body
    )


def _placed(body: _Body, scale: _Array | float, offset: _Array | float = 0.0) -> _Body:
    """Stretched about the origin by positive amounts, then moved."""
    return tuple(replace(mesh, vertices=mesh.vertices * scale + offset) for mesh in body)


def _mirrored(body: _Body) -> _Body:
    """Left and right exchanged; faces still look outwards."""
    return tuple(
        replace(mesh, vertices=mesh.vertices * (-1, 1, 1), faces=mesh.faces[:, ::-1].copy()) for mesh in body
    )


def _turned(body: _Body, cos: float, sin: float) -> _Body:
    """Turned about the vertical axis."""
    return tuple(
        replace(mesh, vertices=np.stack([cos * x + sin * z, y, cos * z - sin * x], 1))
        for mesh in body
        for x, y, z in [mesh.vertices.T]
    )


def _pushed(base: _Body, body: _Body, axis: int, sign: int, gap: float) -> _Body:
    """A body moved along an axis to where it first meets ``base``, coming from the side of ``sign``.

    Parameters
    ----------
    gap : left between the two; negative goes in.
    """
    offset = np.zeros(3)
    offset[axis] = sign * (gap - _gap(base, body, axis, sign))
    return _placed(body, 1, offset)


def _gap(base: _Body, body: _Body, axis: int, sign: int) -> float:
    """Length by which a body on the side ``sign`` of another can move towards it; negative if it is in it."""
    boxes = _box(base), _box(body)
    across = [k for k in range(3) if k != axis]
    low = np.maximum(boxes[0][0], boxes[1][0])[across]
    high = np.minimum(boxes[0][1], boxes[1][1])[across]
    if (high > low).all():
        outer = np.full(_CELLS**2, -np.inf)
        inner = np.full(_CELLS**2, np.inf)
        for points, reach, at in ((base, np.maximum, outer), (body, np.minimum, inner)):
            sample = _samples(points, across, low, high)
            u, v = np.floor((sample[:, across] - low) / (high - low) * _CELLS).astype(np.int64).T
            inside = (u >= 0) & (u < _CELLS) & (v >= 0) & (v < _CELLS)
            reach.at(at, (u * _CELLS + v)[inside], sign * sample[inside, axis])
        if np.isfinite(gap := (inner - outer).min()):
            return float(gap)
    # They pass each other: their boxes shall touch.
    return float((sign * boxes[1][:, axis]).min() - (sign * boxes[0][:, axis]).max())


def _samples(body: _Body, across: list[int], low: _Array, high: _Array) -> _Array:
    """Points (n, 3) evenly on every face of a body that may lie in a rectangle across two axes."""
    corners = np.concatenate([mesh.vertices[mesh.faces] for mesh in body])
    seen = corners[:, :, across]
    corners = corners[((seen.max(1) >= low) & (seen.min(1) <= high)).all(1)]
    steps = min(max(int(math.sqrt(2 * _POINTS / max(len(corners), 1))), 1), _MOST_STEPS)
    i, j = np.nonzero(np.add.outer(np.arange(steps + 1), np.arange(steps + 1)) <= steps)
    a, b = (i / steps)[:, None, None], (j / steps)[:, None, None]
    first, second, third = (corners[:, k] for k in range(3))
    return (first + a * (second - first) + b * (third - first)).reshape(-1, 3)
