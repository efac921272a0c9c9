"""Making the surface that a decoder predicts hold together.

A decoder tells of every voxel edge by itself whether the surface crosses it, and where it is unsure the
crossings do not fit: a quad is missing where all around it there are some, one stands up from the surface
alone, or a crossed edge has no quad because one of the four voxels around it was left out. On a closed
surface an even number of quads meets at each of their sides. Voxels that are missing are added, and crossings
are changed one by one where that mends more sides than the decoder's certainty speaks against (iterated
conditional modes: Besag, "On the statistical analysis of dirty pictures", 1986). What the decoder is sure of
stays: rims of open sheets, small holes that are meant.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from voxlume.jit import inner_kernel, kernel, parallel_kernel
from voxlume.ovoxel.extract import RING_AXES, quad_at
from voxlume.ovoxel.grid import OVoxel
from voxlume.ovoxel.index import VoxelIndex, even_ranges, forward_neighbors, pack_keys

UNSEEN = -0.5
"""The logit of a crossed edge that belongs to an added voxel, of which the decoder said nothing."""

ADDING, REMOVING = 3.0, 1.0
"""What a side that is mended is worth, in units of the logits. A hole shows more than what stands up."""

CORNER = 1.0
"""What a quad is worth besides that has sides to mend on two sides or more, so that larger holes close from
their corners."""

SWEEPS = 8


def mended(ovoxel: OVoxel, logits: NDArray[np.float32]) -> OVoxel:
    """The surface that a decoder predicts, with fewer holes and loose quads.

    Parameters
    ----------
    ovoxel : as decoded, in lexicographic order.
    logits : float32 (n, 3), of the crossed edges; what is above 0 is crossed.

    Returns
    -------
    The O-Voxel with voxels that were missing and other crossed edges; what else its voxels carry stays.
    """
    whole, logits = with_missing_voxels(ovoxel, logits)
    neighbors = forward_neighbors(pack_keys(whole.coords))
    crossed = logits > 0
    odd = np.zeros((len(whole), 3), np.bool_)
    _count_sides(neighbors, crossed, odd)
    _sweep(neighbors, logits, crossed, odd)
    return replace(whole, intersected=crossed)


def with_missing_voxels(ovoxel: OVoxel, logits: NDArray[np.float32]) -> tuple[OVoxel, NDArray[np.float32]]:
    """Add the voxels without which a crossed edge has no quad, each like the mean of its neighbours."""
    index = VoxelIndex(ovoxel.coords)
    lacking = np.zeros((len(ovoxel), 3), np.bool_)
    _find_lacking(forward_neighbors(index.keys), logits, lacking)
    steps, wanted = np.eye(3, dtype=np.int32), []
    for axis, (s, t) in enumerate(RING_AXES):
        corner = ovoxel.coords[lacking[:, axis]]
        wanted += [corner + steps[s], corner + steps[t], corner + steps[s] + steps[t]]
    coords = np.concatenate(wanted)
    coords = coords[(coords < ovoxel.resolution).all(1)]
    coords = coords[np.unique(pack_keys(coords), return_index=True)[1]]
    coords = coords[index.find(coords) < 0]
    if not len(coords):
        return ovoxel, logits
    rows = index.find((coords[:, None] + _STEPS_AROUND).reshape(-1, 3)).reshape(len(coords), -1)
    before = np.searchsorted(index.keys, pack_keys(coords))

    def merged(old: NDArray[Any], new: NDArray[Any] | float) -> NDArray[Any]:
        added = np.empty((len(coords), *old.shape[1:]), old.dtype)
        added[:] = new
        whole = np.empty((len(old) + len(added), *old.shape[1:]), old.dtype)
        words = _as_words(old), _as_words(added), _as_words(whole)
        _insert_rows(*words, before, even_ranges(len(old)))
        return whole

    def around(old: NDArray[np.float32], steps: NDArray[np.float64] | float = 0.0) -> NDArray[np.float64]:
        """The means of what lies around, each value with the step to it added."""
        values = np.ascontiguousarray(old).reshape(len(old), -1)
        offsets = np.zeros((len(_STEPS_AROUND), values.shape[1])) + steps
        return _means_around(rows, _WEIGHTS_AROUND, offsets, values).reshape(len(coords), *old.shape[1:])

    positions, weights, attributes = ovoxel.dual_vertices, ovoxel.splitting_weights, ovoxel.attributes
    whole = replace(
        ovoxel,
        coords=merged(ovoxel.coords, coords),
        dual_vertices=merged(positions, around(positions, _STEPS_AROUND.astype(np.float64)).clip(0, 1)),
        intersected=merged(ovoxel.intersected, False),
        splitting_weights=None if weights is None else merged(weights, around(weights)),
        attributes=None if attributes is None else merged(attributes, around(attributes)),
    )
    return whole, merged(logits, UNSEEN)


_STEPS_AROUND = np.array([step for step in product((-1, 0, 1), repeat=3) if any(step)], np.int32)
_WEIGHTS_AROUND = 1.0 / np.abs(_STEPS_AROUND).sum(1)


@parallel_kernel
def _means_around(
    rows: NDArray[np.int64],
    weights: NDArray[np.float64],
    offsets: NDArray[np.float64],
    values: NDArray[np.float32],
) -> NDArray[np.float64]:
    """Weighted means (k, c) of the values at ``rows`` (k, s), -1 for none, with offsets (s, c) added."""
    means = np.zeros((len(rows), values.shape[1]))
    for i in prange(len(rows)):
        share = 0.0
        for j in range(rows.shape[1]):
            if rows[i, j] >= 0:
                share += weights[j]
                for c in range(values.shape[1]):
                    means[i, c] += weights[j] * (offsets[j, c] + values[rows[i, j], c])
        for c in range(values.shape[1]):
            means[i, c] /= share
    return means


def _as_words(array: NDArray[Any]) -> NDArray[Any]:
    """The same memory as rows of 32-bit words, or of bytes."""
    flat = np.ascontiguousarray(array).reshape(len(array), -1)
    return flat.view(np.int32 if array.itemsize % 4 == 0 else np.uint8)


@parallel_kernel
def _insert_rows(
    old: NDArray[Any],
    new: NDArray[Any],
    whole: NDArray[Any],
    before: NDArray[np.int64],
    bounds: NDArray[np.int64],
) -> None:
    """Old rows and new ones, each before the old one that it names; ``bounds`` share the old rows."""
    for part in prange(len(bounds) - 1):
        passed = np.searchsorted(before, bounds[part], side="left")
        for i in range(bounds[part], bounds[part + 1]):
            while passed < len(before) and before[passed] <= i:
                passed += 1
            for c in range(old.shape[1]):
                whole[i + passed, c] = old[i, c]
    for j in range(len(new)):
        for c in range(new.shape[1]):
            whole[before[j] + j, c] = new[j, c]


@inner_kernel
def _sides(voxel: int, axis: int, beside: int, above: int) -> tuple[tuple[int, int], ...]:
    """A quad's four sides, each a step along an axis from one of its voxels."""
    s, t = RING_AXES[axis]
    return (voxel, s), (above, s), (voxel, t), (beside, t)


