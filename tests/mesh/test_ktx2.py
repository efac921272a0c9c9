"""KTX2 textures against the reference transcoder, a real file that also has PNGs, and damage."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from numpy.typing import NDArray
from PIL import Image

from tests.paths import ASSETS_DIR, SHARED_MISSING
from voxlume.errors import AssetError
from voxlume.mesh import etc1s, uastc
from voxlume.mesh.ktx2 import decode_ktx2

# Made by the reference encoder and transcoder from tests/data/make_ktx2.mjs. The case "uastc every mode"
# holds random blocks of all 19 modes with all 60 partition patterns.
CASES = json.loads((Path(__file__).parent.parent / "data" / "ktx2.json").read_text())
FILES = [base64.b64decode(case["ktx2"]) for case in CASES]
LIMIT = 1 << 20
HEADER = struct.Struct("<12s9I4I2Q")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"].replace(" ", "_"))
def test_agrees_with_the_reference_transcoder(case: dict[str, Any]) -> None:
    expected = np.frombuffer(base64.b64decode(case["rgba"]), np.uint8)
    image = decode_ktx2(base64.b64decode(case["ktx2"]), max_pixels=LIMIT)
    np.testing.assert_array_equal(image, expected.reshape(case["height"], case["width"], 4))


def _textures_with_fallback() -> list[tuple[str, bytes, bytes]]:
    """(label, PNG or JPEG, KTX2) of every texture in the collection that is stored both ways."""
    found = []
    for path in sorted(ASSETS_DIR.glob("*.glb")):
        blob = path.read_bytes()
        length = struct.unpack_from("<I", blob, 12)[0]
        document = json.loads(blob[20 : 20 + length])
        binary = blob[28 + length :]

        def stored(image: int, document: Any = document, binary: bytes = binary) -> bytes:
            view = document["bufferViews"][document["images"][image]["bufferView"]]
            start = view.get("byteOffset", 0)
            return binary[start : start + view["byteLength"]]

        for i, texture in enumerate(document.get("textures", [])):
            basis = texture.get("extensions", {}).get("KHR_texture_basisu")
            if basis and "source" in texture:
                found.append((f"{path.stem}-{i}", stored(texture["source"]), stored(basis["source"])))
    return found


@pytest.mark.skipif(not ASSETS_DIR.is_dir(), reason=SHARED_MISSING)
def test_real_textures_look_like_their_fallback() -> None:
    textures = _textures_with_fallback()
    if not textures:
        pytest.skip("no file there has a texture both as KTX2 and as PNG")
    for label, plain, ktx2 in textures:
        expected = np.asarray(Image.open(io.BytesIO(plain)).convert("RGBA"), np.float64)
        image = decode_ktx2(ktx2, max_pixels=1 << 24)
        assert image.shape == expected.shape
        error = np.mean((image - expected) ** 2)
        assert 10 * np.log10(255**2 / error) > 33, label


def container(vk_format: int, width: int, height: int, level: bytes, scheme: int = 0, **change: int) -> bytes:
    """A KTX2 file with one level and an empty basic descriptor block."""
    descriptor = struct.pack("<IIHH16x", 28, 0, 2, 24)
    fields = {"depth": 0, "layers": 0, "faces": 1, "levels": 1} | change
    start = HEADER.size + 24
    header = HEADER.pack(
        b"\xabKTX 20\xbb\r\n\x1a\n",
        *(vk_format, 1, width, height, *fields.values(), scheme),
        *(start, len(descriptor), 0, 0, 0, 0),
    )
    index = struct.pack("<3Q", start + len(descriptor), len(level), 0)
    return header + index + descriptor + level


@pytest.mark.parametrize(
    ("vk_format", "order"),
    [
        (9, "rrr1"),
        (16, "rg01"),
        (23, "rgb1"),
        (29, "rgb1"),
        (30, "bgr1"),
        (37, "rgba"),
        (43, "rgba"),
        (50, "bgra"),
    ],
)
@pytest.mark.parametrize("scheme", [0, 2, 3])
def test_plain_formats(vk_format: int, order: str, scheme: int) -> None:
    channels = {9: 1, 16: 2, 23: 3, 29: 3, 30: 3}.get(vk_format, 4)
    pixels = np.random.default_rng(vk_format).integers(0, 256, (5, 3, channels), np.uint8)
    pack = {0: bytes, 2: zstandard.compress, 3: zlib.compress}[scheme]
    image = decode_ktx2(container(vk_format, 3, 5, pack(pixels.tobytes()), scheme), max_pixels=15)
    for k, letter in enumerate(order):
        expected = {"0": 0, "1": 255}[letter] if letter in "01" else pixels[:, :, "rgba".index(letter)]
        np.testing.assert_array_equal(image[:, :, k], expected)


def test_partition_patterns_of_the_specification() -> None:
    def texels(i: int) -> str:
        return "".join(map(str, uastc._PATTERNS[i]))

    assert [texels(i) for i in (0, 29)] == ["0011001100110011", "1001001101101100"]
    assert [texels(i) for i in (30, 40)] == ["0000000011221122", "0022001100110022"]
    assert [texels(i) for i in (41, 59)] == ["0000111100000000", "1111011100000000"]


@pytest.mark.parametrize(
    "file",
    [
        b"",
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        container(37, 0, 4, b""),
        container(37, 4, 0, b""),
        container(37, 4, 4, bytes(63)),
        container(37, 4, 4, bytes(65)),
        container(37, 4, 4, bytes(64), depth=4),
        container(37, 4, 4, bytes(64), layers=2),
        container(37, 4, 4, bytes(64), faces=6),
        container(37, 4, 4, bytes(64), scheme=7),
        container(37, 4, 4, bytes(64), scheme=1),
        container(37, 4, 4, b"no frame", scheme=2),
        container(37, 4, 4, b"no stream", scheme=3),
        container(97, 4, 4, bytes(128)),
        container(37, 2**31, 2**31, bytes(64)),
        container(37, 1025, 1024, bytes(64)),
    ],
)
def test_refused(file: bytes) -> None:
    with pytest.raises(AssetError):
        decode_ktx2(file, max_pixels=LIMIT)


@pytest.mark.parametrize("scheme", [2, 3])
def test_a_bomb_is_cut_short(scheme: int) -> None:
    pack = {2: zstandard.compress, 3: zlib.compress}[scheme]
    bomb = container(37, 4, 4, pack(bytes(1 << 26)), scheme)
    with pytest.raises(AssetError, match="65 bytes instead of 64"):
        decode_ktx2(bomb, max_pixels=LIMIT)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(len(file)))
def test_truncated_files(file: bytes) -> None:
    for length in np.unique(np.linspace(0, len(file) - 1, 60).astype(int)):
        try:
            decode_ktx2(file[:length], max_pixels=LIMIT)
        except AssetError:
            continue
        # The largest level is stored last: only its padding may be missing.
        assert length >= len(file) - 7


def mutations(count: int, seed: int) -> list[bytes]:
    rng = np.random.default_rng(seed)
    result = []
    for i in range(count):
        file = bytearray(FILES[i % len(FILES)])
        for _ in range(1 + i % 3):
            file[rng.integers(0, len(file))] = rng.integers(256)
        result.append(bytes(file))
    return result


def _survives(file: bytes) -> bool:
    try:
        image: NDArray[np.uint8] = decode_ktx2(file, max_pixels=LIMIT)
    except AssetError:
        return False
    return image.dtype == np.uint8 and image.shape[2] == 4


def test_fuzzed_files() -> None:
    outcomes = [_survives(file) for file in mutations(2000, 0)]
    assert any(outcomes)
    assert not all(outcomes)


def test_kernels_never_read_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same fuzz through the uncompiled functions, where a read past the end is an IndexError."""
    for module in (etc1s, uastc):
        for name, function in list(vars(module).items()):
            if hasattr(function, "py_func"):
                monkeypatch.setattr(module, name, function.py_func)
    small = [i for i, case in enumerate(CASES) if case["width"] * case["height"] <= 16]
    rng = np.random.default_rng(5)
    for i in range(150):
        file = bytearray(FILES[small[i % len(small)]])
        file[rng.integers(HEADER.size, len(file))] = rng.integers(256)
        _survives(bytes(file))
