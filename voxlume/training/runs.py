"""The stages by name: what each is trained on, and where its results lie in a run's folder.

``RUN/shape_vae``, ``material_vae``, ``structure_vae``, ``image_encoder``, ``camera_head`` and ``flows`` hold
a checkpoint, a log, curves and samples each; flows that learn apart lie in ``flows_structure`` and the like.
``RUN/latents`` holds what the flows learn, ``RUN/pictures`` the pictures that are kept; ``RUN/model`` is the
finished model folder. What a run does not train itself is taken from the model that it begins with.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from voxlume.data.shards import read_index
from voxlume.data.store import VoxelStore
from voxlume.errors import ModelFileError, VoxlumeError
from voxlume.models.camera_head import CameraHeadConfig
from voxlume.models.image_encoder import ImageEncoderConfig
from voxlume.models.published import NetworkConfig
from voxlume.models.sc_vae import ScVaeEncoder
from voxlume.models.structure_vae import StructureEncoder, StructureEncoderConfig
from voxlume.pipelines import stages
from voxlume.pipelines.checkpoint import load_image_encoder, load_network, read_json
from voxlume.pipelines.model_folder import CAMERA_HEAD, IMAGE_ENCODER, IMAGE_TO_3D, ModelFolder
from voxlume.progress import Progress
from voxlume.training.camera_head import CameraHeadStage
from voxlume.training.checkpoint import load_averages, read_state, stored_names
from voxlume.training.config import (
    CameraHeadStageConfig,
    FlowConfig,
    ImageEncoderStageConfig,
    LoopConfig,
    MaterialVaeConfig,
    PictureConfig,
    ShapeVaeConfig,
    StructureVaeConfig,
    overridden,
)
from voxlume.training.data import Share, load_share
from voxlume.training.export import trained, write_model
from voxlume.training.flow import PARTS, FlowStage
from voxlume.training.image_encoder import ImageEncoderStage
from voxlume.training.latents import Encoders, LatentStore, Statistics, encode_split
from voxlume.training.loop import CHECKPOINT, Outcome, train
from voxlume.training.parallel import Processes
from voxlume.training.pictures import PictureSource
from voxlume.training.presets import MATERIAL_ENCODER, PRESETS, STRUCTURE_ENCODER, TrainingPreset
from voxlume.training.sc_vae import MaterialVaeStage, ShapeVaeStage
from voxlume.training.stage import Stage
from voxlume.training.structure_vae import StructureVaeStage

StageName = Literal[
    "shape_vae", "material_vae", "structure_vae", "image_encoder", "camera_head", "latents", "flows", "export"
]

HELD_OUT = "held_out"
ENCODED_SPLITS = ("train", HELD_OUT)

VAE_KEYS: dict[str, tuple[str, str]] = {
    "shape_vae": (stages.SHAPE_ENCODER, stages.SHAPE_DECODER),
    "material_vae": (MATERIAL_ENCODER, stages.MATERIAL_DECODER),
    "structure_vae": (STRUCTURE_ENCODER, stages.STRUCTURE_DECODER),
}
"""Encoder and decoder of each VAE."""

Settings = ShapeVaeConfig | MaterialVaeConfig | StructureVaeConfig | PictureConfig


@dataclass(frozen=True)
class Run:
    """What to train, on what, into which folder.

    Attributes
    ----------
    settings : fields of the stage's configuration to change, as texts; see :func:`.config.overridden`.
    resume : go on from the checkpoint that is there.
    limit : take only so many training objects.
    image_encoder : folder of a ready-made DINOv3 encoder, for flows that do not train one.
    initial : checkpoints of the same stage, or finished model folders, whose weights to begin with; a later
        one goes before an earlier one where both hold a network. Stages that come before and were not run
        are taken from such a folder too.
    encoders : export the encoders too that only evaluation needs.
    share : of a flow that learned on from a finished model, what `export` takes of its new weights; the rest
        is the model's. Between the two lies one that has learned the new and forgotten less of the old
        (Wortsman et al., "Robust fine-tuning of zero-shot models", 2022).
    """

    preset: str
    data: Path
    out: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    resume: bool = False
    limit: int | None = None
    image_encoder: Path | None = None
    initial: tuple[Path, ...] = ()
    encoders: bool = False
    share: float = 1.0

    @property
    def sizes(self) -> TrainingPreset:
        """The preset that is named.

        Raises
        ------
        VoxlumeError : there is none of this name.
        """
        if self.preset not in PRESETS:
            raise VoxlumeError(f"no training preset {self.preset!r}; there are {', '.join(PRESETS)}")
        return PRESETS[self.preset]()

    @property
    def models(self) -> list[Path]:
        """The model folders to begin with, the one that counts most last."""
        return [path for path in self.initial if path.is_dir()]

    def folder(self, stage: str, parts: Sequence[str] = PARTS) -> Path:
        """Where a stage's results lie; ``parts`` are the flows that learn."""
        apart = stage == "flows" and set(parts) != set(PARTS)
        return self.out / ("_".join(["flows", *(p for p in PARTS if p in parts)]) if apart else stage)

    def checkpoint(self, stage: str, parts: Sequence[str] = PARTS) -> Path:
        return self.folder(stage, parts) / CHECKPOINT

    def checkpoint_of_flow(self, part: str) -> Path:
        """Where a flow's weights are, or would be; one that learned apart goes before one that did not."""
        apart = [
            self.checkpoint("flows", parts)
            for count in range(1, len(PARTS) + 1)
            for parts in combinations(PARTS, count)
            if part in parts
        ]
        return next((path for path in apart if path.exists()), self.checkpoint("flows"))


