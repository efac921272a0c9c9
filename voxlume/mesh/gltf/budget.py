"""How much memory a file may ask for."""

from __future__ import annotations

from voxlume.errors import AssetError

FLOOR = 640 * 2**20
"""Any file may unfold to this many bytes: about 18 million triangles with normals and UVs."""

FACTOR = 32
"""A large file may unfold to this many times its own size."""


class Budget:
    """Counts the bytes that a reader makes out of a file, so that a small file cannot ask for all memory.

    Instances, sparse accessors, shared vertex buffers and compressed streams let a few bytes stand for
    many. Arrays that merely copy stored bytes stay far below the limit; what multiplies them does not.

    Parameters
    ----------
    file_bytes : size of the file with all resources it has loaded.
    """

    def __init__(self, file_bytes: int) -> None:
        self.limit = max(FLOOR, FACTOR * file_bytes)
        self.spent = 0

    def spend(self, num_bytes: int, what: str) -> None:
        """Ask before allocating (or before work of that size).

        Raises
        ------
        AssetError : the file has used up what its size justifies.
        """
        self.spent += num_bytes
        if self.spent > self.limit:
            raise AssetError(
                f"{what} would unfold the file to more than {self.limit / 2**20:.0f} MiB of geometry; "
                f"reduce instances or split the file"
            )
