"""Every stage learns its data, alone and one after another."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from voxlume.data.store import VoxelStore
from voxlume.errors import ModelFileError, VoxlumeError
from voxlume.models.camera_head import CameraHeadConfig, CameraTrue
from voxlume.models.image_encoder import ImageEncoderConfig
from voxlume.models.published import build
from voxlume.models.sc_vae import material_features
from voxlume.models.subdivision import rows_in, subdivision_masks, subdivisions_to
from voxlume.pipelines import stages
from voxlume.pipelines.checkpoint import load_network
from voxlume.pipelines.model_folder import CAMERA_HEAD, IMAGE_ENCODER, ModelFolder
from voxlume.render.batch import BatchCameras, Surfaces
from voxlume.render.conditioning import Seen
from voxlume.sparse.resample import mean_pool
from voxlume.sparse.tensor import CoordinateSet, SparseTensor
from voxlume.training.camera_head import CameraHeadStage
from voxlume.training.checkpoint import stored_names
from voxlume.training.config import RenderingLoss
from voxlume.training.data import Share
from voxlume.training.export import trained
from voxlume.training.flow import FlowStage
from voxlume.training.image_encoder import ImageEncoderStage, Variation, VolumeHead, Volumes
from voxlume.training.journal import read_log
from voxlume.training.latents import LatentStore
from voxlume.training.means import begin_as_means
from voxlume.training.parallel import Processes
from voxlume.training.pictures import PictureCache, PictureSource, Studio, fixed_cameras, surfaces
from voxlume.training.presets import MATERIAL_ENCODER, tiny
from voxlume.training.runs import VAE_KEYS, Run, run_stage
from voxlume.training.sc_vae import MaterialVaeStage, ShapeVaeStage
from voxlume.training.stage import Stage
from voxlume.training.structure_vae import StructureVaeStage
from voxlume.training.variation import varied

ALONE = Processes(0, 1, torch.device("cpu"))


def vae(name: str, folder: Path, rendering: RenderingLoss | None = None) -> Stage:
    torch.manual_seed(0)
    sizes = tiny()
    config = getattr(sizes, name)
    if rendering is not None:
        config = replace(config, rendering=rendering)
    data = VoxelStore.load(folder)
    encoder, decoder = (sizes.config(key) for key in VAE_KEYS[name])
    if name == "structure_vae":
        return StructureVaeStage(
            encoder, decoder, VAE_KEYS[name], config, data, None, ALONE, sizes.structure_grid
        )
    kind = ShapeVaeStage if name == "shape_vae" else MaterialVaeStage
    return kind(encoder, decoder, VAE_KEYS[name], config, data, None, ALONE)


def losses(stage: Stage, steps: int, rate: float = 1e-2) -> list[float]:
    """Of plain Adam steps on one fixed batch."""
    batch = stage.prepare(0, 1)
    optimizer = torch.optim.Adam(stage.trained(), rate)
    values = []
    for _ in range(steps):
        loss = stage(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    return values


@pytest.mark.parametrize(
    ("name", "steps", "falls_to"),
    [("shape_vae", 25, 0.7), ("material_vae", 25, 0.65), ("structure_vae", 15, 0.4)],
)
def test_vae_learns(name: str, steps: int, falls_to: float, store: Path) -> None:
    values = losses(vae(name, store), steps)
    assert values[-1] < falls_to * values[0]


@pytest.mark.parametrize("name", ["shape_vae", "material_vae"])
def test_rendering_losses(name: str, store: Path) -> None:
    rendering = RenderingLoss(share_from=0.5, objects=2, size=32)
    stage = vae(name, store, rendering)
    with torch.no_grad():  # away from the zeros that branches begin with
        for parameter in stage.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    batch = stage.prepare(0, 1)
    stage.begin(0.4)
    assert not any("picture" in key for key in stage(batch))
    stage.begin(0.6)
    shown = stage(batch)
    pictures = [key for key in shown if "picture" in key or key in ("silhouette", "depth")]
    of_shape = ["silhouette", "depth", "normal_picture"]
    assert pictures == (of_shape if name == "shape_vae" else ["attributes_picture"])
    # The pictures alone move every parameter but those of the decoder's own masks.
    torch.stack([shown[key] for key in pictures]).sum().backward()
    still = {n for n, p in stage.named_parameters() if p.grad is None or not p.grad.any()}
    assert all("subdivision" in name for name in still)
    assert all(p.grad.isfinite().all() for p in stage.parameters() if p.grad is not None)


def test_pictures_of_the_truth_cost_nothing(store: Path) -> None:
    from voxlume.training.rendering import Rendered, RenderingLosses

    voxels = VoxelStore.load(store).batch([0, 1])
    compare = RenderingLosses(RenderingLoss(size=48), 32)
    same = compare(voxels, Rendered(None, None, voxels.attributes), torch.Generator().manual_seed(0))
    assert all(float(value) < 1e-5 for value, _ in same.values())
    # With the middle point of a quad a true surface differs a little from one cut along diagonals.
    weights = torch.ones(len(voxels.coords))
    near = compare(voxels, Rendered(voxels.dual_vertices, weights, None), torch.Generator().manual_seed(0))
    moved = (voxels.dual_vertices + 0.3 * torch.randn_like(voxels.dual_vertices)).clamp(0, 1)
    far = compare(voxels, Rendered(moved, weights, None), torch.Generator().manual_seed(0))
    assert float(near["normal_picture"][0]) < 0.5 * float(far["normal_picture"][0])
    assert float(near["depth"][0]) < 0.5 * float(far["depth"][0])
    assert float(near["silhouette"][0]) < 0.5 * float(far["silhouette"][0])


def test_true_subdivisions_decode_as_masks_do(store: Path) -> None:
    stage = vae("shape_vae", store)
    assert isinstance(stage, ShapeVaeStage)
    with torch.no_grad():
        for parameter in stage.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        batch = stage.prepare(0, 1)
        mean, _ = stage.encoded(batch.content)
        shared = stage.decoder(mean, batch.content.steps)
        assert torch.equal(shared.output.coords, batch.content.voxels.coords)
        fine = CoordinateSet(batch.content.voxels.coords, mean.batch_size)
        latent = SparseTensor(mean.coords, mean.features, mean.batch_size)
        apart = stage.decoder(latent, subdivision_masks(latent, fine, stage.levels))
    order = _order(apart.output.coords)
    assert torch.equal(apart.output.coords[order], shared.output.coords)
    assert torch.allclose(apart.output.features[order], shared.output.features, atol=1e-5)
    assert len(subdivisions_to(fine, 2)) == 2


def _order(coords: torch.Tensor) -> torch.Tensor:
    keys = coords.long()
    return torch.argsort(((keys[:, 0] * 32 + keys[:, 1]) * 32 + keys[:, 2]) * 32 + keys[:, 3])


def image_encoder_stage(folder: Path, kept: Path | None = None) -> ImageEncoderStage:
    torch.manual_seed(0)
    sizes = tiny()
    config, encoder = sizes.image_encoder, sizes.config(IMAGE_ENCODER)
    assert config is not None
    assert isinstance(encoder, ImageEncoderConfig)
    share = Share(folder, "train", ALONE)
    source = PictureSource(2, 64, 0, share.numbers, share.total, kept, "all.safetensors", seen_every=4)
    return ImageEncoderStage(encoder, config, share, None, ALONE, sizes.structure_grid, source)


def test_material_vae_begins_with_the_means_of_cells(store: Path) -> None:
    whole = tiny()
    sizes = {
        key: replace(whole.config(key), resample=("pooling",) * 2)  # type: ignore[type-var]
        for key in (MATERIAL_ENCODER, stages.MATERIAL_DECODER)
    }
    data = VoxelStore.load(store)

    def fresh(**changes: object) -> MaterialVaeStage:
        torch.manual_seed(0)
        config = replace(whole.material_vae, means=True, **changes)  # type: ignore[arg-type]
        return MaterialVaeStage(*sizes.values(), VAE_KEYS["material_vae"], config, data, None, ALONE)

    def errors(stage: MaterialVaeStage) -> torch.Tensor:
        content = stage.prepare(0, 1).content
        fine = SparseTensor.on(content.fine, material_features(content.voxels.attributes))
        cells = mean_pool(mean_pool(fine))
        parent = rows_in(content.voxels.coords // torch.tensor([1, 4, 4, 4]), cells.coords)
        with torch.no_grad():
            mean, _ = stage.encoded(content)
            told = stage.decoder(mean, content.steps).output.features
        return (told - cells.features[parent]).abs()

    stage = fresh()
    assert errors(stage).mean() > 0.3
    stage.start(loaded=False)
    assert errors(stage).max() < 0.1
    encoder = {key: value.clone() for key, value in stage.encoder.state_dict().items()}
    losses(stage, 3)  # no longer a linear decoder
    fitted = fresh(freeze_encoder=True)
    fitted.encoder.load_state_dict(encoder)
    fitted.start(loaded=True)
    assert errors(fitted).max() < 0.1
    assert not any(p.requires_grad for p in fitted.encoder.parameters())
    with pytest.raises(VoxlumeError, match="only networks that pool"):
        begin_as_means(*(build(whole.config(key)) for key in sizes))  # type: ignore[arg-type]


def test_image_encoder_learns_the_volume(store: Path, tmp_path: Path) -> None:
    stage = image_encoder_stage(store, tmp_path / "pictures")
    values = losses(stage, 40, 5e-3)
    assert values[-1] < 0.4 * values[0]
    assert (tmp_path / "pictures").exists()
    # Pictures are moved a little, differently in every step, and the same way when the step comes again.
    first, again, other = (stage.prepare(step, 1).content[0] for step in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_image_encoder_learns_what_pixels_show(store: Path) -> None:
    stage = image_encoder_stage(store)
    before = stage(stage.prepare(0, 1))
    losses(stage, 60, 5e-3)
    after = stage(stage.prepare(0, 1))
    for name in ("shown", "place", "aside", "attributes"):
        assert after[name].item() < 0.8 * before[name].item()


def test_pictures_in_a_mirror_are_those_of_mirrored_objects(store: Path) -> None:
    voxels = VoxelStore.load(store).batch([0, 1])
    shapes = surfaces(voxels, 32)
    turn = torch.tensor([-1.0, 1, 1])
    other = Surfaces(shapes.vertices * turn, shapes.faces, shapes.face_starts, shapes.attributes)
    cameras = fixed_cameras(2, torch.device("cpu"))
    axes = cameras.axes * turn * torch.tensor([-1.0, 1, 1])[:, None]
    across = BatchCameras(cameras.position * turn, axes, cameras.focal)
    studio = Studio(torch.device("cpu"), 0)
    config = replace(tiny().image_encoder, shift=0.0, zoom=0.0)  # type: ignore[type-var]
    variation = Variation(
        torch.tensor([[-1.0, 0, 0], [0, 1, 0]]).repeat(2, 1, 1), torch.ones(2, dtype=torch.bool)
    )
    drawn = Variation.drawn(100, torch.Generator().manual_seed(0), config)  # type: ignore[arg-type]
    assert 20 < int(drawn.mirrored.sum()) < 80
    assert torch.equal(drawn.matrix[drawn.mirrored][0], variation.matrix[0])
    first, second = (
        studio.pictures(s, torch.Generator().manual_seed(0), 64, c, seen_every=4)
        for s, c in ((shapes, cameras), (other, across))
    )
    assert first.seen is not None
    assert second.seen is not None
    told, true = Seen.read(variation.of_seen(first.seen)), Seen.read(second.seen)
    both = told.shown & true.shown
    assert both.sum() > 0.9 * (told.shown | true.shown).sum()
    # The middle of a cell is half a pixel off in the mirror, and edges show another side.
    for name in ("place", "aside", "normal"):
        assert (getattr(told, name) - getattr(true, name)).abs().amax(-1)[both].median() < 0.02
    far = (true.place[..., :2].norm(dim=-1) - true.aside.norm(dim=-1))[both]
    assert far.abs().max() < 0.01
    # The camera stands 30 degrees to the left in the mirror.
    turned = true.place[..., 0] * math.cos(math.pi / 6) + true.place[..., 1] * math.sin(-math.pi / 6)
    assert (turned - true.aside[..., 0])[both].abs().max() < 0.02
    volumes = variation.of_volumes(Volumes.of(voxels, 32, 16))
    coords = voxels.coords.clone()
    coords[:, 1] = 31 - coords[:, 1]
    mirrored = Volumes.of(replace(voxels, coords=coords), 32, 16)
    assert torch.equal(volumes.occupied, mirrored.occupied)
    assert torch.equal(volumes.material, mirrored.material)


def test_volumes_are_those_of_the_voxels(store: Path) -> None:
    data = VoxelStore.load(store)
    volumes = Volumes.of(data.batch([0, 3]), 32, 16)
    voxels = data.batch([3])
    occupied = torch.zeros(16, 16, 16, dtype=torch.bool)
    colours: dict[tuple[int, ...], list[torch.Tensor]] = {}
    for place, values in zip(voxels.coords[:, 1:].tolist(), voxels.attributes, strict=True):
        occupied[tuple(c // 2 for c in place)] = True
        colours.setdefault(tuple(c // 4 for c in place), []).append(values)
    assert torch.equal(volumes.occupied[1], occupied)
    for place, found in colours.items():
        mean = torch.stack(found).mean(0)
        assert torch.allclose(volumes.material[(1, slice(None), *place)] / 255, mean, atol=0.003)


def test_volume_head_puts_blocks_where_they_belong() -> None:
    head = VolumeHead(4, 2, 8)
    assert head.weight.shape == (8, 4, 4**3 + 2**3 + 1 + 6 * 2**3)
    with torch.no_grad():
        head.weight[:, 0] = 1  # every value of a block is the token's first
    tokens = torch.zeros(1, 8, 4)
    tokens[0, 0b110, 0] = 5  # the token of the upper half in x and y, the lower in z
    levels, material = head(tokens)
    assert [tuple(level.shape) for level in levels] == [(1, n, n, n) for n in (8, 4, 2)]
    logits = levels[0]
    assert material.shape == (1, 6, 4, 4, 4)
    assert (logits[0, 4:, 4:, :4] > 4).all()
    assert (material[0, :, 2:, 2:, :2] > 4).all()
    assert int((logits > 4).sum()) == 4**3


def test_flows_begin_with_the_trained_image_encoder(run: Run, tmp_path: Path) -> None:
    few = {"loop.steps": "2", "loop.looks": "1", "keep_pictures": "true"}
    both = replace(before_flows(run, tmp_path / "run"), settings=few)
    fresh = replace(both, settings=few | {"freeze_encoder": "true"})
    with pytest.raises(VoxlumeError, match="nothing has trained the image encoder"):
        run_stage("flows", fresh, ALONE)
    run_stage("image_encoder", both, ALONE)
    records = read_log(both.out / "image_encoder")
    assert any("held_out" in record and "iou" in record["held_out"] for record in records)
    assert list((both.out / "image_encoder" / "samples").glob("*.png"))
    flows = replace(both, settings=few | {"loop.looks": "0", "freeze_encoder": "true"})
    run_stage("flows", flows, ALONE)
    part = {"encoder": tiny().config(IMAGE_ENCODER)}
    first, second = (trained(both.checkpoint(s), part)["encoder"] for s in ("image_encoder", "flows"))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    # On other data it goes on with its heads too.
    on = replace(both, out=tmp_path / "on", initial=(both.checkpoint("image_encoder"),))
    run_stage("image_encoder", replace(on, settings=few | {"loop.steps": "0", "loop.looks": "0"}), ALONE)
    paths = [r.checkpoint("image_encoder") for r in (both, on)]
    with safe_open(paths[0], "pt") as before, safe_open(paths[1], "pt") as after:
        names = stored_names(paths[1])
        assert {name.split(".")[0] for name in names} == {"encoder", "volume", "seen"}
        for name in names:
            assert torch.equal(before.get_tensor(f"ema/{name}"), after.get_tensor(f"weights/{name}")), name
    with pytest.raises(VoxlumeError, match="ready-made image encoder"):
        run_stage("image_encoder", replace(both, preset="published"), ALONE)


def test_a_camera_head_joins_a_finished_model(model: Path, run: Run, tmp_path: Path) -> None:
    settings = {"loop.steps": "2", "loop.looks": "1", "loop.check_every": "1"}
    on = Run("tiny", run.data, tmp_path / "on", settings, initial=(model,), encoders=True)
    assert not (model / "ckpts" / f"{CAMERA_HEAD}.json").exists()
    run_stage("camera_head", replace(on, settings=settings | {"loop.steps": "1"}), ALONE)
    shutil.rmtree(on.out / "camera_head")

    def until_one(done: int, total: int, what: str) -> bool:
        return "step 1" not in what

    said = run_stage("camera_head", on, ALONE, until_one)
    assert (said["step"], said["finished"]) == (1, False)
    said = run_stage("camera_head", replace(on, resume=True), ALONE)
    assert (said["step"], said["finished"]) == (2, True)
    records = read_log(on.out / "camera_head")
    assert {"direction", "elevation", "nearness", "window", "loss"} <= records[0].keys()
    measured = next(record["held_out"] for record in records if "held_out" in record)
    assert 0 <= measured["near"] <= measured["near_of_two"] <= 1
    assert list((on.out / "camera_head" / "samples").glob("*.png"))
    # The encoder, and with it all that the flows have learned, stays.
    run_stage("latents", replace(on, settings={}), ALONE)
    run_stage("export", on, ALONE)
    finished = on.out / "model"
    assert json.loads((finished / "pipeline.json").read_text())["training"]["camera_head"]["steps"] == 2
    for key in (IMAGE_ENCODER, stages.STRUCTURE_FLOW, stages.SHAPE_DECODER):
        assert same_weights(key, model, finished)
    learned = trained(on.checkpoint("camera_head"), {"head": tiny().config(CAMERA_HEAD)})["head"].state_dict()
    told = weights_of(finished, CAMERA_HEAD)
    assert all(torch.equal(told[name], value) for name, value in learned.items())
    assert ModelFolder.from_pretrained(finished).tells_cameras
    # It comes along with a model that learns on without it.
    later = Run("tiny", run.data, tmp_path / "later", settings | {"train": "structure"}, initial=(finished,))
    later = replace(later, settings=later.settings | {"freeze_encoder": "true", "loop.looks": "0"})
    run_stage("latents", replace(later, settings={}), ALONE)
    run_stage("flows", later, ALONE)
    run_stage("export", later, ALONE)
    assert same_weights(CAMERA_HEAD, finished, later.out / "model")


def test_camera_head_learns(store: Path, tmp_path: Path) -> None:
    stage = camera_head_stage(store, tmp_path / "pictures")
    encoder = [parameter.clone() for parameter in stage.encoder.parameters()]
    values = losses(stage, 60, 1e-2)
    assert values[-1] < 0.7 * values[0]
    assert all(torch.equal(a, b) for a, b in zip(encoder, stage.encoder.parameters(), strict=True))
    # Pictures that are kept know what they were taken with.
    first, again = (camera_head_stage(store, tmp_path / "pictures").prepare(3, 1).content for _ in range(2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1].azimuth, again[1].azimuth)
    with pytest.raises(VoxlumeError, match="nothing has trained the image encoder that camera_head keeps"):
        run_stage("camera_head", Run("tiny", store, tmp_path / "run", {"loop.steps": "1"}), ALONE)
    with pytest.raises(VoxlumeError, match="no camera head"):
        run_stage("camera_head", Run("published", store, tmp_path / "run", {"loop.steps": "1"}), ALONE)


def camera_head_stage(folder: Path, kept: Path) -> CameraHeadStage:
    torch.manual_seed(0)
    sizes = tiny()
    encoder, head = sizes.config(IMAGE_ENCODER), sizes.config(CAMERA_HEAD)
    assert sizes.camera_head is not None
    assert isinstance(encoder, ImageEncoderConfig)
    assert isinstance(head, CameraHeadConfig)
    share = Share(folder, "train", ALONE)
    source = PictureSource(2, 64, 0, share.numbers, share.total, kept, "all.safetensors", cameras=True)
    return CameraHeadStage(encoder, head, sizes.camera_head, share, None, ALONE, source)


@pytest.fixture(scope="module")
def run(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Barely trained VAEs and the latents they make."""
    run = Run("tiny", store, tmp_path_factory.mktemp("run"), {"loop.steps": "3", "loop.looks": "0"})
    for name in ("shape_vae", "material_vae", "structure_vae", "latents"):
        run_stage(name, run, ALONE)  # type: ignore[arg-type]
    return run


