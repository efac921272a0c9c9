"""Going through the objects of an evaluation; what is measured is kept on disk, so that an interrupted one
goes on.

A folder beside the report that is to come: ``settings.json``, and for every object a JSON file and, if it is
shown on the sheet, a PNG of its pictures side by side. Who writes the report takes it away.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from voxlume.data.sources import Source
from voxlume.evaluation.report import Report, Row, Tile
from voxlume.files import atomic_write
from voxlume.pipelines.model_folder import ModelFolder
from voxlume.progress import Progress, report


@dataclass(frozen=True, eq=False)
class Measured:
    """One object.

    Attributes
    ----------
    rows : its results.
    tile : for the sheet, or None.
    unusable : why there was nothing to measure; empty otherwise.
    """

    rows: tuple[Row, ...] = ()
    tile: Tile | None = None
    unusable: str = ""


def stamp(folder: ModelFolder) -> dict[str, Any]:
    """What tells a model from others: its description, and size and time of each network's file."""
    paths = {key: folder.stem(key) for key in folder.config.models}
    found = {key: path.with_name(f"{path.name}.safetensors").stat() for key, path in paths.items()}
    files = {key: (stat.st_size, stat.st_mtime_ns) for key, stat in found.items()}
    return {"description": asdict(folder.config), "files": files}


class Kept:
    """The objects that are measured.

    Parameters
    ----------
    folder : None keeps nothing.
    result : that they are for; what was kept for another task, machine or list of measures is thrown away.
    settings : plain values on which the results depend besides.
    """

    def __init__(self, folder: Path | None, result: Report, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        if folder is None:
            return
        about = {"about": result.about, "measures": dict(result.measures), "settings": dict(settings)}
        text = json.dumps(about, sort_keys=True, default=str)
        path = folder / "settings.json"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            with atomic_write(path) as file:
                file.write(text.encode())

    def get(self, group: str, name: str) -> Measured | None:
        """An object that was measured before."""
        if self.folder is None:
            return None
        stem = self._stem(group, name)
        try:
            content = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
            tile = None
            if content["label"] is not None:
                strip = np.asarray(Image.open(stem.with_suffix(".png")).convert("RGB"))
                tile = content["label"], np.split(strip, content["pictures"], axis=1)
            return Measured(tuple(Row(**row) for row in content["rows"]), tile, content["unusable"])
        except (OSError, ValueError, KeyError, TypeError):
            return None  # not there, or cut off: measured again

    def put(self, group: str, name: str, measured: Measured) -> None:
        """Keep an object.

        Raises
        ------
        VoxlumeError : a file cannot be written.
        """
        if self.folder is None:
            return
        stem = self._stem(group, name)
        label, pictures = measured.tile or (None, ())
        if len(pictures):
            with atomic_write(stem.with_suffix(".png")) as file:
                Image.fromarray(np.concatenate(list(pictures), axis=1)).save(file, "PNG")
        content = {
            "rows": [asdict(row) for row in measured.rows],
            "label": label,
            "pictures": len(pictures),
            "unusable": measured.unusable,
        }
        with atomic_write(stem.with_suffix(".json")) as file:
            file.write(json.dumps(content).encode())

    def _stem(self, group: str, name: str) -> Path:
        assert self.folder is not None
        return self.folder / hashlib.sha256(f"{group}/{name}".encode()).hexdigest()[:16]


def measure_all(
    groups: Mapping[str, Sequence[Source]],
    measure: Callable[[str, Source, bool], Measured],
    result: Report,
    kept: Kept,
    pictures: int,
    doing: str,
    progress: Progress | None = None,
) -> list[Tile]:
    """Measure what is not kept yet, and put all of it into a report.

    Parameters
    ----------
    measure : group, object and whether it is shown on the sheet -> what is to be kept of it.
    pictures : how many of the first objects are shown, the groups in turn.
    doing : the word that ``progress`` shows.

    Returns
    -------
    For the sheet.
    """
    tiles: dict[str, list[Tile]] = {group: [] for group in groups}
    total, done = sum(map(len, groups.values())), 0
    per_group = -(-pictures // max(1, len(groups)))
    for group, sources in groups.items():
        for source in sources:
            report(progress, done, total, f"{doing} ({group})")
            done += 1
            measured = kept.get(group, source.name)
            if measured is None:
                measured = measure(group, source, len(tiles[group]) < per_group)
                kept.put(group, source.name, measured)
            result.add(source.name, measured.rows, measured.unusable)
            if measured.tile is not None:
                tiles[group].append(measured.tile)
    report(progress, total, total, doing)
    return [tile for group in tiles.values() for tile in group][:pictures]
