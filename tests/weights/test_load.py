from __future__ import annotations

import hashlib
import io
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from evit_cli.errors import EvitError, UsageError
from evit_cli.models.build import build_model
from evit_cli.models.classes import class_set, numbered_classes
from evit_cli.models.variants import get_variant
from evit_cli.types import ClassSet, ImageSize, ModelInfo, Preprocess, Task
from evit_cli.weights import checkpoint, metadata
from evit_cli.weights.checkpoint import save_weights
from evit_cli.weights.load import load_model
from evit_cli.weights.remap import from_evit
from tests.helpers.hub_server import Fault, Hub
from tests.helpers.paths import shared_dir
from tests.helpers.weight_files import (
    pt_bytes,
    random_state,
    safetensors_bytes,
    same_state,
    write,
)

SEG = "han-cai/efficientvit-seg"
CLS = "han-cai/efficientvit-cls"
B0_FILE = "efficientvit_seg_b0_cityscapes.pt"
B0_SHA256 = "923d6fdd5e93640cc0c2f3f213764f34e80b477cd98a6b294d870ea6df5acc50"


@pytest.fixture
def b0(tmp_path: Path) -> Path:
    """Seg-b0 weights in the published layout under a name that says nothing."""
    return write(tmp_path / "mine.pt", pt_bytes("seg-b0-cityscapes"))


def test_a_name_is_fetched_loaded_and_described(hub: Hub) -> None:
    hub.add(SEG, "efficientvit_seg_b1_cityscapes.pt", pt_bytes("seg-b1-cityscapes"))
    loaded = load_model("seg-b1-cityscapes")
    assert same_state(loaded.model.state_dict(), random_state("seg-b1-cityscapes"))
    assert not any(module.training for module in loaded.model.modules())
    assert all(p.requires_grad and p.dtype is torch.float32 for p in loaded.model.parameters())
    commit = hub.commit(SEG, "main")
    assert loaded.info == ModelInfo(
        name="seg-b1-cityscapes",
        task=Task.SEGMENT,
        preprocess=Preprocess(ImageSize(1024, 2048)),
        classes=class_set("cityscapes"),
        licence="Apache-2.0",
        source=f"hf://{SEG}/efficientvit_seg_b1_cityscapes.pt@{commit}",
        sha256=hashlib.sha256(pt_bytes("seg-b1-cityscapes")).hexdigest(),
    )
    hub.requests.clear()
    assert load_model("seg-b1-cityscapes").info == loaded.info
    assert load_model("seg-b1-cityscapes", offline=True).info == loaded.info
    assert hub.requests == []


def test_the_loaded_model_computes_what_the_source_model_does(b0: Path) -> None:
    source = build_model(get_variant("seg-b0-cityscapes")).eval()
    source.load_state_dict(random_state("seg-b0-cityscapes"))
    loaded = load_model(weights=b0)
    x = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(loaded.model(x), source(x))


