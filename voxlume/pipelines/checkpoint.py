"""Networks on disk: pairs of ``NAME.json`` and ``NAME.safetensors`` in the published format.

Nothing but JSON and safetensors is ever opened: no file can run code. A file is checked against the
network before any weight is read or memory for it taken.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn

from voxlume.errors import ModelFileError
from voxlume.files import atomic_write
from voxlume.models.image_encoder import ImageEncoder
from voxlume.models.precision import DTYPES, Precision, block_dtype, set_block_dtype
from voxlume.models.published import (
    NetworkConfig,
    build,
    describe,
    from_dinov3,
    from_published,
    parse,
    parse_dinov3,
    to_published,
)
from voxlume.pipelines.upload import uploaded

MAX_HEADER_BYTES = 100_000_000
"""As the safetensors format itself allows."""

ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
"""The stored number types that are read."""

FOREIGN_BEGINNINGS = {
    b"PK\x03\x04": "a PyTorch (zip and pickle) file",
    b"\x80\x02": "a Python pickle",
    b"\x80\x03": "a Python pickle",
    b"\x80\x04": "a Python pickle",
    b"\x80\x05": "a Python pickle",
    b"\x1f\x8b": "a gzip archive",
    b"GGUF": "a GGUF file",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself",
    b"<!DOCTYPE": "a web page",
    b"<html": "a web page",
}


@dataclass(frozen=True)
class StoredTensor:
    """What a safetensors header says about one tensor."""

    dtype: str
    shape: tuple[int, ...]


def load_network(
    stem: str | Path, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> nn.Module:
    """Read a network, ready for inference.

    Parameters
    ----------
    stem : path without ending; ``stem.json`` and ``stem.safetensors`` are read.
    dtype : what the blocks compute in; None takes the checkpoint's own precision, on a CPU float32.
    device : where the weights go.

    Raises
    ------
    ModelFileError : a file is missing, damaged or of another kind, or does not fit the network.
    """
    config = read_config(f"{stem}.json")
    path = Path(f"{stem}.safetensors")
    header = read_header(path)
    names = from_published(config, header)
    network = build(config, "meta")
    stored = {ours: header[theirs] for theirs, ours in names.items()}
    theirs_of = {ours: theirs for theirs, ours in names.items()}
    expected = to_published(config, network.state_dict())
    problem = misfit(
        {theirs: tuple(value.shape) for theirs, value in expected.items()},
        {theirs_of[ours]: tensor.shape for ours, tensor in stored.items()},
    )
    if problem:
        raise ModelFileError(f"{path} does not fit {describe(config)['name']}: {problem}")
    _set_dtype(network, config, dtype, device)
    weights = {names[key]: value for key, value in _tensors(path, list(names)).items()}
    return with_weights(network, weights, device)


def save_network(network: nn.Module, stem: str | Path, storage: torch.dtype | None = None) -> None:
    """Write ``stem.safetensors`` and ``stem.json`` under the published names, each atomically.

    Parameters
    ----------
    network : one of the networks of :mod:`voxlume.models`.
    storage : the type to store all weights in; None keeps each parameter's own.

    Raises
    ------
    VoxlumeError : the folder is missing, or a file cannot be written.
    """
    precision = _precision_of(block_dtype(network))
    config: NetworkConfig = replace(network.config, precision=precision)  # type: ignore
    state = {
        key: value.detach().to("cpu", storage or value.dtype).contiguous()
        for key, value in to_published(config, network.state_dict()).items()
    }
    with atomic_write(f"{stem}.safetensors") as file:
        file.write(safetensors_bytes(state))
    with atomic_write(f"{stem}.json") as file:
        file.write((json.dumps(describe(config), indent=1) + "\n").encode())


def load_image_encoder(
    folder: str | Path, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> ImageEncoder:
    """Read a DINOv3 encoder from a folder with ``config.json`` and ``model.safetensors``.

    The folders of ``facebook/dinov3-vitl16-pretrain-lvd1689m`` and of timm's
    ``vit_large_patch16_dinov3.lvd1689m`` (and their smaller siblings) are understood.

    Raises
    ------
    ModelFileError : as :func:`load_network`.
    """
    config = parse_dinov3(read_json(Path(folder) / "config.json"))
    path = Path(folder) / "model.safetensors"
    weights = from_dinov3(config, _tensors(path, list(read_header(path))))
    network = build(config, "meta")
    assert isinstance(network, ImageEncoder)
    problem = misfit(
        {key: tuple(value.shape) for key, value in network.state_dict().items()},
        {key: tuple(value.shape) for key, value in weights.items()},
    )
    if problem:
        raise ModelFileError(f"{path} does not fit the image encoder: {problem}")
    _set_dtype(network, config, dtype, device)
    with_weights(network, weights, device)
    return network


def read_config(path: str | Path) -> NetworkConfig:
    """The configuration in a network's JSON file.

    Raises
    ------
    ModelFileError : the file is missing or not such a JSON; unknown class or arguments.
    """
    content = read_json(path)
    name, args = content.get("name"), content.get("args")
    if not isinstance(name, str) or not isinstance(args, dict):
        raise ModelFileError(f'{path}: a network\'s JSON needs a "name" and an object "args"')
    try:
        return parse(name, args)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error


def read_json(path: str | Path) -> dict[str, Any]:
    """A JSON object of at most 16 MB.

    Raises
    ------
    ModelFileError : the file is missing, too large, or not a JSON object.
    """
    path = Path(path)
    try:
        if path.stat().st_size > 1 << 24:
            raise ModelFileError(f"{path} is too large for a configuration")
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ModelFileError(f"{path} holds no JSON object")
    return content


def read_header(path: str | Path) -> dict[str, StoredTensor]:
    """The tensors of a safetensors file, from its header alone.

    Raises
    ------
    ModelFileError : the file is missing, of another kind, damaged, truncated, or stores a number type
        that is not supported.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            beginning = file.read(32)
            length = int.from_bytes(beginning[:8], "little")
            for start, kind in FOREIGN_BEGINNINGS.items():
                if beginning.startswith(start):
                    raise ModelFileError(f"{path} is {kind}; only safetensors files are read")
            if size < 8 or not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
                raise ModelFileError(f"{path} is not a safetensors file, or is truncated")
            file.seek(8)
            text = file.read(length)
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        ends = [0]
        tensors = {}
        for key, entry in header.items():
            tensors[key] = StoredTensor(str(entry["dtype"]), tuple(int(n) for n in entry["shape"]))
            ends.append(int(entry["data_offsets"][1]))
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        raise ModelFileError(f"{path} has a damaged safetensors header") from error
    held, needed = size - 8 - length, max(ends)
    if held < needed:
        raise ModelFileError(f"{path} is truncated: {held:,} of {needed:,} bytes of weights; fetch it again")
    for key, tensor in tensors.items():
        if tensor.dtype not in ITEM_BYTES:
            raise ModelFileError(
                f"{path} stores {key} as {tensor.dtype}; only {', '.join(ITEM_BYTES)} are read"
            )
        if math.prod(tensor.shape) * ITEM_BYTES[tensor.dtype] > held:
            raise ModelFileError(f"{path} has a damaged safetensors header: {key} is larger than the file")
    return tensors


