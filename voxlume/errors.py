"""The errors a user can cause, and nothing else.

Everything a caller may want to show as one line derives from :class:`VoxlumeError`; the command
line prints its text and exits with status 1. Any other exception is a bug in this package.
"""

from __future__ import annotations


class VoxlumeError(Exception):
    """Base of all errors whose message is meant for the user: one line, what is wrong and what to do."""


class AssetError(VoxlumeError):
    """A mesh, texture or scene file cannot be read, or holds no usable geometry."""


class VoxelFileError(VoxlumeError):
    """A ``.vxz`` or ``.npz`` voxel file is damaged, truncated or not what it says it is."""


class ModelFileError(VoxlumeError):
    """A checkpoint or model folder is missing, damaged or does not fit the network it is loaded into."""


class ImageError(VoxlumeError):
    """A picture cannot be used as input (unreadable, empty, fully transparent, too large)."""


class MemoryBudgetError(VoxlumeError):
    """The work does not fit in the memory that was allowed; the message names a budget that would.

    Attributes
    ----------
    usage : one line on what lay on the device when it ran out, for a report; empty if it did not run out.
    """

    def __init__(self, message: str, usage: str = "") -> None:
        super().__init__(message)
        self.usage = usage


class MissingDependencyError(VoxlumeError):
    """An optional package is needed for this; the message names the extra to install."""


class Cancelled(VoxlumeError):
    """The caller's progress callback asked to stop."""