def before_flows(run: Run, out: Path) -> Run:
    """The same run in another folder, with everything that the flows begin with."""
    for name in ("latents", "shape_vae", "material_vae", "structure_vae"):
        shutil.copytree(run.out / name, out / name)
    return replace(run, out=out)


def flow_stage(run: Run, **changes: object) -> FlowStage:
    torch.manual_seed(0)
    sizes = tiny()
    config = replace(sizes.flows, **changes)  # type: ignore[arg-type]
    share = Share(run.data, "train", ALONE)
    source = PictureSource(config.views, config.picture_size, 0, share.numbers, share.total)
    latents = LatentStore.load(run.out / "latents")
    return FlowStage(sizes.model, config, latents, share, None, ALONE, source)


def test_latents_are_normalised(run: Run) -> None:
    latents = LatentStore.load(run.out / "latents")
    assert latents.names == VoxelStore.load(run.data).names
    batch = latents.batch(range(len(latents)))
    for values in (batch.shape, batch.material):
        assert values.mean(0).abs().max() < 0.02
        assert (values.std(0) - 1).abs().max() < 0.02
    assert (batch.structure.square().mean((0, 2, 3, 4)) - 1).abs().max() < 0.02
    # A part has the objects of its share, in order.
    part = LatentStore.load(run.out / "latents", rank=1, world=2)
    assert part.names == latents.names[1::2]
    one = part.batch([1])
    assert torch.equal(one.shape, latents.batch([3]).shape)
    assert torch.equal(one.coords, latents.batch([3]).coords)


