"""The command ``voxlume``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import tyro

from voxlume import __version__
from voxlume.app.compare import Compare
from voxlume.app.decode import Decode
from voxlume.app.doctor import Doctor
from voxlume.app.encode import Encode
from voxlume.app.generate import Generate
from voxlume.app.info import Info
from voxlume.app.init_model import InitModel
from voxlume.app.render import Render
from voxlume.app.texture import Texture
from voxlume.app.warm_up import WarmUp
from voxlume.errors import VoxlumeError
from voxlume.threads import sleep_while_waiting

Command = (
    Annotated[Encode, tyro.conf.subcommand("encode")]
    | Annotated[Decode, tyro.conf.subcommand("decode")]
    | Annotated[Info, tyro.conf.subcommand("info")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Render, tyro.conf.subcommand("render")]
    | Annotated[Generate, tyro.conf.subcommand("generate")]
    | Annotated[Texture, tyro.conf.subcommand("texture")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
    | Annotated[InitModel, tyro.conf.subcommand("init-model")]
    | Annotated[WarmUp, tyro.conf.subcommand("warm-up")]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status.

    Whatever a user can cause ends in one line on standard error and status 1.
    """
    sleep_while_waiting()
    arguments = sys.argv[1:] if arguments is None else arguments
    if list(arguments) == ["--version"]:
        print(f"voxlume {__version__}")
        return 0
    command = tyro.cli(
        Command,  # type: ignore[arg-type]
        prog="voxlume",
        description="One picture to a 3D asset with PBR materials, and the O-Voxel format under it.",
        args=arguments,
    )
    try:
        return command.run() or 0
    except VoxlumeError as error:
        print(f"voxlume: {error}", file=sys.stderr)
        return 1
    except MemoryError:
        print("voxlume: not enough memory; try a lower resolution", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("voxlume: interrupted, nothing was written", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output went away (`voxlume info X | head`); keep Python from complaining.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
