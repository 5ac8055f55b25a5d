from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from evit_cli.errors import EvitError, UsageError
from evit_cli.models.build import build_model
from evit_cli.models.classes import class_set
from evit_cli.models.variants import VARIANTS
from evit_cli.runtime.open import open_session, parse_backend, parse_precision
from evit_cli.runtime.torch_session import TorchSession
from evit_cli.types import Backend, ImageSize, ModelInfo, Precision, Preprocess, Task
from tests.helpers.weight_files import pt_bytes

INFO = ModelInfo(
    "seg-b0-cityscapes",
    Task.SEGMENT,
    Preprocess(ImageSize(1024, 2048)),
    classes=class_set("cityscapes"),
)


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model(VARIANTS["seg-b0-cityscapes"]).eval()


def test_session_equals_the_model_on_normalised_input(model: torch.nn.Module) -> None:
    image = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    out = TorchSession(model, INFO).run({"image": image})["logits"]
    assert out.dtype == np.float32
    assert out.shape == (2, 19, 8, 12)
    mean, std = INFO.preprocess.mean_rgb, INFO.preprocess.std_rgb
    x = (image / 255.0 - mean) / std
    with torch.inference_mode():
        expected = model(torch.from_numpy(x.transpose(0, 3, 1, 2)).float())
    assert np.abs(out - expected.numpy()).max() <= 1e-4 * expected.std()


def test_float16_runs_and_agrees(model: torch.nn.Module) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), dtype=np.uint8)
    full = TorchSession(model, INFO).run({"image": image})["logits"]
    half = TorchSession(model, INFO, precision=Precision.FP16).run({"image": image})["logits"]
    assert half.dtype == np.float32
    assert np.abs(half - full).max() <= 0.05 * full.std()


@pytest.mark.parametrize(
    "image", [np.zeros((64, 64, 3), np.uint8), np.zeros((1, 64, 64, 3), np.float32)]
)
def test_other_inputs_are_refused(model: torch.nn.Module, image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        TorchSession(model, INFO).run({"image": image})


@pytest.mark.parametrize("form", ["eager", "plain"])
def test_forms_agree(model: torch.nn.Module, form: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), dtype=np.uint8)
    expected = TorchSession(model, INFO).run({"image": image})["logits"]
    session = TorchSession(model, INFO, form=form)
    compute = session.prepare({"image": image})
    compute()
    found = session.run({"image": image})["logits"]
    assert np.abs(found - expected).max() <= 1e-4 * expected.std()


def test_bfloat16_runs_and_agrees(model: torch.nn.Module) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), dtype=np.uint8)
    full = TorchSession(model, INFO).run({"image": image})["logits"]
    half = TorchSession(model, INFO, precision=Precision.BF16).run({"image": image})["logits"]
    assert half.dtype == np.float32
    assert np.abs(half - full).max() <= 0.3 * full.std()


@pytest.mark.parametrize(("form", "said"), [("cuda-graph", "CUDA"), ("fast", "no form 'fast'")])
def test_forms_that_this_machine_has_not(model: torch.nn.Module, form: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        TorchSession(model, INFO, form=form, device="cpu")


@pytest.mark.gpu
@pytest.mark.parametrize("form", ["eager", "compiled", "cuda-graph", "plain"])
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16, Precision.BF16])
def test_forms_agree_on_a_gpu(model: torch.nn.Module, form: str, precision: Precision) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    image = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    expected = TorchSession(model, INFO, device="cpu").run({"image": image})["logits"]
    session = TorchSession(model, INFO, form=form, precision=precision, device="cuda")
    for _ in range(2):
        found = session.run({"image": image})["logits"]
        assert np.abs(found - expected).max() <= 0.3 * expected.std()
    session.prepare({"image": image})()


def test_int8_is_not_for_torch(model: torch.nn.Module) -> None:
    with pytest.raises(UsageError, match="int8"):
        TorchSession(model, INFO, precision=Precision.INT8)


def test_open_session_by_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(pt_bytes("seg-b0-cityscapes"))
    session = open_session(None, weights=path, threads=1)
    assert session.info.name == "seg-b0-cityscapes"
    assert session.backend is Backend.TORCH
    assert torch.get_num_threads() == 1
    torch.set_num_threads(2)
    session.close()


def test_backends_that_cannot_run_say_so() -> None:
    with pytest.raises(EvitError, match="tflite"):
        open_session("model.tflite")
    with pytest.raises(EvitError, match="openvino"):
        open_session("seg-b0-cityscapes", backend=Backend.OPENVINO)
    with pytest.raises(UsageError, match="is for onnx, which torch cannot run"):
        open_session("model.onnx", backend=Backend.TORCH)


def test_names_are_parsed_with_suggestions() -> None:
    assert parse_backend("Torch") is Backend.TORCH
    assert parse_backend(None) is None
    assert parse_precision("fp16") is Precision.FP16
    with pytest.raises(UsageError) as caught:
        parse_backend("tensort")
    assert "tensorrt" in caught.value.hint
    with pytest.raises(UsageError) as caught:
        parse_precision("fp61")
    assert "fp16" in caught.value.hint


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_gpu_agrees_with_the_processor(model: torch.nn.Module, precision: Precision) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 256, 512, 3), dtype=np.uint8)
    cpu = TorchSession(model, INFO, device="cpu").run({"image": image})["logits"]
    gpu = TorchSession(model, INFO, device="cuda", precision=precision).run({"image": image})
    assert np.abs(gpu["logits"] - cpu).max() <= 0.05 * cpu.std()
