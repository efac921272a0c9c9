"""Model folders in the published layout: a pipeline's JSON, and the networks it names.

A source is a folder, a hub id ``OWNER/NAME``, or ``"bundled"``. The JSON names each network by a path
without ending, relative to the source, or as ``OWNER/NAME/path`` in another hub repository. Only JSON and
safetensors are ever opened, and only those that a run needs.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import torch
from torch import Tensor, nn

import voxlume
from voxlume.errors import ModelFileError
from voxlume.flow.sampler import (
    MOST_TEMPERATURE,
    MOST_VOTES,
    PUBLISHED_MATERIAL,
    PUBLISHED_SHAPE,
    PUBLISHED_STRUCTURE,
    SamplingParameters,
)
from voxlume.models.published import NetworkConfig, parse_dinov3
from voxlume.pipelines import hub
from voxlume.pipelines.checkpoint import load_image_encoder, load_network, read_config, read_header, read_json

log = logging.getLogger(__name__)

IMAGE_TO_3D = "pipeline.json"
TEXTURING = "texturing_pipeline.json"

BUNDLED = Path(voxlume.__file__).parent / "weights"
"""The folder of the small model that comes with the package."""

PUBLISHED_BASE_RESOLUTION = 512

IMAGE_ENCODER = "image_encoder"
"""The key among a folder's own models of an encoder that it carries itself."""

CAMERA_HEAD = "camera_head"
"""The key of a network of ours that tells from the encoder's tokens where the picture was taken from."""

UNGATED_TWINS = {
    f"facebook/dinov3-vit{letter}16-pretrain-lvd1689m": f"timm/vit_{size}_patch16_dinov3.lvd1689m"
    for letter, size in (("s", "small"), ("b", "base"), ("l", "large"))
}
"""The same weights where no account is needed. The DINOv3 licence holds for them all the same."""


@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation of every latent channel over the training set."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def normalize(self, features: Tensor) -> Tensor:
        """(n, c) latents -> what the flow networks see."""
        return (features - features.new_tensor(self.mean)) / features.new_tensor(self.std)

    def denormalize(self, features: Tensor) -> Tensor:
        """(n, c) of the flow networks -> latents."""
        return features * features.new_tensor(self.std) + features.new_tensor(self.mean)


@dataclass(frozen=True)
class PipelineConfig:
    """What a pipeline's JSON says.

    Attributes
    ----------
    models : network key -> path.
    base_resolution : the O-Voxel grid of the low-resolution networks, half that of the others. Ours; a
        published file does not have it and means 512.
    image_sizes : picture size in pixels for the low- and the high-resolution networks. Ours, as above.
    mend : close small holes of decoded surfaces, see :mod:`voxlume.ovoxel.mend`. Ours; published models do
        without.
    """

    models: Mapping[str, str]
    structure_sampler: SamplingParameters = PUBLISHED_STRUCTURE
    shape_sampler: SamplingParameters = PUBLISHED_SHAPE
    material_sampler: SamplingParameters = PUBLISHED_MATERIAL
    shape_normalization: Normalization | None = None
    material_normalization: Normalization | None = None
    default_type: str = "1024_cascade"
    base_resolution: int = PUBLISHED_BASE_RESOLUTION
    image_sizes: tuple[int, int] = (512, 1024)
    image_encoder: str = "DinoV3FeatureExtractor"
    image_encoder_args: Mapping[str, Any] = field(default_factory=dict)
    mend: bool = False


class Files(Protocol):
    """Where a model's files come from."""

    def find(self, path: str) -> Path | None:
        """The local place of a file, or None if the source has no such file."""


@dataclass(frozen=True)
class FolderFiles:
    """The files of a folder on this machine."""

    root: Path

    def find(self, path: str) -> Path | None:
        found = self.root / _inside(path)
        return found if found.is_file() else None

    def __str__(self) -> str:
        return str(self.root)


@dataclass(frozen=True)
class HubFiles:
    """The files of a hub repository at one revision."""

    repository: str
    revision: str | None = None

    def find(self, path: str) -> Path | None:
        try:
            return hub.fetch(self.repository, _inside(path), self.revision)
        except hub.NotInRepository:
            return None

    def __str__(self) -> str:
        return self.repository


