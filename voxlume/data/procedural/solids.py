"""Abstract and mechanical solids: primitives united, drilled, hollowed, stacked."""

from __future__ import annotations

import math

import numpy as np

from voxlume.asset import Asset
from voxlume.data.procedural import implicit as solid
from voxlume.data.procedural import materials as m
from voxlume.data.procedural.assembly import Assembly
from voxlume.data.procedural.shapes import (
    Shape,
    box,
    boxed,
    circle,
    cylinder,
    ellipsoid,
    lathe,
    plate,
    ring_plate,
    spline,
    torus,
    tube,
)


def solids(rng: np.random.Generator) -> Asset:
    """Cut solids, machine parts, gears, toy blocks, sculptures, rocks, game pieces."""
    a = Assembly(rng)
    a.choose(_cut, _cut, _shell, _blend, _stack, _gear, _knot, _rock, _piece)(a)
    return a.asset()


def _primitive(a: Assembly, center: np.ndarray, size: float) -> solid.Field:
    kind = a.choose("box", "box", "ball", "drum", "ring", "rod")
    axis = np.eye(3)[a.count(0, 2)] if a.chance(0.7) else a.rng.random(3) - 0.5
    axis = axis / math.sqrt(float(axis @ axis))
    if kind == "box":
        turn = None if a.chance(0.6) else solid.random_turn(a.rng)
        return solid.block(
            center, size * (0.5 + 0.7 * a.rng.random(3)), rounding=size * a.choose(0.0, 0.0, 0.08), turn=turn
        )
    if kind == "ball":
        return solid.ball(center, size * (1.0 if a.chance(0.6) else 0.6 + 0.5 * a.rng.random(3)))
    if kind == "drum":
        return solid.drum(center - 0.5 * size * axis, center + 0.5 * size * axis, 0.35 * size)
    if kind == "ring":
        return solid.doughnut(center, axis, 0.36 * size, 0.14 * size)
    return solid.rod(center - 0.4 * size * axis, center + 0.4 * size * axis, 0.22 * size)


def _holes(a: Assembly, count: int) -> list[solid.Field]:
    """Drills through the middle region along the axes."""
    out: list[solid.Field] = []
    for _ in range(count):
        axis = np.eye(3)[a.count(0, 2)]
        center = 0.55 * (a.rng.random(3) - 0.5)
        if a.chance(0.65):
            out.append(solid.drum(center - 2 * axis, center + 2 * axis, a.between(0.08, 0.22)))
        elif a.chance(0.5):
            size = np.where(axis > 0, 4.0, a.between(0.15, 0.4))
            out.append(solid.block(center, size))
        else:
            out.append(solid.ball(center + 0.45 * axis * a.choose(-1, 1), a.between(0.4, 0.7)))
    return out


def _cut(a: Assembly) -> None:
    body = [_primitive(a, 0.3 * (a.rng.random(3) - 0.5), a.between(0.7, 1.0)) for _ in range(a.count(1, 3))]
    field = solid.cut(solid.union(body), _holes(a, a.count(1, 4)))
    a.add(solid.surface(field, (-0.95,) * 3, (0.95,) * 3, 56), m.one_of(a.rng, m.SOLID))
    if a.chance(0.4):
        a.add(ellipsoid(a.between(0.2, 0.5), segments=24, rows=16), m.one_of(a.rng, (*m.METALS, m.glass)))


def _shell(a: Assembly) -> None:
    """A hollow body with windows, something inside."""
    body = solid.hollow(_primitive(a, np.zeros(3), 1.2), a.between(0.06, 0.1))
    field = solid.cut(body, _holes(a, a.count(2, 4)))
    a.add(solid.surface(field, (-0.9,) * 3, (0.9,) * 3, 56), m.one_of(a.rng, m.SOLID))
    a.add(
        ellipsoid(0.4, power=a.choose(2.0, 4.0), segments=24, rows=16),
        m.one_of(a.rng, (*m.METALS, m.glass, m.ceramic)),
    )


def _blend(a: Assembly) -> None:
    body = [_primitive(a, 0.7 * (a.rng.random(3) - 0.5), a.between(0.35, 0.7)) for _ in range(a.count(3, 6))]
    field = solid.union(body, a.between(0.08, 0.25))
    a.add(solid.surface(field, (-1.0,) * 3, (1.0,) * 3, 52), m.one_of(a.rng, m.SOLID))


