"""How much of an object the SC-VAE keeps: O-Voxel -> latent -> O-Voxel, measured against the source."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxlume.asset import Asset
from voxlume.data.sources import Source
from voxlume.errors import ModelFileError, VoxlumeError
from voxlume.evaluation.measuring import Kept, Measured, measure_all, stamp
from voxlume.evaluation.metrics import MEASURES, Truth
from voxlume.evaluation.report import Report, Row, Tile, machine, peak_memory_gb
from voxlume.models.sc_vae import Content, DecoderConfig, ScVaeEncoder, material_features, shape_features
from voxlume.ovoxel.grid import OVoxel
from voxlume.ovoxel.voxelize import voxelize_asset
from voxlume.pipelines import stages
from voxlume.pipelines.checkpoint import load_network, read_config, save_network
from voxlume.pipelines.memory import Networks, pick_device
from voxlume.pipelines.model_folder import (
    IMAGE_TO_3D,
    TEXTURING,
    FolderFiles,
    ModelFolder,
    PipelineConfig,
)
from voxlume.pipelines.results import Latent
from voxlume.pipelines.sanity import check_ovoxel
from voxlume.progress import Progress
from voxlume.render.camera import FIXED_VIEWS
from voxlume.render.picture import render_views
from voxlume.sparse import SparseTensor
from voxlume.training.export import trained
from voxlume.training.presets import MATERIAL_ENCODER
from voxlume.training.runs import VAE_KEYS, Run

RECONSTRUCTION_MEASURES = MEASURES | {
    "voxels": "of the source",
    "tokens": "cells of the latent",
    "encode_seconds": "voxels to latents",
    "decode_seconds": "latents to voxels",
}

_KEYS = (stages.SHAPE_ENCODER, stages.SHAPE_DECODER, MATERIAL_ENCODER, stages.MATERIAL_DECODER)

TILE = 192
"""Side of a picture in the sheet."""


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """One round trip.

    Attributes
    ----------
    ovoxel : what came back, in the model frame.
    tokens : cells of the latent.
    encode_seconds, decode_seconds : of the networks alone.
    warnings : of :func:`voxlume.pipelines.sanity.check_ovoxel`.
    """

    ovoxel: OVoxel
    tokens: int
    encode_seconds: float
    decode_seconds: float
    warnings: tuple[str, ...]


class Autoencoder:
    """The encoders and decoders of a model.

    Attributes
    ----------
    networks : the decoders, as the pipelines use them.
    encoders : by content; without ``material`` only the shape is reconstructed.
    """

    def __init__(self, networks: Networks, encoders: Mapping[Content, ScVaeEncoder]) -> None:
        self.networks = networks
        self.encoders = encoders

    @classmethod
    def open(cls, model: str | Path, encoders: str | Path | None = None, device: str = "auto") -> Autoencoder:
        """Open a model.

        Parameters
        ----------
        model : folder, hub id or ``bundled``; or a folder with nothing but networks, as
            :func:`write_autoencoder` makes it.
        encoders : a folder with the encoders that the model itself lacks, as files ``KEY.json`` and
            ``KEY.safetensors`` directly or under ``ckpts``: ``shape_slat_encoder``, ``tex_slat_encoder``.

        Raises
        ------
        ModelFileError : no such model, or there is no shape encoder.
        """
        folder = _open_folder(model)
        networks = Networks(folder, pick_device(device))
        found: dict[Content, ScVaeEncoder] = {}
        keys: tuple[tuple[Content, str], ...] = (
            ("shape", stages.SHAPE_ENCODER),
            ("material", MATERIAL_ENCODER),
        )
        for content, key in keys:
            stem = _encoder_stem(folder, key, encoders)
            if stem is None:
                continue
            network = load_network(stem, None, networks.device)
            if not isinstance(network, ScVaeEncoder) or network.config.content != content:
                raise ModelFileError(f"{stem} is no {content} encoder")
            found[content] = network.eval()
        if "shape" not in found:
            raise ModelFileError(
                f"{model} has no {stages.SHAPE_ENCODER}, which measuring reconstructions needs; "
                "name a folder that has one with --encoders"
            )
        return cls(networks, found)

    @property
    def factor(self) -> int:
        """How many voxels a latent cell is wide."""
        return 1 << (len(self.encoders["shape"].config.channels) - 1)

    def __call__(self, ovoxel: OVoxel) -> Reconstruction:
        """Encode (the mean of the latent's distribution) and decode.

        Raises
        ------
        VoxlumeError : the grid does not fit the encoder, or nothing is left.
        """
        if ovoxel.resolution % self.factor:
            raise VoxlumeError(
                f"a grid of {ovoxel.resolution} cannot be encoded; a multiple of {self.factor} is needed"
            )
        began = self._now()
        shape = self._encode(
            "shape",
            ovoxel,
            shape_features(torch.from_numpy(ovoxel.dual_vertices), torch.from_numpy(ovoxel.intersected)),
        )
        material = None
        if "material" in self.encoders and ovoxel.attributes is not None:
            values = material_features(torch.from_numpy(ovoxel.attributes))
            material = self._encode("material", ovoxel, values)
        encoded = self._now()
        result, warnings = check_ovoxel(stages.decode(self.networks, shape, material))
        return Reconstruction(result, len(shape), encoded - began, self._now() - encoded, tuple(warnings))

    def _encode(self, content: Content, ovoxel: OVoxel, values: Tensor) -> Latent:
        device = self.networks.device
        voxels = SparseTensor.from_samples([(torch.from_numpy(ovoxel.coords), values)]).to(device)
        with torch.no_grad():
            mean, _ = self.encoders[content](voxels)
        resolution = ovoxel.resolution // self.factor
        return Latent(content, mean.coords[:, 1:].cpu(), mean.features.float().cpu(), resolution)

    def _now(self) -> float:
        if self.networks.device.type == "cuda":
            torch.cuda.synchronize(self.networks.device)
        return time.perf_counter()


def evaluate_reconstruction(
    autoencoder: Autoencoder,
    groups: Mapping[str, Sequence[Source]],
    *,
    resolution: int | None = None,
    samples: int = 100_000,
    size: int = 256,
    conversion: bool = False,
    pictures: int = 24,
    about: Mapping[str, Any] | None = None,
    kept_in: Path | None = None,
    progress: Progress | None = None,
) -> tuple[Report, list[Tile]]:
    """Measure reconstructions of objects that training has not seen.

    Parameters
    ----------
    groups : objects by the name of their group.
    resolution : of the voxel grid; the model's base resolution by default.
    samples, size : see :class:`.metrics.Truth`.
    conversion : also measure the voxels before they are encoded, as further groups: what no autoencoder of
        this resolution can do better.
    pictures : how many of the first objects are drawn, the groups in turn.
    about : kept in the report.
    kept_in : folder for the results as they come, from which an interrupted evaluation goes on; who called
        takes it away when the report is written. See :mod:`.measuring`.

    Returns
    -------
    report, and for the sheet label and pictures (source, reconstruction, and the base colour of both).
    """
    networks = autoencoder.networks
    resolution = resolution or networks.folder.config.base_resolution
    facts = {"resolution": resolution, "samples": samples, "map_size": size, **machine(networks.device)}
    facts["material"] = "material" in autoencoder.encoders
    result = Report("reconstruction", {**(about or {}), **facts}, RECONSTRUCTION_MEASURES)
    settings = {"conversion": conversion, "pictures": pictures, "groups": list(groups)}
    kept = Kept(kept_in, result, settings | {"model": stamp(networks.folder)})

    def measure(group: str, source: Source, shown: bool) -> Measured:
        try:
            asset = source.make()
            truth = Truth(asset, samples=samples, size=size)
            voxels = voxelize_asset(asset, resolution)
        except VoxlumeError as error:
            return Measured(unusable=str(error))
        rows = [Row(f"{group}, voxels only", source.name, truth.score(voxels))] if conversion else []
        row, back = _measured(autoencoder, truth, voxels, group, source.name)
        tile = None
        if shown:
            pair = (asset, None if back is None else truth.placed(back.ovoxel))
            tile = (f"{source.name}  {_short(row)}", _tiles(*pair))
        return Measured((*rows, row), tile)

    tiles = measure_all(groups, measure, result, kept, pictures, "reconstructing", progress)
    result.about["peak_memory_gb"] = peak_memory_gb(networks.device)
    return result, tiles


def _measured(
    autoencoder: Autoencoder, truth: Truth, voxels: OVoxel, group: str, name: str
) -> tuple[Row, Reconstruction | None]:
    try:
        back = autoencoder(voxels)
    except VoxlumeError as error:
        return Row(group, name, {"voxels": float(len(voxels))}, str(error)), None
    costs = {
        "voxels": float(len(voxels)),
        "tokens": float(back.tokens),
        "encode_seconds": back.encode_seconds,
        "decode_seconds": back.decode_seconds,
    }
    return Row(group, name, {**truth.score(back.ovoxel), **costs}, "; ".join(back.warnings)), back


def _short(row: Row) -> str:
    value = row.scores.get("normal_psnr")
    return "failed" if value is None else f"{value:.1f} dB"


def _tiles(truth: Asset, result: Asset | None) -> list[NDArray[np.uint8]]:
    """Two views of the source and of what came back."""
    views = (FIXED_VIEWS[0], FIXED_VIEWS[2])
    pictures = render_views(truth, TILE, views)
    if result is None or not result.num_faces:
        return [*pictures, *(np.full_like(picture, 255) for picture in pictures)]
    return [*pictures, *render_views(result, TILE, views)]


SHEET_HEADS = ("source", "source, back", "reconstruction", "reconstruction, back")


def write_autoencoder(run: Path, preset: str, folder: Path) -> None:
    """Write the SC-VAE's trained networks of a run into a folder that :meth:`Autoencoder.open` takes.

    Parameters
    ----------
    run : the run's folder.
    preset : that it was trained with.

    Raises
    ------
    VoxlumeError : the shape's has no checkpoint, or the folder cannot be written.
    """
    described = Run(preset, Path(), run)
    (folder / "ckpts").mkdir(parents=True, exist_ok=True)
    for stale in (folder / "ckpts").iterdir():
        stale.unlink()
    for stage in ("shape_vae", "material_vae"):
        if stage == "material_vae" and not described.checkpoint(stage).exists():
            continue
        parts = dict(zip(("encoder", "decoder"), VAE_KEYS[stage], strict=True))
        networks = trained(
            described.checkpoint(stage), {part: described.sizes.config(key) for part, key in parts.items()}
        )
        for part, key in parts.items():
            save_network(networks[part], folder / "ckpts" / key)


def _open_folder(model: str | Path) -> ModelFolder:
    """A model whose description names everything that is there, also for texturing."""
    found = {key: f"ckpts/{key}" for key in _KEYS if (Path(model) / "ckpts" / f"{key}.json").is_file()}
    if stages.SHAPE_DECODER in found and not (Path(model) / IMAGE_TO_3D).exists():
        decoder = read_config(Path(model) / f"{found[stages.SHAPE_DECODER]}.json")
        assert isinstance(decoder, DecoderConfig)
        return ModelFolder(
            FolderFiles(Path(model)), PipelineConfig(found, base_resolution=decoder.resolution)
        )
    folder = ModelFolder.from_pretrained(model)
    models = dict(folder.config.models)
    if folder.files.find(TEXTURING) is not None:
        models = {**ModelFolder.from_pretrained(model, pipeline=TEXTURING).config.models, **models}
    return ModelFolder(folder.files, replace(folder.config, models=models))


def _encoder_stem(folder: ModelFolder, key: str, encoders: str | Path | None) -> Path | None:
    """Where an encoder's files are: among the model's networks, or in the folder of encoders."""
    if encoders is None:
        return folder.stem(key) if folder.has(key) else None
    for stem in (Path(encoders) / "ckpts" / key, Path(encoders) / key):
        if stem.with_name(f"{key}.json").is_file():
            return stem
    return folder.stem(key) if folder.has(key) else None
