"""A folder with the results of the stages, to look at, to copy, and to go on from.

``run.json`` says what the run was; ``condition.safetensors``, ``structure_0.safetensors``,
``shape_low_0.safetensors``, ``shape_0.safetensors``, ``material_0.safetensors`` (one for each sample) hold
the results. Whoever goes on from such a folder runs only the stages whose files are not there: to vary a
later stage, delete its files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import voxlume
from voxlume.errors import VoxelFileError, VoxlumeError
from voxlume.files import atomic_write
from voxlume.pipelines.results import ImageCondition, Latent, Structure, load_result, save_result

Stage = Literal["structure", "shape_low", "shape", "material"]
RUN = "run.json"


@dataclass(frozen=True)
class SavedStages:
    """The folder of one run.

    Attributes
    ----------
    folder : None for a run that is not kept: nothing is found in it, and nothing written.
    pipeline_type, seeds : what the run was.
    reusable : the stages to take from it.
    """

    folder: Path | None = None
    pipeline_type: str = ""
    seeds: tuple[int, ...] = ()
    reusable: frozenset[str] = field(
        default_factory=lambda: frozenset({"structure", "shape_low", "shape", "material"})
    )

    @classmethod
    def open(cls, folder: str | Path) -> SavedStages:
        """The run in an existing folder.

        Raises
        ------
        VoxelFileError : no such folder, or ``run.json`` is missing or damaged.
        """
        folder = Path(folder)
        try:
            content = json.loads((folder / RUN).read_text())
            kind, seeds = content["pipeline_type"], content["seeds"]
            if not isinstance(kind, str) or not seeds or not all(type(seed) is int for seed in seeds):
                raise ValueError("values of a wrong kind")
        except OSError as error:
            reason = error.strerror or error
            raise VoxelFileError(f"{folder} is not a folder of saved stages: {RUN}: {reason}") from error
        except (ValueError, TypeError, KeyError) as error:
            raise VoxelFileError(f"{folder / RUN} is damaged: {error}") from error
        return cls(folder, kind, tuple(seeds))

    @classmethod
    def create(cls, folder: str | Path, pipeline_type: str, seeds: Sequence[int]) -> SavedStages:
        """A folder for a new run; made if it is not there.

        Raises
        ------
        VoxlumeError : it cannot be made or written to.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise VoxlumeError(f"cannot make the folder {folder}: {error.strerror or error}") from error
        content = {"pipeline_type": pipeline_type, "seeds": list(seeds), "voxlume": voxlume.__version__}
        with atomic_write(folder / RUN) as file:
            file.write((json.dumps(content, indent=1) + "\n").encode())
        return cls(folder, pipeline_type, tuple(seeds))

    def condition(self) -> ImageCondition | None:
        """The saved condition, or None.

        Raises
        ------
        VoxelFileError : the file is damaged; as the others below.
        """
        path = self._path("condition")
        return load_result(path, ImageCondition) if path and path.exists() else None

    @property
    def structures_saved(self) -> bool:
        return bool(self._present("structure"))

    def structures(self) -> list[Structure]:
        """The saved structures, or none unless every sample has one."""
        return [load_result(path, Structure) for path in self._present("structure")]

    def latents(self, stage: Literal["shape_low", "shape", "material"]) -> list[Latent]:
        """The saved latents of a stage, or none unless every sample has one."""
        return [load_result(path, Latent) for path in self._present(stage)]

    def put_condition(self, condition: ImageCondition) -> None:
        path = self._path("condition")
        if path:
            save_result(condition, path)

    def put(self, stage: Stage, results: Sequence[Structure | Latent]) -> None:
        """Keep the results of a stage, one for each sample."""
        for index, result in enumerate(results):
            path = self._path(f"{stage}_{index}")
            if path:
                save_result(result, path, {"seed": self.seeds[index], "pipeline_type": self.pipeline_type})

    def _present(self, stage: Stage) -> list[Path]:
        if self.folder is None or stage not in self.reusable:
            return []
        paths = [self.folder / f"{stage}_{index}.safetensors" for index in range(len(self.seeds))]
        return paths if all(path.exists() for path in paths) else []

    def _path(self, name: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{name}.safetensors"
