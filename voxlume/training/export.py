"""A finished model folder of trained networks, in the published layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from voxlume.errors import VoxlumeError
from voxlume.models.precision import DTYPES, set_block_dtype
from voxlume.models.published import NetworkConfig, build
from voxlume.models.structure_vae import StructureDecoder, StructureEncoder
from voxlume.pipelines import stages
from voxlume.pipelines.checkpoint import save_network
from voxlume.pipelines.presets import Preset, new_folder, write_descriptions
from voxlume.training.checkpoint import load_averages
from voxlume.training.latents import Statistics


def write_model(
    preset: Preset,
    networks: Mapping[str, nn.Module],
    statistics: Statistics,
    folder: Path,
    note: Mapping[str, Any] = {},
) -> None:
    """Write a model folder that the pipelines open.

    Parameters
    ----------
    preset : what the model consists of; networks that are not there are left out of the descriptions.
    networks : trained networks by key, those of the preset and possibly encoders that only training and
        evaluation need.
    statistics : of the latents; the structure's scale is folded into its decoder and encoder.
    note : further entries of the descriptions, such as how it was trained.

    Raises
    ------
    VoxlumeError : the folder is not empty, or a network that generating needs is missing.
    """
    missing = [key for key in _needed(preset) if key not in networks]
    if missing:
        raise VoxlumeError(f"no trained {', '.join(missing)}; train these stages first")
    folder = new_folder(folder)
    for key, network in networks.items():
        finished = for_inference(network)
        _with_scale(finished, torch.tensor(statistics.structure_scale, dtype=torch.float32))
        half = DTYPES[network.config.precision]  # type: ignore
        save_network(finished, folder / "ckpts" / key, half)
    present = {key: network.config for key, network in networks.items()}
    complete = replace(preset, networks=present)  # type: ignore[arg-type]
    write_descriptions(complete, folder, statistics.shape, statistics.material, note)


@torch.no_grad()
def _with_scale(network: nn.Module, scale: Tensor) -> None:
    """Let a structure decoder take, and a structure encoder give, latents divided by the scale (c,)."""
    if isinstance(network, StructureDecoder):
        network.input.weight.mul_(scale.reshape(1, -1, 1, 1, 1))
    elif isinstance(network, StructureEncoder):
        assert network.output.bias is not None
        mean, log_variance = network.output.weight[: len(scale)], network.output.bias[len(scale) :]
        mean.div_(scale.reshape(-1, 1, 1, 1, 1))
        network.output.bias[: len(scale)].div_(scale)
        log_variance.sub_(2 * scale.log())


def for_inference(network: nn.Module) -> nn.Module:
    """A copy on the host with blocks in the precision of its configuration, without training's additions."""
    config: NetworkConfig = network.config  # type: ignore[assignment]
    finished = build(config)
    finished.load_state_dict({key: value.detach().cpu() for key, value in network.state_dict().items()})
    set_block_dtype(finished, DTYPES[config.precision])
    return finished.eval()


def trained(path: Path, parts: Mapping[str, NetworkConfig]) -> dict[str, nn.Module]:
    """Networks with the averaged weights of a checkpoint.

    Parameters
    ----------
    parts : name within the stage -> configuration.

    Raises
    ------
    VoxlumeError : there is no checkpoint.
    ModelFileError : it is damaged or holds other networks.
    """
    if not path.exists():
        raise VoxlumeError(f"{path} is not there; train this stage first")
    networks = {name: build(config).eval() for name, config in parts.items()}
    load_averages(
        path,
        {f"{name}.{key}": p for name, network in networks.items() for key, p in network.named_parameters()},
    )
    return networks


def _needed(preset: Preset) -> list[str]:
    always = [stages.STRUCTURE_FLOW, stages.STRUCTURE_DECODER, stages.SHAPE_DECODER, stages.SHAPE_FLOWS[0]]
    return [key for key in always if key in preset.networks]
