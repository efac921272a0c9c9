"""Sparse voxel tensors and what networks do with them.

Legend for shapes, here and in the modules below: n voxels (rows), b samples, c channels, t tokens,
h heads, d channels of a head. A neighbour's number is ``9 (dx+1) + 3 (dy+1) + (dz+1)``, 0..26.
"""

from voxlume.sparse.attention import attention
from voxlume.sparse.backend import kernels
from voxlume.sparse.conv import SubmanifoldConv3d, submanifold_conv3d, submanifold_conv3d_to_children
from voxlume.sparse.memory import memory_budget
from voxlume.sparse.resample import (
    Subdivision,
    channel_to_space,
    mean_pool,
    nearest_upsample,
    space_to_channel,
    subdivide,
)
from voxlume.sparse.tensor import SparseTensor

__all__ = [
    "SparseTensor",
    "Subdivision",
    "SubmanifoldConv3d",
    "attention",
    "channel_to_space",
    "kernels",
    "mean_pool",
    "memory_budget",
    "nearest_upsample",
    "space_to_channel",
    "subdivide",
    "submanifold_conv3d",
    "submanifold_conv3d_to_children",
]
