"""The teacher of a SAM image encoder: SAM's own vision transformer, or another model of evit's.

SAM-ViT-H comes from transformers (`SamModel`, https://huggingface.co/docs/transformers/model_doc/sam).
Its prompt encoder and mask decoder become the student's where the sizes agree, as in the paper.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evit_cli.errors import EvitError, require
from evit_cli.models.sam.model import Sam
from evit_cli.models.variants import SamHeadSpec

HUB = {
    "sam-vit-h": "facebook/sam-vit-huge",
    "sam-vit-l": "facebook/sam-vit-large",
    "sam-vit-b": "facebook/sam-vit-base",
}
"""SAM's own models, and where transformers finds them."""

_RENAMED: tuple[tuple[str, str], ...] = (
    (r"^decoder\.prompts\.places\.frequencies", "shared_image_embedding.positional_embedding"),
    (r"^decoder\.prompts\.points\.(\d)", r"prompt_encoder.point_embed.\1.weight"),
    (r"^decoder\.prompts\.padding", "prompt_encoder.not_a_point_embed.weight"),
    (r"^decoder\.prompts\.no_mask", "prompt_encoder.no_mask_embed.weight"),
    (r"^decoder\.prompts\.mask\.0\.", "prompt_encoder.mask_embed.conv1."),
    (r"^decoder\.prompts\.mask\.1\.", "prompt_encoder.mask_embed.layer_norm1."),
    (r"^decoder\.prompts\.mask\.3\.", "prompt_encoder.mask_embed.conv2."),
    (r"^decoder\.prompts\.mask\.4\.", "prompt_encoder.mask_embed.layer_norm2."),
    (r"^decoder\.prompts\.mask\.6\.", "prompt_encoder.mask_embed.conv3."),
    (r"^decoder\.(iou_token|mask_tokens)$", r"mask_decoder.\1.weight"),
    (r"^decoder\.enlarge\.0\.", "mask_decoder.upscale_conv1."),
    (r"^decoder\.enlarge\.1\.", "mask_decoder.upscale_layer_norm."),
    (r"^decoder\.enlarge\.3\.", "mask_decoder.upscale_conv2."),
    (r"^decoder\.mask_weights\.", "mask_decoder.output_hypernetworks_mlps."),
    (r"^decoder\.iou\.", "mask_decoder.iou_prediction_head."),
    (r"\.layers\.0\.(weight|bias)$", r".proj_in.\1"),
    (r"\.layers\.2\.(weight|bias)$", r".proj_out.\1"),
    (r"\.layers\.1\.(weight|bias)$", r".layers.0.\1"),
    (r"^decoder\.transformer\.last\.", "mask_decoder.transformer.final_attn_token_to_image."),
    (r"^decoder\.transformer\.norm\.", "mask_decoder.transformer.layer_norm_final_attn."),
    (r"^decoder\.transformer\.", "mask_decoder.transformer."),
    (r"\.self_attention\.", ".self_attn."),
    (r"\.to_pixels\.", ".cross_attn_token_to_image."),
    (r"\.to_tokens\.", ".cross_attn_image_to_token."),
    (r"\.norm_self\.", ".layer_norm1."),
    (r"\.norm_to_pixels\.", ".layer_norm2."),
    (r"\.norm_mlp\.", ".layer_norm3."),
    (r"\.norm_to_tokens\.", ".layer_norm4."),
    (r"\.mlp\.0\.", ".mlp.lin1."),
    (r"\.mlp\.2\.", ".mlp.lin2."),
    (r"\.query\.", ".q_proj."),
    (r"\.key\.", ".k_proj."),
    (r"\.value\.", ".v_proj."),
    (r"(_attn|_image|_token)\.out\.", r"\1.out_proj."),
)
"""Our names of the decoder's tensors -> those of transformers; each rule may apply, in turn."""