def _simple(a: Assembly, size: float) -> tuple[Shape, float]:
    """A toy block standing on the floor, and its height."""
    kind = a.choose("box", "box", "drum", "cone", "ball", "arch", "prism", "ring")
    if kind == "box":
        s = size * (0.6 + 0.6 * a.rng.random(3))
        return box(s, bevel=0.05 * size).moved(y=s[1] / 2), float(s[1])
    if kind == "drum":
        h = size * a.between(0.3, 1.1)
        return cylinder(size / 2, h, a.choose(32, 6, 8)), h
    if kind == "cone":
        h = size * a.between(0.6, 1.2)
        return cylinder(size / 2, h, a.choose(32, 4), top=a.choose(0.0, 0.2 * size)), h
    if kind == "ball":
        return ellipsoid(size, segments=28, rows=18).moved(y=size / 2), size
    if kind == "ring":
        return torus(0.38 * size, 0.13 * size, 32, 14).moved(y=0.13 * size), 0.26 * size
    if kind == "prism":
        return plate([(-size / 2, 0), (size / 2, 0), (0, 0.8 * size)], size * 0.7), 0.8 * size
    angle = np.linspace(0, np.pi, 13)
    inner = 0.3 * size * np.stack([np.cos(angle), np.sin(angle)], 1)
    outline = np.concatenate(
        [
            [(0.6 * size, 0), (0.6 * size, 0.6 * size), (-0.6 * size, 0.6 * size), (-0.6 * size, 0)],
            inner[::-1],
        ]
    )
    return plate(outline, 0.4 * size), 0.6 * size


def _stack(a: Assembly) -> None:
    """Toy blocks on top of and beside each other."""
    kinds = (
        [m.one_of(a.rng, m.SOLID) for _ in range(3)]
        if a.chance(0.5)
        else [m.plastic(a.rng) if a.chance(0.5) else m.weathered_paint(a.rng) for _ in range(4)]
    )
    y, size = 0.0, a.between(0.5, 0.7)
    for _ in range(a.count(2, 5)):
        shape, h = _simple(a, size)
        a.add(
            shape.turned(y=a.choose(0.0, a.between(-0.5, 0.5))),
            kinds[a.count(0, len(kinds) - 1)],
            (a.between(-0.08, 0.08), y, a.between(-0.08, 0.08)),
        )
        y += h
        size *= a.between(0.75, 1.0)
    for _ in range(a.count(0, 3)):
        b = a.between(0, 6.28)
        shape, _ = _simple(a, a.between(0.2, 0.4))
        a.add(shape.turned(y=b), kinds[a.count(0, len(kinds) - 1)], (0.7 * math.cos(b), 0, 0.7 * math.sin(b)))


def gear_outline(teeth: int, r: float, depth: float) -> np.ndarray:
    """(8 teeth, 2) counter-clockwise."""
    step = 2 * np.pi / teeth
    local = np.array([0.0, 0.14, 0.24, 0.34, 0.46, 0.6, 0.74, 0.88]) * step
    radius = r + depth * np.array([-1.0, -1.0, 0.6, 1.0, 1.0, 0.6, -1.0, -1.0]) / 2
    angle = (np.arange(teeth)[:, None] * step + local).ravel()
    return np.stack([np.cos(angle), np.sin(angle)], 1) * np.tile(radius, teeth)[:, None]


def _gear(a: Assembly) -> None:
    count = a.count(1, 3)
    x = 0.0
    for i in range(count):
        teeth, r = a.count(10, 22), a.between(0.3, 0.5)
        metal = m.one_of(a.rng, (*m.METALS, m.plastic, m.wood))
        t, depth = a.between(0.08, 0.2), 0.09
        x += r if i else 0.0
        z = 0.0
        outline = gear_outline(teeth, r, depth)
        rim = a.between(0.55, 0.75) * r
        a.add(ring_plate(outline, circle(len(outline), rim), t), metal, (x, 0, z))
        hub = 0.28 * r
        a.add(ring_plate(circle(24, hub), circle(24, 0.5 * hub), 1.5 * t), metal, (x, 0, z))
        for k in range(n := a.count(3, 6)):
            b = 2 * math.pi * k / n
            d = np.array([math.cos(b), math.sin(b), 0])
            a.add(tube([0.9 * hub * d, 1.03 * rim * d], 0.07 * r, 8), metal, (x, 0, z))
        a.add(
            cylinder(0.48 * hub, 3.0 * t, 18).turned(x=math.pi / 2), m.brushed_metal(a.rng), (x, 0, -1.5 * t)
        )
        x += r + depth / 2
    if a.chance(0.5):
        a.parts = [(s.turned(x=-math.pi / 2), material) for s, material in a.parts]


