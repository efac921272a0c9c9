from __future__ import annotations

import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.ovoxel.samples import ball
from tests.ovoxel.test_vxz import join, split
from tests.paths import PARITY_DIR
from voxlume.asset import Placement
from voxlume.errors import VoxelFileError, VoxlumeError
from voxlume.ovoxel import OVoxel
from voxlume.ovoxel.files import load_ovoxel, save_ovoxel
from voxlume.ovoxel.quantize import MIDDLE_OF_BYTE, VALUE_OF_BYTE, quantize
from voxlume.ovoxel.vxz import Voxels, VxzOptions, read_vxz, write_vxz


def sample(weights: bool = True, attributes: bool = True, resolution: int = 37) -> OVoxel:
    grid = ball(20)
    rng = np.random.default_rng(0)
    count = len(grid.coords)
    return OVoxel(
        resolution,
        grid.coords,
        grid.dual_vertices,
        grid.intersected,
        rng.random((count, 6), np.float32) if attributes else None,
        (rng.random(count, np.float32) * 4 + 0.01) if weights else None,
        Placement((0.1, -1e6 / 3, 2e-7), 1 / 7),
    )


def assert_same_frame(back: OVoxel, ovoxel: OVoxel) -> None:
    assert back.resolution == ovoxel.resolution
    assert back.placement == ovoxel.placement
    np.testing.assert_array_equal(back.coords, ovoxel.coords)
    np.testing.assert_array_equal(back.intersected, ovoxel.intersected)
    assert back.coords.dtype == np.int32
    assert back.intersected.dtype == np.bool_
    assert back.dual_vertices.dtype == np.float32


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("attributes", [False, True])
def test_npz_is_lossless(tmp_path: Path, weights: bool, attributes: bool) -> None:
    ovoxel = sample(weights, attributes)
    save_ovoxel(ovoxel, tmp_path / "x.npz")
    back = load_ovoxel(tmp_path / "x.npz")
    assert_same_frame(back, ovoxel)
    for name in ("dual_vertices", "attributes", "splitting_weights"):
        np.testing.assert_array_equal(getattr(back, name), getattr(ovoxel, name))


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("attributes", [False, True])
def test_vxz_keeps_eight_bits(tmp_path: Path, weights: bool, attributes: bool) -> None:
    ovoxel = sample(weights, attributes)
    save_ovoxel(ovoxel, tmp_path / "x.vxz")
    back = load_ovoxel(tmp_path / "x.vxz")
    assert_same_frame(back, ovoxel)
    assert np.abs(back.dual_vertices - ovoxel.dual_vertices).max() <= 0.5001 / 255
    assert abs((back.dual_vertices - ovoxel.dual_vertices).mean()) < 0.02 / 255
    if attributes:
        assert back.attributes is not None
        assert ovoxel.attributes is not None
        np.testing.assert_array_equal(back.attributes, np.floor(ovoxel.attributes * 255) / np.float32(255))
    else:
        assert back.attributes is None
    if weights:
        assert back.splitting_weights is not None
        np.testing.assert_allclose(back.splitting_weights, ovoxel.splitting_weights, rtol=1e-3)
    else:
        assert back.splitting_weights is None


def test_writing_what_was_read_gives_the_same_bytes(tmp_path: Path) -> None:
    save_ovoxel(sample(), tmp_path / "a.vxz")
    save_ovoxel(load_ovoxel(tmp_path / "a.vxz"), tmp_path / "b.vxz")
    assert (tmp_path / "a.vxz").read_bytes() == (tmp_path / "b.vxz").read_bytes()


def test_every_byte_survives_reading_and_writing() -> None:
    every = np.arange(256, dtype=np.uint8)
    for table in (VALUE_OF_BYTE, MIDDLE_OF_BYTE):
        np.testing.assert_array_equal(quantize(table[every][:, None])[:, 0], every)
        assert table.min() >= 0
        assert table.max() == 1
    outside = np.array([[-1.0, -0.0, 1.5, np.nan, np.inf, -np.inf, 0.999]], np.float32)
    assert quantize(outside).tolist() == [[0, 0, 255, 0, 255, 0, 254]]


