"""Checks on file names that a command was given, before any work is done."""

from __future__ import annotations

from pathlib import Path

from voxlume.errors import VoxlumeError


def check_output(path: Path, endings: tuple[str, ...]) -> None:
    """Refuse an output that could not be written at the end of the work.

    Raises
    ------
    VoxlumeError : the ending is not among ``endings``, or the folder does not exist.
    """
    if path.suffix.lower() not in endings:
        raise VoxlumeError(f"cannot write {path}: the name must end in {' or '.join(endings)}")
    if not path.parent.is_dir():
        raise VoxlumeError(f"cannot write {path}: the folder {path.parent} does not exist; create it first")
