"""Cars, trucks, carts and trains; boats; aircraft and rockets."""

from __future__ import annotations

import math

import numpy as np

from voxlume.asset import Asset, Material
from voxlume.data.procedural import materials as m
from voxlume.data.procedural import palettes
from voxlume.data.procedural.assembly import Assembly
from voxlume.data.procedural.containers import fill, tray
from voxlume.data.procedural.shapes import (
    Array,
    Shape,
    box,
    boxed,
    circle,
    cylinder,
    ellipsoid,
    lathe,
    loft,
    plate,
    rounded_rectangle,
    sheet,
    slab,
    spline,
    superellipse,
    sweep,
    torus,
    tube,
)


def wheel(
    a: Assembly,
    at: tuple[float, float, float],
    r: float,
    w: float,
    tire: Material,
    rim: Material,
    spokes: int,
) -> None:
    """A wheel about the x axis."""
    side = math.pi / 2
    t = 0.28 * r
    profile = [
        (r - t, -w / 2),
        (r - 0.3 * t, -w / 2),
        (r, -0.35 * w),
        (r, 0.35 * w),
        (r - 0.3 * t, w / 2),
        (r - t, w / 2),
    ]
    a.add(lathe([*profile, profile[0]], 32).turned(z=side), tire, at)
    hub = [(0, -0.3 * w), (0.22 * r, -0.3 * w), (0.22 * r, 0.42 * w), (0.1 * r, 0.5 * w), (0, 0.5 * w)]
    for s in (1, -1):
        if s * at[0] >= 0:
            a.add(lathe(hub, 20).turned(z=-side * s), rim, at)
    if spokes == 0:
        a.add(
            lathe(
                [(0, -0.2 * w), (r - t, -0.2 * w), (r - t, 0.3 * w), (0.5 * r, 0.2 * w), (0, 0.3 * w)], 32
            ).turned(z=-side if at[0] >= 0 else side),
            rim,
            at,
        )
    else:
        a.add(
            lathe(
                [
                    (r - t, -0.4 * w),
                    (r - t, 0.4 * w),
                    (0.9 * (r - t), 0.4 * w),
                    (0.9 * (r - t), -0.4 * w),
                    (r - t, -0.4 * w),
                ],
                32,
            ).turned(z=side),
            rim,
            at,
        )
        for i in range(spokes):
            angle = 2 * math.pi * i / spokes
            reach = 0.93 * (r - t)
            a.add(box((0.2 * w, reach, 0.16 * r)).moved(y=reach / 2).turned(x=angle), rim, at)


def _section_body(profile: Array, half_widths: Array, levels: int = 9) -> Shape:
    """A body from a side view: rows of (z, low, high), half widths per row; rounded cross-sections."""
    rings = []
    for (z, low, high), w in zip(profile, half_widths, strict=True):
        ring = rounded_rectangle(
            2 * w, max(high - low, 0.02), 0.3 * min(2 * w, max(high - low, 0.02)), levels // 2
        )
        rings.append(np.stack([ring[:, 0], ring[:, 1] + (low + high) / 2, np.full(len(ring), z)], 1))
    return loft(rings)


def vehicle(rng: np.random.Generator) -> Asset:
    """Cars, vans, pickups, buses, tractors, carts, locomotives, toy trucks."""
    a = Assembly(rng)
    kind = a.choose("car", "car", "car", "van", "pickup", "truck", "other", "other", "other", "other")
    if kind == "other":
        a.choose(_tractor, _train, _cart, _bicycle)(a)
    else:
        _car(a, kind)
    return a.asset()


