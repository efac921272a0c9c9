"""Pictures to O-Voxel from end to end, with small random networks."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from voxlume.errors import Cancelled, MemoryBudgetError, ModelFileError, VoxelFileError, VoxlumeError
from voxlume.flow.forecast import Forecast
from voxlume.flow.sampler import SamplingParameters
from voxlume.ovoxel.grid import OVoxel
from voxlume.ovoxel.index import VoxelIndex
from voxlume.pipelines import stages
from voxlume.pipelines.image_to_3d import Generated, ImageTo3D, ImageTo3DOptions, SamplerOptions
from voxlume.pipelines.pipeline_type import parse_type, type_of_resolution
from voxlume.pipelines.results import ImageCondition
from voxlume.sparse.tensor import SparseTensor

Options = Callable[..., ImageTo3DOptions]
Array = NDArray[np.uint8]


def same(a: OVoxel, b: OVoxel, tolerance: float = 0.0) -> bool:
    if not np.array_equal(a.coords, b.coords) or a.resolution != b.resolution:
        return False
    pairs = [(a.dual_vertices, b.dual_vertices), (a.attributes, b.attributes)]
    return all(
        x is not None and y is not None and np.allclose(x, y, rtol=0, atol=tolerance) for x, y in pairs
    )


@pytest.mark.parametrize(
    ("kind", "resolution"),
    [("512", 32), ("1024", 64), ("1024_cascade", 64), ("1536_cascade", 96), ("40_cascade", 40)],
)
def test_every_type(kind: str, resolution: int, pipeline: ImageTo3D, picture: Array, quick: Options) -> None:
    (result,) = pipeline.run(picture, quick(pipeline_type=kind))
    ovoxel = result.ovoxel
    assert ovoxel.resolution == resolution
    assert result.shape.resolution == resolution // 4
    assert ovoxel.attributes is not None
    assert ovoxel.attributes.shape == (len(ovoxel), 6)
    assert ovoxel.attributes.min() >= 0
    assert ovoxel.attributes.max() <= 1
    assert np.abs(ovoxel.dual_vertices - 0.5).max() <= 1
    assert ovoxel.splitting_weights is not None
    assert (ovoxel.splitting_weights > 0).all()
    assert np.array_equal(ovoxel.coords, np.unique(ovoxel.coords, axis=0))  # sorted and unique
    assert len(ovoxel.to_mesh().faces) > 0


def test_the_default_run(tiny_model: Path, picture: Array) -> None:
    """Published steps and guidance, the model's default type."""
    (result,) = ImageTo3D.from_pretrained(tiny_model, device="cpu").run(picture)
    assert result.ovoxel.resolution == 64
    assert len(result.ovoxel) > 1000


def test_a_seed_means_the_same(pipeline: ImageTo3D, picture: Array, quick: Options) -> None:
    first, again, other = (pipeline.run(picture, quick(seed=s))[0] for s in (1, 1, 2))
    assert same(first.ovoxel, again.ovoxel)
    assert not same(first.ovoxel, other.ovoxel)


def test_structures_vote(pipeline: ImageTo3D, picture: Array, quick: Options) -> None:
    """What is kept is in one of the voters at least, and as much as they have on average."""
    condition = pipeline.condition(picture)
    voting = replace(quick().structure_sampler, votes=3)
    parameters = voting.applied_to(pipeline.folder.config.structure_sampler)
    latent = stages._structure_latent(pipeline.networks, condition, [3, 4], parameters, stages.Sampling())
    alone = stages.decode_structure(pipeline.networks, latent)
    voted = stages.decode_structure(pipeline.networks, latent, votes=3)
    assert len(alone) == 6
    assert len(voted) == 2
    for number, structure in enumerate(voted):
        voters = [{tuple(c) for c in s.coords.tolist()} for s in alone[number::2]]
        cells = {tuple(c) for c in structure.coords.tolist()}
        assert len(cells) == sum(map(len, voters)) // 3
        assert set.intersection(*voters) <= cells
        assert cells not in voters
    seen: list[int] = []
    options = quick(num_samples=2, seed=3, structure_sampler=voting, outline=False)
    made = pipeline.run(
        picture, options, preview=lambda what, _, x: seen.append(len(x)) if what == "structure" else None
    )  # type: ignore[arg-type]
    assert set(seen) == {2}
    assert [torch.equal(m.structure.coords, v.coords) for m, v in zip(made, voted, strict=True)] == [True] * 2
    first = pipeline.run(picture, quick(num_samples=2, seed=3, outline=False))
    assert [torch.equal(f.structure.coords, s.coords) for f, s in zip(first, alone[:2], strict=True)] == [
        True
    ] * 2


