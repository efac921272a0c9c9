"""The published checkpoint format: the one place that knows its class, argument and parameter names.

Everything else in this package uses the field's words and its own configuration dataclasses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from voxlume.errors import ModelFileError
from voxlume.models.camera_head import CameraHead, CameraHeadConfig
from voxlume.models.flow_transformer import FlowTransformer, FlowTransformerConfig
from voxlume.models.image_encoder import ImageEncoder, ImageEncoderConfig
from voxlume.models.sc_vae import DecoderConfig, EncoderConfig, ScVaeDecoder, ScVaeEncoder
from voxlume.models.structure_vae import (
    StructureDecoder,
    StructureDecoderConfig,
    StructureEncoder,
    StructureEncoderConfig,
)

NetworkConfig = (
    StructureEncoderConfig
    | StructureDecoderConfig
    | EncoderConfig
    | DecoderConfig
    | FlowTransformerConfig
    | ImageEncoderConfig
    | CameraHeadConfig
)

NETWORKS: dict[type, type[nn.Module]] = {
    StructureEncoderConfig: StructureEncoder,
    StructureDecoderConfig: StructureDecoder,
    EncoderConfig: ScVaeEncoder,
    DecoderConfig: ScVaeDecoder,
    FlowTransformerConfig: FlowTransformer,
    ImageEncoderConfig: ImageEncoder,
    CameraHeadConfig: CameraHead,
}
"""The network that each kind of configuration describes."""

IGNORED_KEYS = frozenset({"rope_phases"})
"""Buffers that a published file may hold and that are recomputed."""

RESIDUAL_KINDS = {"SparseConvNeXtBlock3d": "convnext", "SparseResBlock3d": "plain"}
DOWN_KINDS = {"SparseResBlockS2C3d": "autoencoding", "SparseResBlockDownsample3d": "pooling"}
UP_KINDS = {"SparseResBlockC2S3d": "autoencoding", "SparseResBlockUpsample3d": "pooling"}

MAX_BLOCKS = 1024
"""More blocks than any real network has: a file that asks for them is damaged."""


def build(config: NetworkConfig, device: torch.device | str | None = None) -> nn.Module:
    """The network of a configuration, in float32 with fresh weights; ``"meta"`` gives shapes only."""
    if device is not None and torch.device(device).type == "meta":
        return _copied(_shapes(config))
    with torch.device(device or "cpu"):
        return NETWORKS[type(config)](config)


@cache
def _shapes(config: NetworkConfig) -> nn.Module:
    """A network on the meta device, to be copied: making one anew takes ten times as long."""
    with torch.device("meta"):
        return NETWORKS[type(config)](config)


def _copied(module: nn.Module) -> nn.Module:
    """A copy that shares nothing that a module changes: parameters, submodules, dictionaries and sets."""
    copy = module.__new__(type(module))
    for name, value in vars(module).items():
        copy.__dict__[name] = value.copy() if isinstance(value, dict | set) else value
    for name, parameter in module._parameters.items():
        if parameter is not None:
            copy._parameters[name] = nn.Parameter(parameter.data, parameter.requires_grad)
    for name, inner in module._modules.items():
        copy._modules[name] = None if inner is None else _copied(inner)
    return copy


def parse(name: str, args: Mapping[str, Any]) -> NetworkConfig:
    """The configuration that a checkpoint's JSON describes.

    Raises
    ------
    ModelFileError : the class or an argument is unknown, an argument is missing or has a wrong value.
    """
    if name not in _CLASSES:
        raise ModelFileError(f"unknown network class {name!r}; known are {', '.join(sorted(_CLASSES))}")
    reader = _Arguments(name, args)
    try:
        config = _CLASSES[name](reader)
    except (ValueError, TypeError) as error:
        raise ModelFileError(f"arguments of {name}: {error}") from error
    reader.refuse_the_rest()
    return config


def describe(config: NetworkConfig) -> dict[str, Any]:
    """The ``{"name", "args"}`` of a configuration; :func:`parse` reads it back."""
    for kind, description in _DESCRIPTIONS.items():
        if isinstance(config, kind):
            return description(config)
    raise TypeError(f"{type(config).__name__} describes no network")


def to_published(config: NetworkConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A network's state dict under the published parameter names."""
    rename = _renaming({ours: theirs for theirs, ours in _parameter_names(config)})
    return {rename(key): value for key, value in state.items()}


