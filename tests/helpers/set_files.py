"""Tiny data sets on disk for training: COCO instances, CIFAR-10, tar shards."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tests.helpers.segmentation_sets import write_image


def png(pixels: np.ndarray) -> bytes:
    """Grey values or BGR, encoded."""
    return cv2.imencode(".png", pixels)[1].tobytes()


def random_png(seed: int, size_hw: tuple[int, int] = (6, 8)) -> bytes:
    """A random colour picture, encoded."""
    rng = np.random.default_rng(seed)
    return png(rng.integers(0, 256, (*size_hw, 3), dtype=np.uint8))


def write_shard(path: Path, files: Mapping[str, bytes]) -> Path:
    """A tar of the files in order of their names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name in sorted(files):
            member = tarfile.TarInfo(name)
            member.size = len(files[name])
            tar.addfile(member, io.BytesIO(files[name]))
    return path


def class_samples(classes: Sequence[int], start: int = 0) -> dict[str, bytes]:
    """Samples NNNN.png with NNNN.cls."""
    files = {}
    for number, target in enumerate(classes, start):
        files[f"{number:04}.png"] = random_png(number)
        files[f"{number:04}.cls"] = str(target).encode()
    return files


def cifar_records(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3072) planes and N classes."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 3072), dtype=np.uint8), rng.integers(0, 10, count)


def write_cifar(root: Path, *, binary: bool, count: int = 4) -> Path:
    """Five training batches and a test batch."""
    root.mkdir(parents=True, exist_ok=True)
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    for seed, name in enumerate(names):
        planes, labels = cifar_records(count, seed)
        if binary:
            records = np.column_stack([labels.astype(np.uint8), planes])
            (root / f"{name}.bin").write_bytes(records.tobytes())
        else:
            batch = {b"data": planes, b"labels": labels.tolist(), b"batch_label": b"x"}
            (root / name).write_bytes(pickle.dumps(batch, protocol=2))
    return root


def write_coco(
    images: Path, source: Path, objects: Mapping[str, Sequence[tuple[int, Any, int]]]
) -> None:
    """Pictures of 8x10 with objects (category id, segmentation, iscrowd); ids 7 and 3 exist."""
    listed, annotations = [], []
    for number, (name, found) in enumerate(objects.items()):
        write_image(images / name, (8, 10), number)
        listed.append({"id": number, "file_name": name, "height": 8, "width": 10})
        annotations += [
            {"image_id": number, "category_id": category, "segmentation": mask, "iscrowd": crowd}
            for category, mask, crowd in found
        ]
    categories = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(
        json.dumps({"images": listed, "annotations": annotations, "categories": categories})
    )
