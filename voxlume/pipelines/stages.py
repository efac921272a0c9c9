"""The stages from pictures to O-Voxel, each callable by itself.

Every function takes a list of samples and gives one result for each, in the same order; a sample comes out
the same whatever else is in the list. Results are plain objects on the CPU (:mod:`.results`), which the
next stage, a file or another program can take.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxlume.errors import ModelFileError, VoxlumeError
from voxlume.flow.forecast import Forecast
from voxlume.flow.guidance import Velocity
from voxlume.flow.sampler import SamplingParameters, sample
from voxlume.flow.schedule import sampling_times
from voxlume.flow.state import State, noise_like, values_of
from voxlume.models.camera_head import CameraHead, CameraHeadConfig, CameraTold
from voxlume.models.flow_run import FlowRun, keeps, records
from voxlume.models.flow_transformer import FlowTransformer, FlowTransformerConfig, pack_condition
from voxlume.models.image_encoder import ImageEncoder, ImageEncoderConfig, normalized_image
from voxlume.models.precision import quick_float32
from voxlume.models.sc_vae import (
    Decoded,
    DecoderConfig,
    EncoderConfig,
    ScVaeDecoder,
    ScVaeEncoder,
    dual_grid_channels,
    material_attributes,
    shape_features,
)
from voxlume.models.structure_vae import StructureDecoder, StructureDecoderConfig
from voxlume.models.subdivision import rows_in, subdivision_masks, subdivisions_to
from voxlume.ovoxel.grid import OVoxel
from voxlume.ovoxel.mend import mended
from voxlume.pipelines.memory import (
    Networks,
    decoder_bytes,
    encoder_bytes,
    flow_bytes,
    image_encoder_bytes,
    structure_bytes,
)
from voxlume.pipelines.model_folder import CAMERA_HEAD, IMAGE_ENCODER, Normalization
from voxlume.pipelines.outline import inside_outline
from voxlume.pipelines.results import ImageCondition, Latent, Structure
from voxlume.progress import Progress, report
from voxlume.sparse import SparseTensor, Subdivision
from voxlume.sparse.tensor import CoordinateSet

log = logging.getLogger(__name__)

Views = Literal["cycle", "average"]
"""How several pictures of one object share the work: one per step in turn, or all in every step."""

Preview = Callable[[str, int, Tensor | SparseTensor], None]
"""``(stage, steps done, the sample as it now promises to become)``, in the flow network's own units."""

# Independent noise for each use of one seed.
STRUCTURE_NOISE, LOW_SHAPE_NOISE, HIGH_SHAPE_NOISE, MATERIAL_NOISE, REFINING_NOISE = range(5)
"""The last and the seven after it are of the rounds of refining."""

VOTING_NOISE = 16
"""From one sample that votes to the next."""

STRUCTURE_FLOW = "sparse_structure_flow_model"
STRUCTURE_DECODER = "sparse_structure_decoder"
SHAPE_FLOWS = ("shape_slat_flow_model_512", "shape_slat_flow_model_1024")
MATERIAL_FLOWS = ("tex_slat_flow_model_512", "tex_slat_flow_model_1024")
SHAPE_DECODER = "shape_slat_decoder"
MATERIAL_DECODER = "tex_slat_decoder"
SHAPE_ENCODER = "shape_slat_encoder"

LEAST_INSIDE = 0.2
"""Where less of a structure lies inside the outlines than this share, the cameras must be wrong. With cameras
twice as wrong as expected it was 0.33 or more for each of 44 objects."""


@dataclass(frozen=True)
class Sampling:
    """How a stage samples, apart from its numbers.

    Attributes
    ----------
    views : see :data:`Views`.
    progress : called after every step; may cancel.
    preview : called after every step with what the sample promises to become.
    forecast : training-free acceleration; None evaluates every step.
    """

    views: Views = "cycle"
    progress: Progress | None = None
    preview: Preview | None = None
    forecast: Forecast | None = None


# -- stage 1: condition ----------------------------------------------------------------------------