def open_source(source: str | Path, revision: str | None = None) -> Files:
    """The files behind ``source``: a folder, a hub id, or ``"bundled"``.

    Raises
    ------
    ModelFileError : it is none of these, or this version bundles no model.
    """
    if str(source) == "bundled":
        if not (BUNDLED / IMAGE_TO_3D).is_file():
            raise ModelFileError(
                "the small bundled model is not part of this version; use --model microsoft/TRELLIS.2-4B "
                "(downloads about 16 GB), --model FOLDER, or `voxlume init-model DIR` for random weights"
            )
        return FolderFiles(BUNDLED)
    folder = Path(source).expanduser()
    if folder.is_dir():
        return FolderFiles(folder)
    if folder.exists():
        raise ModelFileError(f"{source} is a file; a model is a folder with {IMAGE_TO_3D}, or a hub id")
    if isinstance(source, str) and hub.REPOSITORY.fullmatch(source):
        return HubFiles(source, revision)
    raise ModelFileError(f"{source} is neither a folder here nor a hub id OWNER/NAME")


class ModelFolder:
    """A model: its pipeline's description, and its networks on demand."""

    def __init__(self, files: Files, config: PipelineConfig, image_encoder: str | Path | None = None) -> None:
        self.files = files
        self.config = config
        self.image_encoder = image_encoder
        self._stems: dict[str, Path] = {}

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        pipeline: str = IMAGE_TO_3D,
        image_encoder: str | Path | None = None,
    ) -> ModelFolder:
        """Open a model; reads one JSON file and no weight.

        Parameters
        ----------
        source : a folder, a hub id ``OWNER/NAME``, or ``"bundled"``.
        revision : branch, tag or commit of the hub repository.
        pipeline : the JSON that describes the pipeline.
        image_encoder : a folder or hub id to take the DINOv3 encoder from instead of the one named.

        Raises
        ------
        ModelFileError : no such source, no such JSON in it, or nonsense in the JSON.
        """
        files = open_source(source, revision)
        path = files.find(pipeline)
        if path is None:
            raise ModelFileError(f"{files} has no {pipeline}: not a model folder, or not for this task")
        content = read_json(path)
        try:
            config = parse_pipeline(content)
        except (ValueError, TypeError, KeyError) as error:
            raise ModelFileError(f"{path}: {error}") from error
        return cls(files, config, image_encoder)

    def __str__(self) -> str:
        return str(self.files)

    def has(self, key: str) -> bool:
        return key in self.config.models

    def stem(self, key: str) -> Path:
        """Path without ending of a network's two files, fetched if need be.

        Raises
        ------
        ModelFileError : the model has no such network, or its files are missing.
        """
        if key not in self._stems:
            if key not in self.config.models:
                raise ModelFileError(
                    f"{self} has no network {key!r}; it has {', '.join(sorted(self.config.models)) or 'none'}"
                )
            self._stems[key] = self._locate(self.config.models[key])
        return self._stems[key]

    def network_config(self, key: str) -> NetworkConfig:
        """Sizes of a network, without its weights."""
        if key == IMAGE_ENCODER and not self._own_encoder:
            return parse_dinov3(read_json(self._encoder_folder() / "config.json"))
        return read_config(f"{self.stem(key)}.json")

    def load(self, key: str, dtype: torch.dtype | None, device: torch.device) -> nn.Module:
        """A network with its weights on ``device``.

        Raises
        ------
        ModelFileError : see :func:`voxlume.pipelines.checkpoint.load_network`.
        """
        if key == IMAGE_ENCODER and not self._own_encoder:
            return load_image_encoder(self._encoder_folder(), dtype, device)
        return load_network(self.stem(key), dtype, device)

    def weight_count(self, key: str) -> int:
        """How many numbers a network's file holds; reads its header only."""
        if key == IMAGE_ENCODER and not self._own_encoder:
            path = self._encoder_folder() / "model.safetensors"
        else:
            path = Path(f"{self.stem(key)}.safetensors")
        return sum(math.prod(tensor.shape) for tensor in read_header(path).values())

    def problems(self) -> list[str]:
        """What keeps networks that the description names from loading, one line each.

        Looks at headers only. Files of a hub repository are fetched for it.
        """
        found = []
        for key in sorted(self.config.models):
            try:
                self.network_config(key)
                self.weight_count(key)
            except ModelFileError as error:
                found.append(str(error))
        return found

    @property
    def tells_cameras(self) -> bool:
        """Whether there is a camera head, and the encoder whose tokens it reads has not been replaced."""
        return self.has(CAMERA_HEAD) and self.image_encoder is None

    @property
    def _own_encoder(self) -> bool:
        return self.image_encoder is None and self.has(IMAGE_ENCODER)

    def _locate(self, path: str) -> Path:
        """The stem of a pair: here, here without OWNER/NAME in front, or in the repository OWNER/NAME."""
        parts = PurePosixPath(_inside(path)).parts
        elsewhere = len(parts) > 2
        try:
            found = _pair(self.files, path)
        except hub.NotCached:
            # Without a connection nobody can say that the file is not in this repository.
            if not elsewhere:
                raise
            found = None
        if found is None and elsewhere:
            rest = "/".join(parts[2:])
            if isinstance(self.files, FolderFiles):
                found = _pair(self.files, rest)
            found = found or _pair(HubFiles("/".join(parts[:2])), rest)
        if found is None:
            raise ModelFileError(
                f"{self} names {path}, but {path}.json is not there; the model is incomplete"
            )
        return found

    def _encoder_folder(self) -> Path:
        """A local folder with ``config.json`` and ``model.safetensors`` of a DINOv3 encoder."""
        if "encoder folder" not in self._stems:
            name = self.image_encoder or self.config.image_encoder_args.get("model_name")
            if self.image_encoder is None and self.config.image_encoder != "DinoV3FeatureExtractor":
                raise ModelFileError(
                    f"{self} asks for the image encoder {self.config.image_encoder!r}; only "
                    "DinoV3FeatureExtractor and ImageEncoder are known"
                )
            if not isinstance(name, str | Path):
                raise ModelFileError(f"{self} does not say which image encoder to use (model_name)")
            self._stems["encoder folder"] = self._find_encoder(str(name))
        return self._stems["encoder folder"]

    def _find_encoder(self, name: str) -> Path:
        if isinstance(self.files, FolderFiles) and not name.startswith(("/", "~")):
            inside = self.files.root / _inside(name)
            if inside.is_dir():
                return inside
        if Path(name).expanduser().is_dir():
            return Path(name).expanduser()
        if not hub.REPOSITORY.fullmatch(name):
            raise ModelFileError(f"the image encoder {name} is neither a folder here nor a hub id OWNER/NAME")
        try:
            return _encoder_from_hub(name)
        except ModelFileError as error:
            twin = UNGATED_TWINS.get(name)
            if twin is None:
                raise
            log.warning("%s; taking the same weights from %s (the DINOv3 licence applies)", error, twin)
            try:
                return _encoder_from_hub(twin)
            except ModelFileError as second:
                raise ModelFileError(
                    f"no image encoder: {second}; or name a downloaded folder with --image-encoder"
                ) from error


