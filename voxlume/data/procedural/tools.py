"""Hand tools, garden tools, swords, keys: metal and a grip, lying or standing."""

from __future__ import annotations

import math

import numpy as np

from voxlume.asset import Asset, Material
from voxlume.data.procedural import materials as m
from voxlume.data.procedural import palettes
from voxlume.data.procedural.assembly import Assembly
from voxlume.data.procedural.shapes import (
    Array,
    Shape,
    box,
    circle,
    cylinder,
    ellipsoid,
    lathe,
    loft,
    plate,
    ring_plate,
    rounded_rectangle,
    slab,
    spline,
    sweep,
    torus,
    tube,
)


def tool(rng: np.random.Generator) -> Asset:
    """Hammers, axes, screwdrivers, wrenches, saws, shovels, swords, brushes, keys, pliers, knives."""
    a = Assembly(rng)
    kinds = (
        _hammer, _axe, _screwdriver, _wrench, _saw, _shovel, _sword, _brush, _key, _knife, _pliers,
        _magnifier,
    )  # fmt: skip
    a.choose(*kinds)(a)
    whole = Assembly(rng)
    # Built standing along y; shown standing, lying or leaning.
    tilt = a.choose(0.0, math.pi / 2, a.between(-0.5, 0.5))
    whole.parts = [(s.turned(z=tilt), material) for s, material in a.parts]
    return whole.asset()


def _grip_material(a: Assembly) -> Material:
    return m.one_of(a.rng, (m.wood, m.wood, m.weathered_paint, m.rubber, m.leather, m.plastic))


def _blade_material(a: Assembly) -> Material:
    if a.chance(0.2):
        return m.rusty_metal(a.rng)
    steel = palettes.draw(a.rng, palettes.STEEL, 0.03)
    return a.choose(m.polished_metal, m.brushed_metal, m.brushed_metal, m.hammered_metal)(a.rng, steel)


def _handle(a: Assembly, length: float, thickness: float, material: Material) -> None:
    """From y = 0 up; oval, turned, or plain."""
    style = a.choose("oval", "turned", "plain")
    y = np.linspace(0, length, 16)
    if style == "plain":
        a.add(tube(np.stack([0 * y, y, 0 * y], 1), thickness / 2, 14), material)
        return
    swell = 1 + (0.25 if style == "oval" else 0.15) * np.cos(
        2 * np.pi * y / length * a.choose(1, 1, 2) + a.between(0, 1)
    )
    section = circle(16) * (thickness / 2, thickness * (0.35 if style == "oval" else 0.5))
    bend = a.between(0, 0.03) * length * np.sin(2 * np.pi * y / length)
    a.add(sweep(np.stack([bend, y, 0 * y], 1), section[None] * swell[:, None, None], up=(0, 0, 1)), material)


def _hammer(a: Assembly) -> None:
    length, metal, grip = a.between(0.7, 1.1), _blade_material(a), _grip_material(a)
    _handle(a, length, a.between(0.07, 0.1), grip)
    w, t = a.between(0.35, 0.5), a.between(0.11, 0.16)
    y = length - 0.04
    style = a.choose("claw", "sledge", "ball", "mallet")
    if style in ("sledge", "mallet"):
        head = m.one_of(a.rng, (m.wood, m.rubber)) if style == "mallet" else metal
        shape = (
            cylinder(0.75 * t, w, 24).turned(z=math.pi / 2).moved(x=w / 2)
            if a.chance(0.5)
            else box((w, 1.3 * t, 1.3 * t), bevel=0.02)
        )
        a.add(shape, head, (0, y, 0))
        return
    a.add(box((0.14, 1.15 * t, t), bevel=0.015), metal, (0, y, 0))
    a.add(
        lathe(
            [
                (0, 0),
                (0.35 * t, 0),
                (0.35 * t, 0.12),
                (0.55 * t, 0.15),
                (0.55 * t, 0.23),
                (0.5 * t, 0.24),
                (0, 0.24),
            ],
            24,
        ).turned(z=-math.pi / 2),
        metal,
        (0.05, y, 0),
    )
    if style == "ball":
        a.add(ellipsoid(1.0 * t, segments=20), metal, (-0.14, y, 0))
    else:
        for s in (-1, 1):
            path = spline(
                [(-0.04, y, s * 0.02), (-0.14, y + 0.02, s * 0.035), (-0.26, y - 0.07, s * 0.05)], 10
            )
            size = np.linspace(1, 0.3, 10)[:, None, None]
            a.add(sweep(path, rounded_rectangle(0.05, 0.07, 0.012, 1)[None] * size), metal)


