"""The meshopt decoder against the reference encoder and decoder, a real file, and damage."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.paths import ASSETS_DIR, SHARED_MISSING
from voxlume.errors import AssetError
from voxlume.mesh import meshopt
from voxlume.mesh.meshopt import decode_buffer_view

# Made by the reference library from tests/data/make_meshopt.mjs.
CASES = json.loads((Path(__file__).parent.parent / "data" / "meshopt.json").read_text())


def decode(case: dict[str, Any], stream: bytes | None = None) -> bytes:
    stream = base64.b64decode(case["stream"]) if stream is None else stream
    return decode_buffer_view(stream, case["count"], case["stride"], case["mode"], case["filter"])


def label(case: dict[str, Any]) -> str:
    return f"{case['mode']}-{case['filter']}-{case['name']}-{case['count']}x{case['stride']}".replace(
        " ", "_"
    )


@pytest.mark.parametrize("case", CASES, ids=label)
def test_agrees_with_the_reference_decoder(case: dict[str, Any]) -> None:
    expected = base64.b64decode(case["decoded"])
    if case["filter"] in ("NONE", "EXPONENTIAL"):
        assert decode(case) == expected
    else:  # the specification leaves the last unit to the implementation
        dtype = np.int8 if case["stride"] == 4 else np.int16
        difference = np.frombuffer(decode(case), dtype) - np.frombuffer(expected, dtype)
        assert np.abs(difference).max() <= 1


def test_the_example_of_the_specification() -> None:
    group = bytes.fromhex("175ff0bc77a9210034b5")
    # Version 0: one byte position holds the example (mode 2: 4 bits), three hold zeros.
    stream = b"\xa0" + b"\x02" + group + b"\x00" * 3 + bytes(28) + b"\x05\0\0\0"
    values = np.frombuffer(decode_buffer_view(stream, 16, 4, "ATTRIBUTES"), np.uint8).reshape(16, 4)
    deltas = [-1, -4, -3, 26, -91, 0, -6, 6, -4, -4, 5, -5, 1, -1, 0, 0]
    np.testing.assert_array_equal(values[:, 0], (5 + np.cumsum(deltas)) % 256)
    assert not values[:, 1:].any()


def test_hand_made_triangles() -> None:
    # A new triangle (0, 1, 2), then across its newest edge with a new vertex, then three explicit ones.
    data = b"\xff" + bytes([20, 2, 2])  # zigzag: +10, +1, +1
    stream = b"\xe1" + b"\xf0\x00\xff" + data + bytes(16)
    indices = np.frombuffer(decode_buffer_view(stream, 9, 4, "TRIANGLES"), np.uint32)
    assert indices.tolist() == [0, 1, 2, 0, 2, 3, 10, 11, 12]


def test_hand_made_indices() -> None:
    # Two baselines: +3 on the first, +5 on the second, -1 on the first, then a five-byte number.
    big = (2**31 - 3) << 2
    varint = bytes([(big >> s & 127) | 128 for s in (0, 7, 14, 21)]) + bytes([big >> 28 & 15])
    stream = b"\xd1" + bytes([3 << 2, 5 << 2 | 1, 0b10]) + varint + bytes(4)
    indices = np.frombuffer(decode_buffer_view(stream, 4, 4, "INDICES"), np.uint32)
    assert indices.tolist() == [3, 5, 2, (2 + (big % 2**32 >> 2)) % 2**32]


@pytest.mark.skipif(not ASSETS_DIR.is_dir(), reason=SHARED_MISSING)
def test_real_files() -> None:
    checked = 0
    for path in sorted(ASSETS_DIR.glob("*.glb")):
        blob = path.read_bytes()
        length = struct.unpack_from("<I", blob, 12)[0]
        document = json.loads(blob[20 : 20 + length])
        binary = blob[28 + length :]
        for accessor in document.get("accessors", []):
            view = document["bufferViews"][accessor.get("bufferView", 0)]
            packed = view.get("extensions", {}).get("EXT_meshopt_compression")
            if packed is None or accessor["componentType"] not in (5123, 5125, 5126):
                continue
            start = packed.get("byteOffset", 0)
            raw = decode_buffer_view(
                binary[start : start + packed["byteLength"]],
                packed["count"],
                packed["byteStride"],
                packed["mode"],
                packed.get("filter", "NONE"),
            )
            assert len(raw) == view["byteLength"]
            if "min" not in accessor:
                continue
            dtype = {5123: "<u2", 5125: "<u4", 5126: "<f4"}[accessor["componentType"]]
            width = len(accessor["min"])
            rows = np.ndarray(
                (accessor["count"], width),
                dtype,
                raw,
                accessor.get("byteOffset", 0),
                (packed["byteStride"], np.dtype(dtype).itemsize),
            )
            np.testing.assert_allclose(rows.min(0), accessor["min"], rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(rows.max(0), accessor["max"], rtol=1e-5, atol=1e-6)
            checked += 1
    if not checked:
        pytest.skip("no file there uses EXT_meshopt_compression")


@pytest.mark.parametrize("case", CASES[::7], ids=label)
def test_truncated_streams(case: dict[str, Any]) -> None:
    stream = base64.b64decode(case["stream"])
    for length in np.unique(np.linspace(0, len(stream) - 1, 40).astype(int)):
        with pytest.raises(AssetError):
            decode(case, stream[:length])
    with pytest.raises(AssetError):
        decode(case, stream + b"\0")


def test_fuzzed_streams() -> None:
    rng = np.random.default_rng(0)
    refused = 0
    for i in range(3000):
        case = CASES[i % len(CASES)]
        stream = bytearray(base64.b64decode(case["stream"]))
        for at in rng.integers(0, len(stream), 1 + i % 4):
            stream[at] = rng.integers(256)
        try:
            assert len(decode(case, bytes(stream))) == case["count"] * case["stride"]
        except AssetError:
            refused += 1
    assert 0 < refused < 3000


def test_kernels_never_read_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same fuzz through the uncompiled functions, where a read past the end is an IndexError."""
    for name in ("_unpack_deltas", "_unpack_triangles", "_unpack_indices", "_read_varint", "_unzigzag"):
        monkeypatch.setattr(meshopt, name, getattr(meshopt, name).py_func)
    rng = np.random.default_rng(1)
    small = [c for c in CASES if len(c["stream"]) < 700]
    for i in range(300):
        case = small[i % len(small)]
        stream = bytearray(base64.b64decode(case["stream"]))
        stream[rng.integers(len(stream))] = rng.integers(256)
        stream = stream[: len(stream) - rng.integers(0, 3)]
        try:
            decode(case, bytes(stream))
        except AssetError:
            continue


