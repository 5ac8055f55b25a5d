"""What everything mode is asked for, with the published defaults."""

from __future__ import annotations

from dataclasses import dataclass

from evit_cli.errors import UsageError

_SHARES = (
    "min_predicted_iou", "min_stability", "max_box_iou", "max_crop_box_iou", "crop_overlap_share"
)  # fmt: skip
_LEAST = {
    "points_per_side": 1, "points_per_batch": 1, "crop_points_divisor": 1,
    "stability_offset": 0, "crop_layers": 0, "min_region_px": 0,
}  # fmt: skip


@dataclass(frozen=True)
class GeneratorOptions:
    """How to look for everything in an image.

    The defaults and meanings are those of segment-anything's `SamAutomaticMaskGenerator`, whose
    name for each stands in brackets.

    Attributes:
        points_per_side: the grid of points has this many rows and columns [points_per_side].
        points_per_batch: prompts that the decoder gets at once; changes memory and speed, not the
            result [points_per_batch].
        min_predicted_iou: drop masks that the model itself rates at or below this, 0 to 1; 0 keeps
            all [pred_iou_thresh].
        min_stability: drop masks whose stability is below this, 0 to 1; 0 keeps all. Stability is
            the IoU of the mask cut above and below the threshold [stability_score_thresh].
        stability_offset: how far above and below, in logits [stability_score_offset].
        max_box_iou: of two masks of one crop whose boxes overlap by more than this IoU, the one
            rated lower is dropped [box_nms_thresh].
        crop_layers: also look at crops of the image: layer i cuts it into 2^i x 2^i crops, the
            whole image is layer 0 [crop_n_layers].
        max_crop_box_iou: the same between crops, where the mask of the smaller crop stays
            [crop_nms_thresh].
        crop_overlap_share: overlap of the crops of layer 1 as a share of the image's short side,
            halved with every further layer [crop_overlap_ratio].
        crop_points_divisor: layer i has points_per_side / divisor^i points per side
            [crop_n_points_downscale_factor].
        min_region_px: fill holes and remove islands with fewer pixels; 0 leaves them
            [min_mask_region_area].

    Raises:
        UsageError: a value is out of its range.
    """

    points_per_side: int = 32
    points_per_batch: int = 64
    min_predicted_iou: float = 0.88
    min_stability: float = 0.95
    stability_offset: float = 1.0
    max_box_iou: float = 0.7
    crop_layers: int = 0
    max_crop_box_iou: float = 0.7
    crop_overlap_share: float = 512 / 1500
    crop_points_divisor: int = 1
    min_region_px: int = 0

    def __post_init__(self) -> None:
        for name in _SHARES:
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise UsageError(f"{name} is {value}, but must be from 0 to 1")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if not least <= value < float("inf"):
                raise UsageError(f"{name} is {value}, but must be {least} or more")
        if self.points_on_layer(self.crop_layers) < 1:
            raise UsageError(
                f"crop layer {self.crop_layers} would have no point: {self.points_per_side} per "
                f"side, divided by {self.crop_points_divisor} on each layer",
                hint="use more points per side, fewer layers or a smaller divisor",
            )

    def points_on_layer(self, layer: int) -> int:
        """Points per side of the grid over a crop of this layer."""
        return int(self.points_per_side / self.crop_points_divisor**layer)
