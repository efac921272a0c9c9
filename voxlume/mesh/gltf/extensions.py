"""Which glTF extensions are known here, and how."""

from __future__ import annotations

READ_EXTENSIONS = frozenset(
    {
        "EXT_mesh_gpu_instancing",
        "EXT_meshopt_compression",
        "EXT_texture_avif",
        "EXT_texture_webp",
        "KHR_draco_mesh_compression",
        "KHR_materials_emissive_strength",
        "KHR_materials_pbrSpecularGlossiness",
        "KHR_materials_transmission",
        "KHR_materials_unlit",
        "KHR_materials_variants",
        "KHR_mesh_quantization",
        "KHR_meshopt_compression",
        "KHR_node_visibility",
        "KHR_texture_basisu",
        "KHR_texture_transform",
    }
)
"""Extensions whose meaning is read."""

IGNORED_EXTENSIONS = frozenset(
    {
        "KHR_animation_pointer",
        "KHR_lights_punctual",
        "KHR_materials_anisotropy",
        "KHR_materials_clearcoat",
        "KHR_materials_diffuse_transmission",
        "KHR_materials_dispersion",
        "KHR_materials_ior",
        "KHR_materials_iridescence",
        "KHR_materials_sheen",
        "KHR_materials_specular",
        "KHR_materials_volume",
        "KHR_node_hoverability",
        "KHR_node_selectability",
        "KHR_xmp_json_ld",
        "EXT_lights_image_based",
        "EXT_lights_ies",
        "EXT_mesh_manifold",
    }
)
"""Extensions without influence on what an asset holds here: shape and metallic-roughness material."""
