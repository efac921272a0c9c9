"""An asset as a USD layer: prims and materials as text, with the large arrays apart.

Source: OpenUSD's text format, UsdGeom and the UsdPreviewSurface specification.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxlume.asset import Asset, Material, Mesh, Texture
from voxlume.mesh.write_checks import float32_offset, float32_positions, textures_of, unit_normals

ROOT = "Asset"


@dataclass(frozen=True, eq=False)
class UsdArray:
    """An attribute whose value is an array.

    Attributes
    ----------
    prim : path of the prim that has it.
    type_name, name : as in ``point3f[] points``.
    values : int32 (n,) or float32 (n,), (n, 2) or (n, 3).
    interpolation : of a value per vertex, or empty.
    """

    prim: str
    type_name: str
    name: str
    values: NDArray[np.int32] | NDArray[np.float32]
    interpolation: str = "vertex"

    @property
    def path(self) -> str:
        return f"{self.prim}.{self.name}"


Part = str | UsdArray


def usd_layer(
    asset: Asset, meshes: Sequence[Mesh], image_names: Mapping[int, str], notes: dict[str, None]
) -> Iterator[Part]:
    """The layer in order of its text: lines, and arrays that stand for lines.

    Parameters
    ----------
    meshes : those of the asset to write.
    image_names : file of each texture's image, by the id() of its array.
    notes : gets a line for everything that USD's preview material cannot hold.
    """
    offset = float32_offset(meshes)
    yield "#usda 1.0"
    yield f'(\n    defaultPrim = "{ROOT}"\n    metersPerUnit = 1\n    upAxis = "Y"\n)\n'
    yield f'def Xform "{ROOT}" (\n    kind = "component"\n)\n{{'
    if offset.any():
        yield f"    double3 xformOp:translate = {_tuple(offset)}"
        yield '    uniform token[] xformOpOrder = ["xformOp:translate"]'
    used = {id(m): m for m in (asset.material_of(mesh) for mesh in meshes)}
    names = _identifiers([material.name or "material" for material in used.values()])
    paths = {key: f"/{ROOT}/Materials/{name}" for key, name in zip(used, names, strict=True)}
    colored = {id(asset.material_of(mesh)) for mesh in meshes if mesh.colors is not None}
    yield '    def Scope "Materials"\n    {'
    for key, material in used.items():
        shader = _PreviewSurface(paths[key], material, image_names, key in colored)
        yield from shader.lines()
        notes |= dict.fromkeys(shader.notes)
    yield "    }\n"
    mesh_names = _identifiers([mesh.name or "mesh" for mesh in meshes], taken=("Materials",))
    for mesh, name in zip(meshes, mesh_names, strict=True):
        material = asset.material_of(mesh)
        yield from _mesh(mesh, f"/{ROOT}/{name}", material, paths[id(material)], offset)
        if {"METALLIC", "ROUGHNESS"} & mesh.attributes.keys():
            notes["metalness and roughness of vertices are left out; their means remain"] = None
    yield "}"


def _mesh(
    mesh: Mesh, path: str, material: Material, material_path: str, offset: NDArray[np.float64]
) -> Iterator[Part]:
    points = float32_positions(mesh, offset)
    yield f'    def Mesh "{path.rsplit("/", 1)[1]}" (\n        prepend apiSchemas = ["MaterialBindingAPI"]'
    yield "    )\n    {"
    yield f"        uniform bool doubleSided = {int(material.double_sided)}"
    yield f"        float3[] extent = [{_tuple(points.min(0))}, {_tuple(points.max(0))}]"
    yield UsdArray(path, "int[]", "faceVertexCounts", np.full(len(mesh.faces), 3, np.int32), "")
    yield UsdArray(path, "int[]", "faceVertexIndices", mesh.faces.reshape(-1).astype(np.int32), "")
    yield f"        rel material:binding = <{material_path}>"
    yield UsdArray(path, "point3f[]", "points", points)
    if mesh.normals is not None:
        yield UsdArray(path, "normal3f[]", "normals", unit_normals(mesh))
    for name, (texcoord, transform) in _uv_sets(material).items():
        given = mesh.uvs[texcoord] if texcoord < len(mesh.uvs) else np.zeros((len(points), 2), np.float32)
        uv = given.astype(np.float64) @ transform[:, :2].T + transform[:, 2]
        uv[:, 1] = 1 - uv[:, 1]  # USD's (0, 0) is the lower left corner
        yield UsdArray(path, "texCoord2f[]", f"primvars:{name}", uv.astype(np.float32))
    if mesh.colors is not None:
        colors = np.clip(mesh.colors, 0, 1) * np.asarray(material.base_color_factor, np.float32)
        colors = colors.astype(np.float32)
        yield UsdArray(path, "color3f[]", "primvars:displayColor", colors[:, :3])
        if material.alpha_mode != "OPAQUE":
            yield UsdArray(path, "float[]", "primvars:displayOpacity", colors[:, 3])
    yield '        uniform token subdivisionScheme = "none"\n    }\n'


def _uv_sets(material: Material) -> dict[str, tuple[int, NDArray[np.float64]]]:
    """Names and values of the UV sets of a material's textures, with their transforms applied."""
    sets: dict[str, tuple[int, NDArray[np.float64]]] = {}
    for texture in textures_of(material):
        if not any(_same_uvs(texture, *known) for known in sets.values()):
            sets[f"st{len(sets) or ''}"] = texture.texcoord, texture.transform
    return sets


