"""What can be chosen about a training run; presets of it are in :mod:`voxlume.training.presets`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from voxlume.errors import VoxlumeError
from voxlume.models.precision import Precision

Config = TypeVar("Config")


@dataclass(frozen=True)
class LoopConfig:
    """How a stage is optimised.

    Attributes
    ----------
    seconds, steps : the budget, at least one of them; the run ends with the one that is used up first.
        Seconds count training only, over all resumed parts.
    batch_size : objects in a step, over all processes.
    lanes : into how many equal parts data, batches and random numbers are divided; a multiple of the number
        of processes. Runs with equal lanes see the same data and noise whatever the number of processes.
        0 is the number of processes that begin the run.
    learning_rate, warmup, decay_from, final_rate : the rate rises over the first ``warmup`` of the budget,
        stays, and from ``decay_from`` of the budget on falls along a cosine to ``final_rate`` times itself.
    ema : decay of the averaged weights for a long run; early on it is shorter.
    max_norm : gradients are never longer than this, nor than the ``clip_percentile`` of recent norms.
    precision : of the products inside the blocks; weights, sums and losses stay float32. Ignored on a CPU.
    checkpointing : recompute activations in the backward pass.
    shard : divide weights and optimiser state among the processes instead of copying them.
    check_every : steps between two looks at clock, signals and losses, which wait for the device.
    log_seconds, save_seconds : the least time between two log lines and two checkpoints.
    looks : how often in the run, its end included, held-out data are measured and samples drawn; 0 is never.
    profile : steps early in the run of which ``profile.txt`` tells where their time goes; 0 is none.
    """

    batch_size: int
    seconds: float | None = None
    steps: int | None = None
    lanes: int = 0
    learning_rate: float = 1e-4
    warmup: float = 0.02
    decay_from: float = 0.6
    final_rate: float = 0.02
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    ema: float = 0.9999
    max_norm: float = 1.0
    clip_percentile: float = 0.95
    precision: Precision = "bfloat16"
    checkpointing: bool = False
    shard: bool = False
    seed: int = 0
    check_every: int = 20
    log_seconds: float = 2.0
    save_seconds: float = 120.0
    looks: int = 8
    profile: int = 0


@dataclass(frozen=True)
class RenderingLoss:
    """Losses on pictures of decoded surfaces beside the true ones (the SC-VAE's second stage).

    Attributes
    ----------
    share_from : part of the budget after which they count; 1 leaves them out, 0 is a second stage of its own.
    objects : how many of a process's objects are drawn in a step; 0 draws all.
    size : pixels a side.
    silhouette, depth, normal, attributes, ssim : weights; that of ``ssim`` counts besides that of its map.
    """

    share_from: float = 1.0
    objects: int = 0
    size: int = 256
    silhouette: float = 1.0
    depth: float = 10.0
    normal: float = 1.0
    attributes: float = 1.0
    ssim: float = 0.2


@dataclass(frozen=True)
class ShapeVaeConfig:
    """Weights of the shape's losses; the defaults are the paper's.

    Attributes
    ----------
    voxel : of voxels that exist against those that do not, in the masks of the finest level. A voxel that is
        missed leaves a hole in up to twelve faces, one too many nothing.
    """

    loop: LoopConfig
    intersected: float = 0.1
    vertex: float = 0.01
    masks: float = 0.1
    voxel: float = 1.0
    kl: float = 1e-6
    rendering: RenderingLoss = field(default_factory=RenderingLoss)


@dataclass(frozen=True)
class MaterialVaeConfig:
    """Weights of the material's losses; the defaults are the paper's.

    Attributes
    ----------
    squares : of the attributes' squared errors besides the absolute ones. What is metal is few: where little
        is known yet, the absolute error is least when nothing is, and learning stays there for long.
    means : begin as in :mod:`voxlume.training.means`, where the networks pool.
    freeze_encoder : train the decoder alone, for latents that flows have learned already; with ``means`` a
        fresh one, fitted to them.
    """

    loop: LoopConfig
    attributes: float = 1.0
    squares: float = 0.0
    means: bool = False
    freeze_encoder: bool = False
    kl: float = 1e-6
    rendering: RenderingLoss = field(default_factory=RenderingLoss)


@dataclass(frozen=True)
class StructureVaeConfig:
    """Weights of the structure's losses. Its latents are not normalised by statistics, so the divergence
    has to keep their spread near one."""

    loop: LoopConfig
    occupancy: float = 1.0
    kl: float = 1e-3


@dataclass(frozen=True)
class PictureConfig:
    """What all stages that look at pictures have; with the same values they take the same pictures.

    Attributes
    ----------
    views : pictures of each object, drawn before training begins and kept as bytes on the device.
    picture_size : pixels a side.
    supersampling : samples per pixel and axis of pictures drawn beforehand; 1 takes less than half the time.
    keep_pictures : also write them to the run's folder, 0.2 MB each at 256 pixels; then a resumed or later
        run on the same objects does not draw them again.
    """

    loop: LoopConfig
    views: int = 16
    picture_size: int = 256
    supersampling: int = 2
    keep_pictures: bool = False


@dataclass(frozen=True)
class ImageEncoderStageConfig(PictureConfig):
    """What an image encoder of our own learns before the flows, see :mod:`voxlume.training.image_encoder`.

    Attributes
    ----------
    material, seen : weights of the material's error and of what patches show beside the cells' cross entropy.
    shift, zoom : the most by which pictures are moved, of half their side, and scaled.
    mirror : show every second object in a mirror.
    seen_every : patches tell what every so-manieth pixel shows; a divisor of the patch size.
    """

    material: float = 0.3
    seen: float = 1.0
    shift: float = 0.06
    zoom: float = 0.08
    mirror: bool = True
    seen_every: int = 4


@dataclass(frozen=True)
class CameraHeadStageConfig(PictureConfig):
    """What the camera head learns, see :mod:`voxlume.training.camera_head`.

    Attributes
    ----------
    elevation, nearness, window : weights of the errors beside the direction's cross entropy.
    """

    elevation: float = 2.0
    nearness: float = 4.0
    window: float = 8.0


@dataclass(frozen=True)
class FlowConfig(PictureConfig):
    """What the flow networks learn from.

    Attributes
    ----------
    train : which networks learn: ``structure``, ``shape``, ``material``; they learn together.
    freeze_encoder : keep the image encoder as it is; otherwise it learns with them.
    views : here 0 draws new pictures in every step.
    drop_condition : share of the objects whose picture is hidden, for classifier-free guidance.
    drop_patches : at most this share of the picture's patches is hidden, another one in every step; what a
        few patches tell cannot be known by heart as easily as a whole picture.
    mirror : show every second object in a mirror; where the structures alone are trained.
    camera : weight of what a camera head tells wrong, which then learns with the encoder and the flows, so
        that the tokens say which way an object faces; 0 is none.
    vary : how strongly the colours of the pictures vary, from step to step, 0 to 1; where the encoder learns
        and structures alone are trained. See :mod:`.variation`.
    """

    train: tuple[str, ...] = ("structure", "shape", "material")
    freeze_encoder: bool = False
    drop_condition: float = 0.1
    drop_patches: float = 0.0
    mirror: bool = False
    camera: float = 0.0
    vary: float = 0.0


def overridden(config: Config, values: Mapping[str, str]) -> Config:
    """A configuration with some fields, named as ``field`` or ``part.field``, read from texts.

    Raises
    ------
    VoxlumeError : no such field, or a text that is not a value of it.
    """
    changes: dict[str, Any] = {}
    fields = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}  # type: ignore[arg-type]
    nested: dict[str, dict[str, str]] = {}
    for name, text in values.items():
        first, _, rest = name.partition(".")
        if rest and dataclasses.is_dataclass(fields.get(first)):
            nested.setdefault(first, {})[rest] = text
        elif name in fields and not dataclasses.is_dataclass(fields[name]):
            changes[name] = _read(name, text, fields[name])
        elif "loop" in fields and "." not in name:
            nested.setdefault("loop", {})[name] = text
        else:
            raise VoxlumeError(f"there is no setting {name!r}; there are {', '.join(_names(config))}")
    for name, inner in nested.items():
        changes[name] = overridden(fields[name], inner)
    return dataclasses.replace(config, **changes)  # type: ignore[type-var]


def _names(config: Any) -> list[str]:
    names = []
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        names += [f"{f.name}.{n}" for n in _names(value)] if dataclasses.is_dataclass(value) else [f.name]
    return names


def _read(name: str, text: str, current: Any) -> Any:
    try:
        if isinstance(current, bool):
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        if isinstance(current, tuple):
            kind = type(current[0])
            return tuple(kind(part) for part in text.split(","))
        if current is None or isinstance(current, float):
            return None if text.lower() == "none" else float(text)
        return type(current)(text)
    except (KeyError, ValueError) as error:
        raise VoxlumeError(f"{name} = {text!r} is not a value like {current!r}") from error
