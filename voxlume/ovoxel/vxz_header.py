"""The JSON header of a ``.vxz`` file, checked before anything else of the file is believed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NoReturn, get_args

from voxlume.errors import VoxelFileError
from voxlume.ovoxel.compression import Compression
from voxlume.ovoxel.index import MAX_RESOLUTION
from voxlume.ovoxel.predict import Filter

Interleave = Literal["none", "as_is", "all"]
"""One stream per channel, per attribute, or for all attributes together."""

MAX_CHANNELS = 64
"""Of all attributes together; files have 12 to 16."""

VOXELS_FOR_FREE = 1 << 22
VOXELS_PER_BYTE = 256
"""How many voxels a file of b bytes may claim: the first plus b times the second. Real assets have less than
one voxel per byte; a large box of one colour, the most compressible there is, up to 250."""

Range = tuple[int, int]
"""First byte and first byte after, in the binary part."""


@dataclass(frozen=True)
class Stream:
    """One compressed stream of every chunk.

    ``parts`` are (attribute, first channel, channels) in the order of the stream's columns.
    """

    name: str
    parts: tuple[tuple[str, int, int], ...]

    @property
    def channels(self) -> int:
        return sum(channels for _, _, channels in self.parts)


@dataclass(frozen=True)
class Chunk:
    """Chunk coordinate and where its streams lie (``svo`` and those of :class:`Stream`)."""

    index: tuple[int, int, int]
    ranges: Mapping[str, Range]


@dataclass(frozen=True)
class Header:
    num_voxels: int
    chunk_size: int
    filter: Filter
    compression: Compression
    interleave: Interleave
    attributes: tuple[tuple[str, int], ...]
    chunks: tuple[Chunk, ...]
    extension: Mapping[str, Any]

    @property
    def levels(self) -> int:
        """Depth of a chunk's octree."""
        return self.chunk_size.bit_length() - 1


def streams_of(attributes: tuple[tuple[str, int], ...], interleave: Interleave) -> list[Stream]:
    """The attribute streams of each chunk."""
    if interleave == "all":
        return [Stream("attr", tuple((name, 0, channels) for name, channels in attributes))]
    if interleave == "as_is":
        return [Stream(name, ((name, 0, channels),)) for name, channels in attributes]
    return [Stream(f"{name}_{i}", ((name, i, 1),)) for name, channels in attributes for i in range(channels)]