def _car(a: Assembly, kind: str) -> None:
    rng = a.rng
    paint = m.one_of(rng, (m.car_paint, m.car_paint, m.painted_metal, m.plastic))
    glass = m.glass(rng, palettes.draw(rng, ((0.75, 0.85, 0.9), (0.3, 0.35, 0.4))))
    dark, chrome = m.rubber(rng), m.polished_metal(rng, palettes.METAL[0])
    length, w = a.between(1.7, 2.4), a.between(0.8, 1.0)
    r, ground = a.between(0.17, 0.24), a.between(0.12, 0.2)
    belt = ground + a.between(0.32, 0.42)
    roof = belt + a.between(0.28, 0.4)
    front, rear = length / 2, -length / 2
    if kind in ("van", "truck"):
        roof, length = belt + a.between(0.4, 0.6), length * 1.1
        front, rear = length / 2, -length / 2
    z = np.linspace(rear, front, 22)
    t = np.linspace(0, 1, 22)
    round_off = 1 - 0.25 * np.abs(2 * t - 1) ** 6
    hood = (
        belt
        - a.between(0.02, 0.1) * np.clip((t - 0.6) / 0.4, 0, 1) ** 1.5
        - a.between(0, 0.08) * np.clip((0.2 - t) / 0.2, 0, 1)
    )
    low = ground + 0.07 * np.abs(2 * t - 1) ** 8
    a.add(_section_body(np.stack([z, low, hood], 1), w / 2 * round_off), paint)
    # The cabin: glass all round, with a roof and posts of paint.
    z0, z1 = {"pickup": (0.0, 0.28), "van": (-0.46, 0.34), "truck": (0.12, 0.42)}.get(
        kind, (a.between(-0.46, -0.3), a.between(0.12, 0.26))
    )
    low0, low1 = z0 * length, z1 * length
    slope0, slope1 = (
        a.between(0.03, 0.25) * (0.2 if kind in ("van", "truck") else 1),
        a.between(0.12, 0.34) * (0.4 if kind in ("van", "truck") else 1),
    )
    top0, top1 = low0 + slope0, low1 - slope1
    narrow = a.between(0.72, 0.88)
    base = rounded_rectangle(0.96 * w, low1 - low0, 0.12, 4)
    crown = rounded_rectangle(narrow * w, top1 - top0, 0.1, 4)
    lower = np.stack([base[:, 0], np.full(len(base), belt - 0.03), -base[:, 1] + (low0 + low1) / 2], 1)
    upper = np.stack([crown[:, 0], np.full(len(crown), roof - 0.04), -crown[:, 1] + (top0 + top1) / 2], 1)
    a.add(loft([lower, upper], caps=(False, False)), glass)
    rings = [upper, upper + (0, 0.03, 0), upper * (0.85, 1, 1) + (0, 0.05, 0)]
    rings[2][:, 2] = (upper[:, 2] - upper[:, 2].mean()) * 0.88 + upper[:, 2].mean()
    a.add(loft(rings), paint)
    n = len(base)
    posts = [n // 8, 3 * n // 8, 5 * n // 8, 7 * n // 8]
    for k in posts:
        a.add(tube([lower[k], upper[k]], 0.022, 8), paint)
    middle = (low0 + low1) / 2
    for s in (-1, 1):
        a.add(
            tube(
                [(s * 0.475 * w, belt - 0.03, middle), (s * narrow * 0.497 * w, roof - 0.03, middle)], 0.02, 8
            ),
            paint,
        )
        a.add(box((0.02, 0.03, 0.09), bevel=0.006), chrome, (s * 0.5 * w, belt - 0.09, middle - 0.12))
        a.add(
            ellipsoid((0.1, 0.07, 0.05), segments=12, rows=8), paint, (s * 0.54 * w, belt + 0.02, low1 - 0.16)
        )
    seat = m.one_of(rng, (m.leather, m.fabric))
    for s in (-1, 1):
        a.add(box((0.3 * w, 0.32, 0.1), bevel=0.03).turned(x=-0.2), seat, (s * 0.22 * w, belt + 0.08, middle))
    if kind == "pickup":
        bed = box((0.9 * w, 0.02, 0.4 * length)), box((0.03, 0.14, 0.44 * length))
        a.add(bed[0], dark, (0, belt + 0.005, -0.25 * length))
        for s in (-1, 1):
            a.add(bed[1], paint, (s * 0.46 * w, belt + 0.06, -0.25 * length))
        a.add(box((0.94 * w, 0.14, 0.03)), paint, (0, belt + 0.06, -0.475 * length))
    if kind == "truck":
        load = m.one_of(rng, (m.planks, m.painted_metal, m.fabric, m.brushed_metal))
        a.add(
            box((1.05 * w, a.between(0.5, 0.8), 0.58 * length), bevel=0.01),
            load,
            (0, belt + 0.3, -0.2 * length),
        )
    if kind == "van" and a.chance(0.4):
        for s in (-1, 1):
            a.add(
                tube(
                    [(s * 0.3 * w, roof + 0.05, -0.3 * length), (s * 0.3 * w, roof + 0.05, 0.2 * length)],
                    0.012,
                    6,
                ),
                chrome,
            )
        a.add(
            box((0.5 * w, 0.14, 0.4 * length), bevel=0.02),
            m.one_of(rng, (m.leather, m.planks, m.plastic)),
            (0, roof + 0.12, -0.05 * length),
        )
    spokes, rim = (
        a.choose(0, 5, 5, 8, 10),
        m.one_of(rng, (m.polished_metal, m.brushed_metal, m.painted_metal)),
    )
    for s in (-1, 1):
        for zz in (0.31 * length, -0.31 * length):
            wheel(a, (s * (w / 2 - 0.05), r, zz), r, 0.16, dark, rim, spokes)
            a.add(
                torus(r + 0.03, 0.035, 24, 8).turned(z=math.pi / 2), paint, (s * (w / 2 - 0.02), r + 0.02, zz)
            )
        lamp = m.glass(rng, (0.95, 0.95, 0.85))
        a.add(ellipsoid((0.16, 0.11, 0.08), segments=16), lamp, (s * 0.33 * w, belt - 0.12, front - 0.01))
        a.add(
            box((0.14, 0.07, 0.03), bevel=0.01),
            m.plastic(rng, (0.7, 0.08, 0.06)),
            (s * 0.34 * w, belt - 0.12, rear + 0.0),
        )
    for z_end in (front, rear):
        a.add(
            box((0.86 * w, 0.07, 0.07), bevel=0.02), a.choose(chrome, dark, paint), (0, ground + 0.06, z_end)
        )
    a.add(box((0.36 * w, 0.08, 0.02), bevel=0.005), dark, (0, belt - 0.13, front - 0.005))


def _tractor(a: Assembly) -> None:
    rng = a.rng
    paint, dark, rim = m.painted_metal(rng), m.rubber(rng), m.painted_metal(rng)
    w = a.between(0.36, 0.5)
    a.add(box((w, 0.36, 0.9), bevel=0.05), paint, (0, 0.62, 0.35))
    a.add(box((w + 0.1, 0.3, 0.5), bevel=0.04), paint, (0, 0.55, -0.3))
    big, small = a.between(0.42, 0.52), a.between(0.22, 0.3)
    for s in (-1, 1):
        wheel(a, (s * 0.45, big, -0.4), big, 0.26, dark, rim, a.choose(0, 6))
        wheel(a, (s * 0.36, small, 0.62), small, 0.16, dark, rim, a.choose(0, 6))
        a.add(
            ellipsoid((0.1, 0.1, 0.06), segments=14), m.glass(rng, (0.95, 0.95, 0.85)), (s * 0.12, 0.7, 0.81)
        )
        a.add(slab(_fender(s, big), 0.02), paint)
    a.add(tube([(0.1, 0.8, 0.5), (0.1, 1.15, 0.5)], 0.03, 10), m.rusty_metal(rng))
    a.add(box((0.3, 0.08, 0.3), bevel=0.03), m.leather(rng), (0, 0.76, -0.35))
    a.add(torus(0.13, 0.018, 24, 8).turned(x=0.9), dark, (0, 0.98, -0.08))
    a.add(tube([(0, 0.75, 0.02), (0, 0.97, -0.08)], 0.015, 6), dark)
    if a.chance(0.6):
        for x in (-0.24, 0.24):
            for z in (-0.55, 0.0):
                a.add(box((0.03, 0.65, 0.03)), paint, (x, 1.0, z))
        a.add(box((0.62, 0.05, 0.72), bevel=0.02), paint, (0, 1.34, -0.27))
        a.add(box((0.46, 0.5, 0.01)), m.glass(rng), (0, 1.07, 0.0))


def _fender(s: float, r: float) -> Array:
    angle = np.linspace(0.4, 2.6, 12)
    y, z = r + (r + 0.05) * np.sin(angle), -0.4 + (r + 0.05) * np.cos(angle)
    inner, outer = s * 0.3, s * 0.58
    left, right = min(inner, outer), max(inner, outer)
    return np.stack([np.stack([np.full(12, x), y, z], 1) for x in (left, right)], 1)[::-1]


def _train(a: Assembly) -> None:
    rng = a.rng
    paint, dark, brass = m.painted_metal(rng), m.rubber(rng), m.polished_metal(rng)
    second = m.painted_metal(rng)
    r = a.between(0.24, 0.32)
    a.add(box((0.62, 0.1, 2.0), bevel=0.02), dark, (0, 0.34, 0))
    a.add(
        lathe([(0, 0), (r, 0), (r, 1.15), (0.85 * r, 1.2), (0, 1.2)], 32).turned(x=math.pi / 2),
        paint,
        (0, 0.4 + r, -0.25),
    )
    for z in (0.0, 0.4, 0.8):
        a.add(
            lathe([(r + 0.01, 0), (r + 0.01, 0.04)], 32).turned(x=math.pi / 2), brass, (0, 0.4 + r, -0.2 + z)
        )
    a.add(box((0.66, 0.7, 0.55), bevel=0.02), second, (0, 0.74, -0.6))
    for s in (-1, 1):
        a.add(box((0.01, 0.25, 0.28), bevel=0.003), m.glass(rng), (s * 0.335, 0.88, -0.6))
    roof = np.stack(
        [
            np.stack(
                [np.linspace(-0.4, 0.4, 9), 1.12 + 0.09 * np.cos(np.linspace(-1.4, 1.4, 9)), np.full(9, z)], 1
            )
            for z in (-0.95, -0.25)
        ]
    )
    a.add(slab(roof, 0.03), paint)
    a.add(
        lathe([(0.06, 0), (0.06, 0.22), (a.between(0.07, 0.13), 0.36), (0.05, 0.36), (0.05, 0.1)], 24),
        dark,
        (0, 0.38 + 2 * r, 0.7),
    )
    a.add(ellipsoid((0.2, 0.24, 0.2), segments=20), brass, (0, 0.4 + 2 * r, 0.25))
    rim = m.painted_metal(rng)
    n = a.count(2, 3)
    for s in (-1, 1):
        for i in range(n):
            wheel(a, (s * 0.3, 0.2, -0.7 + 1.3 * i / (n - 0.4)), 0.2, 0.08, m.brushed_metal(rng), rim, 8)
        a.add(box((0.03, 0.04, 1.2)), brass, (s * 0.37, 0.2, -0.1))
    grid = spline(
        [(0.4, 0.3, 1.0), (0.2, 0.12, 1.2), (0, 0.1, 1.25), (-0.2, 0.12, 1.2), (-0.4, 0.3, 1.0)], 12
    )
    for p in grid:
        a.add(tube([(0.75 * p[0], 0.36, 1.0), p], 0.014, 5), dark)


def _cart(a: Assembly) -> None:
    rng = a.rng
    wood, iron = (
        m.one_of(rng, (m.planks, m.wood, m.weathered_paint)),
        m.one_of(rng, (m.rusty_metal, m.hammered_metal)),
    )
    w, d, h, r = a.between(0.6, 0.8), a.between(0.9, 1.3), a.between(0.25, 0.4), a.between(0.3, 0.42)
    a.add(tray(w, h, d, 0.03), wood, (0, r, 0))
    axles = (0.0,) if a.chance(0.4) else (-0.32 * d, 0.32 * d)
    for z in axles:
        a.add(cylinder(0.03, w + 0.2, 10).turned(z=math.pi / 2).moved(x=w / 2 + 0.1), iron, (0, r, z))
        for s in (-1, 1):
            wheel(a, (s * (w / 2 + 0.07), r, z), r, 0.07, iron, wood, a.count(6, 10))
    for s in (-1, 1):
        a.add(
            tube(
                spline(
                    [
                        (s * 0.3 * w, r + 0.05, d / 2),
                        (s * 0.3 * w, r + 0.1, d),
                        (s * 0.25 * w, r + 0.25, 1.25 * d),
                    ],
                    8,
                ),
                0.025,
                8,
            ),
            wood,
        )
    inside = Assembly(rng)
    fill(inside, w - 0.06, 0.9 * h, d - 0.06)
    a.absorb(inside, at=(0, r + 0.032, 0))


def _bicycle(a: Assembly) -> None:
    """A bicycle that rides along z."""
    rng = a.rng
    paint, dark, chrome = m.car_paint(rng), m.rubber(rng), m.polished_metal(rng, palettes.METAL[0])
    r = a.between(0.3, 0.36)
    span = a.between(1.0, 1.15)

    def spoked(z: float) -> None:
        a.add(torus(r, 0.03, 40, 10).turned(z=math.pi / 2), dark, (0, r, z))
        a.add(torus(r - 0.035, 0.014, 40, 8).turned(z=math.pi / 2), chrome, (0, r, z))
        a.add(cylinder(0.03, 0.12, 12).turned(z=math.pi / 2).moved(x=0.06), chrome, (0, r, z))
        for i in range(10):
            b = 2 * math.pi * i / 10
            a.add(
                tube(
                    [(0.03 * (-1) ** i, r, z), (0, r + r * 0.9 * math.sin(b), z + r * 0.9 * math.cos(b))],
                    0.006,
                    4,
                ),
                chrome,
            )

    rear, front = np.array([0, r, -span / 2]), np.array([0, r, span / 2])
    spoked(-span / 2)
    spoked(span / 2)
    crank, seat, head = (
        np.array([0, r * 0.9, -0.05]),
        np.array([0, 2.05 * r, -0.2]),
        np.array([0, 2.1 * r, 0.3 * span]),
    )
    t = a.between(0.018, 0.028)
    for p, q in ((crank, seat), (crank, head - (0, 0.08, 0)), (seat - (0, 0.05, 0), head)):
        a.add(tube([p, q], t, 10), paint)
    for s in (-1, 1):
        a.add(tube([rear + (s * 0.05, 0, 0), crank + (s * 0.03, 0, 0)], 0.6 * t, 8), paint)
        a.add(tube([rear + (s * 0.05, 0, 0), seat - (0, 0.06, 0)], 0.6 * t, 8), paint)
        a.add(
            tube(spline([front + (s * 0.05, 0, 0), front + (s * 0.05, r, -0.1), head], 8), 0.7 * t, 8), paint
        )
        a.add(
            tube(
                spline(
                    [head + (0, 0.08, 0), head + (s * 0.18, 0.12, 0.03), head + (s * 0.24, 0.1, -0.12)], 8
                ),
                0.014,
                8,
            ),
            chrome,
        )
        a.add(tube([head + (s * 0.24, 0.1, -0.1), head + (s * 0.24, 0.09, -0.2)], 0.022, 8), dark)
        a.add(box((0.1, 0.02, 0.06)), dark, crank + (s * 0.14, s * 0.14, 0))
        a.add(box((0.02, 0.16, 0.03)), chrome, crank + (s * 0.08, s * 0.07, 0))
    a.add(torus(0.1, 0.012, 24, 6).turned(z=math.pi / 2), chrome, crank + (0.05, 0, 0))
    a.add(tube([head - (0, 0.05, 0), head + (0, 0.1, 0)], 0.8 * t, 8), chrome)
    a.add(ellipsoid((0.16, 0.07, 0.28), segments=18), m.leather(rng), seat + (0, 0.08, 0))
    a.add(tube([seat - (0, 0.05, 0), seat + (0, 0.06, 0)], 0.016, 8), chrome)
    if a.chance(0.5):
        basket = lathe(
            [(0.1, 0), (0.15, 0.2)], radius=1 / np.maximum(np.abs(circle(32))[:, 0], np.abs(circle(32))[:, 1])
        )
        a.add(basket, m.wicker(rng), head + (0, 0.0, 0.18))


def boat(rng: np.random.Generator) -> Asset:
    """Rowing boats, sailing boats, canoes, tugs: open hulls."""
    a = Assembly(rng)
    kind = a.choose("row", "sail", "sail", "canoe", "tug")
    length, w, h = a.between(1.6, 2.4), a.between(0.55, 0.8), a.between(0.3, 0.45)
    if kind == "canoe":
        w *= 0.65
    hull = m.one_of(rng, (m.planks, m.wood, m.weathered_paint, m.painted_metal, m.car_paint))
    wood = m.wood(rng)
    z, u = np.linspace(-1, 1, 26), np.linspace(-1, 1, 21)
    pointed_stern = kind == "canoe" or a.chance(0.3)
    pointed = np.sqrt(np.clip(1 - np.abs(z) ** 2.2, 0, 1))
    taper = np.where((z > 0) | pointed_stern, pointed, 1 - 0.25 * z**2)
    sheer = h * (1 + a.between(0.1, 0.5) * z**2)
    keel = (
        h
        * a.between(0.2, 0.6)
        * np.clip(np.abs(z) - 0.5, 0, 1) ** 1.5
        * np.where(z > 0, 1.6, 1.6 if pointed_stern else 0.4)
    )
    half = np.maximum(w / 2 * taper, 0.012)
    depth = np.abs(u) ** a.between(2.0, 3.5)
    x = half[:, None] * np.sign(u) * np.abs(u) ** 0.75
    y = keel[:, None] + (sheer - keel)[:, None] * depth
    grid = np.stack([x, y, np.broadcast_to(length / 2 * z[:, None], x.shape)], -1)
    a.add(slab(grid, 0.02), hull)
    if not pointed_stern:
        stern = grid[0]
        lid = np.stack([stern * (1, 0, 1) + (0, float(sheer[0]), 0), stern], 0)
        a.add(slab(lid[::-1], 0.02), hull)
    rail = [np.stack([s * (half + 0.005), sheer, length / 2 * z], 1) for s in (-1, 1)]
    for path in rail:
        a.add(sweep(path, rounded_rectangle(0.035, 0.03, 0.01, 1)), wood)
    for f in (-0.4, 0.05, 0.45)[: a.count(2, 3)]:
        width = 2 * float(np.interp(f, z, half)) * 0.9
        a.add(box((width, 0.025, 0.16), bevel=0.004), wood, (0, 0.66 * h, f * length / 2))
    if kind == "row" or (kind == "canoe" and a.chance(0.7)):
        for s in (-1, 1):
            tip = np.array([s * (w / 2 + 0.6), 0.15, a.between(-0.3, 0.3)])
            a.add(tube([(s * 0.1, h + 0.15, 0), tip], 0.018, 8), wood)
            a.add(ellipsoid((0.12, 0.3, 0.02), segments=14).aimed(tip, tip + (s * 0.6, -0.2, 0)), wood)
    if kind == "sail":
        mast = a.between(1.4, 2.0)
        a.add(tube([(0, 0.05, 0.1), (0, mast, 0.1)], [0.03, 0.018], 10), wood)
        a.add(tube([(0, 0.45, 0.1), (0.12, 0.42, -0.8 * length / 2)], 0.018, 8), wood)
        cloth = m.fabric(rng, double_sided=True)
        for foot, forward in (((0.12, 0.46, -0.78 * length / 2), False), ((0, 0.4, 0.95 * length / 2), True)):
            t, q = np.meshgrid(np.linspace(0, 1, 14), np.linspace(0, 1, 14), indexing="ij")
            top, tack, clew = (
                np.array([0, mast * (0.95 if not forward else 0.85), 0.1]),
                np.array([0, 0.5, 0.08 if not forward else 0.14]),
                np.array(foot),
            )
            p = (1 - t[..., None]) * top + t[..., None] * ((1 - q[..., None]) * tack + q[..., None] * clew)
            p[..., 0] += 0.16 * np.sin(math.pi * q) * np.sin(math.pi * np.clip(t, 0.05, 1) * 0.9)
            a.add(sheet(p), cloth)
    if kind == "tug":
        cabin = m.painted_metal(rng)
        a.add(box((0.92 * w * 0.9, 0.03, 0.8 * length)), wood, (0, 0.82 * h, -0.06 * length))
        a.add(box((0.6 * w, 0.4, 0.4 * length), bevel=0.03), cabin, (0, h + 0.14, -0.08 * length))
        for s in (-1, 1):
            a.add(
                box((0.01, 0.13, 0.28 * length), bevel=0.003),
                m.glass(rng),
                (s * 0.305 * w, h + 0.2, -0.08 * length),
            )
        a.add(
            lathe([(0, 0), (0.09, 0), (0.08, 0.4), (0.06, 0.4), (0.06, 0.2)], 24),
            m.painted_metal(rng),
            (0, h + 0.3, -0.16 * length),
        )
        for s in (-1, 1):
            a.add(torus(0.08, 0.03, 20, 8).turned(z=math.pi / 2), m.rubber(rng), (s * w / 2, 0.7 * h, 0.1))
    return a.asset()


def _wing(span: float, root: float, tip: float, back: float, rise: float, thickness: float = 0.1) -> Shape:
    """Half a wing towards +x from the origin; chords along z."""
    t = np.linspace(0, 1, 8)
    c = superellipse(20, 1.0, 1.0, 2.0)
    rings = []
    for f in t:
        chord = root + (tip - root) * f
        chord *= math.sqrt(max(1 - max(0.0, (f - 0.85) / 0.15) ** 2, 0.02))
        x = np.full(20, span * f)
        rings.append(
            np.stack([x, rise * f + thickness * chord * c[:, 1] + 0 * x, -back * f - chord * c[:, 0]], 1)
        )
    return boxed(loft(rings))


def aircraft(rng: np.random.Generator) -> Asset:
    """Propeller planes, biplanes, jets, helicopters, rockets."""
    a = Assembly(rng)
    kind = a.choose("propeller", "biplane", "jet", "jet", "helicopter", "rocket")
    paint, second = (
        m.one_of(rng, (m.car_paint, m.painted_metal, m.brushed_metal, m.plastic)),
        m.one_of(rng, (m.car_paint, m.painted_metal)),
    )
    glass, dark, metal = m.glass(rng), m.rubber(rng), m.polished_metal(rng)
    if kind == "rocket":
        h, r = a.between(1.5, 2.2), a.between(0.22, 0.38)
        profile = np.concatenate(
            [[[0, 0]], spline([(0.6 * r, 0), (r, 0.3 * h), (0.9 * r, 0.7 * h), (0.0, h)], 32)]
        )
        a.add(lathe(np.maximum(profile, 0), 36), paint, (0, 0.3, 0))
        nose = spline([(0.92 * r, 0.68 * h), (0.55 * r, 0.86 * h), (0.0, h + 0.03)], 12)
        a.add(lathe(np.maximum(nose + (0.012, 0), 0), 36), second, (0, 0.3, 0))
        n = a.count(3, 4)
        outline = [(0.6 * r, 0.1), (r * 2.1, -0.3), (r * 2.2, 0.1), (r * 0.95, 0.42 * h)]
        for i in range(n):
            a.add(plate(outline, 0.05).turned(y=2 * math.pi * i / n + 0.5), second, (0, 0.3, 0))
        a.add(
            lathe([(0.3 * r, 0.02), (0.5 * r, -0.16), (0.45 * r, -0.16), (0.25 * r, 0.0)], 24),
            metal,
            (0, 0.3, 0),
        )
        for y in (0.45, 0.62)[: a.count(1, 2)]:
            rr = 0.95 * r
            a.add(torus(0.1, 0.025, 20, 8).turned(x=math.pi / 2), metal, (0, 0.3 + y * h, rr))
            a.add(ellipsoid((0.2, 0.2, 0.05), segments=16), glass, (0, 0.3 + y * h, rr))
        return a.asset()
    length = a.between(1.5, 2.2)
    r = a.between(0.13, 0.2)
    z = [-length / 2, -0.3 * length, 0.1 * length, 0.38 * length, length / 2]
    size = [0.15, 0.55, 1.0, 0.95, 0.3 if kind == "jet" else 0.7]
    path = spline(np.stack([np.zeros(5), np.array([0.3, 0.1, 0, 0, 0]) * r, z], 1), 26)
    radius = r * spline(np.array(size)[:, None], 26)[:, 0]
    if kind == "helicopter":
        radius = r * np.interp(np.linspace(0, 1, 26), [0, 0.45, 0.6, 0.85, 1], [0.25, 0.35, 1.5, 1.6, 0.4])
    a.add(tube(path, radius, 20), paint)
    cockpit = ellipsoid((1.25 * r, 1.3 * r, (2.6 if kind != "helicopter" else 3.0) * r), segments=24)
    a.add(
        cockpit,
        glass,
        (0, 0.75 * r if kind != "helicopter" else 0.5 * r, (0.16 if kind != "helicopter" else 0.32) * length),
    )
    span, chord, back = (
        a.between(0.8, 1.2) * length / 2,
        a.between(0.14, 0.22) * length,
        a.between(0.3, 0.6) * length / 2 if kind == "jet" else a.between(0, 0.08),
    )
    tip = chord * (a.between(0.2, 0.5) if kind == "jet" else a.between(0.6, 1.0))
    tail = -0.43 * length
    if kind != "helicopter":
        for level in (-0.4 * r, 2.2 * r) if kind == "biplane" else (a.choose(-0.5, 0.0, 0.7) * r,):
            half = _wing(span, chord, tip, back, a.between(0.0, 0.12), 0.09)
            for side in (half, half.scaled(-1, 1, 1)):
                a.add(side, second if a.chance(0.5) else paint, (0, level, 0.12 * length))
        if kind == "biplane":
            for s in (-1, 1):
                for dz in (-0.05, 0.05):
                    a.add(
                        tube(
                            [
                                (s * 0.6 * span, -0.3 * r, 0.12 * length + dz),
                                (s * 0.6 * span, 2.3 * r, 0.12 * length + dz),
                            ],
                            0.012,
                            6,
                        ),
                        metal,
                    )
            for s in (-1, 1):
                a.add(
                    tube(
                        [(s * 0.5 * r, 0.6 * r, 0.14 * length), (s * 0.8 * r, 2.3 * r, 0.12 * length)],
                        0.012,
                        6,
                    ),
                    metal,
                )
        small = _wing(0.36 * span, 0.6 * chord, 0.35 * chord, 0.4 * back, 0.0, 0.09)
        for side in (small, small.scaled(-1, 1, 1)):
            a.add(side, second, (0, 0.3 * r, tail))
    a.add(
        _wing(a.between(0.25, 0.4), 0.65 * chord, 0.35 * chord, 0.15, 0.0, 0.09).turned(z=math.pi / 2),
        second,
        (0, 0.3 * r, tail),
    )
    if kind in ("propeller", "biplane"):
        front = length / 2
        a.add(ellipsoid((0.7 * r, 0.7 * r, 0.9 * r), segments=16), metal, (0, 0, front))
        n = a.count(2, 4)
        for i in range(n):
            a.add(
                ellipsoid((0.09, 0.5, 0.025), segments=12)
                .moved(y=0.25)
                .turned(y=0.4)
                .turned(z=2 * math.pi * i / n + 0.4),
                dark,
                (0, 0, front + 0.03),
            )
    if kind == "jet":
        for s in (-1, 1):
            engine = lathe([(0.6 * r, 0), (0.45 * r, 0.5), (0.4 * r, 0.5), (0.5 * r, 0.05), (0, 0.15)], 24)
            a.add(engine.turned(x=math.pi / 2), metal, (s * 0.42 * span, -0.5 * r, -0.05))
    if kind == "helicopter":
        top = 1.75 * r
        a.add(cylinder(0.03, 0.22, 12), metal, (0, top - 0.15, 0.12 * length))
        n = a.count(2, 5)
        for i in range(n):
            a.add(
                box((0.08, 0.012, 0.95), bevel=0.004).moved(z=0.48).turned(y=2 * math.pi * i / n + 0.3),
                dark,
                (0, top + 0.07, 0.12 * length),
            )
        for i in range(4):
            a.add(
                box((0.012, 0.24, 0.035)).moved(y=0.1).turned(x=math.pi / 2 * i),
                dark,
                (0.08, 0.35 * r, -0.47 * length),
            )
        for s in (-1, 1):
            skid = spline(
                [(s * 0.3, -2.1 * r, -0.3), (s * 0.3, -2.15 * r, 0.4), (s * 0.3, -1.9 * r, 0.55)], 12
            )
            a.add(tube(skid, 0.018, 8), metal)
            for dz in (-0.1, 0.3):
                a.add(tube([(s * 0.5 * r, -0.9 * r, dz), (s * 0.3, -2.1 * r, dz)], 0.014, 6), metal)
    else:
        for x, zz in ((-0.25, 0.15), (0.25, 0.15), (0.0, -0.42 if kind != "jet" else 0.4)):
            y = -r - 0.16 if zz > 0 else -0.3 * r - 0.1
            a.add(tube([(0.5 * x, y + 0.2, zz * length), (x, y, zz * length)], 0.014, 6), metal)
            a.add(torus(0.06, 0.035, 18, 8).turned(z=math.pi / 2), dark, (x, y, zz * length))
    return a.asset()


FAMILIES = {"vehicle": vehicle, "boat": boat, "aircraft": aircraft}