def test_flows_learn_together(run: Run) -> None:
    stage = flow_stage(run, drop_condition=0.0)
    values = losses(stage, 25, 5e-3)
    assert values[-1] < 0.75 * values[0]
    assert all(p.grad is not None for p in stage.encoder.parameters())


def test_flows_by_themselves(run: Run) -> None:
    stage = flow_stage(run, train=("material",), freeze_encoder=True, views=0)
    first, second = stage.prepare(3, 1), stage.prepare(3, 1)
    assert torch.equal(first.content.pictures, second.content.pictures)
    found = stage(first)
    assert set(found) == {"material", "loss"}
    found["loss"].backward()
    assert not any(p.requires_grad for p in stage.encoder.parameters())
    assert all(p.grad is not None for p in stage.flows.parameters())
    seen = flow_stage(run, train=("material",), freeze_encoder=True)
    batch = seen.prepare(0, 1)
    assert batch.content.pictures.is_floating_point()  # what the encoder makes of them
    seen.tokens, seen.config = None, replace(seen.config, freeze_encoder=False)
    seen._take_pictures()
    pictures = seen.prepare(0, 1)
    assert pictures.content.pictures.dtype == torch.uint8
    assert torch.allclose(seen(batch)["loss"], seen(pictures)["loss"], rtol=1e-5)
    with pytest.raises(VoxlumeError, match="cannot train colour"):
        flow_stage(run, train=("colour",))


