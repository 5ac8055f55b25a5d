"""The files that the page offers: what is in them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from evit_cli.data.rle import encode_rle
from evit_cli.errors import EvitError
from evit_cli.inference.preprocess import ImageU8
from evit_cli.inference.sam_page.asks import PageObject

PNG = [cv2.IMWRITE_PNG_COMPRESSION, 3]

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Found:
    """An object and what was found for it.

    Attributes:
        asked: its name and prompt.
        mask: (H, W) at the image's size.
        iou: what the model expects the mask's IoU to be.
    """

    asked: PageObject
    mask: Mask
    iou: float


def cut_out(image_rgb_u8: ImageU8, alpha: ImageU8 | None, mask: Mask) -> ImageU8:
    """The image cut to a mask's box: (h, w, 4) BGRA, transparent and black beside the mask.

    Raises:
        EvitError: the mask is empty.
    """
    x, y, across, down = cv2.boundingRect(mask.astype(np.uint8))
    if not across:
        raise EvitError("the mask is empty", hint="click on the object first")
    place = np.s_[y : y + down, x : x + across]
    cover = np.where(mask, 255 if alpha is None else alpha, 0).astype(np.uint8)[place]
    colours = (image_rgb_u8[:, :, ::-1] * mask[:, :, None])[place]
    return np.asarray(np.dstack([colours, cover]), np.uint8)


def coco_document(file_name: str, found: Iterable[Found]) -> dict[str, Any]:
    """Objects as COCO annotations: one image, one category per name.

    Their prompts are kept beside the masks.
    """
    categories: dict[str, int] = {}
    rows: list[dict[str, Any]] = []
    size = (0, 0)
    for one in found:
        size = one.mask.shape
        x, y, across, down = cv2.boundingRect(one.mask.astype(np.uint8))
        asked = one.asked
        rows.append(
            {
                "id": len(rows) + 1,
                "image_id": 1,
                "category_id": categories.setdefault(asked.name, len(categories) + 1),
                "segmentation": encode_rle(one.mask),
                "area": int(one.mask.sum()),
                "bbox": [x, y, across, down],
                "iscrowd": 0,
                "predicted_iou": round(one.iou, 4),
                "points": [list(point) for point in asked.points],
                "labels": list(asked.labels),
                "box": None if asked.box is None else list(asked.box),
            }
        )
    return {
        "images": [{"id": 1, "file_name": file_name, "height": size[0], "width": size[1]}],
        "categories": [{"id": number, "name": name} for name, number in categories.items()],
        "annotations": rows,
    }


def encoded(suffix: str, pixels: npt.NDArray[Any], options: list[int]) -> bytes:
    """Pixels in OpenCV's order as a file of that kind."""
    done, data = cv2.imencode(suffix, pixels, options)
    if not done:
        raise EvitError(f"the image cannot be encoded as {suffix}")
    return bytes(data.tobytes())
