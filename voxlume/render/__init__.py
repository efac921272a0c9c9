"""Pictures of meshes and voxels, drawn on the CPU."""