def test_structures_in_a_mirror(run: Run) -> None:
    stage = flow_stage(run, train=("structure",), freeze_encoder=True, mirror=True)
    batch = stage.prepare(0, 1)
    latents, objects = LatentStore.load(run.out / "latents"), range(6)
    sides = [latents.batch(objects, [side] * 6).structure for side in (0, 1)]
    assert not torch.equal(*sides)
    found = [
        [side for side in (0, 1) if any(torch.equal(one, other) for other in sides[side])]
        for one in batch.content.latents.structure
    ]
    assert {side for sides_ in found for side in sides_} == {0, 1}
    stage.tokens, stage.config = None, replace(stage.config, freeze_encoder=False)
    stage._take_pictures()
    assert torch.allclose(stage(batch)["loss"], stage(stage.prepare(0, 1))["loss"], rtol=1e-5)
    with pytest.raises(VoxlumeError, match="train=structure"):
        flow_stage(run, mirror=True)


def test_an_encoder_learns_where_pictures_were_taken_from(run: Run, model: Path, tmp_path: Path) -> None:
    """A camera head beside the flows teaches the encoder, and goes into the model with it."""
    few = {"loop.steps": "2", "loop.looks": "1", "loop.check_every": "1", "loop.log_seconds": "0"}
    on = Run("tiny", run.data, tmp_path / "on", few, initial=(model,), encoders=True)
    run_stage("latents", replace(on, settings={}), ALONE)
    both = {"train": "structure", "mirror": "true", "camera": "0.5"}
    run_stage("flows", replace(on, settings=few | both), ALONE)
    records = read_log(on.out / "flows_structure")
    held_out = next(record["held_out"] for record in records if "held_out" in record)
    for record in (records[0], held_out):
        assert record["loss"] == pytest.approx(record["structure"] + 0.5 * record["camera"], rel=1e-3)
    rest = {"train": "shape,material", "freeze_encoder": "true", "loop.looks": "0"}
    learned = on.checkpoint("flows", ("structure",))
    after = replace(on, initial=(model, learned))
    run_stage("flows", replace(after, settings=few | rest), ALONE)
    run_stage("export", on, ALONE)
    finished = on.out / "model"
    assert not same_weights(IMAGE_ENCODER, model, finished)
    (found,) = trained(learned, {"head": tiny().config(CAMERA_HEAD)}).values()
    told = weights_of(finished, CAMERA_HEAD)
    assert all(torch.equal(told[name], value) for name, value in found.state_dict().items())
    # Its own stage goes on from there.
    run_stage("camera_head", replace(after, settings={"loop.steps": "0", "loop.looks": "0"}), ALONE)
    (again,) = trained(on.checkpoint("camera_head"), {"head": tiny().config(CAMERA_HEAD)}).values()
    assert all(torch.equal(told[name], value) for name, value in again.state_dict().items())
    for changes in ({"freeze_encoder": True}, {"views": 0}, {}):  # `flow_stage` knows no head
        with pytest.raises(VoxlumeError, match="`camera` is for"):
            flow_stage(run, camera=0.5, **changes)