def from_published(config: NetworkConfig, keys: Iterable[str]) -> dict[str, str]:
    """For published parameter names, the names inside the network; ignorable ones are left out."""
    rename = _renaming(dict(_parameter_names(config)))
    return {key: rename(key) for key in keys if key not in IGNORED_KEYS}


# -- class names and arguments ---------------------------------------------------------------------


POSITIONS = ("rope", "rope+ape")
"""How flow networks know where their tokens are: rotary as published, or with absolute positions besides."""


@dataclass
class _Arguments:
    """Takes the arguments of a checkpoint one by one, checking each."""

    name: str
    args: Mapping[str, Any]

    def __post_init__(self) -> None:
        self.left = dict(self.args)

    def _take(self, key: str, default: Any) -> Any:
        if key in self.left:
            return self.left.pop(key)
        if default is None:
            raise ValueError(f"{key!r} is missing")
        return default

    def count(self, key: str, default: int | None = None, *, low: int = 1, high: int = 1 << 17) -> int:
        value = self._take(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"{key} = {value!r} is not a whole number from {low} to {high}")
        return value

    def counts(
        self, key: str, default: tuple[int, ...] | None = None, *, low: int = 1, high: int = 1 << 17
    ) -> tuple[int, ...]:
        values = self._take(key, default)
        good = isinstance(values, list | tuple) and (0 if default == () else 1) <= len(values) <= 16
        if not good or not all(type(v) is int and low <= v <= high for v in values):
            raise ValueError(f"{key} = {values!r} is not a list of whole numbers from {low} to {high}")
        return tuple(values)

    def number(self, key: str, default: float, *, low: float = 0.0, high: float = 1e6) -> float:
        value = self._take(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"{key} = {value!r} is not a number from {low} to {high}")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self._take(key, default)
        if not isinstance(value, bool):
            raise ValueError(f"{key} = {value!r} is not true or false")
        return value

    def kinds(self, key: str, names: Mapping[str, str]) -> tuple[Any, ...]:
        values = self._take(key, None)
        if not isinstance(values, list | tuple) or not all(isinstance(v, str) and v in names for v in values):
            raise ValueError(f"{key} = {values!r} is not a list of {' or '.join(names)}")
        return tuple(names[v] for v in values)

    def must_be(self, key: str, only: Any) -> None:
        value = self.left.pop(key, only)
        if value != only:
            raise ValueError(f"{key} = {value!r} is not supported, only {only!r}")

    def one_of(self, key: str, values: tuple[str, ...]) -> str:
        value = self.left.pop(key, values[0])
        if value not in values:
            raise ValueError(f"{key} = {value!r} is not {' or '.join(values)}")
        return str(value)

    def ignore(self, *keys: str) -> None:
        for key in keys:
            self.left.pop(key, None)

    def precision(self, default: Any) -> Any:
        """``dtype`` or ``use_fp16``, whichever is there."""
        half = self.flag("use_fp16", False)
        dtype = self.left.pop("dtype", "float16" if half else default)
        if dtype not in ("float32", "float16", "bfloat16"):
            raise ValueError(f"dtype = {dtype!r} is not float32, float16 or bfloat16")
        return dtype

    def refuse_the_rest(self) -> None:
        if self.left:
            raise ModelFileError(
                f"unknown arguments of {self.name}: {', '.join(sorted(map(str, self.left)))}"
            )


def _structure_encoder(args: _Arguments) -> StructureEncoderConfig:
    return StructureEncoderConfig(
        in_channels=args.count("in_channels"),
        latent_channels=args.count("latent_channels"),
        channels=args.counts("channels"),
        blocks_per_level=args.count("num_res_blocks", low=0, high=MAX_BLOCKS),
        middle_blocks=args.count("num_res_blocks_middle", 2, low=0, high=MAX_BLOCKS),
        precision=args.precision("float32"),
    )


