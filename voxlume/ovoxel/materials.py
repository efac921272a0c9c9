"""Which implementation finds the materials of voxels on a device."""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import torch
from torch import Tensor

from voxlume.asset import Asset, Material, Mesh, Texture
from voxlume.backend import triton_installed, twins_forced
from voxlume.ovoxel import materials_torch
from voxlume.texture import MaterialSampler
from voxlume.texture_torch import DeviceMaterials, to_device


def voxel_materials(
    materials: DeviceMaterials,
    tri_m33: Tensor,
    slot_p: Tensor,
    triangle_p: Tensor,
    coords_n3: Tensor,
    log2_footprint: float,
) -> Tensor:
    """(n, 6) float32; see :func:`voxlume.ovoxel.materials_torch.voxel_materials`, the twin."""
    device = tri_m33.device
    if device.type == "cuda" and triton_installed() and not twins_forced() and _kernels_are_right(device):
        from voxlume.ovoxel import materials_triton

        return materials_triton.voxel_materials(
            materials, tri_m33, slot_p, triangle_p, coords_n3, log2_footprint
        )
    return materials_torch.voxel_materials(materials, tri_m33, slot_p, triangle_p, coords_n3, log2_footprint)


@cache
def _kernels_are_right(device: torch.device) -> bool:
    """Compare the kernels with the twin the first time; warn once if they differ, and then say no."""
    try:
        difference = check_kernels(device)
        problem = "" if difference <= 1e-6 else f"difference {difference:.1e}"
    except Exception as error:
        # Whatever a compiler or driver throws, the answer is the same: do not use these kernels.
        problem = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    if problem:
        warnings.warn(
            f"fast look-up of materials is off on {device}, plain PyTorch does it instead: {problem}",
            RuntimeWarning,
            stacklevel=3,
        )
    return not problem


def check_kernels(device: torch.device) -> float:
    """Largest difference between the kernels on ``device`` and the twin on the CPU, on random triangles."""
    from voxlume.ovoxel import materials_triton

    rng = np.random.default_rng(0)
    texture = Texture(rng.integers(0, 256, (9, 14, 3), np.uint8), wrap=("mirror", "clamp"))
    count, grid = 40, 6
    corners = rng.uniform(0, grid, (count, 1, 3)) + rng.normal(size=(count, 3, 3))
    mesh = Mesh(
        corners.reshape(-1, 3),
        np.arange(3 * count, dtype=np.int32).reshape(-1, 3),
        uvs=(rng.uniform(-2, 2, (3 * count, 2)).astype(np.float32),),
        material=0,
    )
    material = Material(
        base_color_factor=(0.3, 0.9, 0.6, 0.8),
        base_color_texture=texture,
        metallic_roughness_texture=texture,
        alpha_mode="BLEND",
    )
    sampler = MaterialSampler(Asset((mesh,), (material,)))
    coords = torch.cartesian_prod(*[torch.arange(grid)] * 3)
    slot = torch.cat([torch.arange(len(coords)), torch.from_numpy(rng.integers(0, len(coords), 300))])
    triangle = torch.from_numpy(rng.integers(0, count, len(slot)))
    tri = torch.from_numpy(corners)
    expected = materials_torch.voxel_materials(to_device(sampler, "cpu"), tri, slot, triangle, coords, -1.0)
    tri, slot, triangle, coords = (t.to(device) for t in (tri, slot, triangle, coords))
    found = materials_triton.voxel_materials(to_device(sampler, device), tri, slot, triangle, coords, -1.0)
    return float((found.cpu() - expected).abs().nan_to_num(torch.inf).max())
