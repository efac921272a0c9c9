"""Pictures a person looks at: single views, contact sheets, two assets side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from voxlume.asset import Asset
from voxlume.files import atomic_write
from voxlume.render.camera import FIXED_VIEWS, Camera, View, orbit
from voxlume.render.draw import Frame, draw
from voxlume.render.scene import Scene
from voxlume.render.shadow import _FLOOR_SPREAD, floor_darkness, floor_shadow
from voxlume.render.source import load_surface
from voxlume.render.tonemap import encode
from voxlume.srgb import srgb_to_linear

_PAPER = 0.90  # sRGB value of the background
_MAP_PAPER = np.array([0.80, 0.84, 0.90])  # not grey, so that every value of a map stands out
_INK = (70, 72, 76)
MAPS = ("base color", "normal", "metallic", "roughness", "alpha")


def render_views(
    asset: Asset, size: int = 512, views: Sequence[View] = FIXED_VIEWS, *, transparent: bool = False
) -> list[NDArray[np.uint8]]:
    """Shaded square pictures, all framed by the same sphere.

    Returns
    -------
    uint8 (size, size, 3) each, on a light background with a floor shadow; with ``transparent`` uint8
    (size, size, 4), straight alpha, no floor.

    Raises
    ------
    AssetError : the asset has nothing to draw.
    """
    scene = Scene(asset)
    floor = None if transparent else floor_shadow(scene)
    pictures = []
    for view in views:
        camera = orbit(scene.center, scene.radius, view)
        frame = draw(scene, camera, size, size)
        pictures.append(cut_out(frame) if floor is None else on_paper(frame, scene, camera, floor))
    return pictures


def contact_sheet(
    asset: Asset, size: int = 512, before: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Four shaded views above the material of the first: base colour, normal, metallic, roughness, alpha.

    Parameters
    ----------
    before : the picture, uint8 (h, w, 4) with straight alpha, that the asset was made from: shown first, in
        place of the last view.

    Returns
    -------
    uint8 (about 1.8 size, 4 size, 3), labelled.

    Raises
    ------
    AssetError : the asset has nothing to draw.
    """
    scene = Scene(asset)
    floor = floor_shadow(scene)
    small = 4 * size // 5
    sheet = Image.new("RGB", (4 * size, size + small), sheet_color())
    column = 0
    if before is not None:
        _paste(sheet, fitted_on_paper(before, size), (0, 0), "input")
        column = 1
    for i, view in enumerate(FIXED_VIEWS[: 4 - column]):
        camera = orbit(scene.center, scene.radius, view)
        frame = draw(scene, camera, size, size)
        if i == 0:
            first = frame, camera
        _paste(sheet, on_paper(frame, scene, camera, floor), ((column + i) * size, 0), view.name)
    tiles = material_tiles(*first)
    for i, name in enumerate(MAPS):
        tile = np.asarray(Image.fromarray(tiles[name]).resize((small, small), Image.Resampling.LANCZOS))
        _paste(sheet, tile, (i * small, size), name)
    return np.asarray(sheet)


def side_by_side(a: Asset, b: Asset, labels: tuple[str, str], size: int = 512) -> NDArray[np.uint8]:
    """Two assets from the same sides: one row each, three shaded views and the base colour.

    Returns
    -------
    uint8 (2 size, 4 size, 3), labelled.
    """
    sheet = Image.new("RGB", (4 * size, 2 * size), sheet_color())
    for row, (asset, label) in enumerate(zip((a, b), labels, strict=True)):
        scene = Scene(asset)
        floor = floor_shadow(scene)
        for i, view in enumerate(FIXED_VIEWS[:3]):
            camera = orbit(scene.center, scene.radius, view)
            frame = draw(scene, camera, size, size)
            if i == 0:
                tile = material_tiles(frame, camera)["base color"]
                _paste(sheet, tile, (3 * size, row * size), f"{label}: base color")
            _paste(
                sheet, on_paper(frame, scene, camera, floor), (i * size, row * size), f"{label}: {view.name}"
            )
    return np.asarray(sheet)


