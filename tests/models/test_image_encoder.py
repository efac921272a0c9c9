"""Our DINOv3 against the transformers implementation, and both published layouts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.interpreter import needs_gpu
from voxlume.errors import ModelFileError
from voxlume.models.image_encoder import ImageEncoder, ImageEncoderConfig, normalized_image, patch_centres
from voxlume.models.precision import quick_float32
from voxlume.models.published import build, describe, from_dinov3, parse, parse_dinov3

TIMM_L = {"architecture": "vit_large_patch16_dinov3"}


def timm_layout(config: ImageEncoderConfig, biases: bool) -> dict[str, tuple[int, ...]]:
    """Parameter names and shapes of timm's DINOv3 vision transformers."""
    c, m = config.width, config.mlp_width
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, c),
        "reg_token": (1, config.registers, c),
        "patch_embed.proj.weight": (c, 3, config.patch, config.patch),
        "patch_embed.proj.bias": (c,),
        "norm.weight": (c,),
        "norm.bias": (c,),
    }
    for i in range(config.blocks):
        block = {
            "norm1.weight": (c,),
            "norm1.bias": (c,),
            "attn.qkv.weight": (3 * c, c),
            "attn.proj.weight": (c, c),
            "attn.proj.bias": (c,),
            "gamma_1": (c,),
            "norm2.weight": (c,),
            "norm2.bias": (c,),
            "mlp.fc1.weight": (m, c),
            "mlp.fc1.bias": (m,),
            "mlp.fc2.weight": (c, m),
            "mlp.fc2.bias": (c,),
            "gamma_2": (c,),
        }
        if biases:
            block |= {"attn.q_bias": (c,), "attn.v_bias": (c,)}
        shapes |= {f"blocks.{i}.{key}": shape for key, shape in block.items()}
    return shapes


def transformers_layout(state: dict[str, Tensor], biases: bool) -> dict[str, Tensor]:
    """The same weights under the names that transformers gives them."""
    renamed = {
        "cls_token": "embeddings.cls_token",
        "reg_token": "embeddings.register_tokens",
        "patch_embed.proj": "embeddings.patch_embeddings",
        "blocks": "layer",
        "attn.proj": "attention.o_proj",
        "gamma_1": "layer_scale1.lambda1",
        "gamma_2": "layer_scale2.lambda1",
        "mlp.fc1": "mlp.up_proj",
        "mlp.fc2": "mlp.down_proj",
    }
    result = {}
    for key, value in state.items():
        for timm, transformers in renamed.items():
            key = key.replace(timm, transformers)
        if key.endswith("attn.qkv.weight"):
            for letter, part in zip("qkv", value.chunk(3), strict=True):
                result[key.replace("attn.qkv", f"attention.{letter}_proj")] = part
        elif key.endswith(("q_bias", "v_bias")) and biases:
            result[key.replace("attn.", "attention.").replace("_bias", "_proj.bias")] = value
        else:
            result[key] = value
    return result


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("size", [(64, 64), (96, 48)])
def test_agrees_with_transformers(gated: bool, size: tuple[int, int]) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    settings = transformers.DINOv3ViTConfig(
        hidden_size=64,
        intermediate_size=112,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_register_tokens=4,
        use_gated_mlp=gated,
        hidden_act="silu" if gated else "gelu",
    )
    reference = transformers.DINOv3ViTModel(settings).eval()
    with torch.no_grad():
        for parameter in reference.parameters():  # every bias and scale must count
            parameter.add_(0.1 * torch.randn_like(parameter))
    config = parse_dinov3(settings.to_dict())
    encoder = build(config)
    encoder.load_state_dict(from_dinov3(config, reference.state_dict()), strict=True)
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        hidden = reference(images, output_hidden_states=True).hidden_states[-1]
        expected = torch.nn.functional.layer_norm(hidden, hidden.shape[-1:], eps=1e-5)
        tokens = encoder(images)
    assert tokens.shape == (2, 1 + 4 + size[0] * size[1] // 256, 64)
    assert (tokens - expected).abs().max() < 1e-5 * expected.abs().max()


def test_transformers_names_of_the_published_size() -> None:
    transformers = pytest.importorskip("transformers")
    settings = transformers.DINOv3ViTConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        num_register_tokens=4,
    )
    with torch.device("meta"):
        state = transformers.DINOv3ViTModel(settings).state_dict()
        config = parse_dinov3(settings.to_dict())
        ours = from_dinov3(config, state)
    assert config == ImageEncoderConfig()
    expected = build(config, "meta").state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in expected.items()}