def run_stage(
    name: StageName,
    run: Run,
    processes: Processes,
    progress: Progress | None = None,
    began: float | None = None,
) -> dict[str, Any]:
    """Run one stage and return what there is to say about it.

    Raises
    ------
    VoxlumeError : of the kind that says what is wrong: the data, the settings, a stage that comes before.
    """
    if name == "latents":
        return encode(run, processes, progress)
    if name == "export":
        return export(run) if processes.first else {}
    torch.manual_seed(0)  # every process starts with the same weights
    stage, loop = _stage(name, run, processes, progress)
    parts = stage.config.train if isinstance(stage, FlowStage) else PARTS
    if not run.checkpoint(name, parts).exists():
        encoder = run.checkpoint("image_encoder")
        reads_tokens = isinstance(stage, FlowStage | CameraHeadStage)
        own = (encoder,) if reads_tokens and encoder.exists() else ()
        given: set[str] = set()
        # What this run has trained goes before the model that all of it began with.
        others = [path for path in run.initial if path not in run.models]
        for source in (*run.models, *own, *others):
            given |= begin_with(source, stage)
        frozen = isinstance(stage, FlowStage) and stage.config.freeze_encoder and run.image_encoder is None
        if (frozen or isinstance(stage, CameraHeadStage)) and IMAGE_ENCODER not in given:
            raise VoxlumeError(
                f"nothing has trained the image encoder that {'freeze_encoder' if frozen else name} keeps: "
                "run the stage image_encoder first, or name a model with --initial"
            )
        stage.start(bool(run.initial))
    note = {"stage": name, "preset": run.preset, "weights": sum(p.numel() for p in stage.parameters())}
    outcome = train(
        stage,
        loop,
        run.folder(name, parts),
        processes,
        resume=run.resume,
        note=note,
        progress=progress,
        began=began,
    )
    return _said(outcome) | note


def begin_with(source: Path, stage: Stage) -> set[str]:
    """Give a stage the weights of a checkpoint of the same stage, or of a finished model folder.

    A checkpoint may lack some of the stage's networks, as that of flows trained apart does.

    Returns
    -------
    The keys of the networks that got weights.

    Raises
    ------
    ModelFileError : a model folder lacks a network, a checkpoint all of them, or one is of another size.
    """
    if not source.is_dir():
        held = set(stored_names(source))
        prefixes = {id(module): prefix for prefix, module in stage.named_modules()}
        networks = {key: f"{prefixes[id(network)]}." for key, network in stage.networks().items()}
        found_in = {key: start for key, start in networks.items() if any(n.startswith(start) for n in held)}
        apart, found = tuple(networks.values()), tuple(found_in.values())
        # Beside its networks a stage has heads, which only checkpoints of the same stage hold.
        named = {
            name: parameter
            for name, parameter in stage.named_parameters()
            if name.startswith(found) or (name in held and not name.startswith(apart))
        }
        load_averages(source, named or dict(stage.named_parameters()))
        return set(found_in)
    given = set()
    for key, network in stage.networks().items():
        if key == CAMERA_HEAD and not _holds(source, key):
            continue  # a model without one gets one
        network.load_state_dict(_of_model(source, key, network.config).state_dict())  # type: ignore[arg-type]
        given.add(key)
    return given


