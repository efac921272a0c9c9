"""KHR_draco_mesh_compression: triangles and attributes from a Draco stream.

The stream's own counts are read and compared with the accessors before the decoder sees it, because the
decoder allocates what the stream announces (Draco bitstream specification 2.2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxlume.errors import AssetError
from voxlume.mesh.gltf.accessors import COMPONENT_DTYPES, NUM_COMPONENTS, Accessor, Accessors
from voxlume.mesh.gltf.container import GltfFile
from voxlume.mesh.gltf.values import Record

_HEADER_BYTES = 11
_METADATA_FLAG = 0x8000
_SEQUENTIAL, _EDGEBREAKER = 0, 1


def decode_draco(
    draco: Record, primitive: Record, attributes: Record, accessors: Accessors, file: GltfFile
) -> tuple[dict[str, Accessor], NDArray[np.integer]]:
    """Attributes by name and triangles (m, 3) of a compressed primitive.

    Raises
    ------
    AssetError : the stream is damaged or does not hold what the accessors say.
    """
    import DracoPy

    data = bytes(accessors.view_bytes(draco))
    index = attributes.reference("POSITION", accessors.records)
    assert index is not None
    num_points = accessors.count(index)
    num_faces = _announced_faces(data, draco.where)
    indices = primitive.reference("indices", accessors.records)
    if indices is not None and num_faces * 3 != accessors.count(indices):
        raise AssetError(
            f"{draco.where} holds {num_faces} triangles, its accessor says {accessors.count(indices)} indices"
        )
    file.budget.spend(num_faces * 12 + num_points * 12 * max(len(attributes.fields), 1), draco.where)
    try:
        mesh = DracoPy.decode(data)
    except Exception as error:  # the binding raises its own and built-in types for damaged streams
        raise AssetError(f"{draco.where}: the Draco stream is damaged ({error})") from error
    faces = np.asarray(getattr(mesh, "faces", np.empty((0, 3))))
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu":
        raise AssetError(f"{draco.where} holds no triangles")
    by_id = {a["unique_id"]: np.asarray(a["data"]) for a in mesh.attributes}
    ids = draco.record("attributes")
    stored = {}
    for name in attributes.fields:
        index = attributes.reference(name, accessors.records)
        assert index is not None
        if name not in ids:
            stored[name] = accessors.read(index)
            continue
        values = by_id.get(ids.integer(name, high=2**32 - 1))
        if values is None:
            raise AssetError(f"{draco.where} has no attribute for {name}")
        stored[name] = _as_accessor(values, accessors.records[index], num_points)
    return stored, faces


def _as_accessor(values: NDArray, record: Record, num_points: int) -> Accessor:
    """Decoded values under the type that their accessor declares."""
    dtype = COMPONENT_DTYPES[record.choice("componentType", tuple(COMPONENT_DTYPES))]
    width = NUM_COMPONENTS[record.choice("type", tuple(NUM_COMPONENTS))]
    values = values.reshape(len(values), -1)
    if values.shape != (num_points, width) or values.dtype.kind not in "iuf":
        raise AssetError(
            f"{record.where} describes {num_points} x {width} values, the Draco stream holds "
            f"{len(values)} x {values.shape[1]}"
        )
    return Accessor(values.astype(dtype, copy=False), record.flag("normalized"), record.where)


def _announced_faces(data: bytes, where: str) -> int:
    """The number of triangles in a stream's connectivity header, checked for plausibility."""
    if len(data) < _HEADER_BYTES + 2 or data[:5] != b"DRACO":
        raise AssetError(f"{where} is not a Draco stream")
    major, minor, kind, method = data[5:9]
    if (major, minor) != (2, 2):
        raise AssetError(f"{where}: Draco bitstream {major}.{minor} is not supported, only 2.2")
    if kind != 1 or method not in (_SEQUENTIAL, _EDGEBREAKER):
        raise AssetError(f"{where} is a Draco stream, but not of triangles")
    try:
        position = _HEADER_BYTES
        if int.from_bytes(data[9:11], "little") & _METADATA_FLAG:
            position = _after_metadata(data, position)
        if method == _EDGEBREAKER:
            _, position = _varint(data, position + 1)  # after the traversal type: vertices, then faces
        faces, _ = _varint(data, position)
    except IndexError as error:
        raise AssetError(f"{where}: the Draco stream is cut off") from error
    return faces


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A little-endian base-128 integer and the position after it."""
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128 or shift > 63:
            return value, position


def _after_metadata(data: bytes, position: int) -> int:
    """Skip per-attribute and file metadata: nested lists of (name, value) entries."""
    attribute_elements, position = _varint(data, position)
    for element in range(attribute_elements + 1):
        if element < attribute_elements:
            _, position = _varint(data, position)  # attribute id
        pending = [1]  # elements still to come, by nesting depth; only the outermost has no name
        while pending:
            if pending[-1] == 0:
                pending.pop()
                continue
            pending[-1] -= 1
            if len(pending) > 1:
                position += 1 + data[position]
            entries, position = _varint(data, position)
            for _ in range(entries):
                position += 1 + data[position]
                size, position = _varint(data, position)
                position += size
            children, position = _varint(data, position)
            pending.append(children)
    return position
