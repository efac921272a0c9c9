"""What '512', '1024', '1024_cascade', '1536_cascade' and their like ask for."""

from __future__ import annotations

import re
from dataclasses import dataclass

from voxlume.errors import VoxlumeError
from voxlume.pipelines.model_folder import PUBLISHED_BASE_RESOLUTION

STEPS_PER_BASE = 4
"""Resolutions of a cascade are multiples of a quarter of the model's base resolution (128 of 512)."""

MAX_TIMES_BASE = 4
"""A cascade may go to four times the base resolution: 2048 with the published model."""


@dataclass(frozen=True)
class PipelineType:
    """Which networks run, and the O-Voxel grid to reach.

    Attributes
    ----------
    name : in the model's own resolutions.
    resolution : of the O-Voxel, before the token limit.
    cascade : sample with the low-resolution network first, then with the other on what it found.
    high : whether the result comes from the high-resolution networks.
    base : the model's base resolution.
    """

    name: str
    resolution: int
    cascade: bool
    high: bool
    base: int

    @property
    def step(self) -> int:
        """By how much the token limit lowers a cascade's resolution at a time."""
        return self.base // STEPS_PER_BASE

    @property
    def lowest(self) -> int:
        """The resolution below which the token limit does not go: what the networks were trained at."""
        return min(self.resolution, 2 * self.base)


def parse_type(name: str | int, base: int = PUBLISHED_BASE_RESOLUTION) -> PipelineType:
    """Read a pipeline type.

    Parameters
    ----------
    name : a resolution, with ``_cascade`` or without. Without, it is the base resolution or twice that.
        A resolution that a small model cannot reach is understood as the published tier of that name:
        '1024_cascade' is twice the base resolution with every model.
    base : the model's base resolution.

    Raises
    ------
    VoxlumeError : there is no such type.
    """
    match = re.fullmatch(r"(\d{1,6})(_cascade)?", str(name).strip())
    if match:
        number, cascade = int(match[1]), bool(match[2])
        for resolution in (number, _scaled(number, base)):
            if _possible(resolution, cascade, base):
                own = f"{resolution}{'_cascade' if cascade else ''}"
                return PipelineType(own, resolution, cascade, resolution > base, base)
    known = ", ".join((f"{base}", f"{2 * base}", f"{2 * base}_cascade", f"{3 * base}_cascade"))
    raise VoxlumeError(
        f"no pipeline type {str(name)!r}; this model has {known} and cascades in steps of "
        f"{base // STEPS_PER_BASE} up to {MAX_TIMES_BASE * base}"
    )


def type_of_resolution(resolution: int, base: int = PUBLISHED_BASE_RESOLUTION) -> PipelineType:
    """The best way to a resolution: directly at the base resolution, through the cascade above it.

    Raises
    ------
    VoxlumeError : the model cannot reach it.
    """
    try:
        direct = parse_type(resolution, base)
    except VoxlumeError:
        direct = None
    return direct if direct and not direct.high else parse_type(f"{resolution}_cascade", base)


def _scaled(number: int, base: int) -> int:
    scaled, rest = divmod(number * base, PUBLISHED_BASE_RESOLUTION)
    return 0 if rest else scaled


def _possible(resolution: int, cascade: bool, base: int) -> bool:
    if not cascade:
        return resolution in (base, 2 * base)
    return base < resolution <= MAX_TIMES_BASE * base and resolution % (base // STEPS_PER_BASE) == 0