def _encoder_from_hub(repository: str) -> Path:
    config = hub.fetch(repository, "config.json")
    parse_dinov3(read_json(config))  # refuse a wrong architecture before a gigabyte is fetched
    return hub.fetch(repository, "model.safetensors").parent


def _pair(files: Files, stem: str) -> Path | None:
    config = files.find(f"{stem}.json")
    if config is None:
        return None
    if files.find(f"{stem}.safetensors") is None:
        raise ModelFileError(f"{files} has {stem}.json but no {stem}.safetensors; the model is incomplete")
    return config.with_name(config.name.removesuffix(".json"))


def _inside(path: str) -> str:
    """The path itself if it stays inside its folder.

    Raises
    ------
    ModelFileError : it is absolute or climbs out.
    """
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or "\\" in path or ":" in path:
        raise ModelFileError(f"{path!r} is not a path inside a model folder")
    return str(pure)


# -- the JSON --------------------------------------------------------------------------------------


def parse_pipeline(content: Mapping[str, Any]) -> PipelineConfig:
    """Read a pipeline's JSON. Keys that it does not need are left alone.

    Raises
    ------
    ValueError, TypeError, KeyError : something is missing or of a wrong kind; the message says what.
    """
    args = _object(content.get("args"), "args")
    models = _object(args.get("models"), "args.models")
    if not all(isinstance(key, str) and isinstance(path, str) for key, path in models.items()):
        raise ValueError("args.models must map names to paths")
    encoder = _object(args.get("image_cond_model", {}), "args.image_cond_model")
    encoder_args = _object(encoder.get("args", {}), "args.image_cond_model.args")
    sizes = encoder_args.get("image_sizes", [512, 1024])
    base = args.get("base_resolution", PUBLISHED_BASE_RESOLUTION)
    if not isinstance(sizes, list) or len(sizes) != 2 or not all(_is_count(s, 4096) for s in sizes):
        raise ValueError(f"image_sizes = {sizes!r} must be two picture sizes in pixels")
    mend = args.get("mend", False)
    if not isinstance(mend, bool):
        raise ValueError(f"mend = {mend!r} must be true or false")
    if not _is_count(base, 1 << 14):
        raise ValueError(f"base_resolution = {base!r} must be a grid size")
    return PipelineConfig(
        models=dict(models),
        structure_sampler=_sampler(args, "sparse_structure_sampler", PUBLISHED_STRUCTURE),
        shape_sampler=_sampler(args, "shape_slat_sampler", PUBLISHED_SHAPE),
        material_sampler=_sampler(args, "tex_slat_sampler", PUBLISHED_MATERIAL),
        shape_normalization=_normalization(args, "shape_slat_normalization"),
        material_normalization=_normalization(args, "tex_slat_normalization"),
        default_type=str(args.get("default_pipeline_type", "1024_cascade")),
        base_resolution=base,
        image_sizes=(sizes[0], sizes[1]),
        image_encoder=str(encoder.get("name", "DinoV3FeatureExtractor")),
        image_encoder_args=encoder_args,
        mend=mend,
    )


