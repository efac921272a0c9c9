"""O-Voxel: the field-free sparse voxel representation of textured surfaces, and its files."""

from voxlume.ovoxel.grid import ATTRIBUTE_CHANNELS, OVoxel

__all__ = ["ATTRIBUTE_CHANNELS", "OVoxel"]