def _axe(a: Assembly) -> None:
    length, metal = a.between(0.8, 1.2), _blade_material(a)
    _handle(a, length, 0.08, _grip_material(a))
    y, reach, tall = length - 0.12, a.between(0.22, 0.4), a.between(0.2, 0.42)

    def head(s: float) -> Shape:
        x = np.linspace(0, 1, 10)
        half = np.interp(x, [0, 0.3, 1], [0.07, 0.06, tall / 2])
        thick = np.interp(x, [0, 0.25, 1], [0.06, 0.05, 0.004])
        rings = []
        for xi, h, t in zip(x, half, thick, strict=True):
            ring = rounded_rectangle(2 * t, 2 * h, 0.4 * t, 2)
            bow = 0.12 * tall * (1 - (ring[:, 1] / h) ** 2) * xi
            rings.append(np.stack([reach * xi + bow, ring[:, 1] - 0.15 * tall * xi**2, -ring[:, 0]], 1))
        return loft(rings).scaled(s, 1, 1)

    a.add(head(1), metal, (0, y, 0))
    if a.chance(0.3):
        a.add(head(-1), metal, (0, y, 0))
    else:
        a.add(box((0.1, 0.13, 0.11), bevel=0.015), metal, (-0.03, y, 0))


def _screwdriver(a: Assembly) -> None:
    r, h = a.between(0.07, 0.11), a.between(0.3, 0.45)
    flutes = 1 + 0.08 * np.cos(a.count(5, 8) * 2 * np.pi * np.arange(40) / 40)
    profile = np.concatenate(
        [
            [[0, 0]],
            spline(
                [(0.7 * r, 0), (r, 0.12 * h), (0.9 * r, 0.75 * h), (0.55 * r, 0.88 * h), (0.6 * r, h)], 20
            ),
            [[0, h]],
        ]
    )
    a.add(lathe(profile, radius=flutes), m.one_of(a.rng, (m.plastic, m.plastic, m.glass, m.wood)))
    metal, end = m.polished_metal(a.rng), h + a.between(0.4, 0.7)
    a.add(cylinder(0.03, end - h, 14), metal, (0, h, 0))
    tip = [rounded_rectangle(0.055, 0.05, 0.02, 1), rounded_rectangle(0.09, 0.012, 0.004, 1)]
    a.add(sweep([(0, end, 0), (0, end + 0.08, 0)], np.array(tip)), metal)


def _wrench_outline(gap: float, size: float) -> Array:
    """Half a jaw: a disc with a slot, open at the top; (n, 2) counter-clockwise, closed at the bottom."""
    angle = np.linspace(-np.pi / 2 + 0.45, np.pi / 2 - 0.55, 10)
    right = size * np.stack([np.cos(angle), np.sin(angle)], 1)
    slot = np.array(
        [
            [gap, 0.95 * size],
            [gap, 0.0],
            [0.6 * gap, -0.35 * gap],
            [-0.6 * gap, -0.35 * gap],
            [-gap, 0.0],
            [-gap, 0.95 * size],
        ]
    )
    return np.concatenate([right, slot, right[::-1] * (-1, 1)])


def _wrench(a: Assembly) -> None:
    metal, t = _blade_material(a), a.between(0.05, 0.08)
    length, size = a.between(0.7, 1.1), a.between(0.13, 0.19)
    a.add(plate(_wrench_outline(0.5 * size, size), t).turned(z=a.between(-0.3, 0.3)), metal, (0, length, 0))
    a.add(box((0.7 * size, length - size, 0.8 * t), bevel=0.015), metal, (0, length / 2, 0))
    hexagon = np.repeat(circle(6, 0.5 * size), 4, axis=0)
    around = circle(24, size)
    grow = np.linspace(0, 1, 4, endpoint=False)
    inner = np.concatenate(
        [hexagon[4 * i] * (1 - grow[:, None]) + hexagon[(4 * i + 4) % 24] * grow[:, None] for i in range(6)]
    )
    a.add(ring_plate(around, inner, t), metal)


def _saw(a: Assembly) -> None:
    metal, grip = m.brushed_metal(a.rng), _grip_material(a)
    length, high, teeth = a.between(0.8, 1.2), a.between(0.16, 0.25), a.count(24, 44)
    x = np.linspace(0, length, 2 * teeth + 1)
    bottom = np.where(np.arange(len(x)) % 2 == 0, 0.0, 0.02)
    top = [(length, 0.45 * high), (0.0, high)]
    a.add(plate(np.concatenate([np.stack([x, bottom], 1), top]), 0.008).turned(z=math.pi / 2), metal)
    outer = rounded_rectangle(0.3, 0.26, 0.1, 6) + (-0.12, 0.5 * high)
    inner = rounded_rectangle(0.13, 0.1, 0.05, 6) + (-0.14, 0.5 * high)
    a.add(ring_plate(outer, inner, 0.06).turned(z=math.pi / 2), grip)


