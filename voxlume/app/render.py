"""``voxlume render``: a picture of a mesh or voxel file, or the same turning."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from voxlume.app.console import progress_bar, say
from voxlume.app.paths import check_output


@dataclass
class Render:
    """Draw a mesh or voxel file; needs no GPU and no display.

    A .png shows fixed views and material tiles; an .mp4, .webp or .gif is a turntable.
    """

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """Mesh (glTF, GLB, OBJ, PLY, STL, OFF) or voxel file (.vxz, .npz)."""
    output: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """What to write: .png, .mp4, .webp, .gif."""
    size: int = 512
    """Side of one large view in pixels."""
    frames: int = 60
    """Pictures of a turntable; 20 make a second."""
    tiles: bool = False
    """Show the material's maps beside a turntable."""

    def run(self) -> None:
        from voxlume.errors import VoxlumeError
        from voxlume.render.picture import render_file
        from voxlume.render.turntable import ENDINGS, render_turntable

        check_output(self.output, (".png", *ENDINGS))
        if not 16 <= self.size <= 4096:
            raise VoxlumeError(f"--size {self.size} is not possible, choose 16 to 4096")
        if not 1 <= self.frames <= 3600:
            raise VoxlumeError(f"--frames {self.frames} is not possible, choose 1 to 3600")
        if self.output.suffix.lower() == ".png":
            render_file(self.file, self.output, self.size)
        else:
            with progress_bar() as progress:
                render_turntable(
                    self.file, self.output, self.size, self.frames, tiles=self.tiles, progress=progress
                )
        say(f"wrote {self.output}")
