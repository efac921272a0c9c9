"""Putting shapes and materials together to an asset."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from voxlume.asset import Asset, Material, Mesh
from voxlume.data.procedural.shapes import Points, Shape, join

T = TypeVar("T")

_GRAIN = 2.0**16
"""Positions and UVs are rounded to 1 / _GRAIN, so that machines whose sines differ in the last bit agree."""


class Assembly:
    """Shapes with their materials while an object is being built.

    ``rng`` drives everything about the object; :meth:`chance`, :meth:`between` and :meth:`choose` are short
    for the usual draws.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.parts: list[tuple[Shape, Material]] = []

    def add(
        self, shape: Shape, material: Material, at: Points = (0.0, 0.0, 0.0), *, placed: bool = False
    ) -> None:
        """Take a shape in, moved by ``at``.

        Its UVs get a random shift, so that two boards are never cut from the same place of the tree, unless
        they are ``placed`` (pictures over 0..1).
        """
        shift = (0.0, 0.0) if placed else self.rng.random(2)
        moved = Shape(shape.vertices + np.asarray(at, np.float64), shape.uvs + shift, shape.faces)
        self.parts.append((moved, material))

    def absorb(
        self, other: Assembly, *, at: Points = (0.0, 0.0, 0.0), turn: float = 0.0, size: float = 1.0
    ) -> None:
        """Take in another assembly, scaled, turned about y and moved."""
        for shape, material in other.parts:
            moved = shape.scaled(size).turned(y=turn)
            self.parts.append((Shape(moved.vertices + np.asarray(at), moved.uvs, moved.faces), material))

    def bounds(self) -> NDArray[np.float64]:
        """(2, 3) lowest and highest coordinate so far."""
        lows = [s.vertices.min(0) for s, _ in self.parts]
        highs = [s.vertices.max(0) for s, _ in self.parts]
        return np.stack([np.min(lows, 0), np.max(highs, 0)])

    def chance(self, share: float) -> bool:
        """True in this share of cases."""
        return bool(self.rng.random() < share)

    def between(self, low: float, high: float) -> float:
        """A number, evenly distributed."""
        return low + (high - low) * float(self.rng.random())

    def count(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return int(self.rng.integers(low, high + 1))

    def choose(self, *options: T) -> T:
        """One of the options."""
        return options[int(self.rng.integers(len(options)))]

    def asset(self) -> Asset:
        """One mesh per material, faces without area left out; without a name."""
        groups: dict[int, list[Shape]] = {}
        materials: dict[int, Material] = {}
        for shape, material in self.parts:
            groups.setdefault(id(material), []).append(shape)
            materials[id(material)] = material
        meshes = []
        for index, key in enumerate(groups):
            vertices, uvs, faces = _finished(join(groups[key]))
            meshes.append(Mesh(vertices, faces, uvs=(uvs,), material=index, name=materials[key].name))
        named = [replace(m, name=f"{m.name} {i}") for i, m in enumerate(materials.values())]
        return Asset(tuple(meshes), tuple(named))


def _finished(shape: Shape) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.int32]]:
    vertices = np.floor(shape.vertices * _GRAIN + 0.5) / _GRAIN
    uvs = np.floor(shape.uvs * _GRAIN + 0.5) / _GRAIN
    a, b, c = (vertices[shape.faces[:, k]] for k in range(3))
    area = np.cross(b - a, c - a)
    faces = shape.faces[(area**2).sum(1) > 1e-16]
    used = np.zeros(len(vertices), np.bool_)
    used[faces] = True
    new = np.cumsum(used) - 1
    return vertices[used], uvs[used].astype(np.float32), new[faces].astype(np.int32)
