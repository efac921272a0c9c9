"""``voxlume info``: what is in a mesh or voxel file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from voxlume.app.console import show
from voxlume.asset import Asset
from voxlume.ovoxel.grid import ATTRIBUTE_CHANNELS, OVoxel


@dataclass
class Info:
    """Show what a mesh or voxel file holds."""

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """Mesh (glTF, GLB, OBJ, PLY, STL, OFF) or voxel file (.vxz, .npz)."""
    json: bool = False
    """Print as JSON."""

    def run(self) -> None:
        from voxlume.mesh.read import load
        from voxlume.render.source import VOXEL_ENDINGS

        if self.file.suffix.lower() in VOXEL_ENDINGS:
            facts = _about_voxels(OVoxel.load(self.file))
        else:
            facts = _about_asset(load(self.file))
        show({"bytes": self.file.stat().st_size, **facts}, self.file.name, self.json)


def _about_voxels(voxels: OVoxel) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "kind": "O-Voxel",
        "resolution": voxels.resolution,
        "voxels": len(voxels),
        "share_of_grid": len(voxels) / voxels.resolution**3,
        "splitting_weights": voxels.splitting_weights is not None,
        "center": list(voxels.placement.center),
        "scale": voxels.placement.scale,
    }
    if voxels.attributes is not None and len(voxels):
        for c, name in enumerate(ATTRIBUTE_CHANNELS):
            values = voxels.attributes[:, c]
            low, mean, high = float(values.min()), float(values.mean()), float(values.max())
            facts[name] = f"{low:.3f} .. {high:.3f}, mean {mean:.3f}"
    return facts


def _about_asset(asset: Asset) -> dict[str, Any]:
    low, high = asset.bounds()
    images = {}
    for material in asset.materials:
        for texture in (
            material.base_color_texture,
            material.metallic_roughness_texture,
            material.normal_texture,
            material.occlusion_texture,
            material.emissive_texture,
            material.transmission_texture,
        ):
            if texture is not None:
                images[id(texture.image)] = f"{texture.image.shape[1]} x {texture.image.shape[0]}"
    return {
        "kind": "mesh",
        "meshes": len(asset.meshes),
        "faces": asset.num_faces,
        "vertices": asset.num_vertices,
        "smallest": low.tolist(),
        "largest": high.tolist(),
        "materials": [
            f"{m.name or 'unnamed'}: {m.alpha_mode}{', double-sided' if m.double_sided else ''}"
            for m in asset.materials
        ],
        "images": sorted(images.values()),
        "warnings": list(asset.warnings),
    }
