"""Materials of OBJ files: MTL with the usual keys and the PBR extension (Pr, Pm, map_Pr, map_Pm, norm)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from voxlume.asset import Material, Texture, Wrap
from voxlume.errors import AssetError
from voxlume.mesh.gltf.budget import Budget
from voxlume.mesh.gltf.container import read_file
from voxlume.mesh.images import decode_images

_MOST_LIBRARY_BYTES = 2**26
_MOST_TEXTURE_BYTES = 2**31
_LONGEST_LINE = 4096
_MAPS = {
    "map_kd": "map_Kd",
    "map_d": "map_d",
    "map_ke": "map_Ke",
    "map_pm": "map_Pm",
    "map_pr": "map_Pr",
    "norm": "norm",
}
_NUMBERS = {"kd": 3, "ke": 3, "d": 1, "tr": 1, "ns": 1, "pm": 1, "pr": 1}
# Options before the name of a texture file, and the most values that each takes.
_OPTIONS = {
    "-blendu": 1, "-blendv": 1, "-boost": 1, "-mm": 2, "-o": 3, "-s": 3, "-t": 3, "-texres": 1,
    "-clamp": 1, "-bm": 1, "-imfchan": 1, "-type": 1, "-cc": 1, "-colorspace": 1,
}  # fmt: skip

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class _Map:
    """A texture file and how it is looked up: scale and offset of (u, v), v upwards."""

    file: str
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)
    clamp: bool = False


@dataclass(frozen=True)
class _Entry:
    """One ``newmtl`` as written: lower-case keys."""

    numbers: dict[str, list[float]] = field(default_factory=dict)
    maps: dict[str, _Map] = field(default_factory=dict)


def read_materials(
    obj: Path, libraries: Sequence[str], names: Sequence[str], warnings: list[str]
) -> tuple[list[Material], dict[str, int]]:
    """The materials that an OBJ file uses.

    Colours are taken as linear. A texture takes the place of its colour or value, as most programs that
    write such files mean it. Roughness without Pr follows from the exponent Ns: (2 / (Ns + 2)) ^ 1/4.

    Parameters
    ----------
    obj : the OBJ file; nothing outside its folder is read.
    libraries : what its mtllib lines name.
    names : materials to look for.
    warnings : gets a line for everything that could not be read.

    Returns
    -------
    materials, and for every name that was found its index.
    """
    entries: dict[str, _Entry] = {}
    for library in libraries:
        for file in [library] if _find(obj, library) else library[:_LONGEST_LINE].split():
            try:
                data = read_file(_beside(obj, file), _MOST_LIBRARY_BYTES)
                entries |= _parse(data.decode("utf-8", "surrogateescape"))
            except AssetError as error:
                warnings.append(f"material library left out: {error}")
    used = [name for name in names if name in entries]
    images = _Images(obj, [entries[name] for name in used], warnings)
    warnings += [
        f"material {n!r} is not defined; the default is used" for n in names if n and n not in entries
    ]
    return [_material(n, entries[n], images) for n in used], {name: i for i, name in enumerate(used)}


def _find(obj: Path, name: str) -> Path | None:
    """A file below the OBJ file's folder; of a path that leads elsewhere only the last part counts."""
    folder = obj.parent.resolve()
    name = name.strip().strip('"').replace("\\", "/")
    for candidate in (name, name.rsplit("/", 1)[-1]):
        try:
            target = (folder / candidate).resolve()
            if candidate and target.is_relative_to(folder) and target.is_file():
                return target
        except (OSError, ValueError, RuntimeError):
            continue
    return None


def _beside(obj: Path, name: str) -> Path:
    path = _find(obj, name)
    if path is None:
        raise AssetError(f"{name[:80]!r} is not in the file's folder")
    return path


