"""``voxlume init-model``: a model folder with random weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from voxlume.app.console import say


@dataclass
class InitModel:
    """Write a complete model folder with random weights, to try the pipelines or to train from."""

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """Folder to make."""
    preset: Literal["tiny", "nano", "published"] = "tiny"
    """Sizes of the networks; ``published`` writes 16 GB."""
    seed: int = 0
    """Of the weights."""

    def run(self) -> None:
        from voxlume.pipelines.presets import PRESETS, write_model

        write_model(PRESETS[self.preset](), self.folder, self.seed)
        say(f"wrote {self.folder}; use it with --model {self.folder}")
