"""New textures for a mesh file from an O-Voxel; everything else of the file stays as it is.

The glTF file is edited, not exported anew: positions, hierarchy, skins, animations and whatever extensions
it has keep their bytes.
"""

from __future__ import annotations

import copy
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from voxlume.asset import AlphaMode, Wrap
from voxlume.errors import AssetError, VoxlumeError
from voxlume.files import atomic_write
from voxlume.mesh.alpha import CLEAR_MASS, alpha_mode_of, cut_outs
from voxlume.mesh.bake import bake
from voxlume.mesh.gltf.accessors import Accessors
from voxlume.mesh.gltf.container import GltfFile
from voxlume.mesh.gltf.edit import GltfEdit, Json
from voxlume.mesh.gltf.flatten import Shown, shown_primitives
from voxlume.mesh.gltf.materials import Materials
from voxlume.mesh.gltf.reader import check_extensions
from voxlume.mesh.gltf.reindex import reindex_primitive
from voxlume.mesh.gltf.scene import Scene
from voxlume.mesh.read import kind_of, load
from voxlume.mesh.source_surface import SourceSurface
from voxlume.mesh.unwrap import check_texture_size, unwrap
from voxlume.mesh.uv_layout import into_unit_square, overlap, survey, uv_areas, without_hidden
from voxlume.mesh.write import ENDINGS, write_asset
from voxlume.mesh.write_glb import write_glb
from voxlume.mesh.write_images import QUALITY, ImageFile, ImageFormat, TextureImage, encode_images
from voxlume.ovoxel.grid import OVoxel
from voxlume.progress import Progress

_WRAP_MODES: dict[Wrap, int] = {"repeat": 10497, "mirror": 33648, "clamp": 33071}
_LINEAR, _LINEAR_MIPMAP_LINEAR = 9729, 9987
_KEPT_OF_MATERIALS = ("name", "doubleSided", "normalTexture", "occlusionTexture", "extras")
_TRANSFORM = "KHR_texture_transform"
_LEAST_UV_SHARE = 0.5  # of the surface that must have a place in the texture for its UVs to count
_LEAST_OF_SHEET = 0.05  # share of a cut-out sheet that is there
_MOST_OVERLAP = 0.05
_LEAST_OF_PART = 0.2  # share of one of several materials that must be translucent before it is blended
_FAR = 4.0  # voxels
_MOST_LOST = 0.2  # share of the faces that may be farther off


@dataclass(frozen=True)
class RetextureOptions:
    """How to texture a mesh that exists.

    Attributes
    ----------
    texture_size : side of the square textures.
    uvs : "keep" bakes into the UVs that the file has and unwraps what has none; "new" unwraps all of it
        into a further UV set. The old sets stay.
    alpha_mode : None decides for each material by how much of its surface is translucent.
    image_format, quality : of the textures.
    """

    texture_size: int = 2048
    uvs: Literal["keep", "new"] = "keep"
    alpha_mode: AlphaMode | None = None
    image_format: ImageFormat = "webp"
    quality: int = QUALITY

    def check(self) -> None:
        """Refuse what cannot be, before any work is done.

        Raises
        ------
        AssetError : a texture size or a way of UVs that is not possible.
        """
        check_texture_size(self.texture_size)
        if self.uvs not in ("keep", "new"):
            raise AssetError(f"UVs can be 'keep' or 'new', not '{self.uvs}'")


