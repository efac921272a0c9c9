from __future__ import annotations

import itertools
import json
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import zstandard
from numpy.typing import NDArray

from tests.ovoxel.samples import ball
from tests.paths import PARITY_DIR, golden_tensors
from voxlume.errors import Cancelled, VoxelFileError
from voxlume.ovoxel.compression import Compression, compress
from voxlume.ovoxel.predict import Filter
from voxlume.ovoxel.vxz import Voxels, VxzOptions, read_vxz, write_vxz
from voxlume.ovoxel.vxz_header import Interleave

GOLDEN = sorted(PARITY_DIR.glob("*.vxz")) or [
    pytest.param(None, marks=pytest.mark.skip(f"no .vxz files in {PARITY_DIR}"))
]


@cache
def golden_arrays() -> dict[str, NDArray]:
    arrays = golden_tensors("ovoxel_materials")
    assert arrays is not None, "golden .vxz files without ovoxel_materials"
    return arrays


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and binary part."""
    start = struct.unpack(">I", data[4:8])[0]
    return json.loads(data[8:start]), data[start:]


def join(header: object, binary: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return b"VXZ\0" + struct.pack(">I", 8 + len(text)) + text + binary


def sample(**options: Any) -> bytes:
    grid = ball(20)
    rng = np.random.default_rng(0)
    attributes = {
        "a": rng.integers(0, 256, (len(grid.coords), 3)).astype(np.uint8),
        "b": rng.integers(0, 5, (len(grid.coords), 1)).astype(np.uint8),
    }
    return write_vxz(Voxels(grid.coords, attributes), VxzOptions(**{"chunk_size": 8, "level": 1, **options}))


def by_coordinate(voxels: Voxels) -> dict[str, NDArray]:
    order = np.lexsort(voxels.coords.T[::-1])
    return {"coords": voxels.coords[order], **{k: v[order] for k, v in voxels.attributes.items()}}


def assert_same(voxels: Voxels, expected: Voxels) -> None:
    left, right = by_coordinate(voxels), by_coordinate(expected)
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name])


def assert_refused(data: bytes, match: str | None = None, megabytes: float = 64) -> None:
    """One line, and no more memory than that on the way."""
    tracemalloc.start()
    try:
        with pytest.raises(VoxelFileError, match=match) as caught:
            read_vxz(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(str(caught.value).splitlines()) == 1
    assert peak < megabytes * 1e6


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: getattr(path, "stem", "none"))
def test_published_file(path: Path) -> None:
    voxels = read_vxz(path.read_bytes())
    prefix = path.stem.split("_")[0] + "."
    expected = {k[len(prefix) :]: v for k, v in golden_arrays().items() if k.startswith(prefix)}
    coords = expected.pop("coords")
    assert_same(voxels, Voxels(coords, expected))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: getattr(path, "stem", "none"))
def test_writing_as_published(path: Path) -> None:
    data = path.read_bytes()
    header, binary = split(data)
    fields = ("chunk_size", "filter", "compression", "compression_level", "attr_interleave")
    voxels = read_vxz(data)
    written_header, written_binary = split(write_vxz(voxels, VxzOptions(*(header[f] for f in fields))))
    assert list(written_header) == list(header)
    if header["compression"] == "none":  # a compressor's version may change its bytes
        assert written_header == header
        assert written_binary == binary
    assert_same(read_vxz(join(written_header, written_binary)), voxels)


@pytest.mark.parametrize("interleave", get_args(Interleave))
@pytest.mark.parametrize("compression", get_args(Compression))
@pytest.mark.parametrize("method", get_args(Filter))
def test_round_trip(method: Filter, compression: Compression, interleave: Interleave) -> None:
    grid = ball(20)
    rng = np.random.default_rng(1)
    order = rng.permutation(len(grid.coords))
    attributes = {
        "a": rng.integers(0, 256, (len(order), 3)).astype(np.uint8),
        "b": rng.integers(0, 5, (len(order), 1)).astype(np.uint8),
    }
    voxels = Voxels(grid.coords[order], attributes, {"note": [1, "x"]}, attributes["a"][:, :2])
    # Chunks of two voxels make a thousand streams, which only the fast compressors are asked for.
    for chunk_size in (2, 8, 64) if compression in ("none", "zstd") else (8, 64):
        data = write_vxz(voxels, VxzOptions(chunk_size, method, compression, 1, interleave))
        back = read_vxz(data)
        assert_same(back, voxels)
        assert back.extension["note"] == [1, "x"]
        assert back.extra is not None
        np.testing.assert_array_equal(back.extra, back.attributes["a"][:, :2])
        assert write_vxz(back, VxzOptions(chunk_size, method, compression, 1, interleave)) == data


@pytest.mark.parametrize("interleave", get_args(Interleave))
def test_only_wanted_attributes_are_unpacked(interleave: Interleave) -> None:
    data = sample(interleave=interleave)
    assert list(read_vxz(data, ["b", "c"]).attributes) == ["b"]
    np.testing.assert_array_equal(read_vxz(data, ["b"]).attributes["b"], read_vxz(data).attributes["b"])


def test_no_voxels() -> None:
    empty = Voxels(np.zeros((0, 3), np.int32), {"a": np.zeros((0, 3), np.uint8)})
    back = read_vxz(write_vxz(empty))
    assert back.coords.shape == (0, 3)
    assert back.attributes["a"].shape == (0, 3)


def test_order_of_keys_and_unknown_keys_do_not_matter() -> None:
    header, binary = split(sample())
    shuffled = {key: header[key] for key in reversed(header)}
    shuffled["chunks"] = [{**dict(reversed(c.items())), "more": None} for c in header["chunks"][::-1]]
    shuffled["new"] = {"anything": [1, 2, 3]}
    for optional in ("compression_level", "compress_ratio", "raw_size", "compressed_size"):
        del shuffled[optional]
    assert_same(read_vxz(join(shuffled, binary)), read_vxz(sample()))


def test_cancelling() -> None:
    voxels = read_vxz(sample())
    with pytest.raises(Cancelled):
        read_vxz(sample(), progress=lambda done, total, what: False)
    with pytest.raises(Cancelled):
        write_vxz(voxels, VxzOptions(8), progress=lambda done, total, what: False)


@pytest.mark.parametrize("coords", [[[0, 0, 0], [0, 0, 0]], [[0, 0, -1], [0, 0, 1]]])
def test_writing_refuses_impossible_voxels(coords: list[list[int]]) -> None:
    with pytest.raises(ValueError, match=r"twice|lie in"):
        write_vxz(Voxels(np.array(coords, np.int32), {}))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: getattr(path, "stem", "none"))
def test_truncation(path: Path) -> None:
    data = path.read_bytes()
    for place in range(100):
        with pytest.raises(VoxelFileError) as caught:
            read_vxz(data[: len(data) * place // 100])
        assert "\n" not in str(caught.value)


def change(field: str, value: object) -> Callable[[dict[str, Any]], None]:
    def apply(header: dict[str, Any]) -> None:
        at: Any = header
        *path, last = field.split(".")
        for key in path:
            at = at[int(key) if key.isdigit() else key]
        at[int(last) if last.isdigit() else last] = value

    return apply


BIG = 10**15
BAD_FIELDS = [
    *itertools.product(
        ("num_voxel", "chunk_size", "raw_size", "compressed_size"),
        (-1, BIG, 10**400, 1.5, "7", None, True, [], {}),
    ),
    *itertools.product(("filter", "compression", "attr_interleave"), ("best", None, 3, [], {})),
    *itertools.product(("attr", "chunks", "attr.0", "chunks.0"), (None, 3, "x", {}, [[]], [["a"]])),
    *itertools.product(("attr.0.1",), (0, -3, 65, BIG, 2.0, True)),
    *itertools.product(("attr.0.0",), (None, 3, "b", "svo", "ptr", "other")),
    *itertools.product(("chunks.0.idx",), ([0, 0], [0, 0, -1], [0, 0, BIG], [0, 0, 0.5], 0, None)),
    *itertools.product(
        ("chunks.0.ptr", "chunks.0.svo", "chunks.0.a"),
        (None, [0], [-1, 5], [5, -1], [BIG, 1], [1, BIG], [10**400, 1], [0.0, 5], [0, 5, 6], "xx"),
    ),
    ("num_voxel", 5),
    ("num_voxel", 4_000_000),
    ("num_voxel", 0),
    ("chunk_size", 3),
    ("chunk_size", 4),
    ("chunk_size", 16),
    ("chunk_size", 1 << 20),
    ("chunks", []),
    ("voxlume", 5),
    ("voxlume", {"extra": 5}),
    ("voxlume", {"extra": {"channels": 2, "ptr": [0, BIG]}}),
    ("voxlume", {"extra": {"channels": BIG, "ptr": [0, 5]}}),
    ("voxlume", {"extra": {"channels": 2, "ptr": [0, 5]}}),
]


@pytest.mark.parametrize(("field", "value"), BAD_FIELDS, ids=lambda x: str(x)[:20])
def test_impossible_header_field(field: str, value: object) -> None:
    header, binary = split(sample())
    change(field, value)(header)
    assert_refused(join(header, binary))


@pytest.mark.parametrize("field", ["num_voxel", "chunk_size", "filter", "compression", "attr", "chunks"])
def test_missing_header_field(field: str) -> None:
    header, binary = split(sample())
    del header[field]
    assert_refused(join(header, binary), field)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"VXZ",
        b"VXZ\0\0\0\0",
        b"VXZ\1\0\0\0\x0a{}",
        b"VXZ\0\0\0\0\0{}",
        b"VXZ\0\xff\xff\xff\xff{}",
        b"GLB\0\0\0\0\x0a{}",
        join(b"", b""),
        join(b"[]", b""),
        join(b"\xff\xfe", b""),
        join(b'{"num_voxel": NaN}', b""),
        join(b'{"num_voxel": 1' + b"0" * 10_000 + b"}", b""),
        join(b"[" * 200_000, b""),
    ],
)
def test_not_a_voxel_file(data: bytes) -> None:
    assert_refused(data)


def test_overlapping_streams() -> None:
    header, binary = split(sample())
    header["chunks"][0]["a"] = [header["chunks"][0]["svo"][0], header["chunks"][0]["a"][1]]
    assert_refused(join(header, binary), "overlap")
    header, binary = split(sample())
    header["chunks"][1]["ptr"] = header["chunks"][0]["ptr"]
    for key in ("svo", "a", "b"):
        header["chunks"][1][key] = header["chunks"][0][key]
    assert_refused(join(header, binary), "overlap")


def test_chunk_twice() -> None:
    header, binary = split(sample())
    header["chunks"][1]["idx"] = header["chunks"][0]["idx"]
    assert_refused(join(header, binary), "twice")


def one_chunk(svo: bytes, a: bytes, num_voxels: int, compression: str, chunk_size: int) -> bytes:
    chunk = {"idx": [0, 0, 0], "svo": [0, len(svo)], "a": [len(svo), len(a)], "ptr": [0, len(svo + a)]}
    return join(
        {
            "num_voxel": num_voxels,
            "chunk_size": chunk_size,
            "filter": "none",
            "compression": compression,
            "attr_interleave": "as_is",
            "attr": [["a", 1]],
            "chunks": [chunk],
        },
        svo + a,
    )


@pytest.mark.parametrize("compression", ["deflate", "lzma", "zstd"])
def test_bomb_in_an_attribute(compression: Compression) -> None:
    svo, bomb = compress(b"\xff", compression, 6), compress(bytes(20_000_000), compression, 6)
    assert_refused(one_chunk(svo, bomb, 8, compression, 2), "more than", megabytes=8)


@pytest.mark.parametrize("compression", ["deflate", "lzma", "zstd"])
def test_bomb_in_an_octree(compression: Compression) -> None:
    bomb, a = compress(b"\xff" * 20_000_000, compression, 6), compress(bytes(8), compression, 6)
    for num_voxels, chunk_size in ((8, 2), (5000, 1024)):
        assert_refused(one_chunk(bomb, a, num_voxels, compression, chunk_size), "more than", megabytes=8)
    # A full cube of 2^30 voxels, properly encoded, in a few kilobytes.
    assert_refused(one_chunk(bomb, a, 1 << 30, compression, 1024), "num_voxel", megabytes=8)


def test_zstandard_frame_that_claims_gigabytes() -> None:
    frame = bytearray(zstandard.ZstdCompressor(level=1, write_content_size=True).compress(bytes(70_000)))
    parameters = zstandard.get_frame_parameters(bytes(frame))
    assert parameters.content_size == 70_000
    # The content size stands little-endian behind the magic number, the descriptor and a window byte.
    place = bytes(frame).index(struct.pack("<I", 70_000))
    frame[place : place + 4] = struct.pack("<I", 0xF0000000)
    svo = compress(b"\xff", "zstd", 1)
    assert_refused(one_chunk(svo, bytes(frame), 8, "zstd", 2), megabytes=8)


def test_stream_with_too_few_bytes() -> None:
    assert_refused(one_chunk(b"\xff", b"1234567", 8, "none", 2), "needs 8")
    assert_refused(one_chunk(b"\xff", b"123456789", 8, "none", 2), "more than")
    deflated = zlib.compressobj(9, zlib.DEFLATED, -15)
    cut = (deflated.compress(b"12345678") + deflated.flush())[:-3]
    assert_refused(one_chunk(compress(b"\xff", "deflate", 1), cut, 8, "deflate", 2), r"cut off|needs")


def test_octree_that_claims_more_voxels() -> None:
    assert_refused(one_chunk(b"\xff", b"1234567", 7, "none", 2), "octree")
    assert_refused(one_chunk(b"\xff\xff", b"12345678", 8, "none", 4), "octree")
