"""From pictures to O-Voxel: the stages in their order, resumable after each of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from voxlume.errors import ModelFileError, VoxlumeError
from voxlume.flow.forecast import Forecast
from voxlume.flow.sampler import MOST_TEMPERATURE, MOST_VOTES, SamplingParameters
from voxlume.ovoxel.grid import OVoxel
from voxlume.pipelines import stages
from voxlume.pipelines.memory import Networks, pick_device
from voxlume.pipelines.model_folder import ModelFolder
from voxlume.pipelines.outline import mask_of
from voxlume.pipelines.pipeline_type import PipelineType, parse_type
from voxlume.pipelines.preprocess import Background, preprocess_with_outline
from voxlume.pipelines.results import ImageCondition, Latent, Structure
from voxlume.pipelines.sanity import check_ovoxel
from voxlume.pipelines.saved import SavedStages
from voxlume.pipelines.stages import Preview, Sampling, Views
from voxlume.progress import Progress

log = logging.getLogger(__name__)

Picture = str | Path | Image.Image | NDArray[np.uint8]
"""A file, an image, or an array (s, s, 3) that is already preprocessed."""

DEFAULT_MAX_TOKENS = 49_152
DEFAULT_SEED = 42


@dataclass(frozen=True)
class SamplerOptions:
    """What a caller sets of a sampler; None leaves the model's value.

    Attributes
    ----------
    steps : Euler steps.
    guidance_strength : 1 is no guidance.
    guidance_rescale : 0 .. 1.
    rescale_t : above 1 spends more of the steps near the noise.
    guidance_interval : the times at which guidance acts.
    votes : samples that decide on one result: structures as :func:`.stages.sample_structure` says, of shapes
        and materials the mean.
    mirrored : every second of a structure's votes sees the pictures in a mirror.
    temperature : below 1 a sample begins from less noise.
    """

    steps: int | None = None
    guidance_strength: float | None = None
    guidance_rescale: float | None = None
    rescale_t: float | None = None
    guidance_interval: tuple[float, float] | None = None
    votes: int | None = None
    mirrored: bool | None = None
    temperature: float | None = None

    def applied_to(self, parameters: SamplingParameters) -> SamplingParameters:
        """The model's parameters with the caller's in place.

        Raises
        ------
        VoxlumeError : a value is not possible.
        """
        given = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        result = replace(parameters, **given)
        if not 1 <= result.steps <= 10_000:
            raise VoxlumeError(f"{result.steps} steps are not possible; choose 1 to 10000")
        if not 1 <= result.votes <= MOST_VOTES:
            raise VoxlumeError(f"{result.votes} votes are not possible; choose 1 to {MOST_VOTES}")
        if not result.rescale_t > 0:
            raise VoxlumeError(f"rescale_t {result.rescale_t} is not possible; it must be above 0")
        if not 0 <= result.temperature <= MOST_TEMPERATURE:
            raise VoxlumeError(
                f"temperature {result.temperature} is not possible; choose 0 to {MOST_TEMPERATURE}"
            )
        if not 0 <= result.guidance_rescale <= 1:
            raise VoxlumeError(f"guidance_rescale {result.guidance_rescale} is not between 0 and 1")
        return result


@dataclass(frozen=True)
class ImageTo3DOptions:
    """What a caller can choose for a run.

    Attributes
    ----------
    pipeline_type : '512', '1024', '1024_cascade', '1536_cascade', ...; None is the model's default.
    seed : of the first sample; the others count on from it. None is 42, or what a saved run had.
    num_samples : how many different objects to make of the same pictures, sampled together.
    max_num_tokens : a cascade lowers its resolution until it has fewer cells.
    refine : how often to take the decoded shape as a better structure and sample the shape again.
    material : False makes bare geometry.
    outline : keep structures inside the object's outline in the pictures, where the model tells where they
        were taken from; see :mod:`.outline`.
    mend : close small holes of the decoded surface, see :mod:`voxlume.ovoxel.mend`; None is the model's
        default.
    views, background, forecast : see :class:`.stages.Sampling` and :mod:`.preprocess`.
    structure, shape, material_sampler : the samplers.
    """

    pipeline_type: str | None = None
    seed: int | None = None
    num_samples: int = 1
    max_num_tokens: int = DEFAULT_MAX_TOKENS
    refine: int = 0
    material: bool = True
    outline: bool = True
    mend: bool | None = None
    views: Views = "cycle"
    background: Background = "auto"
    forecast: Forecast | None = None
    structure_sampler: SamplerOptions = field(default_factory=SamplerOptions)
    shape_sampler: SamplerOptions = field(default_factory=SamplerOptions)
    material_sampler: SamplerOptions = field(default_factory=SamplerOptions)

    def check(self) -> None:
        """Raise ``VoxlumeError`` where a number is not possible."""
        if not 1 <= self.num_samples <= 64:
            raise VoxlumeError(f"{self.num_samples} samples are not possible; choose 1 to 64")
        if self.seed is not None and not -(2**31) <= self.seed < 2**31:
            raise VoxlumeError(f"seed {self.seed} is not a 32-bit number")
        if self.max_num_tokens < 1:
            raise VoxlumeError(f"max_num_tokens {self.max_num_tokens} is not possible; choose 1 or more")
        if not 0 <= self.refine <= 8:
            raise VoxlumeError(f"refine {self.refine} is not possible; choose 0 to 8")
        if self.shape_sampler.mirrored or self.material_sampler.mirrored:
            raise VoxlumeError("mirrored is for the structure's sampler; shapes and materials have no mirror")


@dataclass(frozen=True, eq=False)
class Generated:
    """One sample, with everything it came from.

    Attributes
    ----------
    warnings : what looks wrong about the result, one line each.
    """

    seed: int
    ovoxel: OVoxel
    structure: Structure
    shape: Latent
    material: Latent | None
    warnings: tuple[str, ...] = ()


class ImageTo3D:
    """Pictures of one object to O-Voxels.

    >>> pipeline = ImageTo3D.from_pretrained("microsoft/TRELLIS.2-4B")
    >>> result = pipeline.run("chair.png", ImageTo3DOptions(seed=1))[0]
    >>> result.ovoxel.save("chair.vxz")
    """

    def __init__(self, networks: Networks) -> None:
        self.networks = networks

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        device: str = "auto",
        dtype: torch.dtype | None = None,
        memory_budget: float | None = None,
        image_encoder: str | Path | None = None,
    ) -> ImageTo3D:
        """Open a model; weights are read when a stage first needs them.

        Parameters
        ----------
        source, revision, image_encoder : see :meth:`.model_folder.ModelFolder.from_pretrained`.
        device, dtype, memory_budget (GB) : see :class:`.memory.Networks`.
        """
        folder = ModelFolder.from_pretrained(source, revision=revision, image_encoder=image_encoder)
        return cls(Networks(folder, pick_device(device), dtype, memory_budget))

    @property
    def folder(self) -> ModelFolder:
        return self.networks.folder

    def run(
        self,
        pictures: Picture | Sequence[Picture] = (),
        options: ImageTo3DOptions | None = None,
        *,
        save_to: str | Path | None = None,
        resume_from: str | Path | None = None,
        progress: Progress | None = None,
        preview: Preview | None = None,
    ) -> list[Generated]:
        """Make objects of one or several pictures of the same object.

        Parameters
        ----------
        pictures : may be empty if ``resume_from`` holds their condition.
        save_to : a folder that gets the result of every stage as soon as it is there.
        resume_from : such a folder; the stages found in it are not run again.
        progress : called after every sampling step; returning False cancels.
        preview : called after every sampling step with what the sample promises to become.

        Raises
        ------
        VoxlumeError : of the kind that says what is wrong: the model, a picture, a saved stage, the
            memory budget; an unknown pipeline type; an empty structure; cancelled.
        """
        options = options or ImageTo3DOptions()
        options.check()
        found = SavedStages.open(resume_from) if resume_from else SavedStages()
        kind = self.type_of(options.pipeline_type or found.pipeline_type or None)
        self.require_networks(kind, options.material)
        if found.pipeline_type not in ("", kind.name):
            log.warning("the saved shapes are of type %s and are sampled again", found.pipeline_type)
            found = replace(found, reusable=frozenset({"structure"}))
        seeds = _seeds(options, found)
        store = SavedStages.create(save_to, kind.name, seeds) if save_to else SavedStages()
        sampling = Sampling(options.views, progress, preview, options.forecast)

        condition = found.condition()
        if condition is None:
            outline = options.outline and not found.structures_saved
            mirrored = self._structure_parameters(options).looks_in_mirror and not found.structures_saved
            condition = self.condition(pictures, options.background, kind.high, progress, outline, mirrored)
        store.put_condition(condition)
        structures = found.structures() or self.structures(condition, seeds, options, sampling)
        store.put("structure", structures)
        shapes = found.latents("shape")
        if not shapes:
            low = found.latents("shape_low") if kind.cascade else []
            if kind.cascade and not low:
                low = self.low_shapes(condition, structures, seeds, kind, options, sampling)
            store.put("shape_low", low)
            shapes = self.shapes(condition, low or structures, seeds, kind, options, sampling)
        store.put("shape", shapes)
        materials: Sequence[Latent | None] = [None] * len(shapes)
        if options.material:
            sampled = found.latents("material")
            sampled = sampled or self.materials(condition, shapes, seeds, options, sampling)
            store.put("material", sampled)
            materials = sampled
        results = []
        for seed, structure, shape, material in zip(seeds, structures, shapes, materials, strict=True):
            ovoxel, warnings = check_ovoxel(
                stages.decode(self.networks, shape, material, progress, options.mend)
            )
            results.append(Generated(seed, ovoxel, structure, shape, material, tuple(warnings)))
        return results

    def condition(
        self,
        pictures: Picture | Sequence[Picture],
        background: Background = "auto",
        high: bool = True,
        progress: Progress | None = None,
        outline: bool = True,
        mirrored: bool | None = None,
    ) -> ImageCondition:
        """The condition of one or several pictures of the same object.

        Parameters
        ----------
        high : also for the high-resolution networks.
        outline : also what the object's outline says of structures.
        mirrored : also of the pictures' mirror images; None is as the model samples structures.
        """
        if mirrored is None:
            mirrored = self.folder.config.structure_sampler.looks_in_mirror
        if isinstance(pictures, str | Path | Image.Image | np.ndarray):
            pictures = [pictures]
        seen = [
            (p, mask_of(p)) if isinstance(p, np.ndarray) else preprocess_with_outline(p, background)
            for p in pictures
        ]
        squares, masks = [square for square, _ in seen], [mask for _, mask in seen]
        return stages.encode_images(
            self.networks,
            squares,
            high=high,
            masks=masks if outline else None,
            mirrored=mirrored,
            progress=progress,
        )

    def structures(
        self,
        condition: ImageCondition,
        seeds: Sequence[int],
        options: ImageTo3DOptions,
        sampling: Sampling,
    ) -> list[Structure]:
        """One structure for each seed, on the structure decoder's own grid."""
        parameters = self._structure_parameters(options)
        if not options.outline:
            condition = replace(condition, inside=None)
        return stages.sample_structure(self.networks, condition, seeds, parameters, sampling)

    def _structure_parameters(self, options: ImageTo3DOptions) -> SamplingParameters:
        return options.structure_sampler.applied_to(self.folder.config.structure_sampler)

    def low_shapes(
        self,
        condition: ImageCondition,
        structures: Sequence[Structure],
        seeds: Sequence[int],
        kind: PipelineType,
        options: ImageTo3DOptions,
        sampling: Sampling,
    ) -> list[Latent]:
        """The first half of a cascade: shape latents at the base resolution."""
        grid = kind.base // stages.upsampling_factor(self.networks)
        cells = [stages.pool_structure(structure, grid) for structure in structures]
        parameters = options.shape_sampler.applied_to(self.folder.config.shape_sampler)
        return stages.sample_shape(self.networks, condition, cells, seeds, parameters, sampling, high=False)

    def shapes(
        self,
        condition: ImageCondition,
        sources: Sequence[Structure] | Sequence[Latent],
        seeds: Sequence[int],
        kind: PipelineType,
        options: ImageTo3DOptions,
        sampling: Sampling,
    ) -> list[Latent]:
        """The final shape latents, of structures or, in a cascade, of what :meth:`low_shapes` gave."""
        networks, parameters = (
            self.networks,
            options.shape_sampler.applied_to(self.folder.config.shape_sampler),
        )
        factor = stages.upsampling_factor(networks)
        cells = [
            stages.finer_structure(
                networks, source, kind.resolution, options.max_num_tokens, kind.lowest, kind.step
            )
            if isinstance(source, Latent)
            else stages.pool_structure(source, kind.resolution // factor)
            for source in sources
        ]
        shapes = stages.sample_shape(networks, condition, cells, seeds, parameters, sampling, high=kind.high)
        for round_ in range(options.refine):
            cells = [stages.structure_of_shape(networks, shape) for shape in shapes]
            stream = stages.REFINING_NOISE + round_
            shapes = stages.sample_shape(
                networks, condition, cells, seeds, parameters, sampling, high=kind.high, stream=stream
            )
        return shapes

    def materials(
        self,
        condition: ImageCondition,
        shapes: Sequence[Latent],
        seeds: Sequence[int],
        options: ImageTo3DOptions,
        sampling: Sampling,
    ) -> list[Latent]:
        """Material latents on shapes, from the networks of the shapes' resolution."""
        parameters = options.material_sampler.applied_to(self.folder.config.material_sampler)
        base = self.folder.config.base_resolution // stages.upsampling_factor(self.networks)
        return stages.sample_material(
            self.networks,
            condition,
            shapes,
            seeds,
            parameters,
            sampling,
            high=shapes[0].resolution > base,
        )

    def type_of(self, name: str | None = None) -> PipelineType:
        """What a pipeline type, or the model's default, means for this model."""
        config = self.folder.config
        return parse_type(name or config.default_type, config.base_resolution)

    def require_networks(self, kind: PipelineType, material: bool = True) -> None:
        """Refuse a pipeline type that the model lacks networks for, before any work is done.

        Raises
        ------
        ModelFileError : names what is missing.
        """
        needed = [stages.STRUCTURE_FLOW, stages.STRUCTURE_DECODER, stages.SHAPE_DECODER]
        if kind.cascade or not kind.high:
            needed.append(stages.SHAPE_FLOWS[0])
        if kind.high:
            needed.append(stages.SHAPE_FLOWS[1])
        if material:
            needed += [stages.MATERIAL_FLOWS[kind.high], stages.MATERIAL_DECODER]
        require(self.folder, needed, f"pipeline type {kind.name}")


def _seeds(options: ImageTo3DOptions, found: SavedStages) -> list[int]:
    """One seed for each sample; a saved run decides how many there are once it has structures."""
    if found.structures_saved:
        if options.seed is None:
            return list(found.seeds)
        return [options.seed + i for i in range(len(found.seeds))]
    first = DEFAULT_SEED if options.seed is None else options.seed
    return [first + i for i in range(options.num_samples)]


def require(folder: ModelFolder, keys: Sequence[str], purpose: str) -> None:
    """Refuse work that a model lacks networks for.

    Raises
    ------
    ModelFileError : names them.
    """
    missing = [key for key in keys if not folder.has(key)]
    if missing:
        raise ModelFileError(
            f"{folder} has no {', '.join(missing)}, which {purpose} needs; choose another type or model"
        )
