"""Feeds damaged glTF files to the reader: only the package's own errors come out, soon, in little memory.

    python -m tests.fuzz_gltf --cases 100000 --seed 7

Every case follows from the seed and its number, so a failure is repeated with ``--only NUMBER``.
"""

from __future__ import annotations

import argparse
import base64
import copy
import json
import random
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from tests.mesh.gltf_builder import QUAD, QUAD_FACES, QUAD_UV, Gltf, pack_glb
from voxlume.errors import VoxlumeError
from voxlume.mesh.read import load

DATA = Path(__file__).parent / "data"
MEMORY_LIMIT = 3 * 2**29
SECONDS_LIMIT = 10
PIXELS = np.arange(4 * 4 * 4, dtype=np.uint8).reshape(4, 4, 4) * 3

STRANGE: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 7, 255, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**64, 10**400,
    -(2**31), 0.5, -0.0, 1e-320, 1e38, 1e308, -1e308, 5121, 5123, 5126, "", "0", "VEC3", "MAT4", "SCALAR",
    "data:,", "data:;base64,!", "../x", "/", "\0", "\ud800", "x" * 300, [], {}, [[]], [None],
    [1e308] * 16, [0] * 16, [-1], [2**40], {"": None},
]  # fmt: skip


def textured() -> Gltf:
    """Materials of both models, a texture with transform, sparse and normalised accessors, two nodes."""
    gltf = Gltf()
    info = {
        "index": gltf.texture(PIXELS, wrapS=33648, magFilter=9728),
        "extensions": {"KHR_texture_transform": {"offset": [0.1, 0.2], "rotation": 0.3, "scale": [2, 2]}},
    }
    specular = {"diffuseTexture": info, "specularGlossinessTexture": info, "glossinessFactor": 0.5}
    gltf.add(
        "materials", pbrMetallicRoughness={"baseColorTexture": info}, normalTexture=info, alphaMode="MASK"
    )
    gltf.add(
        "materials", extensions={"KHR_materials_pbrSpecularGlossiness": specular}, emissiveFactor=[1, 1, 1]
    )
    first, second = gltf.quad(material=0), gltf.quad(material=1, mode=5)
    colors = gltf.accessor(np.full((4, 4), 99, np.uint8), normalized=True)
    gltf.doc["meshes"][first]["primitives"][0]["attributes"]["COLOR_0"] = colors
    sparse = {
        "count": 2,
        "indices": {"bufferView": gltf.view(bytes([1, 3])), "componentType": 5121},
        "values": {"bufferView": gltf.view(np.float32([[1, 1, 1], [2, 2, 2]]).tobytes())},
    }
    position = gltf.add("accessors", componentType=5126, count=4, type="VEC3", sparse=sparse)
    gltf.doc["meshes"][second]["primitives"][0]["attributes"]["POSITION"] = position
    child = gltf.add("nodes", mesh=second, scale=[-1, 1, 2], rotation=[0, 0, 0.6, 0.8])
    matrix = [1.0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 5, 6, 7, 1]
    return gltf.scene(gltf.add("nodes", mesh=first, children=[child], matrix=matrix))


def animated() -> Gltf:
    """A skin, morph targets, instances, a strip and a fan."""
    gltf = Gltf()
    mesh = gltf.quad(targets=[{"POSITION": gltf.accessor(QUAD)}, {"POSITION": gltf.accessor(QUAD * 2)}])
    gltf.doc["meshes"][mesh]["weights"] = [0.5, 0.25]
    attributes = gltf.doc["meshes"][mesh]["primitives"][0]["attributes"]
    attributes["JOINTS_0"] = gltf.accessor(np.uint8([[0, 1, 0, 0]] * 4))
    attributes["WEIGHTS_0"] = gltf.accessor(np.float32([[0.5, 0.5, 0, 0]] * 4))
    joints = [gltf.add("nodes", translation=[0, 0, i]) for i in range(2)]
    bind = gltf.accessor(np.tile(np.eye(4, dtype=np.float32), (2, 1, 1)))
    skinned = gltf.add("nodes", mesh=mesh, skin=gltf.add("skins", joints=joints, inverseBindMatrices=bind))
    shifts = {"TRANSLATION": gltf.accessor(QUAD * 3), "SCALE": gltf.accessor(QUAD + 1)}
    extension = {"EXT_mesh_gpu_instancing": {"attributes": shifts}}
    fan = gltf.add("nodes", mesh=gltf.quad(mode=6), extensions=extension)
    return gltf.scene(*joints, skinned, fan)


