"""Writing files so that a reader never meets half of one."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from voxlume.errors import VoxlumeError

_UNFINISHED = ".part"


@contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """A binary file that appears under its name only when the block has ended well.

    The bytes go to a hidden temporary file in the same folder, which then takes the place of ``path``
    in one step; a file of that name that already exists stays as it was until that moment. If the
    block raises, or the disk is full, nothing is left behind. A process that is killed leaves the temporary
    file; see :func:`remove_unfinished`.

    Raises
    ------
    VoxlumeError : the folder is missing or not writable, the name belongs to something that is not an
        ordinary file, or an ``OSError`` was raised while writing.
    """
    target = Path(os.path.realpath(path))  # a link keeps pointing where it points
    if target.exists() and not target.is_file():
        raise VoxlumeError(f"cannot write {path}: something that is not an ordinary file has this name")
    if not target.parent.is_dir():
        raise VoxlumeError(f"cannot write {path}: the folder {target.parent} does not exist; create it first")
    temporary = target.with_name(f".{secrets.token_hex(8)}{_UNFINISHED}")
    try:
        # Opened by hand, not by tempfile, so that the file gets the user's default permissions.
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise VoxlumeError(f"cannot write {path}: {error.strerror or error}") from error
        raise


@contextmanager
def atomic_write_all(paths: Sequence[str | Path]) -> Iterator[list[BinaryIO]]:
    """Files that belong together, written as by :func:`atomic_write`: all of them appear, or none.

    They take their names from the last to the first, once every byte of all of them is on the disk.

    Raises
    ------
    VoxlumeError : one of them cannot be written.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(atomic_write(path)) for path in paths]
        yield files
        for file in files:
            file.flush()
            os.fsync(file.fileno())


def remove_unfinished(folder: Path) -> None:
    """Delete what processes that were killed in :func:`atomic_write` left in a folder.

    For folders that one program writes at a time: another's file would be lost too.
    """
    for left in folder.glob(f".*{_UNFINISHED}"):
        with suppress(OSError):
            left.unlink()