def test_colours_vary_from_step_to_step(run: Run) -> None:
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(1, 256, (40, 16, 16, 3), generator=generator, dtype=torch.uint8)
    pictures[:, :, :5] = 0
    seen = varied(pictures, generator, 0.7)
    assert torch.equal((seen > 0).any(3), (pictures > 0).any(3))
    moved = (seen.float() - pictures.float()).abs().mean((1, 2, 3))
    assert moved.min() > 2
    assert 8 < moved.mean() < 60
    assert torch.equal(varied(pictures, generator, 0.0), pictures)
    grey = pictures[..., :1].expand(-1, -1, -1, 3).contiguous()
    mixed = varied(grey, torch.Generator().manual_seed(1), 0.05).float()
    assert (mixed.amax(3) - mixed.amin(3)).mean() < 3  # what is grey stays nearly grey
    stage = flow_stage(run, train=("structure",), vary=0.7)
    first, same, other = (stage.prepare(step, 1).content for step in (0, 0, 1))
    assert torch.equal(first.pictures, same.pictures)
    assert stage.pictures is not None
    assert not any((stage.pictures.rgb.flatten(0, 1) == p).flatten(1).all(1).any() for p in first.pictures)
    assert not torch.equal(first.pictures, other.pictures)
    for changes in (
        {},
        {"train": ("structure",), "freeze_encoder": True},
        {"train": ("structure",), "vary": 2},
    ):
        with pytest.raises(VoxlumeError, match="vary = "):
            flow_stage(run, **{"vary": 0.5, **changes})


