"""Reading and writing ``.vxz``, the published compressed format of voxels with uint8 attributes.

``VXZ``, a version byte 0, the offset of the binary part (big-endian uint32), a JSON header, the binary
part. The grid is cut into cubic chunks; each has an octree of its voxels and the attributes in Morton order,
filtered and compressed.

This module knows arrays of bytes only; what they mean is in :mod:`voxlume.ovoxel.files`. What the published
header has no place for stands under an extra key ``voxlume``, which other readers pass over: any JSON
entries, and one more byte stream ``extra`` at the end of the binary part.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxlume.errors import VoxelFileError
from voxlume.ovoxel.compression import Compression, compress, decompress
from voxlume.ovoxel.index import check_range, is_ascending
from voxlume.ovoxel.morton import chunk_keys, decode_morton
from voxlume.ovoxel.octree import count_leaves, decode_octree, encode_octree
from voxlume.ovoxel.predict import (
    Filter,
    from_differences,
    predict_from_neighbors,
    predict_from_parents,
    to_differences,
)
from voxlume.ovoxel.vxz_header import (
    Chunk,
    Header,
    Interleave,
    Stream,
    parse_header,
    parse_range,
    streams_of,
)
from voxlume.progress import Progress, report

MAGIC = b"VXZ"
PREFIX = struct.Struct(">3sBI")


@dataclass(frozen=True, eq=False)
class Voxels:
    """Voxels as a ``.vxz`` file holds them.

    Attributes
    ----------
    coords : int32 (n, 3); a reader gives them chunk by chunk (x slowest) and in Morton order inside.
    attributes : uint8 (n, channels) arrays by name.
    extension : JSON entries under the header's ``voxlume`` key.
    extra : bytes that belong to the extension; uint8 (n, channels), or None.
    """

    coords: NDArray[np.int32]
    attributes: Mapping[str, NDArray[np.uint8]]
    extension: Mapping[str, Any] = field(default_factory=dict)
    extra: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class VxzOptions:
    """How to write; the defaults give the smallest files that take seconds, not minutes, at 1024^3."""

    chunk_size: int = 256
    filter: Filter = "parent"
    compression: Compression = "zstd"
    level: int = 9
    interleave: Interleave = "as_is"


def write_vxz(voxels: Voxels, options: VxzOptions | None = None, progress: Progress | None = None) -> bytes:
    """A ``.vxz`` file of voxels in any order; the reader gives them back in the file's order.

    Raises
    ------
    ValueError : coordinates out of range, or one occurs twice.
    Cancelled : ``progress`` asked to stop.
    """
    options = options or VxzOptions()
    levels = options.chunk_size.bit_length() - 1
    check_range(voxels.coords)
    keys = chunk_keys(np.ascontiguousarray(voxels.coords, np.int32), levels)
    order = np.argsort(keys)
    keys = keys[order]
    if not is_ascending(keys):
        raise ValueError("a voxel coordinate occurs twice")
    attributes = tuple((name, values.shape[1]) for name, values in voxels.attributes.items())
    streams = streams_of(attributes, options.interleave)
    starts = np.flatnonzero(np.diff(keys >> 3 * levels, prepend=-1))
    bounds = [*starts.tolist(), len(keys)]

    def encode(span: tuple[int, int]) -> list[bytes]:
        rows = order[span[0] : span[1]]
        columns = [
            np.concatenate([voxels.attributes[name][rows, i : i + n] for name, i, n in stream.parts], 1)
            for stream in streams
        ]
        return _encode_chunk(keys[span[0] : span[1]] & ((1 << 3 * levels) - 1), columns, options)

    names = ["svo", *(stream.name for stream in streams)]
    binary: list[bytes] = []
    chunks, written = [], 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for (start, end), encoded in zip(pairwise(bounds), pool.map(encode, pairwise(bounds)), strict=True):
            report(progress, end, len(keys), "writing voxels")
            entry: dict[str, Any] = {"idx": (voxels.coords[order[start]] >> levels).tolist()}
            offset = 0
            for name, data in zip(names, encoded, strict=True):
                entry[name] = [offset, len(data)]
                offset += len(data)
            entry["ptr"] = [written, offset]
            written += offset
            chunks.append(entry)
            binary += encoded
    extension = dict(voxels.extension)
    if voxels.extra is not None:
        data = compress(voxels.extra[order].T.tobytes(), options.compression, options.level)
        extension["extra"] = {"channels": voxels.extra.shape[1], "ptr": [written, len(data)]}
        written += len(data)
        binary.append(data)
    raw_size = len(keys) * (12 + sum(channels for _, channels in attributes))
    header: dict[str, Any] = {
        "num_voxel": len(keys),
        "chunk_size": options.chunk_size,
        "filter": options.filter,
        "compression": options.compression,
        "compression_level": options.level,
        "raw_size": raw_size,
        "compressed_size": written,
        "compress_ratio": raw_size / max(written, 1),
        "attr_interleave": options.interleave,
        "attr": [list(attribute) for attribute in attributes],
        "chunks": chunks,
    }
    if extension:
        header["voxlume"] = extension
    text = json.dumps(header, allow_nan=False).encode()
    return b"".join([PREFIX.pack(MAGIC, 0, PREFIX.size + len(text)), text, *binary])


def read_vxz(data: bytes, names: Collection[str] | None = None, progress: Progress | None = None) -> Voxels:
    """The voxels of a ``.vxz`` file.

    Parameters
    ----------
    names : attributes to unpack; None unpacks all, the others are passed over.

    Raises
    ------
    VoxelFileError : not a ``.vxz`` file, damaged, cut off, or claiming more than its size can hold; raised
        before memory is taken for the claim.
    Cancelled : ``progress`` asked to stop.
    """
    if len(data) < PREFIX.size or not data.startswith(MAGIC):
        raise VoxelFileError("not a .vxz file")
    _, version, start = PREFIX.unpack_from(data)
    if version != 0:
        raise VoxelFileError(f"this is version {version} of the .vxz format; only version 0 is known")
    if not PREFIX.size <= start <= len(data):
        raise VoxelFileError("the file ends inside its header; it is cut off")
    binary = memoryview(data)[start:]
    header = parse_header(data[PREFIX.size : start], len(binary))
    codes = _read_octrees(header, binary)
    bounds = np.cumsum([0, *map(len, codes)]).tolist()
    coords = np.empty((bounds[-1], 3), np.int32)
    wanted = {
        name: np.empty((bounds[-1], channels), np.uint8)
        for name, channels in header.attributes
        if names is None or name in names
    }
    streams = [
        stream
        for stream in streams_of(header.attributes, header.interleave)
        if any(part[0] in wanted for part in stream.parts)
    ]

    def decode(number: int) -> None:
        low, high = bounds[number], bounds[number + 1]
        chunk = header.chunks[number]
        decode_morton(codes[number], np.array(chunk.index) * header.chunk_size, coords[low:high])
        outputs = {name: values[low:high] for name, values in wanted.items()}
        _decode_chunk(header, chunk, binary, codes[number], streams, outputs)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            for number, _ in enumerate(pool.map(decode, range(len(codes)))):
                report(progress, bounds[number + 1], bounds[-1], "reading voxels")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return Voxels(coords, wanted, header.extension, _read_extra(header, binary))


def _encode_chunk(
    codes: NDArray[np.int64], columns: list[NDArray[np.uint8]], options: VxzOptions
) -> list[bytes]:
    """The compressed octree of ascending Morton codes (n,) and of each stream's values (n, c)."""
    levels = options.chunk_size.bit_length() - 1
    if options.filter != "none":
        source, place = _predictors(options.filter, codes, levels)
        columns = [to_differences(values, source, place) for values in columns]
    streams = [encode_octree(codes, levels), *columns]
    return [compress(stream.tobytes(), options.compression, options.level) for stream in streams]