def misfit(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> str:
    """What is wrong with a set of parameters, in one line; empty if nothing is."""
    missing = [key for key in expected if key not in found]
    unexpected = [key for key in found if key not in expected]
    misshapen = [
        f"{key} is {_shape(found[key])} instead of {_shape(shape)}"
        for key, shape in expected.items()
        if key in found and found[key] != shape
    ]
    kinds = (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen))
    return "; ".join(f"{len(keys)} parameters {what} ({_some(keys)})" for what, keys in kinds if keys)


def _some(names: list[str], shown: int = 3) -> str:
    return ", ".join(names[:shown]) + (", ..." if len(names) > shown else "")


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a scalar"


def _tensors(path: Path, keys: list[str]) -> dict[str, Tensor]:
    """The named tensors of a file, mapped from the disk rather than copied."""
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in keys}
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{path} is damaged: {error}") from error


def _set_dtype(
    network: nn.Module, config: NetworkConfig, dtype: torch.dtype | None, device: torch.device | str
) -> None:
    if dtype is None:
        on_cpu = torch.device(device).type == "cpu"
        dtype = torch.float32 if on_cpu else DTYPES[config.precision]
    set_block_dtype(network, dtype)


def with_weights(network: nn.Module, weights: Mapping[str, Tensor], device: torch.device | str) -> nn.Module:
    """Give a network on the meta device its weights, each in the dtype that it has there.

    Parameters
    ----------
    weights : of the host, for every parameter of the network.
    """
    wanted = {name: parameter.dtype for name, parameter in network.named_parameters()}
    there = uploaded({name: weights[name] for name in wanted}, device, wanted)
    # What load_state_dict(assign=True) does in ten times as long.
    for prefix, module in network.named_modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                value = there[f"{prefix}.{name}" if prefix else name]
                module._parameters[name] = nn.Parameter(value, parameter.requires_grad)
    return network.eval()


def _precision_of(dtype: torch.dtype) -> Precision:
    return next(name for name, value in DTYPES.items() if value == dtype)
