"""Materials and their textures (glTF 2.0, 3.8 - 3.9, and the KHR_materials extensions that matter here)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from voxlume.asset import Material, Texture, Wrap
from voxlume.errors import AssetError
from voxlume.mesh.gltf.accessors import Accessors
from voxlume.mesh.gltf.container import GltfFile
from voxlume.mesh.gltf.primitives import MAX_UV_SETS
from voxlume.mesh.gltf.spec_gloss import SpecularGlossiness, to_metallic_roughness
from voxlume.mesh.gltf.values import Record, color
from voxlume.mesh.images import decode_images

_WRAPS: dict[int, Wrap] = {33071: "clamp", 33648: "mirror", 10497: "repeat"}
_NEAREST, _LINEAR = 9728, 9729
_NEAREST_MINIFYING = (_NEAREST, 9984, 9986)
_MINIFYING = (_NEAREST, _LINEAR, 9984, 9985, 9986, 9987)
_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF")
MAX_IMAGE_FILE_BYTES = 2**28
MAX_EMISSION = 1e9
MAX_TEXTURE_TRANSFORM = 1e6

# Where a texture may have several sources, in the order in which they are tried: exact before lossy.
_SOURCES_BEFORE = ("EXT_texture_webp", "EXT_texture_avif")
_SOURCES_AFTER = ("KHR_texture_basisu",)

Slot = Literal[
    "base", "metallic_roughness", "normal", "occlusion", "emissive", "transmission", "diffuse", "specular"
]


@dataclass(frozen=True, eq=False)
class _TextureUse:
    """A place in a material that refers to a texture: everything but the pixels."""

    sources: tuple[int, ...]
    texture: Texture
    where: str


@dataclass(frozen=True, eq=False)
class _Draft:
    """A material with its textures still to be decoded."""

    material: Material
    uses: dict[Slot, _TextureUse]
    spec_gloss: SpecularGlossiness | None = None


_NO_PIXELS = np.zeros((1, 1, 1), np.uint8)


@dataclass(eq=False)
class Materials:
    """Reads materials of a file; images that no requested material refers to are never decoded."""

    file: GltfFile
    accessors: Accessors
    records: list[Record] = field(init=False)

    def __post_init__(self) -> None:
        root = self.file.root
        self.records = root.records("materials")
        self._textures = root.records("textures")
        self._images = root.records("images")
        self._samplers = root.records("samplers")

    def read(self, indices: Iterable[int]) -> list[Material]:
        """The materials with these indices, textures decoded; failing textures dropped with a warning."""
        drafts = [self._draft(self.records[i]) for i in indices]
        pixels = self._decode([use for draft in drafts for use in draft.uses.values()])
        return [self._finish(draft, pixels) for draft in drafts]

    # -- what the JSON says ---------------------------------------------------------------------------------

    def _draft(self, record: Record) -> _Draft:
        uses: dict[Slot, _TextureUse] = {}
        pbr = record.record("pbrMetallicRoughness")
        base = color(pbr, "baseColorFactor", (1, 1, 1, 1))
        metallic, roughness = pbr.number("metallicFactor", 1.0), pbr.number("roughnessFactor", 1.0)
        self._use(uses, "base", pbr, "baseColorTexture")
        self._use(uses, "metallic_roughness", pbr, "metallicRoughnessTexture")
        normal = self._use(uses, "normal", record, "normalTexture")
        self._use(uses, "occlusion", record, "occlusionTexture")
        self._use(uses, "emissive", record, "emissiveTexture")
        emissive = color(record, "emissiveFactor", (0, 0, 0), MAX_EMISSION)
        strength = record.extension("KHR_materials_emissive_strength")
        if strength is not None:
            emissive *= min(strength.number("emissiveStrength", 1.0, low=0), MAX_EMISSION)
        transmission = record.extension("KHR_materials_transmission")
        transmitted = 0.0
        if transmission is not None:
            transmitted = transmission.number("transmissionFactor", 0.0)
            self._use(uses, "transmission", transmission, "transmissionTexture")
        spec_gloss = self._specular_glossiness(record, uses)
        if record.extension("KHR_materials_unlit") is not None:
            metallic, roughness = 0.0, 1.0
            uses.pop("metallic_roughness", None)
        material = Material(
            name=record.text("name", ""),
            base_color_factor=tuple(base.tolist()),
            metallic_factor=_clip(metallic),
            roughness_factor=_clip(roughness),
            alpha_mode=record.choice("alphaMode", ("OPAQUE", "MASK", "BLEND"), "OPAQUE"),  # type: ignore[arg-type]
            alpha_cutoff=record.number("alphaCutoff", 0.5),
            double_sided=record.flag("doubleSided"),
            emissive_factor=tuple(emissive.tolist()),
            normal_scale=normal.number("scale", 1.0) if normal is not None else 1.0,
            transmission_factor=_clip(transmitted),
        )
        return _Draft(material, uses, spec_gloss)

    def _specular_glossiness(
        self, record: Record, uses: dict[Slot, _TextureUse]
    ) -> SpecularGlossiness | None:
        extension = record.extension("KHR_materials_pbrSpecularGlossiness")
        if extension is None or record.extension("KHR_materials_unlit") is not None:
            return None
        for slot in ("base", "metallic_roughness"):
            uses.pop(slot, None)  # a fallback for readers without the extension
        self._use(uses, "diffuse", extension, "diffuseTexture")
        self._use(uses, "specular", extension, "specularGlossinessTexture")
        return SpecularGlossiness(
            diffuse=color(extension, "diffuseFactor", (1, 1, 1, 1)),
            specular=color(extension, "specularFactor", (1, 1, 1)),
            glossiness=_clip(extension.number("glossinessFactor", 1.0)),
        )

    def _use(self, uses: dict[Slot, _TextureUse], slot: Slot, owner: Record, key: str) -> Record | None:
        """Note the texture that ``owner[key]`` refers to under the slot; gives the texture info."""
        if key not in owner:
            return None
        info = owner.record(key)
        record = self._texture_of(info)
        uses[slot] = _TextureUse(self._sources(record), self._lookup(info, record), info.where)
        return info

    def _texture_of(self, info: Record) -> Record:
        index = info.reference("index", self._textures)
        if index is None:
            info.fail("index", "is missing")
        return self._textures[index]

    def leading_texture(self, material: Record) -> tuple[Record, Texture] | None:
        """The texture info whose UVs stand for the material, and how it is looked up, without its pixels.

        That of the base colour, or the first there is.
        """
        pbr = material.record("pbrMetallicRoughness")
        places = (
            (material.extension("KHR_materials_pbrSpecularGlossiness"), "diffuseTexture"),
            (pbr, "baseColorTexture"),
            (pbr, "metallicRoughnessTexture"),
            (material, "normalTexture"),
            (material, "occlusionTexture"),
            (material, "emissiveTexture"),
        )
        for owner, key in places:
            if owner is not None and key in owner:
                info = owner.record(key)
                return info, self._lookup(info, self._texture_of(info))
        return None

    def _sources(self, texture: Record) -> tuple[int, ...]:
        """Images that may serve as the texture, best first."""
        owners = [texture.extension(name) for name in _SOURCES_BEFORE]
        owners.append(texture)
        owners += [texture.extension(name) for name in _SOURCES_AFTER]
        found = [owner.reference("source", self._images) for owner in owners if owner is not None]
        return tuple(source for source in found if source is not None)

    def _lookup(self, info: Record, record: Record) -> Texture:
        """The texture's sampler and coordinates, without its pixels."""
        texcoord = info.integer("texCoord", 0, high=MAX_UV_SETS - 1)
        matrix = np.eye(2, 3)
        transform = info.extension("KHR_texture_transform")
        if transform is not None:
            texcoord = transform.integer("texCoord", texcoord, high=MAX_UV_SETS - 1)
            offset, scale = transform.numbers("offset", 2, (0, 0)), transform.numbers("scale", 2, (1, 1))
            if max(map(abs, (*offset, *scale))) > MAX_TEXTURE_TRANSFORM:
                raise AssetError(f"{transform.where} moves or scales a texture beyond all measure")
            matrix = texture_matrix(offset, transform.number("rotation", 0.0), scale)
        index = record.reference("sampler", self._samplers)
        sampler = self._samplers[index] if index is not None else Record({}, record.where)
        wraps = tuple(_WRAPS[sampler.choice(key, tuple(_WRAPS), 10497)] for key in ("wrapS", "wrapT"))
        if "magFilter" in sampler:
            nearest = sampler.choice("magFilter", (_NEAREST, _LINEAR)) == _NEAREST
        else:
            nearest = sampler.choice("minFilter", _MINIFYING, 9987) in _NEAREST_MINIFYING
        return Texture(_NO_PIXELS, (wraps[0], wraps[1]), nearest, texcoord, matrix)

    # -- pixels ---------------------------------------------------------------------------------------------

    def _decode(self, uses: list[_TextureUse]) -> dict[int, NDArray[np.uint8]]:
        """Pixels by image index: of each use's first source, and of the next where that one fails."""
        images: dict[int, NDArray[np.uint8]] = {}
        problems: dict[int, str] = {}
        while True:
            wanted = set()
            for use in uses:
                if not any(source in images for source in use.sources):
                    wanted |= set([s for s in use.sources if s not in problems][:1])
            if not wanted:
                break
            files: dict[int, bytes | memoryview] = {}
            for index in sorted(wanted):
                try:
                    files[index] = self._image_file(self._images[index])
                except AssetError as error:
                    problems[index] = str(error)
            decoded, failed = decode_images(files, _FORMATS, self.file.budget.file_bytes)
            images |= decoded
            problems |= {index: f"images[{index}]: {reason}" for index, reason in failed.items()}
        for use in uses:
            if not any(source in images for source in use.sources):
                reason = problems[use.sources[0]] if use.sources else "no image that can be read"
                self.file.warn(f"texture left out at {use.where}, its factor remains: {reason}")
        return images

    def _image_file(self, record: Record) -> bytes | memoryview:
        if "uri" in record:
            return self.file.resource(record.text("uri"), record.where, MAX_IMAGE_FILE_BYTES)
        return self.accessors.view_bytes(record)

    def _finish(self, draft: _Draft, pixels: dict[int, NDArray[np.uint8]]) -> Material:
        ready: dict[Slot, Texture] = {}
        for slot, use in draft.uses.items():
            source = next((s for s in use.sources if s in pixels), None)
            if source is not None:
                ready[slot] = replace(use.texture, image=pixels[source])
        material = replace(
            draft.material,
            base_color_texture=ready.get("base"),
            metallic_roughness_texture=ready.get("metallic_roughness"),
            normal_texture=ready.get("normal"),
            occlusion_texture=ready.get("occlusion"),
            emissive_texture=ready.get("emissive"),
            transmission_texture=ready.get("transmission"),
        )
        if draft.spec_gloss is None:
            return material
        values = replace(
            draft.spec_gloss, diffuse_texture=ready.get("diffuse"), specular_texture=ready.get("specular")
        )
        return to_metallic_roughness(material, values, self.file.budget, self.file.warn)


def texture_matrix(offset: list[float], rotation: float, scale: list[float]) -> NDArray[np.float64]:
    """KHR_texture_transform as (2, 3): scale, then rotate, then move.

    A positive rotation turns the UVs counter-clockwise as seen with v pointing down, that is the image
    clockwise.
    """
    cos, sin = np.cos(rotation), np.sin(rotation)
    return np.array(
        [[cos * scale[0], sin * scale[1], offset[0]], [-sin * scale[0], cos * scale[1], offset[1]]],
        np.float64,
    )


def _clip(value: float) -> float:
    return min(max(value, 0.0), 1.0)
