"""A collection of openly licensed models: ``assets/PACK/NAME.glb`` beside a ``MANIFEST.json``.

One object in twelve is held back for judging. Variants of one object (another colour, another number) stay
on the same side, so that nothing is judged that training has nearly seen.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from voxlume.errors import MissingDependencyError, VoxlumeError

MANIFEST = "MANIFEST.json"
CREDITS = "ATTRIBUTION.md"
HELD_BACK_SHARE = 0.08

_COLORS = (
    "black|blue|brown|cyan|dark|gold|gray|green|grey|light|orange|pink|purple|red|silver|teal|white|yellow"
)
_SUFFIX = re.compile(rf"[_\-. ]*(?:\d+|(?<=[_\-. ])(?:[a-z]|v\d+)|(?:{_COLORS}))$")
_LARGEST_WINDOW = 1 << 27  # bytes a zstandard frame may look back: what `zstd --long=27` writes


@dataclass(frozen=True)
class OpenAsset:
    """One model of the collection.

    Attributes
    ----------
    name : ``PACK/NAME``.
    path : of its GLB file.
    licence, author : as the manifest says.
    category : the manifest's word for what it is.
    held_back : kept out of training.
    """

    name: str
    path: Path
    licence: str
    author: str
    category: str
    held_back: bool


def read_collection(folder: str | Path) -> list[OpenAsset]:
    """The models that a collection's manifest lists, sorted by name.

    Raises
    ------
    VoxlumeError : no collection there, a damaged manifest, or one that leads out of the folder.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    try:
        entries = {_name(entry): entry for entry in json.loads(path.read_text(encoding="utf-8"))["assets"]}
        faces = {name: int(entry["faces"]) for name, entry in entries.items()}
    except FileNotFoundError as error:
        raise VoxlumeError(f"{folder} is no collection of assets: it has no {MANIFEST}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VoxlumeError(f"{path} is damaged: {error}") from error
    if not entries:
        raise VoxlumeError(f"{path} lists no asset")
    object_of = group_variants(faces)
    return [
        OpenAsset(
            name=name,
            path=folder / entry["file"],
            licence=str(entry.get("licence", "")),
            author=str(entry.get("author", "")),
            category=str(entry.get("category", "")),
            held_back=is_held_back(object_of[name]),
        )
        for name, entry in sorted(entries.items())
    ]


def is_held_back(name: str) -> bool:
    """Whether the object of that name is kept for judging: by a hash, the same everywhere and for ever."""
    digest = hashlib.sha256(f"split {name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < HELD_BACK_SHARE * 2**64


def group_variants(faces: Mapping[str, int]) -> dict[str, str]:
    """For each model ``PACK/NAME`` the object it is a variant of.

    Models are taken for variants of one object if, in a pack, their names differ only in colours, numbers
    or single letters, or they have the same number of faces; and in different packs, if both name and
    number of faces agree. Rather too many than too few are taken together: a road's two tiles cost
    nothing, a mug judged that was trained on in red would.

    Parameters
    ----------
    faces : number of faces of each model.
    """
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            key = parent[key]
        return key

    for name, count in faces.items():
        pack, stem = stem_of(name)
        own = root(f"{pack}/{stem}")
        for other in (f"{pack} {count}", f"{stem} {count}"):
            own, joined = sorted((own, root(other)))
            parent[joined] = own
    return {name: root("/".join(stem_of(name))) for name in faces}


def stem_of(name: str) -> tuple[str, str]:
    """Pack, and the name without the endings that tell variants apart: colours, numbers, single letters."""
    pack, _, stem = name.rpartition("/")
    stem = stem.lower()
    while (shorter := _SUFFIX.sub("", stem)) and shorter != stem:
        stem = shorter
    return pack, stem


def unpack(archive: str | Path, folder: str | Path) -> Path:
    """Unpack a ``.tar.zst`` (or any tar that Python reads) into a new folder, which appears complete.

    Returns
    -------
    The folder; if it is there already, nothing is done.

    Raises
    ------
    MissingDependencyError : a ``.zst`` and no zstandard.
    VoxlumeError : missing, damaged, or with paths that lead out of the folder.
    """
    archive, folder = Path(archive), Path(folder)
    if folder.is_dir():
        return folder
    if not archive.is_file():
        raise VoxlumeError(f"{archive} does not exist; a folder with {MANIFEST} or an archive is needed")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".unpack-", dir=folder.parent))
    try:
        if archive.suffix == ".zst":
            _unpack_zstandard(archive, temporary)
        else:
            with tarfile.open(archive) as tar:
                tar.extractall(temporary, filter="data")
        temporary.chmod(0o755)
        temporary.rename(folder)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise VoxlumeError(f"{archive} cannot be unpacked: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _unpack_zstandard(archive: Path, folder: Path) -> None:
    try:
        import zstandard
    except ImportError as error:
        raise MissingDependencyError(
            f"{archive.name} needs the package zstandard; install it, or give a .tar.xz or its folder"
        ) from error
    decompressor = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW)
    try:
        with (
            archive.open("rb") as file,
            decompressor.stream_reader(file) as stream,
            tarfile.open(fileobj=stream, mode="r|") as tar,
        ):
            tar.extractall(folder, filter="data")
    except zstandard.ZstdError as error:
        raise VoxlumeError(f"{archive} is damaged: {error}") from error


def _name(entry: Mapping[str, Any]) -> str:
    file = PurePosixPath(entry["file"])
    if file.is_absolute() or ".." in file.parts:
        raise ValueError(f"{file} leads out of the folder")
    return f"{file.parent.name}/{file.stem}"