def _same_uvs(texture: Texture, texcoord: int, transform: NDArray[np.float64]) -> bool:
    return texture.texcoord == texcoord and np.array_equal(texture.transform, transform)


class _PreviewSurface:
    """One material: a preview surface with a texture reader for each texture."""

    def __init__(self, path: str, material: Material, image_names: Mapping[int, str], colored: bool) -> None:
        self._path = path
        self._material = material
        self._image_names = image_names
        self._uvs = _uv_sets(material)
        self._shaders: list[str] = []
        self.notes: list[str] = []
        self._inputs = self._connect(colored)

    def lines(self) -> Iterator[str]:
        name = self._path.rsplit("/", 1)[1]
        yield f'        def Material "{name}"\n        {{'
        yield f"            token outputs:surface.connect = <{self._path}/Surface.outputs:surface>"
        yield from self._shader("Surface", "UsdPreviewSurface", self._inputs, ("token", "surface"))
        yield from self._shaders
        yield "        }"

    def _connect(self, colored: bool) -> list[str]:
        """The inputs of the surface; makes the readers on the way."""
        m = self._material
        red, green, blue, alpha = m.base_color_factor
        inputs = []
        base = m.base_color_texture
        by_vertex = colored and base is None
        if base is not None:
            self._texture("BaseColor", base, (red, green, blue, alpha), is_color=True)
            inputs.append(self._input("color3f", "diffuseColor", "BaseColor", "rgb"))
            if colored:
                self.notes.append(f"material '{m.name}': vertex colours beside a texture are left out")
        elif by_vertex:
            self._vertex_reader("VertexColor", "UsdPrimvarReader_float3", "displayColor", "float3")
            inputs.append(self._input("color3f", "diffuseColor", "VertexColor", "result"))
        else:
            inputs.append(f"color3f inputs:diffuseColor = {_tuple((red, green, blue))}")
        inputs += self._opacity(alpha, by_vertex)
        surface = m.metallic_roughness_texture
        if surface is not None:
            scale = (1.0, m.roughness_factor, m.metallic_factor, 1.0)
            self._texture("MetallicRoughness", surface, scale)
            inputs.append(self._input("float", "roughness", "MetallicRoughness", "g"))
            inputs.append(self._input("float", "metallic", "MetallicRoughness", "b"))
        else:
            inputs.append(f"float inputs:roughness = {m.roughness_factor:.9g}")
            inputs.append(f"float inputs:metallic = {m.metallic_factor:.9g}")
        if any(m.emissive_factor) and m.emissive_texture is not None:
            self._texture("Emission", m.emissive_texture, (*m.emissive_factor, 1.0), is_color=True)
            inputs.append(self._input("color3f", "emissiveColor", "Emission", "rgb"))
        elif any(m.emissive_factor):
            inputs.append(f"color3f inputs:emissiveColor = {_tuple(m.emissive_factor)}")
        if m.normal_texture is not None:
            # USD's rules allow no other scale than the one that decodes the map.
            self._texture("Normal", m.normal_texture, (2.0, 2.0, 2.0, 1.0), bias=(-1.0, -1.0, -1.0, 0.0))
            if m.normal_scale != 1:
                self.notes.append(f"material '{m.name}': the scale of the normal map is left out")
            inputs.append(self._input("normal3f", "normal", "Normal", "rgb"))
        if m.occlusion_texture is not None:
            self._texture("Occlusion", m.occlusion_texture, (1.0,) * 4)
            inputs.append(self._input("float", "occlusion", "Occlusion", "r"))
        return inputs

    def _opacity(self, alpha: float, by_vertex: bool) -> list[str]:
        m, base = self._material, self._material.base_color_texture
        if m.alpha_mode == "OPAQUE":
            if m.transmission_texture is not None:
                self.notes.append(f"material '{m.name}': the transmission texture is left out")
            see_through = min(max(m.transmission_factor, 0.0), 1.0)
            return [f"float inputs:opacity = {1 - see_through:.9g}"] if see_through else []
        inputs = []
        if base is not None and base.image.shape[2] in (2, 4):
            inputs.append(self._input("float", "opacity", "BaseColor", "a"))
        elif by_vertex:
            self._vertex_reader("VertexOpacity", "UsdPrimvarReader_float", "displayOpacity", "float")
            inputs.append(self._input("float", "opacity", "VertexOpacity", "result"))
        else:
            inputs.append(f"float inputs:opacity = {alpha:.9g}")
        if m.alpha_mode == "MASK":
            inputs.append(f"float inputs:opacityThreshold = {max(m.alpha_cutoff, 1e-6):.9g}")
        return inputs

    def _input(self, type_name: str, name: str, shader: str, output: str) -> str:
        return f"{type_name} inputs:{name}.connect = <{self._path}/{shader}.outputs:{output}>"

    def _texture(
        self,
        name: str,
        texture: Texture,
        scale: Sequence[float],
        *,
        bias: Sequence[float] | None = None,
        is_color: bool = False,
    ) -> None:
        (uv_name,) = [key for key, known in self._uvs.items() if _same_uvs(texture, *known)]
        reader = f"{name}UV"
        self._vertex_reader(reader, "UsdPrimvarReader_float2", uv_name, "float2")
        wrap_s, wrap_t = texture.wrap
        inputs = [
            f"asset inputs:file = @{self._image_names[id(texture.image)]}@",
            self._input("float2", "st", reader, "result"),
            f'token inputs:sourceColorSpace = "{"sRGB" if is_color else "raw"}"',
            f'token inputs:wrapS = "{wrap_s}"',
            f'token inputs:wrapT = "{wrap_t}"',
        ]
        if any(x != 1 for x in scale):
            inputs.append(f"float4 inputs:scale = {_tuple(scale)}")
        if bias is not None:
            inputs.append(f"float4 inputs:bias = {_tuple(bias)}")
        outputs = [("float3", "rgb"), *(("float", c) for c in "rgba")]
        self._shaders += self._shader(name, "UsdUVTexture", inputs, *outputs)

    def _vertex_reader(self, name: str, kind: str, variable: str, type_name: str) -> None:
        inputs = [f'string inputs:varname = "{variable}"']
        self._shaders += self._shader(name, kind, inputs, (type_name, "result"))

    def _shader(
        self, name: str, kind: str, inputs: Iterable[str], *outputs: tuple[str, str]
    ) -> Iterator[str]:
        yield f'            def Shader "{name}"\n            {{'
        yield f'                uniform token info:id = "{kind}"'
        for line in inputs:
            yield f"                {line}"
        for type_name, output in outputs:
            yield f"                {type_name} outputs:{output}"
        yield "            }"


def _tuple(values: Iterable[float]) -> str:
    return "(" + ", ".join(repr(float(x)) for x in values) + ")"


def _identifiers(names: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """Names that USD accepts for prims, each once."""
    found: list[str] = []
    for name in names:
        word = base = re.sub(r"^(?=\d)|[^A-Za-z0-9_]+", "_", name)[:60] or "_"
        number = 1
        while word in found or word in taken:
            number += 1
            word = f"{base}_{number}"
        found.append(word)
    return found