def test_every_second_vote_sees_the_mirror_image(
    pipeline: ImageTo3D, picture: Array, quick: Options, caplog: pytest.LogCaptureFixture
) -> None:
    """What it makes of the mirror image alone is mirrored back."""
    networks, sampling, seeds = pipeline.networks, stages.Sampling(), [3, 4]
    pictures = [picture, np.ascontiguousarray(picture.swapaxes(0, 1))]
    condition = pipeline.condition(pictures, mirrored=True)
    reflected = pipeline.condition([half[:, ::-1] for half in pictures])
    assert pipeline.condition(pictures).mirrored is None
    assert condition.mirrored is not None
    assert torch.equal(condition.mirrored, reflected.low)
    assert not torch.allclose(condition.low, reflected.low)
    chosen = replace(quick().structure_sampler, votes=3, mirrored=True)
    voting = chosen.applied_to(pipeline.folder.config.structure_sampler)
    plain = replace(voting, mirrored=False)

    def latents(of: ImageCondition, how: SamplingParameters) -> torch.Tensor:
        return stages._structure_latent(networks, of, seeds, how, sampling)

    mixed, straight, mirrored = (
        latents(condition, voting),
        latents(condition, plain),
        latents(reflected, plain),
    )
    assert not torch.allclose(mixed, straight, atol=1e-3)
    assert torch.allclose(mixed, torch.cat([straight[:2], mirrored[2:4], straight[4:]]), atol=1e-5)
    with torch.no_grad(), networks.using(stages.STRUCTURE_DECODER, working=0, what="a test") as (decoder,):
        logits = [decoder(mixed[2 * vote : 2 * vote + 1])[0] for vote in range(3)]
    agreed = stages._agreed(torch.cat([logits[0], logits[1].flip(1), logits[2]]))
    first, _ = wanted = stages.decode_structure(networks, mixed, votes=3, mirrored=True)
    assert torch.equal(first.coords, agreed.nonzero().int())
    assert not torch.equal(first.coords, stages.decode_structure(networks, mixed, votes=3)[0].coords)

    options = quick(seed=3, num_samples=2, structure_sampler=chosen, outline=False)
    made = pipeline.run(pictures, options)
    assert all(torch.equal(m.structure.coords, w.coords) for m, w in zip(made, wanted, strict=True))
    without = stages.sample_structure(networks, replace(condition, inside=None, mirrored=None), seeds, voting)
    assert "without mirror images" in caplog.text
    as_plain = stages.decode_structure(networks, straight, votes=3)
    assert all(torch.equal(a.coords, b.coords) for a, b in zip(without, as_plain, strict=True))
    with pytest.raises(VoxlumeError, match="mirrored is for the structure"):
        pipeline.run(picture, quick(material_sampler=SamplerOptions(mirrored=True)))


def test_shapes_and_materials_are_the_mean_of_those_that_vote(
    pipeline: ImageTo3D, picture: Array, quick: Options
) -> None:
    networks, condition, seeds = pipeline.networks, pipeline.condition(picture), [3, 4]
    options = quick(num_samples=2, seed=3)
    structures = pipeline.structures(condition, seeds, options, stages.Sampling())
    cells = [stages.pool_structure(structure, 8) for structure in structures]
    alone = SamplingParameters(steps=2)
    voting = replace(alone, votes=3)
    shown: list[int] = []

    def preview(what: str, step: int, state: object) -> None:
        assert isinstance(state, SparseTensor)
        shown.append(state.batch_size)

    shapes = stages.sample_shape(
        networks, condition, cells, seeds, voting, stages.Sampling(preview=preview), high=False
    )
    assert shown == [2, 2]
    streams = [stages.LOW_SHAPE_NOISE + stages.VOTING_NOISE * vote for vote in range(3)]
    each = [
        stages.sample_shape(networks, condition, cells, seeds, alone, high=False, stream=stream)
        for stream in streams
    ]
    for number, shape in enumerate(shapes):
        features = torch.stack([voter[number].features for voter in each])
        assert not torch.equal(features[0], features[1])
        assert torch.allclose(shape.features, features.mean(0), atol=1e-5)
        assert torch.equal(shape.coords, cells[number].coords)
    first = stages.sample_material(networks, condition, shapes, seeds, alone, high=False)
    mean = stages.sample_material(networks, condition, shapes, seeds, voting, high=False)
    single = stages.sample_material(networks, condition, shapes[1:], seeds[1:], voting, high=False)
    assert not torch.allclose(first[0].features, mean[0].features, atol=1e-3)
    assert torch.allclose(single[0].features, mean[1].features, atol=1e-4)