def draco() -> Gltf:
    """A primitive in a Draco stream."""
    import DracoPy

    gltf = Gltf()
    stream = DracoPy.encode(QUAD.astype(float), QUAD_FACES.reshape(-1, 3), tex_coord=QUAD_UV.astype(float))
    ids = {int(a["attribute_type"]): a["unique_id"] for a in DracoPy.decode(stream).attributes}
    attributes = {
        "POSITION": gltf.add("accessors", componentType=5126, count=4, type="VEC3"),
        "TEXCOORD_0": gltf.add("accessors", componentType=5126, count=4, type="VEC2"),
    }
    indices = gltf.add("accessors", componentType=5123, count=6, type="SCALAR")
    fields = {"bufferView": gltf.view(stream), "attributes": {"POSITION": ids[0], "TEXCOORD_0": ids[3]}}
    extensions = {"KHR_draco_mesh_compression": fields}
    primitive = {"attributes": attributes, "indices": indices, "extensions": extensions}
    return gltf.show(gltf.add("meshes", primitives=[primitive]))


def compressed() -> Gltf:
    """Positions and indices in meshopt streams, a KTX2 texture."""
    streams = json.loads((DATA / "meshopt.json").read_text())
    points = next(c for c in streams if c["name"].startswith("words") and c["stride"] == 8)
    faces = next(c for c in streams if c["name"] == "grid" and c["mode"] == "TRIANGLES" and c["stride"] == 2)
    texture = next(c for c in json.loads((DATA / "ktx2.json").read_text()) if c["name"] == "etc1s colour 4x4")
    gltf = Gltf()

    def view(case: dict[str, Any], count: int) -> int:
        stream = base64.b64decode(case["stream"])
        packed = dict(gltf.doc["bufferViews"][gltf.view(stream)])
        extension = {**packed, "count": case["count"], "byteStride": case["stride"], "mode": case["mode"]}
        extensions = {"EXT_meshopt_compression": extension}
        return gltf.add("bufferViews", buffer=0, byteLength=count, extensions=extensions)

    gltf.doc["bufferViews"] = []
    position = gltf.add("accessors", bufferView=view(points, 128), componentType=5122, count=16, type="VEC3")
    gltf.doc["bufferViews"][-1]["byteStride"] = 8
    index = gltf.add("accessors", bufferView=view(faces, 1452), componentType=5123, count=15, type="SCALAR")
    basis = gltf.add("images", bufferView=gltf.view(base64.b64decode(texture["ktx2"])), mimeType="image/ktx2")
    info = {"index": gltf.add("textures", extensions={"KHR_texture_basisu": {"source": basis}})}
    material = gltf.add("materials", pbrMetallicRoughness={"baseColorTexture": info})
    primitive = {"attributes": {"POSITION": position}, "indices": index, "material": material}
    return gltf.show(gltf.add("meshes", primitives=[primitive]))


