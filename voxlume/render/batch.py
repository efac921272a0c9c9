"""Many surfaces drawn at once, and what their pixels show, differentiably: the renderer of training.

Everything is in the Z-up model frame. Pixel centres are sampled once, coverage is exact (see
:mod:`voxlume.render.batch_raster`); row 0 of a picture is its top. Gradients reach vertices and attributes
through depth, normals and interpolated values of the points that pixels show. The choice of those points has
none: silhouettes (for these see :mod:`voxlume.render.soft_mask`) and hidden surfaces get no gradient.

Legend for shapes: b samples, each seen by one camera; n vertices and m faces of all samples together; s
pixels a side; p pixels that show something.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from voxlume.render.batch_camera import ALL_ELEVATIONS, BatchCameras, orbit_cameras, random_cameras
from voxlume.render.batch_raster import hit_weights, key_depth, key_face, nearest_faces, snap

__all__ = [
    "ALL_ELEVATIONS",
    "BatchCameras",
    "Fragments",
    "Maps",
    "Points",
    "Projection",
    "Surfaces",
    "interpolate",
    "maps",
    "orbit_cameras",
    "random_cameras",
    "rasterize",
    "vertex_normals",
]

Normals = Literal["face", "smooth"]


@dataclass(frozen=True, eq=False)
class Surfaces:
    """Triangles of b samples; no two samples share a vertex.

    Attributes
    ----------
    vertices : float32 (n, 3), Z-up model frame.
    faces : int32 (m, 3), rows of ``vertices``; winding does not matter, both sides are drawn.
    face_starts : int64 (b + 1,); the faces of sample i are the rows from [i] to [i + 1].
    attributes : float32 (n, k), any values to interpolate, or None.
    """

    vertices: Tensor
    faces: Tensor
    face_starts: Tensor
    attributes: Tensor | None = None

    def __len__(self) -> int:
        return len(self.face_starts) - 1

    @classmethod
    def joined(cls, meshes: Sequence[tuple[Tensor, Tensor, Tensor | None]]) -> Surfaces:
        """One sample for each (vertices (n, 3), faces (m, 3), attributes (n, k) or None)."""
        vertices, faces, attributes = zip(*meshes, strict=True)
        starts = torch.tensor([0, *(len(v) for v in vertices)]).cumsum(0).tolist()
        counts = torch.tensor([0, *(len(f) for f in faces)], device=vertices[0].device)
        return cls(
            torch.cat(vertices),
            torch.cat([f.int() + start for f, start in zip(faces, starts[:-1], strict=True)]),
            counts.cumsum(0),
            None if attributes[0] is None else torch.cat(attributes),
        )

    def repeated(self, times: int) -> Surfaces:
        """All samples again and again: sample i of copy c is sample c b + i; for several views of each."""
        shift = torch.arange(times, device=self.faces.device)
        faces = self.faces[None] + (shift * len(self.vertices)).int()[:, None, None]
        starts = self.face_starts[None, :-1] + (shift * len(self.faces))[:, None]
        return Surfaces(
            self.vertices.repeat(times, 1),
            faces.reshape(-1, 3),
            torch.cat([starts.flatten(), starts.new_tensor([times * len(self.faces)])]),
            None if self.attributes is None else self.attributes.repeat(times, 1),
        )

    @cached_property
    def face_sample(self) -> Tensor:
        """int32 (m,), the sample of each face."""
        row = torch.arange(len(self.faces), device=self.faces.device)
        return torch.searchsorted(self.face_starts[1:], row, right=True).int()

    @cached_property
    def vertex_sample(self) -> Tensor:
        """int64 (n,), the sample of each vertex; 0 for those that no face uses."""
        sample = torch.zeros(len(self.vertices), dtype=torch.long, device=self.vertices.device)
        sample[self.faces.long().flatten()] = self.face_sample.long().repeat_interleave(3)
        return sample


@dataclass(frozen=True, eq=False)
class Fragments:
    """What every pixel shows, in layers from front to back; all (layers, b, s, s, ...).

    Attributes
    ----------
    face : int32, row of the surfaces' faces, or -1.
    barycentric : float32 (..., 3), zero where there is no face.
    depth : float32, distance along the viewing axis, infinity where there is no face.
    cameras : that they were drawn with.
    """

    face: Tensor
    barycentric: Tensor
    depth: Tensor
    cameras: BatchCameras

    @property
    def size(self) -> int:
        return self.face.shape[-1]


@dataclass(frozen=True, eq=False)
class Maps:
    """Pictures of surfaces for losses and measures, (b, s, s, ...) float32, zero where nothing is seen.

    Attributes
    ----------
    mask : (b, s, s) 1 where something is seen; without gradient.
    depth : (b, s, s) distance along the viewing axis.
    normal : (b, s, s, 3) unit vectors in the model frame, turned to the camera.
    attributes : (b, s, s, k) or None.
    """

    mask: Tensor
    depth: Tensor
    normal: Tensor
    attributes: Tensor | None


class Projection:
    """Surfaces before cameras, one each: what every drawing of them starts with."""

    def __init__(self, surfaces: Surfaces, cameras: BatchCameras, size: int) -> None:
        if len(cameras) != len(surfaces):
            raise ValueError(f"{len(cameras)} cameras for {len(surfaces)} samples; one each is needed")
        self.surfaces, self.cameras, self.size = surfaces, cameras, size
        matrix = cameras.matrix()[surfaces.vertex_sample]
        self.clip = (matrix[:, :, :3] * surfaces.vertices[:, None]).sum(-1) + matrix[:, :, 3]
        self.snapped = snap(self.clip.detach(), size)

    def nearest(
        self,
        beyond: Tensor | None = None,
        *,
        drawn: Tensor | None = None,
        samples: tuple[int, int] | None = None,
        face_rows: tuple[int, int] | None = None,
    ) -> Tensor:
        """Keys int64 (b s s,) of the nearest faces, see :mod:`voxlume.render.batch_raster`.

        Parameters
        ----------
        beyond : keys of the layer in front.
        drawn : bool (m,), faces that are drawn; all by default.
        samples, face_rows : first and last + 1 of the samples to draw, and their ``face_starts``, where
            not all of them; their keys count faces from the first of these rows.
        """
        first, last = samples or (0, len(self.surfaces))
        rows = slice(*(face_rows or (0, len(self.surfaces.faces))))
        picture = self.surfaces.face_sample[rows]
        if first:
            picture = picture - first
        if drawn is not None:
            picture = torch.where(drawn[rows], picture, -1)
        faces = self.surfaces.faces[rows]
        return nearest_faces(
            self.clip.detach().float(), self.snapped, faces, picture, last - first, self.size, beyond
        )


class Points:
    """The surface points that pixels show, packed.

    Attributes
    ----------
    face : int64 (p,), row of the surfaces' faces.
    sample : int64 (p,), row : int64 (p,), column : int64 (p,) of the pixel.
    corners : int64 (p, 3), rows of the surfaces' vertices.
    weights : (p, 3) barycentric, differentiable in the vertices.
    depth : (p,) along the viewing axis, differentiable.
    """

    def __init__(self, projection: Projection, face: Tensor, pixel: Tensor, first_sample: int = 0) -> None:
        """Of faces (p,) seen at flat pixels (p,), counted from the sample ``first_sample``."""
        self._projection, size = projection, projection.size
        self.face = face
        self.sample = pixel // (size * size) + first_sample
        self.row, self.column = pixel // size % size, pixel % size
        self.corners = projection.surfaces.faces[face].long()
        clip = self._at_corners(projection.clip)
        x, y = (2 * self.column + 1) / size - 1, 1 - (2 * self.row + 1) / size
        self.weights = hit_weights(clip, x, y)
        self.depth = (self.weights * clip[:, :, 2]).sum(1)

    def _at_corners(self, values: Tensor) -> Tensor:
        # index_select has a quick backward pass, which indexing has not.
        return values.index_select(0, self.corners.flatten()).unflatten(0, (-1, 3))

    def interpolate(self, values: Tensor) -> Tensor:
        """Values (n, k) of the vertices at the points, (p, k)."""
        return (self._at_corners(values) * self.weights[:, :, None]).sum(1)

    @cached_property
    def away(self) -> Tensor:
        """Unit vectors (p, 3) from the points to their cameras."""
        cameras = self._projection.cameras
        x, y = cameras.plane_positions(self._projection.size)
        focal = cameras.focal[self.sample]
        x, y = x[self.sample, self.column] / focal, y[self.sample, self.row] / focal
        right, up, forward = cameras.axes[self.sample].unbind(1)
        return -torch.nn.functional.normalize(forward + x[:, None] * right + y[:, None] * up, dim=1)

    def face_normals(self) -> Tensor:
        """Unit normals (p, 3) of the faces, turned to the cameras."""
        v0, v1, v2 = self._at_corners(self._projection.surfaces.vertices).unbind(1)
        return _turned(_unit(torch.linalg.cross(v1 - v0, v2 - v0)), self.away)

    def smooth_normals(self, normals: Tensor) -> Tensor:
        """Unit vectors (p, 3) interpolated from :func:`vertex_normals` (n, 3), turned to the cameras."""
        return _turned(_unit(self.interpolate(normals)), self.away)


def rasterize(surfaces: Surfaces, cameras: BatchCameras, size: int, layers: int = 1) -> Fragments:
    """Find the faces that pixel centres show.

    Parameters
    ----------
    cameras : one for each sample. They stand outside: a face with a corner less than 0.001 before its
        camera's plane is not drawn.
    size : pixels a side.
    layers : how many surfaces behind each other are found.

    Raises
    ------
    ValueError : the number of cameras is not that of the samples.
    """
    projection = Projection(surfaces, cameras, size)
    keys: list[Tensor] = []
    for _ in range(layers):
        keys.append(projection.nearest(keys[-1] if keys else None))
    shape = (layers, len(surfaces), size, size)
    stacked = torch.stack(keys)
    face, depth = key_face(stacked), key_depth(stacked)
    barycentric = torch.zeros((stacked.numel(), 3), device=face.device)
    pixel = (face.flatten() >= 0).nonzero()[:, 0]
    with torch.no_grad():
        points = Points(projection, face.flatten()[pixel], pixel % (len(surfaces) * size * size))
        barycentric[pixel] = points.weights
    return Fragments(face.int().reshape(shape), barycentric.reshape(*shape, 3), depth.reshape(shape), cameras)


def interpolate(surfaces: Surfaces, fragments: Fragments, values: Tensor | None = None) -> Tensor:
    """Values of vertices at every pixel, differentiable in the values and the vertices.

    Parameters
    ----------
    values : (n, k); the surfaces' attributes by default.

    Returns
    -------
    (layers, b, s, s, k), zero where there is no face.

    Raises
    ------
    ValueError : there are no values.
    """
    values = surfaces.attributes if values is None else values
    if values is None:
        raise ValueError("the surfaces have no attributes to interpolate")
    face = fragments.face.flatten().long()
    pixel = (face >= 0).nonzero()[:, 0]
    projection = Projection(surfaces, fragments.cameras, fragments.size)
    points = Points(projection, face[pixel], pixel % fragments.face[0].numel())
    return _spread(points.interpolate(values), pixel, fragments.face.shape)


def maps(surfaces: Surfaces, cameras: BatchCameras, size: int, *, normals: Normals = "face") -> Maps:
    """Mask, depth, normals and attributes of what cameras see first.

    Differentiable in vertices and attributes, but for the mask.

    Parameters
    ----------
    normals : of the flat faces, or ``smooth``, interpolated from :func:`vertex_normals`.

    Raises
    ------
    ValueError : the number of cameras is not that of the samples.
    """
    projection = Projection(surfaces, cameras, size)
    keys = projection.nearest()
    face = key_face(keys)
    pixel = (face >= 0).nonzero()[:, 0]
    points = Points(projection, face[pixel], pixel)
    if normals == "face":
        normal = points.face_normals()
    else:
        normal = points.smooth_normals(vertex_normals(surfaces, cameras.position))
    shape = (len(surfaces), size, size)
    attributes = surfaces.attributes
    return Maps(
        (face >= 0).float().reshape(shape),
        _spread(points.depth[:, None], pixel, shape)[..., 0],
        _spread(normal, pixel, shape),
        None if attributes is None else _spread(points.interpolate(attributes), pixel, shape),
    )


def vertex_normals(surfaces: Surfaces, toward: Tensor | None = None) -> Tensor:
    """Sums (n, 3) of the normals of the faces about each vertex, weighted by their areas.

    Parameters
    ----------
    toward : (b, 3), one point for each sample to which faces are turned before they are summed, for
        surfaces whose winding says nothing. By default the winding counts.
    """
    corners = surfaces.faces.flatten()
    v0, v1, v2 = surfaces.vertices.index_select(0, corners).reshape(-1, 3, 3).unbind(1)
    normal = torch.linalg.cross(v1 - v0, v2 - v0)
    if toward is not None:
        normal = _turned(normal, toward[surfaces.face_sample.long()] - v0.detach())
    sums = torch.zeros_like(surfaces.vertices)
    return sums.index_add(0, corners, normal.repeat_interleave(3, 0))


def _unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors, dim=-1, eps=1e-20)


def _turned(vectors: Tensor, toward: Tensor) -> Tensor:
    """Vectors (p, 3), negated where they look away from ``toward`` (p, 3)."""
    return torch.where((vectors.detach() * toward).sum(-1, keepdim=True) < 0, -vectors, vectors)


def _spread(values: Tensor, pixel: Tensor, shape: Sequence[int]) -> Tensor:
    """Packed values (p, k) at flat pixels (p,) as (*shape, k), zero elsewhere."""
    count = int(torch.Size(shape).numel())
    empty = torch.zeros((count, values.shape[1]), dtype=values.dtype, device=values.device)
    return empty.index_copy(0, pixel, values).reshape(*shape, values.shape[1])
