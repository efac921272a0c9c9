"""The material kernels against their twin; run by pytest on a GPU, and on a CPU by Triton's interpreter.

The interpreter has to be chosen before Triton is imported, so there this file is a program of its own:
``TRITON_INTERPRET=1 python -m tests.ovoxel.material_cases`` prints the errors as JSON.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxlume.asset import Asset, Material, Mesh, Texture
from voxlume.ovoxel import materials_torch
from voxlume.texture import MaterialSampler
from voxlume.texture_torch import sample_material, to_device

GRID = 5
TOLERANCE = 1e-6
WRAPS = list(itertools.product(("repeat", "mirror", "clamp"), repeat=2))


def texture(rng: np.random.Generator, kind: int, nearest: bool = False) -> Texture:
    """Of every number of channels and both wrap modes in turn; sides are not powers of two."""
    size = (*rng.integers(1, 23, 2), 1 + kind % 4)
    return Texture(rng.integers(0, 256, size, np.uint8), wrap=WRAPS[kind % 9], nearest=nearest)  # type: ignore[arg-type]


def triangles(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Corners (count, 3, 3) in voxel units: of all sizes, some on grid planes, slivers; all with an area."""
    size = 10.0 ** rng.uniform(-3, 2, (count, 1, 1))
    corners = rng.uniform(0, GRID, (count, 1, 3)) + size * rng.normal(size=(count, 3, 3))
    corners[::4] = np.round(corners[::4] * 2) / 2
    corners[1::9, 2] = corners[1::9, 1] + 1e-9 * size[1::9, 0]
    flat = ~np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).any(1)
    corners[flat] = rng.uniform(0, GRID, (int(flat.sum()), 3, 3))
    return corners


def asset(seed: int, colored: bool, painted: bool, textured: bool = True) -> Asset:
    """One mesh per material; materials with every alpha mode, with and without each texture."""
    rng = np.random.default_rng(seed)
    meshes, materials = [], []
    for kind in range(12):
        slots = [texture(rng, kind + 5 * s, nearest=kind % 5 == 4) for s in range(3)] if textured else []
        materials.append(
            Material(
                base_color_factor=(1, 1, 1, 1) if kind % 2 else tuple(rng.random(4)),
                base_color_texture=slots[0] if slots and kind % 3 != 2 else None,
                metallic_factor=rng.random(),
                roughness_factor=rng.random(),
                metallic_roughness_texture=slots[1] if slots and kind % 4 != 2 else None,
                alpha_mode=("OPAQUE", "MASK", "BLEND")[kind % 3],  # type: ignore[arg-type]
                transmission_factor=0.7 if kind % 4 == 3 else 0.0,
                transmission_texture=slots[2] if slots and kind % 8 == 3 else None,
            )
        )
        n = 3 * 6
        uv = rng.normal(size=(n, 2)) * 10.0 ** rng.uniform(-1, 2)
        uv[0] = 1e12, np.nan
        meshes.append(
            Mesh(
                triangles(rng, 6).reshape(n, 3),
                np.arange(n, dtype=np.int32).reshape(-1, 3),
                uvs=(uv.astype(np.float32),),
                colors=rng.random((n, 4), np.float32) if colored and kind % 2 else None,
                attributes={"METALLIC": rng.random(n, np.float32)} if painted else {},
                material=kind,
            )
        )
    return Asset(tuple(meshes), tuple(materials))


def cases(device: torch.device) -> Iterator[tuple[str, float]]:
    """(name, largest difference) of every case."""
    from voxlume.ovoxel import materials_triton

    variants: list[dict[str, Any]] = [
        {"colored": False, "painted": False},
        {"colored": True, "painted": False},
        {"colored": True, "painted": True},
        {"colored": False, "painted": True, "textured": False},
    ]
    for seed, variant in enumerate(variants):
        sampler = MaterialSampler(asset(seed, **variant))
        rng = np.random.default_rng(seed)
        corners = torch.from_numpy(sampler.vertices[sampler.surface.faces])
        coords = torch.cartesian_prod(*[torch.arange(GRID)] * 3)
        slot = torch.cat([torch.arange(len(coords)), torch.from_numpy(rng.integers(0, len(coords), 300))])
        triangle = torch.from_numpy(rng.integers(0, len(corners), len(slot)))
        corners_d, slot_d, triangle_d, coords_d = (t.to(device) for t in (corners, slot, triangle, coords))
        here, there = to_device(sampler, "cpu"), to_device(sampler, device)
        name = ", ".join(word for word, is_on in variant.items() if is_on) or "plain"
        local = corners[triangle] - coords[slot][:, None]
        weights = materials_torch.closest_weights(local, 0.5)
        for lod in (-1e9, -3.3, 2.0):
            expected = sample_material(here, triangle, weights, lod)
            found = materials_triton.sample_pairs(there, corners_d, slot_d, triangle_d, coords_d, lod)
            yield f"{name}: samples at {lod}", _difference(found, expected)
        found = materials_triton.pair_areas(corners_d, slot_d, triangle_d, coords_d)
        yield f"{name}: areas", _difference(found, materials_torch.area_in_unit_box(local))
        expected = materials_torch.voxel_materials(here, corners, slot, triangle, coords, -1.0)
        found = materials_triton.voxel_materials(there, corners_d, slot_d, triangle_d, coords_d, -1.0)
        yield f"{name}: voxels", _difference(found, expected)


def _difference(found: Tensor, expected: Tensor) -> float:
    assert found.dtype == expected.dtype
    assert expected.isfinite().all()
    return float((found.cpu() - expected).abs().nan_to_num(torch.inf).max())


if __name__ == "__main__":
    from voxlume.ovoxel import materials_triton

    # What the interpreter spends, it spends per program.
    materials_triton._PAIRS = materials_triton._OUTLINES = 512
    print(json.dumps(list(cases(torch.device("cpu")))))
