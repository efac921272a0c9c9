"""Endless textured objects with true PBR materials, each made from one number.

They supply what openly licensed models lack: metal, varying roughness, glass, thin sheets, interiors. An
object depends on its seed alone, not on the machine or on what was made before.

Frame and units: glTF (Y-up, front to +z), sizes about 0.1 to 3 units.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from voxlume.asset import Asset
from voxlume.data.procedural import (
    buildings,
    cloth,
    containers,
    figures,
    food,
    furniture,
    gadgets,
    plants,
    solids,
    tableware,
    tools,
    vehicles,
)
from voxlume.data.procedural.composing import compose
from voxlume.data.procedural.dressing import dress
from voxlume.data.procedural.warping import warp
from voxlume.errors import VoxlumeError

FAMILIES: dict[str, Callable[[np.random.Generator], Asset]] = {
    **furniture.FAMILIES,
    **tableware.FAMILIES,
    **plants.FAMILIES,
    **containers.FAMILIES,
    **cloth.FAMILIES,
    **tools.FAMILIES,
    **vehicles.FAMILIES,
    **buildings.FAMILIES,
    **figures.FAMILIES,
    **solids.FAMILIES,
    **gadgets.FAMILIES,
    **food.FAMILIES,
}
"""Kinds of objects: from a random generator to an asset."""

HELD_OUT_FAMILIES: tuple[str, str] = ("teapot", "aircraft")
"""Never drawn unless asked for by name: they judge what a model makes of things it was not trained on. One
is close to families that are trained on (mugs, vases), one is not."""

_DRAWN = tuple(name for name in FAMILIES if name not in HELD_OUT_FAMILIES)


def family_of(seed: int) -> str:
    """The family that :func:`make_object` draws for this seed."""
    return _DRAWN[int(np.random.default_rng([0, seed]).integers(len(_DRAWN)))]


def make_object(seed: int, family: str | None = None) -> Asset:
    """The object of this number.

    Parameters
    ----------
    seed : 0 or greater; the same seed gives the same bytes on any machine.
    family : one of :data:`FAMILIES`; by default drawn by the seed among those that are not held out.

    Returns
    -------
    Asset, named ``"FAMILY-SEED"``, one mesh per material, UVs, no normals.

    Raises
    ------
    VoxlumeError : there is no such family, or the seed is negative.
    """
    if seed < 0:
        raise VoxlumeError(f"seed {seed} is not possible, choose 0 or greater")
    name = family_of(seed) if family is None else family
    if name not in FAMILIES:
        raise VoxlumeError(f"no family of objects is called {name!r}; there are: {', '.join(FAMILIES)}")
    asset = FAMILIES[name](np.random.default_rng([1, seed, zlib.crc32(name.encode())]))
    return replace(asset, name=f"{name}-{seed}")


__all__ = ["FAMILIES", "HELD_OUT_FAMILIES", "compose", "dress", "family_of", "make_object", "warp"]
