"""Removing the background of a picture, with the optional package rembg.

rembg's own default model may not be used commercially; only models that allow it are offered here, and
one is always asked for by name. rembg fetches a model's weights once, on first use.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from voxlume.errors import ImageError, MissingDependencyError

MODELS = {
    "birefnet-general": "BiRefNet, MIT licence, about 1 GB",
    "birefnet-general-lite": "BiRefNet with a small backbone, MIT licence, about 220 MB",
}
"""The models offered, with the licence of their weights."""

DEFAULT_MODEL = "birefnet-general"
MODEL_VARIABLE = "VOXLUME_BACKGROUND_MODEL"


def remove_background(picture: Image.Image, model: str | None = None) -> Image.Image:
    """The picture with an alpha channel that is zero where the background was.

    Parameters
    ----------
    picture : any mode.
    model : one of :data:`MODELS`; None takes the environment's ``VOXLUME_BACKGROUND_MODEL`` or the default.

    Raises
    ------
    MissingDependencyError : rembg is not installed.
    ImageError : no such model, or its weights cannot be fetched.
    """
    model = model or os.environ.get(MODEL_VARIABLE, DEFAULT_MODEL)
    if model not in MODELS:
        raise ImageError(f"no background removal model {model!r}; known are {', '.join(MODELS)}")
    try:
        import rembg
    except ImportError as error:
        raise MissingDependencyError(
            "the picture has no transparency, and removing its background needs an extra: "
            "pip install 'voxlume[rembg]', or pass a cut-out (PNG with alpha), or --background keep"
        ) from error
    try:
        mask = rembg.remove(picture.convert("RGB"), session=_session(model), only_mask=True)
    except Exception as error:  # a failed download or ONNX run-time error can be of any class
        reason = " ".join(str(error).split())[:200]
        raise ImageError(f"removing the background with {model} failed: {reason}") from error
    result = picture.convert("RGBA")
    result.putalpha(Image.fromarray(np.asarray(mask.convert("L"))))
    return result


@cache
def _session(model: str) -> Any:
    import rembg

    return rembg.new_session(model)