def _knot(a: Assembly) -> None:
    """Torus knots, helices, chains: sculptures on a base."""
    material = m.one_of(a.rng, m.SOLID)
    style = a.choose("knot", "helix", "chain")
    if style == "knot":
        p, q = a.choose((2, 3), (3, 2), (2, 5), (3, 4))
        t = np.linspace(0, 2 * np.pi, 160)
        r = 0.42 + 0.16 * np.cos(q * t)
        path = np.stack([r * np.cos(p * t), 0.75 + 0.2 * np.sin(q * t), r * np.sin(p * t)], 1)
        a.add(tube(path, a.between(0.05, 0.09), 12, caps=False), material)
    elif style == "helix":
        t = np.linspace(0, 1, 120)
        b = 2 * np.pi * a.count(3, 6) * t
        r = 0.4 * (1 - a.choose(0.0, 0.6) * t)
        a.add(
            tube(np.stack([r * np.cos(b), 0.2 + 1.2 * t, r * np.sin(b)], 1), a.between(0.03, 0.07), 10),
            material,
        )
    else:
        for i in range(a.count(3, 6)):
            link = torus(0.2, 0.05, 28, 10).scaled(1, 1, 1.3).turned(x=math.pi / 2 if i % 2 else 0.0)
            a.add(link, material, (0, 0.45, -0.6 + 0.34 * i))
    base = a.choose("drum", "box")
    h = 0.16
    shape = cylinder(0.45, h, 36) if base == "drum" else boxed(cylinder(0.6, h, 4).turned(y=math.pi / 4))
    a.add(shape, m.one_of(a.rng, (*m.STONES, m.wood)), (0, 0.02, 0))


def _rock(a: Assembly) -> None:
    """Boulders and crystals."""
    if a.chance(0.5):
        stone = m.one_of(a.rng, (m.granite, m.concrete, m.cobbles, m.marble, m.rusty_metal))
        for i in range(a.count(1, 4)):
            planes = a.rng.random((14, 3)) - 0.5
            planes /= np.sqrt((planes**2).sum(1, keepdims=True))
            reach = 0.5 * (0.65 + 0.35 * a.rng.random(14)) * (1 if i == 0 else a.between(0.3, 0.6))
            center = np.zeros(3) if i == 0 else np.array([a.between(-0.7, 0.7), -0.2, a.between(-0.7, 0.7)])
            limits = list(zip(planes, reach, strict=True))

            def field(p: np.ndarray, limits: list = limits, center: np.ndarray = center) -> np.ndarray:
                q = p - center
                out = np.sqrt((q**2).sum(1)) - 0.55
                for n, r in limits:
                    out = np.maximum(out, q[:, 0] * n[0] + q[:, 1] * n[1] + q[:, 2] * n[2] - r)
                return out

            a.add(solid.surface(field, center - 0.65, center + 0.65, 30), stone)
    else:
        crystal = m.one_of(a.rng, (m.glass, m.glass, m.polished_metal, m.plastic))
        for i in range(a.count(4, 9)):
            b, lean = 2.4 * i, a.between(0.0, 0.8)
            h, r = a.between(0.4, 1.0) * (1.2 - 0.6 * lean), a.between(0.07, 0.14)
            shape = lathe([(0, 0), (0.8 * r, 0), (r, 0.75 * h), (0, h)], 6)
            a.add(
                shape.turned(z=lean).turned(y=b),
                crystal,
                (0.15 * math.cos(b) * (i > 0), 0, 0.15 * math.sin(b) * (i > 0)),
            )
        a.add(ellipsoid((0.9, 0.25, 0.9), segments=20, rows=10), m.granite(a.rng))


def _piece(a: Assembly) -> None:
    """Turned game pieces, columns, trophies, bells."""
    n = a.count(5, 9)
    y = np.concatenate([[0.0, 0.05], np.sort(a.rng.random(n - 2)) * 0.85 + 0.1]) * a.between(0.9, 1.4)
    r = np.concatenate([[0.4, 0.4], a.between(0.1, 0.3) * (0.4 + a.rng.random(n - 2))])
    profile = spline(np.stack([r, y], 1), 60)
    profile[:, 0] = np.maximum(profile[:, 0], 0.03)
    body = m.one_of(a.rng, m.SOLID)
    a.add(lathe(np.concatenate([[[0, 0]], profile, [[0, float(y[-1])]]]), 36), body)
    top = float(y[-1])
    kind = a.choose("ball", "cup", "crown", "cross")
    second = body if a.chance(0.5) else m.one_of(a.rng, m.METALS)
    if kind == "ball":
        s = a.between(0.2, 0.45)
        a.add(ellipsoid(s, segments=24, rows=16), second, (0, top + 0.4 * s, 0))
    elif kind == "cup":
        cup = spline([(0.08, 0), (0.3, 0.15), (0.36, 0.45)], 14)
        a.add(
            lathe(np.concatenate([[[0, 0]], cup, cup[::-1] * (0.92, 1), [[0, 0.05]]]), 32),
            second,
            (0, top, 0),
        )
    elif kind == "crown":
        for i in range(8):
            b = 2 * math.pi * i / 8
            a.add(
                ellipsoid(0.1, segments=12, rows=8),
                second,
                (0.16 * math.cos(b), top + 0.06, 0.16 * math.sin(b)),
            )
        a.add(torus(0.16, 0.05, 28, 10), second, (0, top, 0))
    else:
        a.add(tube([(0, top - 0.02, 0), (0, top + 0.32, 0)], 0.045, 12), second)
        a.add(tube([(-0.12, top + 0.2, 0), (0.12, top + 0.2, 0)], 0.045, 12), second)


FAMILIES = {"solids": solids}
