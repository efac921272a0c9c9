"""Everything a run needs to go on with the same numbers: one safetensors file, never a pickle.

Data order and noise are functions of the step (:mod:`voxlume.training.order`), so weights, their averages,
the optimiser's state, the recent gradient norms and the step are all there is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from voxlume.errors import ModelFileError
from voxlume.files import atomic_write
from voxlume.pipelines.checkpoint import misfit, read_header
from voxlume.training.optimizer import AdaptiveClip, Ema

FORMAT = "voxlume training 1"
MOMENTS = ("exp_avg", "exp_avg_sq")

STORED_AS = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float64: "F64",
    torch.uint8: "U8",
    torch.int32: "I32",
}


def write_safetensors(file: BinaryIO, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors one by one, so that no second copy of them all is ever in memory."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    at = 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": STORED_AS[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [at, at + size],
        }
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for tensor in tensors.values():
        values = tensor.detach().cpu().contiguous()
        file.write(values.reshape(-1).view(torch.uint8).numpy().data)


def save_checkpoint(
    path: Path,
    stage: nn.Module,
    optimizer: torch.optim.Optimizer,
    ema: Ema,
    clip: AdaptiveClip,
    state: Mapping[str, Any],
    *,
    write: bool = True,
) -> None:
    """Write a checkpoint in one step: a reader finds the last one or this one, never half of it.

    Parameters
    ----------
    state : further numbers and words for JSON: the step, the time, the configuration.
    write : whether this process writes; all of them take part in gathering what is sharded.
    """
    tensors = {key: _whole(value) for key, value in _tensors(stage, optimizer, ema, clip)}
    if not write:
        return
    with atomic_write(path) as file:
        write_safetensors(file, tensors, {"format": FORMAT, "state": json.dumps(dict(state))})


def load_checkpoint(
    path: Path, stage: nn.Module, optimizer: torch.optim.Optimizer, ema: Ema, clip: AdaptiveClip
) -> dict[str, Any]:
    """Restore a run in place and return its ``state``.

    Raises
    ------
    ModelFileError : the file is damaged, or was written by a run of other networks.
    """
    state = read_state(path)
    _fill_moments(optimizer)
    places = dict(_tensors(stage, optimizer, ema, clip))
    problem = misfit(
        {key: tuple(value.shape) for key, value in places.items()},
        {key: tensor.shape for key, tensor in read_header(path).items()},
    )
    if problem:
        raise ModelFileError(f"{path} was written by a run of other networks: {problem}")
    with torch.no_grad(), safe_open(path, framework="pt") as file:
        for key, place in places.items():
            place.copy_(_sharded_like(file.get_tensor(key), place))
    return state


def read_state(path: Path) -> dict[str, Any]:
    """The ``state`` of a checkpoint, without its weights.

    Raises
    ------
    ModelFileError : the file is missing or no checkpoint.
    """
    read_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        if metadata.get("format") != FORMAT:
            raise ModelFileError(f"{path} is no checkpoint of a training run")
        return dict(json.loads(metadata["state"]))
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ModelFileError(f"{path} is damaged: {error}") from error


def stored_names(path: Path) -> list[str]:
    """The parameters that a checkpoint holds, by their names within the stage.

    Raises
    ------
    ModelFileError : the file is missing or damaged.
    """
    read_state(path)
    return [key.removeprefix("weights/") for key in read_header(path) if key.startswith("weights/")]


def load_averages(path: Path, names: Mapping[str, nn.Parameter]) -> None:
    """Give parameters the averaged weights of a checkpoint.

    Parameters
    ----------
    names : the parameters by their names within the stage; the checkpoint may hold more.

    Raises
    ------
    ModelFileError : the file is missing or damaged, or holds other networks.
    """
    read_state(path)
    header = read_header(path)
    # What a run does not train has no average.
    stored = {name: f"ema/{name}" if f"ema/{name}" in header else f"weights/{name}" for name in names}
    problem = misfit(
        {name: tuple(parameter.shape) for name, parameter in names.items()},
        {name: header[key].shape for name, key in stored.items() if key in header},
    )
    if problem:
        raise ModelFileError(f"{path} holds other networks: {problem}")
    with torch.no_grad(), safe_open(path, framework="pt") as file:
        for name, parameter in names.items():
            parameter.copy_(file.get_tensor(stored[name]))


def _tensors(
    stage: nn.Module, optimizer: torch.optim.Optimizer, ema: Ema, clip: AdaptiveClip
) -> Iterator[tuple[str, Tensor]]:
    """All that is saved, under its name; filled in place when loading."""
    for name, parameter in stage.named_parameters():
        yield f"weights/{name}", parameter.detach()
    trained = {id(p): name for name, p in stage.named_parameters()}
    for parameter, average in zip(ema.parameters, ema.averages, strict=True):
        name = trained[id(parameter)]
        yield f"ema/{name}", average
        state = optimizer.state.get(parameter)
        if state:
            for key in (*MOMENTS, "step"):
                yield f"{key}/{name}", state[key]
    yield "recent_norms", clip.norms


def _fill_moments(optimizer: torch.optim.Optimizer) -> None:
    """Make the optimiser's state, which it would make in its first step."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            device = parameter.device if group["fused"] else "cpu"
            optimizer.state[parameter] = {"step": torch.zeros((), device=device)} | {
                key: torch.zeros_like(parameter) for key in MOMENTS
            }


def _whole(tensor: Tensor) -> Tensor:
    """A tensor on the host; a sharded one is gathered from all processes."""
    full = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return full.cpu()


def _sharded_like(full: Tensor, place: Tensor) -> Tensor:
    """A full tensor divided among the processes as ``place`` is."""
    if not hasattr(place, "full_tensor"):
        return full
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(full.to(place.device), place.device_mesh, place.placements)  # type: ignore[attr-defined]