@inner_kernel
def _ask_again(due: NDArray[np.bool_], behind: NDArray[np.int32], corner: int, step: int) -> None:
    """Mark the voxels whose quads have this side."""
    due[corner] = True
    for across in range(3):
        if across != step and behind[corner, across] >= 0:
            due[behind[corner, across]] = True


@parallel_kernel
def _find_lacking(
    neighbors: NDArray[np.int32],
    logits: NDArray[np.float32],
    lacking: NDArray[np.bool_],
) -> None:
    """Which crossed edges, (n, 3), have no quad."""
    for voxel in prange(len(neighbors)):
        for axis in range(3):
            if logits[voxel, axis] > 0:
                lacking[voxel, axis] = quad_at(neighbors, voxel, axis)[1] < 0


@kernel
def _count_sides(
    neighbors: NDArray[np.int32],
    crossed: NDArray[np.bool_],
    odd: NDArray[np.bool_],
) -> None:
    """Which sides, (n, 3) steps from a voxel, belong to an odd number of quads."""
    for voxel in range(len(neighbors)):
        for axis in range(3):
            if crossed[voxel, axis]:
                beside, opposite, above = quad_at(neighbors, voxel, axis)
                if opposite >= 0:
                    for corner, step in _sides(voxel, axis, beside, above):
                        odd[corner, step] ^= True


@kernel
def _sweep(
    neighbors: NDArray[np.int32],
    logits: NDArray[np.float32],
    crossed: NDArray[np.bool_],
    odd: NDArray[np.bool_],
) -> None:
    """Change crossings, each at most once, until nothing is worth it."""
    behind = np.full(neighbors.shape, -1, np.int32)
    for voxel in range(len(neighbors)):
        for axis in range(3):
            if neighbors[voxel, axis] >= 0:
                behind[neighbors[voxel, axis], axis] = voxel
    due = np.ones(len(neighbors), np.bool_)  # at first all voxels, then those near a change
    for _ in range(SWEEPS):
        changes = 0
        for voxel in range(len(neighbors)):
            if not due[voxel]:
                continue
            due[voxel] = False
            for axis in range(3):
                logit = logits[voxel, axis]
                if crossed[voxel, axis] != (logit > 0):
                    continue  # has changed
                beside, opposite, above = quad_at(neighbors, voxel, axis)
                if opposite < 0:
                    continue
                sides = _sides(voxel, axis, beside, above)
                count = 0
                for corner, step in sides:
                    count += odd[corner, step]
                gain = 2.0 * count - 4.0  # sides mended less sides spoiled
                if crossed[voxel, axis]:
                    worth = REMOVING * gain - logit
                else:
                    worth = ADDING * gain + logit + (CORNER if count >= 2 else 0.0)
                if worth > 0:
                    crossed[voxel, axis] ^= True
                    changes += 1
                    for corner, step in sides:
                        odd[corner, step] ^= True
                        _ask_again(due, behind, corner, step)
        if changes == 0:
            break