def test_pictures_in_a_mirror_have_cameras_in_a_mirror(run: Run) -> None:
    sizes = tiny()
    assert sizes.camera_head is not None
    config = replace(sizes.flows, train=("structure",), mirror=True, camera=0.5)
    share = Share(run.data, "train", ALONE)
    numbers = (share.numbers, share.total)
    source = PictureSource(config.views, config.picture_size, 0, *numbers, cameras=True)
    latents, head = LatentStore.load(run.out / "latents"), sizes.config(CAMERA_HEAD)
    assert isinstance(head, CameraHeadConfig)
    stage = FlowStage(
        sizes.model, config, latents, share, None, ALONE, source, camera_head=(head, sizes.camera_head)
    )
    batch = stage.prepare(0, 1)
    assert stage.pictures is not None
    assert stage.pictures.cameras is not None
    rgb, cameras = stage.pictures.rgb.flatten(0, 1), CameraTrue.of(stage.pictures.cameras.flatten(0, 1))
    sides = set()
    for picture, azimuth in zip(batch.content.pictures, batch.content.cameras.azimuth, strict=True):
        for side, sign in ((picture, 1), (picture.flip(1), -1)):
            same = (rgb == side).flatten(1).all(1)
            if same.any():
                assert float(azimuth) in [pytest.approx(sign * float(a)) for a in cameras.azimuth[same]]
                sides.add(sign)
    assert sides == {1, -1}
    batch_loss = stage(batch)
    batch_loss["camera"].backward()
    assert any(p.grad is not None and p.grad.any() for p in stage.encoder.parameters())