def _stem(model: Path, key: str) -> Path:
    """A network's files; the description leaves out what only texturing and training need."""
    folder = ModelFolder.from_pretrained(model)
    return folder.stem(key) if folder.has(key) else model / "ckpts" / key


def _of_model(model: Path, key: str, config: NetworkConfig) -> nn.Module:
    """A network of a finished model, which must have the preset's sizes."""
    stem = _stem(model, key)
    found = load_network(stem, torch.float32)
    if found.config != replace(config, precision=found.config.precision):  # type: ignore
        raise ModelFileError(f"{stem} has other sizes than the preset's {key}")
    return found


def _model_with(run: Run, keys: Sequence[str]) -> Path | None:
    """The model that the run begins with, if it holds all of these networks."""
    for model in reversed(run.models):
        if all(_holds(model, key) for key in keys):
            return model
    return None


def _holds(model: Path, key: str) -> bool:
    stem = _stem(model, key)
    return stem.with_name(f"{stem.name}.json").exists()


def _networks(run: Run, checkpoint: Path, names: Mapping[str, str]) -> dict[str, nn.Module]:
    """Trained networks by their keys: a stage's, or without its checkpoint those of the model to begin with.

    Parameters
    ----------
    names : key -> name within the stage.
    """
    configs = {key: run.sizes.config(key) for key in names}
    model = None if checkpoint.exists() else _model_with(run, list(names))
    if model is not None:
        return {key: _of_model(model, key, config).eval() for key, config in configs.items()}
    found = trained(checkpoint, {names[key]: config for key, config in configs.items()})
    return {key: found[name] for key, name in names.items()}


def _said(outcome: Outcome) -> dict[str, Any]:
    return {"finished": outcome.finished, "step": outcome.step, "seconds": round(outcome.seconds, 1)}


def _stage(
    name: StageName, run: Run, processes: Processes, progress: Progress | None
) -> tuple[Stage, LoopConfig]:
    sizes = run.sizes
    preset: Settings | None = getattr(sizes, name)
    if preset is None:
        if name == "camera_head":
            raise VoxlumeError(f"{run.preset} has no camera head")
        raise VoxlumeError(f"{run.preset} takes a ready-made image encoder: --image-encoder FOLDER")
    config = overridden(preset, run.settings)
    held_out = _held_out(run, processes)
    if isinstance(config, PictureConfig):
        share = Share(run.data, "train", processes, run.limit, progress)
        if isinstance(config, CameraHeadStageConfig):
            return _camera_head_stage(run, config, share, held_out, processes), config.loop
        if isinstance(config, FlowConfig):
            return _flow_stage(run, config, share, held_out, processes), config.loop
        assert isinstance(config, ImageEncoderStageConfig)
        return _image_encoder_stage(run, config, share, held_out, processes), config.loop
    store = load_share(run.data, "train", processes, run.limit, progress)
    encoder, decoder = (sizes.config(key) for key in VAE_KEYS[name])
    arguments = (encoder, decoder, VAE_KEYS[name], config, store, held_out, processes)
    if isinstance(config, StructureVaeConfig):
        return StructureVaeStage(*arguments, sizes.structure_grid), config.loop  # type: ignore[arg-type]
    kind = ShapeVaeStage if isinstance(config, ShapeVaeConfig) else MaterialVaeStage
    return kind(*arguments), config.loop  # type: ignore[arg-type]


def _held_out(run: Run, processes: Processes) -> VoxelStore | None:
    """The first held-out objects, as many as are measured and drawn; None if the data have none."""
    if HELD_OUT not in read_index(run.data)["splits"]:
        return None
    return VoxelStore.load(run.data, processes.device, HELD_OUT, 64)


def _image_encoder_stage(
    run: Run,
    config: ImageEncoderStageConfig,
    share: Share,
    held_out: VoxelStore | None,
    processes: Processes,
) -> ImageEncoderStage:
    sizes = run.sizes
    encoder = sizes.config(IMAGE_ENCODER)
    assert isinstance(encoder, ImageEncoderConfig)
    if config.seen_every < 1 or encoder.patch % config.seen_every:
        raise VoxlumeError(f"seen_every = {config.seen_every} does not divide the patch size {encoder.patch}")
    pictures = _picture_source(run, config, share, processes)
    return ImageEncoderStage(encoder, config, share, held_out, processes, sizes.structure_grid, pictures)


