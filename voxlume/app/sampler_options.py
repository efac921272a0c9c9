"""The options of one sampler on the command line."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voxlume.pipelines.image_to_3d import SamplerOptions


@dataclass
class Sampler:
    """One stage's sampler; what is not given is the model's own."""

    steps: int | None = None
    """Euler steps."""
    guidance_strength: float | None = None
    """How strongly to follow the picture; 1 is no guidance."""
    guidance_rescale: float | None = None
    """0 to 1: how far to undo guidance's larger spread."""
    rescale_t: float | None = None
    """Above 1: more of the steps near the noise."""
    guidance_interval: tuple[float, float] | None = None
    """Times, from 1 (noise) down to 0, between which guidance acts."""
    votes: int | None = None
    """Samples that decide on one result together."""
    temperature: float | None = None
    """Below 1: begin from less noise, for a smoother and likelier sample."""

    def options(self, steps: int | None = None) -> SamplerOptions:
        """For the pipelines; ``steps`` counts where this sampler has none of its own."""
        from voxlume.pipelines.image_to_3d import SamplerOptions

        given = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.steps is None:
            given["steps"] = steps
        return SamplerOptions(**given)


@dataclass
class StructureSampler(Sampler):
    """The sampler of structures."""

    mirrored: bool | None = None
    """Every second vote sees the pictures in a mirror."""