def retexture(
    source: str | Path,
    ovoxel: OVoxel,
    path: str | Path,
    options: RetextureOptions | None = None,
    *,
    progress: Progress | None = None,
) -> tuple[str, ...]:
    """Give the mesh in a file the material of voxels that lie where it lies.

    In a ``.glb`` the primitives of the default scene get base-colour and metallic-roughness textures:
    one pair for each material that had UVs, and one for everything that had none. Of such a material the
    name, sides, normal map and occlusion stay; emission and extensions are dropped, and so are vertex
    colours, for they would tint the result. Vertices keep their bits and their frame; where new UVs make
    seams, copies of them are added. All else in the file is untouched. Other mesh files are read as
    :func:`voxlume.mesh.read.load` does, and other endings written from the textured GLB.

    Parameters
    ----------
    source : glTF, GLB, OBJ, PLY, STL or OFF.
    ovoxel : voxels with material, whose placement leads to the world frame of the file.
    path : the file to write, with an ending of :data:`voxlume.mesh.write.ENDINGS`.

    Returns
    -------
    A line for everything that a user should know.

    Raises
    ------
    AssetError : the file cannot be read, the voxels carry no material or lie elsewhere, or an option is
        not possible.
    VoxlumeError : the file cannot be written.
    Cancelled : by the callback.
    """
    options = options or RetextureOptions()
    options.check()
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise VoxlumeError(f"cannot write {path}: the name must end in {' or '.join(ENDINGS)}")
    with _as_gltf(Path(source)) as gltf:
        try:
            parts, notes = _Retexturing(gltf, ovoxel, options, progress).run()
        except AssetError as error:
            raise AssetError(f"{Path(source).name}: {error}") from error
    if path.suffix.lower() == ".glb":
        with atomic_write(path) as file:
            file.writelines(parts)
        return notes
    with tempfile.TemporaryDirectory() as folder:
        glb = Path(folder) / f"{path.stem}.glb"
        with atomic_write(glb) as file:
            file.writelines(parts)
        asset = load(glb)
    return notes + write_asset(asset, path, image_format=options.image_format, quality=options.quality)


@contextmanager
def _as_gltf(path: Path) -> Iterator[Path]:
    """The file itself if it is glTF, otherwise a GLB of what is in it."""
    if kind_of(path) == "gltf":
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        glb = Path(folder) / "mesh.glb"
        write_glb(load(path), glb)
        yield glb


@dataclass(eq=False)
class _Layout:
    """Primitives that share a pair of textures.

    Attributes
    ----------
    shown : the primitives.
    vertices, faces, uvs : of all of them together, in world space; UVs as the texture sees them.
    texcoords : the UV set of each primitive.
    wrap : of the texture.
    extensions : of the texture info.
    """

    shown: list[Shown]
    vertices: NDArray[np.float64]
    faces: NDArray[np.int32]
    uvs: NDArray[np.floating]
    texcoords: list[int]
    wrap: tuple[Wrap, Wrap]
    extensions: Json


