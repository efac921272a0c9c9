"""``voxlume compare``: how far two surfaces and their materials are apart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from voxlume.app.console import progress_bar
from voxlume.app.paths import check_output


@dataclass
class Compare:
    """Measure two-way surface distance, F-score, normals, materials and lost parts of B against A."""

    a: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="A")]
    """The reference: mesh or voxel file."""
    b: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="B")]
    """What is compared with it."""
    resolution: int | None = None
    """Grid that distances are counted in (default: that of a voxel file, else 512)."""
    samples: int = 200_000
    """Points on each surface."""
    seed: int = 0
    """Of the random points."""
    picture: Path | None = None
    """Also draw both side by side into this PNG."""
    json: bool = False
    """Print as JSON."""

    def run(self) -> None:
        import json

        from rich.console import Console

        from voxlume.evaluation.compare import compare
        from voxlume.render.picture import save_png, side_by_side
        from voxlume.render.source import load_surface

        if self.picture is not None:
            check_output(self.picture, (".png",))
        a, resolution_a = load_surface(self.a)
        b, resolution_b = load_surface(self.b)
        resolution = self.resolution or resolution_b or resolution_a
        with progress_bar():
            result = compare(a, b, resolution=resolution, samples=self.samples, seed=self.seed)
        if self.picture is not None:
            save_png(side_by_side(a, b, (self.a.name, self.b.name)), self.picture)
        if self.json:
            print(json.dumps(result.to_dict(), indent=2))
        else:
            Console().print(result.table())
