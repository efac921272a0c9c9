"""Networks on disk: what is written reads back, what is wrong is refused in one line."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from voxlume.errors import ModelFileError, VoxlumeError
from voxlume.models.flow_transformer import FlowTransformerConfig
from voxlume.models.image_encoder import ImageEncoderConfig
from voxlume.models.precision import block_dtype, set_block_dtype
from voxlume.models.published import NetworkConfig, build
from voxlume.models.sc_vae import DecoderConfig, EncoderConfig
from voxlume.models.structure_vae import StructureDecoderConfig, StructureEncoderConfig
from voxlume.pipelines.checkpoint import load_image_encoder, load_network, read_header, save_network

LEVELS: dict[str, Any] = {
    "latent_channels": 4,
    "blocks": (1, 1),
    "residual": ("plain", "convnext"),
    "resample": ("autoencoding",),
    "precision": "float32",
}
FLOW: dict[str, Any] = {"width": 16, "condition_width": 8, "blocks": 1, "heads": 2, "precision": "float32"}
CONFIGS: dict[str, NetworkConfig] = {
    "structure encoder": StructureEncoderConfig(channels=(4, 8), blocks_per_level=1),
    "structure decoder": StructureDecoderConfig(channels=(8, 4), blocks_per_level=1),
    "shape encoder": EncoderConfig(channels=(8, 16), **LEVELS),
    "material encoder": EncoderConfig(content="material", channels=(8, 16), **LEVELS),
    "shape decoder": DecoderConfig(channels=(16, 8), **LEVELS),
    "material decoder": DecoderConfig(
        content="material", out_channels=6, predicts_masks=False, channels=(16, 8), **LEVELS
    ),
    "structure flow": FlowTransformerConfig(grid="dense", **FLOW),
    "shape flow": FlowTransformerConfig(shared_modulation=False, **FLOW),
    "image encoder": ImageEncoderConfig(width=16, blocks=1, heads=2, mlp_width=24),
}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A small flow network on disk; the path is its stem."""
    stem = tmp_path / "flow_1.3B"  # the dot belongs to the name
    save_network(build(CONFIGS["shape flow"]), stem)
    return stem


def refusal(stem: Path) -> str:
    with pytest.raises(ModelFileError) as raised:
        load_network(stem)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def weights_of(stem: Path) -> Path:
    return Path(f"{stem}.safetensors")


@pytest.mark.parametrize("name", CONFIGS)
def test_round_trip(name: str, tmp_path: Path) -> None:
    network = build(CONFIGS[name])
    save_network(network, tmp_path / "net")
    again = load_network(tmp_path / "net")
    assert again.config == CONFIGS[name]
    assert not again.training
    state = network.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in again.state_dict().items())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.json", "net.safetensors"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_blocks_in_half_precision(saved: Path, dtype: torch.dtype) -> None:
    network = load_network(saved, dtype=dtype)
    assert block_dtype(network) == dtype
    assert network.get_parameter("input.weight").dtype == torch.float32
    save_network(network, saved)
    assert load_network(saved).config.precision == str(dtype).removeprefix("torch.")
    assert block_dtype(load_network(saved)) == torch.float32  # the default on a CPU


def test_storage_type(saved: Path) -> None:
    save_network(load_network(saved), saved, storage=torch.float16)
    assert {tensor.dtype for tensor in read_header(weights_of(saved)).values()} == {"F16"}
    assert load_network(saved).get_parameter("input.weight").dtype == torch.float32


def test_recomputed_buffers_are_ignored(saved: Path) -> None:
    state = load_file(weights_of(saved)) | {"rope_phases": torch.zeros(3, dtype=torch.float32)}
    save_file(state, weights_of(saved))
    load_network(saved)


def test_missing_files(saved: Path, tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "absent")
    weights_of(saved).unlink()
    assert "No such file" in refusal(saved)


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '"x"', "{}", '{"name": "SLatFlowModel", "args": 3}', "[" * 9000]
)
def test_wrong_json(saved: Path, text: str) -> None:
    Path(f"{saved}.json").write_text(text)
    assert "flow_1.3B.json" in refusal(saved)


def test_unknown_class_and_argument(saved: Path) -> None:
    content = json.loads(Path(f"{saved}.json").read_text())
    Path(f"{saved}.json").write_text(json.dumps(content | {"name": "Unheard"}))
    assert "unknown network class 'Unheard'" in refusal(saved)
    Path(f"{saved}.json").write_text(json.dumps({**content, "args": content["args"] | {"bogus": 1}}))
    assert "unknown arguments" in refusal(saved)