def encode_images(
    networks: Networks,
    pictures: Sequence[NDArray[np.uint8]],
    *,
    high: bool = True,
    masks: Sequence[NDArray[np.bool_]] | None = None,
    mirrored: bool = False,
    progress: Progress | None = None,
) -> ImageCondition:
    """The condition that pictures of one object give.

    Parameters
    ----------
    pictures : uint8 (s, s, 3) each, as :func:`voxlume.pipelines.preprocess.preprocess_image` makes them.
    high : also at the size of the high-resolution networks.
    masks : bool (s, s) each, where the pictures show the object, for what its outline says of a structure;
        None leaves that out, as does a model without a camera head.
    mirrored : also of the pictures' mirror images, for :func:`sample_structure`.
    """
    if not pictures:
        raise VoxlumeError("no picture was given")
    config = networks.config(IMAGE_ENCODER)
    if not isinstance(config, ImageEncoderConfig):
        raise ModelFileError(f"{networks.folder}: {IMAGE_ENCODER} is no image encoder")
    sizes = networks.folder.config.image_sizes[: 2 if high else 1]
    working = image_encoder_bytes(config, max(sizes), networks.item_bytes(IMAGE_ENCODER)) * (1 + mirrored)
    total = len(sizes) * len(pictures)
    report(progress, 0, total, "looking at the picture")
    tokens: list[Tensor] = []
    reflection: Tensor | None = None
    with (
        torch.no_grad(),
        quick_float32(networks.device),
        networks.using(IMAGE_ENCODER, working=working, what="the image encoder") as (net,),
    ):
        assert isinstance(net, ImageEncoder)
        for size in sizes:
            views = []
            for picture in pictures:
                shown = [picture]
                if mirrored and not tokens:  # beside the picture, which launches no more kernels than alone
                    shown.append(np.ascontiguousarray(picture[:, ::-1]))
                images = torch.stack([normalized_image(one, size) for one in shown])
                views.append(net(images.to(networks.device)).float().cpu())
                report(progress, len(tokens) * len(pictures) + len(views), total, "looking at the picture")
            seen = torch.stack(views, dim=1)
            tokens.append(seen[0])
            if len(seen) > 1:
                reflection = seen[1]
    low, *rest = tokens
    inside = None if masks is None else _inside_outlines(networks, low, masks)
    return ImageCondition(low, rest[0] if rest else None, inside, reflection)


def _inside_outlines(
    networks: Networks, tokens_vmc: Tensor, masks: Sequence[NDArray[np.bool_]]
) -> Tensor | None:
    """See :attr:`ImageCondition.inside`; None if the model does not tell where pictures were taken from."""
    if not networks.folder.tells_cameras:
        return None
    config = networks.config(CAMERA_HEAD)
    if not isinstance(config, CameraHeadConfig):
        raise ModelFileError(f"{networks.folder}: {CAMERA_HEAD} is no camera head")
    if config.condition_width != tokens_vmc.shape[-1]:
        log.warning(
            "the outline is left out: the camera head takes image tokens of width %d, not of %d",
            config.condition_width,
            tokens_vmc.shape[-1],
        )
        return None
    grid = _structure_grid(networks)
    working = 4.0 * tokens_vmc.shape[1] * (config.condition_width + 2 * config.queries + config.values)
    inside = []
    with torch.no_grad(), networks.using(CAMERA_HEAD, working=working, what="telling the camera") as (net,):
        assert isinstance(net, CameraHead)
        for view, mask in zip(tokens_vmc.split(1), masks, strict=True):
            told: CameraTold = net(view.to(networks.device))
            inside.append(inside_outline(told, mask, grid))
    return torch.stack(inside)


def _structure_grid(networks: Networks) -> int:
    """Cells along an edge of decoded structures."""
    coarse = flow_config(networks, STRUCTURE_FLOW, "dense").resolution
    return coarse << (len(_structure_decoder_config(networks).channels) - 1)


# -- stage 2: structure ----------------------------------------------------------------------------


def sample_structure(
    networks: Networks,
    condition: ImageCondition,
    seeds: Sequence[int],
    parameters: SamplingParameters,
    sampling: Sampling = Sampling(),
) -> list[Structure]:
    """Where the object's surface is, one structure for each seed.

    Where several vote, what is kept are the cells that they agree on most, as many as they have on average.
    What a model is unsure of differs from sample to sample, and even more between a picture and its mirror
    image, which with ``mirrored`` every second vote sees: what it makes is mirrored back. Cells outside the
    object's outline in a picture give way to the likeliest ones inside it.

    Raises
    ------
    VoxlumeError : a sampled structure is empty.
    """
    if parameters.looks_in_mirror and condition.mirrored is None:
        log.warning("every vote sees the pictures as they are: the condition was made without mirror images")
        parameters = replace(parameters, mirrored=False)
    latent = _structure_latent(networks, condition, seeds, parameters, sampling)
    return decode_structure(
        networks, latent, sampling.progress, parameters.votes, condition.inside, parameters.mirrored
    )