@pytest.mark.parametrize("kind", ["512", "1024_cascade"])
def test_a_batch_is_its_singles(kind: str, pipeline: ImageTo3D, picture: Array, quick: Options) -> None:
    batch = pipeline.run(picture, quick(pipeline_type=kind, num_samples=3, seed=5))
    assert [r.seed for r in batch] == [5, 6, 7]
    single = pipeline.run(picture, quick(pipeline_type=kind, seed=6))[0]
    assert torch.equal(batch[1].structure.coords, single.structure.coords)
    assert torch.equal(batch[1].shape.coords, single.shape.coords)
    assert torch.allclose(batch[1].shape.features, single.shape.features, atol=1e-4)
    assert same(batch[1].ovoxel, single.ovoxel, 1e-4)


@pytest.mark.parametrize("kind", ["512", "1024_cascade"])
def test_resuming_from_every_stage(
    kind: str, pipeline: ImageTo3D, picture: Array, quick: Options, tmp_path: Path
) -> None:
    options = quick(pipeline_type=kind, num_samples=2)
    if kind == "512":
        options = replace(options, structure_sampler=SamplerOptions(steps=3, votes=2, mirrored=True))
    whole = pipeline.run(picture, options, save_to=tmp_path / "all")
    names = sorted(p.stem for p in (tmp_path / "all").glob("*.safetensors"))
    low = ["shape_low_0", "shape_low_1"] if kind.endswith("cascade") else []
    assert names == [
        "condition",
        "material_0",
        "material_1",
        "shape_0",
        "shape_1",
        *low,
        "structure_0",
        "structure_1",
    ]
    stages_left = ["material", "shape", "shape_low", "structure"]
    for count in range(len(stages_left) + 1):
        folder = tmp_path / str(count)
        shutil.copytree(tmp_path / "all", folder)
        for stage in stages_left[:count]:
            for path in folder.glob(f"{stage}_[01].safetensors"):
                path.unlink()
        again = pipeline.run((), replace(options, pipeline_type=None), resume_from=folder)
        assert [r.seed for r in again] == [42, 43]
        assert all(same(a.ovoxel, b.ovoxel) for a, b in zip(whole, again, strict=True))


def test_what_is_saved_is_not_run_again(
    pipeline: ImageTo3D, picture: Array, quick: Options, tmp_path: Path
) -> None:
    pipeline.run(picture, quick(), save_to=tmp_path)
    phrases: list[str] = []
    pipeline.run(
        (), quick(), resume_from=tmp_path, progress=lambda done, total, what: not phrases.append(what)
    )
    assert set(phrases) == {"decoding"}


def test_another_type_goes_on_from_the_structure(
    pipeline: ImageTo3D, picture: Array, quick: Options, tmp_path: Path
) -> None:
    (first,) = pipeline.run(picture, quick(pipeline_type="1024_cascade"), save_to=tmp_path)
    (second,) = pipeline.run((), quick(pipeline_type="512"), resume_from=tmp_path)
    assert torch.equal(first.structure.coords, second.structure.coords)
    assert second.ovoxel.resolution == 32


