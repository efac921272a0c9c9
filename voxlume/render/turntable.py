"""An asset turning once around, as a video or an animated picture."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from voxlume.asset import Asset
from voxlume.errors import MissingDependencyError, VoxlumeError
from voxlume.files import atomic_write
from voxlume.progress import Progress, report
from voxlume.render.camera import View, orbit
from voxlume.render.draw import draw
from voxlume.render.picture import MAPS, label, material_tiles, on_paper, sheet_color
from voxlume.render.scene import Scene
from voxlume.render.shadow import floor_shadow
from voxlume.render.source import load_surface

FRAMES = 60
FRAMES_PER_SECOND = 20
_ELEVATION = 18.0


def turntable(
    asset: Asset, size: int = 512, frames: int = FRAMES, *, tiles: bool = False
) -> Iterator[NDArray[np.uint8]]:
    """The frames of one full turn, framed once for all of it.

    The light stays where the camera is, as if the asset turned on a table.

    Parameters
    ----------
    size : side of the shaded picture; rounded to an even number, with tiles to one that six divides.
    tiles : show base colour, normal, metallic, roughness and alpha beside it.

    Returns
    -------
    uint8 (size, size, 3) each; with tiles (size, about 5/3 size, 3).

    Raises
    ------
    AssetError : the asset has nothing to draw.
    """
    small = 2 * max(round(size / 6), 1)
    side = 3 * small if tiles else 2 * max(round(size / 2), 1)
    scene = Scene(asset)
    floor = floor_shadow(scene)
    for i in range(frames):
        view = View(f"{i} of {frames}", 360.0 * i / frames, _ELEVATION)
        camera = orbit(scene.center, scene.radius, view)
        frame = draw(scene, camera, side, side)
        picture = on_paper(frame, scene, camera, floor)
        if not tiles:
            yield picture
            continue
        sheet = Image.new("RGB", (side + 2 * small, side), sheet_color())
        sheet.paste(Image.fromarray(picture))
        for k, name in enumerate(MAPS):
            tile = Image.fromarray(material_tiles(frame, camera)[name])
            corner = (side + k % 2 * small, k // 2 * small)
            sheet.paste(tile.resize((small, small), Image.Resampling.LANCZOS), corner)
            label(sheet, name, corner, small)
        yield np.asarray(sheet)


def render_turntable(
    path: str | Path,
    out: str | Path,
    size: int = 512,
    frames: int = FRAMES,
    *,
    tiles: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write the turntable of any mesh file, ``.vxz`` or ``.npz``.

    Parameters
    ----------
    out : ``.mp4`` (VP9, plays in browsers and most players), ``.webp`` or ``.gif``.

    Raises
    ------
    AssetError, VoxelFileError : the file cannot be read or holds nothing to draw.
    MissingDependencyError : a video needs the extra ``video``.
    VoxlumeError : the ending is none of these, or the file cannot be written.
    Cancelled : ``progress`` asked to stop.
    """
    ending = Path(out).suffix.lower()
    if ending not in _WRITERS:
        raise VoxlumeError(f"cannot write {out}: a turntable is one of {', '.join(_WRITERS)}")
    if ending == ".mp4":
        _opencv()
    asset, _ = load_surface(path)

    def told() -> Iterator[NDArray[np.uint8]]:
        for i, frame in enumerate(turntable(asset, size, frames, tiles=tiles)):
            report(progress, i, frames, "drawing")
            yield frame

    encoded = _WRITERS[ending](told())
    report(progress, frames, frames, "drawing")
    with atomic_write(out) as file:
        file.write(encoded)


def _mp4(frames: Iterator[NDArray[np.uint8]]) -> bytes:
    cv2 = _opencv()
    # The encoder writes only to files with a name.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "turntable.mp4"
        writer = None
        for frame in frames:
            if writer is None:
                height, width = frame.shape[:2]
                code = cv2.VideoWriter.fourcc(*"vp09")
                writer = cv2.VideoWriter(str(path), code, FRAMES_PER_SECOND, (width, height))
                if not writer.isOpened():
                    raise VoxlumeError("the installed OpenCV cannot encode VP9 video; write a .webp instead")
            writer.write(np.ascontiguousarray(frame[..., ::-1]))
        if writer is not None:
            writer.release()
        return path.read_bytes()


def _animated(format: str, **options: object) -> Callable[[Iterator[NDArray[np.uint8]]], bytes]:
    def encode(frames: Iterator[NDArray[np.uint8]]) -> bytes:
        pictures = (Image.fromarray(frame) for frame in frames)
        file = io.BytesIO()
        next(pictures).save(
            file,
            format,
            save_all=True,
            append_images=pictures,
            duration=round(1000 / FRAMES_PER_SECOND),
            loop=0,
            **options,
        )
        return file.getvalue()

    return encode


_WRITERS: dict[str, Callable[[Iterator[NDArray[np.uint8]]], bytes]] = {
    ".mp4": _mp4,
    ".webp": _animated("WEBP", quality=85, method=3),
    ".gif": _animated("GIF"),
}

ENDINGS = tuple(_WRITERS)


def _opencv():  # type: ignore[no-untyped-def]
    try:
        import cv2
    except ImportError as error:
        raise MissingDependencyError(
            "an .mp4 needs OpenCV: pip install 'voxlume[video]', or write a .webp instead"
        ) from error
    return cv2
