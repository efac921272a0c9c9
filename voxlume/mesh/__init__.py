"""Meshes: reading and writing assets, cleaning, simplifying, remeshing, unwrapping, baking."""
