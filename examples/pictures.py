"""The example pictures, photographed from procedural objects that no model is trained on.

    python -m examples.pictures examples

Objects are those with which evaluation begins, taken by the camera and in the light that it uses.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from voxlume.data.sources import FIRST_SEED, procedural_sources
from voxlume.evaluation.generation import Shot, surfaces_on
from voxlume.ovoxel.voxelize import voxelize_asset
from voxlume.render.conditioning import condition_pictures
from voxlume.render.picture import save_png

SIZE, MARGIN = 448, 32
RESOLUTION = 512

SEEDS = {
    "glass": 5,
    "cart": 17,
    "robot": 19,
    "armchair": 20,
    "mug": 29,
    "tree": 31,
    "lighthouse": 38,
    "lamp": 48,
}
"""Names of the pictures -> held-out seeds, counted from the first; chosen before there was a model."""


def photograph(seed: int) -> NDArray[np.uint8]:
    """The object of a held-out seed, uint8 (512, 512, 4) with straight alpha."""
    source = procedural_sources(seed + 1, "held_out")[seed]
    assert source.seed == FIRST_SEED["held_out"] + seed
    voxels = voxelize_asset(source.make(), RESOLUTION)
    device = torch.device("cpu")
    shot = Shot.of(voxels, source.name, SIZE, device)
    surfaces = surfaces_on(voxels, device)
    taken = condition_pictures(surfaces, None, SIZE, shot.cameras, lighting=shot.lighting, crop=False)
    alpha = taken.mask[0, ..., None].numpy()
    color = taken.rgb[0].numpy() / np.maximum(alpha, 1e-3)  # they come mixed with black
    rgba = np.concatenate([color, 255 * alpha], axis=-1)
    return np.pad(np.clip(rgba + 0.5, 0, 255).astype(np.uint8), ((MARGIN,) * 2, (MARGIN,) * 2, (0, 0)))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m examples.pictures FOLDER")
    for name, seed in SEEDS.items():
        save_png(photograph(seed), Path(sys.argv[1]) / f"{name}.png")