def _read_octrees(header: Header, binary: memoryview) -> list[NDArray[np.int64]]:
    """Morton codes of the voxels of each chunk, as many as the header says in all."""
    codes = []
    left = header.num_voxels
    for chunk in header.chunks:
        low, high = chunk.ranges["svo"]
        # Each voxel has at most one node of its own on every level.
        data = decompress(bytes(binary[low:high]), header.compression, left * header.levels)
        masks = np.frombuffer(data, np.uint8)
        leaves = count_leaves(masks, header.levels, left)
        if leaves < 0:
            raise VoxelFileError("a chunk's octree is damaged or holds more voxels than the header says")
        codes.append(decode_octree(masks, header.levels, leaves))
        left -= leaves
    if left:
        raise VoxelFileError(f"the chunks hold {left} voxels less than the header says")
    return codes


def _decode_chunk(
    header: Header,
    chunk: Chunk,
    binary: memoryview,
    codes: NDArray[np.int64],
    streams: list[Stream],
    outputs: Mapping[str, NDArray[np.uint8]],
) -> None:
    """Unpack the attributes of one chunk into ``outputs``."""
    if header.filter != "none" and streams:
        source, place = _predictors(header.filter, codes, header.levels)
    for stream in streams:
        low, high = chunk.ranges[stream.name]
        expected = len(codes) * stream.channels
        data = decompress(bytes(binary[low:high]), header.compression, expected)
        if len(data) != expected:
            name = stream.name[:40]
            raise VoxelFileError(f"{name!r} has {len(data)} bytes in a chunk that needs {expected}")
        values = np.frombuffer(data, np.uint8).reshape(len(codes), stream.channels)
        if header.filter != "none":
            values = from_differences(values, source, place)
        column = 0
        for name, first, channels in stream.parts:
            if name in outputs:
                outputs[name][:, first : first + channels] = values[:, column : column + channels]
            column += channels


def _predictors(
    method: Filter, codes: NDArray[np.int64], levels: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    if method == "parent":
        source, place = predict_from_parents(codes, levels)
        return source, place
    return predict_from_neighbors(codes), np.arange(len(codes), dtype=np.int32)


def _read_extra(header: Header, binary: memoryview) -> NDArray[np.uint8] | None:
    entry = header.extension.get("extra")
    if entry is None:
        return None
    channels = entry.get("channels") if isinstance(entry, dict) else None
    if type(channels) is not int or not 1 <= channels <= 16:
        raise VoxelFileError("the header's voxlume entry has an impossible number of channels")
    low, high = parse_range(entry.get("ptr"), len(binary), "the header's voxlume entry")
    expected = header.num_voxels * channels
    data = decompress(bytes(binary[low:high]), header.compression, expected)
    if len(data) != expected:
        raise VoxelFileError(f"the voxlume stream has {len(data)} bytes where {expected} are needed")
    return np.frombuffer(data, np.uint8).reshape(channels, -1).T