def _structure_latent(
    networks: Networks,
    condition: ImageCondition,
    seeds: Sequence[int],
    parameters: SamplingParameters,
    sampling: Sampling,
) -> Tensor:
    """Sampled latents (votes b, 8, n, n, n) in the order of :func:`_voting_noise`."""
    config = flow_config(networks, STRUCTURE_FLOW, "dense")
    grid, votes = config.resolution, parameters.votes
    working = _flow_working(
        networks, STRUCTURE_FLOW, [grid**3] * len(seeds) * votes, condition.low, parameters.steps
    )
    with (
        torch.no_grad(),
        networks.using(STRUCTURE_FLOW, working=working, what="sampling the structure") as (net,),
    ):
        assert isinstance(net, FlowTransformer)
        places = torch.empty((len(seeds), 1, grid, grid, grid), device=networks.device)
        noise = [
            noise_like(places, config.out_channels, seeds, stream)
            for stream in _voting_streams(STRUCTURE_NOISE, votes)
        ]
        tokens = condition.low
        if parameters.looks_in_mirror:
            assert condition.mirrored is not None
            seen = [condition.mirrored if vote % 2 else condition.low for vote in range(votes)]
            tokens = torch.stack(seen, 1).repeat_interleave(len(seeds), 1)
        return _sample(net, torch.cat(noise), tokens, parameters, sampling, "structure")


def _voting_streams(own: int, votes: int) -> list[int]:
    """The noise of every sample that votes; the first is that of a sample alone."""
    return [own + VOTING_NOISE * vote for vote in range(votes)]


def decode_structure(
    networks: Networks,
    latent: Tensor,
    progress: Progress | None = None,
    votes: int = 1,
    inside: Tensor | None = None,
    mirrored: bool = False,
) -> list[Structure]:
    """Structure latents (votes b, 8, n, n, n), the first voters of all samples before the second ones, to the
    occupied cells of the finer grid; see :func:`sample_structure`.

    Parameters
    ----------
    inside : see :attr:`ImageCondition.inside`.
    mirrored : every second voter saw the pictures in a mirror.

    Raises
    ------
    VoxlumeError : nothing is occupied, or ``inside`` is of another grid.
    """
    config = _structure_decoder_config(networks)
    if config.latent_channels != latent.shape[1]:
        raise ModelFileError(
            f"{networks.folder}: the structure flow makes {latent.shape[1]} channels, "
            f"its decoder takes {config.latent_channels}"
        )
    finest = latent.shape[2] << (len(config.channels) - 1)
    if inside is not None and inside.shape[-1] != finest:
        raise VoxlumeError(
            f"this condition was made for structures of {inside.shape[-1]} cells, not of {finest}; "
            "encode the picture again"
        )
    working = structure_bytes(config, finest**3, networks.item_bytes(STRUCTURE_DECODER))
    structures = []
    with (
        torch.no_grad(),
        networks.using(STRUCTURE_DECODER, working=working, what="decoding the structure") as (net,),
    ):
        assert isinstance(net, StructureDecoder)
        parts = latent.unflatten(0, (votes, -1)).unbind(1)
        for index, voting in enumerate(parts):
            logits = torch.cat([net(one.to(networks.device))[0].float() for one in voting.split(1)])
            if mirrored:  # x runs from the model's left to its right
                logits[1::2] = logits[1::2].flip(1)
            occupied = _agreed(logits, inside)
            structures.append(Structure(occupied.nonzero().int().cpu(), occupied.shape[0]))
            if not len(structures[-1]):
                raise VoxlumeError(
                    "the sampled structure is empty: nothing is occupied; try another --seed, "
                    "a clearer picture, or --dtype float32 if this happens with every picture"
                )
            report(progress, index + 1, len(parts), "decoding the structure")
    return structures