def render_file(path: str | Path, out: str | Path, size: int = 512) -> None:
    """Write the contact sheet of any mesh file, ``.vxz`` or ``.npz`` as a PNG.

    Raises
    ------
    AssetError, VoxelFileError : the file cannot be read or holds nothing to draw.
    VoxlumeError : the picture cannot be written.
    """
    asset, _ = load_surface(path)
    save_png(contact_sheet(asset, size), out)


def on_paper(frame: Frame, scene: Scene, camera: Camera, floor: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The frame on a light background, standing on its soft shadow: uint8 (h, w, 3)."""
    height, width = frame.covered.shape
    slope = math.tan(camera.fov / 2)
    dark = floor_darkness(
        floor,
        camera.position - scene.center,
        camera.axes,
        slope * width / height,
        slope,
        scene.floor - float(scene.center[1]),
        _FLOOR_SPREAD * scene.radius,
        height,
        width,
    )
    paper = float(srgb_to_linear(np.array(_PAPER))) * (1 - 0.72 * dark[..., None])
    return encode(frame.color + frame.passed * paper)


def fitted_on_paper(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """A picture uint8 (h, w, 4) with straight alpha in the middle of a light square (size, size, 3)."""
    paper = Image.new("RGBA", (size, size), (*sheet_color(), 255))
    scale = 0.86 * size / max(picture.shape[:2])  # about as large as the views show an object
    height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
    resized = Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS)
    paper.alpha_composite(resized, ((size - width) // 2, (size - height) // 2))
    return np.asarray(paper.convert("RGB"))


def cut_out(frame: Frame) -> NDArray[np.uint8]:
    """The frame as uint8 (h, w, 4) with straight alpha."""
    alpha = 1 - frame.passed.mean(axis=-1, keepdims=True)
    color = frame.color / np.maximum(alpha, 1e-4)
    return np.concatenate([encode(color), (np.clip(alpha, 0, 1) * 255 + 0.5).astype(np.uint8)], axis=-1)


def material_tiles(frame: Frame, camera: Camera) -> dict[str, NDArray[np.uint8]]:
    """The maps of a frame as pictures uint8 (h, w, 3); the normal is shown in the camera's axes."""
    view_normal = frame.normal @ (camera.axes * [[1], [1], [-1]]).T
    channels: dict[str, NDArray[np.floating]] = {
        "base color": frame.base_color,
        "normal": view_normal * 0.5 + 0.5,
        "metallic": frame.metallic[..., None],
        "roughness": frame.roughness[..., None],
        "alpha": frame.alpha[..., None],
    }
    cover = frame.covered[..., None]
    return {
        name: ((np.clip(values, 0, 1) * cover + _MAP_PAPER * (1 - cover)) * np.ones(3) * 255 + 0.5).astype(
            np.uint8
        )
        for name, values in channels.items()
    }


def save_png(picture: NDArray[np.uint8], path: str | Path) -> None:
    """Write uint8 (h, w, 3 or 4) as PNG; the file appears complete or not at all.

    Raises
    ------
    VoxlumeError : the place cannot be written.
    """
    with atomic_write(path) as file:
        Image.fromarray(picture).save(file, "PNG")


def sheet_color() -> tuple[int, int, int]:
    """The paper's grey."""
    level = int(_PAPER * 255 + 0.5)
    return level, level, level


def label(sheet: Image.Image, text: str, corner: tuple[int, int], height: int) -> None:
    """Write the name of a tile of the given height into its upper left corner."""
    size = max(11, height // 28)
    font = ImageFont.load_default(size)
    ImageDraw.Draw(sheet).text((corner[0] + size // 2, corner[1] + size // 2), text, _INK, font)


def _paste(sheet: Image.Image, tile: NDArray[np.uint8], corner: tuple[int, int], name: str) -> None:
    sheet.paste(Image.fromarray(tile), corner)
    label(sheet, name, corner, tile.shape[0])