def _shovel(a: Assembly) -> None:
    length, metal = a.between(1.0, 1.5), _blade_material(a)
    grip = _grip_material(a)
    a.add(tube([(0, 0.42, 0), (0, length, 0)], 0.035, 12), grip)
    w, h = a.between(0.3, 0.42), a.between(0.4, 0.52)
    if a.chance(0.7):
        u, v = np.meshgrid(np.linspace(-1, 1, 15), np.linspace(0, 1, 16))
        pointed = a.choose(0.0, 0.6, 0.9)
        half = w / 2 * np.sqrt(np.clip(1 - pointed * v**3, 0.02, 1))
        z = -0.08 * (1 - u**2) * (1 - 0.7 * v) + 0.05 * v**2
        a.add(slab(np.stack([u * half, h * (1 - v), z], -1), 0.012), metal)
        a.add(tube([(0, 0.3, -0.06), (0, 0.55, 0)], [0.03, 0.045], 12), metal)
    else:  # a rake or a fork
        n = a.count(4, 10)
        a.add(box((w, 0.04, 0.04), bevel=0.008), metal, (0, 0.42, 0))
        for i in range(n):
            x = w * ((i + 0.5) / n - 0.5)
            a.add(
                tube(
                    spline([(x, 0.42, 0), (x, 0.2, 0.05), (x, 0.05, 0.12 * a.choose(0, 1))], 8),
                    np.linspace(0.016, 0.006, 8),
                    6,
                ),
                metal,
            )
    if a.chance(0.5):
        a.add(torus(0.08, 0.025, 24, 8).turned(x=math.pi / 2), grip, (0, length + 0.06, 0))
    else:
        a.add(cylinder(0.03, 0.24, 12).turned(z=math.pi / 2).moved(x=0.12), grip, (0, length, 0))


def _sword(a: Assembly) -> None:
    metal, gold = _blade_material(a), m.polished_metal(a.rng)
    length, w = a.between(0.9, 1.4), a.between(0.07, 0.14)
    a.add(tube([(0, 0, 0), (0, 0.28, 0)], [0.032, 0.028], 12), m.leather(a.rng))
    a.add(ellipsoid(a.between(0.09, 0.13), segments=18), gold, (0, -0.03, 0))
    guard = a.between(0.3, 0.5)
    bend = a.between(-0.06, 0.06)
    a.add(
        tube(
            spline([(-guard / 2, 0.29 + bend, 0), (0, 0.29, 0), (guard / 2, 0.29 + bend, 0)], 10),
            [0.02] + [0.028] * 8 + [0.02],
            10,
        ),
        gold,
    )
    curve = a.choose(0.0, 0.0, 0.15, 0.25)
    t = np.linspace(0, 1, 20)
    width = w * np.where(t < 0.82, 1 - 0.2 * t, np.maximum((1 - t) / 0.18 * 0.84, 0.02))
    diamond = np.array([[0.5, 0], [0, 0.12], [-0.5, 0], [0, -0.12]])
    path = np.stack([curve * t**2, 0.3 + length * t, 0 * t], 1)
    a.add(
        sweep(path, diamond[None] * np.stack([width, np.maximum(width, 0.3 * w)], 1)[:, None], up=(0, 0, 1)),
        metal,
    )


def _brush(a: Assembly) -> None:
    length = a.between(0.5, 0.9)
    kind = a.choose("flat", "round", "broom")
    grip = _grip_material(a)
    _handle(a, length if kind != "broom" else 1.3, 0.06, grip)
    y = length if kind != "broom" else 1.3
    w = {"flat": a.between(0.15, 0.3), "round": 0.1, "broom": a.between(0.3, 0.45)}[kind]
    d = 0.08 if kind != "round" else 0.1
    metal = m.polished_metal(a.rng)
    section = superbox(w, d)
    a.add(
        sweep([(0, y - 0.02, 0), (0, y + 0.12, 0)], np.stack([0.8 * section, section]), up=(0, 0, 1)), metal
    )
    hair = m.one_of(a.rng, (m.foliage, m.bark, m.knit))
    for i in range(n := 9 if kind != "round" else 1):
        x = w * 0.9 * ((i + 0.5) / n - 0.5)
        tip = np.array([[0.9, 1.0], [1.1, 1.0], [0.6, 0.8]]) * (w / n, d)
        ring = superbox(1.0, 1.0)
        path = [(x, y + 0.1, 0), (x * 1.05, y + 0.22, 0), (x * 1.1, y + 0.22 + a.between(0.06, 0.12), 0)]
        a.add(sweep(path, ring[None] * tip[:, None], up=(0, 0, 1)), hair)


