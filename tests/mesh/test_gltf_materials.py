"""Materials, textures and images of glTF files; expectations by the definitions of the extensions."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.mesh.gltf_builder import Gltf
from voxlume.asset import Asset, Material
from voxlume.errors import AssetError
from voxlume.mesh.gltf.spec_gloss import convert
from voxlume.mesh.images import decode_images
from voxlume.mesh.read import load
from voxlume.srgb import linear_to_srgb, srgb_to_linear

RGB = np.random.default_rng(0).integers(0, 256, (8, 16, 3), np.uint8)


def with_material(gltf: Gltf, **material: object) -> Gltf:
    return gltf.show(gltf.quad(material=gltf.add("materials", **material)))


def only_material(asset: Asset) -> Material:
    assert len(asset.materials) == 1
    return asset.materials[0]


def test_defaults(tmp_path: Path) -> None:
    material = only_material(load(with_material(Gltf()).save(tmp_path)))
    assert material.base_color_factor == (1, 1, 1, 1)
    assert (material.metallic_factor, material.roughness_factor) == (1, 1)
    assert (material.alpha_mode, material.alpha_cutoff, material.double_sided) == ("OPAQUE", 0.5, False)
    assert material.emissive_factor == (0, 0, 0)
    assert material.base_color_texture is None


def test_no_material(tmp_path: Path) -> None:
    gltf = Gltf()
    asset = load(gltf.show(gltf.quad()).save(tmp_path))
    assert asset.materials == ()
    assert asset.material_of(asset.meshes[0]).metallic_factor == 0


def test_all_factors(tmp_path: Path) -> None:
    gltf = Gltf()
    pbr = {"baseColorFactor": [0.1, 0.2, 0.3, 0.4], "metallicFactor": 0, "roughnessFactor": 0.6}
    extensions = {
        "KHR_materials_emissive_strength": {"emissiveStrength": 4},
        "KHR_materials_transmission": {"transmissionFactor": 0.75},
    }
    with_material(
        gltf,
        name="all",
        pbrMetallicRoughness=pbr,
        alphaMode="MASK",
        alphaCutoff=0.3,
        doubleSided=True,
        emissiveFactor=[0.5, 0.25, 0],
        extensions=extensions,
    )
    material = only_material(load(gltf.save(tmp_path)))
    assert material.name == "all"
    assert material.base_color_factor == (0.1, 0.2, 0.3, 0.4)
    assert (material.metallic_factor, material.roughness_factor) == (0, 0.6)
    assert (material.alpha_mode, material.alpha_cutoff, material.double_sided) == ("MASK", 0.3, True)
    assert material.emissive_factor == (2, 1, 0)
    assert material.transmission_factor == 0.75


def test_every_texture_slot_shares_one_array(tmp_path: Path) -> None:
    gltf = Gltf()
    index = {"index": gltf.texture(RGB)}
    with_material(
        gltf,
        pbrMetallicRoughness={"baseColorTexture": index, "metallicRoughnessTexture": index},
        normalTexture={**index, "scale": 0.5},
        occlusionTexture=index,
        emissiveTexture=index,
        extensions={"KHR_materials_transmission": {"transmissionTexture": index}},
    )
    material = only_material(load(gltf.save(tmp_path)))
    textures = [
        material.base_color_texture,
        material.metallic_roughness_texture,
        material.normal_texture,
        material.occlusion_texture,
        material.emissive_texture,
        material.transmission_texture,
    ]
    images = [t.image for t in textures if t is not None]
    assert len(images) == 6
    assert all(image is images[0] for image in images)
    np.testing.assert_array_equal(images[0], RGB)
    assert material.normal_scale == 0.5


@pytest.mark.parametrize(
    ("sampler", "wrap", "nearest"),
    [
        ({}, ("repeat", "repeat"), False),
        ({"wrapS": 33071, "wrapT": 33648}, ("clamp", "mirror"), False),
        ({"magFilter": 9728, "wrapS": 10497}, ("repeat", "repeat"), True),
        ({"magFilter": 9729, "minFilter": 9728}, ("repeat", "repeat"), False),
        ({"minFilter": 9984}, ("repeat", "repeat"), True),
        ({"minFilter": 9987}, ("repeat", "repeat"), False),
    ],
)
def test_samplers(tmp_path: Path, sampler: dict, wrap: tuple, nearest: bool) -> None:
    gltf = Gltf()
    with_material(gltf, pbrMetallicRoughness={"baseColorTexture": {"index": gltf.texture(RGB, **sampler)}})
    texture = only_material(load(gltf.save(tmp_path))).base_color_texture
    assert texture is not None
    assert texture.wrap == wrap
    assert texture.nearest is nearest


def test_texture_transform_and_uv_set(tmp_path: Path) -> None:
    offset, angle, scale = np.array([0.3, -0.2]), 0.4, np.array([2.0, 0.5])
    gltf = Gltf()
    transform = {"offset": offset.tolist(), "rotation": angle, "scale": scale.tolist(), "texCoord": 1}
    info = {"index": gltf.texture(RGB), "texCoord": 0, "extensions": {"KHR_texture_transform": transform}}
    with_material(gltf, pbrMetallicRoughness={"baseColorTexture": info})
    asset = load(gltf.save(tmp_path))
    texture = only_material(asset).base_color_texture
    assert texture is not None
    assert texture.texcoord == 1
    uv = np.array([0.25, 0.75])
    scaled = uv * scale
    # Counter-clockwise in the picture, where v points down: the angle of (u, -v) grows.
    turned = complex(scaled[0], -scaled[1]) * np.exp(1j * angle)
    expected = np.array([turned.real, -turned.imag]) + offset
    np.testing.assert_allclose(texture.transform @ [*uv, 1], expected, atol=1e-12)
    # The quad has no second UV set: one of zeros is put in, with a warning.
    assert len(asset.meshes[0].uvs) == 2
    assert "TEXCOORD_1" in asset.warnings[0]


def test_texture_transform_without_texcoord_keeps_the_infos(tmp_path: Path) -> None:
    gltf = Gltf()
    info = {"index": gltf.texture(RGB), "texCoord": 1, "extensions": {"KHR_texture_transform": {}}}
    with_material(gltf, pbrMetallicRoughness={"baseColorTexture": info})
    texture = only_material(load(gltf.save(tmp_path))).base_color_texture
    assert texture is not None
    assert texture.texcoord == 1
    np.testing.assert_array_equal(texture.transform, np.eye(2, 3))


def test_unlit(tmp_path: Path) -> None:
    gltf = Gltf()
    texture = {"index": gltf.texture(RGB)}
    pbr = {
        "metallicFactor": 1,
        "roughnessFactor": 0,
        "metallicRoughnessTexture": texture,
        "baseColorTexture": texture,
    }
    with_material(gltf, pbrMetallicRoughness=pbr, extensions={"KHR_materials_unlit": {}})  # fmt: skip
    material = only_material(load(gltf.save(tmp_path)))
    assert (material.metallic_factor, material.roughness_factor) == (0, 1)
    assert material.metallic_roughness_texture is None
    assert material.base_color_texture is not None


def test_variants_show_the_default_material(tmp_path: Path) -> None:
    gltf = Gltf()
    gltf.doc["extensions"] = {"KHR_materials_variants": {"variants": [{"name": "a"}, {"name": "b"}]}}
    names = [gltf.add("materials", name=name) for name in ("default", "a", "b")]
    mappings = [{"material": names[i], "variants": [i - 1]} for i in (1, 2)]
    mesh = gltf.quad(material=0, extensions={"KHR_materials_variants": {"mappings": mappings}})
    assert [m.name for m in load(gltf.show(mesh).save(tmp_path)).materials] == ["default"]


def test_only_used_materials_and_images_are_read(tmp_path: Path) -> None:
    gltf = Gltf()
    broken = gltf.add(
        "textures", source=gltf.add("images", bufferView=gltf.view(b"broken"), mimeType="image/png")
    )
    gltf.add("materials", name="unused", pbrMetallicRoughness={"baseColorTexture": {"index": broken}})
    used = gltf.add("materials", name="used")
    asset = load(gltf.show(gltf.quad(), gltf.quad(material=used)).save(tmp_path))
    assert [m.name for m in asset.materials] == ["used"]
    assert sorted(m.material for m in asset.meshes) == [-1, 0]
    assert asset.warnings == ()


# -- specular-glossiness -------------------------------------------------------------------------------------


def slow_conversion(diffuse: NDArray, specular: NDArray) -> tuple[list[float], float]:
    """The conversion for one colour in plain numbers."""

    def brightness(c: NDArray) -> float:
        return float((0.299 * c[0] ** 2 + 0.587 * c[1] ** 2 + 0.114 * c[2] ** 2) ** 0.5)

    strength = float(max(specular))
    d, s = brightness(diffuse), brightness(specular)
    metallic = 0.0
    if s >= 0.04:
        b = d * (1 - strength) / 0.96 + s - 0.08
        c = 0.04 - s
        metallic = min(max((-b + max(b * b - 0.16 * c, 0) ** 0.5) / 0.08, 0), 1)
    base = []
    for k in range(3):
        from_diffuse = diffuse[k] * (1 - strength) / 0.96 / max(1 - metallic, 1e-6)
        from_specular = (specular[k] - 0.04 * (1 - metallic)) / max(metallic, 1e-6)
        mixed = from_diffuse * (1 - metallic**2) + from_specular * metallic**2
        base.append(float(min(max(mixed, 0), 1)))
    return base, metallic


def test_specular_glossiness_formula() -> None:
    rng = np.random.default_rng(5)
    diffuse, specular = rng.uniform(size=(200, 3)), rng.uniform(size=(200, 3)) ** 3
    base, metallic = convert(diffuse, specular)
    for i in range(200):
        expected_base, expected_metallic = slow_conversion(diffuse[i], specular[i])
        np.testing.assert_allclose(metallic[i], expected_metallic, atol=1e-6)
        np.testing.assert_allclose(base[i], expected_base, atol=1e-5)


def test_specular_glossiness_inverts_the_metallic_roughness_model() -> None:
    """A non-metal and a metal written as specular-glossiness come back as themselves."""
    color = np.array([0.8, 0.4, 0.1])
    base, metallic = convert(color * 0.96 / 0.96, np.full(3, 0.04))
    np.testing.assert_allclose(base, color, atol=1e-3)
    assert metallic == pytest.approx(0, abs=1e-3)
    base, metallic = convert(np.zeros(3), color)
    np.testing.assert_allclose(base, color, atol=1e-3)
    assert metallic == pytest.approx(1, abs=1e-3)


def spec_gloss_material(gltf: Gltf, **fields: object) -> Gltf:
    return with_material(gltf, extensions={"KHR_materials_pbrSpecularGlossiness": fields})


def test_specular_glossiness_factors(tmp_path: Path) -> None:
    gltf = spec_gloss_material(
        Gltf(), diffuseFactor=[0.2, 0.3, 0.4, 0.5], specularFactor=[0.3, 0.2, 0.1], glossinessFactor=0.7
    )
    material = only_material(load(gltf.save(tmp_path)))
    base, metallic = slow_conversion(np.array([0.2, 0.3, 0.4]), np.array([0.3, 0.2, 0.1]))
    np.testing.assert_allclose(material.base_color_factor, [*base, 0.5], atol=1e-6)
    assert material.metallic_factor == pytest.approx(metallic, abs=1e-6)
    assert material.roughness_factor == pytest.approx(0.3)


@pytest.mark.parametrize("given", ["both", "different sizes", "diffuse", "specular"])
def test_specular_glossiness_textures(tmp_path: Path, given: str) -> None:
    rng = np.random.default_rng(2)
    diffuse = rng.integers(0, 256, (6, 5, 4), np.uint8)
    specular = rng.integers(0, 256, (6, 5, 4), np.uint8)
    specular[:3, :, :3] //= 8
    if given == "different sizes":
        specular = np.repeat(np.repeat(specular[:1, :1], 3, 0), 2, 1)
    gltf = Gltf()
    fields: dict = {
        "diffuseFactor": [0.9, 0.8, 0.7, 0.6],
        "specularFactor": [0.5, 0.6, 0.7],
        "glossinessFactor": 0.9,
    }
    if given != "specular":
        fields["diffuseTexture"] = {"index": gltf.texture(diffuse)}
    if given != "diffuse":
        fields["specularGlossinessTexture"] = {"index": gltf.texture(specular)}
    material = only_material(load(spec_gloss_material(gltf, **fields).save(tmp_path)))
    assert material.base_color_texture is not None
    assert material.metallic_roughness_texture is not None
    assert material.base_color_factor == (1, 1, 1, 1)
    base_image, surface_image = material.base_color_texture.image, material.metallic_roughness_texture.image
    assert base_image.shape == (6, 5, 4)
    for y in range(6):
        for x in range(5):
            d = diffuse[y, x] / 255 if given != "specular" else np.ones(4)
            s = specular[y % len(specular), x % specular.shape[1]] / 255 if given != "diffuse" else np.ones(4)
            linear_d = srgb_to_linear(d[:3]) * fields["diffuseFactor"][:3]
            linear_s = srgb_to_linear(s[:3]) * fields["specularFactor"]
            base, metallic = slow_conversion(linear_d, linear_s)
            expected = [*linear_to_srgb(np.array(base)), d[3] * 0.6]
            np.testing.assert_allclose(base_image[y, x] / 255, expected, atol=0.52 / 255)
            expected_surface = [1 - s[3] * 0.9, metallic]
            np.testing.assert_allclose(surface_image[y, x, 1:] / 255, expected_surface, atol=0.51 / 255)


def test_specular_glossiness_wins_over_the_fallback(tmp_path: Path) -> None:
    gltf = Gltf()
    fallback = {"baseColorTexture": {"index": gltf.texture(RGB)}, "metallicFactor": 1}
    values = {"diffuseFactor": [1, 0, 0, 1], "specularFactor": [0, 0, 0]}
    extensions = {"KHR_materials_pbrSpecularGlossiness": values}
    with_material(gltf, pbrMetallicRoughness=fallback, extensions=extensions)
    material = only_material(load(gltf.save(tmp_path)))
    assert material.base_color_texture is None
    np.testing.assert_allclose(material.base_color_factor, [1, 0, 0, 1])
    assert material.metallic_factor == 0


# -- images --------------------------------------------------------------------------------------------------


def encoded(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


GREY = Image.fromarray(RGB[..., 0])
COLOR = Image.fromarray(RGB)
RGBA = np.concatenate([RGB, RGB[..., 1:2]], axis=2)
PALETTE = COLOR.quantize(16)


def sixteen_bit() -> tuple[bytes, NDArray[np.uint8]]:
    values = np.arange(0, 65536, 257 * 4 + 31, dtype=np.uint16)[None]
    return encoded(Image.fromarray(values)), np.round(values / 257).astype(np.uint8)[..., None]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encoded(GREY), RGB[..., :1]),
        (encoded(COLOR), RGB),
        (encoded(Image.fromarray(RGBA)), RGBA),
        (encoded(Image.fromarray(RGBA[..., :2])), RGBA[..., :2]),
        (encoded(GREY.convert("1")), np.asarray(GREY.convert("1").convert("L"))[..., None]),
        (encoded(PALETTE), np.asarray(PALETTE.convert("RGB"))),
        (encoded(PALETTE, transparency=3), np.asarray(PALETTE.convert("RGB"))),
        sixteen_bit(),
        (encoded(COLOR, "WEBP", lossless=True), RGB),
        (encoded(Image.fromarray(RGBA), "TIFF"), RGBA),
    ],
)
def test_image_kinds(data: bytes, expected: NDArray[np.uint8]) -> None:
    images, problems = decode_images({"a": data})
    assert problems == {}
    image = images["a"]
    assert image.dtype == np.uint8
    if image.shape[2] == 4 and expected.shape[2] == 3:  # palette with one transparent entry
        np.testing.assert_array_equal(image[..., 3], np.where(np.asarray(PALETTE) == 3, 0, 255))
        image = image[..., :3]
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("file_format", ["WEBP", "AVIF", "JPEG"])
def test_lossy_formats(file_format: str) -> None:
    smooth = np.linspace(0, 255, 64).astype(np.uint8)[None, :, None].repeat(64, 0).repeat(3, 2)
    images, problems = decode_images({0: encoded(Image.fromarray(smooth), file_format, quality=95)})
    assert problems == {}
    np.testing.assert_allclose(images[0].astype(int), smooth, atol=8)


def test_cmyk_jpeg_becomes_rgb() -> None:
    images, _ = decode_images({0: encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95)})
    assert images[0].shape == (8, 8, 3)
    assert images[0][..., 0].min() > 200
    assert images[0][..., 1].max() < 60


def test_damaged_and_refused_images() -> None:
    good = encoded(COLOR)
    files = {
        "truncated": good[: len(good) // 2],
        "empty": b"",
        "text": b"hello",
        "flipped": good[:60] + bytes(byte ^ 255 for byte in good[60:]),
        "ktx": b"\xabKTX 20\xbb\r\n\x1a\n",
        "good": good,
    }
    images, problems = decode_images(files)
    assert set(images) == {"good"}
    assert set(problems) == set(files) - {"good"}
    assert all(reason and "\n" not in reason for reason in problems.values())


def test_format_list_is_respected() -> None:
    _, problems = decode_images({0: encoded(COLOR, "BMP")}, formats=("PNG", "JPEG"))
    assert "known format" in problems[0]


def test_images_out_of_proportion_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voxlume.mesh.images.BUDGET_FLOOR", 2_500_000)
    bomb = encoded(Image.new("1", (1000, 1000)))
    images, problems = decode_images({i: bomb + bytes(i) for i in range(4)}, file_bytes=len(bomb))
    assert len(images) == 2
    assert "out of proportion" in problems[3]
    images, _ = decode_images({i: bomb + bytes(i) for i in range(4)}, file_bytes=50_000)
    assert len(images) == 4
    _, problems = decode_images({0: encoded(Image.new("1", (16385, 2)))})
    assert "16384" in problems[0]


def test_equal_files_are_decoded_once() -> None:
    images, _ = decode_images({0: encoded(COLOR), 1: encoded(COLOR)})
    assert images[0] is images[1]


@pytest.mark.parametrize("problem", ["corrupt", "missing", "no source"])
def test_texture_that_cannot_be_read_leaves_the_factor(tmp_path: Path, problem: str) -> None:
    gltf = Gltf()
    fields: dict = {}
    if problem == "corrupt":
        fields["source"] = gltf.add("images", bufferView=gltf.view(b"\x89PNG nonsense"), mimeType="image/png")
    elif problem == "missing":
        fields["source"] = gltf.add("images", uri="nowhere.png")
    texture = gltf.add("textures", **fields)
    pbr = {"baseColorTexture": {"index": texture}, "baseColorFactor": [1, 0.5, 0, 1]}
    asset = load(with_material(gltf, pbrMetallicRoughness=pbr).save(tmp_path))
    assert only_material(asset).base_color_texture is None
    assert only_material(asset).base_color_factor == (1, 0.5, 0, 1)
    assert len(asset.warnings) == 1
    assert "texture left out" in asset.warnings[0]


@pytest.mark.parametrize("extension", ["EXT_texture_webp", "EXT_texture_avif"])
@pytest.mark.parametrize("broken", [False, True])
def test_extended_image_formats_and_their_fallback(tmp_path: Path, extension: str, broken: bool) -> None:
    flat = np.full((8, 8, 3), 200, np.uint8)
    gltf = Gltf()
    plain = gltf.image(flat // 2)
    if broken:
        extended = gltf.add("images", bufferView=gltf.view(b"RIFFbroken"), mimeType="image/webp")
    else:
        extended = gltf.image(flat, extension[-4:].upper())
    texture = gltf.add("textures", source=plain, extensions={extension: {"source": extended}})
    asset = load(
        with_material(gltf, pbrMetallicRoughness={"baseColorTexture": {"index": texture}}).save(tmp_path)
    )
    read = only_material(asset).base_color_texture
    assert read is not None
    np.testing.assert_allclose(read.image.astype(int), 100 if broken else 200, atol=3)


def test_material_index_out_of_range(tmp_path: Path) -> None:
    gltf = Gltf()
    with pytest.raises(AssetError, match="material"):
        load(gltf.show(gltf.quad(material=3)).save(tmp_path))


@pytest.mark.parametrize("fallback", ["none", "broken", "good"])
def test_ktx2_is_used_where_no_plain_image_can_be(tmp_path: Path, fallback: str) -> None:
    case = json.loads((Path(__file__).parent.parent / "data" / "ktx2.json").read_text())[0]
    expected = np.frombuffer(base64.b64decode(case["rgba"]), np.uint8).reshape(
        case["height"], case["width"], 4
    )
    gltf = Gltf()
    view = gltf.view(base64.b64decode(case["ktx2"]))
    basis = gltf.add("images", bufferView=view, mimeType="image/ktx2")
    fields: dict = {"extensions": {"KHR_texture_basisu": {"source": basis}}}
    if fallback == "good":
        fields["source"] = gltf.image(RGB)
    elif fallback == "broken":
        fields["source"] = gltf.add("images", uri="gone.png")
    else:
        gltf.doc["extensionsRequired"] = ["KHR_texture_basisu"]
    info = {"index": gltf.add("textures", **fields)}
    texture = only_material(load(with_material(gltf, normalTexture=info).save(tmp_path))).normal_texture
    assert texture is not None
    np.testing.assert_array_equal(texture.image, RGB if fallback == "good" else expected)


def test_external_texture_is_read_once_however_often_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "shared.png").write_bytes(encoded(COLOR))
    gltf = Gltf()
    meshes = []
    for _ in range(5):
        texture = gltf.add("textures", source=gltf.add("images", uri="shared.png"))
        meshes.append(gltf.quad(material=gltf.add("materials", emissiveTexture={"index": texture})))
    asset = load(gltf.show(*meshes).save(tmp_path))
    images = [m.emissive_texture.image for m in asset.materials if m.emissive_texture is not None]
    assert len(images) == 5
    assert all(image is images[0] for image in images)


@pytest.mark.parametrize("what", ["scale", "offset"])
def test_endless_texture_transform_is_refused(tmp_path: Path, what: str) -> None:
    gltf = Gltf()
    extension = {"KHR_texture_transform": {what: [1e300, 1]}}
    info = {"index": gltf.texture(RGB), "extensions": extension}
    with pytest.raises(AssetError, match="beyond all measure"):
        load(with_material(gltf, normalTexture=info).save(tmp_path))


def test_unlit_wins_over_specular_glossiness(tmp_path: Path) -> None:
    extensions = {
        "KHR_materials_unlit": {},
        "KHR_materials_pbrSpecularGlossiness": {"specularFactor": [1, 1, 1]},
    }
    pbr = {"baseColorFactor": [0.5, 0.25, 0, 1]}
    asset = load(with_material(Gltf(), pbrMetallicRoughness=pbr, extensions=extensions).save(tmp_path))
    assert only_material(asset).base_color_factor == (0.5, 0.25, 0, 1)
    assert only_material(asset).metallic_factor == 0
