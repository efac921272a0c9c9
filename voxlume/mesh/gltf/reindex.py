"""New vertices for a primitive, each a copy of an old one, so that a UV seam can run between them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxlume.errors import AssetError
from voxlume.mesh.gltf.accessors import Accessors
from voxlume.mesh.gltf.container import GltfFile
from voxlume.mesh.gltf.edit import GltfEdit, Json
from voxlume.mesh.gltf.flatten import Shown
from voxlume.mesh.gltf.primitives import stored_arrays
from voxlume.mesh.gltf.values import Record

_ARRAY_BUFFER, _ELEMENT_ARRAY_BUFFER = 34962, 34963
_DRACO = "KHR_draco_mesh_compression"


def reindex_primitive(
    edit: GltfEdit,
    file: GltfFile,
    accessors: Accessors,
    shown: Shown,
    vertex: NDArray[np.int32],
    faces: NDArray[np.int32],
    uvs: NDArray[np.float32],
) -> int:
    """Write the primitive's vertices anew with one more UV set; values keep their type and their bits.

    Strips and fans become lists of triangles, a Draco stream what it unpacks to.

    Parameters
    ----------
    edit, file, accessors : the file, to change and to read.
    shown : the primitive.
    vertex : int32 (k,), for each new vertex the one of ``shown.surface`` that it copies.
    faces : int32 (m, 3) over the new vertices.
    uvs : float32 (k, 2).

    Returns
    -------
    The number of the new UV set.
    """
    surface = shown.surface
    primitive = file.root.records("meshes")[shown.mesh].records("primitives")[shown.primitive]
    changed: Json = edit.document["meshes"][shown.mesh]["primitives"][shown.primitive]
    attributes = primitive.record("attributes")
    stored, old_faces = stored_arrays(primitive, attributes, accessors, file)
    row_of = np.zeros(len(surface.positions), np.int64)
    row_of[surface.faces.reshape(-1)] = old_faces.reshape(-1)
    rows = row_of[vertex]

    def copied(record: Record, name: str, known: bool) -> int | None:
        index = record.reference(name, accessors.records)
        assert index is not None
        try:
            accessor = stored[name] if known and name in stored else accessors.read(index)
        except AssetError as error:
            edit.notes.append(f"{record.where}: {name} was left out: {error}")
            return None
        like = accessors.records[index]
        bounds = "min" in like or "max" in like
        return edit.append_accessor(accessor.data[rows], _ARRAY_BUFFER, like.fields, bounds=bounds)

    names = {name: copied(attributes, name, True) for name in attributes.fields}
    texcoord = 0
    while f"TEXCOORD_{texcoord}" in names:
        texcoord += 1
    names[f"TEXCOORD_{texcoord}"] = edit.append_accessor(uvs, _ARRAY_BUFFER)
    changed["attributes"] = {name: index for name, index in names.items() if index is not None}
    morphs = []
    for morph in primitive.records("targets"):
        found = {name: copied(morph, name, False) for name in morph.fields}
        morphs.append({name: index for name, index in found.items() if index is not None})
    if morphs:
        changed["targets"] = morphs
    largest = int(faces.max())
    indices = faces.astype(np.uint16 if largest < 65535 else np.uint32).reshape(-1, 1)
    changed["indices"] = edit.append_accessor(indices, _ELEMENT_ARRAY_BUFFER)
    changed.pop("mode", None)  # a list of triangles
    extensions = changed.get("extensions", {})
    extensions.pop(_DRACO, None)
    if not extensions:
        changed.pop("extensions", None)
    return texcoord