def test_some_patches_are_hidden(run: Run) -> None:
    """Other ones in every step, equally many of all objects; the loss looks at those that are left alone."""
    stage = flow_stage(run, train=("structure",), freeze_encoder=True, drop_patches=0.9)
    every = (stage.source.size // stage.encoder.config.patch) ** 2
    counts = set()
    for step in range(4):
        batch, again = (stage.prepare(step, 1).content for _ in range(2))
        assert torch.equal(batch.patches, again.patches)
        counts.add(batch.patches.shape[1])
        assert all(len(set(row)) == len(row) for row in batch.patches.tolist())
    assert len(counts) > 1
    assert 1 <= min(counts) < max(counts) <= every
    with torch.no_grad():
        for parameter in stage.flows.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        whole = 1 + stage.encoder.config.registers
        hidden, shown = batch.pictures.clone(), batch.pictures.clone()
        for tokens, patches in zip(hidden[:, whole:], batch.patches, strict=True):
            left = tokens[patches].clone()
            tokens.zero_()
            tokens[patches] = left
        shown[:, whole:] = 0
        loss = stage._losses(batch)["structure"]
        assert torch.equal(loss, stage._losses(replace(batch, pictures=hidden))["structure"])
        assert not torch.equal(loss, stage._losses(replace(batch, pictures=shown))["structure"])
    with pytest.raises(VoxlumeError, match="drop_patches"):
        flow_stage(run, drop_patches=1.0)


def test_a_hidden_picture_tells_nothing(run: Run) -> None:
    stage = flow_stage(run)
    batch = stage.prepare(0, 1).content
    with torch.no_grad():
        for parameter in stage.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))

        def value(kept: bool, pictures: torch.Tensor) -> torch.Tensor:
            content = replace(batch, kept=torch.full_like(batch.kept, kept), pictures=pictures)
            return stage._losses(content)["shape"]

        other = torch.zeros_like(batch.pictures)
        assert torch.equal(value(False, batch.pictures), value(False, other))
        assert not torch.equal(value(True, batch.pictures), value(True, other))


def test_all_stages_in_a_row(run: Run) -> None:
    flows = replace(run, settings={"loop.steps": "4", "loop.looks": "1"})
    said = run_stage("flows", flows, ALONE)
    assert said["finished"]
    records = read_log(run.out / "flows")
    assert {"structure", "shape", "material", "loss"} <= records[0].keys()
    assert any("held_out" in record for record in records)
    assert (run.out / "flows" / "curves.png").exists()
    assert list((run.out / "flows" / "samples").glob("*.png"))
    assert run_stage("export", replace(run, encoders=True), ALONE)["finished"]
    from voxlume.pipelines.model_folder import TEXTURING

    model = ModelFolder.from_pretrained(run.out / "model")
    assert model.config.default_type == "64_cascade" or not model.has("shape_slat_flow_model_1024")
    assert ModelFolder.from_pretrained(run.out / "model", pipeline=TEXTURING).has("shape_slat_encoder")
    for key in model.config.models:
        model.load(key, None, torch.device("cpu"))
    with pytest.raises(VoxlumeError, match="already holds"):
        run_stage("export", run, ALONE)
    # A later run may begin with the finished model; without a step it only takes its weights over.
    later = Run(
        "tiny",
        run.data,
        run.out / "later",
        {"loop.steps": "0", "loop.looks": "0"},
        initial=(run.out / "model",),
    )
    run_stage("shape_vae", later, ALONE)
    taken = trained(later.checkpoint("shape_vae"), {"decoder": tiny().config("shape_slat_decoder")})[
        "decoder"
    ]
    finished = model.load("shape_slat_decoder", None, torch.device("cpu"))
    assert all(torch.equal(a, b) for a, b in zip(taken.parameters(), finished.parameters(), strict=True))
    with pytest.raises(ModelFileError, match="other sizes"):
        run_stage("shape_vae", replace(later, preset="nano", out=run.out / "bigger"), ALONE)


def weights_of(model: Path, key: str) -> dict[str, torch.Tensor]:
    return dict(load_network(model / "ckpts" / key).state_dict())


