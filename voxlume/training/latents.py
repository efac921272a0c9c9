"""Latents of a data set: what the flow networks learn to make.

``latents/SPLIT-RANK-of-COUNT.safetensors`` holds the objects of one process one after another, their
structures as they are and in a mirror on the plane x = 0;
``latents/statistics.json`` mean and deviation of the training split.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from voxlume.data.store import VoxelStore
from voxlume.errors import ModelFileError, VoxlumeError
from voxlume.files import atomic_write
from voxlume.models.precision import DTYPES, set_block_dtype
from voxlume.models.sc_vae import ScVaeEncoder, material_features, shape_features
from voxlume.models.structure_vae import StructureEncoder
from voxlume.pipelines.checkpoint import read_json
from voxlume.pipelines.model_folder import Normalization
from voxlume.progress import Progress, report
from voxlume.sparse.tensor import SparseTensor
from voxlume.training.checkpoint import write_safetensors
from voxlume.training.data import batch_on
from voxlume.training.parallel import Processes
from voxlume.training.sc_vae import voxel_content
from voxlume.training.structure_vae import occupancy

FORMAT = "voxlume latents 2"
STATISTICS = "statistics.json"
COLUMNS = ("coords", "shape", "material")

VOXELS_TOGETHER = 1_500_000
"""So many voxels are encoded at once."""


@dataclass(frozen=True)
class Statistics:
    """Of the training split's latents.

    Attributes
    ----------
    shape, material : mean and deviation per channel.
    structure_scale : root mean square per channel; structure latents are divided by it, and the structure
        decoder of a finished model multiplies its input by it.
    """

    shape: Normalization
    material: Normalization
    structure_scale: tuple[float, ...]

    @classmethod
    def read(cls, folder: Path) -> Statistics:
        """Read ``statistics.json``.

        Raises
        ------
        ModelFileError : it is missing or damaged.
        """
        content = read_json(folder / STATISTICS)
        try:
            parts = [
                Normalization(tuple(content[key]["mean"]), tuple(content[key]["std"]))
                for key in ("shape", "material")
            ]
            return cls(parts[0], parts[1], tuple(content["structure_scale"]))
        except (KeyError, TypeError) as error:
            raise ModelFileError(f"{folder / STATISTICS} is damaged: {error!r}") from error

    def write(self, folder: Path) -> None:
        content = {
            key: {"mean": list(n.mean), "std": list(n.std)}
            for key, n in (("shape", self.shape), ("material", self.material))
        }
        with atomic_write(folder / STATISTICS) as file:
            text = json.dumps(content | {"structure_scale": list(self.structure_scale)}, indent=1)
            file.write(text.encode())


@dataclass(frozen=True, eq=False)
class LatentBatch:
    """Latents of several objects on one device.

    Attributes
    ----------
    coords : int32 (n, 4), cells of the latent grid, lexicographic within each sample.
    shape, material : float32 (n, c), normalised.
    structure : float32 (b, c, g, g, g), scaled.
    lengths : tokens of each sample, on the host.
    """

    coords: Tensor
    shape: Tensor
    material: Tensor
    structure: Tensor
    lengths: list[int]


class LatentStore:
    """Latents of one split, whole or one process's share, on one device.

    Attributes
    ----------
    names, lengths : of each object; its name in the voxel store and its tokens.
    numbers : of each object in the whole split.
    """

    def __init__(
        self,
        names: list[str],
        lengths: list[int],
        numbers: list[int],
        total: int,
        columns: dict[str, Tensor],
        structure: Tensor,
        statistics: Statistics,
    ) -> None:
        self.names, self.lengths, self.numbers, self.total = names, lengths, numbers, total
        self.statistics = statistics
        self._columns, self._structure = columns, structure
        self._starts = [0, *np.cumsum(lengths, dtype=np.int64).tolist()]
        device = structure.device
        self._normal = {
            key: tuple(torch.tensor(v, device=device) for v in (n.mean, n.std))
            for key, n in (("shape", statistics.shape), ("material", statistics.material))
        }
        self._scale = torch.tensor(statistics.structure_scale, device=device).reshape(-1, 1, 1, 1)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def device(self) -> torch.device:
        return self._structure.device

    @classmethod
    def load(
        cls,
        folder: Path,
        device: torch.device | str = "cpu",
        split: str = "train",
        *,
        rank: int = 0,
        world: int = 1,
    ) -> LatentStore:
        """Read every ``world``-th object of a split, from the ``rank``-th on.

        Raises
        ------
        VoxlumeError : the split has not been encoded.
        ModelFileError : a file is missing or damaged.
        """
        paths = sorted(folder.glob(f"{split}-*-of-*.safetensors"), key=lambda p: _part(p)[0])
        if not paths or len(paths) != _part(paths[0])[1]:
            raise VoxlumeError(f"{folder} has no latents of split {split!r}; run the stage `latents` first")
        parts = [_read(path) for path in paths]
        total = sum(len(names) for names, _, _, _ in parts)
        # Object i of the whole is number i // parts of part i modulo parts.
        numbers = list(range(rank, total, world))
        names, lengths, structures = [], [], []
        pieces: dict[str, list[Tensor]] = {key: [] for key in COLUMNS}
        starts = [[0, *np.cumsum(lengths_, dtype=np.int64).tolist()] for _, lengths_, _, _ in parts]
        for number in numbers:
            at, part = number // len(parts), number % len(parts)
            part_names, part_lengths, columns, structure = parts[part]
            names.append(part_names[at])
            lengths.append(part_lengths[at])
            structures.append(structure[at])
            for key in COLUMNS:
                pieces[key].append(columns[key][starts[part][at] : starts[part][at + 1]])
        joined = {key: torch.cat(values).to(device) for key, values in pieces.items()}
        stacked = torch.stack(structures).to(device)
        return cls(names, lengths, numbers, total, joined, stacked, Statistics.read(folder))

    def batch(self, indices: Sequence[int], mirrored: Sequence[int] | None = None) -> LatentBatch:
        """Objects side by side, normalised; sizes are known on the host.

        Parameters
        ----------
        mirrored : 1 for each object of which the structure, and nothing else, shall be that in a mirror.
        """
        lengths = [self.lengths[i] for i in indices]
        rows = {
            key: torch.cat([column[self._starts[i] : self._starts[i + 1]] for i in indices])
            for key, column in self._columns.items()
        }
        counts = torch.tensor(lengths)
        chosen = 2 * torch.tensor(list(indices)) + torch.tensor(list(mirrored or [0] * len(lengths)))
        if self.device.type == "cuda":
            counts, chosen = (x.pin_memory().to(self.device, non_blocking=True) for x in (counts, chosen))
        numbers = torch.arange(len(lengths), dtype=torch.int32, device=self.device)
        sample = torch.repeat_interleave(numbers, counts, output_size=sum(lengths))
        shape, material = (
            (rows[key].float() - self._normal[key][0]) / self._normal[key][1] for key in ("shape", "material")
        )
        return LatentBatch(
            torch.cat([sample[:, None], rows["coords"].int()], dim=1),
            shape,
            material,
            self._structure.flatten(0, 1).index_select(0, chosen).float() / self._scale,
            lengths,
        )


@dataclass(frozen=True, eq=False)
class Encoders:
    """The three trained encoders, and the grid of the structure's occupancy."""

    shape: ScVaeEncoder
    material: ScVaeEncoder
    structure: StructureEncoder
    structure_grid: int

    def ready_on(self, device: torch.device) -> Encoders:
        """On a device, their blocks in the precision that they are run in."""
        for network in (self.shape, self.material, self.structure):
            if device.type == "cuda":
                set_block_dtype(network, DTYPES[network.config.precision])
            network.to(device).eval()
        return self


