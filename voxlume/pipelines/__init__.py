"""From pictures to O-Voxel: model folders, the stages and their order, the memory budget.

>>> from voxlume.pipelines import ImageTo3D
>>> ImageTo3D.from_pretrained("microsoft/TRELLIS.2-4B").run("chair.png")[0].ovoxel.save("chair.vxz")
"""

from voxlume.pipelines.image_to_3d import Generated, ImageTo3D, ImageTo3DOptions, SamplerOptions
from voxlume.pipelines.texturing import Textured, Texturing, TexturingOptions

__all__ = [
    "Generated",
    "ImageTo3D",
    "ImageTo3DOptions",
    "SamplerOptions",
    "Textured",
    "Texturing",
    "TexturingOptions",
]