def damage_bytes(rng: random.Random, data: bytes) -> bytes:
    """Flip, overwrite, cut, repeat or insert some bytes."""
    result = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        place = rng.randrange(len(result) or 1)
        length = rng.choice((1, 2, 4, 8, 32))
        kind = rng.randrange(6)
        if kind == 0 and result:
            result[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            result[place : place + length] = rng.randbytes(length)
        elif kind == 2:
            result[place : place + length] = rng.choice((b"\0", b"\xff")) * length
        elif kind == 3:
            del result[place : place + length]
        elif kind == 4:
            source = rng.randrange(len(result) or 1)
            result[place:place] = result[source : source + length]
        else:
            del result[rng.randrange(len(result) or 1) :]
    return bytes(result)


def damage_json(rng: random.Random, document: dict[str, Any]) -> dict[str, Any]:
    """Replace, remove or duplicate some values anywhere in the document."""
    document = copy.deepcopy(document)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        places: list[tuple[Any, Any]] = []
        pending: list[Any] = [document]
        while pending:
            holder = pending.pop()
            keys = list(holder) if isinstance(holder, dict) else range(len(holder))
            places += [(holder, key) for key in keys]
            pending += [holder[key] for key in keys if isinstance(holder[key], (dict, list))]
        if not places:
            break
        holder, key = rng.choice(places)
        kind = rng.randrange(8)
        if kind == 0:
            del holder[key]
        elif kind <= 3 and isinstance(holder[key], (int, float)) and abs(holder[key]) < 2**53:
            holder[key] = holder[key] + rng.choice((-1, 1, 2, 100, 2**31, -0.5))
        elif kind <= 5:
            same_kind = [(h, k) for h, k in places if type(h[k]) is type(holder[key])]
            other_holder, other_key = rng.choice(same_kind)
            holder[key] = copy.deepcopy(other_holder[other_key])
        elif kind == 6 and isinstance(holder, list):
            holder += [copy.deepcopy(holder[key])] * rng.choice((1, 3, 100))
        else:
            holder[key] = copy.deepcopy(rng.choice(STRANGE))
    return document


def make_case(rng: random.Random, seeds: list[Gltf]) -> bytes:
    gltf = rng.choice(seeds)
    document, binary = gltf.finished(), gltf.binary
    kind = rng.choices(("container", "binary", "json", "json text"), (1, 3, 6, 1))[0]
    if kind == "json":
        document = damage_json(rng, document)
    text = json.dumps(document).encode("utf-8", "surrogatepass")
    if kind == "json text":
        text = damage_bytes(rng, text)
    if kind == "binary":
        binary = damage_bytes(rng, binary)[: len(binary)].ljust(len(binary), b"\xaa")
    data = pack_glb(text, binary)
    return damage_bytes(rng, data) if kind == "container" else data


def check(path: Path) -> str:
    """Load the file and look at what comes out; how it ended, in a word.

    Raises
    ------
    AssertionError : an asset with broken arrays, or too slow.
    """
    start, asset, refusal = time.perf_counter(), None, ""
    try:
        asset = load(path)
    except VoxlumeError as error:
        refusal = str(error)
    assert time.perf_counter() - start < SECONDS_LIMIT, "too slow"
    if asset is None:
        assert "\n" not in refusal, "error of several lines"
        assert 0 < len(refusal) < 400, "long error"
        return "refused"
    for mesh in asset.meshes:
        assert np.isfinite(mesh.vertices).all(), "vertex not finite"
        assert mesh.faces.min() >= 0, "negative index"
        assert mesh.faces.max() < len(mesh.vertices), "index out of range"
        for array in (*mesh.uvs, *mesh.attributes.values(), mesh.normals, mesh.colors):
            if array is not None:
                assert len(array) == len(mesh.vertices), "array of another length"
                assert np.isfinite(array).all(), "value not finite"
    return "loaded"


def run(cases: range, seed: int, report: Callable[[str], None] = print) -> int:
    """Run the cases; the number of failures."""

    def too_long(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError("hangs")

    signal.signal(signal.SIGALRM, too_long)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    seeds = [textured(), animated(), draco(), compressed()]
    ends, failures = {"refused": 0, "loaded": 0}, 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.glb"
        for gltf in seeds:  # undamaged they must load; this also compiles the decoders before time counts
            path.write_bytes(gltf.glb())
            load(path)
        for case in cases:
            path.write_bytes(make_case(random.Random(f"{seed}/{case}"), seeds))
            signal.alarm(2 * SECONDS_LIMIT)
            try:
                ends[check(path)] += 1
            except Exception as error:  # anything but the package's own error is a finding
                failures += 1
                report(f"seed {seed}, case {case}: {type(error).__name__}: {error}")
            signal.alarm(0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    report(f"{len(cases)} cases: {ends}, {failures} failures, peak memory {peak} MiB")
    return failures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="the number of a single case")
    options = parser.parse_args()
    cases = range(options.cases) if options.only is None else range(options.only, options.only + 1)
    sys.exit(min(run(cases, options.seed), 1))


if __name__ == "__main__":
    main()
