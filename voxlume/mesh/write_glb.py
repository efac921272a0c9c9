"""Write an :class:`~voxlume.asset.Asset` as one binary glTF 2.0 file.

Source: Khronos glTF 2.0 specification, with the extensions KHR_materials_transmission,
KHR_materials_emissive_strength, KHR_texture_transform and EXT_texture_webp where an asset needs them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from voxlume.asset import Asset, Material, Mesh, Texture
from voxlume.errors import AssetError
from voxlume.files import atomic_write
from voxlume.mesh.gltf.draco_encode import NORMAL_BITS, POSITION_BITS, UV_BITS, encode_draco
from voxlume.mesh.gltf.pack import pack_glb
from voxlume.mesh.meshopt_encode import (
    encode_attributes,
    encode_triangles,
    exponential,
    first_use_order,
    from_exponential,
    octahedral,
)
from voxlume.mesh.write_checks import (
    float32_offset,
    float32_positions,
    sound_meshes,
    textures_of,
    unit_normals,
)
from voxlume.mesh.write_images import QUALITY, ImageEncoding, ImageFormat, TextureEncoding

_GENERATOR = "Voxlume"
_ARRAY_BUFFER, _ELEMENT_ARRAY_BUFFER = 34962, 34963
_COMPONENT_TYPES = {"uint8": 5121, "uint16": 5123, "uint32": 5125, "float32": 5126, "int16": 5122}
_ELEMENT_TYPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}
_WRAP_MODES = {"repeat": 10497, "mirror": 33648, "clamp": 33071}
_NEAREST, _LINEAR, _LINEAR_MIPMAP_LINEAR = 9728, 9729, 9987

_DRACO, _MESHOPT = "KHR_draco_mesh_compression", "EXT_meshopt_compression"

Compression = Literal["draco", "meshopt"]
"""Ways to compress geometry."""

_Json = dict[str, Any]


def write_glb(
    asset: Asset,
    path: str | Path,
    *,
    image_format: ImageFormat = "png",
    quality: int = QUALITY,
    compression: Compression | None = None,
    encoding: ImageEncoding | None = None,
) -> tuple[str, ...]:
    """Write all meshes, materials and textures of an asset into one ``.glb``.

    Positions and normals are float32; coordinates that float32 would round visibly, because they lie
    far from the origin, are stored relative to a node translation. Vertex colours become normalised
    16-bit integers (linear values in 8 bits show bands in dark colours) and are clipped to [0, 1].
    Indices take the smallest component type. Each distinct image is stored once. Meshes without faces are
    left out; normals of zero length are computed anew from the faces.

    Parameters
    ----------
    asset : vertices in the glTF frame.
    path : the file to write; it appears only when it is complete.
    image_format, quality : of the textures, see :func:`voxlume.mesh.write_images.encode_textures`; PNG
        keeps every value.
    compression : "draco" makes geometry about ten times smaller, "meshopt" about four times, but much faster
        to read. Both round: positions to 1/65536 of the extent, UVs to 1/16384, normals to half a degree.
        Readers need a decoder.
    encoding : where textures have been begun with; its format and quality count.

    Returns
    -------
    A line for everything that was not stored as asked.

    Raises
    ------
    AssetError : no face at all; a value that is not finite or too large for float32; arrays that do
        not fit together; a texture transform with shear; more than 4 GiB of data.
    VoxlumeError : the file cannot be written.
    """
    if compression not in (None, *get_args(Compression)):
        raise AssetError(
            f"there is no compression '{compression}'; choose {' or '.join(get_args(Compression))}"
        )
    if encoding is None:
        with ImageEncoding(image_format, quality) as own:
            return write_glb(asset, path, compression=compression, encoding=own)
    meshes = sound_meshes(asset)
    images = TextureEncoding([asset.material_of(mesh) for mesh in meshes], encoding)
    document = _Document(images, compression)
    offset = float32_offset(meshes)
    nodes: list[_Json] = []
    for mesh in meshes:
        nodes.append({"mesh": document.add_mesh(mesh, asset.material_of(mesh), offset)} | _named(mesh.name))
    if offset.any():
        children = list(range(len(nodes)))
        nodes.append({"translation": offset.tolist(), "children": children})
        roots = [len(nodes) - 1]
    else:
        roots = list(range(len(nodes)))
    document.json["nodes"] = nodes
    document.json["scenes"] = [{"nodes": roots} | _named(asset.name)]
    parts = document.pack()
    with atomic_write(path) as file:
        file.writelines(parts)
    return tuple(images.notes)


class _Document:
    """The growing JSON document and the binary chunk that belongs to it."""

    def __init__(self, encoding: TextureEncoding, compression: Compression | None) -> None:
        """``encoding``: of every image that the materials use; waited for when the first one is stored."""
        self._encoding = encoding
        self._compression = compression
        self.json: _Json = {"asset": {"version": "2.0", "generator": _GENERATOR}, "scene": 0}
        self._binary: list[bytes] = []
        self._length = 0
        self._unpacked_length = 0  # of the buffer that compressed views unpack to
        self._materials: dict[int, int] = {}
        self._images: dict[int, int] = {}
        self._samplers: dict[tuple[int, int, bool], int] = {}
        self._textures: dict[tuple[int, int], int] = {}
        self._extensions: set[str] = set()
        self._required: set[str] = set()

    def _append(self, key: str, item: _Json) -> int:
        self.json.setdefault(key, []).append(item)
        return len(self.json[key]) - 1

    def _buffer_view(self, data: bytes, **fields: int) -> int:
        return self._append("bufferViews", self._store(data) | fields)

    def _store(self, data: bytes) -> _Json:
        """Append to the binary chunk; where the bytes are."""
        place = {"buffer": 0, "byteOffset": self._length, "byteLength": len(data)}
        self._binary.append(data + bytes(-len(data) % 4))
        self._length += len(self._binary[-1])
        return place

    def _accessor(
        self, array: NDArray[Any], view: int | None, *, normalized: bool = False, bounds: bool = False
    ) -> int:
        """Describe (n, k) values in a buffer view, or in a compressed stream for None."""
        accessor: _Json = {} if view is None else {"bufferView": view}
        accessor |= {
            "componentType": _COMPONENT_TYPES[array.dtype.name],
            "count": len(array),
            "type": _ELEMENT_TYPES[array.shape[1]],
        }
        if normalized:
            accessor["normalized"] = True
        if bounds:
            accessor |= {"min": array.min(0).tolist(), "max": array.max(0).tolist()}
        return self._append("accessors", accessor)

    def add_mesh(self, mesh: Mesh, material: Material, offset: NDArray[np.float64]) -> int:
        arrays = _vertex_arrays(mesh, material, offset)
        add = {None: self._add_plain, "draco": self._add_draco, "meshopt": self._add_meshopt}[
            self._compression
        ]
        primitive = add(arrays, mesh.faces) | {"material": self._material(material)}
        return self._append("meshes", {"primitives": [primitive]} | _named(mesh.name))

    def _add_plain(self, arrays: dict[str, NDArray[Any]], faces: NDArray[np.int32]) -> _Json:
        attributes = {}
        for name, array in arrays.items():
            view = self._buffer_view(array.tobytes(), target=_ARRAY_BUFFER)
            attributes[name] = self._attribute(name, array, view)
        indices = _compact_indices(faces)
        view = self._buffer_view(indices.tobytes(), target=_ELEMENT_ARRAY_BUFFER)
        return {"attributes": attributes, "indices": self._accessor(indices, view)}

    def _add_draco(self, arrays: dict[str, NDArray[Any]], faces: NDArray[np.int32]) -> _Json:
        stream, ids, decoded, num_faces = encode_draco(arrays, faces)
        attributes = {name: self._attribute(name, decoded[name], None) for name in arrays}
        indices = np.empty((3 * num_faces, 1), np.uint32)
        self._required.add(_DRACO)
        extension = {"bufferView": self._buffer_view(stream), "attributes": ids}
        return {
            "attributes": attributes,
            "indices": self._accessor(indices, None),
            "extensions": {_DRACO: extension},
        }

    def _add_meshopt(self, arrays: dict[str, NDArray[Any]], faces: NDArray[np.int32]) -> _Json:
        self._required.add(_MESHOPT)
        order, faces = first_use_order(faces)
        attributes = {}
        for name, array in arrays.items():
            values = array[order]
            if name == "NORMAL":
                self._required.add("KHR_mesh_quantization")
                normals = octahedral(values, NORMAL_BITS)
                view = self._meshopt_view(normals, "OCTAHEDRAL")
                attributes[name] = self._accessor(normals[:, :3], view, normalized=True)
            elif name == "POSITION" or name.startswith("TEXCOORD_"):
                extent = float(np.ptp(values.astype(np.float64), axis=0).max())
                step = extent / 2**POSITION_BITS if name == "POSITION" else 2.0**-UV_BITS
                rounded = exponential(values, step)
                view = self._meshopt_view(rounded, "EXPONENTIAL")
                attributes[name] = self._attribute(name, from_exponential(rounded), view)
            else:
                attributes[name] = self._attribute(name, values, self._meshopt_view(values, "NONE"))
        indices = faces.astype(np.uint16 if len(order) < 65536 else np.uint32).reshape(-1, 1)
        view = self._meshopt_view(indices, "TRIANGLES", encode_triangles(faces))
        return {"attributes": attributes, "indices": self._accessor(indices, view)}

    def _meshopt_view(self, elements: NDArray[Any], how: str, stream: bytes | None = None) -> int:
        """A compressed view of elements (n, k), in the place that they have in a buffer that is not there."""
        stride = elements.dtype.itemsize * elements.shape[1]
        size = stride * len(elements)
        packed: _Json = {"byteStride": stride, "count": len(elements)}
        view: _Json = {"buffer": 1, "byteOffset": self._unpacked_length, "byteLength": size}
        if stream is None:
            stream = encode_attributes(elements)
            packed |= {"mode": "ATTRIBUTES"} | ({} if how == "NONE" else {"filter": how})
            view |= {"byteStride": stride, "target": _ARRAY_BUFFER}
        else:
            packed |= {"mode": how}
            view |= {"target": _ELEMENT_ARRAY_BUFFER}
        self._unpacked_length += size + -size % 4
        view["extensions"] = {_MESHOPT: self._store(stream) | packed}
        return self._append("bufferViews", view)

    def _attribute(self, name: str, array: NDArray[Any], view: int | None) -> int:
        return self._accessor(array, view, normalized=array.dtype.kind in "iu", bounds=name == "POSITION")

    def _material(self, material: Material) -> int:
        if id(material) not in self._materials:
            self._materials[id(material)] = self._append("materials", self._material_json(material))
        return self._materials[id(material)]

    def _material_json(self, material: Material) -> _Json:
        result = _named(material.name)
        result |= self._without_defaults(
            {
                "pbrMetallicRoughness": self._metallic_roughness(material),
                "normalTexture": self._texture(material.normal_texture, scale=material.normal_scale),
                "occlusionTexture": self._texture(material.occlusion_texture),
                "emissiveTexture": self._texture(material.emissive_texture),
                "alphaMode": material.alpha_mode,
                "doubleSided": material.double_sided,
            },
            {"alphaMode": "OPAQUE", "doubleSided": False},
        )
        if material.alpha_mode == "MASK" and material.alpha_cutoff != 0.5:
            result["alphaCutoff"] = max(float(material.alpha_cutoff), 0.0)
        strength = max(1.0, *map(float, material.emissive_factor))
        if any(material.emissive_factor):
            result["emissiveFactor"] = _unit_range([x / strength for x in material.emissive_factor])
        extensions: _Json = {}
        if strength > 1:
            extensions["KHR_materials_emissive_strength"] = {"emissiveStrength": strength}
        if material.transmission_factor > 0:
            extensions["KHR_materials_transmission"] = {
                "transmissionFactor": min(float(material.transmission_factor), 1.0)
            } | self._without_defaults(
                {"transmissionTexture": self._texture(material.transmission_texture)}, {}
            )
        if extensions:
            self._extensions |= extensions.keys()
            result["extensions"] = extensions
        return result

    def _metallic_roughness(self, material: Material) -> _Json | None:
        fields = {
            "baseColorFactor": _unit_range(material.base_color_factor),
            "baseColorTexture": self._texture(material.base_color_texture),
            "metallicFactor": _unit_range([material.metallic_factor])[0],
            "roughnessFactor": _unit_range([material.roughness_factor])[0],
            "metallicRoughnessTexture": self._texture(material.metallic_roughness_texture),
        }
        defaults = {"baseColorFactor": [1.0] * 4, "metallicFactor": 1.0, "roughnessFactor": 1.0}
        return self._without_defaults(fields, defaults) or None

    @staticmethod
    def _without_defaults(fields: _Json, defaults: Mapping[str, object]) -> _Json:
        return {k: v for k, v in fields.items() if v is not None and v != defaults.get(k)}

    def _texture(self, texture: Texture | None, **fields: float) -> _Json | None:
        if texture is None:
            return None
        key = (self._image(texture.image), self._sampler(texture))
        if key not in self._textures:
            source: _Json = {"source": key[0]}
            if self.json["images"][key[0]]["mimeType"] == "image/webp":
                source = {"extensions": {"EXT_texture_webp": source}}
                self._required.add("EXT_texture_webp")
            self._textures[key] = self._append("textures", source | {"sampler": key[1]})
        info: _Json = {"index": self._textures[key]}
        info |= self._without_defaults(
            {"texCoord": texture.texcoord, **fields}, {"texCoord": 0, "scale": 1.0}
        )
        transform = _texture_transform(texture.transform)
        if transform:
            self._extensions.add("KHR_texture_transform")
            info["extensions"] = {"KHR_texture_transform": transform}
        return info

    def _image(self, image: NDArray[np.uint8]) -> int:
        if id(image) not in self._images:
            file = self._encoding.files[id(image)]
            view = self._buffer_view(file.data)
            self._images[id(image)] = self._append("images", {"bufferView": view, "mimeType": file.mime_type})
        return self._images[id(image)]

    def _sampler(self, texture: Texture) -> int:
        u, v = (_WRAP_MODES[mode] for mode in texture.wrap)
        key = (u, v, texture.nearest)
        if key not in self._samplers:
            sampler = {
                "magFilter": _NEAREST if texture.nearest else _LINEAR,
                "minFilter": _NEAREST if texture.nearest else _LINEAR_MIPMAP_LINEAR,
            }
            sampler |= self._without_defaults({"wrapS": u, "wrapT": v}, {"wrapS": 10497, "wrapT": 10497})
            self._samplers[key] = self._append("samplers", sampler)
        return self._samplers[key]

    def pack(self) -> list[bytes | memoryview]:
        """The file's bytes in order."""
        self.json["buffers"] = [{"byteLength": self._length}]
        if self._unpacked_length:
            fallback = {_MESHOPT: {"fallback": True}}
            self.json["buffers"].append({"byteLength": self._unpacked_length, "extensions": fallback})
        if self._extensions or self._required:
            self.json["extensionsUsed"] = sorted(self._extensions | self._required)
        if self._required:
            self.json["extensionsRequired"] = sorted(self._required)
        return pack_glb(self.json, self._binary)