def test_keys_that_do_not_fit(saved: Path) -> None:
    state = load_file(weights_of(saved))
    moved = {f"module.{key}": value for key, value in state.items()}
    save_file(moved, weights_of(saved))
    message = refusal(saved)
    assert f"{len(state)} parameters missing" in message
    assert f"{len(state)} parameters unexpected (module." in message
    assert len(message) < 700

    state["blocks.0.cross_attn.to_q.weight"] = torch.zeros(3, 4)
    save_file(state, weights_of(saved))
    expected = "1 parameters of another shape (blocks.0.cross_attn.to_q.weight is 3x4 instead of 16x16)"
    assert expected in refusal(saved)


def test_every_truncation_is_noticed(saved: Path) -> None:
    whole = weights_of(saved).read_bytes()
    for length in [0, 1, 7, 8, 9, 100, 1000, len(whole) // 2, len(whole) - 1]:
        weights_of(saved).write_bytes(whole[:length])
        assert "truncated" in refusal(saved)
    weights_of(saved).write_bytes(whole + b"more")
    assert "damaged" in refusal(saved)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_pickle_is_never_opened(saved: Path, protocol: int, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "exploded",)

    weights_of(saved).write_bytes(pickle.dumps(Bomb(), protocol))
    assert "pickle" in refusal(saved)
    torch.save({"x": torch.zeros(1)}, weights_of(saved))
    assert "pickle" in refusal(saved)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        b"<!DOCTYPE html><html>404</html>" * 9,
        b"GGUF" + bytes(100),
        bytes(1000),
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 40) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 9) + b'{"a": {}}',
        struct.pack("<Q", 9) + b'{"a": 12}',
    ],
)
def test_other_files_in_disguise(saved: Path, content: bytes) -> None:
    weights_of(saved).write_bytes(content)
    assert "flow_1.3B.safetensors" in refusal(saved)


def header(entry: dict[str, Any]) -> bytes:
    text = json.dumps({"a": entry}).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"dtype": "F32", "shape": [2**40], "data_offsets": [0, 8]}, "larger than the file"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [0, 2**50]}, "truncated"),
        ({"dtype": "F8_E4M3", "shape": [8], "data_offsets": [0, 8]}, "F8_E4M3"),
        ({"dtype": "F32", "shape": ["x"], "data_offsets": [0, 8]}, "damaged"),
    ],
)
def test_headers_that_lie(tmp_path: Path, entry: dict[str, Any], message: str) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(header(entry) + bytes(8))
    with pytest.raises(ModelFileError, match=message):
        read_header(path)


def test_saving_into_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(VoxlumeError, match="does not exist"):
        save_network(build(CONFIGS["image encoder"]), tmp_path / "absent" / "net")


def test_image_encoder_folder(tmp_path: Path) -> None:
    settings = {
        "model_type": "dinov3_vit",
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "patch_size": 16,
        "num_register_tokens": 4,
    }
    shapes = {
        "embeddings.cls_token": (1, 1, 16),
        "embeddings.mask_token": (1, 1, 16),
        "embeddings.register_tokens": (1, 4, 16),
        "embeddings.patch_embeddings.weight": (16, 3, 16, 16),
        "embeddings.patch_embeddings.bias": (16,),
        "norm.weight": (16,),
        "norm.bias": (16,),
        **{f"layer.0.norm{i}.{kind}": (16,) for i in (1, 2) for kind in ("weight", "bias")},
        **{f"layer.0.attention.{x}_proj.weight": (16, 16) for x in "qkvo"},
        **{f"layer.0.attention.{x}_proj.bias": (16,) for x in "qvo"},
        **{f"layer.0.layer_scale{i}.lambda1": (16,) for i in (1, 2)},
        "layer.0.mlp.up_proj.weight": (24, 16),
        "layer.0.mlp.up_proj.bias": (24,),
        "layer.0.mlp.down_proj.weight": (16, 24),
        "layer.0.mlp.down_proj.bias": (16,),
    }
    (tmp_path / "config.json").write_text(json.dumps(settings))
    state = {key: torch.randn(shape) for key, shape in shapes.items()}
    save_file(state, tmp_path / "model.safetensors")
    encoder = load_image_encoder(tmp_path)
    assert torch.equal(encoder.blocks[0].mlp.up.weight, state["layer.0.mlp.up_proj.weight"])
    set_block_dtype(encoder, torch.bfloat16)
    assert encoder(torch.zeros(1, 3, 32, 32)).shape == (1, 9, 16)

    del state["layer.0.norm1.bias"], state["layer.0.attention.k_proj.weight"]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ModelFileError, match="missing"):
        load_image_encoder(tmp_path)