@pytest.mark.parametrize(
    ("count", "stride", "mode", "filter"),
    [
        (2**40, 4, "ATTRIBUTES", "NONE"),
        (2**27, 4, "ATTRIBUTES", "NONE"),
        (2**28 - 1, 4, "TRIANGLES", "NONE"),
        (2**28, 4, "INDICES", "NONE"),
        (0, 4, "ATTRIBUTES", "NONE"),
        (-3, 4, "TRIANGLES", "NONE"),
        (4, 6, "ATTRIBUTES", "NONE"),
        (4, 260, "ATTRIBUTES", "NONE"),
        (4, 12, "ATTRIBUTES", "OCTAHEDRAL"),
        (4, 4, "ATTRIBUTES", "QUATERNION"),
        (4, 4, "TRIANGLES", "NONE"),
        (3, 4, "TRIANGLES", "OCTAHEDRAL"),
        (3, 8, "INDICES", "NONE"),
        (3, 4, "SQUARES", "NONE"),
        (3, 4, "ATTRIBUTES", "SEPIA"),
    ],
)
def test_impossible_layouts(count: int, stride: int, mode: str, filter: str) -> None:
    header = {"ATTRIBUTES": 0xA1, "TRIANGLES": 0xE1, "INDICES": 0xD1}.get(mode, 0)
    with pytest.raises(AssetError):
        decode_buffer_view(bytes([header]) + bytes(100), count, stride, mode, filter)
