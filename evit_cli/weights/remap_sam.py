"""Our names of a SAM model's tensors -> the published ones."""

from __future__ import annotations

import re

_GAUSSIAN = "positional_encoding_gaussian_matrix"

_DECODER: tuple[tuple[str, str], ...] = (
    (r"^decoder\.prompts\.places\.frequencies", f"prompt_encoder.pe_layer.{_GAUSSIAN}"),
    (r"^decoder\.prompts\.points\.(\d)", r"prompt_encoder.point_embeddings.\1.weight"),
    (r"^decoder\.prompts\.padding", "prompt_encoder.not_a_point_embed.weight"),
    (r"^decoder\.prompts\.no_mask", "prompt_encoder.no_mask_embed.weight"),
    (r"^decoder\.prompts\.mask\.", "prompt_encoder.mask_downscaling."),
    (r"^decoder\.(iou_token|mask_tokens)$", r"mask_decoder.\1.weight"),
    (r"^decoder\.enlarge\.", "mask_decoder.output_upscaling."),
    (r"^decoder\.mask_weights\.", "mask_decoder.output_hypernetworks_mlps."),
    (r"^decoder\.iou\.", "mask_decoder.iou_prediction_head."),
    (r"^decoder\.transformer\.last\.", "mask_decoder.transformer.final_attn_token_to_image."),
    (r"^decoder\.transformer\.norm\.", "mask_decoder.transformer.norm_final_attn."),
    (r"^decoder\.transformer\.", "mask_decoder.transformer."),
    (r"\.self_attention\.", ".self_attn."),
    (r"\.to_pixels\.", ".cross_attn_token_to_image."),
    (r"\.to_tokens\.", ".cross_attn_image_to_token."),
    (r"\.norm_self\.", ".norm1."),
    (r"\.norm_to_pixels\.", ".norm2."),
    (r"\.norm_mlp\.", ".norm3."),
    (r"\.norm_to_tokens\.", ".norm4."),
    (r"\.mlp\.0\.", ".mlp.lin1."),
    (r"\.mlp\.2\.", ".mlp.lin2."),
    (r"\.query\.", ".q_proj."),
    (r"\.key\.", ".k_proj."),
    (r"\.value\.", ".v_proj."),
    (r"(_attn|_image|_token)\.out\.", r"\1.out_proj."),
)

NECK: list[tuple[str, str]] = [
    (r"^neck\.projections\.(\d)\.", r"neck.input_ops.\1.op_list.0."),
    (r"^neck\.blocks\.", "neck.middle.op_list."),
    (r"^neck\.out\.", "neck.output_ops.0.op_list.0.conv."),
]
"""For what follows "encoder." in our names, beside the backbone's rules."""


def published_decoder_name(name: str) -> str:
    """The published name of a tensor that we call decoder.*; each rule may apply, in turn."""
    for pattern, replacement in _DECODER:
        name = re.sub(pattern, replacement, name)
    return name