def test_loading_leaves_the_random_generator_alone(b0: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    load_model(weights=b0)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_wrong_hash_under_a_catalog_name_names_both(hub: Hub) -> None:
    hub.add(SEG, B0_FILE, pt_bytes("seg-b0-cityscapes"))  # weights, but not the published ones
    with pytest.raises(EvitError) as caught:
        load_model("seg-b0-cityscapes")
    assert B0_SHA256 in caught.value.message
    assert hashlib.sha256(pt_bytes("seg-b0-cityscapes")).hexdigest() in caught.value.message
    assert "--weights" in caught.value.hint


def test_with_weights_the_hash_is_only_recorded(b0: Path) -> None:
    loaded = load_model("seg-b0-cityscapes", weights=b0)
    assert loaded.info.name == "seg-b0-cityscapes"
    assert loaded.info.sha256 == hashlib.sha256(b0.read_bytes()).hexdigest()
    assert loaded.info.source == str(b0)
    assert loaded.info.licence == ""  # nobody knows whose weights these are


def test_a_changed_branch_is_found_out_only_under_its_own_revision(hub: Hub) -> None:
    hub.add(SEG, B0_FILE, pt_bytes("seg-b0-cityscapes"), revision="retrained")
    loaded = load_model(f"hf://{SEG}/{B0_FILE}@retrained")
    assert loaded.info.name == "seg-b0-cityscapes"


@pytest.mark.parametrize(
    ("name", "size", "crop_ratio"),
    [("cls-b0-r224", 224, 0.95), ("cls-b1-r288", 288, 0.95), ("cls-b1", 224, 0.95)],
)
def test_classifiers_by_resolution(hub: Hub, name: str, size: int, crop_ratio: float) -> None:
    variant = name[:6]
    for resolution in (224, 288):
        hub.add(CLS, f"efficientvit_{variant[4:]}_r{resolution}.pt", pt_bytes(variant))
    loaded = load_model(name)
    assert loaded.variant == get_variant(variant)
    assert loaded.info.name == f"{variant}-r{size}"
    assert loaded.info.preprocess == Preprocess(ImageSize(size, size), crop_ratio=crop_ratio)
    assert loaded.info.classes == class_set("imagenet")


@pytest.mark.parametrize(
    "text",
    [
        "hf://timm/efficientvit_b0.r224_in1k",
        "hf://timm/efficientvit_b0.r224_in1k/model.safetensors",
        "hf://timm/efficientvit_b0.r224_in1k@main",
        "timm/efficientvit_b0.r224_in1k",
        "cls-b0-r224-timm",
    ],
)
def test_timm_repositories(hub: Hub, text: str) -> None:
    hub.add("timm/efficientvit_b0.r224_in1k", "model.safetensors", safetensors_bytes("cls-b0"))
    hub.add("timm/efficientvit_b0.r224_in1k", "pytorch_model.bin", b"")
    loaded = load_model(text)
    assert same_state(loaded.model.state_dict(), random_state("cls-b0"))
    assert loaded.info.name == "cls-b0-r224-timm"
    assert loaded.info.licence == "Apache-2.0"


def test_a_hub_repository_of_somebody(hub: Hub) -> None:
    hub.add("me/street", "runs/best.pt", pt_bytes("seg-b1-ade20k", num_classes=7))
    loaded = load_model("hf://me/street")
    assert loaded.variant == get_variant("seg-b1-ade20k", num_classes=7)
    assert loaded.info.classes == numbered_classes(7)
    assert loaded.info.licence == ""


@pytest.mark.parametrize("layout", ["evit", "published"])
@pytest.mark.parametrize("name", ["seg-b0-cityscapes", "seg-b1-ade20k"])
def test_a_bare_file_says_what_it_is(tmp_path: Path, name: str, layout: str) -> None:
    path = write(tmp_path / "w.pt", pt_bytes(name, layout))  # type: ignore[arg-type]
    for loaded in (load_model(str(path)), load_model(weights=path), load_model(str(tmp_path))):
        assert loaded.info.name == name
        assert loaded.variant == get_variant(name)
        assert same_state(loaded.model.state_dict(), random_state(name))


def test_a_published_file_name_tells_the_resolution(tmp_path: Path) -> None:
    path = write(tmp_path / "efficientvit_b1_r288.pt", pt_bytes("cls-b1"))
    assert load_model(str(path)).info.preprocess.size_hw == (288, 288)
    unnamed = write(tmp_path / "x.pt", pt_bytes("cls-b1"))
    assert load_model(str(unnamed)).info.name == "cls-b1"
    lying = write(tmp_path / "efficientvit_b3_r288.pt", pt_bytes("cls-b1"))
    assert load_model(str(lying)).info.name == "cls-b1"


def test_half_precision_weights_become_float32(tmp_path: Path) -> None:
    variant = get_variant("seg-b0-cityscapes")
    state = from_evit(random_state(variant.name), variant, "published")
    half = {k: v.bfloat16() if v.is_floating_point() else v for k, v in state.items()}
    path = write(tmp_path / "half.safetensors", save(half))
    loaded = load_model(str(path))
    assert all(p.dtype is torch.float32 for p in loaded.model.parameters())


def test_the_models_folder_serves_names_without_a_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed = write(
        tmp_path / SEG / "efficientvit_seg_b1_cityscapes.pt", pt_bytes("seg-b1-cityscapes")
    )
    monkeypatch.setenv("EVIT_MODELS_DIR", str(tmp_path))
    loaded = load_model("seg-b1-cityscapes", offline=True)
    assert loaded.info.source == str(placed)
    assert loaded.info.licence == "Apache-2.0"
    write(tmp_path / SEG / B0_FILE, pt_bytes("seg-b0-cityscapes"))
    with pytest.raises(EvitError, match="is not the published file"):
        load_model("seg-b0-cityscapes", offline=True)
    with pytest.raises(EvitError, match="not in the hub cache"):
        load_model(f"hf://{SEG}/efficientvit_seg_b1_cityscapes.pt@v1", offline=True)


def test_the_wrong_name_is_told_the_right_one(b0: Path) -> None:
    with pytest.raises(EvitError) as caught:
        load_model("seg-b1-cityscapes", weights=b0)
    assert caught.value.message == f"{b0} holds seg-b0-cityscapes, not seg-b1-cityscapes"
    assert "--model seg-b0-cityscapes" in caught.value.hint


def test_a_tensor_that_does_not_fit_is_named(tmp_path: Path) -> None:
    state = from_evit(
        random_state("seg-b0-cityscapes"), get_variant("seg-b0-cityscapes"), "published"
    )
    victim = "backbone.stages.0.op_list.0.main.depth_conv.conv.weight"
    buffer = io.BytesIO()
    torch.save({**state, victim: torch.zeros(3)}, buffer)
    path = write(tmp_path / "odd.pt", buffer.getvalue())
    with pytest.raises(EvitError) as caught:
        load_model("seg-b0-cityscapes", weights=path)
    assert f"'{victim}' is (3,), not (32, 1, 3, 3)" in caught.value.message
    with pytest.raises(EvitError, match="fits no EfficientViT model") as caught:
        load_model(str(path))
    assert caught.value.hint


def test_a_published_sam_model_loads_by_its_tensors(tmp_path: Path) -> None:
    state = from_evit(random_state("sam-l0"), get_variant("sam-l0"), "published")
    buffer = io.BytesIO()
    torch.save({"state_dict": state}, buffer)
    loaded = load_model(str(write(tmp_path / "w.pt", buffer.getvalue())))
    assert (loaded.info.name, loaded.info.task, loaded.info.classes) == ("sam-l0", Task.SAM, None)
    assert same_state(loaded.model.state_dict(), random_state("sam-l0"))
    del state["mask_decoder.iou_token.weight"]
    buffer = io.BytesIO()
    torch.save({"state_dict": state}, buffer)
    with pytest.raises(EvitError, match=r"'mask_decoder\.iou_token\.weight' is missing"):
        load_model("sam-l0", weights=write(tmp_path / "cut.pt", buffer.getvalue()))


def test_contradictions_are_usage_errors(b0: Path) -> None:
    with pytest.raises(UsageError, match="no model was named"):
        load_model()
    with pytest.raises(UsageError, match="is weights itself"):
        load_model(str(b0), weights=b0)
    with pytest.raises(UsageError, match="the variant asked for is cls-b0"):
        load_model("seg-b0-cityscapes", weights=b0, variant="cls-b0")
    with pytest.raises(EvitError, match="there is no model variant 'cls-b9'"):
        load_model(str(b0), variant="cls-b9")
    assert load_model(str(b0), variant="seg-b0-cityscapes").info.name == "seg-b0-cityscapes"


def test_trained_weights_load_by_path_alone(tmp_path: Path) -> None:
    variant = get_variant("seg-b0-cityscapes", num_classes=3)
    classes = ClassSet("lot", ("car", "free", "other"), ((1, 2, 3), (4, 5, 6), (7, 8, 9)))
    info = ModelInfo("lot-b0", Task.SEGMENT, Preprocess(ImageSize(360, 480)), classes, "MIT")
    path = tmp_path / "best.safetensors"
    save_weights(path, random_state("seg-b0-cityscapes", 3), info, variant)
    for loaded in (load_model(str(path)), load_model("seg-b0-cityscapes", weights=path)):
        assert loaded.variant == variant
        assert same_state(loaded.model.state_dict(), random_state("seg-b0-cityscapes", 3))
        assert loaded.info.name == "lot-b0"
        assert loaded.info.classes == classes
        assert loaded.info.preprocess == info.preprocess
        assert loaded.info.licence == "MIT"
        assert loaded.info.source == str(path)
        assert len(loaded.info.sha256) == 64


@pytest.mark.parametrize(
    ("name", "num_classes", "says"),
    [
        ("seg-b9-mars", 3, "variant 'seg-b9-mars', which this evit does not know"),
        ("seg-b0-cityscapes", 4, "names 4 classes and its classifier has 3"),
        ("seg-b1-cityscapes", 3, "holds seg-b0-cityscapes, not seg-b1-cityscapes"),
    ],
)
def test_metadata_that_does_not_fit_its_tensors(
    tmp_path: Path, name: str, num_classes: int, says: str
) -> None:
    variant = get_variant("seg-b0-cityscapes", num_classes=num_classes)
    info = ModelInfo(
        "x", Task.SEGMENT, Preprocess(ImageSize(32, 32)), numbered_classes(num_classes)
    )
    text = metadata.encode(info, variant).replace("seg-b0-cityscapes", name)
    state = random_state("seg-b0-cityscapes", 3)
    path = write(tmp_path / "w.safetensors", save(state, {metadata.KEY: text}))
    with pytest.raises(EvitError) as caught:
        load_model(str(path))
    assert says in caught.value.message


def test_two_threads_may_load_at_once(hub: Hub) -> None:
    hub.add(SEG, "efficientvit_seg_b1_cityscapes.pt", pt_bytes("seg-b1-cityscapes"))
    results: list[object] = []
    threads = [
        threading.Thread(target=lambda: results.append(load_model("seg-b1-cityscapes").info))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    assert results[0] == results[1] == results[2]


def test_torch_is_asked_for_by_name(b0: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ImportError("No module named 'torch'", name="torch")

    monkeypatch.setattr("evit_cli.errors.importlib.import_module", missing)
    with pytest.raises(EvitError, match="needs torch") as caught:
        checkpoint.read_checkpoint(b0)
    assert caught.value.exit_code == 5
    assert "evit-cli[torch]" in caught.value.hint


@pytest.mark.shared
def test_the_published_checkpoint_by_path() -> None:
    path = shared_dir("data", "weights", B0_FILE)
    for loaded in (
        load_model(weights=path),
        load_model("seg-b0-cityscapes", weights=path),
        load_model(str(path)),
    ):
        assert loaded.info.name == "seg-b0-cityscapes"
        assert loaded.info.sha256 == B0_SHA256
        assert loaded.info.licence == "Apache-2.0"  # the hash proves it
        assert loaded.info.classes == class_set("cityscapes")


@pytest.mark.shared
def test_the_published_checkpoint_by_name(hub: Hub) -> None:
    content = shared_dir("data", "weights", B0_FILE).read_bytes()
    hub.add(SEG, B0_FILE, content)
    hub.fault, hub.fault_times = Fault.WRONG_CONTENT, 1
    with pytest.raises(EvitError, match="arrived damaged"):
        load_model("seg-b0-cityscapes")
    loaded = load_model("seg-b0-cityscapes")
    assert loaded.info.sha256 == B0_SHA256
    raw = torch.load(io.BytesIO(content), weights_only=True)["state_dict"]
    ours = loaded.model.state_dict()
    assert torch.equal(
        ours["backbone.stem.0.conv.weight"], raw["backbone.input_stem.op_list.0.conv.weight"]
    )
    back = from_evit(ours, loaded.variant, "published")
    assert back.keys() == raw.keys()
    assert all(torch.equal(back[k], raw[k]) for k in raw)
