"""Measures of many objects: kept object by object, summed up by group, as JSON, table and picture."""

from __future__ import annotations

import json
import resource
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

import voxlume
from voxlume.evaluation.metrics import Scores
from voxlume.files import atomic_write

Tile = tuple[str, Sequence[NDArray[np.uint8]]]
"""Label and pictures uint8 (s, s, 3) of one object."""

_PAPER, _INK = (230, 230, 230), (60, 62, 66)


@dataclass(frozen=True)
class Row:
    """One object.

    Attributes
    ----------
    group : it is reported with.
    scores : by measure; None where a measure has no meaning for it.
    failure : why there is no result, or what is wrong with it; empty where all is well.
    """

    group: str
    name: str
    scores: Scores
    failure: str = ""

    @property
    def failed(self) -> bool:
        """Whether it counts as failed."""
        return bool(self.failure)


@dataclass
class Report:
    """What was measured, with what, on which machine.

    Attributes
    ----------
    task : ``reconstruction`` or ``generation``.
    about : settings, model, device.
    measures : what the columns mean.
    rows : the objects.
    """

    task: str
    about: dict[str, Any]
    measures: Mapping[str, str]
    rows: list[Row] = field(default_factory=list)

    def add(self, name: str, rows: Sequence[Row], unusable: str = "") -> None:
        """Take an object in; one that is unusable is named, but is not in the statistics."""
        self.rows += rows
        if unusable:
            self.about.setdefault("unusable", {})[name] = unusable

    def summary(self) -> dict[str, dict[str, Any]]:
        """By group: ``objects``, ``failed`` and for every measure ``mean``, ``median``, ``count``."""
        groups: dict[str, list[Row]] = {}
        for row in self.rows:
            groups.setdefault(row.group, []).append(row)
        return {group: self._summed(rows) for group, rows in groups.items()}

    def _summed(self, rows: Sequence[Row]) -> dict[str, Any]:
        summed: dict[str, Any] = {"objects": len(rows), "failed": sum(row.failed for row in rows)}
        for measure in self.measures:
            values = [value for row in rows if (value := row.scores.get(measure)) is not None]
            if values:
                summed[measure] = {
                    "mean": statistics.fmean(values),
                    "median": statistics.median(values),
                    "count": len(values),
                }
        return summed

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        rows = [asdict(row) for row in self.rows]
        return {
            "task": self.task,
            "about": self.about,
            "measures": dict(self.measures),
            "summary": self.summary(),
            "objects": rows,
        }

    def table(self) -> str:
        """Means by group, a measure a line; in brackets the count where it is not that of all objects."""
        summary = self.summary()
        lines = [["", *summary]]
        for key in ("objects", "failed"):
            lines.append([key, *(str(group[key]) for group in summary.values())])
        for measure in self.measures:
            if any(measure in group for group in summary.values()):
                lines.append([measure, *(_cell(group, measure) for group in summary.values())])
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        return "\n".join(
            "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines
        )

    def save(self, path: Path) -> None:
        """Write the JSON.

        Raises
        ------
        VoxlumeError : the file cannot be written.
        """
        with atomic_write(path) as file:
            file.write((json.dumps(self.to_dict(), indent=1) + "\n").encode())


def _cell(group: Mapping[str, Any], measure: str) -> str:
    if measure not in group:
        return "-"
    value, count = group[measure]["mean"], group[measure]["count"]
    partial = f" ({count})" if count < group["objects"] else ""
    return f"{value:.4g}{partial}"


def machine(device: torch.device) -> dict[str, Any]:
    """Where the numbers were made."""
    return {
        "voxlume": voxlume.__version__,
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }


def peak_memory_gb(device: torch.device) -> float:
    """The most memory used so far, in GB: of the GPU by PyTorch, or of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def sheet(rows: Sequence[Tile], heads: Sequence[str], columns: int = 2) -> NDArray[np.uint8]:
    """Pictures of many objects side by side.

    Parameters
    ----------
    rows : all with the same number of pictures of the same size.
    heads : what the pictures show.
    columns : objects beside each other.
    """
    size, gap, line = rows[0][1][0].shape[0], 10, 18
    width = len(heads) * size + gap
    down = -(-len(rows) // columns)
    canvas = Image.new("RGB", (columns * width - gap, line + down * (size + line)), _PAPER)
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(12)
    for column in range(columns):
        for i, head in enumerate(heads):
            pen.text((column * width + i * size + 4, 2), head, _INK, font)
    for number, (label, pictures) in enumerate(rows):
        x, y = number % columns * width, line + number // columns * (size + line)
        for i, picture in enumerate(pictures):
            canvas.paste(Image.fromarray(picture), (x + i * size, y))
        pen.text((x + 4, y + size + 2), label, _INK, font)
    return np.asarray(canvas)


def save_sheet(picture: NDArray[np.uint8], path: Path) -> None:
    """Write a sheet as JPEG, small enough for documentation (24 objects: less than a megabyte).

    Raises
    ------
    VoxlumeError : the file cannot be written.
    """
    with atomic_write(path) as file:
        Image.fromarray(picture).save(file, "JPEG", quality=88, optimize=True)