def _parse(text: str) -> dict[str, _Entry]:
    """Lines that make no sense are skipped, as they are by all programs."""
    entries: dict[str, _Entry] = {}
    entry = _Entry()
    for line in text.splitlines():
        if len(line) > _LONGEST_LINE:
            continue
        key, _, rest = line.strip().partition(" ") if " " in line.strip() else line.strip().partition("\t")
        key, rest = key.lower(), rest.strip()
        if key == "newmtl":
            entry = entries[rest] = _Entry()
        elif key in _MAPS and rest:
            entry.maps[key] = _parse_map(rest)
        elif key in _NUMBERS:
            numbers = _leading_numbers(rest.split())
            if key in ("kd", "ke") and len(numbers) == 1:
                numbers *= 3
            if len(numbers) >= _NUMBERS[key]:
                entry.numbers[key] = numbers[: _NUMBERS[key]]
    return entries


def _leading_numbers(words: Sequence[str]) -> list[float]:
    numbers: list[float] = []
    for word in words:
        try:
            number = float(word)
        except ValueError:
            break
        if not np.isfinite(number):
            break
        numbers.append(number)
    return numbers


def _parse_map(rest: str) -> _Map:
    found: dict[str, list[str]] = {}
    while (words := rest.split(None, 1)) and words[0].lower() in _OPTIONS and len(words) == 2:
        option = words[0].lower()
        values: list[str] = []
        rest = words[1]
        while len(values) < _OPTIONS[option] and len(parts := rest.split(None, 1)) == 2:
            if _OPTIONS[option] > 1 and not _leading_numbers(parts[:1]):
                break
            values.append(parts[0])
            rest = parts[1]
        found[option] = values
    scale = [*_leading_numbers(found.get("-s", [])), 1.0, 1.0]
    offset = [*_leading_numbers(found.get("-o", [])), 0.0, 0.0]
    return _Map(rest, (scale[0], scale[1]), (offset[0], offset[1]), found.get("-clamp") == ["on"])


class _Images:
    """The pixels of all texture files that can be read, and of what is put together from them.

    Every combination is made once, so that materials which share textures share arrays.
    """

    def __init__(self, obj: Path, entries: Sequence[_Entry], warnings: list[str]) -> None:
        paths: dict[str, Path] = {}
        files: dict[Path, bytes] = {}
        for name in dict.fromkeys(m.file for entry in entries for m in entry.maps.values()):
            try:
                paths[name] = _beside(obj, name)
                if paths[name] not in files:
                    files[paths[name]] = read_file(paths[name], _MOST_TEXTURE_BYTES)
            except AssetError as error:
                warnings.append(f"texture left out: {error}")
        decoded, problems = decode_images(files)
        warnings += [f"texture {path.name!r} left out: {problem}" for path, problem in problems.items()]
        self.pixels = {name: decoded[path] for name, path in paths.items() if path in decoded}
        self._budget = Budget(sum(map(len, files.values())))
        self._made: dict[tuple[str, str | None, str | None], Pixels] = {}
        self._transparent: dict[int, bool] = {}

    def base_color(self, color: str | None, opacity: str | None) -> Pixels:
        """Colour (white without a file) and, if there is a file for it, opacity."""
        return self._once(("color", color, opacity), self._base_color)

    def surface(self, roughness: str | None, metallic: str | None) -> Pixels:
        """Roughness in green and metalness in blue; 255 without a file.

        One coloured file for both already is such a texture.
        """
        if roughness == metallic and roughness and self.pixels[roughness].shape[2] >= 3:
            return self.pixels[roughness]
        return self._once(("surface", roughness, metallic), self._surface)

    def is_transparent(self, pixels: Pixels) -> bool:
        """Whether the last channel of a texture made here is below 255 anywhere."""
        if id(pixels) not in self._transparent:
            self._transparent[id(pixels)] = bool((pixels[:, :, -1] < 255).any())
        return self._transparent[id(pixels)]

    def _once(
        self, key: tuple[str, str | None, str | None], make: Callable[[str | None, str | None], Pixels]
    ) -> Pixels:
        if key not in self._made:
            sizes = [self.pixels[name].shape[:2] for name in key[1:] if name]
            self._budget.spend(
                4 * max(h for h, _ in sizes) * max(w for _, w in sizes), "textures of the MTL file"
            )
            self._made[key] = make(*key[1:])
        return self._made[key]

    def _base_color(self, color: str | None, opacity: str | None) -> Pixels:
        rgb = None if color is None else self.pixels[color]
        if rgb is not None and rgb.shape[2] in (2, 4):
            rgb = rgb[:, :, :-1]
        if opacity is None:
            assert rgb is not None
            return np.ascontiguousarray(rgb)
        source = self.pixels[opacity]
        alpha = source[:, :, -1 if source.shape[2] in (2, 4) else 0]
        if color == opacity and source.shape[2] in (1, 3):  # there is no opacity in it
            alpha = np.full_like(alpha, 255)
        if rgb is None:
            rgb = np.full((*alpha.shape, 3), 255, np.uint8)
        return np.dstack([np.broadcast_to(rgb, (*rgb.shape[:2], 3)), _resized(alpha, rgb.shape[:2])])

    def _surface(self, roughness: str | None, metallic: str | None) -> Pixels:
        channels = [self.pixels[name][:, :, 0] if name else None for name in (roughness, metallic)]
        size = max((c.shape for c in channels if c is not None), key=lambda shape: shape[0] * shape[1])
        full = np.full(size, 255, np.uint8)
        return np.dstack([full, *(full if c is None else _resized(c, size) for c in channels)])