def _camera_head_stage(
    run: Run,
    config: CameraHeadStageConfig,
    share: Share,
    held_out: VoxelStore | None,
    processes: Processes,
) -> CameraHeadStage:
    encoder, head = (run.sizes.config(key) for key in (IMAGE_ENCODER, CAMERA_HEAD))
    assert isinstance(encoder, ImageEncoderConfig)
    assert isinstance(head, CameraHeadConfig)
    pictures = _picture_source(run, config, share, processes)
    return CameraHeadStage(encoder, head, config, share, held_out, processes, pictures)


def _picture_source(run: Run, config: PictureConfig, share: Share, processes: Processes) -> PictureSource:
    return PictureSource(
        config.views,
        config.picture_size,
        config.loop.seed,
        share.numbers,
        share.total,
        run.out / "pictures" if config.keep_pictures else None,
        f"{processes.rank:03d}-of-{processes.count:03d}.safetensors",
        config.supersampling,
        config.seen_every if isinstance(config, ImageEncoderStageConfig) else 0,
        isinstance(config, CameraHeadStageConfig) or (isinstance(config, FlowConfig) and config.camera > 0),
    )


def _flow_stage(
    run: Run, config: FlowConfig, share: Share, held_out: VoxelStore | None, processes: Processes
) -> FlowStage:
    sizes, folder = run.sizes, run.out / "latents"
    device = processes.device
    latents = LatentStore.load(folder, device, rank=processes.rank, world=processes.count)
    pair = None
    if held_out is not None:
        pair = (LatentStore.load(folder, device, HELD_OUT), held_out)
    finished: dict[str, nn.Module] = {}
    for stage, keys in VAE_KEYS.items():
        networks = _trained_vae(run, stage)
        finished |= {key: networks[key] for key in keys if key in sizes.model.networks}
    encoder = None
    if run.image_encoder is not None:
        encoder = load_image_encoder(run.image_encoder, torch.float32)
        sizes = replace(
            sizes, model=replace(sizes.model, networks=sizes.model.networks | {IMAGE_ENCODER: encoder.config})
        )
    pictures = _picture_source(run, config, share, processes)
    head = None
    if sizes.camera_head is not None:
        config_of_head = sizes.config(CAMERA_HEAD)
        assert isinstance(config_of_head, CameraHeadConfig)
        head = (config_of_head, sizes.camera_head)
    return FlowStage(sizes.model, config, latents, share, pair, processes, pictures, encoder, finished, head)


def _trained_vae(run: Run, stage: str) -> dict[str, nn.Module]:
    """Encoder and decoder of a VAE by their keys."""
    encoder, decoder = VAE_KEYS[stage]
    return _networks(run, run.checkpoint(stage), {encoder: "encoder", decoder: "decoder"})


def encode(run: Run, processes: Processes, progress: Progress | None = None) -> dict[str, Any]:
    """Encode the data set with the trained encoders.

    Latents of a finished model's own encoders are normalised as its flows know them, whatever the data.
    """
    began = time.monotonic()
    shape, material, structure = (
        _trained_vae(run, stage)[VAE_KEYS[stage][0]]
        for stage in ("shape_vae", "material_vae", "structure_vae")
    )
    assert isinstance(shape, ScVaeEncoder)
    assert isinstance(material, ScVaeEncoder)
    assert isinstance(structure, StructureEncoder)
    encoders = Encoders(shape, material, structure, run.sizes.structure_grid).ready_on(processes.device)
    folder = run.out / "latents"
    if processes.first and folder.is_dir():
        for old in folder.glob("*.safetensors"):
            old.unlink()
    processes.agreed([0.0])  # nobody writes before the old files are gone
    statistics = _known_statistics(run)
    counts = {}
    for split in ENCODED_SPLITS:
        if split not in read_index(run.data)["splits"]:
            continue
        limit = run.limit if split == "train" else 64
        store = load_share(run.data, split, processes, limit)
        encode_split(encoders, store, folder, split, processes, progress, statistics)
        counts[split] = len(store) * processes.count
    return {"finished": True, "seconds": round(time.monotonic() - began, 1), "objects": counts}


def _known_statistics(run: Run) -> Statistics | None:
    """Those of the model to begin with, if its VAEs are the run's."""
    if any(run.checkpoint(stage).exists() for stage in VAE_KEYS):
        return None
    model = _model_with(run, [key for keys in VAE_KEYS.values() for key in keys])
    if model is None:
        return None
    described = ModelFolder.from_pretrained(model).config
    shape, material = described.shape_normalization, described.material_normalization
    if shape is None or material is None:
        raise ModelFileError(f"{model} does not say how its latents are normalised")
    encoder = run.sizes.config(STRUCTURE_ENCODER)
    assert isinstance(encoder, StructureEncoderConfig)
    return Statistics(shape, material, (1.0,) * encoder.latent_channels)


