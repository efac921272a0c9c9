"""``voxlume render``: a picture of a mesh or voxel file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from voxlume.app.console import say
from voxlume.app.paths import check_output


@dataclass
class Render:
    """Draw fixed views and material tiles of a mesh or voxel file; needs no GPU and no display."""

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """Mesh (glTF, GLB, OBJ, PLY, STL, OFF) or voxel file (.vxz, .npz)."""
    output: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT.png")]
    """PNG to write."""
    size: int = 512
    """Side of one large view in pixels."""

    def run(self) -> None:
        from voxlume.errors import VoxlumeError
        from voxlume.render.picture import render_file

        check_output(self.output, (".png",))
        if not 16 <= self.size <= 4096:
            raise VoxlumeError(f"--size {self.size} is not possible, choose 16 to 4096")
        render_file(self.file, self.output, self.size)
        say(f"wrote {self.output}")
