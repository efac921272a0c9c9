"""Write USDZ packages: a USD layer and its textures in a zip file that readers can map into memory.

Source: the USDZ file format specification of OpenUSD.
"""

from __future__ import annotations

import importlib.util
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from voxlume.asset import Asset
from voxlume.files import atomic_write
from voxlume.mesh.usd_layer import Part, UsdArray, usd_layer
from voxlume.mesh.write_checks import sound_meshes
from voxlume.mesh.write_images import QUALITY, ImageFormat, encode_textures
from voxlume.mesh.write_text import rows

_ALIGNMENT = 64
_LOCAL_HEADER = 30
_PADDING_ID = 0x1986  # of the extra field that OpenUSD uses for the same purpose


def write_usdz(
    asset: Asset, path: str | Path, *, image_format: ImageFormat = "png", quality: int = QUALITY
) -> tuple[str, ...]:
    """Write a USDZ package in the asset's own frame (Y-up) with metres as its unit.

    The layer is binary where OpenUSD is installed (``pip install 'voxlume[usd]'``), otherwise text, which
    every reader takes, too, but which is about three times as large and slower to write and to read.

    Parameters
    ----------
    image_format, quality : of the textures; USDZ knows no WebP, PNG takes its place.

    Returns
    -------
    A line for everything that the format cannot hold.

    Raises
    ------
    AssetError : nothing to write, or arrays that do not fit together.
    VoxlumeError : the file cannot be written.
    """
    meshes = sound_meshes(asset)
    materials = [asset.material_of(mesh) for mesh in meshes]
    wanted: ImageFormat = "png" if image_format == "webp" else image_format
    images, lines = encode_textures(materials, wanted, quality)
    image_names = {key: f"textures/{i}{file.ending}" for i, (key, file) in enumerate(images.items())}
    notes = dict.fromkeys(lines)
    parts = usd_layer(asset, meshes, image_names, notes)
    if importlib.util.find_spec("pxr") is not None:
        name, layer = "asset.usdc", binary_layer(parts)
    else:
        name, layer = "asset.usda", b"".join(text_layer(parts))
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as package:
        _add(package, name, layer)  # the first file of a package is what opens
        for key, image in images.items():
            _add(package, image_names[key], image.data)
    return tuple(notes)


def _add(package: zipfile.ZipFile, name: str, data: bytes) -> None:
    """Store a file so that its first byte lies at a multiple of 64; the same input gives the same bytes."""
    entry = zipfile.ZipInfo(name)  # its date is fixed
    assert package.fp is not None
    start = package.fp.tell() + _LOCAL_HEADER + len(name.encode()) + 4
    padding = -start % _ALIGNMENT
    entry.extra = _PADDING_ID.to_bytes(2, "little") + padding.to_bytes(2, "little") + bytes(padding)
    package.writestr(entry, data)


def text_layer(parts: Iterable[Part]) -> Iterator[bytes]:
    """The layer in USD's text form."""
    for part in parts:
        if isinstance(part, str):
            yield f"{part}\n".encode()
            continue
        yield f"        {part.type_name} {part.name} = [".encode()
        for i, chunk in enumerate(_elements(part)):
            yield chunk[2:] if i == 0 else chunk
        yield f"]{_metadata(part)}\n".encode()


def _elements(part: UsdArray) -> Iterator[bytes]:
    """The elements of an array, each after a comma."""
    values = part.values.reshape(len(part.values), -1)
    if values.dtype.kind == "i":
        return rows(values, ", ", "", "", "d")
    if values.shape[1] == 1:
        return rows(values, ", ", "", "")
    return rows(values, ", (", ", ", ")")


def _metadata(part: UsdArray) -> str:
    if not part.interpolation:
        return ""
    return f' (\n            interpolation = "{part.interpolation}"\n        )'


def binary_layer(parts: Iterable[Part]) -> bytes:
    """The layer in USD's binary form, by OpenUSD."""
    from pxr import Sdf, Vt

    kinds = {
        "int[]": Vt.IntArray,
        "float[]": Vt.FloatArray,
        "texCoord2f[]": Vt.Vec2fArray,
        "point3f[]": Vt.Vec3fArray,
        "normal3f[]": Vt.Vec3fArray,
        "color3f[]": Vt.Vec3fArray,
    }
    text, arrays = [], []
    for part in parts:
        if isinstance(part, str):
            text.append(part)
        else:
            text.append(f"        {part.type_name} {part.name} = []{_metadata(part)}")
            arrays.append(part)
    layer = Sdf.Layer.CreateAnonymous(".usda")
    layer.ImportFromString("\n".join(text))
    for array in arrays:
        layer.GetAttributeAtPath(array.path).default = kinds[array.type_name].FromNumpy(array.values)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "asset.usdc"
        layer.Export(str(file))
        return file.read_bytes()