def _structure_decoder(args: _Arguments) -> StructureDecoderConfig:
    return StructureDecoderConfig(
        out_channels=args.count("out_channels"),
        latent_channels=args.count("latent_channels"),
        channels=args.counts("channels"),
        blocks_per_level=args.count("num_res_blocks", low=0, high=MAX_BLOCKS),
        middle_blocks=args.count("num_res_blocks_middle", 2, low=0, high=MAX_BLOCKS),
        precision=args.precision("float32"),
    )


def _sc_vae_levels(args: _Arguments, direction: str, kinds: Mapping[str, str]) -> dict[str, Any]:
    """The arguments that encoders and decoders share."""
    args.ignore("block_args")  # only says what to recompute in training
    return {
        "latent_channels": args.count("latent_channels"),
        "channels": args.counts("model_channels"),
        "blocks": args.counts("num_blocks", low=0, high=MAX_BLOCKS),
        "residual": args.kinds("block_type", RESIDUAL_KINDS),
        "resample": args.kinds(f"{direction}_block_type", kinds),
        "precision": args.precision("float32"),
    }


def _shape_encoder(args: _Arguments) -> EncoderConfig:
    return EncoderConfig(content="shape", in_channels=6, **_sc_vae_levels(args, "down", DOWN_KINDS))


def _material_encoder(args: _Arguments) -> EncoderConfig:
    in_channels = args.count("in_channels")
    levels = _sc_vae_levels(args, "down", DOWN_KINDS)
    return EncoderConfig(content="material", in_channels=in_channels, **levels)


def _shape_decoder(args: _Arguments) -> DecoderConfig:
    return DecoderConfig(
        content="shape",
        out_channels=7,
        predicts_masks=args.flag("pred_subdiv", True),
        vertex_margin=args.number("voxel_margin", 0.5, high=16),
        resolution=args.count("resolution", 512),
        **_sc_vae_levels(args, "up", UP_KINDS),
    )


def _material_decoder(args: _Arguments) -> DecoderConfig:
    out_channels = args.count("out_channels")
    predicts_masks = args.flag("pred_subdiv", True)
    levels = _sc_vae_levels(args, "up", UP_KINDS)
    return DecoderConfig(
        content="material", out_channels=out_channels, predicts_masks=predicts_masks, **levels
    )


def _flow(args: _Arguments, grid: Any) -> FlowTransformerConfig:
    args.ignore("initialization", "use_checkpoint", "block_args")  # matter only to training
    positions = args.one_of("pe_mode", POSITIONS)
    args.must_be("qk_rms_norm", True)
    args.must_be("qk_rms_norm_cross", True)
    width, heads = args.count("model_channels"), args.count("num_heads")
    if width % heads or width // heads % 2 or width // heads < 6:
        raise ValueError(f"model_channels = {width} cannot be split into {heads} heads of even width >= 6")
    config = FlowTransformerConfig(
        grid=grid,
        in_channels=args.count("in_channels"),
        out_channels=args.count("out_channels"),
        width=width,
        condition_width=args.count("cond_channels"),
        blocks=args.count("num_blocks", high=MAX_BLOCKS),
        heads=heads,
        mlp_ratio=args.number("mlp_ratio", 4.0, high=64),
        shared_modulation=args.flag("share_mod", False),
        resolution=args.count("resolution"),
        absolute_positions=POSITIONS.index(positions) == 1,
        precision=args.precision("bfloat16"),
    )
    if config.mlp_width < 1:
        raise ValueError(f"mlp_ratio = {config.mlp_ratio} leaves the MLP without channels")
    return config


