"""The options of every command that writes an asset made of voxels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from voxlume.mesh.export import ExportOptions as Options


@dataclass
class ExportOptions:
    """What the asset file holds."""

    faces: int | Literal["auto"] | None = "auto"
    """At most so many triangles; None keeps all; auto: 500,000, of a grid up to 256 100,000."""
    texture_size: int | Literal["auto"] = "auto"
    """Side of the textures in texels, 64 to 8192; auto: 2048, of a grid up to 256 1024."""
    alpha_mode: Literal["auto", "opaque", "mask", "blend"] = "auto"
    """auto: opaque unless a clear part of the surface is translucent."""
    sides: Literal["auto", "single", "double"] = "auto"
    """auto: both sides are drawn where the back of the surface can be seen."""
    image_format: Literal["webp", "png", "jpeg"] = "webp"
    """Of the textures in the file."""
    compression: Literal["none", "draco", "meshopt"] = "none"
    """Of the geometry in a .glb: smaller, slightly rounded, and readers need a decoder."""
    stl_size: float = 100.0
    """Longest side of an .stl in millimetres."""
    clean: bool = True
    """Drop dust and doubled triangles, fill small holes, make the winding consistent."""
    remove_hidden: bool = False
    """Also drop what cannot be seen from outside."""
    remesh: bool = False
    """Make one closed surface of it, for printing."""
    normal_map: bool = False
    """Also a normal texture, with the detail that the face budget took away."""
    occlusion: bool = False
    """Also an ambient occlusion texture."""
    vertex_colors: bool = False
    """The surface as it is, all of it, with colours at its vertices and no textures."""

    def options(self, resolution: int | None = None, device: str = "auto") -> Options:
        """For :func:`voxlume.mesh.export.export`.

        Parameters
        ----------
        resolution : of the voxels, for what is chosen by it; None while it is not known.
        device : where to simplify and bake.

        Raises
        ------
        VoxlumeError : an option that is not possible.
        """
        from voxlume.asset import AlphaMode
        from voxlume.mesh.clean import CleanOptions
        from voxlume.mesh.export import ExportOptions as Options
        from voxlume.mesh.export import fitting_sizes
        from voxlume.mesh.textured import DEFAULT_FACES, DEFAULT_TEXTURE_SIZE, TexturedOptions

        modes: dict[str, AlphaMode] = {"opaque": "OPAQUE", "mask": "MASK", "blend": "BLEND"}
        faces, texture_size = DEFAULT_FACES, DEFAULT_TEXTURE_SIZE
        if resolution is not None:
            faces, texture_size = fitting_sizes(resolution)
        textured = TexturedOptions(
            faces=faces if self.faces == "auto" else self.faces,
            texture_size=texture_size if self.texture_size == "auto" else self.texture_size,
            cleaning=CleanOptions(remove_hidden=self.remove_hidden) if self.clean else None,
            remesh=self.remesh,
            normal_map=self.normal_map,
            occlusion=self.occlusion,
            alpha_mode=modes.get(self.alpha_mode),
            double_sided={"single": False, "double": True}.get(self.sides),
            device=device,
        )
        textured.check()
        return Options(
            textured,
            self.vertex_colors,
            self.image_format,
            None if self.compression == "none" else self.compression,
            self.stl_size,
        )
