"""The shipped recipes: each loads, says how it is run, and expects what was published."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from evit_cli.config.find import data_files, data_folder
from evit_cli.config.recipe import dump_recipe, find_recipe, load_recipe, recipe_names
from evit_cli.errors import EvitError, UsageError
from evit_cli.models.variants import VARIANTS
from evit_cli.types import Task
from evit_cli.weights.catalog import CATALOG, get_entry
from evit_cli.weights.embedded import EMBEDDED
from tests.helpers.paths import REPOSITORY

NAMES = recipe_names()
# The published tables, in percent; B0's is timm's evaluation of the published weights.
TOP1 = {
    "b0-r224": 71.408,
    "b1-r224": 79.390, "b1-r256": 79.918, "b1-r288": 80.410,
    "b2-r224": 82.100, "b2-r256": 82.698, "b2-r288": 83.086,
    "b3-r224": 83.468, "b3-r256": 83.806, "b3-r288": 84.150,
    "l1-r224": 84.484,
    "l2-r224": 85.050, "l2-r256": 85.366, "l2-r288": 85.630, "l2-r320": 85.734, "l2-r384": 85.978,
    "l3-r224": 85.814, "l3-r256": 85.938, "l3-r288": 86.070, "l3-r320": 86.230, "l3-r384": 86.408,
}  # fmt: skip
MEAN_IOU = {
    "cityscapes-b0": 75.653, "cityscapes-b1": 80.547, "cityscapes-b2": 82.073,
    "cityscapes-b3": 83.016, "cityscapes-l1": 82.716, "cityscapes-l2": 83.228,
    "ade20k-b1": 42.840, "ade20k-b2": 45.941, "ade20k-b3": 49.013,
    "ade20k-l1": 49.191, "ade20k-l2": 50.702,
    "ablation-both": 74.5, "ablation-no-multiscale": 72.2, "ablation-no-attention": 72.3,
    "ablation-local": 68.1,
}  # fmt: skip
# dB on Y; the paper does not say how large its models are.
PSNR = {"div2k-b": 32.33, "div2k-b-w075": 32.31, "ffhq-b": 43.58, "ffhq-b-w075": 43.54}
# COCO's mask AP in percent, from ViTDet's boxes.
MASK_AP = {"l0": 45.7, "l1": 46.2, "l2": 46.6, "xl0": 47.5, "xl1": 47.8}
# mAP on COCO val with ViTDet's boxes.
COCO_AP = {"l0": 45.7, "l1": 46.2, "l2": 46.6, "xl0": 47.5, "xl1": 47.8}
PUBLISHED = (
    {f"cls/imagenet-{row}": value for row, value in TOP1.items()}
    | {f"seg/{row}": value for row, value in MEAN_IOU.items()}
    | {f"sr/{row}": value for row, value in PSNR.items()}
    | {f"sam/{row}": value for row, value in COCO_AP.items()}
    | {f"sam/{row}": value for row, value in MASK_AP.items()}
)
METRICS = {
    Task.CLASSIFY: "top1",
    Task.SEGMENT: "mean_iou",
    Task.SUPERRES: "psnr_db",
    Task.SAM: "coco_ap",
}
OURS = {
    "cls/cifar10-b0", "cls/custom", "seg/camvid-b0", "seg/custom", "seg/int8-b0", "sr/bsds400-t91",
    "sr/div2k-s", "sr/div2k-s-w075", "sr/ffhq-s", "sr/ffhq-s-w075", "sam/b0", "sam/b0-coarse",
    "sam/custom", "sam/l0-encoder",
}  # fmt: skip
# backbone: mixup and cutmix, RandAugment, drop path, its skips, MESA
CLASSIFY = {
    "b0": (0.1, (1, 3), 0.05, 0, 0),
    "b1": (0.1, (1, 3), 0.05, 0, 0),
    "b2": (0.1, (1, 3), 0.05, 0, 0),
    "b3": (0.3, (2, 6), 0.1, 0, 0),
    "l1": (0.2, (2, 5), 0.1, 2, 2.0),
    "l2": (0.4, (2, 5), 0.1, 3, 2.75),
    "l3": (0.6, (2, 6), 0.1, 3, 3.5),
}
each = pytest.mark.parametrize("name", NAMES)


def text_of(name: str) -> str:
    return find_recipe(name).read_text("utf-8")


def test_all_published_rows_have_a_recipe() -> None:
    assert {*PUBLISHED, *OURS} <= set(NAMES)


@each
def test_loads_and_is_named_as_its_file(name: str) -> None:
    assert load_recipe(find_recipe(name)).name == name


@each
def test_opens_with_its_own_commands(name: str) -> None:
    recipe = load_recipe(find_recipe(name))
    verb = "train" if recipe.distill is None else "distill"
    first, second = text_of(name).splitlines()[:2]
    assert first.startswith(f"# evit {verb} {name} --data DIR")
    torchrun = (
        rf"# torchrun --nproc-per-node (\d) -m evit_cli {verb} {name} --data DIR --out runs/\S+"
    )
    found = re.match(torchrun, second)
    assert found is not None
    assert recipe.train.batch_size % int(found[1]) == 0


@pytest.mark.parametrize("name", PUBLISHED)
def test_expects_what_was_published(name: str) -> None:
    recipe = load_recipe(find_recipe(name))
    assert recipe.expected is not None
    assert recipe.expected.value == PUBLISHED[name]
    assert recipe.expected.metric == METRICS[recipe.task]
    header = text_of(name).partition("\nname:")[0]
    written = re.search(r"^# Expect: (?:top-1|mIoU|PSNR|mAP) ([\d.]+) (?:%|dB)", header, re.M)
    assert written is not None
    assert float(written[1]) == PUBLISHED[name]
    assert re.search(r"^# Row: .*", header, re.M)
    assert re.search(r"[\d.]+M parameters, [\d.]+G MACs", header)


@pytest.mark.parametrize("name", sorted(OURS))
def test_own_recipes_promise_nothing(name: str) -> None:
    recipe = load_recipe(find_recipe(name))
    assert recipe.expected is not None
    assert recipe.expected.value is None
    assert re.search(r"[Ee]very value is ours", " ".join(text_of(name).split("\n# ")))


@each
def test_model_and_first_weights_exist(name: str) -> None:
    recipe = load_recipe(find_recipe(name))
    variant = VARIANTS[recipe.model.variant]
    assert variant.task is recipe.task
    if recipe.model.init is None:
        return
    if recipe.model.init.startswith("runs/"):  # what another recipe leaves there
        assert recipe.model.init.split("/", 1)[1].rpartition("/")[0] in NAMES
        return
    if recipe.model.init in EMBEDDED:
        assert recipe.model.init_part == "backbone"
        return
    assert recipe.model.init in CATALOG
    start = VARIANTS[get_entry(recipe.model.init).variant]
    # SAM's norms have another epsilon, with which training goes on.
    assert replace(start.backbone, norm_eps=variant.backbone.norm_eps) == variant.backbone
    assert start.task is recipe.task or recipe.model.init_part == "backbone"


@pytest.mark.parametrize("row", MASK_AP)
def test_sam_is_trained_as_published(row: str) -> None:
    recipe = load_recipe(find_recipe(f"sam/{row}"))
    part, optimizer, train = recipe.sam, recipe.optimizer, recipe.train
    assert part is not None
    gpus = train.batch_size / 4
    per_gpu = 4e-7 if row.startswith("xl") else 8e-7
    assert optimizer.lr == pytest.approx(per_gpu * gpus)
    assert (optimizer.weight_decay, optimizer.clip_norm) == (0.1, 2.0)
    assert (train.epochs, train.eval_epochs, train.warmup_epochs, train.ema) == (2, 1 / 40, 0, None)
    assert (part.masks_per_image, part.boxes, part.most_points, part.multimask) == (
        64,
        0.5,
        10,
        0.5,
    )
    assert (part.bce, part.dice, part.focal, part.iou) == (20, 1, 0, 0)
    assert (part.points, part.oversample, part.doubtful) == (112**2, 3, 0.75)
    assert (part.rounds, part.negatives, part.mask_prompts) == (1, 0, 0)
    assert (part.flip, part.scale, part.sides) == (0.5, (1, 1), ())
    assert [one.part for one in (*part.sets, part.val) if one is not None] == ["train", "kept_out"]


def test_what_sam_b0_is_measured_on_is_not_learnt() -> None:
    for name in ("sam/b0", "sam/b0-coarse"):
        part = load_recipe(find_recipe(name)).sam
        assert part is not None
        assert part.val is not None
        assert (part.val.folder, part.val.part) == ("coco128", "kept_out")
        photos = [one for one in part.sets if one.folder == part.val.folder]
        assert [one.part for one in photos] == ["train"]


@pytest.mark.parametrize("row", TOP1)
def test_imagenet_is_trained_as_published(row: str) -> None:
    backbone, side = row.split("-r")
    recipe = load_recipe(find_recipe(f"cls/imagenet-{row}"))
    mix, rand_augment, drop_path, skips, mesa = CLASSIFY[backbone]
    large = backbone.startswith("l")
    part, optimizer, train = recipe.classify, recipe.optimizer, recipe.train
    assert part is not None
    assert (part.mixup, part.cutmix) == (mix, mix)
    assert part.rand_augment == ((1, 5) if row == "b2-r288" else rand_augment)
    assert (recipe.model.drop_path, recipe.model.drop_path_skips) == (drop_path, skips)
    assert part.sizes == tuple(range(128, int(side) + 1, 32))
    assert part.crop_ratio == (0.95 if backbone in ("b0", "b1") else 1.0)
    assert part.eval_size == int(side)
    assert (part.erase, part.label_smoothing, part.loss) == (0.2 if large else 0, 0.1, "bce")
    assert (optimizer.lr, optimizer.weight_decay) == (1.2e-3 if large else 2e-3, 0.1)
    assert (optimizer.clip_value, optimizer.clip_norm) == (2.0, None)
    assert (train.epochs, train.warmup_epochs, train.batch_size) == (320, 20, 1024)
    assert (train.ema, train.ema_tau, train.bn_images) == (0.9998, 2000, 16000)
    assert (train.mesa_ratio, train.mesa_start) == (mesa, 0.25)
    assert train.precision == ("bf16" if large else "fp32")


def test_validation_is_that_of_the_published_weights() -> None:
    for row in TOP1:
        part = load_recipe(find_recipe(f"cls/imagenet-{row}")).classify
        entry = get_entry(f"cls-{row}")
        assert part is not None
        assert entry.preprocess.crop_ratio == part.crop_ratio
        assert entry.preprocess.size_hw.height == part.eval_size


def test_ablations_differ_in_the_model_alone() -> None:
    loaded = [
        load_recipe(find_recipe(f"seg/{row}")).model_dump()
        for row in MEAN_IOU
        if row.startswith("ablation")
    ]
    for document in loaded:
        assert document["model"]["init"] is None
        for key in ("name", "model", "expected"):
            del document[key]
    assert all(document == loaded[0] for document in loaded)


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("seg/") and n not in OURS])
def test_what_is_not_published_says_so(name: str) -> None:
    lines = text_of(name).splitlines()
    start = lines.index("optimizer:")
    values = [line for line in lines[start : lines.index("expected:")] if line.startswith("  ")]
    assert values
    assert all(line.endswith("# not given") for line in values)


@each
def test_dumped_and_loaded_again(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(find_recipe(name))
    again = tmp_path / "recipe.yaml"
    again.write_text(dump_recipe(recipe), "utf-8")
    assert load_recipe(again) == recipe
    assert set(yaml.safe_load(again.read_text())) == set(type(recipe).model_fields)


def test_readme_lists_every_recipe() -> None:
    table = (REPOSITORY / "recipes" / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| \[`(.+?)`\]\((.+?)\) \| (\S+) \| .* \| (.+) \|$", table, re.M)
    assert [row[0] for row in rows] == NAMES
    for name, link, variant, expected in rows:
        recipe = load_recipe(data_folder("recipes") / link)
        assert (recipe.name, recipe.model.variant) == (name, variant)
        value = PUBLISHED.get(name)
        assert (None if expected == "none published" else float(expected.split()[1])) == value


def test_overrides() -> None:
    recipe = load_recipe(
        find_recipe("seg/custom"),
        [
            "train.epochs=3",
            "optimizer.lr=1e-3",
            "data.name=coco",
            "segment.crop_hw=[[64, 96]]",
            "model.init=null",
            "segment.color.hue=0.1",
        ],
    )
    assert (recipe.train.epochs, recipe.optimizer.lr, recipe.data.name) == (3, 1e-3, "coco")
    assert recipe.segment is not None
    assert recipe.segment.crop_hw == ((64, 96),)
    assert recipe.segment.color.hue == 0.1
    assert recipe.segment.color.brightness == 0.2
    assert recipe.model.init is None


@pytest.mark.parametrize(
    ("override", "message", "hint"),
    [
        ("train.epoch=3", "unknown key 'train.epoch'", "did you mean 'epochs'?"),
        ("optimiser.lr=1", "unknown key 'optimiser'", "did you mean 'optimizer'?"),
        ("model.varient=x", "unknown key 'model.varient'", "did you mean 'variant'?"),
        ("data.zzzzzz=x", "unknown key 'data.zzzzzz'", "known keys: dir"),
        ("segment.colour.hue=0", "unknown key 'segment.colour'", "did you mean 'color'?"),
        ("segment.color.hues=0", "unknown key 'segment.color.hues'", "did you mean 'hue'?"),
        ("train.epochs=-1", "train.epochs: input should be greater than 0", ""),
        ("train.batch_size=many", "train.batch_size: ", ""),
        ("data.name=citiscapes", "data.name: input should be 'cityscapes'", ""),
        ("train.steps=5", "give the length as epochs or as steps", ""),
        ("train.accumulate=5", "does not divide into 5 micro-batches", ""),
        ("task=classify", "classify recipe does not take a section 'segment'", ""),
        ("task=sam", "sam recipe does not take a section 'segment'", ""),
    ],
)
def test_wrong_overrides_name_the_key(override: str, message: str, hint: str) -> None:
    with pytest.raises(EvitError) as caught:
        load_recipe(find_recipe("seg/custom"), [override])
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize("override", ["train.epochs", "=3", "train..epochs=3", "name.x=1"])
def test_malformed_overrides_are_a_usage_error(override: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe(find_recipe("seg/custom"), [override])
    assert override.partition("=")[0] in caught.value.message


def test_finding(tmp_path: Path) -> None:
    shipped = data_folder("recipes") / "seg" / "custom.yaml"
    for name in ("seg/custom", "seg/custom.yaml", "recipes/seg/custom.yaml", str(shipped)):
        assert find_recipe(name).resolve() == shipped
    mine = tmp_path / "mine.yaml"
    mine.write_text("name: mine")
    assert find_recipe(str(mine)) == mine
    with pytest.raises(EvitError, match="no recipe 'seg/custum'") as caught:
        find_recipe("seg/custum")
    assert "'seg/custom'" in caught.value.hint


def test_data_files_go_into_subfolders(tmp_path: Path) -> None:
    folder = tmp_path / "_data" / "recipes"
    (folder / "seg").mkdir(parents=True)
    (folder / "seg" / "a.yaml").touch()
    (folder / "README.md").touch()
    assert data_files("recipes", tmp_path) == [folder / "seg" / "a.yaml"]
    assert all(path.parent == data_folder("devices") for path in data_files("devices"))