@torch.no_grad()
def encode_split(
    encoders: Encoders,
    store: VoxelStore,
    folder: Path,
    split: str,
    processes: Processes,
    progress: Progress | None = None,
    statistics: Statistics | None = None,
) -> None:
    """Encode this process's objects of a split and write them; the training split's statistics too.

    Parameters
    ----------
    store : the objects rank, rank + processes, ... of the split.
    statistics : those to write; by default those of the data.
    """
    folder.mkdir(parents=True, exist_ok=True)
    levels = len(encoders.shape.config.channels) - 1
    pieces: dict[str, list[Tensor]] = {key: [] for key in (*COLUMNS, "structure")}
    lengths: list[int] = []
    for done, chosen in _groups(store):
        report(progress, done, len(store), f"encoding {split}")
        voxels = batch_on(processes.device, store, chosen)
        content = voxel_content(voxels, levels)
        shape, _ = encoders.shape(
            SparseTensor.on(content.fine, shape_features(voxels.dual_vertices, voxels.intersected))
        )
        material, _ = encoders.material(SparseTensor.on(content.fine, material_features(voxels.attributes)))
        occupied = occupancy(voxels, store.resolution, encoders.structure_grid)
        both = torch.stack([occupied, occupied.flip(2)], 1).flatten(0, 1)
        structure = encoders.structure(both.float())[0].unflatten(0, (-1, 2))
        lengths += torch.bincount(shape.coords[:, 0], minlength=len(chosen)).tolist()
        values = (shape.coords[:, 1:].to(torch.int32), shape.features, material.features, structure)
        for key, value in zip(pieces, values, strict=True):
            pieces[key].append(value.cpu() if key == "coords" else value.to(torch.float16).cpu())
    joined = {key: torch.cat(values) for key, values in pieces.items()}
    for key in ("shape", "material", "structure"):
        if not joined[key].isfinite().all():
            raise VoxlumeError(f"the {key} encoder gives numbers that are not finite; train it again")
    path = folder / f"{split}-{processes.rank:03d}-of-{processes.count:03d}.safetensors"
    with atomic_write(path) as file:
        metadata = {
            "format": FORMAT,
            "names": json.dumps(store.names),
            "lengths": json.dumps(lengths),
        }
        write_safetensors(file, joined, metadata)
    if split == "train":
        if statistics is None:
            _write_statistics(joined, folder, processes)
        elif processes.first:
            statistics.write(folder)


