"""Simplification on CUDA: the rounds of :mod:`voxlume.mesh.simplify` with its state on the device."""

from __future__ import annotations

import warnings
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxlume.mesh import collapse_triton as kernels
from voxlume.mesh.collapse import COST_LEVELS, ID_BITS, LINE, TANGLE
from voxlume.mesh.edges import EdgeTable
from voxlume.mesh.simplify import Reduction


def reduction_on(device: str) -> Any:
    """The class that reduces meshes there: on the CPU where the kernels turn out to be wrong."""
    return partial(DeviceReduction, device=device) if kernels_are_right(device) else Reduction


@cache
def kernels_are_right(device: str) -> bool:
    """Compare a small reduction with the CPU's, the first time; warn once if it differs."""
    failure = ""
    try:
        points, faces, colors = bumps(24)
        works = Reduction(points, faces, colors), DeviceReduction(points, faces, colors, device=device)
        for work in works:
            while work.alive > len(faces) // 4 and work.collapse_round(len(faces) // 4):
                pass
            work.compact()
        one, two = (work.arrays() for work in works)
        if one[1].shape != two[1].shape or not np.allclose(one[0], two[0], rtol=0, atol=1e-9):
            failure = "the mesh differs"
    except Exception as error:  # whatever the compiler throws: the CPU does the same
        failure = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    if failure:
        warnings.warn(
            f"meshes are simplified on the CPU, the kernels are off on {device}: {failure}",
            RuntimeWarning,
            stacklevel=2,
        )
    return not failure


def bumps(size: int) -> tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.float32]]:
    """A wavy sheet of size x size squares with an open border and a border between two colours."""
    x, y = np.meshgrid(np.linspace(-0.5, 0.5, size + 1), np.linspace(-0.5, 0.5, size + 1), indexing="ij")
    points = np.stack([x, y, 0.1 * np.sin(9 * x) * np.cos(7 * y)], axis=-1).reshape(-1, 3)
    corner = (np.arange(size)[:, None] * (size + 1) + np.arange(size)).reshape(-1)
    a, b, c, d = corner, corner + size + 1, corner + size + 2, corner + 1
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]).astype(np.int32)
    return points, faces, (points[:, :1] > 0.1).astype(np.float32)