@pytest.mark.parametrize("biases", [False, True])
def test_timm_names_of_the_published_size(biases: bool) -> None:
    config = parse_dinov3({"architecture": TIMM_L["architecture"] + ("_qkvb" if biases else "")})
    assert config == ImageEncoderConfig()
    with torch.device("meta"):
        state = {key: torch.empty(shape) for key, shape in timm_layout(config, biases).items()}
        ours = from_dinov3(config, state)
    expected = build(config, "meta").state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in expected.items()}


@pytest.mark.parametrize("biases", [False, True])
def test_both_layouts_give_the_same_weights(biases: bool) -> None:
    config = ImageEncoderConfig(width=32, blocks=2, heads=2, mlp_width=48)
    generator = torch.Generator().manual_seed(0)
    shapes = timm_layout(config, biases).items()
    timm = {key: torch.randn(shape, generator=generator) for key, shape in shapes}
    first = from_dinov3(config, timm)
    second = from_dinov3(config, transformers_layout(timm, biases))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    bias = first["blocks.0.attention.qkv.bias"]
    assert bool(bias[:32].any()) == biases
    assert not bias[32:64].any()


def test_a_missing_projection_is_not_filled_in() -> None:
    config = ImageEncoderConfig(width=32, blocks=1, heads=2, mlp_width=48)
    state = transformers_layout({k: torch.ones(s) for k, s in timm_layout(config, False).items()}, False)
    del state["layer.0.attention.k_proj.weight"]
    assert "blocks.0.attention.qkv.weight" not in from_dinov3(config, state)


RELU = {"model_type": "dinov3_vit", "hidden_act": "relu"}


@pytest.mark.parametrize(
    "settings", [{}, {"model_type": "vit"}, {"architecture": "resnet50"}, {"model_type": "dinov3_vit"}, RELU]
)
def test_other_architectures_are_refused(settings: dict[str, str]) -> None:
    with pytest.raises(ModelFileError):
        parse_dinov3(settings)


def test_token_count_of_the_published_resolutions() -> None:
    config = ImageEncoderConfig(width=32, blocks=1, heads=2, mlp_width=48)
    with torch.no_grad():
        assert ImageEncoder(config)(torch.zeros(1, 3, 512, 512)).shape[1] == 1029


def test_normalized_image() -> None:
    white = np.full((10, 10, 3), 255, np.uint8)
    image = normalized_image(white, 32)
    assert image.shape == (3, 32, 32)
    assert torch.allclose(
        image[:, 5, 5], torch.tensor([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, 0.594 / 0.225])
    )
    ramp = np.asarray(Image.linear_gradient("L").convert("RGB"))
    assert normalized_image(ramp, 64)[0].diff(dim=0).min() >= 0


def test_absolute_positions_of_patches() -> None:
    config = ImageEncoderConfig(
        width=32, blocks=1, heads=2, mlp_width=32, registers=2, absolute_positions=True
    )
    assert parse(**describe(config)) == config
    torch.manual_seed(0)
    told = ImageEncoder(config)
    untold = ImageEncoder(replace(config, absolute_positions=False))
    untold.load_state_dict(told.state_dict())
    grey = torch.full((1, 3, 64, 64), 0.3)
    with torch.no_grad():
        for network, differ in ((told, True), (untold, False)):
            patches = network(grey)[0, 3:]
            # Rotation alone leaves patches that look the same nearly equal; told where they are, they differ.
            difference = (patches[0] - patches[7]).norm() / patches[0].norm()
            assert (difference > 0.2) == differ
    centres = patch_centres(2, 4, torch.device("cpu"))
    assert centres.tolist()[1] == [-0.5, -0.25]


@pytest.mark.gpu
@needs_gpu
def test_quick_products_change_tokens_little() -> None:
    """Also where single tokens have channels many times as large as others, as DINOv3's have."""
    torch.manual_seed(0)
    encoder = ImageEncoder(ImageEncoderConfig(width=256, blocks=4, heads=4, mlp_width=512)).cuda().eval()
    with torch.no_grad():
        encoder.register_tokens[0, 0, :4] = 300.0
        image = torch.randn(1, 3, 256, 256, device="cuda")
        exact = encoder(image)
        with quick_float32(image.device):
            quick = encoder(image)
    error = (quick - exact).norm() / exact.norm()
    assert 0 < error < 3e-3
