"""Compile the kernels of generating, decoding and drawing before anybody waits for a result.

numba compiles a kernel when it first runs and keeps it on disk. All of them together take minutes on two
cores, which belong to setting up, not to the first picture.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxlume.asset import Mesh
from voxlume.mesh.clean import clean
from voxlume.mesh.export import ExportOptions, export
from voxlume.mesh.radix import radix_order
from voxlume.mesh.read import load
from voxlume.mesh.textured import TexturedOptions
from voxlume.ovoxel.grid import OVoxel
from voxlume.ovoxel.mend import mended
from voxlume.pipelines.sanity import check_ovoxel
from voxlume.progress import Progress, report
from voxlume.render.picture import contact_sheet

RESOLUTION = 40

_MANY = 1 << 17  # keys, which are sorted on all cores


def warm_up(progress: Progress | None = None) -> None:
    """Write and draw small objects, a clear and an opaque one, as ``voxlume generate`` does with its results.

    Raises
    ------
    Cancelled : by the callback.
    """
    with tempfile.TemporaryDirectory() as folder:
        # The second has more voxels than texels, and a pattern as fine.
        for done, (alpha, texture_size) in enumerate(((0.3, 128), (1.0, 64))):
            report(progress, done, 2, "compiling")
            decoded = small_object(alpha)
            logits = np.where(decoded.intersected, np.float32(4), np.float32(-4))
            ovoxel, _ = check_ovoxel(mended(decoded, logits))
            path = Path(folder) / "object.glb"
            options = ExportOptions(TexturedOptions(faces=1000, texture_size=texture_size))
            asset = export(ovoxel, path, options).asset
            assert asset is not None
            for surface in (asset, load(path)):  # read-only textures have kernels of their own
                contact_sheet(surface, 64)
            clean(*untidy(asset.meshes[0]))
    for largest in (1 << 20, 1 << 40):  # as 32 bits and as 64
        radix_order(np.arange(_MANY)[::-1] * largest // _MANY)
    report(progress, 2, 2, "compiling")


def untidy(mesh: Mesh, step: int = 7) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Vertices and faces of which one in so many is wound the wrong way, and one in as many there twice."""
    faces = np.concatenate([mesh.faces, mesh.faces[1::step]])
    faces[::step] = faces[::step, ::-1]
    return mesh.vertices, faces


def small_object(alpha: float) -> OVoxel:
    """A ball and a crumb as a decoder makes them, a voxel short; ``alpha``: of the ball's upper half."""
    n, axes = RESOLUTION, (0, 1, 2)
    corner = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), axis=-1)
    inside = np.linalg.norm(corner - n / 2, axis=-1) < 0.4 * n
    inside[3:5, 3:5, 3:5] = True
    crossed, touched = np.zeros((n, n, n, 3), bool), np.zeros((n, n, n), bool)
    for axis in axes:
        start = np.roll(inside, [-int(a != axis) for a in axes], axes)  # see OVoxel.intersected
        crossed[..., axis] = start != np.roll(start, -1, axis)
        for shift in np.ndindex(2, 2):
            touched |= np.roll(crossed[..., axis], shift, [a for a in axes if a != axis])
    coords = np.argwhere(touched).astype(np.int32)
    coords = np.delete(coords, len(coords) // 2, axis=0)
    attributes = np.full((len(coords), 6), [0.7, 0.4, 0.2, 0.0, 0.5, 1.0], np.float32)
    attributes[coords.sum(1) % 2 == 0, 0] = 0.2
    attributes[coords[:, 2] > n // 2, 5] = alpha
    return OVoxel(
        resolution=n,
        coords=coords,
        dual_vertices=np.full((len(coords), 3), 0.5, np.float32),
        intersected=crossed[tuple(coords.T)],
        attributes=attributes,
        splitting_weights=np.ones(len(coords), np.float32),
    )
