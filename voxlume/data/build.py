"""Making a voxel store: many processes, resumable, no bad object spoils the rest.

The work is cut into shards of a few dozen objects. A shard that is there is done, so an interrupted build
goes on where it stopped. An object that cannot be made is left out with the reason, even one that takes its
process down with it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from voxlume.data.open_assets import CREDITS, MANIFEST, read_collection, unpack
from voxlume.data.shards import INDEX, pack, read_index, read_note, write_index, write_shard
from voxlume.data.sources import (
    MOST_SERIES,
    SPLITS,
    Source,
    Split,
    open_sources,
    procedural_sources,
    shuffled,
)
from voxlume.errors import VoxelFileError, VoxlumeError
from voxlume.files import atomic_write, remove_unfinished
from voxlume.progress import Progress, report

SHARD_OBJECTS = 48
BAD = "bad.jsonl"
VOXELS_PER_FACE_OF_CUBE = 12
"""The default limit of an object's voxels, in squares of the resolution: twice a solid cube's surface."""

_MYSTERIES = 3
"""Times that processes may die without any object to blame: then the memory is too small for so many."""


@dataclass(frozen=True)
class BuildSettings:
    """What a store is made of; all of it is kept in the store and must be the same to go on.

    Attributes
    ----------
    resolution : of the voxel grid.
    procedural : objects from seeds in ``train``.
    held_out : objects from seeds in each of ``held_out`` and ``held_out_families``.
    open_assets : the collection's models take part.
    dressed : further copies of every model of the collection in procedural materials.
    warped : further copies of those that are trained on in other proportions.
    composed : objects put together of every one of those and some others.
    max_voxels : objects with more are left out.
    series : of training objects; another one has other seeds, materials, proportions and compositions, for
        a model to learn on from what it has not seen. The held-out splits are the same in all.
    """

    resolution: int = 256
    procedural: int = 20_000
    held_out: int = 500
    open_assets: bool = True
    dressed: int = 1
    warped: int = 0
    composed: int = 0
    max_voxels: int = 0
    series: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.resolution <= 2048:
            raise VoxlumeError(f"resolution {self.resolution} is not possible, choose 1 to 2048")
        counts = (self.procedural, self.held_out, self.dressed, self.warped, self.composed)
        if min(*counts, self.max_voxels) < 0:
            raise VoxlumeError("a number of objects or voxels cannot be negative")
        if not 0 <= self.series < MOST_SERIES:
            raise VoxlumeError(f"series {self.series} is not possible, choose 0 to {MOST_SERIES - 1}")
        if not self.max_voxels:
            object.__setattr__(self, "max_voxels", VOXELS_PER_FACE_OF_CUBE * self.resolution**2)

    def sources(self, split: Split, collection: Path | None) -> list[Source]:
        """The recipes of a split, in the store's order."""
        count = self.procedural if split == "train" else self.held_out
        sources = procedural_sources(count, split, self.series) if count else []
        if collection is not None:
            copies = (self.dressed, self.warped, self.composed)
            sources += open_sources(collection, split, *copies, self.series)
        return shuffled(sources)


@dataclass(frozen=True)
class Bad:
    """An object that was left out, and why."""

    split: str
    name: str
    reason: str


def build(
    out: str | Path,
    settings: BuildSettings,
    *,
    open_assets: str | Path | None = None,
    splits: Sequence[Split] = SPLITS,
    workers: int = 1,
    progress: Progress | None = None,
) -> list[Bad]:
    """Make, or go on making, a store that :class:`voxlume.data.store.VoxelStore` loads.

    Parameters
    ----------
    open_assets : the collection: its unpacked folder, or the archive, which is then unpacked into ``out``.
    workers : processes; 1 works in this one.
    progress : counts objects; stopping leaves the finished shards for the next time.

    Returns
    -------
    What was left out; also in ``bad.jsonl``.

    Raises
    ------
    VoxlumeError : the folder holds a store with other settings, or something that is no store.
    """
    out = Path(out)
    collection = _prepare(out, settings, open_assets)
    for split in splits:
        _build_split(out, split, settings.sources(split, collection), settings, workers, progress)
    return _write_bad(out)


