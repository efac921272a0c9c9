"""Filling the texels between charts."""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from voxlume.jit import parallel_kernel


def fill_gaps(image: NDArray[np.uint8], covered: NDArray[np.bool_]) -> None:
    """Fill what is not covered, in place, from the nearest coarser level that knows something.

    A pull-push pyramid (Grossman and Dally, "Point sample rendering", 1998): every level averages the
    covered texels of the finer one, so a mip-map of the filled image shows in a gap exactly what its
    charts show around it. If nothing is covered the image stays as it is.

    Parameters
    ----------
    image : uint8 (h, w, c).
    covered : bool (h, w).
    """
    height, width = covered.shape
    if height * width <= 1 or covered.all() or not covered.any():
        return
    coarse = np.zeros(((height + 1) // 2, (width + 1) // 2, image.shape[2]), np.uint8)
    known = np.zeros(coarse.shape[:2], np.bool_)
    _pull(image, covered, coarse, known)
    fill_gaps(coarse, known)
    _push(coarse, image, covered)


def fill_gaps_reference(image: NDArray[np.uint8], covered: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Slow twin of :func:`fill_gaps`; returns the filled image."""
    height, width = covered.shape
    if height * width <= 1 or covered.all() or not covered.any():
        return image
    rows, columns = (height + 1) // 2, (width + 1) // 2
    coarse = np.zeros((rows, columns, image.shape[2]), np.uint8)
    known = np.zeros((rows, columns), np.bool_)
    for row, column in np.ndindex(rows, columns):
        block = np.s_[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        known[row, column] = covered[block].any()
        if known[row, column]:
            coarse[row, column] = np.floor(image[block][covered[block]].mean(axis=0) + 0.5)
    coarse = fill_gaps_reference(coarse, known)
    up = coarse.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    return np.where(covered[..., None], image, up)


@parallel_kernel
def _pull(
    fine: NDArray[np.uint8], covered: NDArray[np.bool_], coarse: NDArray[np.uint8], known: NDArray[np.bool_]
) -> None:
    """Average the covered texels of every block of two by two."""
    for row in prange(len(coarse)):
        sums = np.zeros(fine.shape[2], np.int64)
        for column in range(coarse.shape[1]):
            sums[:] = 0
            count = 0
            for i in range(2 * row, min(2 * row + 2, len(fine))):
                for j in range(2 * column, min(2 * column + 2, fine.shape[1])):
                    if covered[i, j]:
                        count += 1
                        for c in range(len(sums)):
                            sums[c] += fine[i, j, c]
            if count:
                known[row, column] = True
                for c in range(len(sums)):
                    coarse[row, column, c] = (2 * sums[c] + count) // (2 * count)


@parallel_kernel
def _push(coarse: NDArray[np.uint8], fine: NDArray[np.uint8], covered: NDArray[np.bool_]) -> None:
    for row in prange(len(fine)):
        for column in range(fine.shape[1]):
            if not covered[row, column]:
                for c in range(fine.shape[2]):
                    fine[row, column, c] = coarse[row // 2, column // 2, c]