def _image_encoder(args: _Arguments) -> ImageEncoderConfig:
    config = ImageEncoderConfig(
        width=args.count("width"),
        blocks=args.count("blocks", high=MAX_BLOCKS),
        heads=args.count("heads"),
        mlp_width=args.count("mlp_width"),
        patch=args.count("patch"),
        registers=args.count("registers", low=0),
        gated_mlp=args.flag("gated_mlp", False),
        rope_base=args.number("rope_base", 100.0, low=1.0),
        norm_eps=args.number("norm_eps", 1e-5, high=1.0),
        absolute_positions=args.flag("absolute_positions", False),
        stem=args.counts("stem", ()),
        precision=args.precision("float32"),
    )
    if config.patch % (1 << len(config.stem)):
        raise ValueError(f"patch = {config.patch} cannot be halved {len(config.stem)} times by the stem")
    if config.width % (4 * config.heads):
        raise ValueError(f"width = {config.width} is not a multiple of four times {config.heads} heads")
    return config


def _camera_head(args: _Arguments) -> CameraHeadConfig:
    return CameraHeadConfig(
        condition_width=args.count("condition_width"),
        queries=args.count("queries"),
        values=args.count("values"),
        hidden=args.count("hidden"),
        directions=args.count("directions"),
        precision=args.precision("float32"),
    )


_CLASSES: dict[str, Callable[[_Arguments], NetworkConfig]] = {
    "SparseStructureEncoder": _structure_encoder,
    "SparseStructureDecoder": _structure_decoder,
    "FlexiDualGridVaeEncoder": _shape_encoder,
    "FlexiDualGridVaeDecoder": _shape_decoder,
    "SparseUnetVaeEncoder": _material_encoder,
    "SparseUnetVaeDecoder": _material_decoder,
    "SparseStructureFlowModel": lambda args: _flow(args, "dense"),
    "SLatFlowModel": lambda args: _flow(args, "sparse"),
    "ElasticSLatFlowModel": lambda args: _flow(args, "sparse"),
    "ImageEncoder": _image_encoder,  # ours: the published system takes its encoder from elsewhere
    "CameraHead": _camera_head,  # ours as well
}


def _describe_structure(config: StructureEncoderConfig | StructureDecoderConfig) -> dict[str, Any]:
    if isinstance(config, StructureEncoderConfig):
        name, ends = "SparseStructureEncoder", {"in_channels": config.in_channels}
    else:
        name, ends = "SparseStructureDecoder", {"out_channels": config.out_channels}
    return {
        "name": name,
        "args": ends
        | {
            "latent_channels": config.latent_channels,
            "num_res_blocks": config.blocks_per_level,
            "num_res_blocks_middle": config.middle_blocks,
            "channels": list(config.channels),
            "use_fp16": config.precision == "float16",
        },
    }


def _describe_levels(config: EncoderConfig | DecoderConfig) -> dict[str, Any]:
    decoder = isinstance(config, DecoderConfig)
    direction, kinds = ("up", UP_KINDS) if decoder else ("down", DOWN_KINDS)
    residual, resample = ({ours: theirs for theirs, ours in k.items()} for k in (RESIDUAL_KINDS, kinds))
    return {
        "model_channels": list(config.channels),
        "latent_channels": config.latent_channels,
        "num_blocks": list(config.blocks),
        "block_type": [residual[kind] for kind in config.residual],
        f"{direction}_block_type": [resample[kind] for kind in config.resample],
        "block_args": [{} for _ in config.channels],
        "use_fp16": config.precision == "float16",
    }


def _describe_encoder(config: EncoderConfig) -> dict[str, Any]:
    levels = _describe_levels(config)
    if config.content == "shape":
        return {"name": "FlexiDualGridVaeEncoder", "args": levels}
    return {"name": "SparseUnetVaeEncoder", "args": {"in_channels": config.in_channels} | levels}


def _describe_decoder(config: DecoderConfig) -> dict[str, Any]:
    levels = _describe_levels(config)
    if config.content == "shape":
        own: dict[str, Any] = {"resolution": config.resolution, "voxel_margin": config.vertex_margin}
        if not config.predicts_masks:
            own["pred_subdiv"] = False
        return {"name": "FlexiDualGridVaeDecoder", "args": own | levels}
    own = {"out_channels": config.out_channels, "pred_subdiv": config.predicts_masks}
    return {"name": "SparseUnetVaeDecoder", "args": own | levels}


