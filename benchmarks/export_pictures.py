"""Source and export side by side, from the files that ``benchmarks.export_quality --folder`` leaves.

python -m benchmarks.export_pictures FOLDER docs/export.jpg [--size 256]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from tests.paths import ASSETS_DIR
from voxlume.mesh.read import load
from voxlume.render.camera import FIXED_VIEWS
from voxlume.render.picture import label, render_views

_COLUMNS = 4  # pairs in a row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--size", type=int, default=256)
    options = parser.parse_args()
    entries = json.loads((ASSETS_DIR / "MANIFEST.json").read_text())["assets"]
    pairs = []
    for entry in entries:
        source = ASSETS_DIR / entry["file"]
        written = sorted(options.folder.glob(f"{source.stem}_*.glb"))
        if entry["kind"] == "real" and written:
            pairs.append(_pair(source, written[0], options.size))
            print(f"{source.stem}: {written[0].name}", flush=True)
    rows = -(-len(pairs) // _COLUMNS)
    height, width = pairs[0].shape[:2]
    sheet = np.full((rows * height, _COLUMNS * width, 3), 255, np.uint8)
    for i, pair in enumerate(pairs):
        row, column = divmod(i, _COLUMNS)
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = pair
    Image.fromarray(sheet).save(options.output, quality=85)
    print(f"{len(pairs)} pairs, {options.output.stat().st_size:,} bytes")


def _pair(source: Path, written: Path, size: int) -> np.ndarray:
    """The source on the left, the export on the right."""
    assets = [load(path) for path in (source, written)]
    pictures = [render_views(asset, size, FIXED_VIEWS[:1])[0] for asset in assets]
    sheet = Image.fromarray(np.concatenate(pictures, axis=1))
    label(sheet, f"{source.stem}, {assets[0].num_faces:,} faces", (0, 0), size)
    label(sheet, f"exported, {assets[1].num_faces:,} faces", (size, 0), size)
    return np.asarray(sheet)


if __name__ == "__main__":
    main()