@pytest.mark.parametrize("path", sorted(PARITY_DIR.glob("*.vxz")), ids=lambda path: path.stem)
def test_published_files_have_no_extension(path: Path) -> None:
    ovoxel = load_ovoxel(path)
    voxels = read_vxz(path.read_bytes())
    largest = int(voxels.coords.max())
    assert ovoxel.resolution >= max(largest + 1, 64)
    assert load_ovoxel(path, 100).resolution == 100
    assert ovoxel.placement == Placement()
    assert len(ovoxel) == len(voxels.coords)
    keys = ovoxel.coords.astype(np.int64) @ [1 << 42, 1 << 21, 1]
    assert (np.diff(keys) > 0).all()
    order = np.lexsort(voxels.coords.T[::-1])
    np.testing.assert_array_equal(quantize(ovoxel.dual_vertices), voxels.attributes["dual_vertices"][order])
    flags = (ovoxel.intersected @ np.array([1, 2, 4])).astype(np.uint8)
    np.testing.assert_array_equal(flags, voxels.attributes["intersected"][order, 0])
    assert ovoxel.attributes is not None
    for name, columns in (("base_color", [0, 1, 2]), ("metallic", [3]), ("roughness", [4]), ("alpha", [5])):
        np.testing.assert_array_equal(quantize(ovoxel.attributes[:, columns]), voxels.attributes[name][order])


@pytest.mark.parametrize(
    ("largest", "resolution"), [(0, 64), (63, 64), (64, 128), (1024, 1536), (1600, 2048), (2048, 4096)]
)
def test_resolution_of_a_file_that_has_none(tmp_path: Path, largest: int, resolution: int) -> None:
    attributes = {"dual_vertices": np.zeros((1, 3), np.uint8), "intersected": np.zeros((1, 1), np.uint8)}
    (tmp_path / "x").write_bytes(write_vxz(Voxels(np.array([[0, largest, 0]], np.int32), attributes)))
    assert load_ovoxel(tmp_path / "x").resolution == resolution
    with pytest.raises(VoxelFileError, match=f"at least {largest + 1}"):
        load_ovoxel(tmp_path / "x", largest)


def test_part_of_the_material(tmp_path: Path) -> None:
    attributes = {
        "dual_vertices": np.zeros((1, 3), np.uint8),
        "intersected": np.full((1, 1), 5, np.uint8),
        "metallic": np.full((1, 1), 51, np.uint8),
    }
    (tmp_path / "x").write_bytes(write_vxz(Voxels(np.zeros((1, 3), np.int32), attributes)))
    ovoxel = load_ovoxel(tmp_path / "x")
    assert ovoxel.attributes is not None
    np.testing.assert_allclose(ovoxel.attributes, [[1, 1, 1, 0.2, 1, 1]])
    assert ovoxel.intersected.tolist() == [[True, False, True]]


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({}, "no geometry"),
        ({"dual_vertices": 3}, "no geometry"),
        ({"dual_vertices": 2, "intersected": 1}, "dual_vertices has 2"),
        ({"dual_vertices": 3, "intersected": 1, "alpha": 2}, "alpha has 2"),
    ],
)
def test_attributes_that_do_not_fit(tmp_path: Path, attributes: dict[str, int], message: str) -> None:
    arrays = {name: np.zeros((1, channels), np.uint8) for name, channels in attributes.items()}
    (tmp_path / "x.vxz").write_bytes(write_vxz(Voxels(np.zeros((1, 3), np.int32), arrays)))
    with pytest.raises(VoxelFileError, match=message):
        load_ovoxel(tmp_path / "x.vxz")