def _describe_flow(config: FlowTransformerConfig) -> dict[str, Any]:
    return {
        "name": "SparseStructureFlowModel" if config.grid == "dense" else "SLatFlowModel",
        "args": {
            "resolution": config.resolution,
            "in_channels": config.in_channels,
            "out_channels": config.out_channels,
            "model_channels": config.width,
            "cond_channels": config.condition_width,
            "num_blocks": config.blocks,
            "num_heads": config.heads,
            "mlp_ratio": config.mlp_ratio,
            "pe_mode": POSITIONS[config.absolute_positions],
            "dtype": config.precision,
            "share_mod": config.shared_modulation,
            "qk_rms_norm": True,
            "qk_rms_norm_cross": True,
        },
    }


def _describe_own(config: ImageEncoderConfig | CameraHeadConfig) -> dict[str, Any]:
    values = asdict(config)
    values["dtype"] = values.pop("precision")
    return {"name": NETWORKS[type(config)].__name__, "args": values}


_DESCRIPTIONS: dict[type, Callable[[Any], dict[str, Any]]] = {
    StructureEncoderConfig: _describe_structure,
    StructureDecoderConfig: _describe_structure,
    EncoderConfig: _describe_encoder,
    DecoderConfig: _describe_decoder,
    FlowTransformerConfig: _describe_flow,
    ImageEncoderConfig: _describe_own,
    CameraHeadConfig: _describe_own,
}


# -- parameter names -------------------------------------------------------------------------------

_STRUCTURE_NAMES = (
    ("input_layer", "input"),
    ("middle_block", "middle"),
    ("out_layer.0", "output_norm"),
    ("out_layer.2", "output"),
)
_SC_VAE_NAMES = (
    ("input_layer", "input"),
    ("output_layer", "output"),
    ("to_subdiv", "subdivision"),
    ("skip_connection", "skip"),
)
_FLOW_NAMES = (
    ("t_embedder.mlp", "time_embedding"),
    ("adaLN_modulation", "modulation"),
    ("modulation", "modulation_offset"),
    ("input_layer", "input"),
    ("out_layer", "output"),
    ("self_attn", "self_attention"),
    ("cross_attn", "cross_attention"),
    ("norm2", "cross_norm"),
    ("to_qkv", "qkv"),
    ("to_kv", "kv"),
    ("to_q", "q"),
    ("to_out", "out"),
    ("q_rms_norm", "q_norm"),
    ("k_rms_norm", "k_norm"),
    ("mlp.mlp", "mlp"),
)
"""Published part of a parameter name and ours; a part is one or more whole words between dots."""


def _parameter_names(config: NetworkConfig) -> tuple[tuple[str, str], ...]:
    if isinstance(config, StructureEncoderConfig | StructureDecoderConfig):
        return _STRUCTURE_NAMES
    if isinstance(config, EncoderConfig | DecoderConfig):
        return _SC_VAE_NAMES
    return _FLOW_NAMES if isinstance(config, FlowTransformerConfig) else ()


def _renaming(parts: Mapping[str, str]) -> Callable[[str], str]:
    """A function that replaces parts of dotted names, all in one pass."""
    if not parts:
        return lambda key: key
    longest_first = sorted(parts, key=len, reverse=True)
    pattern = re.compile(rf"(?<![^.])({'|'.join(map(re.escape, longest_first))})(?![^.])")
    return lambda key: pattern.sub(lambda match: parts[match[1]], key)


# -- image encoders of other libraries -------------------------------------------------------------


