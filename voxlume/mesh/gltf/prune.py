"""What an edit of a glTF file left without a use: textures, images, accessors, and their bytes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]

_KINDS = ("textures", "images", "samplers", "accessors", "bufferViews")

# What refers to things in ways that are not followed here.
_OPAQUE = frozenset({"EXT_lights_image_based", "EXT_mesh_manifold"})


def drop_orphans(document: Json, original: Json, known_extensions: frozenset[str]) -> bool:
    """Remove from the document what the original refers to and the document no longer does.

    Lists close up and every reference follows. What was without a use before stays, and so does everything
    if the file has an extension that may refer to things in ways of its own.

    Parameters
    ----------
    document, original : the same file after and before the edit; lists may have grown at their ends.
    known_extensions : those whose references are known.

    Returns
    -------
    Whether anything was removed.
    """
    _drop_extension_names(document, original)
    if set(document.get("extensionsUsed", [])) - (known_extensions - _OPAQUE):
        return False
    before = _used(original)
    removed: dict[str, set[int]] = {kind: set() for kind in _KINDS}
    while True:
        now = _used(document, removed)
        orphans = {kind: before[kind] - now[kind] - removed[kind] for kind in _KINDS}
        if not any(orphans.values()):
            break
        for kind in _KINDS:
            removed[kind] |= orphans[kind]
    if not any(removed.values()):
        return False
    places = list(_references(document, removed))
    for kind in _KINDS:
        kept = [i for i in range(len(document.get(kind, []))) if i not in removed[kind]]
        number = {old: new for new, old in enumerate(kept)}
        for other, holder, key in places:
            if other == kind:
                holder[key] = number[holder[key]]
        if kept:
            document[kind] = [document[kind][i] for i in kept]
        else:
            document.pop(kind, None)
    return True


def _used(document: Json, removed: dict[str, set[int]] | None = None) -> dict[str, set[int]]:
    used: dict[str, set[int]] = defaultdict(set)
    for kind, holder, key in _references(document, removed or {}):
        used[kind].add(holder[key])
    return used


def _references(document: Json, removed: dict[str, set[int]]) -> Iterator[tuple[str, Json, str]]:
    """Every place (kind of thing, object, key) that holds an index, outside of what was removed."""

    def items(kind: str) -> Iterator[Json]:
        gone = removed.get(kind, set())
        return (item for i, item in enumerate(document.get(kind, [])) if i not in gone)

    def at(kind: str, holder: Json, *keys: str) -> Iterator[tuple[str, Json, str]]:
        return ((kind, holder, key) for key in keys if key in holder)

    for material in items("materials"):
        yield from _texture_infos(material)
    for texture in items("textures"):
        yield from at("samplers", texture, "sampler")
        for holder in (texture, *texture.get("extensions", {}).values()):
            yield from at("images", holder, "source")
    for image in items("images"):
        yield from at("bufferViews", image, "bufferView")
    for mesh in items("meshes"):
        for primitive in mesh.get("primitives", []):
            yield from at("accessors", primitive, "indices")
            for attributes in (primitive.get("attributes", {}), *primitive.get("targets", [])):
                yield from at("accessors", attributes, *attributes)
            for extension in primitive.get("extensions", {}).values():
                yield from at("bufferViews", extension, "bufferView")
    for node in items("nodes"):
        instances = node.get("extensions", {}).get("EXT_mesh_gpu_instancing", {}).get("attributes", {})
        yield from at("accessors", instances, *instances)
    for skin in items("skins"):
        yield from at("accessors", skin, "inverseBindMatrices")
    for animation in items("animations"):
        for sampler in animation.get("samplers", []):
            yield from at("accessors", sampler, "input", "output")
    for accessor in items("accessors"):
        sparse = accessor.get("sparse", {})
        for holder in (accessor, sparse.get("indices", {}), sparse.get("values", {})):
            yield from at("bufferViews", holder, "bufferView")


def _texture_infos(holder: Json) -> Iterator[tuple[str, Json, str]]:
    """Texture infos of a material and of its extensions, which all have names that end alike."""
    for key, value in holder.items():
        if isinstance(value, dict) and key != "extras":
            if key.endswith("Texture") and "index" in value:
                yield "textures", value, "index"
            yield from _texture_infos(value)


def _drop_extension_names(document: Json, original: Json) -> None:
    """Take back the names of extensions that the original has in it and the document no longer."""
    gone = set(_extension_names(original)) - set(_extension_names(document))
    for key in ("extensionsUsed", "extensionsRequired"):
        names = [name for name in document.get(key, []) if name not in gone]
        if names:
            document[key] = names
        else:
            document.pop(key, None)


def _extension_names(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _extension_names(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key == "extensions" and isinstance(item, dict):
                yield from item
            if key != "extras":
                yield from _extension_names(item)