class DeviceReduction(Reduction):
    """A mesh that is being simplified, in tensors on a device."""

    def __init__(
        self,
        points: NDArray[np.float64],
        faces: NDArray[np.int32],
        colors: NDArray[np.floating] | None,
        *,
        device: str,
    ) -> None:
        n = len(points)
        self.device = torch.device(device)
        self.points: Any = torch.as_tensor(points).to(self.device).clone()
        self.faces: Any = torch.as_tensor(faces).to(self.device).clone()
        self.alive = len(faces)
        self.keep_topology = True
        self.quadrics: Any = torch.zeros((n, 10), dtype=torch.float64, device=self.device)
        self.moved: Any = torch.zeros(n, dtype=torch.bool, device=self.device)
        self.source: Any = self._numbers(n)
        self.origin: Any = self.source
        self._list()
        rings = self.head, self.following
        kernels.face_quadrics(self.points, self.faces, self.feature, *rings, self.quadrics)
        if colors is not None:
            values = torch.as_tensor(np.ascontiguousarray(colors, np.float32)).to(self.device)
            kernels.color_quadrics(self.points, self.faces, values, *rings, self.quadrics)
        self._price()

    def arrays(self) -> tuple[NDArray, NDArray, NDArray, NDArray, NDArray]:
        points, faces, moved, source, origin = (
            tensor.cpu().numpy() for tensor in (self.points, self.faces, self.moved, self.source, self.origin)
        )
        return points, faces, moved, source, origin

    def edges(self) -> EdgeTable:
        _, order, starts = edges_of(self.faces)
        start = torch.cat([starts, starts.new_tensor([len(order)])])
        return EdgeTable(start.int().cpu().numpy(), order.int().cpu().numpy())

    def _numbers(self, count: int) -> Tensor:
        return torch.arange(count, dtype=torch.int32, device=self.device)

    def _list(self) -> None:
        n = len(self.points)
        self.parent: Any = self._numbers(n)
        corners = self.faces.reshape(-1)
        vertex, order = torch.sort(corners, stable=True)
        starts = _starts(vertex)
        following = order.roll(-1)
        following[(starts - 1).roll(-1)] = order[starts]  # -1 is the last corner of the last vertex
        self.following: Any = torch.empty(len(corners), dtype=torch.int32, device=self.device)
        self.following[order] = following.int()
        self.head: Any = torch.full((n,), -1, dtype=torch.int32, device=self.device)
        self.head[vertex[starts].long()] = order[starts].int()

        key, order, starts = edges_of(self.faces)
        count = torch.diff(starts, append=starts.new_tensor([len(key)]))
        first, second = corners[order[starts]], corners[order[torch.clamp(starts + 1, max=len(key) - 1)]]
        line = (count == 1) | ((count == 2) & (first == second))
        kind = (line * LINE + (count > 2) * TANGLE).to(torch.uint8)
        self.feature: Any = torch.empty(len(corners), dtype=torch.uint8, device=self.device)
        self.feature[order] = torch.repeat_interleave(kind, count)
        self.on_feature: Any = torch.zeros(n, dtype=torch.uint8, device=self.device)
        for value in (LINE, TANGLE):
            chosen = starts[kind == value]
            self.on_feature[(key[chosen] >> ID_BITS)] = value
            self.on_feature[(key[chosen] & (2**ID_BITS - 1))] = value
        self.feature = self.feature.reshape(-1, 3)
        if not self.keep_topology:
            self.on_feature[:] = TANGLE

    def _price(self) -> None:
        n = len(self.points)
        self.cost: Any = torch.empty((len(self.faces), 3), dtype=torch.float32, device=self.device)
        kernels.all_costs(self.quadrics, self.points, self.on_feature, self.faces, self.feature, self.cost)
        self.keys: Any = torch.empty(n, dtype=torch.int64, device=self.device)
        self.chosen: Any = torch.empty(n, dtype=torch.uint8, device=self.device)
        self.due: Any = torch.ones(n, dtype=torch.uint8, device=self.device)
        self.levels: Any = torch.zeros(COST_LEVELS, dtype=torch.int32, device=self.device)
        self.limit: Any = torch.zeros(1, dtype=torch.int64, device=self.device)
        self.removed: Any = torch.zeros(1, dtype=torch.int32, device=self.device)
        self._renew_keys()

    def _renew_keys(self) -> None:
        lists = self.faces, self.head, self.following
        kernels.renew_keys(self.due, *lists, self.cost, self.keys, self.levels)

    # Launching kernels is what takes the time of a round, so there are as few as possible.

    def _choose(self, rank: int) -> Any:
        kernels.cost_limit(self.levels, rank, self.limit, self.removed)
        kernels.mark_chosen(self.faces, self.head, self.following, self.keys, self.limit, self.chosen)
        return torch.nonzero(self.chosen)[:, 0]

    def _collapse(self, chosen: Any) -> int:
        kernels.collapse_edges(
            chosen,
            self.quadrics,
            self.points,
            self.on_feature,
            self.faces,
            self.feature,
            self.head,
            self.following,
            self.cost,
            self.keys,
            self.parent,
            self.removed,
            self.moved.view(torch.uint8),
            self.due,
        )
        self._renew_keys()
        return int(self.removed)

    def compact(self) -> None:
        self.faces = self.faces[self.faces[:, 0] >= 0]
        used = torch.zeros(len(self.points), dtype=torch.bool, device=self.device)
        used[self.faces.reshape(-1).long()] = True
        number = torch.where(used, used.cumsum(0).int() - 1, -1).int()
        root = self.parent.long()
        while not torch.equal(root[root], root):
            root = root[root]
        into = number[root[self.origin.long()]]
        self.origin = torch.where(self.origin >= 0, into, -1).int()
        self.faces = number[self.faces.long()]
        self.points, self.quadrics = self.points[used], self.quadrics[used]
        self.moved, self.source = self.moved[used], self.source[used]


def edges_of(faces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Half-edges by the edge they lie on, in the order of :class:`voxlume.mesh.edges.EdgeTable`.

    Returns
    -------
    key : int64 (3 m,), ascending, of the edge: its smaller vertex, then the larger one.
    order : int64 (3 m,), the half-edges.
    starts : int64 (e,), where those of each edge begin.
    """
    corners, ends = faces.reshape(-1), faces[:, [1, 2, 0]].reshape(-1)
    low, high = torch.minimum(corners, ends).long(), torch.maximum(corners, ends).long()
    key, order = torch.sort((low << ID_BITS) | high, stable=True)
    return key, order, _starts(key)


def _starts(ascending: Tensor) -> Tensor:
    """Where a new value begins, int64 (k,)."""
    new = torch.ones(len(ascending), dtype=torch.bool, device=ascending.device)
    new[1:] = ascending[1:] != ascending[:-1]
    return torch.nonzero(new)[:, 0]