def _prepare(out: Path, settings: BuildSettings, open_assets: str | Path | None) -> Path | None:
    """Make the folder or check that it fits; returns the collection's folder."""
    if settings.open_assets != (open_assets is not None):
        raise VoxlumeError("settings and arguments do not agree about the open assets")
    out.mkdir(parents=True, exist_ok=True)
    remove_unfinished(out)
    wanted = asdict(settings)
    if (out / INDEX).exists():
        found = read_index(out).get("settings")
        if found != wanted:
            raise VoxlumeError(f"{out} was begun with other settings ({found}); use the same or a new folder")
    elif any(out.iterdir()):
        raise VoxlumeError(f"{out} holds something that is no voxel store; choose a new folder")
    else:
        write_index(out, {"resolution": settings.resolution, "settings": wanted, "splits": {}})
    if open_assets is None:
        return None
    collection = Path(open_assets)
    if not (collection / MANIFEST).exists():
        collection = unpack(collection, out / "open_assets")
    _keep_credits(collection, out)
    return collection


def _keep_credits(collection: Path, out: Path) -> None:
    """Who made the models: the collection's own text, and the list of those that must be named."""
    with suppress(FileNotFoundError):
        shutil.copyfile(collection / CREDITS, out / CREDITS)
    named = [
        {"name": asset.name, "author": asset.author, "licence": asset.licence}
        for asset in read_collection(collection)
        if asset.licence != "CC0-1.0"
    ]
    with atomic_write(out / "credits.json") as file:
        file.write((json.dumps(named, indent=1) + "\n").encode())


def _build_split(
    out: Path,
    split: Split,
    sources: list[Source],
    settings: BuildSettings,
    workers: int,
    progress: Progress | None,
) -> None:
    jobs = [
        _Job(out / f"{split}-{number:05}.safetensors", split, tuple(sources[start : start + SHARD_OBJECTS]))
        for number, start in enumerate(range(0, len(sources), SHARD_OBJECTS))
    ]
    waiting = [job for job in jobs if not job.is_done()]
    done = len(sources) - sum(len(job.sources) for job in waiting)
    report(progress, done, len(sources), f"building {split}")
    for job in _finished(waiting, settings, workers):
        done += len(job.sources)
        report(progress, done, len(sources), f"building {split}")
    index = read_index(out)
    shards = [
        {"file": job.path.name, "samples": samples} for job in jobs if (samples := read_note(job.path)[0])
    ]
    if shards:  # a split without any object is none
        index["splits"][split] = shards
    write_index(out, index)


@dataclass(frozen=True)
class _Job:
    """One shard to make."""

    path: Path
    split: str
    sources: tuple[Source, ...]

    @property
    def doing(self) -> Path:
        """A file that names the object in work, read when the process is gone."""
        return self.path.with_name(f".{self.path.stem}.doing")

    def is_done(self) -> bool:
        """Whether the shard is there, whole, and made of these objects."""
        try:
            return read_note(self.path)[1].get("sources") == [source.name for source in self.sources]
        except VoxelFileError:
            return False


def _finished(jobs: Sequence[_Job], settings: BuildSettings, workers: int) -> Iterator[_Job]:
    """Do the jobs, in this process or in several, and yield each when its shard is written."""
    if workers <= 1:
        for job in jobs:
            _make_shard(job, settings, {})
            yield job
        return
    if jobs:
        # Fills numba's cache on disk once, before many processes would all do it.
        _survives(jobs[0].sources[0], replace(settings, resolution=16))
    deadly: dict[Path, dict[str, str]] = {job.path: {} for job in jobs}
    rest = {job.path: job for job in jobs}
    mysteries = 0
    while rest:
        try:
            for job in _in_processes(list(rest.values()), settings, min(workers, len(rest)), deadly):
                del rest[job.path]
                yield job
        except BrokenProcessPool:
            # Every process is gone, most of them blameless; what they were at is tried once more, alone.
            mysteries += not _blame(rest, settings, deadly)
            remove_unfinished(jobs[0].path.parent)
            if mysteries == _MYSTERIES:
                raise VoxlumeError(
                    "processes keep dying, but no object does it when alone; take fewer --workers and go on"
                ) from None