def test_a_new_seed_varies_only_what_is_sampled_again(
    pipeline: ImageTo3D, picture: Array, quick: Options, tmp_path: Path
) -> None:
    (first,) = pipeline.run(picture, quick(), save_to=tmp_path)
    (tmp_path / "material_0.safetensors").unlink()
    (second,) = pipeline.run((), quick(seed=9), resume_from=tmp_path)
    assert np.array_equal(first.ovoxel.dual_vertices, second.ovoxel.dual_vertices)
    assert not same(first.ovoxel, second.ovoxel, 1e-3)


def test_refining_samples_the_shape_again(pipeline: ImageTo3D, picture: Array, quick: Options) -> None:
    plain, refined = (pipeline.run(picture, quick(refine=n))[0] for n in (0, 1))
    cells = stages.structure_of_shape(pipeline.networks, plain.shape)
    assert torch.equal(cells.coords, refined.shape.coords)
    # The cells of the decoded shape are those that hold any of its voxels.
    pooled = np.unique(plain.ovoxel.coords // 4, axis=0)
    assert np.array_equal(refined.shape.coords.numpy(), pooled)
    assert not same(plain.ovoxel, refined.ovoxel)


def test_the_token_limit_lowers_a_cascade(
    pipeline: ImageTo3D, picture: Array, quick: Options, caplog: pytest.LogCaptureFixture
) -> None:
    options = quick(pipeline_type="1536_cascade", material=False)
    (free,) = pipeline.run(picture, options)
    with caplog.at_level(logging.WARNING):
        (limited,) = pipeline.run(picture, replace(options, max_num_tokens=len(free.shape)))
    assert limited.ovoxel.resolution == 88
    assert len(limited.shape) < len(free.shape)
    assert "resolution lowered from 96 to 88" in caplog.text
    (lowest,) = pipeline.run(picture, replace(options, max_num_tokens=1))
    assert lowest.ovoxel.resolution == 64  # never below what the networks were trained at


def test_without_material(pipeline: ImageTo3D, picture: Array, quick: Options) -> None:
    (result,) = pipeline.run(picture, quick(material=False))
    assert result.material is None
    assert result.ovoxel.attributes is None


# -- several pictures --------------------------------------------------------------------------------


@pytest.mark.parametrize("views", ["cycle", "average"])
def test_the_same_picture_twice_is_one(
    views: Any, pipeline: ImageTo3D, picture: Array, quick: Options
) -> None:
    one = pipeline.run(picture, quick())[0]
    two = pipeline.run([picture, picture], quick(views=views))[0]
    assert same(one.ovoxel, two.ovoxel, 1e-4)


@pytest.mark.parametrize("views", ["cycle", "average"])
def test_every_picture_counts(views: Any, pipeline: ImageTo3D, picture: Array, quick: Options) -> None:
    other = 255 - picture
    results = [
        pipeline.run(pictures, quick(views=views))[0].shape.features
        for pictures in ([picture], [other], [picture, other])
    ]
    assert not any(torch.equal(results[2], single) for single in results[:2])


# -- progress, previews, acceleration ----------------------------------------------------------------


def test_progress_and_previews(pipeline: ImageTo3D, picture: Array, quick: Options) -> None:
    seen: list[tuple[int, int, str]] = []
    previews: list[tuple[str, int]] = []
    pipeline.run(
        picture,
        quick(),
        progress=lambda *args: not seen.append(args),
        preview=lambda stage, step, state: previews.append((stage, step)),
    )
    assert previews == [(s, i) for s in ("structure", "shape", "material") for i in (1, 2, 3)]
    for what in ("sampling the structure", "sampling the shape", "sampling the material"):
        assert [(done, total) for done, total, w in seen if w == what] == [(i, 3) for i in range(4)]


@pytest.mark.parametrize(
    "when", ["looking at the picture", "sampling the structure", "sampling the shape", "decoding"]
)
def test_cancelling(when: str, pipeline: ImageTo3D, picture: Array, quick: Options, tmp_path: Path) -> None:
    with pytest.raises(Cancelled):
        pipeline.run(picture, quick(), save_to=tmp_path, progress=lambda done, total, what: what != when)
    # What was done before is kept, and the pipeline works on.
    (result,) = pipeline.run(picture, quick(), resume_from=tmp_path)
    assert same(result.ovoxel, pipeline.run(picture, quick())[0].ovoxel)


def test_forecasting_is_near(pipeline: ImageTo3D, picture: Array, quick: Options) -> None:
    steps = SamplerOptions(steps=12)
    options = quick(structure_sampler=steps, material=False)
    exact = pipeline.run(picture, options)[0]
    near = pipeline.run(picture, replace(options, forecast=Forecast()))[0]
    assert len(near.structure) == pytest.approx(len(exact.structure), rel=0.3)


# -- what comes from where ---------------------------------------------------------------------------


def test_the_caller_wins_over_the_file(tiny_model: Path, tmp_path: Path, picture: Array) -> None:
    shutil.copytree(tiny_model, tmp_path / "m")
    path = tmp_path / "m" / "pipeline.json"
    content = json.loads(path.read_text())
    content["args"]["sparse_structure_sampler"]["params"]["steps"] = 5
    del content["args"]["shape_slat_sampler"]
    content["args"]["default_pipeline_type"] = "512"
    path.write_text(json.dumps(content))
    totals: dict[str, int] = {}
    pipeline = ImageTo3D.from_pretrained(tmp_path / "m", device="cpu")
    pipeline.run(
        picture,
        ImageTo3DOptions(material_sampler=SamplerOptions(steps=2)),
        progress=lambda done, total, what: totals.update({what: total}) is None,
    )
    assert totals["sampling the structure"] == 5
    assert totals["sampling the shape"] == 12  # the published default where the file says nothing
    assert totals["sampling the material"] == 2


def test_types() -> None:
    for name, resolution, cascade, high in (
        ("512", 512, False, False),
        ("1024", 1024, False, True),
        ("1024_cascade", 1024, True, True),
        ("1536_cascade", 1536, True, True),
        ("2048_cascade", 2048, True, True),
    ):
        kind = parse_type(name)
        assert (kind.resolution, kind.cascade, kind.high, kind.step) == (resolution, cascade, high, 128)
    assert parse_type("1536_cascade").lowest == 1024
    assert parse_type("1024_cascade", 64).resolution == 128
    assert parse_type("128_cascade", 64).resolution == 128
    assert type_of_resolution(512).name == "512"
    assert type_of_resolution(1024).name == "1024_cascade"
    assert type_of_resolution(1536, 64).name == "192_cascade"


# -- what a user can get wrong -----------------------------------------------------------------------


def refusal(kind: type[VoxlumeError], run: Callable[[], object]) -> str:
    with pytest.raises(kind) as raised:
        run()
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("name", ["banana", "513", "512_cascade", "1000_cascade", "4096_cascade", "", "-1"])
def test_unknown_types(name: str) -> None:
    assert "no pipeline type" in refusal(VoxlumeError, lambda: parse_type(name))


def test_impossible_options(pipeline: ImageTo3D, picture: Array) -> None:
    for changes in (
        {"num_samples": 0},
        {"seed": 2**40},
        {"max_num_tokens": 0},
        {"refine": -1},
        {"structure_sampler": SamplerOptions(votes=0)},
        {"structure_sampler": SamplerOptions(temperature=-0.1)},
        {"material_sampler": SamplerOptions(temperature=math.nan)},
        {"shape_sampler": SamplerOptions(steps=0)},
        {"shape_sampler": SamplerOptions(rescale_t=0)},
        {"structure_sampler": SamplerOptions(guidance_rescale=2)},
    ):
        refusal(
            VoxlumeError, lambda c=changes: pipeline.run(picture, ImageTo3DOptions(pipeline_type="512", **c))
        )
    assert "no picture" in refusal(VoxlumeError, lambda: pipeline.run([]))


@pytest.fixture
def changed(tiny_model: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the model whose JSON was changed."""

    def change(edit: Callable[[dict[str, Any]], object]) -> Path:
        folder = tmp_path / "changed"
        shutil.copytree(tiny_model, folder)
        content = json.loads((folder / "pipeline.json").read_text())
        edit(content["args"])
        (folder / "pipeline.json").write_text(json.dumps(content))
        return folder

    return change


def run_model(folder: Path, picture: Array, options: ImageTo3DOptions) -> list[Generated]:
    return ImageTo3D.from_pretrained(folder, device="cpu").run(picture, options)


def test_surfaces_are_mended_where_model_or_caller_say_so(
    changed: Callable[..., Path], tiny_model: Path, picture: Array, quick: Options
) -> None:
    mending = changed(lambda args: args.update(mend=True))
    as_it_is, wanted, by_model, refused = (
        run_model(folder, picture, quick(pipeline_type="512", mend=mend))[0].ovoxel
        for folder, mend in ((tiny_model, None), (tiny_model, True), (mending, None), (mending, False))
    )
    for one, other in ((as_it_is, refused), (wanted, by_model)):
        assert np.array_equal(one.coords, other.coords)
        assert np.array_equal(one.intersected, other.intersected)
    assert not np.array_equal(as_it_is.intersected, wanted.intersected)
    rows = VoxelIndex(wanted.coords).find(as_it_is.coords)
    assert (rows >= 0).all()
    assert len(wanted) > len(as_it_is)
    assert as_it_is.attributes is not None
    assert wanted.attributes is not None
    assert np.array_equal(wanted.attributes[rows], as_it_is.attributes)
    assert np.array_equal(wanted.dual_vertices[rows], as_it_is.dual_vertices)
    assert wanted.splitting_weights is not None
    assert (wanted.splitting_weights > 0).all()


def test_a_missing_network_is_named_before_any_work(
    changed: Callable[..., Path], picture: Array, quick: Options
) -> None:
    folder = changed(lambda args: args["models"].pop("shape_slat_flow_model_1024"))
    run_model(folder, picture, quick(pipeline_type="512"))
    message = refusal(ModelFileError, lambda: run_model(folder, picture, quick(pipeline_type="1024_cascade")))
    assert "no shape_slat_flow_model_1024, which pipeline type 64_cascade needs" in message


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda a: a["models"].update(shape_slat_decoder="ckpts/image_encoder"), "no shape decoder"),
        (lambda a: a["models"].update(shape_slat_decoder="ckpts/tex_slat_decoder"), "no shape decoder"),
        (
            lambda a: a["models"].update(sparse_structure_flow_model="ckpts/shape_slat_flow_model_512"),
            "no flow network for dense grids",
        ),
        (lambda a: a["models"].update(sparse_structure_decoder="ckpts/nowhere"), "is not there"),
        (lambda a: a["models"].update(sparse_structure_decoder="../secret"), "not a path inside"),
        (lambda a: a["models"].update(sparse_structure_decoder="/etc/passwd"), "not a path inside"),
        (lambda a: a.pop("shape_slat_normalization"), "no normalisation of shape"),
        (lambda a: a["tex_slat_normalization"].update(mean=[0.0], std=[1.0]), "1 channels"),
        (lambda a: a["tex_slat_normalization"].update(std=[0.0] * 8), "not positive"),
        (lambda a: a.update(shape_slat_sampler={"params": {"steps": "many"}}), "steps = 'many'"),
        (lambda a: a.update(models=3), "args.models"),
        (lambda a: a.update(base_resolution=-1), "base_resolution"),
        (lambda a: a["shape_slat_sampler"]["params"].update(votes=0), "votes = 0"),
        (lambda a: a["shape_slat_sampler"]["params"].update(temperature=9), "temperature = 9"),
        (lambda a: a.update(mend="yes"), "mend = 'yes'"),
    ],
)
def test_wrong_descriptions(
    edit: Callable[[dict[str, Any]], object],
    message: str,
    changed: Callable[..., Path],
    picture: Array,
    quick: Options,
) -> None:
    assert message in refusal(ModelFileError, lambda: run_model(changed(edit), picture, quick()))


def test_damaged_networks(tiny_model: Path, tmp_path: Path, picture: Array, quick: Options) -> None:
    shutil.copytree(tiny_model, tmp_path / "m")
    path = tmp_path / "m" / "ckpts" / "shape_slat_flow_model_512.safetensors"
    whole = path.read_bytes()
    state = {name: value.clone() for name, value in load_file(path).items()}  # not mapped from the file
    key = "blocks.0.self_attn.to_qkv.weight"

    def broken() -> str:
        return refusal(ModelFileError, lambda: run_model(tmp_path / "m", picture, quick()))

    path.write_bytes(whole[: len(whole) // 2])
    assert "truncated" in broken()
    torch.save(state, path)
    assert "pickle" in broken()
    save_file({k: v for k, v in state.items() if k != key}, path)
    assert f"1 parameters missing ({key})" in broken()
    save_file(state | {"extra": torch.zeros(1)}, path)
    assert "1 parameters unexpected (extra)" in broken()
    save_file(state | {key: torch.zeros(2, 2)}, path)
    assert f"{key} is 2x2 instead of" in broken()
    path.unlink()
    assert "no ckpts/shape_slat_flow_model_512.safetensors" in broken()


def test_an_empty_structure(tiny_model: Path, tmp_path: Path, picture: Array, quick: Options) -> None:
    shutil.copytree(tiny_model, tmp_path / "m")
    path = tmp_path / "m" / "ckpts" / "sparse_structure_decoder.safetensors"
    state = {name: value.clone() for name, value in load_file(path).items()}
    save_file(state | {"out_layer.2.bias": torch.full((1,), -1e3)}, path)
    assert "structure is empty" in refusal(VoxlumeError, lambda: run_model(tmp_path / "m", picture, quick()))


def test_an_empty_shape(tiny_model: Path, tmp_path: Path, picture: Array, quick: Options) -> None:
    shutil.copytree(tiny_model, tmp_path / "m")
    path = tmp_path / "m" / "ckpts" / "shape_slat_decoder.safetensors"
    state = {
        k: torch.full_like(v, -1e3) if k.endswith("to_subdiv.bias") else v for k, v in load_file(path).items()
    }
    save_file(state, path)
    for kind in ("512", "1024_cascade"):
        assert "shape is empty" in refusal(
            VoxlumeError, lambda k=kind: run_model(tmp_path / "m", picture, quick(pipeline_type=k))
        )


def test_a_budget_that_is_named_does(tiny_model: Path, picture: Array, quick: Options) -> None:
    free = ImageTo3D.from_pretrained(tiny_model, device="cpu").run(picture, quick())[0]
    budget, refusals, result = 1e-6, 0, None
    while result is None:
        pipeline = ImageTo3D.from_pretrained(tiny_model, device="cpu", memory_budget=budget)
        try:
            result = pipeline.run(picture, quick())[0]
        except MemoryBudgetError as error:
            refusals += 1
            named = float(str(error).split("--memory-budget ")[1].split(")")[0])
        assert result is not None or named > budget
        assert refusals < 8
        budget = named
    assert refusals > 0
    assert same(free.ovoxel, result.ovoxel, 1e-5)
    assert len(pipeline.networks._loaded) < 6  # not everything stayed


def test_saved_stages_that_are_damaged(
    pipeline: ImageTo3D, picture: Array, quick: Options, tmp_path: Path
) -> None:
    pipeline.run(picture, quick(), save_to=tmp_path / "ok")

    def broken(name: str, content: bytes) -> str:
        folder = tmp_path / "broken"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "ok", folder)
        (folder / name).write_bytes(content)
        return refusal(VoxelFileError, lambda: pipeline.run((), quick(), resume_from=folder))

    for name in ("condition", "structure_0", "shape_0", "material_0"):
        whole = (tmp_path / "ok" / f"{name}.safetensors").read_bytes()
        for content in (b"", whole[:100], whole[:-1], b"PK\x03\x04" + bytes(99)):
            assert f"{name}.safetensors is damaged" in broken(f"{name}.safetensors", content)
    shape = (tmp_path / "ok" / "shape_0.safetensors").read_bytes()
    assert "does not hold a saved Structure" in broken("structure_0.safetensors", shape)
    assert "run.json is damaged" in broken("run.json", b"[]")
    assert "not a folder of saved stages" in refusal(
        VoxelFileError, lambda: pipeline.run((), quick(), resume_from=tmp_path / "absent")
    )


def test_a_material_of_another_shape(pipeline: ImageTo3D, picture: Array, quick: Options) -> None:
    first, second = (pipeline.run(picture, quick(seed=s))[0] for s in (1, 2))
    assert "another shape" in refusal(
        VoxlumeError, lambda: stages.decode(pipeline.networks, first.shape, second.material)
    )
