"""Damaging files on purpose: whatever is done to them, readers only ever raise AssetError."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from voxlume.asset import Asset
from voxlume.errors import AssetError

Reader = Callable[[Path], Asset]


def _outcome(read: Reader, path: Path) -> bool:
    try:
        asset = read(path)
    except AssetError as error:
        one_line = "\n" not in str(error)
        assert one_line
        return False
    for mesh in asset.meshes:
        assert np.isfinite(mesh.vertices).all()
        assert mesh.faces.min() >= 0
        assert mesh.faces.max() < len(mesh.vertices)
    return True


def truncations(read: Reader, path: Path, data: bytes, points: int = 100) -> list[bool]:
    """Read the file cut off at evenly spread places; for each whether something came out."""
    outcomes = []
    for length in np.linspace(0, len(data) - 1, points).astype(int):
        path.write_bytes(data[:length])
        outcomes.append(_outcome(read, path))
    return outcomes


def mutations(read: Reader, path: Path, data: bytes, count: int = 300, seed: int = 0) -> list[bool]:
    """Read the file with bytes changed, doubled and removed at random places."""
    rng = np.random.default_rng(seed)
    outcomes = []
    for i in range(count):
        damaged = bytearray(data)
        for _ in range(1 + i % 4):
            at = int(rng.integers(len(damaged)))
            if i % 3 == 0:
                damaged[at] = rng.integers(256)
            elif i % 3 == 1:
                damaged[at : at + 1] = damaged[at : at + int(rng.integers(1, 30))] * 2
            else:
                del damaged[at : at + int(rng.integers(1, 10))]
        path.write_bytes(damaged)
        outcomes.append(_outcome(read, path))
    return outcomes
