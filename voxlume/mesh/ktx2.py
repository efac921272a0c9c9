"""Read textures from KTX 2.0 files, as KHR_texture_basisu embeds them in glTF.

Source: Khronos KTX File Format Specification 2.0 and Data Format Specification 1.3.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np
import zstandard
from numpy.typing import NDArray

from voxlume.errors import AssetError
from voxlume.mesh.etc1s import decode_etc1s
from voxlume.mesh.uastc import decode_uastc

_IDENTIFIER = b"\xabKTX 20\xbb\r\n\x1a\n"
_HEADER = struct.Struct("<12s9I4I2Q")
_LEVEL = struct.Struct("<3Q")
_UNCOMPRESSED, _BASIS_LZ, _ZSTANDARD, _ZLIB = range(4)
_MODEL_ETC1S, _MODEL_UASTC = 163, 166
_ETC1S_RED, _ETC1S_GREEN = 3, 4
# Vulkan's 8-bit formats without compression, UNORM and SRGB: number of channels and whether BGR.
_PLAIN_FORMATS = {
    9: (1, False),
    15: (1, False),
    16: (2, False),
    22: (2, False),
    23: (3, False),
    29: (3, False),
    30: (3, True),
    36: (3, True),
    37: (4, False),
    43: (4, False),
    44: (4, True),
    50: (4, True),
}


def decode_ktx2(data: bytes, *, max_pixels: int) -> NDArray[np.uint8]:
    """The largest mip level of a two-dimensional KTX2 texture.

    Understands ETC1S with BasisLZ, UASTC (plain, Zstandard or zlib), and uncompressed 8-bit formats of
    one to four channels. Values are given as stored (no sRGB decoding); row 0 is the first row stored.

    Parameters
    ----------
    data : the whole file.
    max_pixels : refuse anything larger before memory is taken for it.

    Returns
    -------
    uint8 (h, w, 4); RGB textures get alpha 255, one-channel textures are grey.

    Raises
    ------
    AssetError : not a KTX2 file, damaged, too large, or of a kind that is not supported.
    """
    header = _parse_header(data)
    _check_size(header, max_pixels)
    if header.scheme == _BASIS_LZ:
        if header.color_model != _MODEL_ETC1S:
            raise AssetError("a KTX2 texture claims BasisLZ for a format other than ETC1S; export it again")
        return _decode_basis_lz(header)
    channels, reverse = _PLAIN_FORMATS.get(header.vk_format, (0, False))
    if channels:
        pixels = _level_bytes(header, header.width * header.height * channels)
        return _to_rgba(pixels.reshape(header.height, header.width, channels), reverse)
    if header.vk_format == 0 and header.color_model == _MODEL_UASTC:
        blocks = -(-header.width // 4) * -(-header.height // 4)
        return decode_uastc(_level_bytes(header, 16 * blocks), header.width, header.height)
    raise AssetError(
        f"a KTX2 texture has format {header.vk_format} (colour model {header.color_model}), which is not "
        "supported; use ETC1S or UASTC"
    )


@dataclass(frozen=True)
class _Header:
    vk_format: int
    width: int
    height: int
    depth: int
    layers: int
    faces: int
    levels: int
    scheme: int
    color_model: int
    channels: tuple[int, ...]
    global_data: bytes
    level: bytes


def _damaged(what: str) -> AssetError:
    return AssetError(f"a KTX2 texture is damaged: {what}; export the file again")


def _section(data: bytes, offset: int, length: int, what: str) -> bytes:
    if offset + length > len(data):
        raise _damaged(f"its {what} reaches beyond the end")
    return data[offset : offset + length]


def _parse_header(data: bytes) -> _Header:
    if data[:12] != _IDENTIFIER:
        raise AssetError("a texture is named KTX2 but is not a KTX2 file")
    if len(data) < _HEADER.size + _LEVEL.size:
        raise _damaged("it ends inside the header")
    _, vk_format, _, width, height, depth, layers, faces, levels, scheme, *index = _HEADER.unpack_from(data)
    descriptor = _section(data, index[0], index[1], "format descriptor")
    model, channels = _parse_descriptor(descriptor)
    offset, length, _ = _LEVEL.unpack_from(data, _HEADER.size)
    return _Header(
        vk_format=vk_format,
        width=width,
        height=height,
        depth=depth,
        layers=layers,
        faces=faces,
        levels=levels,
        scheme=scheme,
        color_model=model,
        channels=channels,
        global_data=_section(data, index[4], index[5], "global data"),
        level=_section(data, offset, length, "largest level"),
    )


def _parse_descriptor(descriptor: bytes) -> tuple[int, tuple[int, ...]]:
    """Colour model and the channel of each sample, of the basic block of a data format descriptor."""
    if len(descriptor) < 28:
        raise _damaged("its format descriptor is too short")
    size = min(struct.unpack_from("<H", descriptor, 10)[0], len(descriptor) - 4)
    return descriptor[12], tuple(descriptor[at + 3] & 15 for at in range(28, size - 11, 16))


def _check_size(header: _Header, max_pixels: int) -> None:
    if header.width < 1 or header.height < 1:
        raise AssetError(f"a KTX2 texture of {header.width} x {header.height} texels is not a picture")
    if header.depth or header.layers or header.faces != 1:
        raise AssetError(
            "a KTX2 texture is a volume, an array or a cube map; only plain pictures are supported"
        )
    if header.width * header.height > max_pixels:
        raise AssetError(
            f"a KTX2 texture has {header.width} x {header.height} texels, more than the {max_pixels} allowed"
        )


def _decode_basis_lz(header: _Header) -> NDArray[np.uint8]:
    red_green = header.channels == (_ETC1S_RED, _ETC1S_GREEN)
    image = decode_etc1s(
        header.global_data,
        max(header.levels, 1),
        header.level,
        header.width,
        header.height,
        second=1 if red_green else 3,
    )
    if red_green:
        image[:, :, 2] = 0
    return image


def _level_bytes(header: _Header, expected: int) -> NDArray[np.uint8]:
    """The largest level without its general-purpose compression, exactly ``expected`` bytes."""
    if header.scheme == _UNCOMPRESSED:
        raw = header.level
    elif header.scheme == _ZSTANDARD:
        raw = _inflate_zstandard(header.level, expected)
    elif header.scheme == _ZLIB:
        raw = _inflate_zlib(header.level, expected)
    else:
        raise AssetError(f"a KTX2 texture has the unknown supercompression scheme {header.scheme}")
    if len(raw) != expected:
        raise _damaged(f"its largest level has {len(raw)} bytes instead of {expected}")
    return np.frombuffer(raw, np.uint8)


def _inflate_zstandard(data: bytes, expected: int) -> bytes:
    try:
        reader = zstandard.ZstdDecompressor().stream_reader(data)
        return reader.read(expected + 1)
    except zstandard.ZstdError as error:
        raise _damaged(f"Zstandard says '{error}'") from None


def _inflate_zlib(data: bytes, expected: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, expected + 1)
    except zlib.error as error:
        raise _damaged(f"zlib says '{error}'") from None


def _to_rgba(pixels: NDArray[np.uint8], reverse: bool) -> NDArray[np.uint8]:
    height, width, channels = pixels.shape
    image = np.full((height, width, 4), 255, np.uint8)
    image[:, :, : max(channels, 3)] = 0 if channels == 2 else pixels
    if channels == 2:
        image[:, :, :2] = pixels
    return image[:, :, [2, 1, 0, 3]] if reverse else image