def _groups(store: VoxelStore) -> Iterator[tuple[int, list[int]]]:
    """Objects to encode together, and how many came before."""
    group: list[int] = []
    voxels = 0
    for index, count in enumerate(store.voxel_counts):
        if group and voxels + count > VOXELS_TOGETHER:
            yield group[0], group
            group, voxels = [], 0
        group.append(index)
        voxels += count
    if group:
        yield group[0], group


def _write_statistics(joined: dict[str, Tensor], folder: Path, processes: Processes) -> None:
    """Statistics over the objects of all processes."""

    def over_all(values: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and mean of squares per channel, (n, c) float64."""
        count = torch.tensor([float(len(values))], dtype=torch.float64)
        sums = torch.cat([values.sum(0), values.square().sum(0), count]).to(processes.device)
        sums = processes.mean(sums).cpu()
        first, second = sums[:-1].chunk(2)
        return first / sums[-1], second / sums[-1]

    normalizations = []
    for key in ("shape", "material"):
        mean, square = over_all(joined[key].double())
        std = (square - mean.square()).clamp(min=1e-12).sqrt()
        normalizations.append(Normalization(tuple(mean.tolist()), tuple(std.tolist())))
    _, square = over_all(joined["structure"][:, 0].movedim(1, -1).flatten(0, -2).double())
    scale = tuple(square.sqrt().clamp(min=1e-6).tolist())
    if processes.first:
        Statistics(normalizations[0], normalizations[1], scale).write(folder)


def _part(path: Path) -> tuple[int, int]:
    """Rank and count in the name of a file."""
    words = path.stem.split("-")
    return int(words[-3]), int(words[-1])


def _read(path: Path) -> tuple[list[str], list[int], dict[str, Tensor], Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ModelFileError(f"{path} holds no latents")
            columns = {key: file.get_tensor(key) for key in COLUMNS}
            structure = file.get_tensor("structure")
        names, lengths = json.loads(metadata["names"]), json.loads(metadata["lengths"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ModelFileError(f"{path} is damaged: {error}; run the stage `latents` again") from error
    return names, lengths, columns, structure
