"""O-Voxel to mesh with tensors on any device, and the differentiable extraction of training.

:func:`extract_mesh_torch` gives the same faces in the same order as :mod:`voxlume.ovoxel.extract`, whose
module docstring has the rules; no tensor leaves its device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from voxlume.ovoxel.extract import AGREEMENT_MARGIN, RING_AXES, Diagonal, chosen_diagonal
from voxlume.ovoxel.index_torch import TorchVoxelIndex, forward_neighbors
from voxlume.ovoxel.orient_torch import flipped_quads_torch

Vector = tuple[Tensor, Tensor, Tensor]
"""The coordinates of (q,) vectors."""


def extract_mesh_torch(
    coords: Tensor,
    dual_vertices: Tensor,
    intersected: Tensor,
    resolution: int,
    splitting_weights: Tensor | None = None,
    diagonal: Diagonal | None = None,
    *,
    orient: bool = True,
) -> tuple[Tensor, Tensor]:
    """Dual grid to triangles.

    Parameters
    ----------
    coords : integer (n, 3), unique, any order.
    dual_vertices : float32 (n, 3), voxel units from the voxel's minimum corner.
    intersected : bool (n, 3), as in :class:`~voxlume.ovoxel.grid.OVoxel`.
    splitting_weights : float32 (n,) or (n, 1), positive.
    diagonal : see :data:`voxlume.ovoxel.extract.Diagonal`; None follows the splitting weights where given,
        else the normals.
    orient : make the winding consistent and outward.

    Returns
    -------
    vertices : float32 (n, 3), Z-up model frame; every voxel is one, used or not.
    faces : int32 (m, 3); two per quad, quads in the order of voxels, then axis.

    Raises
    ------
    ValueError : coordinates out of range or twice, or ``weights`` asked for without splitting weights.
    """
    diagonal = chosen_diagonal(splitting_weights is not None, diagonal)
    index = TorchVoxelIndex(coords)
    if index.order is not None:
        order = index.order
        g = None if splitting_weights is None else splitting_weights[order]
        vertices, faces = extract_mesh_torch(
            coords[order], dual_vertices[order], intersected[order], resolution, g, diagonal, orient=orient
        )
        return _in_given_order(vertices, faces, order)
    quads, axes = extract_quads(index, intersected)
    positions = coords.double() + dual_vertices.double()
    vertices = (positions * (1.0 / resolution) - 0.5).float()
    if diagonal == "weights" and splitting_weights is not None:
        g0, g1, g2, g3 = splitting_weights.reshape(-1)[quads].unbind(1)
        along_first = g0 * g2 > g1 * g3
    else:
        along_first = _first_diagonal_is_better(positions, quads, diagonal)
    # The corners of the two triangles for each diagonal, as it is and reversed.
    corners = torch.tensor(
        [[0, 1, 2, 0, 2, 3], [0, 2, 1, 0, 3, 2], [0, 1, 3, 3, 1, 2], [0, 3, 1, 3, 2, 1]], device=coords.device
    )
    kind = 2 * (~along_first).long()
    if orient:
        kind += flipped_quads_torch(quads, axes, coords, vertices).long()
    return vertices, torch.gather(quads, 1, corners[kind]).int().reshape(-1, 3)


def extract_training_mesh(
    coords: Tensor, dual_vertices: Tensor, intersected: Tensor, resolution: int, splitting_weights: Tensor
) -> tuple[Tensor, Tensor]:
    """The extraction without a choice of diagonal: a fan of four triangles about each quad's centre.

    Differentiable in ``dual_vertices`` and ``splitting_weights``. The centre is the mean of the two
    diagonals' midpoints weighted with g0 g2 and g1 g3.

    Parameters
    ----------
    As :func:`extract_mesh_torch`.

    Returns
    -------
    vertices : (n + q, 3) in the dtype of ``dual_vertices``, Z-up model frame: voxels, then quad centres.
    faces : int32 (4 q, 3); the four triangles 014, 124, 234, 304 of each quad together.
    """
    index = TorchVoxelIndex(coords)
    quads, _ = extract_quads(index, intersected if index.order is None else intersected[index.order])
    if index.order is not None:
        quads = index.order[quads]
        quads = quads[quads[:, 0].argsort(stable=True)]
    vertices = (coords + dual_vertices) / resolution - 0.5
    v0, v1, v2, v3 = vertices[quads].unbind(1)
    g0, g1, g2, g3 = splitting_weights.reshape(-1, 1)[quads].unbind(1)
    first, second = g0 * g2, g1 * g3
    centers = (first * (v0 + v2) / 2 + second * (v1 + v3) / 2) / (first + second)
    center = torch.arange(len(quads), device=coords.device)[:, None] + len(coords)
    fan = torch.tensor([0, 1, 4, 1, 2, 4, 2, 3, 4, 3, 0, 4], device=coords.device)
    faces = torch.cat([quads, center], 1)[:, fan].int().reshape(-1, 3)
    return torch.cat([vertices, centers]), faces


def extract_quads(index: TorchVoxelIndex, intersected: Tensor) -> tuple[Tensor, Tensor]:
    """Quads int64 (q, 4) around the crossed edges whose four voxels exist, and their axes int64 (q,).

    ``intersected`` (n, 3) and the quads' corners follow the order of ``index.keys``.
    """
    # A row of -1 at the end stands for the neighbours of a voxel that is not there.
    neighbors = torch.cat([forward_neighbors(index.keys), torch.full((1, 3), -1, device=index.keys.device)])
    voxels, axes = intersected.bool().nonzero(as_tuple=True)
    s, t = torch.tensor(RING_AXES, device=neighbors.device)[axes].unbind(1)
    beside, above = neighbors[voxels, s], neighbors[voxels, t]
    quads = torch.stack([voxels, beside, neighbors[beside, t], above], 1)
    complete = (quads >= 0).all(1)
    return quads[complete], axes[complete]


def _first_diagonal_is_better(positions: Tensor, quads: Tensor, diagonal: Diagonal) -> Tensor:
    """bool (q,) from float64 positions (n, 3), by area of triangle 012 or by agreement of the normals."""
    # One tensor per coordinate: everything after the look-up runs over contiguous memory.
    columns = [column.contiguous() for column in positions.unbind(1)]
    p0, p1, p2, p3 = (
        (columns[0][corner], columns[1][corner], columns[2][corner]) for corner in quads.unbind(1)
    )
    n012 = _normal(p0, p1, p2)
    if diagonal == "first":
        return (n012[0] != 0) | (n012[1] != 0) | (n012[2] != 0)
    first = _cosine(n012, _normal(p0, p2, p3))
    second = _cosine(_normal(p0, p1, p3), _normal(p3, p1, p2))
    return second <= first + AGREEMENT_MARGIN


def _normal(a: Vector, b: Vector, c: Vector) -> Vector:
    """Normals of the triangles abc with twice their areas as lengths."""
    u0, u1, u2 = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    v0, v1, v2 = c[0] - a[0], c[1] - a[1], c[2] - a[2]
    return u1 * v2 - u2 * v1, u2 * v0 - u0 * v2, u0 * v1 - u1 * v0


def _cosine(n: Vector, m: Vector) -> Tensor:
    """Of the angles between vectors; 0 where one of them vanishes."""
    lengths = _dot(n, n) * _dot(m, m)
    return torch.where(lengths > 0, _dot(n, m) / lengths.sqrt(), 0.0)


def _dot(a: Vector, b: Vector) -> Tensor:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _in_given_order(vertices: Tensor, faces: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    """A mesh of sorted voxels renumbered to the order they came in; sorted voxel i was voxel ``order[i]``."""
    given = torch.empty_like(vertices)
    given[order] = vertices
    faces = order[faces.long()].int()
    rank = faces[::2, 0].argsort(stable=True)
    return given, faces.reshape(-1, 2, 3)[rank].reshape(-1, 3)