def _material(name: str, entry: _Entry, images: _Images) -> Material:
    numbers = entry.numbers
    maps = {key: m for key, m in entry.maps.items() if m.file in images.pixels}
    textures = {key: _texture(m, images.pixels[m.file]) for key, m in maps.items()}
    rgb = [1.0] * 3 if "map_kd" in maps else numbers.get("kd", [1.0] * 3)
    emission = [1.0] * 3 if "map_ke" in maps else numbers.get("ke", [0.0] * 3)
    alpha = numbers["d"][0] if "d" in numbers else 1 - numbers.get("tr", [0.0])[0]
    red, green, blue, opacity = (min(max(x, 0.0), 1.0) for x in (*rgb, alpha))
    color = surface = None
    see_through = opacity < 1
    if found := maps.get("map_kd") or maps.get("map_d"):
        pixels = images.base_color(*(maps[key].file if key in maps else None for key in ("map_kd", "map_d")))
        color = _texture(found, pixels)
        see_through |= "map_d" in maps and images.is_transparent(pixels)
    if found := maps.get("map_pr") or maps.get("map_pm"):
        pixels = images.surface(*(maps[key].file if key in maps else None for key in ("map_pr", "map_pm")))
        surface = _texture(found, pixels)
    return Material(
        name=name,
        base_color_factor=(red, green, blue, opacity),
        base_color_texture=color,
        metallic_factor=_value("pm", maps, numbers, 0.0),
        roughness_factor=_value("pr", maps, numbers, _roughness_of_exponent(numbers.get("ns"))),
        metallic_roughness_texture=surface,
        alpha_mode="BLEND" if see_through else "OPAQUE",
        emissive_factor=(max(emission[0], 0.0), max(emission[1], 0.0), max(emission[2], 0.0)),
        emissive_texture=textures.get("map_ke"),
        normal_texture=textures.get("norm"),
    )


def _value(key: str, maps: dict[str, _Map], numbers: dict[str, list[float]], default: float) -> float:
    if f"map_{key}" in maps:
        return 1.0
    return min(max(numbers.get(key, [default])[0], 0.0), 1.0)


def _roughness_of_exponent(exponent: list[float] | None) -> float:
    return 1.0 if exponent is None else float((2 / (max(exponent[0], 0.0) + 2)) ** 0.25)


def _texture(found: _Map, pixels: Pixels) -> Texture:
    """The pixels looked up as the map says; MTL's v points upwards."""
    (su, sv), (ou, ov) = found.scale, found.offset
    wrap: Wrap = "clamp" if found.clamp else "repeat"
    return Texture(pixels, (wrap, wrap), transform=np.array([[su, 0, ou], [0, sv, 1 - sv - ov]]))


def _resized(channel: Pixels, size: tuple[int, ...]) -> Pixels:
    if channel.shape == tuple(size):
        return channel
    image = Image.fromarray(np.ascontiguousarray(channel))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR))
