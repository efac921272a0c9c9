"""The surfaces of a batch of O-Voxels, extracted together."""

from __future__ import annotations

import torch
from torch import Tensor

from voxlume.ovoxel.extract_torch import extract_mesh_torch, extract_training_mesh
from voxlume.render.batch import Surfaces


def surfaces_of_voxels(
    coords: Tensor,
    dual_vertices: Tensor,
    intersected: Tensor,
    attributes: Tensor | None,
    resolution: int,
    *,
    batch_size: int | None = None,
    splitting_weights: Tensor | None = None,
) -> Surfaces:
    """What :func:`voxlume.ovoxel.extract_torch.extract_mesh_torch` makes of each sample, unoriented.

    Parameters
    ----------
    coords : integer (n, 4), sample and voxel; samples in ascending order.
    dual_vertices, intersected, splitting_weights : as there.
    attributes : (n, k) or None, one row a voxel, which is a vertex.
    batch_size : number of samples; by default one more than the last that has a voxel.

    Raises
    ------
    ValueError : samples out of order, coordinates out of range or twice.
    """
    batch_size = _batch_size(coords, batch_size)
    _, faces = extract_mesh_torch(
        _side_by_side(coords, resolution),
        dual_vertices,
        intersected,
        resolution,
        splitting_weights,
        orient=False,
    )
    vertices = ((coords[:, 1:] + dual_vertices.double()) / resolution - 0.5).float()
    return Surfaces(vertices, faces, _face_starts(coords, faces, batch_size), attributes)


def training_surfaces_of_voxels(
    coords: Tensor,
    dual_vertices: Tensor,
    intersected: Tensor,
    splitting_weights: Tensor,
    attributes: Tensor | None,
    resolution: int,
    *,
    batch_size: int | None = None,
) -> Surfaces:
    """The differentiable surfaces of :func:`voxlume.ovoxel.extract_torch.extract_training_mesh`.

    Gradients reach ``dual_vertices``, ``splitting_weights`` and ``attributes``; a quad's centre has the mean
    of its corners' attributes. Parameters as in :func:`surfaces_of_voxels`.

    Raises
    ------
    ValueError : samples out of order, coordinates out of range or twice.
    """
    batch_size = _batch_size(coords, batch_size)
    shifted = _side_by_side(coords, resolution)
    # In double precision, as the last sample lies thousands of voxels away from the first.
    vertices, faces = extract_training_mesh(
        shifted, dual_vertices.double(), intersected, resolution, splitting_weights.double()
    )
    starts = _face_starts(coords, faces, batch_size)
    n, first = len(coords), faces[::4, 0].long()
    sample = torch.cat([coords[:, 0].long(), coords[first, 0].long()])
    step = torch.zeros_like(vertices)
    step[:, 0] = (sample * _stride(resolution)).double() / resolution
    if attributes is not None:
        quads = faces.reshape(-1, 4, 3)[:, :, 0].long()
        attributes = torch.cat([attributes[:n], attributes[quads].mean(1)])
    return Surfaces((vertices - step).float(), faces, starts, attributes)


def _stride(resolution: int) -> int:
    """From one sample to the next along x; a gap keeps them from touching."""
    return resolution + 2


def _side_by_side(coords: Tensor, resolution: int) -> Tensor:
    """Voxels (n, 3) of one wide grid that holds all samples (n, 4) behind each other along x."""
    inside = ((coords[:, 1:] >= 0) & (coords[:, 1:] < resolution)).all()
    if not bool(inside):
        raise ValueError(f"voxel coordinates must lie in [0, {resolution})")
    shifted = coords[:, 1:].clone()
    shifted[:, 0] += coords[:, 0] * _stride(resolution)
    return shifted


def _batch_size(coords: Tensor, batch_size: int | None) -> int:
    if coords.dim() != 2 or coords.shape[1] != 4:
        raise ValueError(f"coordinates of a batch must be (n, 4), not {tuple(coords.shape)}")
    sample = coords[:, 0]
    if not bool((sample[1:] >= sample[:-1]).all()):
        raise ValueError("samples must come in ascending order")
    if batch_size is None:
        batch_size = int(sample[-1]) + 1 if len(sample) else 0
    return batch_size


def _face_starts(coords: Tensor, faces: Tensor, batch_size: int) -> Tensor:
    """Faces follow their quads, and these the voxels that they start from."""
    sample = coords[:, 0].long()[faces[:, 0].long()].contiguous()
    return torch.searchsorted(sample, torch.arange(batch_size + 1, device=coords.device))
