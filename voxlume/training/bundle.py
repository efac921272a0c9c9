"""``python -m voxlume.training.bundle MODEL``: a finished model becomes the one that comes with the package.

The encoders that only evaluation and further training need come along if there is room. Refuses what is
incomplete or too large.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from voxlume.errors import VoxlumeError
from voxlume.files import atomic_write
from voxlume.pipelines.checkpoint import read_json
from voxlume.pipelines.model_folder import BUNDLED, IMAGE_TO_3D, TEXTURING, ModelFolder
from voxlume.pipelines.presets import new_folder
from voxlume.training.presets import MATERIAL_ENCODER, STRUCTURE_ENCODER

MOST_BYTES = 80_000_000
"""Of all files of a bundled model together."""

ENCODERS = (STRUCTURE_ENCODER, MATERIAL_ENCODER)
"""Generating and texturing do without them."""

PARTS = (IMAGE_TO_3D, TEXTURING, "ckpts")
"""What a bundled model consists of; other files of the folder, such as the credits, stay."""


def bundle(model: Path, target: Path = BUNDLED) -> int:
    """Put a model folder, as :mod:`.export` writes it, in the package's place for weights.

    Returns
    -------
    Size in bytes.

    Raises
    ------
    VoxlumeError : it is incomplete, names networks elsewhere, or is too large; ``target`` is as it was.
    """
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".bundle") as temporary:
        for left_out in ((), ENCODERS):
            staged = new_folder(Path(temporary) / f"without_{len(left_out)}")
            for description in (IMAGE_TO_3D, TEXTURING):
                _stage(model, staged, description, left_out)
            size = sum(path.stat().st_size for path in staged.rglob("*") if path.is_file())
            if size <= MOST_BYTES:
                break
        else:
            raise VoxlumeError(f"{model} has {size / 1e6:.1f} MB without its encoders, more than 80")
        for name in PARTS:
            _remove(target / name)
            shutil.move(staged / name, target / name)
    return size


def _stage(model: Path, staged: Path, description: str, left_out: Sequence[str]) -> None:
    """Copy one description and the networks that it names but for some."""
    folder = ModelFolder.from_pretrained(model, pipeline=description)
    problems = folder.problems()
    if problems:
        raise VoxlumeError(problems[0])
    content = read_json(model / description)
    models = content["args"]["models"]
    for key in left_out:
        models.pop(key, None)
    for key, path in models.items():
        if path != f"ckpts/{key}":
            raise VoxlumeError(f"{model} has its {key} in {path}, not in ckpts: it cannot be bundled")
        for ending in (".json", ".safetensors"):
            shutil.copyfile(model / f"{path}{ending}", staged / f"{path}{ending}")
    with atomic_write(staged / description) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m voxlume.training.bundle", description=__doc__)
    parser.add_argument("model", type=Path, help="finished model folder, such as RUN/model")
    parser.add_argument("--to", type=Path, default=BUNDLED, help="the package's own folder by default")
    options = parser.parse_args(arguments)
    try:
        size = bundle(options.model, options.to)
    except VoxlumeError as error:
        print(f"voxlume.training.bundle: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"voxlume.training.bundle: {options.to}: {error.strerror or error}", file=sys.stderr)
        return 1
    print(f"{options.to}: {size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
