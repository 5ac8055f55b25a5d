from __future__ import annotations

import subprocess
import sys

import pytest

from evit_cli.errors import EvitError
from evit_cli.models.classes import class_set
from evit_cli.models.variants import VARIANTS
from evit_cli.types import ImageSize, Task
from evit_cli.weights.catalog import (
    CATALOG,
    PUBLISHED,
    TIMM,
    entry_of_file,
    entry_of_variant,
    get_entry,
)
from evit_cli.weights.identify import meta_model
from tests.helpers.paths import REPOSITORY


def test_every_published_checkpoint_is_there() -> None:
    counts = {task: sum(e.task is task for e in PUBLISHED.values()) for task in Task}
    assert counts[Task.SEGMENT] == 11
    assert counts[Task.CLASSIFY] == 21
    assert counts[Task.SAM] == 5
    assert len(TIMM) == 19


def test_no_two_entries_share_a_file_or_a_name() -> None:
    places = [(e.repo, e.file) for e in CATALOG.values()]
    names = [n for e in CATALOG.values() for n in (e.name, *e.aliases)]
    assert len(set(places)) == len(places)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", CATALOG)
def test_entry_fits_its_variant(name: str) -> None:
    entry = CATALOG[name]
    variant = VARIANTS[entry.variant]
    assert variant.task is entry.task
    assert variant.dataset == entry.dataset
    classes = class_set(entry.dataset) if entry.dataset else ()
    assert len(classes) == variant.num_classes


@pytest.mark.parametrize("name", [n for n, v in VARIANTS.items() if v.published])
def test_parameters_are_those_of_the_model(name: str) -> None:
    entry = entry_of_variant(name)
    assert entry is not None
    assert entry.params == sum(p.numel() for p in meta_model(VARIANTS[name]).parameters())


@pytest.mark.parametrize(
    ("name", "file", "size", "crop_ratio", "interpolation"),
    [
        ("seg-b0-cityscapes", "efficientvit_seg_b0_cityscapes.pt", (1024, 2048), 1.0, "cubic"),
        ("seg-l2-ade20k", "efficientvit_seg_l2_ade20k.pt", (512, 512), 1.0, "cubic"),
        ("cls-b1-r256", "efficientvit_b1_r256.pt", (256, 256), 0.95, "cubic"),
        ("cls-b2-r224", "efficientvit_b2_r224.pt", (224, 224), 1.0, "cubic"),
        ("cls-b2-r224-timm", "model.safetensors", (224, 224), 0.95, "cubic"),
        ("cls-b2-r288-timm", "model.safetensors", (288, 288), 1.0, "cubic"),
        ("cls-l3-r384", "efficientvit_l3_r384.pt", (384, 384), 1.0, "cubic"),
        ("sam-l0", "efficientvit_sam_l0.pt", (512, 512), 1.0, "linear"),
        ("sam-xl1", "efficientvit_sam_xl1.pt", (1024, 1024), 1.0, "linear"),
    ],
)
def test_preprocessing_is_the_published_one(
    name: str, file: str, size: tuple[int, int], crop_ratio: float, interpolation: str
) -> None:
    entry = get_entry(name)
    assert entry.file == file
    assert entry.preprocess.size_hw == ImageSize(*size)
    assert entry.preprocess.crop_ratio == crop_ratio
    assert entry.preprocess.interpolation == interpolation
    assert [round(255 * m, 3) for m in entry.preprocess.mean_rgb] == [123.675, 116.28, 103.53]
    assert [round(255 * s, 3) for s in entry.preprocess.std_rgb] == [58.395, 57.12, 57.375]


def test_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(EvitError, match="no model 'seg-b0-cityscape'") as caught:
        get_entry("seg-b0-cityscape")
    assert "'seg-b0-cityscapes'" in caught.value.hint
    assert caught.value.exit_code == 1


def test_aliases_and_files_lead_to_the_entry() -> None:
    assert get_entry("cls-b1").name == "cls-b1-r224"
    timm = get_entry("timm/efficientvit_b1.r256_in1k")
    assert timm.name == "cls-b1-r256-timm"
    assert entry_of_file("timm/efficientvit_b1.r256_in1k", "model.safetensors") is timm
    assert entry_of_file("timm/efficientvit_b1.r256_in1k", "other.safetensors") is None


@pytest.mark.parametrize(
    "module",
    ["evit_cli.weights.catalog", "evit_cli.weights.source", "evit_cli.commands.models"],
)
def test_import_is_light(module: str) -> None:
    heavy = ["torch", "numpy", "huggingface_hub", "safetensors", "cv2", "rich.console"]
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=True
    )
    assert done.stdout.strip() == "[]"
