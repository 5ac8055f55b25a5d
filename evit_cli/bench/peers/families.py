"""How each family of peers is built from its library: with random weights, and no download.

Each function returns the library's model and what takes the one tensor out of its result.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from evit_cli.bench.peers.catalog import Peer
from evit_cli.types import ImageSize

if TYPE_CHECKING:
    from torch import Tensor, nn

Pick = Callable[[Any], "Tensor"]
Family = Callable[[ModuleType, Peer, ImageSize], "tuple[nn.Module, Pick]"]

# size: widths, depths, width of the decoder
_SEGFORMER: dict[str, tuple[list[int], list[int], int]] = {
    "b0": ([32, 64, 160, 256], [2, 2, 2, 2], 256),
    "b1": ([64, 128, 320, 512], [2, 2, 2, 2], 256),
    "b2": ([64, 128, 320, 512], [3, 4, 6, 3], 768),
    "b3": ([64, 128, 320, 512], [3, 4, 18, 3], 768),
    "b4": ([64, 128, 320, 512], [3, 8, 27, 3], 768),
    "b5": ([64, 128, 320, 512], [3, 6, 40, 3], 768),
}


def _itself(out: Any) -> Tensor:
    tensor: Tensor = out
    return tensor


def _logits(out: Any) -> Tensor:
    return _itself(out.logits)


def _reconstruction(out: Any) -> Tensor:
    return _itself(out.reconstruction)


def _embedding(out: Any) -> Tensor:
    return _itself(out.last_hidden_state)


def _class_scores(out: Any) -> Tensor:
    """Each query's mask by the probability of its class: (B, classes, H / 4, W / 4)."""
    classes = out.class_queries_logits.softmax(-1)[..., :-1]  # the last one is "nothing"
    masks = out.masks_queries_logits.sigmoid()
    b, queries, h, w = masks.shape
    scores = classes.transpose(1, 2) @ masks.reshape(b, queries, h * w)
    return _itself(scores.reshape(b, -1, h, w))


def _segformer(library: ModuleType, peer: Peer, size_hw: ImageSize) -> tuple[nn.Module, Pick]:
    widths, depths, decoder = _SEGFORMER[peer.options["size"]]
    config = library.SegformerConfig(
        hidden_sizes=widths, depths=depths, decoder_hidden_size=decoder, num_labels=peer.classes
    )
    return library.SegformerForSemanticSegmentation(config), _logits


def _swin_options(peer: Peer) -> dict[str, Any]:
    heads = peer.options["heads"]
    return {
        "embed_dim": peer.options["dim"],
        "depths": [2, 2, peer.options["depth"], 2],
        "num_heads": [heads, 2 * heads, 4 * heads, 8 * heads],
    }


def _swin(library: ModuleType, peer: Peer, size_hw: ImageSize) -> tuple[nn.Module, Pick]:
    options = _swin_options(peer)
    config = library.SwinConfig(image_size=size_hw[0], num_labels=peer.classes, **options)
    return library.SwinForImageClassification(config), _logits


def _convnext(library: ModuleType, peer: Peer, size_hw: ImageSize) -> tuple[nn.Module, Pick]:
    dim = peer.options["dim"]
    config = library.ConvNextConfig(
        hidden_sizes=[dim, 2 * dim, 4 * dim, 8 * dim],
        depths=[3, 3, peer.options["depth"], 3],
        num_labels=peer.classes,
    )
    return library.ConvNextForImageClassification(config), _logits


def _swin_backbone(library: ModuleType, peer: Peer) -> Any:
    stages = ["stage1", "stage2", "stage3", "stage4"]
    return library.SwinConfig(out_features=stages, **_swin_options(peer))


def _mask2former(library: ModuleType, peer: Peer, size_hw: ImageSize) -> tuple[nn.Module, Pick]:
    config = library.Mask2FormerConfig(
        backbone_config=_swin_backbone(library, peer), num_labels=peer.classes
    )
    return library.Mask2FormerForUniversalSegmentation(config), _class_scores


def _maskformer(library: ModuleType, peer: Peer, size_hw: ImageSize) -> tuple[nn.Module, Pick]:
    config = library.MaskFormerConfig(
        backbone_config=_swin_backbone(library, peer),
        decoder_config=library.DetrConfig(),
        num_labels=peer.classes,
    )
    return library.MaskFormerForInstanceSegmentation(config), _class_scores


def _sam(library: ModuleType, peer: Peer, size_hw: ImageSize) -> tuple[nn.Module, Pick]:
    config = library.SamVisionConfig(
        hidden_size=1280,
        num_hidden_layers=32,
        num_attention_heads=16,
        global_attn_indexes=[7, 15, 23, 31],
        mlp_dim=5120,
        image_size=size_hw[0],
    )
    return library.SamVisionModel(config), _embedding


def _swin2sr(library: ModuleType, peer: Peer, size_hw: ImageSize) -> tuple[nn.Module, Pick]:
    config = library.Swin2SRConfig(
        embed_dim=60,
        depths=[6, 6, 6, 6],
        num_heads=[6, 6, 6, 6],
        upscale=2,
        upsampler="pixelshuffledirect",
    )
    return library.Swin2SRForImageSuperResolution(config), _reconstruction


def _timm(library: ModuleType, peer: Peer, size_hw: ImageSize) -> tuple[nn.Module, Pick]:
    name = peer.options["name"]
    # Only attention with positions needs to know the size.
    sized = {"img_size": tuple(size_hw)} if name.startswith("coatnet") else {}
    return library.create_model(name, num_classes=peer.classes, **sized), _itself


def _deeplab(library: ModuleType, peer: Peer, size_hw: ImageSize) -> tuple[nn.Module, Pick]:
    model = library.DeepLabV3Plus("mobilenet_v2", encoder_weights=None, classes=peer.classes)
    return model, _itself


def _swinir(library: ModuleType, peer: Peer, size_hw: ImageSize) -> tuple[nn.Module, Pick]:
    model = library.architectures.SwinIR.SwinIR(
        upscale=2,
        img_size=64,
        window_size=8,
        embed_dim=60,
        depths=[6, 6, 6, 6],
        num_heads=[6, 6, 6, 6],
        mlp_ratio=2,
        upsampler="pixelshuffledirect",
    )
    return model, _itself


def _restormer(library: ModuleType, peer: Peer, size_hw: ImageSize) -> tuple[nn.Module, Pick]:
    return library.architectures.Restormer.Restormer(), _itself


FAMILIES: dict[str, Family] = {
    "segformer": _segformer,
    "swin": _swin,
    "convnext": _convnext,
    "mask2former": _mask2former,
    "maskformer": _maskformer,
    "sam": _sam,
    "swin2sr": _swin2sr,
    "timm": _timm,
    "deeplab": _deeplab,
    "swinir": _swinir,
    "restormer": _restormer,
}
"""Name of a family -> what builds it."""
