"""Small images with masks: shapes on noise, in each layout that training reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from evit_cli.data.rle import encode_rle
from evit_cli.models.build import build_model
from evit_cli.models.specs import SamDecoderSpec, SamHeadSpec
from evit_cli.models.variants import BACKBONES, VARIANTS, Variant
from evit_cli.types import Task

Document = dict[str, Any]


def tiny_backbone() -> Any:
    """B0 with a quarter of its channels and one block per stage."""
    b0 = BACKBONES["b0"]
    stages = tuple(
        replace(stage, width=width, depth=1)
        for stage, width in zip(b0.stages, (8, 16, 16, 32), strict=True)
    )
    return replace(b0, name="tiny", stem_width=8, stages=stages, head_dim=8)


TINY = Variant(
    "sam-tiny",
    Task.SAM,
    tiny_backbone(),
    SamHeadSpec(32, 1, 2, "mb", 512, SamDecoderSpec(32, 2, 64, iou_width=32)),
    num_classes=0,
    dataset="",
    ours=True,
)
"""Only tests build it."""


def add_tiny(monkeypatch: Any) -> Variant:
    """Make `TINY` a variant that recipes can name."""
    monkeypatch.setitem(VARIANTS, TINY.name, TINY)
    return TINY


def tiny_model(seed: int = 0) -> Any:
    """`TINY` with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build_model(TINY)


def shapes(number: int, size_hw: tuple[int, int] = (96, 128)) -> tuple[np.ndarray, np.ndarray]:
    """An RGB picture of a bright disc and a dark square on grey noise, and its region numbers."""
    rng = np.random.default_rng(number)
    height, width = size_hw
    regions = np.zeros(size_hw, np.uint8)
    x, y = (int(v) for v in rng.integers(height // 4, height // 2, 2))
    cv2.circle(regions, (x, y), height // 6, 1, -1)
    left, top = width // 2 + int(rng.integers(width // 8)), int(rng.integers(height // 3))
    cv2.rectangle(regions, (left, top), (left + width // 4, top + height // 3), 2, -1)
    colors = np.array([[120, 120, 120], [230, 200, 40], [20, 40, 160]])[regions]
    noise = rng.integers(-12, 13, (*size_hw, 3))
    return np.clip(colors + noise, 0, 255).astype(np.uint8), regions


def _image(path: Path, rgb: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), rgb[..., ::-1])


def write_regions(root: Path, count: int = 4) -> Path:
    """The layout "regions"."""
    for number in range(count):
        image, regions = shapes(number)
        _image(root / "images" / f"{number:02d}.png", image)
        (root / "masks").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / "masks" / f"{number:02d}.png"), regions)
    return root


def write_sa1b(root: Path, count: int = 3) -> Path:
    """The layout "sa1b", with PNGs so that pixels stay as they are."""
    for number in range(count):
        image, regions = shapes(number)
        path = root / "sa_000000" / f"sa_{number}.png"
        _image(path, image)
        found = [{"segmentation": encode_rle(regions == value)} for value in (1, 2)]
        path.with_suffix(".json").write_text(json.dumps({"image": {}, "annotations": found}))
    return root


def write_objects(root: Path, count: int = 4) -> Path:
    """The layout "coco"; every image has one object of each shape, and a crowd."""
    images, annotations = [], []
    for number in range(count):
        image, regions = shapes(number)
        name = f"{number:02d}.png"
        _image(root / "images" / name, image)
        images.append({"id": number, "file_name": name, "height": 96, "width": 128})
        for value in (1, 2, 3):
            mask = regions == value if value < 3 else regions > 0
            annotations.append(
                {
                    "id": len(annotations), "image_id": number, "category_id": 1,
                    "iscrowd": int(value == 3), "segmentation": encode_rle(mask),
                }
            )  # fmt: skip
    document = {
        "categories": [{"id": 1, "name": "thing"}], "images": images, "annotations": annotations,
    }  # fmt: skip
    (root / "instances.json").write_text(json.dumps(document))
    return root


def write_bsds(maps: Path, images: Path, count: int = 3, people: int = 2) -> Path:
    """The layout "bsds": every person's map has the same regions under other numbers."""
    from scipy.io import savemat

    maps.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image, regions = shapes(number)
        _image(images / f"{number:02d}.png", image)
        truth = np.empty((1, people), object)
        for person in range(people):
            truth[0, person] = {"Segmentation": (regions + 1 + person).astype(np.uint16)}
        savemat(maps / f"{number:02d}.mat", {"groundTruth": truth})
    return maps


def write_every_layout(root: Path) -> Path:
    """All layouts in one folder, where the shipped recipes look for them."""
    write_regions(root, 6)
    write_sa1b(root, 6)
    write_objects(root / "coco128", 6)
    write_bsds(root / "bsds_regions", root / "sr" / "bsds400")
    return root


SAM: Document = {
    "name": "sam/tiny",
    "task": "sam",
    "model": {"variant": "sam-tiny"},
    "data": {"name": "masks", "workers": 0},
    "sam": {
        "sets": [{"kind": "regions"}],
        "val": {"kind": "regions"},
        "sides": [64],
        "masks_per_image": 2,
        "points": 256,
        "val_clicks": [1],
    },
    "optimizer": {"lr": 1e-3},
    "train": {"steps": 4, "batch_size": 2, "ema": None, "eval_epochs": 100},
}
RANDOM_SAM = {
    "sam.sides": [64, 96],
    "sam.scale": [0.8, 1.5],
    "sam.color": {"brightness": 0.3},
    "sam.negatives": 0.3,
    "sam.rounds": 3,
    "sam.mask_prompts": 0.5,
    "sam.iou": 1.0,
    "sam.focal": 2.0,
    "model.drop_path": 0.3,
    "train.ema": 0.9,
    "train.ema_tau": 3.0,
    "train.accumulate": 2,
    "train.bn_images": 4,
}
"""Everything that is random, or has a state."""
