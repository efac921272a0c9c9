"""Toy robots of hard parts, and creatures of soft ones."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from voxlume.asset import Asset, Material
from voxlume.data.procedural import implicit as solid
from voxlume.data.procedural import materials as m
from voxlume.data.procedural import palettes
from voxlume.data.procedural.assembly import Assembly
from voxlume.data.procedural.shapes import (
    Array,
    Shape,
    blade,
    box,
    cylinder,
    ellipsoid,
    lathe,
    rounded_rectangle,
    sheet,
    spline,
    sweep,
    torus,
    tube,
)


def robot(rng: np.random.Generator) -> Asset:
    """Robots: boxy, round, on legs, wheels or tracks, with arms, antennas, lamps."""
    a = Assembly(rng)
    kinds = (*m.METALS, m.plastic, m.car_paint)
    body, second, joint = (
        m.one_of(rng, kinds),
        m.one_of(rng, kinds),
        m.one_of(rng, (m.rubber, m.brushed_metal)),
    )
    eye = (
        m.glass(rng)
        if a.chance(0.5)
        else m.plastic(rng, palettes.draw(rng, ((0.95, 0.85, 0.3), (0.3, 0.8, 0.9), (0.9, 0.2, 0.15))))
    )
    w, h, d = a.between(0.5, 0.8), a.between(0.55, 0.9), a.between(0.35, 0.55)

    def hull(size: tuple[float, float, float], style: str) -> Shape:
        if style == "box":
            return box(size, bevel=0.06 * min(size))
        if style == "drum":
            r = size[0] / 2
            return lathe(
                [
                    (0, -size[1] / 2),
                    (0.92 * r, -size[1] / 2),
                    (r, -0.44 * size[1]),
                    (r, 0.44 * size[1]),
                    (0.92 * r, size[1] / 2),
                    (0, size[1] / 2),
                ],
                32,
                depth=size[2] / size[0],
            )
        if style == "egg":
            return ellipsoid(size, segments=28, rows=18)
        return ellipsoid(size, power=5, top=4, segments=32, rows=16)

    styles = ("box", "drum", "egg", "soft")
    base, tall = a.choose("legs", "legs", "wheels", "tracks", "ball"), a.between(0.3, 0.6)
    if base == "legs":
        t = a.between(0.07, 0.12)
        for s in (-1, 1):
            x = s * 0.27 * w
            knee = (x * 1.1, 0.5 * tall, a.between(0, 0.06))
            a.add(tube([(x, tall + 0.05, 0), knee], t * 0.75, 14), joint)
            a.add(tube([knee, (x * 1.15, 0.08, 0)], t, 14), second)
            a.add(ellipsoid(2.1 * t, segments=16), body, knee)
            a.add(box((2.4 * t, 0.11, 4 * t), bevel=0.03), body, (x * 1.15, 0.055, 0.6 * t))
    elif base == "wheels":
        r = 0.45 * tall
        for s in (-1, 1):
            for z in (-0.3 * d, 0.3 * d) if a.chance(0.5) else (0.0,):
                a.add(cylinder(r, 0.14, 28).turned(z=math.pi / 2).moved(x=0.07), joint, (s * 0.5 * w, r, z))
                a.add(
                    cylinder(0.5 * r, 0.16, 20).turned(z=math.pi / 2).moved(x=0.08),
                    second,
                    (s * 0.5 * w, r, z),
                )
        a.add(box((0.8 * w, 0.5 * tall, 0.7 * d), bevel=0.03), second, (0, 0.75 * tall, 0))
    elif base == "tracks":
        for s in (-1, 1):
            belt = rounded_rectangle(1.3 * d, 0.7 * tall, 0.35 * tall, 6)
            path = [(s * 0.5 * w - 0.09, 0.36 * tall, 0), (s * 0.5 * w + 0.09, 0.36 * tall, 0)]
            a.add(sweep(path, belt, up=(0, 1, 0)), joint)
            for k in (-1, 0, 1):
                a.add(
                    cylinder(0.2 * tall, 0.22, 18).turned(z=math.pi / 2).moved(x=0.11),
                    second,
                    (s * 0.5 * w, 0.36 * tall, k * 0.42 * d),
                )
        a.add(box((0.7 * w, 0.5 * tall, 0.8 * d), bevel=0.03), second, (0, 0.75 * tall, 0))
    else:
        a.add(ellipsoid(1.1 * tall, segments=28, rows=18), joint, (0, 0.55 * tall, 0))
    torso = a.choose(*styles)
    a.add(hull((w, h, d), torso), body, (0, tall + h / 2, 0))
    front = d / 2 if torso == "box" else 0.49 * d
    if a.chance(0.8):
        panel = (0.5 * w, 0.35 * h, 0.04)
        a.add(box(panel, bevel=0.012), second, (0, tall + 0.55 * h, front))
        for i in range(n := a.count(2, 4)):
            knob = cylinder(0.035, 0.03, 14).turned(x=math.pi / 2)
            color = m.plastic(rng, palettes.draw(rng, palettes.PAINT[:8]))
            a.add(knob, color, (0.4 * w * ((i + 0.5) / n - 0.5), tall + 0.6 * h, front + 0.015))
        a.add(box((0.36 * w, 0.03, 0.015)), joint, (0, tall + 0.47 * h, front + 0.02))
    neck, y = a.between(0.05, 0.14), tall + h
    a.add(cylinder(0.09, neck + 0.06, 16), joint, (0, y - 0.03, 0))
    hw, hh, hd = w * a.between(0.55, 0.95), a.between(0.3, 0.45), d * a.between(0.7, 1.0)
    head = a.choose(*styles)
    yy = y + neck + hh / 2
    a.add(hull((hw, hh, hd), head), second if a.chance(0.5) else body, (0, yy, 0))
    face = 0.5 * hd if head == "box" else 0.44 * hd
    if a.chance(0.25):
        a.add(ellipsoid((0.75 * hw, 0.14, 0.14), power=4, segments=24), eye, (0, yy + 0.03, face))
    else:
        r = a.between(0.05, 0.08)
        for s in (-1, 1):
            a.add(torus(r, 0.02, 22, 8).turned(x=math.pi / 2), joint, (s * 0.22 * hw, yy + 0.04, face))
            a.add(ellipsoid((2 * r, 2 * r, 1.2 * r), segments=16), eye, (s * 0.22 * hw, yy + 0.04, face))
    for i in range(k := a.count(3, 5)):
        a.add(box((0.03, 0.07, 0.03), bevel=0.005), joint, (0.4 * hw * ((i + 0.5) / k - 0.5), yy - 0.1, face))
    if a.chance(0.75):
        for s in (-1, 1) if a.chance(0.5) else (0,):
            top = np.array([s * 0.35 * hw, yy + 0.5 * hh + 0.22, 0])
            a.add(tube([(s * 0.2 * hw, yy + 0.4 * hh, 0), top], 0.014, 8), joint)
            a.add(ellipsoid(0.09, segments=14), eye, top)
    if a.chance(0.4):
        for s in (-1, 1):
            a.add(
                cylinder(0.08, 0.05, 20, top=0.05).turned(z=-s * math.pi / 2), joint, (s * 0.49 * hw, yy, 0)
            )
    for s in (-1, 1):
        _robot_arm(
            a, s, (s * (0.5 * w + 0.03), tall + 0.82 * h, 0.0), a.between(0.3, 0.42), body, second, joint
        )
    return a.asset()


def _robot_arm(
    a: Assembly,
    s: int,
    at: tuple[float, float, float],
    reach: float,
    body: Material,
    second: Material,
    joint: Material,
) -> None:
    lift, bend = a.between(-1.4, 0.5), a.between(0.1, 1.3)
    shoulder = np.asarray(at)
    elbow = shoulder + reach * np.array([s * 0.45 * math.cos(lift), math.sin(lift), 0.1])
    hand = elbow + reach * np.array([s * 0.15, math.sin(lift + bend * 0.8), 0.9 * math.cos(0.3 * lift)])
    a.add(ellipsoid(0.2, segments=18), second, shoulder)
    a.add(tube([shoulder, elbow], 0.05, 12), joint)
    a.add(ellipsoid(0.14, segments=16), body, elbow)
    a.add(tube([elbow, hand], [0.065, 0.08], 14), second)
    for k in (-1, 1):
        side = np.array([k * 0.09, 0, 0])
        forward = (hand - elbow) / reach
        a.add(
            tube(
                spline([hand, hand + side + 0.06 * forward, hand + 0.6 * side + 0.18 * forward], 8),
                [0.035] * 7 + [0.015],
                8,
            ),
            body,
        )


def creature(rng: np.random.Generator) -> Asset:
    """Animals of no known kind: four-legged, two-legged, fish, birds, dragons, snails, insects."""
    a = Assembly(rng)
    a.choose(_beast, _beast, _beast, _biped, _fish, _bird, _snail, _octopus, _beetle)(a)
    return a.asset()


def _eyes(a: Assembly, at: Array, apart: float, r: float) -> None:
    white, black = m.plastic(a.rng, (0.96, 0.96, 0.94)), m.plastic(a.rng, (0.05, 0.05, 0.06))
    for s in (-1, 1):
        p = at + (s * apart, 0, 0)
        a.add(ellipsoid(2 * r, segments=16), white, p)
        a.add(
            ellipsoid((1.2 * r, 1.2 * r, 0.8 * r), segments=14, rows=10),
            black,
            p + (s * 0.25 * r, 0.05 * r, 0.72 * r),
        )


def _body(
    a: Assembly, fields: list[solid.Field], blend: float, low: Array, high: Array, skin: Material
) -> None:
    a.add(solid.surface(solid.union(fields, blend), low, high, 46), skin)


def _horns(a: Assembly, at: Array, apart: float, size: float) -> None:
    style = a.choose("horn", "ear", "ear", "none", "antler")
    horn = m.one_of(a.rng, (m.ceramic, m.wood, m.polished_metal))
    for s in (-1, 1):
        p = at + (s * apart, 0, 0)
        if style == "horn":
            path = spline(
                [p, p + size * np.array([s * 0.6, 0.5, 0]), p + size * np.array([s * 0.7, 1.2, 0.2])], 12
            )
            a.add(tube(path, np.linspace(0.2, 0.02, 12) * size, 10), horn)
        elif style == "antler":
            tip = p + size * np.array([s * 0.6, 1.5, -0.1])
            a.add(tube([p, tip], [0.1 * size, 0.05 * size], 8), horn)
            for f in (0.4, 0.75):
                q = p + f * (tip - p)
                a.add(
                    tube([q, q + size * np.array([s * 0.4, 0.35, 0.2])], [0.07 * size, 0.03 * size], 7), horn
                )


def _beast(a: Assembly) -> None:
    rng = a.rng
    skin = m.one_of(rng, (m.skin, m.skin, m.skin, m.knit))
    length, r = a.between(0.5, 0.85), a.between(0.18, 0.3)
    leg, neck = a.between(0.25, 0.6), a.between(0.05, 0.6)
    head, snout = a.between(0.15, 0.24), a.between(0.05, 0.3)
    y = leg + 0.6 * r
    hip, chest = np.array([0, y, -length / 2]), np.array([0, y + a.between(-0.02, 0.06), length / 2])
    skull = chest + neck * np.array([0, 0.85, 0.5]) + np.array([0, 0.12, 0.16])
    f = [
        solid.rod(hip, chest, r * a.between(0.8, 1.05), r),
        solid.rod(chest, skull, 0.62 * r, 0.5 * r),
        solid.ball(skull, (2 * head, 1.8 * head, 2 * head)),
    ]
    nose = skull + np.array([0, -0.25 * head, head * 0.5 + snout])
    f.append(solid.rod(skull, nose, 0.6 * head, 0.45 * head))
    thick = a.between(0.06, 0.1)
    spread = 0.62 * r
    for base, lean in ((hip, -0.04), (chest, 0.03)):
        for s in (-1, 1):
            top = base + (s * spread, -0.1, 0)
            foot = np.array([s * (spread + 0.03), thick, base[2] + lean])
            f += [
                solid.rod(top, foot, 1.35 * thick, thick),
                solid.ball(foot + (0, -0.2 * thick, 0.4 * thick), (2.2 * thick, 1.6 * thick, 3 * thick)),
            ]
    ears = a.choose("round", "long", "none")
    for s in (-1, 1):
        p = skull + (s * 0.7 * head, 0.7 * head, 0)
        if ears == "round":
            f.append(solid.ball(p, (0.9 * head, 0.9 * head, 0.4 * head)))
        elif ears == "long":
            f.append(
                solid.rod(
                    p - (0, 0.2 * head, 0),
                    p + head * np.array([s * 0.5, a.choose(1.0, 1.4, -1.2), -0.1]),
                    0.28 * head,
                    0.12 * head,
                )
            )
    tail = a.between(0.15, 0.6)
    tip = hip + tail * np.array([a.between(-0.3, 0.3), a.between(-0.4, 0.9), -1.0]) + (0, 0, -0.6 * r)
    f.append(solid.rod(hip - (0, 0, 0.6 * r), tip, 0.08, 0.03 if a.chance(0.7) else 0.09))
    points = np.array([hip, chest, skull, nose, tip])
    low, high = points.min(0) - (0.45, 0.3, 0.4), points.max(0) + (0.45, 1.6 * head + 0.15, 0.35)
    low[1] = -0.03
    _body(a, f, a.between(0.06, 0.12), low, high, skin)
    _eyes(a, skull + (0, 0.3 * head, 0.72 * head), 0.5 * head, 0.2 * head)
    a.add(
        ellipsoid((0.35 * head, 0.25 * head, 0.25 * head), segments=12, rows=8),
        m.rubber(rng),
        nose + (0, 0.12 * head, 0.42 * head),
    )
    if ears == "none":
        _horns(a, skull + (0, 0.75 * head, 0), 0.5 * head, head)
    if a.chance(0.3):  # plates along the back
        plates = m.one_of(rng, (m.ceramic, m.plastic, m.leaf))
        for i in range(n := a.count(4, 8)):
            p = hip + (chest - hip) * i / (n - 1) + (0, 0.9 * r, 0)
            size = 0.25 * (1 - abs(2 * i / (n - 1) - 1) * 0.5)
            a.add(
                blade([p, p + (0, 0.5 * size, 0), p + (0, size, -0.05)], [size, 0.8 * size, 0.0], (0, 0, 1)),
                m.double_sided(plates),
                placed=True,
            )
    if a.chance(0.2):
        for s in (-1, 1):
            _wing_sheet(a, chest + (s * 0.7 * r, 0.6 * r, -0.15), s, a.between(0.5, 0.8))
    if a.chance(0.2):
        ring = chest + 0.55 * (skull - chest)
        a.add(torus(0.68 * r, 0.03, 24, 8).turned(x=0.6), m.leather(rng), ring)


def _wing_sheet(a: Assembly, root: Array, s: int, span: float) -> None:
    skin, bone = m.double_sided(m.leather(a.rng)), m.rubber(a.rng)
    fingers = [
        root + span * np.array([s * x, y, z])
        for x, y, z in ((0.7, 0.8, 0.1), (1.1, 0.45, -0.3), (0.9, 0.1, -0.7), (0.25, -0.05, -0.8))
    ]
    t = np.linspace(0, 1, 9)[:, None]
    for p, q in pairwise(fingers):
        rows = np.stack(
            [
                root + f * ((p - root) * (1 - t) + (q - root) * t) * (1 - 0.22 * f * np.sin(np.pi * t))
                for f in np.linspace(0.02, 1, 8)
            ]
        )
        a.add(sheet(rows), skin)
    for p in fingers:
        a.add(tube([root, p], [0.03, 0.01], 7), bone)


def _biped(a: Assembly) -> None:
    rng = a.rng
    skin, cloth = m.skin(rng), m.one_of(rng, (*m.SOFT, m.plastic))
    h, r = a.between(0.35, 0.6), a.between(0.17, 0.3)
    leg, head = a.between(0.15, 0.45), a.between(0.2, 0.34)
    hip, chest = np.array([0, leg + 0.6 * r, 0]), np.array([0, leg + 0.6 * r + h, 0.0])
    skull = chest + (0, 0.55 * head + 0.6 * r, 0.03)
    lift = a.between(-0.9, 1.1)
    f = [
        solid.rod(hip, chest, r, 0.75 * r),
        solid.ball(skull, (2 * head, a.between(1.6, 2.1) * head, 1.8 * head)),
    ]
    hand = 0.0
    for s in (-1, 1):
        shoulder = chest + (s * 0.6 * r, 0, 0)
        end = shoulder + 0.42 * np.array([s * math.cos(lift), math.sin(lift), 0.2])
        f += [solid.rod(shoulder, end, 0.07, 0.06), solid.ball(end, 0.17)]
        foot = np.array([s * 0.6 * r, 0.06, 0.05])
        f += [
            solid.rod(hip + (s * 0.5 * r, 0, 0), foot, 0.1, 0.08),
            solid.ball(foot + (0, -0.01, 0.05), (0.2, 0.13, 0.3)),
        ]
        hand = max(hand, abs(float(end[0])))
    if a.chance(0.5):
        for s in (-1, 1):
            f.append(
                solid.ball(
                    skull + (s * 0.75 * head, 0.8 * head, 0),
                    (0.8 * head, a.between(0.8, 1.8) * head, 0.35 * head),
                )
            )
        ears = True
    else:
        ears = False
    reach = max(hand, head, r) + 0.15
    _body(
        a,
        f,
        0.07,
        np.array([-reach, -0.03, -0.4]),
        np.array([reach, float(skull[1]) + 2.0 * head, 0.45]),
        skin,
    )
    _eyes(a, skull + (0, 0.15 * head, 0.78 * head), 0.38 * head, a.between(0.14, 0.24) * head)
    smile = spline(
        [
            (-0.35 * head, -0.25 * head, 0.82 * head),
            (0, -0.42 * head, 0.88 * head),
            (0.35 * head, -0.25 * head, 0.82 * head),
        ],
        10,
    )
    a.add(tube(smile + skull, 0.02, 7), m.rubber(rng))
    if not ears:
        if a.chance(0.5):
            hat = [
                (1.35 * head, 0),
                (1.4 * head, 0.03),
                (0.75 * head, 0.06),
                (0.65 * head, a.between(0.4, 1.1) * head),
                (0, a.between(0.5, 1.2) * head),
            ]
            a.add(lathe(hat, 30), cloth, skull + (0, 0.62 * head, 0))
        else:
            _horns(a, skull + (0, 0.75 * head, 0), 0.55 * head, head)
    if a.chance(0.6):
        profile = spline(
            [
                (1.16 * r, float(hip[1]) - 0.55 * r),
                (1.12 * r, float(hip[1])),
                (0.98 * r, float(chest[1]) - 0.1),
            ],
            12,
        )
        a.add(lathe(profile, 32), m.double_sided(cloth))


def _fish(a: Assembly) -> None:
    rng = a.rng
    skin = m.skin(rng)
    length, tall, wide = a.between(0.9, 1.4), a.between(0.3, 0.6), a.between(0.15, 0.3)
    t = np.linspace(0, 1, 22)
    size = np.maximum(np.sin(math.pi * t**0.75) ** 0.8, 0.0) * (1 - 0.15 * t) + 0.14 * t
    size[0] = 0.03
    path = np.stack([0.03 * np.sin(5 * t), np.full(22, 0.6), length * (0.5 - t)], 1)[::-1]
    ring = (
        np.stack(
            [
                wide * np.cos(np.linspace(0, 2 * np.pi, 24, endpoint=False)),
                tall * np.sin(np.linspace(0, 2 * np.pi, 24, endpoint=False)),
            ],
            1,
        )
        / 2
    )
    a.add(sweep(path, ring[None] * size[::-1, None, None]), skin)
    fin = m.double_sided(m.petal(rng, palettes.draw(rng, palettes.FLOWER)))
    back = np.array([0, 0.6, -length / 2])
    for s in (-1, 1):
        a.add(
            blade(
                [back, back + (0, s * 0.14, -0.14), back + (0, s * 0.3, -0.3)],
                [0.1, 0.24, 0.05],
                (0, s * 0.4, 1),
            ),
            fin,
            placed=True,
        )
        side = np.array([s * 0.45 * wide, 0.53, 0.16 * length])
        a.add(
            blade(
                [side, side + (s * 0.12, -0.03, -0.08), side + (s * 0.2, -0.08, -0.18)],
                [0.05, 0.16, 0.04],
                (0, 1, 0),
            ),
            fin,
            placed=True,
        )
    top = np.array([0, 0.6 + 0.42 * tall, 0.05])
    a.add(
        blade(
            [top, top + (0, 0.1, -0.05), top + (0, a.between(0.15, 0.3), -0.14)],
            [0.4 * length, 0.36 * length, 0.2 * length],
            (0, 0, 1),
        ),
        fin,
        placed=True,
    )
    a.add(
        blade(
            [top - (0, 0.84 * tall, 0), top - (0, 0.84 * tall + 0.12, 0.1)],
            [0.2 * length, 0.1 * length],
            (0, 0, 1),
        ),
        fin,
        placed=True,
    )
    black, white = m.plastic(rng, (0.05, 0.05, 0.06)), m.plastic(rng, (0.95, 0.93, 0.85))
    for s in (-1, 1):
        p = np.array([s * 0.34 * wide, 0.63, 0.33 * length])
        a.add(ellipsoid((0.05, 0.1, 0.1), segments=14), white, p)
        a.add(ellipsoid((0.05, 0.06, 0.06), segments=12, rows=8), black, p + (s * 0.015, 0, 0))
    if a.chance(0.5):
        a.add(lathe([(0, 0), (0.25, 0), (0.22, 0.05), (0, 0.06)], 30), m.wood(rng))
        a.add(tube([(0, 0.05, 0), (0, 0.6 - 0.3 * tall, 0)], 0.02, 8), m.polished_metal(rng))


def _bird(a: Assembly) -> None:
    rng = a.rng
    skin = m.one_of(rng, (m.skin, m.skin, m.plastic, m.wood))
    r, head, leg = a.between(0.22, 0.34), a.between(0.12, 0.2), a.between(0.1, 0.5)
    neck = a.between(0.0, 0.5)
    y = leg + r
    chest, rump = np.array([0, y, 0.1]), np.array([0, y + 0.05, -0.3])
    skull = chest + (0, r * 0.8 + neck, r * 0.5)
    f = [
        solid.ball(chest, 2 * r),
        solid.rod(chest, rump, 0.8 * r, 0.3 * r),
        solid.rod(chest + (0, 0.3 * r, 0.3 * r), skull, 0.4 * r, 0.6 * head),
        solid.ball(skull, 2 * head),
    ]
    low, high = (
        np.array([-r - 0.1, y - r - 0.1, -0.5 - 0.3 * r]),
        np.array([r + 0.1, float(skull[1]) + head + 0.1, 0.2 + r + head]),
    )
    _body(a, f, 0.1, low, high, skin)
    beak = m.plastic(rng, palettes.draw(rng, ((0.9, 0.6, 0.1), (0.85, 0.4, 0.1), (0.2, 0.2, 0.2))))
    a.add(
        cylinder(0.4 * head, a.between(0.8, 1.8) * head, 14, top=0.01).turned(x=math.pi / 2 + 0.15),
        beak,
        skull + (0, -0.1 * head, 0.8 * head),
    )
    _eyes(a, skull + (0, 0.3 * head, 0.55 * head), 0.6 * head, 0.2 * head)
    feather = m.double_sided(m.leaf(rng, palettes.draw(rng, palettes.SKIN)))
    opened = a.choose(0.1, 0.2, 1.0)
    for s in (-1, 1):
        for i in range(6):
            root = chest + (s * 0.85 * r, 0.35 * r - 0.05 * i, -0.05 - 0.03 * i)
            d = np.array([s * opened * (1 - 0.1 * i), -0.15 + 0.3 * opened, -0.6 - 0.1 * i])
            a.add(
                blade(
                    [root, root + 0.3 * d, root + 0.62 * d],
                    [0.1, 0.16, 0.04],
                    (s * 0.2, 1.0, 0.2) if opened < 0.5 else (0, 0.2, 1),
                ),
                feather,
                placed=True,
            )
    for i in range(5):
        x = 0.16 * (i - 2)
        a.add(
            blade(
                [rump, rump + (0.4 * x, 0.04, -0.2), rump + (x, a.between(0, 0.1), -0.42)],
                [0.08, 0.13, 0.05],
                (1, 0, 0.3 * x),
            ),
            feather,
            placed=True,
        )
    for s in (-1, 1):
        foot = np.array([s * 0.35 * r, 0.015, 0.1])
        a.add(tube([chest + (s * 0.35 * r, -0.6 * r, 0), foot], 0.022, 8), beak)
        for t in (-0.6, 0.0, 0.6, 3.14):
            a.add(tube([foot, foot + 0.11 * np.array([math.sin(t), 0, math.cos(t)])], [0.02, 0.01], 6), beak)


def _snail(a: Assembly) -> None:
    rng = a.rng
    skin = m.skin(rng)
    t = np.linspace(0, 1, 18)
    path = np.stack([0.05 * np.sin(4 * t), 0.1 + 0.3 * np.clip(t - 0.7, 0, 1) ** 1.2 * 3, -0.6 + 1.25 * t], 1)
    radius = 0.13 * np.sin(np.pi * np.clip(0.06 + 0.86 * t, 0, 1)) ** 0.6
    a.add(tube(path, radius, 16), skin)
    turns = a.between(2.0, 3.0)
    s = np.linspace(0, 1, 70)
    b = 2 * math.pi * turns * s
    rr = 0.3 * np.exp(-1.5 * s)
    shell = np.stack([a.between(0.05, 0.4) * s, 0.42 + rr * np.sin(b) * 1.0, -0.05 + rr * np.cos(b)], 1)
    a.add(
        tube(shell, 0.62 * rr + 0.01, 16),
        m.one_of(rng, (m.ceramic, m.painted_ceramic, m.skin, m.polished_metal)),
    )
    head = path[-1]
    for sgn in (-1, 1):
        tip = head + (sgn * 0.1, 0.25, 0.1)
        a.add(tube([head, tip], [0.04, 0.02], 8), skin)
        a.add(ellipsoid(0.07, segments=12, rows=8), m.plastic(rng, (0.06, 0.06, 0.07)), tip)


def _octopus(a: Assembly) -> None:
    rng = a.rng
    skin = m.skin(rng)
    r = a.between(0.25, 0.36)
    center = np.array([0, 0.55, 0])
    f = [solid.ball(center + (0, 0.15, -0.05), (2 * r, 2.5 * r, 2.1 * r))]
    n = 8
    for i in range(n):
        b = 2 * math.pi * (i + 0.5) / n
        out = np.array([math.sin(b), 0, math.cos(b)])
        reach = a.between(0.45, 0.65)
        pts = spline(
            [
                center + 0.1 * out,
                center + 0.3 * out - (0, 0.42, 0),
                reach * out + (0, 0.06, 0),
                (reach + 0.15) * out + (0, a.between(0.08, 0.3), 0),
            ],
            6,
        )
        f += [solid.rod(p, q, 0.1 - 0.014 * k, 0.086 - 0.014 * k) for k, (p, q) in enumerate(pairwise(pts))]
    _body(a, f, 0.04, np.array([-0.95, -0.06, -0.95]), np.array([0.95, 0.8 + 1.4 * r, 0.95]), skin)
    _eyes(a, center + (0, 0.12, 0.85 * r), 0.45 * r, 0.22 * r)


def _beetle(a: Assembly) -> None:
    rng = a.rng
    shell, dark = m.one_of(rng, (m.car_paint, m.polished_metal, m.painted_ceramic, m.plastic)), m.rubber(rng)
    w, length, h = a.between(0.5, 0.7), a.between(0.7, 1.0), a.between(0.3, 0.5)
    y = 0.2
    a.add(ellipsoid((0.92 * w, 0.6 * h, 0.95 * length), segments=28), dark, (0, y, 0))
    opened = a.choose(0.0, 0.0, 0.5)
    for s in (-1, 1):
        half = ellipsoid((w, h, length), segments=32, rows=16)
        keep = half.vertices[half.faces].mean(1)
        side = half.faces[(s * keep[:, 0] > 0) & (keep[:, 1] > -0.05 * h)]
        wing = (
            Shape(half.vertices, half.uvs, side)
            .moved(z=-length / 2)
            .turned(y=s * opened * 0.8, z=s * opened)
            .moved(z=length / 2)
        )
        a.add(wing, m.double_sided(shell), (0, y + 0.01, 0))
    a.add(ellipsoid((0.55 * w, 0.7 * h, 0.4 * length), segments=24), shell, (0, y, 0.55 * length))
    _eyes(a, np.array([0, y + 0.15 * h, 0.7 * length]), 0.16 * w, 0.05)
    for s in (-1, 1):
        for z in (-0.25, 0.05, 0.35):
            p = np.array([s * 0.4 * w, y, z * length])
            a.add(
                tube(
                    spline([p, p + (s * 0.2, 0.12, 0.03), p + (s * 0.36, -y, 0.1 * np.sign(z))], 8),
                    np.linspace(0.035, 0.012, 8),
                    7,
                ),
                dark,
            )
        head = np.array([s * 0.1 * w, y + 0.1, 0.72 * length])
        a.add(
            tube(spline([head, head + (s * 0.1, 0.16, 0.12), head + (s * 0.2, 0.14, 0.26)], 8), 0.012, 6),
            dark,
        )


FAMILIES = {"robot": robot, "creature": creature}
