"""A pipeline of small networks, and a picture for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from voxlume.pipelines.image_to_3d import ImageTo3D, ImageTo3DOptions, SamplerOptions


@pytest.fixture(scope="session")
def pipeline(tiny_model: Path) -> ImageTo3D:
    return ImageTo3D.from_pretrained(tiny_model, device="cpu")


@pytest.fixture(scope="session")
def picture() -> NDArray[np.uint8]:
    """A ball on black, already preprocessed."""
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    inside = x**2 + y**2 < 0.8
    colour = np.stack([120 + 100 * x, 120 + 100 * y, 200 - 50 * x], axis=-1)
    return (colour * inside[..., None]).astype(np.uint8)


@pytest.fixture(scope="session")
def quick() -> Callable[..., ImageTo3DOptions]:
    """Options with few steps; guidance still acts on some and not on others."""

    def options(**changes: Any) -> ImageTo3DOptions:
        few = SamplerOptions(steps=3)
        samplers: dict[str, Any] = {"structure_sampler": few, "shape_sampler": few, "material_sampler": few}
        return ImageTo3DOptions(**({"pipeline_type": "512"} | samplers | changes))

    return options