class _Retexturing:
    """One file on its way."""

    def __init__(
        self, path: Path, ovoxel: OVoxel, options: RetextureOptions, progress: Progress | None
    ) -> None:
        self._options = options
        self._progress = progress
        self._placement = ovoxel.placement
        self._file = GltfFile(path)
        check_extensions(self._file)
        scene = Scene(self._file.root, self._file.budget)
        self._accessors = Accessors(self._file)
        self._materials = Materials(self._file, self._accessors)
        records = self._materials.records
        self._shown = shown_primitives(self._file, scene, self._accessors, len(records))
        if not self._shown:
            raise AssetError("no geometry: the default scene has no triangle")
        if ovoxel.attributes is None:
            raise AssetError("the voxels carry no material; there is nothing to bake")
        self._source = SourceSurface(ovoxel)
        self._edit = GltfEdit(self._file)
        self._uses = _material_uses(self._file)
        self._notes: dict[str, None] = {}

    def run(self) -> tuple[list[bytes | memoryview], tuple[str, ...]]:
        """The bytes of the new GLB, and what there is to say."""
        self._check_place()
        layouts, bare = self._kept_layouts()
        if bare:
            layouts.append(self._new_layout(bare))
        for layout in layouts:
            self._texture(layout)
        if any(shown.times > 1 for shown in self._shown):
            self._notes["parts that are shown several times are textured as where they are shown first"] = (
                None
            )
        return self._edit.pack(), (*self._notes, *self._edit.notes)

    # -- where the texture goes -----------------------------------------------------------------------------

    def _kept_layouts(self) -> tuple[list[_Layout], list[Shown]]:
        """Layouts in the UVs that the file has, and the primitives that have none."""
        groups: dict[object, list[tuple[Shown, int, NDArray[np.float64]]]] = defaultdict(list)
        infos: dict[object, tuple[tuple[Wrap, Wrap], Json]] = {}
        bare = []
        for shown in self._shown:
            uvs = shown.surface.uvs
            if not uvs or self._options.uvs == "new":
                bare.append(shown)
                continue
            index = shown.placed.material
            leading = self._materials.leading_texture(self._materials.records[index]) if index >= 0 else None
            texcoord, transform, extensions = 0, np.eye(2, 3), {}
            wrap: tuple[Wrap, Wrap] = ("repeat", "repeat")
            if leading is not None:
                info, texture = leading
                texcoord, transform, wrap = texture.texcoord, texture.transform, texture.wrap
                if _TRANSFORM in info.fields.get("extensions", {}):
                    extensions = {_TRANSFORM: info.fields["extensions"][_TRANSFORM]}
            if texcoord >= len(uvs):
                texcoord = 0
                extensions = {k: {**v, "texCoord": 0} for k, v in extensions.items()}
            seen = uvs[texcoord].astype(np.float64) @ transform[:, :2].T + transform[:, 2]
            if not self._has_place(shown, seen):
                self._notes[f"the UVs of {self._name(index)} give most of it no place; it was unwrapped"] = (
                    None
                )
                bare.append(shown)
                continue
            group = (index, texcoord, transform.tobytes(), wrap)
            groups[group].append((shown, texcoord, seen))
            infos[group] = wrap, extensions
        layouts = []
        for key, members in groups.items():
            vertices, faces = _joined([shown for shown, _, _ in members])
            uvs_seen = np.concatenate([seen for _, _, seen in members])
            texcoords = [texcoord for _, texcoord, _ in members]
            layouts.append(
                _Layout([shown for shown, _, _ in members], vertices, faces, uvs_seen, texcoords, *infos[key])
            )
        return layouts, bare

    def _has_place(self, shown: Shown, uvs: NDArray[np.float64]) -> bool:
        areas = _areas(shown.placed.vertices, shown.placed.faces)
        placed = uv_areas(uvs, shown.surface.faces) > 1e-12
        return float(areas[placed].sum()) >= _LEAST_UV_SHARE * float(areas.sum())

    def _new_layout(self, bare: list[Shown]) -> _Layout:
        """Unwraps primitives together and gives each of them the UV set."""
        vertices, turned = _joined(bare)
        first = np.cumsum([0] + [len(shown.surface.positions) for shown in bare])
        faces = np.concatenate([s.surface.faces + start for s, start in zip(bare, first, strict=False)])
        cut = unwrap(
            vertices,
            faces.astype(np.int32),
            texture_size=self._options.texture_size,
            progress=self._progress,
        )
        # Cutting keeps the order of vertices, so those of each primitive stay together.
        starts = np.searchsorted(cut.vertex, first)
        corners = np.cumsum([0] + [len(shown.surface.faces) for shown in bare])
        texcoords = [
            reindex_primitive(
                self._edit,
                self._file,
                self._accessors,
                shown,
                cut.vertex[starts[i] : starts[i + 1]] - np.int32(first[i]),
                cut.faces[corners[i] : corners[i + 1]] - np.int32(starts[i]),
                cut.uvs[starts[i] : starts[i + 1]],
            )
            for i, shown in enumerate(bare)
        ]
        mirrored = (turned != faces).any(axis=1)
        cut_faces = np.where(mirrored[:, None], cut.faces[:, [0, 2, 1]], cut.faces)
        return _Layout(bare, vertices[cut.vertex], cut_faces, cut.uvs, texcoords, ("clamp", "clamp"), {})

    # -- what goes there ------------------------------------------------------------------------------------

    def _check_place(self) -> None:
        """Refuse voxels that belong to something else."""
        vertices, faces = _joined(self._shown)
        some = faces[np.linspace(0, len(faces) - 1, min(len(faces), 4096)).astype(np.int64)]
        points = self._voxel_units(vertices[some].mean(axis=1))
        points = points[np.isfinite(points).all(axis=1)]
        face, weights = self._source.nearest(points)
        corners = self._source.vertices[self._source.faces[face]]
        distance = np.linalg.norm(np.einsum("nk,nkc->nc", weights, corners) - points, axis=1)
        lost = float(((face < 0) | (distance > _FAR)).mean()) if len(face) else 1.0
        if lost > _MOST_LOST:
            raise AssetError(
                f"the voxels lie elsewhere: {lost:.0%} of the mesh has none near it; encode this very file"
            )

    def _voxel_units(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        return (self._placement.to_model(points) + 0.5) * self._source.resolution

    def _texture(self, layout: _Layout) -> None:
        """Bake, and let the materials of the layout's primitives use the result."""
        square = without_hidden(into_unit_square(layout.uvs, layout.faces, layout.wrap))
        grid = survey(square)
        self._tell_overlap(layout, overlap(grid, uv_areas(layout.uvs, layout.faces)))
        corners = layout.vertices[square.vertex].reshape(-1, 3, 3)
        sound = np.isfinite(corners).all((1, 2))
        baked = bake(
            self._source,
            corners[sound].reshape(-1, 3),
            square.faces[: int(sound.sum())],
            square.uvs.reshape(-1, 3, 2)[sound].reshape(-1, 2),
            size=self._options.texture_size,
            placement=self._placement,
            progress=self._progress,
        )
        users: dict[tuple[int, int], list[int]] = defaultdict(list)
        for i, (shown, texcoord) in enumerate(zip(layout.shown, layout.texcoords, strict=True)):
            users[shown.placed.material, texcoord].append(i)
        modes = self._alpha_modes(list(users.values()), baked.base_color[..., 3], grid, layout)
        alpha = any(mode != "OPAQUE" for mode in modes)
        color = baked.base_color if alpha else baked.base_color[..., :3]
        files = encode_images(
            [
                TextureImage(np.ascontiguousarray(color), alpha=alpha),
                TextureImage(baked.metallic_roughness, exact=True),
            ],
            self._options.image_format,
            self._options.quality,
        )
        sampler = self._edit.append("samplers", _sampler(layout.wrap))
        base_color, metallic_roughness = (self._add_texture(file, sampler) for file in files)
        for ((old, texcoord), members), mode in zip(users.items(), modes, strict=True):
            look: Json = {"texCoord": texcoord} if texcoord else {}
            look |= {"extensions": layout.extensions} if layout.extensions else {}
            material: Json = {
                "pbrMetallicRoughness": {
                    "baseColorTexture": {"index": base_color} | copy.deepcopy(look),
                    "metallicRoughnessTexture": {"index": metallic_roughness} | copy.deepcopy(look),
                }
            }
            if mode != "OPAQUE":
                material["alphaMode"] = mode
            self._set_material([layout.shown[i] for i in members], old, material)
        for shown in layout.shown:
            self._drop_colors(shown)

    def _alpha_modes(
        self, users: list[list[int]], alpha: NDArray[np.uint8], grid: NDArray[np.int32], layout: _Layout
    ) -> list[AlphaMode]:
        """The mode of each material by the share of its surface, not of the texture, that is translucent.

        Parameters
        ----------
        users : for each material the numbers of the layout's primitives that have it.
        alpha : uint8 (s, s).
        grid : int32 (g, g), the face at places of the texture, -1 for none.
        """
        if self._options.alpha_mode is not None:
            return [self._options.alpha_mode] * len(users)
        at = ((np.arange(len(grid)) + 0.5) * (len(alpha) / len(grid))).astype(np.int64)
        values = alpha[np.ix_(at, at)][grid >= 0] / 255
        face = grid[grid >= 0]
        weights = _areas(layout.vertices, layout.faces)[face] / np.bincount(face)[face]
        starts = np.cumsum([0] + [len(shown.surface.faces) for shown in layout.shown])
        owner = np.searchsorted(starts, face, side="right") - 1
        # Voxels at the border of a translucent part mix it with its neighbours.
        assert self._source.attributes is not None
        cuts = cut_outs(self._source.vertices, self._source.faces, self._source.attributes[:, 5])
        least = _LEAST_OF_PART if len({s.placed.material for s in self._shown}) > 1 else CLEAR_MASS
        modes: list[AlphaMode] = []
        for members in users:
            own = np.isin(owner, members)
            mode = alpha_mode_of(values[own], weights[own], cuts=cuts, clear_mass=least)
            solid = float(weights[own][values[own] > 0.5].sum())
            if mode == "MASK" and solid < _LEAST_OF_SHEET * float(weights[own].sum()):
                mode = "BLEND"  # a pane, not a sheet with holes
            modes.append(mode)
        return modes

    def _tell_overlap(self, layout: _Layout, share: float) -> None:
        if share > _MOST_OVERLAP:
            where = self._name(layout.shown[0].placed.material)
            self._notes[
                f"the UVs of {where} overlap: {share:.0%} of it shares texels with other parts and looks "
                f"like them; new UVs give every part its own"
            ] = None

    def _name(self, material: int) -> str:
        if material < 0:
            return "what has no material"
        return f"material '{self._materials.records[material].text('name', '') or material}'"

    def _add_texture(self, file: ImageFile, sampler: int) -> int:
        image = {"bufferView": self._edit.append_bytes(file.data), "mimeType": file.mime_type}
        source: Json = {"source": self._edit.append("images", image)}
        if file.format == "webp":
            self._edit.use_extension("EXT_texture_webp", required=True)
            source = {"extensions": {"EXT_texture_webp": source}}
        return self._edit.append("textures", source | {"sampler": sampler})

    def _set_material(self, members: Sequence[Shown], old: int, material: Json) -> None:
        """Change the material in its place if nothing else uses it any more; otherwise add another."""
        if old >= 0:
            given = self._materials.records[old].fields
            # Copies, because a material that is split in two must not share parts of its JSON.
            material = {k: copy.deepcopy(given[k]) for k in _KEPT_OF_MATERIALS if k in given} | material
        if old >= 0 and self._uses[old] == len(members):
            self._edit.document["materials"][old] = material
            return
        if old >= 0:
            self._uses[old] -= len(members)  # the last of several takes the place
        new = self._edit.append("materials", material)
        for shown in members:
            self._primitive(shown)["material"] = new

    def _primitive(self, shown: Shown) -> Json:
        found: Json = self._edit.document["meshes"][shown.mesh]["primitives"][shown.primitive]
        return found

    def _drop_colors(self, shown: Shown) -> None:
        primitive = self._primitive(shown)
        draco = primitive.get("extensions", {}).get("KHR_draco_mesh_compression", {})
        for attributes in (primitive["attributes"], draco.get("attributes", {})):
            if attributes.pop("COLOR_0", None) is not None:
                self._notes["vertex colours were dropped, they would tint the new textures"] = None


def _joined(shown: Sequence[Shown]) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Vertices and faces of primitives together, as the scene places them."""
    first = np.cumsum([0] + [len(s.placed.vertices) for s in shown])
    faces = [s.placed.faces + np.int32(start) for s, start in zip(shown, first, strict=False)]
    return np.concatenate([s.placed.vertices for s in shown]), np.concatenate(faces).astype(np.int32)


def _areas(vertices: NDArray[np.float64], faces: NDArray[np.int32]) -> NDArray[np.float64]:
    """Area (m,) of each face; 0 where a vertex is not finite."""
    corners = vertices[faces]
    with np.errstate(invalid="ignore", over="ignore"):
        cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        return np.nan_to_num(np.linalg.norm(cross, axis=1) / 2, nan=0.0, posinf=0.0)


def _sampler(wrap: tuple[Wrap, Wrap]) -> Json:
    u, v = (_WRAP_MODES[mode] for mode in wrap)
    return {"magFilter": _LINEAR, "minFilter": _LINEAR_MIPMAP_LINEAR, "wrapS": u, "wrapT": v}


def _material_uses(file: GltfFile) -> Counter[int]:
    """How often primitives, and variants of them, refer to each material."""
    uses: Counter[int] = Counter()
    for mesh in file.root.records("meshes"):
        for primitive in mesh.records("primitives"):
            owners = [primitive]
            variants = primitive.extension("KHR_materials_variants")
            if variants is not None:
                owners += variants.records("mappings")
            uses.update(owner.integer("material") for owner in owners if "material" in owner)
    return uses
