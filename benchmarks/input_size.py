"""Why `evit segment` enlarges small frames: zero-shot mIoU of seg-b0-cityscapes by input size.

`python -m benchmarks.input_size --data CAMVID_VAL --weights FILE [--every 2]`; CAMVID_VAL holds
`images/` and `labels/` with the 11-class labels, 11 being void. Frames are fitted into each size
with their aspect kept and the edge repeated, as `evit segment` does it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from evit_cli.inference.segmenter import Segmenter
from evit_cli.media.images import natural_key, read_image
from evit_cli.runtime.open import open_session
from evit_cli.types import ImageSize

CAMVID_OF_CITYSCAPES = np.array([3, 4, 1, 1, 7, 2, 6, 6, 5, 5, 0, 9, 10, 8, 8, 8, 8, 10, 10])
SIZES = ("360x480", "540x720", "720x960", "default")


def mean_iou(segmenter: Segmenter, data: Path, every: int) -> float:
    confusion = np.zeros((11, 11), np.int64)
    for path in sorted((data / "images").iterdir(), key=natural_key)[::every]:
        truth = cv2.imread(str(data / "labels" / path.name), cv2.IMREAD_UNCHANGED)
        found = CAMVID_OF_CITYSCAPES[segmenter(read_image(path)[0]).class_map]
        valid = truth < 11
        confusion += np.bincount(truth[valid] * 11 + found[valid], minlength=121).reshape(11, 11)
    hit = np.diag(confusion)
    return float(np.mean(hit / (confusion.sum(0) + confusion.sum(1) - hit)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--every", type=int, default=2)
    options = parser.parse_args()
    session = open_session("seg-b0-cityscapes", weights=options.weights)
    for name in SIZES:
        size_hw = None if name == "default" else ImageSize.parse(name)
        score = mean_iou(Segmenter(session, size_hw=size_hw), options.data, options.every)
        print(f"{name}: mIoU {score:.3f}")


if __name__ == "__main__":
    main()