@dataclass(frozen=True)
class EncoderTeacher:
    """An image encoder that knows.

    Attributes:
        encoder: normalised RGB (B, 3, side, side), zero in the padding -> (B, width, h, h), in
            evaluation mode, on the device.
        side: of its square input.
        width: channels of its embedding.
        key: tells it from other teachers.
        decoder: tensors of a decoder that belongs to it.
        name_in: from our name of such a tensor to the one it has there.
    """

    encoder: nn.Module
    side: int
    width: int
    key: str
    decoder: Mapping[str, Tensor]
    name_in: Callable[[str], str] = str

    @torch.no_grad()
    def __call__(self, images: Tensor, grid: int) -> Tensor:
        """Normalised images -> (B, width, grid, grid) float32."""
        found = self.encoder(images)
        values: Tensor = getattr(found, "last_hidden_state", found)
        values = values.float()
        if values.shape[-1] != grid:
            values = F.interpolate(values, size=grid, mode="bilinear", align_corners=False)
        return values


def load_encoder_teacher(
    name: str | None, device: torch.device, *, offline: bool = False
) -> EncoderTeacher:
    """The teacher that a recipe names.

    Args:
        name: "sam-vit-h" (or -l, -b), a folder that transformers wrote, a SAM model's name in
            evit's catalog, or a file of its weights.
        device: where it is to compute.
        offline: make no network request.

    Raises:
        EvitError: it cannot be had, or is no SAM model.
        MissingDependency: SAM's own models need transformers.
    """
    if name is None:
        raise EvitError("the recipe names no teacher", hint="pass --teacher NAME|FILE")
    folder = Path(name).expanduser()
    if name in HUB or (folder / "config.json").is_file():
        return _from_transformers(HUB.get(name, str(folder)), device, offline=offline)
    from evit_cli.weights.load import load_model

    loaded = load_model(name, offline=offline)
    head = loaded.variant.head
    if not isinstance(loaded.model, Sam) or not isinstance(head, SamHeadSpec):
        raise EvitError(f"{name} is no SAM model, so it has no embedding to teach")
    state = loaded.model.state_dict()
    decoder = {key: value for key, value in state.items() if key.startswith("decoder.")}
    encoder = loaded.model.encoder.eval().requires_grad_(False).to(device)
    return EncoderTeacher(encoder, head.input_side, head.width, loaded.info.sha256, decoder)


def _from_transformers(source: str, device: torch.device, *, offline: bool) -> EncoderTeacher:
    require("transformers", extra="peers", why="SAM's own encoder")
    from transformers import SamModel

    try:
        model = SamModel.from_pretrained(source, local_files_only=offline)
    except (OSError, ValueError, RuntimeError) as error:
        raise EvitError(
            f"transformers cannot load {source}: {str(error).splitlines()[0]}",
            hint="name a folder that holds the model, or fetch it once with a network",
        ) from error
    return teacher_of(model, device)


def teacher_of(model: Any, device: torch.device) -> EncoderTeacher:
    """A teacher of transformers' `SamModel`."""
    vision = model.vision_encoder.eval().requires_grad_(False)
    config = model.config.vision_config
    state = model.state_dict()
    text = json.dumps(config.to_dict(), sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode())
    for value in vision.state_dict().values():
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return EncoderTeacher(
        vision.to(device),
        config.image_size,
        config.output_channels,
        digest.hexdigest(),
        {name: value.cpu() for name, value in state.items() if "vision_encoder" not in name},
        name_in_transformers,
    )


def name_in_transformers(name: str) -> str:
    """The name that transformers' `SamModel` gives to a tensor that we call decoder.*."""
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def take_decoder(model: Sam, teacher: EncoderTeacher) -> bool:
    """Give `model` the teacher's decoder if every tensor of it fits; whether it does."""
    taken: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        if name.startswith("decoder."):
            theirs = teacher.decoder.get(teacher.name_in(name))
            if theirs is None or theirs.shape != value.shape:
                return False
            taken[name] = theirs
    model.load_state_dict(taken, strict=False)
    return True
