"""Write OBJ files with their MTL material library and textures beside them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxlume.asset import Asset, Material, Mesh, Texture
from voxlume.files import atomic_write_all
from voxlume.mesh.write_checks import sound_meshes, textures_of, unit_normals
from voxlume.mesh.write_images import QUALITY, ImageFormat, TextureImage, encode_images
from voxlume.mesh.write_text import digits_for, rows, words
from voxlume.srgb import linear_to_srgb, srgb_to_linear

_Pixels = NDArray[np.uint8]


def write_obj(
    asset: Asset, path: str | Path, *, image_format: ImageFormat = "png", quality: int = QUALITY
) -> tuple[str, ...]:
    """Write an OBJ file in the asset's own frame and units.

    Beside ``NAME.obj`` come ``NAME.mtl``, if there are materials, and ``NAME_MATERIAL_map_Kd.png`` and so
    on: base colour, opacity, metalness, roughness, emission and normals, with the material's factors
    multiplied in. All files appear together, or none.

    Parameters
    ----------
    image_format, quality : of the textures; PNG takes the place of WebP, which readers of OBJ rarely know.

    Returns
    -------
    A line for everything that the format cannot hold.

    Raises
    ------
    AssetError : nothing to write, or arrays that do not fit together.
    VoxlumeError : a file cannot be written.
    """
    path = Path(path)
    # Those without a material come first, since a material holds until the next one is named.
    meshes = sorted(sound_meshes(asset), key=lambda mesh: mesh.material >= 0)
    used = {id(m): m for m in (asset.material_of(mesh) for mesh in meshes if mesh.material >= 0)}
    stem = re.sub(r"\s", "_", path.stem)  # readers split the lines that name files
    names = _unique_names([material.name for material in used.values()])
    entries = [_entry(material, name) for material, name in zip(used.values(), names, strict=True)]
    images = [image for entry in entries for image in entry.maps.values()]
    encoded = iter(encode_images(images, "png" if image_format == "webp" else image_format, quality))
    library = path.with_name(f"{stem}.mtl")
    files: dict[Path, bytes] = {}
    by_content: dict[bytes, Path] = {}  # materials often share images
    text = ["# written by Voxlume"]
    for entry, name in zip(entries, names, strict=True):
        text += ["", *entry.lines]
        for key in entry.maps:
            file = next(encoded)
            beside = by_content.setdefault(file.data, path.with_name(f"{stem}_{name}_{key}{file.ending}"))
            files[beside] = file.data
            text.append(f"{key} {entry.option}{beside.name}")
    if entries:
        files = {library: "\n".join([*text, ""]).encode(), **files}
    # The OBJ file is the first of the list, so the last to take its name.
    with atomic_write_all([path, *files]) as (obj, *others):
        for stream, data in zip(others, files.values(), strict=True):
            stream.write(data)
        obj.writelines(_geometry(asset, meshes, dict(zip(used, names, strict=True)), library.name))
    return tuple(_left_out(meshes, used.values()))


@dataclass(frozen=True)
class _Entry:
    """One ``newmtl``: its lines, its images by their key, and the option of all these maps."""

    lines: list[str]
    maps: dict[str, TextureImage]
    option: str


def _entry(material: Material, name: str) -> _Entry:
    """The material with its factors inside the maps: some readers multiply them, others do not."""
    lines, maps = [f"newmtl {name}"], {}
    color = material.base_color_factor[:3]
    if material.base_color_texture is not None:
        maps["map_Kd"] = TextureImage(_tinted(material.base_color_texture.image, color))
        color = (1.0, 1.0, 1.0)
    lines.append("Kd {:.6g} {:.6g} {:.6g}".format(*color))
    alpha, transparency = _opacity(material)
    if transparency is not None:
        maps["map_d"] = TextureImage(transparency, exact=True)
    if alpha < 1:
        lines.append(f"d {alpha:.6g}")
    surface = material.metallic_roughness_texture
    for key, channel, factor in (("Pr", 1, material.roughness_factor), ("Pm", 2, material.metallic_factor)):
        if surface is not None:
            image = surface.image[:, :, min(channel, surface.image.shape[2] - 1)]
            maps[f"map_{key}"] = TextureImage(_scaled(image, factor), exact=True)
        lines.append(f"{key} {1 if surface is not None else factor:.6g}")
    if any(material.emissive_factor):
        emission = material.emissive_factor
        if material.emissive_texture is not None:
            maps["map_Ke"] = TextureImage(_tinted(material.emissive_texture.image, emission))
            emission = (1.0, 1.0, 1.0)
        lines.append("Ke {:.6g} {:.6g} {:.6g}".format(*emission))
    if material.normal_texture is not None:
        maps["norm"] = TextureImage(material.normal_texture.image, exact=True)
    leading = _leading_texture(material)
    clamped = leading is not None and leading.wrap == ("clamp", "clamp")
    return _Entry(lines, maps, "-clamp on " if clamped else "")


def _opacity(material: Material) -> tuple[float, _Pixels | None]:
    """The value of ``d`` and the image of ``map_d``; masks become two-valued."""
    factor, base = material.base_color_factor[3], material.base_color_texture
    image = base.image[:, :, -1] if base is not None and base.image.shape[2] in (2, 4) else None
    if material.alpha_mode == "BLEND":
        if image is None or (image == 255).all():
            return factor, None
        return 1.0, _scaled(image, factor)
    if material.alpha_mode == "MASK":
        if image is None:
            return float(factor >= material.alpha_cutoff), None
        return 1.0, ((image * (factor / 255) >= material.alpha_cutoff) * np.uint8(255))[..., None]
    if material.transmission_texture is not None and material.transmission_factor > 0:
        return 1.0, 255 - _scaled(material.transmission_texture.image[:, :, 0], material.transmission_factor)
    return 1 - min(max(material.transmission_factor, 0.0), 1.0), None


def _tinted(image: _Pixels, factor: Sequence[float]) -> _Pixels:
    """The colours (h, w, 3) of an sRGB-encoded image times a linear factor, without alpha."""
    colors = image[:, :, :-1] if image.shape[2] in (2, 4) else image
    colors = np.broadcast_to(colors, (*colors.shape[:2], 3))
    if all(f == 1 for f in factor):
        return colors
    table = srgb_to_linear(np.arange(256) / 255)
    return np.dstack(
        [
            np.rint(linear_to_srgb(np.clip(table * f, 0, 1)) * 255).astype(np.uint8)[colors[:, :, k]]
            for k, f in enumerate(factor)
        ]
    )


def _scaled(channel: _Pixels, factor: float) -> _Pixels:
    """One channel (h, w) times a factor in [0, 1], as an image (h, w, 1)."""
    table = np.rint(np.arange(256) * min(max(factor, 0.0), 1.0)).astype(np.uint8)
    return table[channel][..., None]


def _leading_texture(material: Material) -> Texture | None:
    """The texture whose UV set, transform and wrap mode stand for all of a material."""
    return next(iter(textures_of(material)), None)


def _geometry(
    asset: Asset, meshes: Sequence[Mesh], names: Mapping[int, str], library: str
) -> Iterator[bytes]:
    """The lines of the OBJ file; indices count from 1 through all meshes."""
    number = f".{digits_for(meshes)}g"
    yield b"# written by Voxlume\n" + (f"mtllib {library}\n".encode() if names else b"")
    first = np.ones(3, np.int64)  # of vertex, UV and normal
    for i, mesh in enumerate(meshes):
        material = asset.material_of(mesh)
        yield f"o {_word(mesh.name) or f'mesh_{i}'}\n".encode()
        if mesh.colors is None:
            yield from rows(mesh.vertices, "v ", " ", "\n", number)
        else:
            colors = linear_to_srgb(np.clip(mesh.colors[:, :3], 0, 1))
            yield from rows(np.hstack([mesh.vertices, colors]), "v ", " ", "\n", number)
        uvs = _uvs(mesh, material)
        if uvs is not None:
            yield from rows(uvs, "vt ", " ", "\n")
        if mesh.normals is not None:
            yield from rows(unit_normals(mesh), "vn ", " ", "\n")
        if mesh.material >= 0:
            yield f"usemtl {names[id(material)]}\n".encode()
        present = np.array([True, uvs is not None, mesh.normals is not None])
        yield from words(_corner_words(len(mesh.vertices), first, present)[mesh.faces], b"f ", b"\n")
        first += len(mesh.vertices) * present


def _corner_words(count: int, first: NDArray[np.int64], present: NDArray[np.bool_]) -> NDArray[np.bytes_]:
    """``vertex/uv/normal`` of each vertex (n,), as OBJ names a corner of a face."""
    vertex, uv, normal = ((np.arange(count) + start).tolist() for start in first)
    has_uv, has_normal = bool(present[1]), bool(present[2])
    if has_uv and has_normal:
        found = [f"{a}/{b}/{c}" for a, b, c in zip(vertex, uv, normal, strict=True)]
    elif has_uv:
        found = [f"{a}/{b}" for a, b in zip(vertex, uv, strict=True)]
    elif has_normal:
        found = [f"{a}//{c}" for a, c in zip(vertex, normal, strict=True)]
    else:
        found = [str(a) for a in vertex]
    return np.array(found, np.bytes_)


def _uvs(mesh: Mesh, material: Material) -> NDArray[np.float64] | None:
    """UVs (n, 2) as the textures look them up, v upwards, or None."""
    texture = _leading_texture(material)
    if texture is None:
        uv, transform = (mesh.uvs[0] if mesh.uvs else None), np.eye(2, 3)
    else:
        uv = mesh.uvs[texture.texcoord] if texture.texcoord < len(mesh.uvs) else None
        transform = texture.transform
    if uv is None:
        return None
    moved = uv.astype(np.float64) @ transform[:, :2].T + transform[:, 2]
    return np.stack([moved[:, 0], 1 - moved[:, 1]], axis=1)


def _left_out(meshes: Sequence[Mesh], materials: Iterable[Material]) -> Iterator[str]:
    """A line for everything that OBJ and MTL cannot say."""
    for material in materials:
        textures = textures_of(material)
        where = f"material '{material.name}'"
        lead = _leading_texture(material)
        if lead is not None:
            if any(t.texcoord != lead.texcoord or (t.transform != lead.transform).any() for t in textures):
                yield f"{where}: its textures use different UVs, OBJ has one set"
            if lead.wrap not in (("repeat", "repeat"), ("clamp", "clamp")):
                yield f"{where}: textures repeat, OBJ cannot mirror or differ by direction"
        if material.occlusion_texture is not None:
            yield f"{where}: the occlusion texture is left out"
        if material.normal_texture is not None and material.normal_scale != 1:
            yield f"{where}: the scale of the normal map is left out"
    if any({"METALLIC", "ROUGHNESS"} & mesh.attributes.keys() for mesh in meshes):
        yield "metalness and roughness of vertices are left out; their means remain"


def _word(name: str) -> str:
    """A name without blanks and control characters, which would end it."""
    return re.sub(r"[^\w.\-]+", "_", name)


def _unique_names(names: Iterable[str]) -> list[str]:
    """One word for each; they become names of files, where case may not count."""
    found: list[str] = []
    taken: set[str] = set()
    for name in names:
        word = base = _word(name)[:60] or "material"
        while word.lower() in taken:
            word = f"{base}_{len(taken)}"
            base = word
        taken.add(word.lower())
        found.append(word)
    return found