def same_weights(key: str, *models: Path) -> bool:
    first, second = (weights_of(model, key) for model in models)
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def model(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished model of everything in one run."""
    whole = before_flows(run, tmp_path_factory.mktemp("whole"))
    whole = replace(whole, settings={"loop.steps": "3", "loop.looks": "0"}, encoders=True)
    run_stage("flows", whole, ALONE)
    run_stage("export", whole, ALONE)
    return whole.out / "model"


def test_flows_trained_apart_come_together(run: Run, model: Path, tmp_path: Path) -> None:
    few = {"loop.steps": "2", "loop.looks": "0"}
    fresh = replace(before_flows(run, tmp_path / "run"), encoders=True)
    apart = replace(fresh, initial=(model,))
    for parts in ("structure", "shape,material"):
        learn = few | {"train": parts, "freeze_encoder": "true"}
        assert run_stage("flows", replace(apart, settings=learn), ALONE)["finished"]
    assert sorted(p.name for p in fresh.out.glob("flows*")) == ["flows_shape_material", "flows_structure"]
    run_stage("export", fresh, ALONE)
    history = json.loads((fresh.out / "model" / "pipeline.json").read_text())["training"]
    assert set(history) >= {"flows_structure", "flows_shape_material", "shape_vae"}
    for key, part in ((stages.STRUCTURE_FLOW, "structure"), (stages.SHAPE_FLOWS[0], "shape")):
        assert not same_weights(key, model, fresh.out / "model")
        (parts,) = (p for p in (("structure",), ("shape", "material")) if part in p)
        config = {f"flows.{part}": tiny().config(key)}
        learned = trained(fresh.checkpoint("flows", parts), config)[f"flows.{part}"].state_dict()
        finished = weights_of(fresh.out / "model", key)
        assert all(torch.equal(finished[name], value) for name, value in learned.items())
    assert same_weights(IMAGE_ENCODER, model, fresh.out / "model")
    # Their weights are also something to begin with.
    both = replace(
        before_flows(run, tmp_path / "both"),
        settings=few | {"loop.steps": "0"},
        initial=(fresh.checkpoint("flows", ("structure",)),),
    )
    run_stage("flows", both, ALONE)
    part_of = {"flows.structure": tiny().config(stages.STRUCTURE_FLOW)}
    first, second = (
        trained(path, part_of)["flows.structure"]
        for path in (fresh.checkpoint("flows", ("structure",)), both.checkpoint("flows"))
    )
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    with pytest.raises(VoxlumeError, match="--initial MODEL"):
        run_stage("export", replace(both, share=0.5), ALONE)
    with pytest.raises(ModelFileError, match="other networks"):
        run_stage("structure_vae", replace(both, out=tmp_path / "other"), ALONE)


def test_a_finished_model_learns_on(run: Run, model: Path, tmp_path: Path) -> None:
    """With one flow trained, all else is the model's: VAEs, other flows, what latents are divided by."""
    few = {"loop.steps": "2", "loop.looks": "0"}
    on = Run("tiny", run.data, tmp_path / "on", few, initial=(model,), encoders=True)
    run_stage("latents", replace(on, settings={}), ALONE)
    learn = {"train": "structure", "freeze_encoder": "true"}
    run_stage("flows", replace(on, settings=few | learn), ALONE)
    run_stage("export", on, ALONE)
    finished = on.out / "model"
    before, after = (json.loads((folder / "pipeline.json").read_text()) for folder in (model, finished))
    for name in ("shape_slat_normalization", "tex_slat_normalization"):
        assert after["args"][name] == before["args"][name]
    assert after["training"] == before["training"] | {"flows_structure": after["training"]["flows_structure"]}
    keys = {path.stem for path in (model / "ckpts").glob("*.json")}
    assert keys == {path.stem for path in (finished / "ckpts").glob("*.json")}
    assert {key for key in keys if not same_weights(key, model, finished)} == {stages.STRUCTURE_FLOW}
    # Half-way between what it was and what it has become.
    shutil.move(finished, on.out / "new")
    run_stage("export", replace(on, share=0.5), ALONE)
    old, new, half = (weights_of(m, stages.STRUCTURE_FLOW) for m in (model, on.out / "new", finished))
    for name, values in half.items():
        middle = (old[name].float() + new[name].float()) / 2
        torch.testing.assert_close(values.float(), middle, rtol=2e-3, atol=2e-4)
    with pytest.raises(VoxlumeError, match="share of 2"):
        run_stage("export", replace(on, share=2), ALONE)
    # A flow that learns with an encoder of its own does not fit the others.
    run_stage("flows", replace(on, settings=few | {"train": "shape"}), ALONE)
    shutil.rmtree(finished)
    with pytest.raises(VoxlumeError, match="another image encoder"):
        run_stage("export", on, ALONE)


def test_kept_pictures_are_not_drawn_again(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {"loop.steps": "2", "loop.looks": "0", "loop.log_seconds": "0", "keep_pictures": "true"}
    again = replace(before_flows(run, tmp_path / "run"), settings=few)
    run_stage("flows", again, ALONE)
    drawn = read_log(again.out / "flows")
    shutil.rmtree(again.out / "flows")
    whole = next((again.out / "pictures").iterdir())
    with safe_open(whole, "pt") as file:
        pictures, note = file.get_tensor("rgb"), dict(file.metadata())
    names = json.loads(note["names"])
    whole.unlink()
    for rank in range(2):  # as two processes would have kept them
        note["names"] = json.dumps(names[rank::2])
        save_file({"rgb": pictures[rank::2].contiguous()}, whole.with_name(f"{rank}.safetensors"), note)
    with monkeypatch.context() as patch:
        patch.setattr(PictureCache, "drawn", None)
        run_stage("flows", again, ALONE)
        assert [r["loss"] for r in read_log(again.out / "flows")] == [r["loss"] for r in drawn]
        other = replace(again, resume=True, settings=few | {"loop.steps": "3", "views": "1"})
        with pytest.raises(TypeError):  # other pictures than those that are kept
            run_stage("flows", other, ALONE)


def test_stages_say_what_comes_before(store: Path, tmp_path: Path) -> None:
    run = Run("tiny", store, tmp_path / "run", {"loop.steps": "1"})
    with pytest.raises(VoxlumeError, match="train this stage first"):
        run_stage("latents", run, ALONE)
    with pytest.raises(VoxlumeError, match="no training preset"):
        run_stage("shape_vae", replace(run, preset="huge"), ALONE)
    with pytest.raises(VoxlumeError, match="no setting"):
        run_stage("shape_vae", replace(run, settings={"speed": "1"}), ALONE)
    with pytest.raises(VoxlumeError, match="budget"):
        run_stage("shape_vae", replace(run, settings={}), ALONE)