def _sampler(args: Mapping[str, Any], key: str, default: SamplingParameters) -> SamplingParameters:
    if key not in args:
        return default
    entry = _object(args[key], key)
    own = _object(entry.get("args", {}), f"{key}.args")
    params = _object(entry.get("params", {}), f"{key}.params")
    interval = params.get("guidance_interval", list(default.guidance_interval))
    if not isinstance(interval, list) or len(interval) != 2:
        raise ValueError(f"{key}: guidance_interval = {interval!r} must be two times")
    steps = params.get("steps", default.steps)
    if not _is_count(steps, 10_000):
        raise ValueError(f"{key}: steps = {steps!r} must be a positive whole number")
    votes = params.get("votes", default.votes)
    if not _is_count(votes, MOST_VOTES):
        raise ValueError(f"{key}: votes = {votes!r} must be 1 to {MOST_VOTES}")
    mirrored = params.get("mirrored", default.mirrored)
    if not isinstance(mirrored, bool):
        raise ValueError(f"{key}: mirrored = {mirrored!r} must be true or false")
    temperature = _number(params.get("temperature", default.temperature), f"{key}: temperature")
    if not 0 <= temperature <= MOST_TEMPERATURE:
        raise ValueError(f"{key}: temperature = {temperature!r} must be 0 to {MOST_TEMPERATURE}")
    return SamplingParameters(
        steps=steps,
        rescale_t=_number(params.get("rescale_t", default.rescale_t), f"{key}: rescale_t"),
        guidance_strength=_number(
            params.get("guidance_strength", default.guidance_strength), f"{key}: guidance_strength"
        ),
        guidance_rescale=_number(
            params.get("guidance_rescale", default.guidance_rescale), f"{key}: guidance_rescale"
        ),
        guidance_interval=(
            _number(interval[0], f"{key}: guidance_interval"),
            _number(interval[1], f"{key}: guidance_interval"),
        ),
        sigma_min=_number(own.get("sigma_min", default.sigma_min), f"{key}: sigma_min"),
        votes=votes,
        mirrored=mirrored,
        temperature=temperature,
    )


def _normalization(args: Mapping[str, Any], key: str) -> Normalization | None:
    if key not in args:
        return None
    entry = _object(args[key], key)
    mean, std = entry.get("mean"), entry.get("std")
    if not isinstance(mean, list) or not isinstance(std, list) or len(mean) != len(std) or not mean:
        raise ValueError(f"{key} needs a mean and a std of equal length")
    means = tuple(_number(value, key) for value in mean)
    stds = tuple(_number(value, key) for value in std)
    if min(stds) <= 0:
        raise ValueError(f"{key}: a standard deviation is not positive")
    return Normalization(means, stds)


def _object(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is missing or not an object")
    return value


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{what} = {value!r} is not a number")
    return float(value)


def _is_count(value: Any, high: int) -> bool:
    return type(value) is int and 1 <= value <= high
