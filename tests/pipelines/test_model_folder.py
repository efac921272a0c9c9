"""Where models come from: folders, the hub (from a cache made here; nothing is downloaded), encoders."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub import errors as hub_errors

from voxlume.errors import ModelFileError
from voxlume.models.image_encoder import ImageEncoderConfig
from voxlume.pipelines import hub
from voxlume.pipelines.model_folder import (
    IMAGE_ENCODER,
    FolderFiles,
    ModelFolder,
    PipelineConfig,
    open_source,
    parse_pipeline,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and no connection."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


def put(cache: Path, repository: str, files: dict[str, Path | str], revision: str = "main") -> None:
    """Place files in the cache as if they had been fetched."""
    root = cache / f"models--{repository.replace('/', '--')}"
    (root / "refs").mkdir(parents=True, exist_ok=True)
    (root / "refs" / revision).write_text(COMMIT)
    for name, content in files.items():
        path = root / "snapshots" / COMMIT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.read_bytes() if isinstance(content, Path) else content.encode())


def test_every_network_of_a_folder_loads(tiny_model: Path) -> None:
    import torch

    folder = ModelFolder.from_pretrained(tiny_model)
    for key in folder.config.models:
        assert folder.load(key, None, torch.device("cpu")).config == folder.network_config(key)
        assert folder.weight_count(key) > 0


def test_from_the_hub_without_connection(tiny_model: Path, cache: Path) -> None:
    """The published way of naming: relative paths, and one network in another repository."""
    content = json.loads((tiny_model / "pipeline.json").read_text())
    models = content["args"]["models"]
    models["sparse_structure_decoder"] = "someone/structures/ckpts/sparse_structure_decoder"
    files: dict[str, Path | str] = {"pipeline.json": json.dumps(content)}
    elsewhere: dict[str, Path | str] = {}
    for path in (tiny_model / "ckpts").iterdir():
        target = elsewhere if path.stem == "sparse_structure_decoder" else files
        target[f"ckpts/{path.name}"] = path
    put(cache, "someone/model", files)
    put(cache, "someone/structures", elsewhere)
    folder = ModelFolder.from_pretrained("someone/model")
    for key in models:
        assert folder.network_config(key) is not None
    assert ModelFolder.from_pretrained("someone/model", revision=COMMIT).config == folder.config
    with pytest.raises(ModelFileError, match="not in the local cache"):
        ModelFolder.from_pretrained("someone/model", revision="v2")
    with pytest.raises(ModelFileError, match=r"pipeline.json of other/model .* HF_HUB_OFFLINE"):
        ModelFolder.from_pretrained("other/model")


def test_only_what_is_needed_is_fetched(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None]] = []

    def download(repository: str, path: str, revision: str | None = None) -> str:
        asked.append((path, revision))
        return str(tiny_model / path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    folder = ModelFolder.from_pretrained("someone/model", revision="v1")
    folder.network_config("shape_slat_decoder")
    names = ["pipeline.json", "ckpts/shape_slat_decoder.json", "ckpts/shape_slat_decoder.safetensors"]
    assert asked == [(name, "v1") for name in names]


def response_error(kind: type[Exception]) -> Exception:
    error = kind.__new__(kind)
    Exception.__init__(error, "said the hub")
    return error


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (hub_errors.GatedRepoError, "is gated"),
        (hub_errors.RepositoryNotFoundError, "no repository a/b"),
        (hub_errors.RevisionNotFoundError, "no revision v9"),
        (hub_errors.LocalEntryNotFoundError, "local cache"),
        (hub_errors.EntryNotFoundError, "has no file x"),
        (ConnectionError, "run again to resume"),
    ],
)
def test_what_the_hub_may_say(raised: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*args: Any, **options: Any) -> str:
        raise response_error(raised)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(ModelFileError, match=message) as caught:
        hub.fetch("a/b", "x", "v9")
    assert "\n" not in str(caught.value)


def test_sources(tiny_model: Path, tmp_path: Path) -> None:
    assert open_source(tiny_model) == FolderFiles(tiny_model)
    assert str(open_source("owner/name")) == "owner/name"
    (tmp_path / "file").touch()
    for source, message in (
        (tmp_path / "file", "is a file"),
        (tmp_path / "absent", "neither a folder"),
        ("no such thing", "neither a folder"),
    ):
        with pytest.raises(ModelFileError, match=message):
            open_source(source)
    with pytest.raises(ModelFileError, match=r"has no pipeline\.json"):
        ModelFolder.from_pretrained(tmp_path)


def test_a_published_description() -> None:
    args = {
        "models": {"sparse_structure_decoder": "microsoft/TRELLIS-image-large/ckpts/x"},
        "sparse_structure_sampler": {
            "name": "FlowEulerGuidanceIntervalSampler",
            "args": {"sigma_min": 1e-5},
            "params": {
                "steps": 7,
                "guidance_strength": 3,
                "guidance_interval": [0.5, 1.0],
                "votes": 2,
                "mirrored": True,
                "temperature": 0.5,
            },
        },
        "shape_slat_normalization": {"mean": [0, 1], "std": [1, 2.5]},
        "image_cond_model": {"name": "DinoV3FeatureExtractor", "args": {"model_name": "facebook/x"}},
        "rembg_model": {"name": "BiRefNet", "args": {}},
        "low_vram": True,
    }
    config = parse_pipeline({"name": "Anything", "args": args})
    assert config.base_resolution == 512
    assert config.image_sizes == (512, 1024)
    assert config.structure_sampler.steps == 7
    assert config.structure_sampler.rescale_t == 5.0  # the published value where the file is silent
    assert (config.structure_sampler.votes, config.structure_sampler.mirrored) == (2, True)
    assert (config.shape_sampler.votes, config.shape_sampler.mirrored) == (1, False)
    assert (config.structure_sampler.temperature, config.shape_sampler.temperature) == (0.5, 1.0)
    assert config.shape_normalization is not None
    assert config.shape_normalization.std == (1.0, 2.5)
    assert config.default_type == "1024_cascade"
    assert not config.mend
    assert parse_pipeline({"args": args | {"mend": True}}).mend


# -- the image encoder -----------------------------------------------------------------------------

DINO = {
    "model_type": "dinov3_vit",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "patch_size": 16,
    "num_register_tokens": 4,
}


def with_encoder(root: Path, name: str, override: str | None = None) -> ModelFolder:
    config = PipelineConfig({}, image_encoder_args={"model_name": name})
    return ModelFolder(FolderFiles(root), config, override)


def test_encoder_in_the_folder_or_beside_it(tmp_path: Path) -> None:
    for place in ("model/facebook/dino", "elsewhere"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "config.json").write_text(json.dumps(DINO))
    inside = with_encoder(tmp_path / "model", "facebook/dino")
    assert isinstance(inside.network_config(IMAGE_ENCODER), ImageEncoderConfig)
    other = with_encoder(tmp_path / "model", "facebook/none", str(tmp_path / "elsewhere"))
    assert other.network_config(IMAGE_ENCODER).width == 16  # type: ignore[union-attr]


def test_a_gated_encoder_has_an_ungated_twin(
    cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = {"architecture": "vit_large_patch16_dinov3"}
    files: dict[str, Path | str] = {"config.json": json.dumps(config), "model.safetensors": "later"}
    put(cache, "timm/vit_large_patch16_dinov3.lvd1689m", files)
    folder = with_encoder(tmp_path, "facebook/dinov3-vitl16-pretrain-lvd1689m")
    with caplog.at_level(logging.WARNING):
        assert folder.network_config(IMAGE_ENCODER).width == 1024  # type: ignore[union-attr]
    assert "licence applies" in caplog.text


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("facebook/dinov3-vitl16-pretrain-lvd1689m", "--image-encoder"),
        ("facebook/unheard", "not in the local cache"),
        ("not a name", "neither a folder"),
        ("../../etc/x", "not a path inside"),
    ],
)
def test_no_encoder(name: str, message: str, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=message):
        with_encoder(tmp_path, name).network_config(IMAGE_ENCODER)


def test_an_unknown_encoder_class(tmp_path: Path) -> None:
    folder = ModelFolder(FolderFiles(tmp_path), PipelineConfig({}, image_encoder="Unheard"))
    with pytest.raises(ModelFileError, match="'Unheard'"):
        folder.network_config(IMAGE_ENCODER)
