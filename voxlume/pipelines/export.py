"""From a pipeline's O-Voxel to the file that a user asked for: :mod:`voxlume.mesh.export`."""

from voxlume.mesh.export import ENDINGS, ExportOptions, export

__all__ = ["ENDINGS", "ExportOptions", "export"]