def export(run: Run) -> dict[str, Any]:
    """Write ``RUN/model`` from the averaged weights of all stages.

    Raises
    ------
    VoxlumeError : a stage is missing, flows have learned from different image encoders, a share that cannot
        be, or ``RUN/model`` exists.
    """
    if not 0 <= run.share <= 1:
        raise VoxlumeError(f"a share of {run.share:g} is not possible; choose 0 to 1")
    sizes = run.sizes
    networks: dict[str, nn.Module] = {}
    history: dict[str, Any] = {}
    for model in run.models:
        history |= read_json(model / IMAGE_TO_3D).get("training", {})
    for stage, keys in VAE_KEYS.items():
        found = _trained_vae(run, stage)
        networks |= {k: found[k] for k in keys if run.encoders or k in sizes.model.networks}
        if run.checkpoint(stage).exists():
            history[stage] = _history(run.checkpoint(stage))
    high = int(read_index(run.data)["resolution"] > sizes.model.base_resolution)
    flows = {
        "structure": stages.STRUCTURE_FLOW,
        "shape": stages.SHAPE_FLOWS[high],
        "material": stages.MATERIAL_FLOWS[high],
    }
    for part, key in flows.items():
        checkpoint = run.checkpoint_of_flow(part)
        found = _networks(run, checkpoint, {key: f"flows.{part}", IMAGE_ENCODER: "encoder"})
        if checkpoint.exists():
            history[checkpoint.parent.name] = _history(checkpoint) | {"share": run.share}
            _take_share(run, key, found[key])
        networks[key], encoder = found[key], found[IMAGE_ENCODER]
        if not _alike(networks.setdefault(IMAGE_ENCODER, encoder), encoder):
            raise VoxlumeError(
                f"the {part} flow has learned from another image encoder than the others: train it again "
                "with theirs and freeze_encoder=true"
            )
    checkpoint = _checkpoint_of_camera_head(run)
    if checkpoint.exists() or _model_with(run, [CAMERA_HEAD, IMAGE_ENCODER]):
        found = _networks(run, checkpoint, {CAMERA_HEAD: "head", IMAGE_ENCODER: "encoder"})
        if _alike(networks[IMAGE_ENCODER], found[IMAGE_ENCODER]):
            networks[CAMERA_HEAD] = found[CAMERA_HEAD]
        elif checkpoint.exists():
            raise VoxlumeError("the camera head has learned from another image encoder than the flows")
        if checkpoint == run.checkpoint("camera_head") and checkpoint.exists():
            history["camera_head"] = _history(checkpoint)
    target = run.out / "model"
    write_model(sizes.model, networks, Statistics.read(run.out / "latents"), target, {"training": history})
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    return {"finished": True, "model": str(target), "megabytes": round(size / 1e6, 1)}


def _checkpoint_of_camera_head(run: Run) -> Path:
    """Where a camera head's weights are, or would be: of its own stage, or of flows that it learned with."""
    own = run.checkpoint("camera_head")
    flows = [path for path in map(run.checkpoint_of_flow, PARTS) if path.exists()]
    beside = [path for path in flows if any(name.startswith("head.") for name in stored_names(path))]
    return own if own.exists() or not beside else beside[0]


def _alike(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def _take_share(run: Run, key: str, flow: nn.Module) -> None:
    """Leave a flow :attr:`Run.share` of its new weights."""
    if run.share == 1:
        return
    model = _model_with(run, [key])
    if model is None:
        raise VoxlumeError("a share of new weights needs the model that they began with: --initial MODEL")
    began_with = _of_model(model, key, run.sizes.config(key))
    with torch.no_grad():
        for new, old in zip(flow.parameters(), began_with.parameters(), strict=True):
            new.lerp_(old, 1 - run.share)


def _history(checkpoint: Path) -> dict[str, Any]:
    """How a stage was trained, as it is told in the finished model."""
    state = read_state(checkpoint)
    return {"steps": state["step"], "seconds": round(state["seconds"]), "lanes": state["lanes"]}


def tell(said: Mapping[str, Any]) -> str:
    """One line of JSON."""
    return json.dumps(dict(said))