def parse_header(text: bytes, num_bytes: int) -> Header:
    """Read and check a header for a binary part of ``num_bytes``.

    Everything that sizes an allocation or addresses a byte is checked here: afterwards each range lies in
    the file and no two overlap, chunks are distinct and lie in the grid, and the number of voxels is one
    that a file of this size can hold.

    Raises
    ------
    VoxelFileError : anything else.
    """
    try:
        fields = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise VoxelFileError("the header is not JSON") from None
    if not isinstance(fields, dict):
        raise VoxelFileError("the header is not a JSON object")
    num_voxels = _integer(fields, "num_voxel", 0, VOXELS_FOR_FREE + VOXELS_PER_BYTE * (num_bytes + len(text)))
    chunk_size = _integer(fields, "chunk_size", 2, MAX_RESOLUTION)
    if chunk_size & (chunk_size - 1):
        raise VoxelFileError(f"chunk_size {chunk_size} is not a power of two")
    if "compressed_size" in fields:
        _integer(fields, "compressed_size", 0, num_bytes)
    attributes = _attributes(fields.get("attr"))
    if "raw_size" in fields:
        # Writers count the coordinates as 12 bytes or leave them out.
        _integer(fields, "raw_size", 0, num_voxels * (12 + sum(channels for _, channels in attributes)))
    interleave: Interleave = _choice(fields, "attr_interleave", get_args(Interleave))
    names = ["svo", *(stream.name for stream in streams_of(attributes, interleave))]
    extension = fields.get("voxlume", {})
    if not isinstance(extension, dict):
        raise VoxelFileError("the header's voxlume entry is not an object")
    return Header(
        num_voxels,
        chunk_size,
        _choice(fields, "filter", get_args(Filter)),
        _choice(fields, "compression", get_args(Compression)),
        interleave,
        attributes,
        _chunks(fields.get("chunks"), names, num_voxels, MAX_RESOLUTION // chunk_size, num_bytes),
        extension,
    )


def parse_range(value: object, num_bytes: int, what: str) -> Range:
    """A checked [offset, length] pair as a range.

    Raises
    ------
    VoxelFileError : not two integers, or outside ``num_bytes``.
    """
    if not (isinstance(value, list) and len(value) == 2 and all(type(x) is int for x in value)):
        raise VoxelFileError(f"{what} is not an [offset, length] pair")
    offset, length = value
    if offset < 0 or length < 0 or offset + length > num_bytes:
        raise VoxelFileError(f"{what} points outside the file; it is damaged or cut off")
    return offset, offset + length


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _integer(fields: Mapping[str, Any], key: str, low: int, high: int) -> int:
    value = fields.get(key)
    if type(value) is not int:
        raise VoxelFileError(f"the header's {key} is not an integer")
    if not low <= value <= high:
        raise VoxelFileError(f"the header's {key} is {_short(value)}, possible is {low} to {high}")
    return value


def _short(value: int) -> str:
    return str(value) if abs(value) < 10**18 else "absurd"


def _choice(fields: Mapping[str, Any], key: str, choices: tuple[Any, ...]) -> Any:
    value = fields.get(key)
    if value not in choices:
        raise VoxelFileError(f"the header's {key} is none of {', '.join(choices)}")
    return value


def _attributes(value: object) -> tuple[tuple[str, int], ...]:
    if not isinstance(value, list):
        raise VoxelFileError("the header's attr is not a list")
    found: dict[str, int] = {}
    for entry in value:
        if not (isinstance(entry, list) and len(entry) == 2):
            raise VoxelFileError("an attribute is not a [name, channels] pair")
        name, channels = entry
        if not isinstance(name, str) or name in found or name in ("idx", "ptr", "svo"):
            raise VoxelFileError("an attribute has no name of its own")
        if type(channels) is not int or not 1 <= channels <= MAX_CHANNELS:
            raise VoxelFileError("an attribute has an impossible number of channels")
        found[name] = channels
    if sum(found.values()) > MAX_CHANNELS:
        raise VoxelFileError(f"the attributes have more than {MAX_CHANNELS} channels together")
    return tuple(found.items())


def _chunks(
    value: object, names: list[str], num_voxels: int, chunks_per_axis: int, num_bytes: int
) -> tuple[Chunk, ...]:
    if not isinstance(value, list):
        raise VoxelFileError("the header's chunks are not a list")
    if len(value) > num_voxels:
        raise VoxelFileError("the header lists more chunks than voxels")
    chunks, spans, seen = [], [], set()
    for entry in value:
        if not isinstance(entry, dict):
            raise VoxelFileError("a chunk is not an object")
        index = entry.get("idx")
        if not (isinstance(index, list) and len(index) == 3 and all(type(i) is int for i in index)):
            raise VoxelFileError("a chunk's idx is not three integers")
        if min(index) < 0 or max(index) >= chunks_per_axis:
            raise VoxelFileError("a chunk lies outside the largest grid")
        if tuple(index) in seen:
            raise VoxelFileError("a chunk occurs twice")
        seen.add(tuple(index))
        start, end = parse_range(entry.get("ptr"), num_bytes, "a chunk's ptr")
        spans.append((start, end))
        ranges = {}
        for name in names:
            low, high = parse_range(entry.get(name), end - start, f"a chunk's {name[:40]!r}")
            ranges[name] = (start + low, start + high)
        _check_apart(ranges.values())
        chunks.append(Chunk((index[0], index[1], index[2]), ranges))
    _check_apart(spans)
    return tuple(chunks)


def _check_apart(ranges: Iterable[Range]) -> None:
    ordered = sorted(r for r in ranges if r[0] < r[1])
    if any(before[1] > after[0] for before, after in pairwise(ordered)):
        raise VoxelFileError("two streams overlap")
