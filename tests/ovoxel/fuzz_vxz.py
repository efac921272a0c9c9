"""Damage voxel files at random: a reader must give an O-Voxel or one clear line, nothing else.

``python -m tests.ovoxel.fuzz_vxz --cases 10000 --seed 1`` runs on demand; the tests run a fixed number.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np

from tests.ovoxel.samples import ball
from voxlume.asset import Placement
from voxlume.errors import VoxelFileError
from voxlume.ovoxel import OVoxel
from voxlume.ovoxel.compression import Compression
from voxlume.ovoxel.files import load_ovoxel, save_ovoxel
from voxlume.ovoxel.predict import Filter
from voxlume.ovoxel.vxz import VxzOptions
from voxlume.ovoxel.vxz_header import Interleave

ODD_VALUES = (
    None,
    True,
    -1,
    0,
    1,
    2,
    3,
    7,
    255,
    2**31,
    2**63,
    10**30,
    0.5,
    1e308,
    "",
    "x",
    "none",
    [],
    {},
    [0, 1],
)


def originals(folder: Path) -> list[bytes]:
    """Good files of every kind."""
    grid = ball(10)
    rng = np.random.default_rng(0)
    ovoxel = OVoxel(
        10,
        grid.coords,
        grid.dual_vertices,
        grid.intersected,
        rng.random((len(grid.coords), 6), np.float32),
        rng.random(len(grid.coords), np.float32) + 0.1,
        Placement((1.0, 2.0, 3.0), 0.5),
    )
    files = []
    for modes in itertools.product(get_args(Filter), get_args(Compression), get_args(Interleave)):
        method, compression, interleave = modes
        save_ovoxel(ovoxel, folder / "x.vxz", options=VxzOptions(8, method, compression, 1, interleave))
        files.append((folder / "x.vxz").read_bytes())
    save_ovoxel(ovoxel, folder / "x.npz")
    return [*files, *([(folder / "x.npz").read_bytes()] * 6)]


def damage_bytes(data: bytes, rng: random.Random) -> bytes:
    """Flip, overwrite, cut, repeat or move bytes."""
    damaged = bytearray(data)
    # Headers are small but decide everything, so half of the damage goes there.
    reach = len(damaged) if rng.random() < 0.5 else min(len(damaged), 600)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        place, length = rng.randrange(reach), rng.choice((1, 1, 2, 4, 8, 64))
        kind = rng.randrange(5)
        if kind == 0:
            damaged[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            damaged[place : place + length] = rng.randbytes(length)
        elif kind == 2:
            del damaged[place : place + length]
        elif kind == 3:
            damaged[place:place] = damaged[place : place + length]
        else:
            damaged[place : place + length] = rng.choice((b"\0", b"\xff", b"9")) * length
        reach = min(reach, len(damaged))
        if not reach:
            break
    return bytes(damaged[: rng.randrange(len(damaged) + 1)] if rng.random() < 0.1 else damaged)


def damage_header(data: bytes, rng: random.Random) -> bytes:
    """Replace, drop or exchange values in the JSON header of a ``.vxz`` file."""
    start = struct.unpack(">I", data[4:8])[0]
    header = json.loads(data[8:start])
    for _ in range(rng.choice((1, 1, 2, 4))):
        at: Any = header
        while True:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            if not keys:
                break
            key = rng.choice(keys)
            if isinstance(at[key], dict | list) and rng.random() < 0.8:
                at = at[key]
                continue
            kind = rng.randrange(4)
            if kind == 0:
                del at[key]
            elif kind == 1 and type(at[key]) is int:
                at[key] += rng.choice((-1, 1, 2, 8, 1000, 2**32))
            elif kind == 2:
                at[key] = at[rng.choice(keys)]
            else:
                at[key] = rng.choice(ODD_VALUES)
            break
    text = json.dumps(header).encode()
    return data[:4] + struct.pack(">I", 8 + len(text)) + text + data[start:]


def cases(count: int, seed: int, folder: Path) -> Iterator[bytes]:
    rng = random.Random(seed)
    files = originals(folder)
    for _ in range(count):
        data = rng.choice(files)
        if data.startswith(b"VXZ") and rng.random() < 0.5:
            yield damage_header(data, rng)
        else:
            yield damage_bytes(data, rng)


def run(count: int, seed: int) -> tuple[int, int]:
    """Numbers of files that were read in spite of the damage and that were refused."""
    read = refused = 0
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "damaged"
        for data in cases(count, seed, Path(name)):
            path.write_bytes(data)
            try:
                ovoxel = load_ovoxel(path)
            except VoxelFileError as error:
                message = str(error)
                if len(message.splitlines()) != 1 or len(message) > 300 + len(str(path)):
                    raise AssertionError(f"not one clear line: {message!r}") from error
                refused += 1
            else:
                if len(ovoxel) and int(ovoxel.coords.max()) >= ovoxel.resolution:
                    raise AssertionError("voxels outside the grid")
                read += 1
    return read, refused


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    read, refused = run(options.cases, options.seed)
    print(f"{options.cases} damaged files: {refused} refused, {read} read")


if __name__ == "__main__":
    main()