def superbox(w: float, d: float) -> Array:
    """A rounded section."""
    return rounded_rectangle(w, d, 0.3 * min(w, d), 3)


def _key(a: Assembly) -> None:
    metal = _blade_material(a)
    length, r = a.between(0.6, 0.9), a.between(0.14, 0.2)
    a.add(tube([(0, 0, 0), (0, length, 0)], 0.04, 16), metal)
    for k in range(a.choose(1, 3)):
        angle = 2 * math.pi * k / 3
        at = (
            0.9 * r * math.sin(angle) * (1 if k else 0),
            length + r + 0.6 * r * (k > 0) * math.cos(angle),
            0,
        )
        a.add(torus(r * (0.7 if k else 1), 0.035, 28, 10).turned(x=math.pi / 2), metal, at)
    a.add(torus(0.05, 0.025, 20, 8), metal, (0, 0.86 * length, 0))
    for _ in range(a.count(2, 4)):
        a.add(
            box((a.between(0.1, 0.2), 0.05, 0.04), bevel=0.006).moved(x=0.08),
            metal,
            (0, a.between(0.03, 0.25), 0),
        )


def _knife(a: Assembly) -> None:
    metal, grip = m.one_of(a.rng, (m.polished_metal, m.brushed_metal, m.hammered_metal)), _grip_material(a)
    length, w = a.between(0.5, 0.9), a.between(0.1, 0.2)
    a.add(
        sweep(
            spline([(0, 0, 0), (0.01, 0.2, 0), (0, 0.38, 0)], 10),
            rounded_rectangle(0.1, 0.06, 0.025, 3),
            up=(0, 0, 1),
        ),
        grip,
    )
    a.add(box((0.11, 0.04, 0.07), bevel=0.01), metal, (0, 0.39, 0))
    t = np.linspace(0, 1, 16)
    edge = np.stack([0.05 - w * np.sqrt(np.clip(1 - t**3, 0, 1)), 0.4 + length * t], 1)
    a.add(plate(np.concatenate([[(0.05, 0.4)], [(0.05, 0.4 + 0.97 * length)], edge[::-1]]), 0.014), metal)
    for y in (0.1, 0.2, 0.3):
        a.add(cylinder(0.015, 0.066, 10).turned(x=math.pi / 2), metal, (0.005, y, -0.033))


def _pliers(a: Assembly) -> None:
    metal, grip = _blade_material(a), m.one_of(a.rng, (m.rubber, m.plastic))
    spread, length = a.between(0.12, 0.25), a.between(0.5, 0.7)
    for s in (-1, 1):
        path = spline(
            [
                (s * spread, 0, 0),
                (s * spread * 1.1, 0.3 * length, 0),
                (s * 0.05, 0.9 * length, 0),
                (0, length, 0),
            ],
            16,
        )
        a.add(sweep(path, rounded_rectangle(0.07, 0.09, 0.03, 3), up=(0, 0, 1)), grip)
        jaw = spline(
            [
                (-s * 0.02, length - 0.02, s * 0.01),
                (-s * 0.07, length + 0.15, 0),
                (-s * 0.02, length + a.between(0.25, 0.4), 0),
            ],
            10,
        )
        a.add(
            sweep(
                jaw,
                rounded_rectangle(0.07, 0.08, 0.012, 1)[None] * np.linspace(1, 0.45, 10)[:, None, None],
                up=(0, 0, 1),
            ),
            metal,
        )
    a.add(cylinder(0.08, 0.13, 20).turned(x=math.pi / 2), metal, (0, length, -0.065))


def _magnifier(a: Assembly) -> None:
    r = a.between(0.22, 0.32)
    rim = m.polished_metal(a.rng)
    _handle(a, 0.6, 0.09, _grip_material(a))
    a.add(torus(r, 0.03, 40, 10).turned(x=math.pi / 2), rim, (0, 0.62 + r, 0))
    a.add(ellipsoid((2 * r, 2 * r, 0.08), segments=32), m.glass(a.rng, palettes.GLASS[0]), (0, 0.62 + r, 0))


FAMILIES = {"tool": tool}