@pytest.mark.parametrize(
    "change",
    [
        {"resolution": 5},
        {"resolution": 10**9},
        {"resolution": "64"},
        {"resolution": 64.0},
        {"frame": "y-up"},
        {"center": [0, 0]},
        {"center": [0, 0, "x"]},
        {"center": [0, 0, 10**400]},
        {"scale": 0},
        {"scale": -1.0},
        {"scale": None},
        {"scale": True},
    ],
)
def test_damaged_extension(tmp_path: Path, change: dict[str, Any]) -> None:
    save_ovoxel(sample(), tmp_path / "x.vxz")
    header, binary = split((tmp_path / "x.vxz").read_bytes())
    header["voxlume"].update(change)
    (tmp_path / "x.vxz").write_bytes(join(header, binary))
    with pytest.raises(VoxelFileError) as caught:
        load_ovoxel(tmp_path / "x.vxz")
    assert "\n" not in str(caught.value)


def test_damaged_splitting_weights(tmp_path: Path) -> None:
    save_ovoxel(sample(), tmp_path / "x.vxz", options=VxzOptions(compression="none"))
    header, binary = split((tmp_path / "x.vxz").read_bytes())
    start, length = header["voxlume"]["extra"]["ptr"]
    binary = binary[:start] + b"\xff" * length
    (tmp_path / "x.vxz").write_bytes(join(header, binary))
    with pytest.raises(VoxelFileError, match="splitting weight"):
        load_ovoxel(tmp_path / "x.vxz")
    header["voxlume"]["extra"]["channels"] = 1
    header["voxlume"]["extra"]["ptr"] = [start, length // 2]
    (tmp_path / "x.vxz").write_bytes(join(header, binary))
    with pytest.raises(VoxelFileError, match="16-bit"):
        load_ovoxel(tmp_path / "x.vxz")


def test_content_decides_when_reading(tmp_path: Path) -> None:
    ovoxel = sample()
    save_ovoxel(ovoxel, tmp_path / "a.npz")
    (tmp_path / "a.npz").rename(tmp_path / "a.vxz")
    np.testing.assert_array_equal(load_ovoxel(tmp_path / "a.vxz").attributes, ovoxel.attributes)


@pytest.mark.parametrize("content", [b"", b"V", b"glTF\2\0\0\0", b"PK", b"PK\3\4" + bytes(100)])
def test_other_content(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.vxz").write_bytes(content)
    with pytest.raises(VoxelFileError, match=r"x\.vxz"):
        load_ovoxel(tmp_path / "x.vxz")


def test_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(VoxelFileError, match="cannot read"):
        load_ovoxel(tmp_path / "missing.vxz")
    with pytest.raises(VoxelFileError, match="cannot read"):
        load_ovoxel(tmp_path)
    with pytest.raises(VoxelFileError, match="ending"):
        save_ovoxel(sample(), tmp_path / "x.glb")
    with pytest.raises(VoxlumeError, match="does not exist"):
        save_ovoxel(sample(), tmp_path / "missing" / "x.vxz")
    assert not list(tmp_path.iterdir())


def arrays_of(ovoxel: OVoxel) -> dict[str, Any]:
    file = io.BytesIO()
    save_like_numpy(file, ovoxel)
    return dict(np.load(io.BytesIO(file.getvalue())))


def save_like_numpy(file: io.BytesIO, ovoxel: OVoxel) -> None:
    from voxlume.ovoxel.npz import write_npz

    write_npz(ovoxel, file)  # type: ignore[arg-type]


def test_npz_made_with_numpy(tmp_path: Path) -> None:
    arrays = arrays_of(sample())
    arrays["coords"] = np.asfortranarray(arrays["coords"].astype(np.int64))
    arrays["attributes"] = arrays["attributes"].astype(">f8")
    arrays["comment"] = np.array("anything")
    np.savez_compressed(tmp_path / "x.npz", **arrays)
    back = load_ovoxel(tmp_path / "x.npz")
    assert_same_frame(back, sample())
    np.testing.assert_array_equal(back.attributes, sample().attributes)
    assert load_ovoxel(tmp_path / "x.npz", 64).resolution == 64


def set_one(name: str, row: int, value: float) -> Any:
    def apply(arrays: dict[str, Any]) -> None:
        arrays[name] = arrays[name].copy()
        arrays[name][row] = value

    return apply


@pytest.mark.parametrize(
    "damage",
    [
        lambda a: a.pop("coords"),
        lambda a: a.update(coords=a["coords"].astype(object)),
        lambda a: a.update(coords=a["coords"].astype(np.float32)),
        lambda a: a.update(coords=a["coords"][:, :2]),
        lambda a: a.update(coords=a["coords"][:-1]),
        lambda a: a.update(dual_vertices=a["dual_vertices"].astype(complex)),
        lambda a: a.update(intersected=a["intersected"].astype(np.float64)),
        lambda a: a.update(attributes=a["attributes"][:, :5]),
        lambda a: a.update(splitting_weights=-a["splitting_weights"]),
        lambda a: a.update(resolution=np.int64(3)),
        lambda a: a.update(resolution=np.uint64(2**63)),
        lambda a: a.update(resolution=np.array([64])),
        lambda a: a.update(scale=np.float64(-1)),
        lambda a: a.update(center=np.array([0, np.nan, 0])),
        lambda a: a.update(center=np.array(["a", "b", "c"])),
        set_one("coords", 3, -1),
        set_one("coords", 3, 36),
        set_one("dual_vertices", 5, np.nan),
        set_one("attributes", 5, np.inf),
        lambda a: a.update(coords=np.repeat(a["coords"][:1], len(a["coords"]), 0)),
    ],
)
def test_damaged_arrays(tmp_path: Path, damage: Any) -> None:
    arrays = arrays_of(sample())
    damage(arrays)
    if arrays.get("coords") is not None and (np.asarray(arrays["coords"]) == 36).any():
        arrays["resolution"] = np.int64(36)
    np.savez(tmp_path / "x.npz", allow_pickle=True, **arrays)
    with pytest.raises(VoxelFileError) as caught:
        load_ovoxel(tmp_path / "x.npz")
    assert "\n" not in str(caught.value)


def npy(header: dict[str, Any], data: bytes) -> bytes:
    text = repr(header).encode() + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + data


@pytest.mark.parametrize("stored", [False, True])
def test_npz_bombs(tmp_path: Path, stored: bool) -> None:
    with zipfile.ZipFile(
        tmp_path / "x.npz", "w", zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    ) as z:
        z.writestr("resolution.npy", npy({"descr": "<i8", "fortran_order": False, "shape": ()}, bytes(8)))
        shape = (10**9, 3) if stored else (20_000_000, 3)
        data = bytes(100) if stored else bytes(240_000_000)
        z.writestr("coords.npy", npy({"descr": "<i4", "fortran_order": False, "shape": shape}, data))
    with pytest.raises(VoxelFileError, match="claims more"):
        load_ovoxel(tmp_path / "x.npz")


def test_npz_truncation(tmp_path: Path) -> None:
    save_ovoxel(sample(), tmp_path / "x.npz")
    data = (tmp_path / "x.npz").read_bytes()
    for place in range(100):
        (tmp_path / "y.npz").write_bytes(data[: len(data) * place // 100])
        with pytest.raises(VoxelFileError):
            load_ovoxel(tmp_path / "y.npz")


def test_header_of_a_written_file(tmp_path: Path) -> None:
    save_ovoxel(sample(), tmp_path / "x.vxz")
    header, _ = split((tmp_path / "x.vxz").read_bytes())
    assert [name for name, _ in header["attr"]] == [
        "base_color",
        "metallic",
        "roughness",
        "alpha",
        "dual_vertices",
        "intersected",
    ]
    assert header["voxlume"]["resolution"] == 37
    assert json.dumps(header["voxlume"]["center"]) == "[0.1, -333333.3333333333, 2e-07]"
