"""A contact sheet of procedural objects: ``python -m voxlume.data.procedural out/sheet.png --count 100``."""

from __future__ import annotations

import argparse
import sys

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from voxlume.asset import Asset
from voxlume.data.procedural import FAMILIES, make_object
from voxlume.errors import VoxlumeError
from voxlume.render.camera import View
from voxlume.render.picture import render_views, save_png

_COLUMNS = 10


def contact_sheet(assets: list[Asset], size: int = 192, columns: int = _COLUMNS) -> np.ndarray:
    """The assets from the front right above, labelled with their names: uint8 (h, w, 3)."""
    columns = min(columns, len(assets))
    rows = -(-len(assets) // columns)
    sheet = Image.new("RGB", (columns * size, rows * size), (230, 230, 230))
    font = ImageFont.load_default(max(10, size // 18))
    for i, asset in enumerate(assets):
        tile = Image.fromarray(render_views(asset, size, [View("front", 32.0, 24.0)])[0])
        ImageDraw.Draw(tile).text((4, 2), asset.name, (70, 72, 76), font)
        sheet.paste(tile, (i % columns * size, i // columns * size))
    return np.asarray(sheet)


def main() -> int:
    """Draw the sheet; returns the exit status."""
    parser = argparse.ArgumentParser(prog="voxlume.data.procedural", description=__doc__)
    parser.add_argument("out", help="PNG to write")
    parser.add_argument("--count", type=int, default=100, help="number of objects")
    parser.add_argument("--first", type=int, default=0, help="seed of the first object")
    parser.add_argument("--family", choices=sorted(FAMILIES), help="one family only")
    parser.add_argument("--size", type=int, default=192, help="edge of a picture in pixels")
    options = parser.parse_args()
    try:
        if options.count < 1 or options.size < 16:
            raise VoxlumeError("--count must be at least 1 and --size at least 16")
        seeds = range(options.first, options.first + options.count)
        assets = [make_object(seed, options.family) for seed in seeds]
        save_png(contact_sheet(assets, options.size), options.out)
    except VoxlumeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