def _in_processes(
    jobs: list[_Job], settings: BuildSettings, workers: int, deadly: dict[Path, dict[str, str]]
) -> Iterator[_Job]:
    spawn = multiprocessing.get_context("spawn")
    with _one_thread_each(), ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        futures = {pool.submit(_make_shard, job, settings, deadly[job.path]): job for job in jobs}
        try:
            pending: set[Future[None]] = set(futures)
            while pending:
                finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in finished:
                    future.result()
                    yield futures[future]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _blame(rest: dict[Path, _Job], settings: BuildSettings, deadly: dict[Path, dict[str, str]]) -> bool:
    """Find the objects at which a process died, by making each suspect in a process of its own.

    Returns
    -------
    Whether there was one.
    """
    found = False
    for job in rest.values():
        if not job.doing.exists():
            continue
        suspect = job.doing.read_text()
        source = next((source for source in job.sources if source.name == suspect), None)
        job.doing.unlink()
        if source is None:
            continue
        if not _survives(source, settings):
            deadly[job.path][suspect] = "its process died (out of memory, or a crash in native code)"
            found = True
    return found


def _survives(source: Source, settings: BuildSettings) -> bool:
    """Whether a process lives through making an object, well or not."""
    spawn = multiprocessing.get_context("spawn")
    with _one_thread_each(), ProcessPoolExecutor(1, mp_context=spawn) as pool:
        try:
            pool.submit(_try_to_make, source, settings).result()
        except BrokenProcessPool:
            return False
    return True


def _try_to_make(source: Source, settings: BuildSettings) -> None:
    with suppress(Exception):
        _packed(source, settings)


def _make_shard(job: _Job, settings: BuildSettings, deadly: dict[str, str]) -> None:
    """Make a shard's objects and write it; ``deadly`` names objects not to touch, with the reason."""
    samples, bad = [], []
    for source in job.sources:
        if source.name in deadly:
            bad.append((source.name, deadly[source.name]))
            continue
        job.doing.write_text(source.name)
        try:
            samples.append((source.name, source.kind, _packed(source, settings)))
        except VoxlumeError as error:
            bad.append((source.name, str(error)))
        except Exception as error:  # a bug met by one object of ten thousand must not cost the others
            bad.append((source.name, f"{type(error).__name__}: {error}"))
    note = {"sources": [source.name for source in job.sources], "bad": bad, "split": job.split}
    write_shard(job.path, samples, settings.resolution, note)
    job.doing.unlink(missing_ok=True)


def _packed(source: Source, settings: BuildSettings) -> dict[str, Any]:
    from voxlume.ovoxel.voxelize import voxelize_asset

    ovoxel = voxelize_asset(source.make(), settings.resolution)
    if len(ovoxel) > settings.max_voxels:
        raise VoxlumeError(f"{len(ovoxel):,} voxels, more than {settings.max_voxels:,}")
    return pack(ovoxel)


def _write_bad(out: Path) -> list[Bad]:
    """Collect what all shards left out into ``bad.jsonl``."""
    found = []
    for path in sorted(out.glob("*-[0-9]*.safetensors")):
        _, note = read_note(path)
        found += [Bad(note["split"], name, reason) for name, reason in note["bad"]]
    with atomic_write(out / BAD) as file:
        file.write("".join(json.dumps(asdict(bad)) + "\n" for bad in found).encode())
    return found


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes started in this block compute with one thread."""
    names = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
