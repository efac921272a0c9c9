"""How much memory a file may ask for."""

from __future__ import annotations

from voxlume.errors import AssetError

FLOOR = 512 * 2**20
"""Any file may unfold to this many bytes: about 14 million triangles with normals and UVs."""

FACTOR = 64
"""A large file may unfold to this many times its own size: Draco reaches about 50."""

PRIMITIVE_BYTES = 2**14
"""What a primitive costs however small it is: objects and time, not arrays."""

ATTRIBUTE_BYTES = 2**8
"""The same for an attribute or a morph target of a primitive."""

NODE_BYTES = 2**10
"""The same for a node: its transforms, and the objects that hold them while the graph is read."""


class Budget:
    """Counts the bytes that a reader makes out of a file, so that a small file cannot ask for all memory.

    Instances, sparse accessors, shared vertex buffers and compressed streams let a few bytes stand for
    many. Arrays that merely copy stored bytes stay far below the limit; what multiplies them does not.

    Attributes
    ----------
    file_bytes : size of all files read so far, each counted once.
    spent : bytes made out of them so far.
    """

    def __init__(self, file_bytes: int) -> None:
        self.file_bytes = file_bytes
        self.spent = 0

    def spend(self, num_bytes: int, what: str) -> None:
        """Ask before allocating (or before work of that size).

        Raises
        ------
        AssetError : the file has used up what its size justifies.
        """
        self.spent += num_bytes
        limit = max(FLOOR, FACTOR * self.file_bytes)
        if self.spent > limit:
            raise AssetError(
                f"{what} would unfold the file to more than {limit // 2**20} MiB; "
                f"use fewer instances or split the file"
            )