def _named(name: str) -> _Json:
    return {"name": name} if name else {}


def _unit_range(values: Sequence[float]) -> list[float]:
    return [min(max(float(x), 0.0), 1.0) for x in values]


def _vertex_arrays(mesh: Mesh, material: Material, offset: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """Attributes (n, k) under their glTF names in the types that they are stored in."""
    arrays: dict[str, NDArray[Any]] = {"POSITION": float32_positions(mesh, offset)}
    if mesh.normals is not None:
        arrays["NORMAL"] = unit_normals(mesh)
    for i, uv in enumerate(_uv_sets(mesh, material)):
        arrays[f"TEXCOORD_{i}"] = uv
    if mesh.colors is not None:
        arrays["COLOR_0"] = np.rint(np.clip(mesh.colors, 0, 1) * 65535).astype(np.uint16)
    for name, values in mesh.attributes.items():
        arrays[f"_{name}"] = values.astype(np.float32).reshape(len(values), -1)
    return arrays


def _compact_indices(faces: NDArray[np.int32]) -> NDArray[Any]:
    """(3 m, 1) indices in the smallest type whose largest value, the restart mark, stays unused."""
    largest = int(faces.max())
    for dtype in (np.uint8, np.uint16):
        if largest < np.iinfo(dtype).max:
            return faces.astype(dtype).reshape(-1, 1)
    return faces.astype(np.uint32).reshape(-1, 1)


def _uv_sets(mesh: Mesh, material: Material) -> list[NDArray[np.float32]]:
    """The mesh's UV sets; missing ones that the material looks up are zero, as renderers take them."""
    needed = max((t.texcoord + 1 for t in textures_of(material)), default=0)
    missing = [np.zeros((len(mesh.vertices), 2), np.float32)] * (needed - len(mesh.uvs))
    return [uv.astype(np.float32) for uv in mesh.uvs] + missing


def _texture_transform(matrix: NDArray[np.float64]) -> _Json:
    """KHR_texture_transform of a (2, 3) matrix: offset, then rotation (positive turns +v to +u), scale."""
    if np.array_equal(matrix, np.eye(2, 3)):
        return {}
    scale_u = math.hypot(matrix[0, 0], matrix[1, 0])
    if scale_u > 0:
        angle = math.atan2(-matrix[1, 0], matrix[0, 0])
    else:
        angle = math.atan2(matrix[0, 1], matrix[1, 1])
    sin, cos = math.sin(angle), math.cos(angle)
    scale_v = matrix[0, 1] * sin + matrix[1, 1] * cos
    rebuilt = np.array([[scale_u * cos, scale_v * sin], [-scale_u * sin, scale_v * cos]])
    if not np.allclose(rebuilt, matrix[:, :2], rtol=0, atol=1e-6 * max(1.0, scale_u, abs(scale_v))):
        raise AssetError("a texture transform has shear, which glTF cannot express; apply it to the UVs")
    fields: _Json = {}
    if matrix[:, 2].any():
        fields["offset"] = [float(x) for x in matrix[:, 2]]
    if angle:
        fields["rotation"] = angle
    if (scale_u, scale_v) != (1.0, 1.0):
        fields["scale"] = [float(scale_u), float(scale_v)]
    return fields
