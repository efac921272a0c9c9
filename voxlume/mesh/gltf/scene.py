"""The node graph: which nodes are drawn, and where (glTF 2.0, 3.5; KHR_node_visibility)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from voxlume.errors import AssetError
from voxlume.mesh.gltf.budget import NODE_BYTES, Budget
from voxlume.mesh.gltf.values import Record

_IDENTITY = (1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)


class Scene:
    """The default scene of a file.

    Attributes
    ----------
    nodes : all node records of the file.
    world : float64 (nodes, 4, 4), each node's global transform (column vectors).
    drawn : the nodes under the scene's roots, each once, parents first.
    """

    def __init__(self, root: Record, budget: Budget) -> None:
        budget.spend(len(root.items("nodes")) * NODE_BYTES, "nodes")
        self.nodes = root.records("nodes")
        children = [n.references("children", self.nodes) if "children" in n else [] for n in self.nodes]
        self._children = children
        levels = _levels(children)
        self.world = _global_transforms(self.nodes, children, levels)
        self.drawn = self._reachable(_roots(root, self.nodes, levels))

    def _reachable(self, roots: list[int]) -> list[int]:
        drawn, seen, queue = [], set(), list(reversed(roots))
        while queue:
            node = queue.pop()
            if node in seen or not _visible(self.nodes[node]):
                continue
            seen.add(node)
            drawn.append(node)
            queue.extend(reversed(self._children[node]))
        return drawn


def local_matrix(node: Record) -> tuple[float, ...]:
    """A node's own transform from ``matrix`` or translation, rotation, scale: 4x4, row-major."""
    if "matrix" in node:
        m = node.numbers("matrix", 16)
        if max(abs(m[3]), abs(m[7]), abs(m[11]), abs(m[15] - 1)) > 1e-3:
            node.fail("matrix", "is not an affine transform (last row must be 0 0 0 1)")
        return (m[0], m[4], m[8], m[12], m[1], m[5], m[9], m[13], m[2], m[6], m[10], m[14], 0, 0, 0, 1)
    tx, ty, tz = node.numbers("translation", 3, (0, 0, 0))
    sx, sy, sz = node.numbers("scale", 3, (1, 1, 1))
    x, y, z, w = node.numbers("rotation", 4, (0, 0, 0, 1))
    norm = math.sqrt(math.fsum((x * x, y * y, z * z, w * w)))
    if not 0 < norm < math.inf:
        x, y, z, w, norm = 0.0, 0.0, 0.0, 1.0, 1.0
    x, y, z, w = x / norm, y / norm, z / norm, w / norm
    return (
        (1 - 2 * (y * y + z * z)) * sx, 2 * (x * y - w * z) * sy, 2 * (x * z + w * y) * sz, tx,
        2 * (x * y + w * z) * sx, (1 - 2 * (x * x + z * z)) * sy, 2 * (y * z - w * x) * sz, ty,
        2 * (x * z - w * y) * sx, 2 * (y * z + w * x) * sy, (1 - 2 * (x * x + y * y)) * sz, tz,
        0, 0, 0, 1,
    )  # fmt: skip


def _levels(children: list[list[int]]) -> list[list[int]]:
    """Nodes by depth, roots first.

    Raises
    ------
    AssetError : a node has two parents, or is its own ancestor.
    """
    parents = [-1] * len(children)
    for parent, below in enumerate(children):
        for child in below:
            if parents[child] >= 0:
                raise AssetError(f"nodes[{child}] has more than one parent; the node graph must be a tree")
            parents[child] = parent
    levels = [[n for n, parent in enumerate(parents) if parent < 0]]
    while levels[-1]:
        levels.append([child for node in levels[-1] for child in children[node]])
    reached = sum(map(len, levels))
    if reached < len(children):
        raise AssetError(f"the node graph has a cycle ({len(children) - reached} nodes hang on no root)")
    return levels[:-1]


def _global_transforms(
    nodes: list[Record], children: list[list[int]], levels: list[list[int]]
) -> NDArray[np.float64]:
    plain = ("matrix", "translation", "rotation", "scale")
    local = [local_matrix(n) if any(k in n for k in plain) else _IDENTITY for n in nodes]
    world = np.array(local, np.float64).reshape(-1, 4, 4)
    with np.errstate(over="ignore", invalid="ignore"):
        for level in levels:
            below = [child for node in level for child in children[node]]
            above = [node for node in level for _ in children[node]]
            if below:
                world[below] = world[above] @ world[below]
    return world


def _roots(root: Record, nodes: list[Record], levels: list[list[int]]) -> list[int]:
    """Root nodes of the default scene; of the first one where no default is named."""
    scenes = root.records("scenes")
    index = root.reference("scene", scenes) if scenes else None
    if not scenes:
        return levels[0] if levels else []
    return scenes[index or 0].references("nodes", nodes)


def _visible(node: Record) -> bool:
    visibility = node.extension("KHR_node_visibility")
    return visibility is None or visibility.flag("visible", True)