def _agreed(logits: Tensor, inside: Tensor | None = None) -> Tensor:
    """The cells (g, g, g) that structures (votes, g, g, g) agree on most, as many as they have on average.

    Parameters
    ----------
    inside : (v, g, g, g), see :attr:`ImageCondition.inside`. Of several pictures the least counts. What is
        cut away is made up for by the likeliest cells inside: too many cells outside mean too few inside.
    """
    occupied = logits > 0
    if not occupied.any():
        return occupied[0]
    likely = torch.sigmoid(logits).mean(0)
    count = max(1, int(occupied.sum()) // len(logits))
    agreed = occupied[0] if len(logits) == 1 else _likeliest(likely, count)
    if inside is None:
        return agreed
    # Not the product: which way an object faces is the same question in every picture, and the same picture
    # twice says no more than once.
    allowed = inside.to(likely.device).amin(0)
    if bool((allowed == 1).all()) or float(allowed[agreed].mean()) < LEAST_INSIDE:
        return agreed
    likely = likely * allowed
    return _likeliest(likely, min(count, int((likely > 0).sum())))


def _likeliest(likely: Tensor, count: int) -> Tensor:
    """So many cells, and more where some are as likely as the last of them."""
    return likely >= likely.flatten().topk(count).values[-1]


def _structure_decoder_config(networks: Networks) -> StructureDecoderConfig:
    config = networks.config(STRUCTURE_DECODER)
    if not isinstance(config, StructureDecoderConfig):
        raise ModelFileError(f"{networks.folder}: {STRUCTURE_DECODER} is no structure decoder")
    return config


def pool_structure(structure: Structure, resolution: int) -> Structure:
    """The structure max-pooled to a coarser grid, which must divide its own.

    Raises
    ------
    VoxlumeError : it does not.
    """
    factor, rest = divmod(structure.resolution, resolution)
    if rest or factor < 1:
        raise VoxlumeError(
            f"a structure on a grid of {structure.resolution} cannot be pooled to one of {resolution}"
        )
    if factor == 1:
        return structure
    return Structure(unique_cells(structure.coords // factor, resolution), resolution)


# -- stage 3: shape --------------------------------------------------------------------------------


def sample_shape(
    networks: Networks,
    condition: ImageCondition,
    structures: Sequence[Structure],
    seeds: Sequence[int],
    parameters: SamplingParameters,
    sampling: Sampling = Sampling(),
    *,
    high: bool,
    stream: int | None = None,
) -> list[Latent]:
    """Shape latents on the cells of structures; where several vote, their mean.

    The mean of what a model is unsure of is smoother than any sample, and nearer to what is true.

    Parameters
    ----------
    high : with the high-resolution network.
    stream : which noise of the seeds to use; None is this stage's own.
    """
    key = SHAPE_FLOWS[high]
    config = flow_config(networks, key, "sparse")
    normalization = latent_normalization(networks, "shape", config.out_channels)
    if stream is None:
        stream = HIGH_SHAPE_NOISE if high else LOW_SHAPE_NOISE
    tokens, votes = tokens_of(condition, high), parameters.votes
    working = _flow_working(networks, key, [len(s) for s in structures] * votes, tokens, parameters.steps)
    what = f"shape{', high resolution' if high else ''}"
    with torch.no_grad(), networks.using(key, working=working, what="sampling the shape") as (net,):
        assert isinstance(net, FlowTransformer)
        noise = _voting_noise(
            [s.coords for s in structures], config.out_channels, seeds, stream, votes, networks.device
        )
        result = _sample(net, noise, tokens, parameters, sampling, what)
        features = [normalization.denormalize(values).cpu() for values in _means(result, votes)]
    return [
        Latent("shape", structure.coords, values, structure.resolution)
        for structure, values in zip(structures, features, strict=True)
    ]


def shape_voxels(networks: Networks, shape: Latent) -> Tensor:
    """Coordinates int32 (n, 3) of the voxels that the decoder makes of a shape, without decoding the rest.

    Raises
    ------
    VoxlumeError : the decoder keeps no voxel.
    """
    config = decoder_config(networks, SHAPE_DECODER)
    working = decoder_bytes(config, len(shape), networks.item_bytes(SHAPE_DECODER)) / 2
    with (
        torch.no_grad(),
        networks.using(SHAPE_DECODER, working=working, what="upsampling the shape") as (net,),
    ):
        assert isinstance(net, ScVaeDecoder)
        latent = _sparse(shape.coords, shape.features, networks.device)
        coords = net.upsample(latent, len(config.channels) - 1)[:, 1:]
    if not len(coords):
        raise VoxlumeError("the decoded shape is empty: the decoder kept no voxel; try another --seed")
    return coords


def finer_structure(
    networks: Networks, shape: Latent, resolution: int, max_tokens: int, lowest: int, step: int
) -> Structure:
    """The cells that a decoded shape occupies on the latent grid of a higher O-Voxel resolution.

    Parameters
    ----------
    resolution : the O-Voxel grid to reach.
    max_tokens : from this many cells on, the resolution is lowered by ``step`` until there are fewer, but
        not below ``lowest``.
    """
    factor = upsampling_factor(networks)
    coords, decoded = shape_voxels(networks, shape), shape.resolution * factor
    wanted = resolution
    while True:
        cells = cells_of(coords, decoded, resolution // factor)
        if len(cells) < max_tokens or resolution <= lowest:
            break
        resolution = max(lowest, resolution - step)
    if resolution != wanted:
        log.warning(
            "resolution lowered from %d to %d to stay below %d tokens (--max-num-tokens)",
            wanted,
            resolution,
            max_tokens,
        )
    return cells


def structure_of_shape(networks: Networks, shape: Latent) -> Structure:
    """The cells of its own grid that a decoded shape occupies: a better structure than it was sampled on."""
    decoded = shape.resolution * upsampling_factor(networks)
    return cells_of(shape_voxels(networks, shape), decoded, shape.resolution)


def cells_of(coords: Tensor, resolution: int, grid: int) -> Structure:
    """The cells of a coarser grid that hold the centre of a voxel.

    Parameters
    ----------
    coords : integer (n, 3) on a grid of ``resolution``.
    """
    # floor((c + 0.5) / resolution * grid) in whole numbers: no rounding at any size.
    cells = ((2 * coords.long() + 1) * grid) // (2 * resolution)
    return Structure(unique_cells(cells, grid).cpu(), grid)


def unique_cells(cells: Tensor, resolution: int) -> Tensor:
    """Cells (n, 3) of a grid once each and in lexicographic order, int32; on any device."""
    keys = torch.unique(_keys(cells, resolution))
    x, yz = keys // resolution**2, keys % resolution**2
    return torch.stack([x, yz // resolution, yz % resolution], dim=1).int()


# -- stage 4: material -----------------------------------------------------------------------------


def sample_material(
    networks: Networks,
    condition: ImageCondition,
    shapes: Sequence[Latent],
    seeds: Sequence[int],
    parameters: SamplingParameters,
    sampling: Sampling = Sampling(),
    *,
    high: bool,
) -> list[Latent]:
    """Material latents on the same cells, conditioned on the shapes; where several vote, their mean."""
    key = MATERIAL_FLOWS[high]
    config = flow_config(networks, key, "sparse")
    shape_channels = shapes[0].features.shape[1]
    if config.in_channels != config.out_channels + shape_channels:
        raise ModelFileError(
            f"{networks.folder}: {key} takes {config.in_channels} channels, not its own "
            f"{config.out_channels} and {shape_channels} of the shape"
        )
    of_shape = latent_normalization(networks, "shape", shape_channels)
    of_material = latent_normalization(networks, "material", config.out_channels)
    tokens, votes = tokens_of(condition, high), parameters.votes
    working = _flow_working(networks, key, [len(s) for s in shapes] * votes, tokens, parameters.steps)
    with torch.no_grad(), networks.using(key, working=working, what="sampling the material") as (net,):
        assert isinstance(net, FlowTransformer)
        beside = of_shape.normalize(torch.cat([s.features for s in shapes]).to(networks.device))
        noise = _voting_noise(
            [s.coords for s in shapes], config.out_channels, seeds, MATERIAL_NOISE, votes, networks.device
        )
        result = _sample(net, noise, tokens, parameters, sampling, "material", beside.repeat(votes, 1))
        features = [of_material.denormalize(values).cpu() for values in _means(result, votes)]
    return [
        Latent("material", shape.coords, values, shape.resolution)
        for shape, values in zip(shapes, features, strict=True)
    ]


# -- stage 5: decode -------------------------------------------------------------------------------


def decode(
    networks: Networks,
    shape: Latent,
    material: Latent | None = None,
    progress: Progress | None = None,
    mend: bool | None = None,
) -> OVoxel:
    """A shape, and its material if there is one, as O-Voxel on the decoded grid, in lexicographic order.

    Parameters
    ----------
    mend : close small holes, see :mod:`voxlume.ovoxel.mend`; None is what the model says.

    Raises
    ------
    VoxlumeError : no voxel is left, or shape and material are not on the same cells.
    """
    config = decoder_config(networks, SHAPE_DECODER)
    working = decoder_bytes(config, len(shape), networks.item_bytes(SHAPE_DECODER))
    report(progress, 0, 2, "decoding")
    with torch.no_grad():
        latent = _sparse(shape.coords, shape.features, networks.device)
        decoded = _decode_shape(networks, latent, working)
        coords = decoded.output.coords
        if not len(coords):
            raise VoxlumeError("the decoded shape is empty: the decoder kept no voxel; try another --seed")
        grid = dual_grid_channels(decoded.output.features, config.vertex_margin)
        order = torch.argsort(_keys(coords[:, 1:], shape.resolution * upsampling_factor(networks)))
        report(progress, 1, 2, "decoding")
        attributes = None
        if material is not None:
            # On the shape's own coordinate sets, which know their neighbours.
            guide = subdivisions_to(decoded.output.cache, len(decoded.masks))
            raw = _decode_material(networks, latent, material, guide, working)
            attributes = material_attributes(raw.features[rows_in(coords, raw.coords)])[order]
    logits = grid.intersected_logits[order].float().cpu().numpy()
    ovoxel = OVoxel(
        resolution=shape.resolution * upsampling_factor(networks),
        coords=coords[order][:, 1:].cpu().numpy(),
        dual_vertices=grid.dual_vertices[order].float().cpu().numpy(),
        intersected=logits > 0,
        splitting_weights=grid.splitting_weights[order].float().cpu().numpy(),
        attributes=None if attributes is None else attributes.float().clamp(0, 1).cpu().numpy(),
    )
    if networks.folder.config.mend if mend is None else mend:
        ovoxel = mended(ovoxel, logits)
    report(progress, 2, 2, "decoding")
    return ovoxel


def _decode_shape(networks: Networks, latent: SparseTensor, working: float) -> Decoded:
    with networks.using(SHAPE_DECODER, working=working, what="decoding the shape") as (net,):
        assert isinstance(net, ScVaeDecoder)
        return net(latent)


def _decode_material(
    networks: Networks,
    shape: SparseTensor,
    material: Latent,
    guide: Sequence[Tensor] | Sequence[Subdivision],
    working: float,
) -> SparseTensor:
    """The material decoder's raw channels, along the subdivisions of the shape."""
    config = decoder_config(networks, MATERIAL_DECODER)
    if len(guide) != len(config.channels) - 1:
        raise ModelFileError(
            f"{networks.folder}: the material decoder doubles the grid {len(config.channels) - 1} times, "
            f"the shape decoder {len(guide)} times"
        )
    coords = torch.nn.functional.pad(material.coords.to(networks.device), (1, 0))
    rows = rows_in(shape.coords, coords)
    if len(coords) != len(shape) or bool((rows < 0).any()):
        raise VoxlumeError("this material was sampled on another shape")
    latent = shape.with_features(material.features.to(networks.device)[rows])
    with networks.using(MATERIAL_DECODER, working=working, what="decoding the material") as (net,):
        assert isinstance(net, ScVaeDecoder)
        return net(latent, guide).output


# -- texturing: the mesh takes the place of stages 2 and 3 -------------------------------------------


def encode_shape(networks: Networks, ovoxel: OVoxel, progress: Progress | None = None) -> Latent:
    """The latent of an O-Voxel's geometry.

    Raises
    ------
    VoxlumeError : its resolution is not a multiple of what the encoder halves.
    """
    config = networks.config(SHAPE_ENCODER)
    if not isinstance(config, EncoderConfig) or config.content != "shape":
        raise ModelFileError(f"{networks.folder}: {SHAPE_ENCODER} is no shape encoder")
    factor = 1 << (len(config.channels) - 1)
    if ovoxel.resolution % factor:
        raise VoxlumeError(
            f"a grid of {ovoxel.resolution} cannot be encoded; a multiple of {factor} is needed"
        )
    working = encoder_bytes(config, len(ovoxel), networks.item_bytes(SHAPE_ENCODER))
    report(progress, 0, 1, "encoding the mesh")
    with torch.no_grad(), networks.using(SHAPE_ENCODER, working=working, what="encoding the mesh") as (net,):
        assert isinstance(net, ScVaeEncoder)
        values = shape_features(torch.from_numpy(ovoxel.dual_vertices), torch.from_numpy(ovoxel.intersected))
        mean, _ = net(_sparse(torch.from_numpy(ovoxel.coords), values, networks.device))
        coords, features = mean.coords[:, 1:].cpu(), mean.features.float().cpu()
    report(progress, 1, 1, "encoding the mesh")
    return Latent("shape", coords, features, ovoxel.resolution // factor)


def decode_material_onto(
    networks: Networks, ovoxel: OVoxel, material: Latent, progress: Progress | None = None
) -> OVoxel:
    """The O-Voxel with the material's attributes in place of its own; its geometry stays bit for bit."""
    config = decoder_config(networks, MATERIAL_DECODER)
    working = decoder_bytes(config, len(material), networks.item_bytes(MATERIAL_DECODER))
    report(progress, 0, 1, "decoding")
    with torch.no_grad():
        latent = _sparse(material.coords, material.features, networks.device)
        fine = _sparse(torch.from_numpy(ovoxel.coords), torch.empty(len(ovoxel), 0), networks.device)
        masks = subdivision_masks(latent, fine.cache, len(config.channels) - 1)
        raw = _decode_material(networks, latent, material, masks, working)
        rows = rows_in(fine.coords, raw.coords)
        if bool((rows < 0).any()):
            raise VoxlumeError("this material was sampled on another shape")
        attributes = material_attributes(raw.features[rows]).float().clamp(0, 1).cpu().numpy()
    report(progress, 1, 1, "decoding")
    return OVoxel(
        ovoxel.resolution,
        ovoxel.coords,
        ovoxel.dual_vertices,
        ovoxel.intersected,
        attributes,
        ovoxel.splitting_weights,
        ovoxel.placement,
    )


# -- what the stages share ---------------------------------------------------------------------------


def flow_config(networks: Networks, key: str, grid: Literal["dense", "sparse"]) -> FlowTransformerConfig:
    """Sizes of a flow network, checked to be of the right kind.

    Raises
    ------
    ModelFileError : it is something else.
    """
    config = networks.config(key)
    if not isinstance(config, FlowTransformerConfig) or config.grid != grid:
        raise ModelFileError(f"{networks.folder}: {key} is no flow network for {grid} grids")
    return config


def decoder_config(networks: Networks, key: str) -> DecoderConfig:
    """Sizes of a decoder, checked to be of the right kind.

    Raises
    ------
    ModelFileError : it is something else.
    """
    config = networks.config(key)
    content = "shape" if key == SHAPE_DECODER else "material"
    if not isinstance(config, DecoderConfig) or config.content != content:
        raise ModelFileError(f"{networks.folder}: {key} is no {content} decoder")
    return config


def upsampling_factor(networks: Networks) -> int:
    """How many times finer the O-Voxel grid is than the latent grid; 16 in the published model."""
    return 1 << (len(decoder_config(networks, SHAPE_DECODER).channels) - 1)


def latent_normalization(networks: Networks, content: str, channels: int) -> Normalization:
    """The statistics of the shape's or material's latents.

    Raises
    ------
    ModelFileError : the model has none, or of another number of channels.
    """
    config = networks.folder.config
    found = config.shape_normalization if content == "shape" else config.material_normalization
    if found is None:
        raise ModelFileError(f"{networks.folder} has no normalisation of {content} latents")
    if len(found.mean) != channels:
        raise ModelFileError(
            f"{networks.folder}: the normalisation of {content} latents has {len(found.mean)} channels, "
            f"the networks {channels}"
        )
    return found


def tokens_of(condition: ImageCondition, high: bool) -> Tensor:
    """The image tokens (v, m, c) for the low- or the high-resolution networks.

    Raises
    ------
    VoxlumeError : the condition was made without those for high resolution.
    """
    if not high:
        return condition.low
    if condition.high is None:
        raise VoxlumeError("this condition was made for the low resolution only; encode the picture again")
    return condition.high


def _sample(
    network: FlowTransformer,
    noise: State,
    tokens_vmc: Tensor,
    parameters: SamplingParameters,
    sampling: Sampling,
    what: str,
    beside: Tensor | None = None,
) -> State:
    """Sample with a flow network; ``tokens_vmc`` may be (v, b, m, c), for each of b samples its own, and
    ``beside`` (n, c) are constant channels after the noisy ones."""
    _check_channels(network, noise, tokens_vmc, beside)
    preview = sampling.preview
    with FlowRun(network, noise, parameters.steps) as run:
        return sample(
            _velocity(run, noise, tokens_vmc, parameters, sampling.views, beside),
            noise,
            parameters,
            progress=sampling.progress,
            what=f"sampling the {what}",
            preview=None
            if preview is None
            else lambda step, state: preview(what, step, _first_voters(state, parameters.votes)),
            forecast=sampling.forecast,
        )


def _first_voters(state: State, votes: int) -> State:
    """One sample of each seed."""
    if votes == 1:
        return state
    if isinstance(state, Tensor):
        return state[: len(state) // votes]
    samples = state.samples()
    return SparseTensor.from_samples(samples[: len(samples) // votes])


def _keeps_keys_values(views: int, samples: int) -> bool:
    """Whether to keep all blocks' keys and values of the condition.

    Worth it for one view of one sample; for more they would fill the memory, while making them anew costs
    about one per cent of a step.
    """
    return views * samples == 1


def _flow_working(
    networks: Networks, key: str, lengths: Sequence[int], tokens_vmc: Tensor, steps: int
) -> float:
    """Bytes that sampling with a flow network takes, for samples of so many tokens each, in so many steps."""
    views, condition_tokens = tokens_vmc.shape[:2]
    flow = networks.config(key)
    assert isinstance(flow, FlowTransformerConfig)
    return flow_bytes(
        flow,
        sum(lengths),
        len(lengths) * condition_tokens,
        networks.item_bytes(key),
        views=views,
        prepared=_keeps_keys_values(views, len(lengths)),
        fused=networks.fused(key),
        recorded=records(networks.device, lengths, steps, kept=keeps(flow, lengths)),
    )


def _velocity(
    run: FlowRun,
    noise: State,
    tokens_vmc: Tensor,
    parameters: SamplingParameters,
    mode: Views,
    beside: Tensor | None,
) -> Velocity[State]:
    device = values_of(noise).device
    batch = noise.batch_size if isinstance(noise, SparseTensor) else len(noise)
    network = run.network
    views = [view.expand(batch, -1, -1) for view in tokens_vmc.to(device)]
    prepare = network.prepare_condition if _keeps_keys_values(len(views), batch) else pack_condition
    conditions = [prepare(view) for view in views]
    null = network.null_condition(batch) if parameters.guidance_strength != 1 else None
    step_of = {t: i for i, t in enumerate(sampling_times(parameters.steps, parameters.rescale_t))}

    def velocity(state: State, t: float, conditional: bool) -> Tensor:
        x = state
        if beside is not None:
            assert isinstance(state, SparseTensor)
            x = state.with_features(torch.cat([state.features, beside], dim=1))
        t_b = torch.full((batch,), 1000 * t, device=device)
        if not conditional:
            assert null is not None  # nothing else asks for it
            return values_of(run(x, t_b, null))
        if mode == "cycle":
            return values_of(run(x, t_b, conditions[step_of[t] % len(conditions)]))
        velocities = [values_of(run(x, t_b, condition)) for condition in conditions]
        return torch.stack(velocities).mean(0)

    return velocity


def _check_channels(
    network: FlowTransformer, noise: State, tokens_vmc: Tensor, beside: Tensor | None
) -> None:
    """Refuse a network whose inputs have other widths than what it is to be given."""
    given = values_of(noise).shape[1] + (0 if beside is None else beside.shape[1])
    if given != network.config.in_channels:
        raise ModelFileError(f"a flow network takes {network.config.in_channels} channels, not {given}")
    width = tokens_vmc.shape[-1]
    if width != network.config.condition_width:
        raise ModelFileError(
            f"the flow network takes image tokens of width {network.config.condition_width}, "
            f"the image encoder makes {width}"
        )


def _batch(samples: Sequence[Tensor], device: torch.device) -> SparseTensor:
    """Coordinates (n_i, 3) of several samples as one sparse tensor without channels."""
    empty = [(coords, torch.empty((len(coords), 0))) for coords in samples]
    return SparseTensor.from_samples(empty).to(device)


def _voting_noise(
    coords: Sequence[Tensor], channels: int, seeds: Sequence[int], own: int, votes: int, device: torch.device
) -> SparseTensor:
    """Noise of b votes samples: the first voters of all seeds, then the second ones, and so on."""
    once = _batch(coords, device)
    places = once if votes == 1 else _batch(list(coords) * votes, device)
    noise = [noise_like(once, channels, seeds, stream).features for stream in _voting_streams(own, votes)]
    return places.with_features(torch.cat(noise))


def _means(result: State, votes: int) -> list[Tensor]:
    """The mean features (n_i, c) of the voters of each of b seeds, in the order of :func:`_voting_noise`."""
    assert isinstance(result, SparseTensor)
    features = result.features.unflatten(0, (votes, -1)).mean(0)
    return list(features.split(result.batch_lengths[: len(result.batch_lengths) // votes]))


def _sparse(coords: Tensor, features: Tensor, device: torch.device) -> SparseTensor:
    """One sample, coords (n, 3) and features (n, c), on a device."""
    rows = torch.nn.functional.pad(coords.to(device, torch.int32), (1, 0)).contiguous()
    return SparseTensor.on(CoordinateSet(rows, 1), features.to(device))


def _keys(coords: Tensor, resolution: int) -> Tensor:
    """One integer per cell (n, 3), ordered as the cells are."""
    x, y, z = coords.long().unbind(1)
    return (x * resolution + y) * resolution + z
