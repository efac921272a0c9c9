"""Reading glTF 2.0, by our own code: what a general library reads silently wrong comes out right here."""

from voxlume.mesh.gltf.reader import read_gltf

__all__ = ["read_gltf"]
