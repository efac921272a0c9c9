"""The log of a run: one JSON object a line, and its curves as a picture."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from voxlume.errors import VoxlumeError
from voxlume.training.plot import plot_curves

LOG = "log.jsonl"
CURVES = "curves.png"


class Journal:
    """Appends records to ``log.jsonl`` of a run's folder; records after ``step`` of an earlier part go.

    A resumed run repeats the steps since its checkpoint, so their old records would be there twice.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.folder = folder
        self.path = folder / LOG
        kept = [record for record in read_log(folder) if record["step"] <= step]
        try:
            self.path.write_text("".join(json.dumps(record) + "\n" for record in kept))
        except OSError as error:
            raise VoxlumeError(f"cannot write {self.path}: {error.strerror or error}") from error

    def add(self, record: dict[str, Any]) -> None:
        """Write a record at once; it has at least ``step``."""
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def plot(self) -> None:
        """Draw all curves so far."""
        panels: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
        for record in read_log(self.folder):
            for key, value in record.items():
                if key == "held_out":
                    for name, number in value.items():
                        panels[name]["held out"].append((record["step"], number))
                elif isinstance(value, int | float) and key not in ("step", "seconds"):
                    panels[key]["training"].append((record["step"], value))
        plot_curves(panels, self.folder / CURVES)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """All records of a run; a line that a crash cut short is left out."""
    path = folder / LOG
    if not path.exists():
        return []
    records = []
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records
