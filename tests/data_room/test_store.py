"""Voxel samples: what goes into a store comes out of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.data_room.collection import asset
from voxlume.data.shards import pack, read_index, write_index, write_shard
from voxlume.data.store import VoxelStore
from voxlume.errors import VoxelFileError, VoxlumeError
from voxlume.ovoxel import OVoxel

RESOLUTION = 24


def made(number: int, resolution: int = RESOLUTION) -> OVoxel:
    return OVoxel.from_asset(asset(number), resolution)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five samples in two shards."""
    folder = tmp_path_factory.mktemp("store")
    shards = []
    for number, members in enumerate([(0, 1, 2), (3, 4)]):
        samples = [(f"s{i}", "dressed" if i % 2 else "open", pack(made(i))) for i in members]
        write_shard(folder / f"train-{number}.safetensors", samples, RESOLUTION, {})
        listed = [[name, kind, len(packed["coords"])] for name, kind, packed in samples]
        shards.append({"file": f"train-{number}.safetensors", "samples": listed})
    write_index(folder, {"resolution": RESOLUTION, "settings": {}, "splits": {"train": shards}})
    return folder


def test_batch(folder: Path) -> None:
    store = VoxelStore.load(folder)
    assert (len(store), store.resolution, store.names) == (5, RESOLUTION, ["s0", "s1", "s2", "s3", "s4"])
    chosen = [3, 0, 3]
    batch = store.batch(chosen)
    assert batch.batch_size == 3
    assert batch.lengths == [store.voxel_counts[i] for i in chosen]
    assert (batch.coords.dtype, batch.intersected.dtype) == (torch.int32, torch.bool)
    start = 0
    for sample, i in enumerate(chosen):
        expected = made(i)
        rows = slice(start, start + len(expected))
        start = rows.stop
        assert (batch.coords[rows, 0] == sample).all()
        np.testing.assert_array_equal(batch.coords[rows, 1:].numpy(), expected.coords)
        np.testing.assert_array_equal(batch.intersected[rows].numpy(), expected.intersected)
        for found, truth in (
            (batch.dual_vertices, expected.dual_vertices),
            (batch.attributes, expected.attributes),
        ):
            assert found.dtype == torch.float32
            np.testing.assert_allclose(found[rows].numpy(), truth, atol=0.5 / 255 + 1e-6)
    assert start == len(batch.coords)


def test_one_sample_as_ovoxel(folder: Path) -> None:
    ovoxel = VoxelStore.load(folder).ovoxel(2)
    np.testing.assert_array_equal(ovoxel.coords, made(2).coords)
    assert len(ovoxel.to_mesh().faces) == len(made(2).to_mesh().faces)


def test_parts(folder: Path) -> None:
    store = VoxelStore.load(folder)
    for rank in range(2):
        shared, loaded = store.share(rank, 2), VoxelStore.load(folder, rank=rank, world=2)
        assert shared.names == loaded.names == store.names[rank::2]
        whole, part = store.batch(range(rank, 5, 2)), loaded.batch(range(len(loaded)))
        for name in ("coords", "dual_vertices", "intersected", "attributes"):
            assert torch.equal(getattr(whole, name), getattr(part, name)), name
            assert torch.equal(getattr(whole, name), getattr(shared.batch(range(len(shared))), name)), name
    assert VoxelStore.load(folder, limit=2).names == ["s0", "s1"]
    assert VoxelStore.load(folder, kinds=["dressed"], limit=5).names == ["s1", "s3"]
    assert VoxelStore.load(folder, limit=3, rank=1, world=2).names == ["s1"]


def test_fine_grids(tmp_path: Path) -> None:
    ovoxel = made(1, 300)
    write_shard(tmp_path / "t.safetensors", [("x", "open", pack(ovoxel))], 300, {})
    shards = [{"file": "t.safetensors", "samples": [["x", "open", len(ovoxel)]]}]
    write_index(tmp_path, {"resolution": 300, "settings": {}, "splits": {"train": shards}})
    batch = VoxelStore.load(tmp_path).batch([0])
    np.testing.assert_array_equal(batch.coords[:, 1:].numpy(), ovoxel.coords)


@pytest.mark.gpu
def test_no_waiting_for_the_gpu(folder: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    store = VoxelStore.load(folder, "cuda")
    expected = VoxelStore.load(folder).batch([4, 1])
    store.batch([4, 1])
    torch.cuda.set_sync_debug_mode("error")
    try:
        batch = store.batch([4, 1])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for name in ("coords", "dual_vertices", "intersected", "attributes"):
        assert torch.equal(getattr(batch, name).cpu(), getattr(expected, name)), name


def test_bad_input(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(VoxlumeError, match="no voxel store"):
        VoxelStore.load(tmp_path)
    with pytest.raises(VoxlumeError, match=r"no split 'other' \(it has: train\)"):
        VoxelStore.load(folder, split="other")
    with pytest.raises(VoxlumeError, match="nothing is left"):
        VoxelStore.load(folder, kinds=["mesh"])
    write_index(tmp_path, read_index(folder))
    with pytest.raises(VoxelFileError, match="missing or damaged"):
        VoxelStore.load(tmp_path)
    whole = (folder / "train-0.safetensors").read_bytes()
    (tmp_path / "train-0.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VoxelFileError, match="damaged"):
        VoxelStore.load(tmp_path)
    (tmp_path / "index.json").write_text("[]")
    with pytest.raises(VoxlumeError, match="damaged"):
        VoxelStore.load(tmp_path)


def test_what_cannot_be_stored() -> None:
    ovoxel = made(0)
    bare = OVoxel(ovoxel.resolution, ovoxel.coords, ovoxel.dual_vertices, ovoxel.intersected)
    with pytest.raises(VoxlumeError, match="without material"):
        pack(bare)
    ovoxel.dual_vertices[0, 0] = np.nan
    with pytest.raises(VoxlumeError, match="finite"):
        pack(ovoxel)
