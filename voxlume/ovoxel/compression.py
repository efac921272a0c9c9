"""General-purpose compression of byte streams, never unpacking more than the caller can use.

Zstandard's package is imported when a stream needs it: machines that only train may lack it.
"""

from __future__ import annotations

import io
import lzma
import zlib
from typing import Literal

from voxlume.errors import VoxelFileError

Compression = Literal["none", "deflate", "lzma", "zstd"]

LEAST_DICTIONARY, LARGEST_DICTIONARY = 1 << 12, 3 << 29
"""What LZMA2 allows."""

PIECE = 1 << 20
LARGEST_WINDOW = 1 << 27
"""Bytes a Zstandard frame may look back; what its strongest level asks for."""


def compress(data: bytes, method: Compression, level: int) -> bytes:
    """One raw stream: deflate without header, LZMA2 without container, or a Zstandard frame."""
    if method == "deflate":
        compressor = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
        return compressor.compress(data) + compressor.flush()
    if method == "lzma":
        # A dictionary larger than the stream costs time and gains nothing.
        lookback = min(max(len(data), LEAST_DICTIONARY), LARGEST_DICTIONARY)
        filters = [{"id": lzma.FILTER_LZMA2, "preset": level, "dict_size": lookback}]
        return lzma.compress(data, lzma.FORMAT_RAW, filters=filters)
    if method == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(level=level).compress(data)
    return data


def decompress(data: bytes, method: Compression, most: int) -> bytes:
    """The content of one stream, which may have at most ``most`` bytes.

    Memory grows with what the stream really holds, whatever it claims.

    Raises
    ------
    VoxelFileError : damaged, cut off, or longer than ``most``.
    """
    try:
        if method == "deflate":
            inflater = zlib.decompressobj(-zlib.MAX_WBITS)
            content, complete = inflater.decompress(data, most + 1), inflater.eof
        elif method == "lzma":
            lookback = min(max(most, LEAST_DICTIONARY), LARGEST_DICTIONARY)
            filters = [{"id": lzma.FILTER_LZMA2, "dict_size": lookback}]
            unpacker = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)
            content, complete = unpacker.decompress(data, most + 1), unpacker.eof
        elif method == "zstd":
            content, complete = _unpack_zstandard(data, most), True
        else:
            content, complete = data, True
    except (zlib.error, lzma.LZMAError):
        raise VoxelFileError(f"a {method} stream is damaged") from None
    if len(content) > most:
        raise VoxelFileError(f"a {method} stream holds more than the voxels can use")
    if not complete:
        raise VoxelFileError(f"a {method} stream is cut off")
    return content


def _unpack_zstandard(data: bytes, most: int) -> bytes:
    """Up to ``most + 1`` bytes; a frame that is cut off gives what is there."""
    import zstandard

    limit = max(LARGEST_WINDOW, most)
    reader = zstandard.ZstdDecompressor(max_window_size=limit).stream_reader(io.BytesIO(data))
    content = io.BytesIO()
    try:
        while content.tell() <= most:
            piece = reader.read(min(PIECE, most + 1 - content.tell()))
            if not piece:
                break
            content.write(piece)
    except zstandard.ZstdError:
        raise VoxelFileError("a zstd stream is damaged") from None
    return content.getvalue()