def parse_dinov3(config: Mapping[str, Any]) -> ImageEncoderConfig:
    """The configuration in the ``config.json`` of a DINOv3 folder, transformers' or timm's.

    Raises
    ------
    ModelFileError : it is another architecture, or a value is missing.
    """
    if "architecture" in config:
        return _parse_timm(str(config["architecture"]))
    if config.get("model_type") != "dinov3_vit":
        raise ModelFileError(f"model_type {config.get('model_type')!r} is not a DINOv3 vision transformer")
    gated = bool(config.get("use_gated_mlp", False))
    activation = config.get("hidden_act", "gelu")
    if activation != ("silu" if gated else "gelu"):
        raise ModelFileError(f"hidden_act {activation!r} is not what DINOv3 uses in this MLP")
    try:
        return ImageEncoderConfig(
            width=int(config["hidden_size"]),
            blocks=int(config["num_hidden_layers"]),
            heads=int(config["num_attention_heads"]),
            mlp_width=int(config["intermediate_size"]),
            patch=int(config["patch_size"]),
            registers=int(config["num_register_tokens"]),
            gated_mlp=gated,
            rope_base=float(config.get("rope_theta", 100.0)),
            norm_eps=float(config.get("layer_norm_eps", 1e-5)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"not a usable DINOv3 configuration: {error}") from error


TIMM_SIZES = {
    "small": ImageEncoderConfig(width=384, blocks=12, heads=6, mlp_width=1536),
    "base": ImageEncoderConfig(width=768, blocks=12, heads=12, mlp_width=3072),
    "large": ImageEncoderConfig(),
}


def _parse_timm(architecture: str) -> ImageEncoderConfig:
    match = re.fullmatch(r"vit_(\w+?)_patch16_dinov3(_qkvb)?", architecture)
    if match is None or match[1] not in TIMM_SIZES:
        known = ", ".join(f"vit_{size}_patch16_dinov3" for size in TIMM_SIZES)
        raise ModelFileError(f"architecture {architecture!r} is not supported; known are {known}")
    return TIMM_SIZES[match[1]]


_TRANSFORMERS_NAMES = {
    "embeddings.cls_token": "class_token",
    "embeddings.register_tokens": "register_tokens",
    "embeddings.patch_embeddings": "patch_embedding",
    "model.layer": "blocks",
    "layer": "blocks",
    "attention.o_proj": "attention.out",
    "layer_scale1.lambda1": "scale1",
    "layer_scale2.lambda1": "scale2",
    "up_proj": "up",
    "gate_proj": "gate",
    "down_proj": "down",
}
_TIMM_NAMES = {
    "cls_token": "class_token",
    "reg_token": "register_tokens",
    "patch_embed.proj": "patch_embedding",
    "attn": "attention",
    "attn.proj": "attention.out",
    "gamma_1": "scale1",
    "gamma_2": "scale2",
    "fc1": "up",
    "fc2": "down",
}
_UNUSED_BY_CONDITION = re.compile(
    r"(embeddings\.mask_token|mask_token|norm\.(weight|bias)|rope\..*|fc_norm\..*)"
)
_SPLIT_PROJECTION = re.compile(r"(.*attention)\.([qkv])_(?:proj\.(weight|bias)|(bias))")


def from_dinov3(config: ImageEncoderConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of the image encoder from transformers' or timm's DINOv3 parameters.

    Both libraries' published weights have no bias for keys and zero or no biases for queries and values;
    what is absent is zero. The mask token and the final norm are dropped: the condition is taken before.
    """
    names = _TIMM_NAMES if "cls_token" in state else _TRANSFORMERS_NAMES
    rename = _renaming(names)
    result: dict[str, Tensor] = {}
    split: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        if _UNUSED_BY_CONDITION.fullmatch(key):
            continue
        key = rename(key)
        match = _SPLIT_PROJECTION.fullmatch(key)
        if match:
            split.setdefault(f"{match[1]}.qkv.{match[3] or match[4]}", {})[match[2]] = value
        else:
            result[key] = value
    for key, parts in split.items():
        if key.endswith("weight") and set(parts) != set("qkv"):
            # A missing projection must stay missing, so that the strict loader names it.
            result |= {f"{key}.{letter}": value for letter, value in parts.items()}
            continue
        like = next(iter(parts.values()))
        result[key] = torch.cat([parts.get(letter, torch.zeros_like(like)) for letter in "qkv"])
    for index in range(config.blocks):
        bias = f"blocks.{index}.attention.qkv.bias"
        if bias not in result:
            result[bias] = torch.zeros(3 * config.width)
    return result
