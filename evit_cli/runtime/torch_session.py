"""Runs a model in PyTorch, fused and channels-last, on a CUDA GPU where there is one.

Channels-last is what the depthwise convolutions of this family like: on two x86 cores seg-b0 at
1024x2048 takes 0.43 s, 0.55 s without it and 0.72 s unfused (`benchmarks/model_forms.py`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from evit_cli.errors import EvitError, UsageError, require
from evit_cli.runtime.torch_forms import EAGER, PLAIN, as_form, check_form, laid_out
from evit_cli.types import Backend, ModelInfo, Precision, Progress, Task, TensorSpec

if TYPE_CHECKING:
    import torch
    from torch import nn


class TorchSession:
    """A `Session` over a PyTorch module.

    Args:
        model: maps normalised RGB (B, 3, H, W) to logits; it is fused and copied, not changed.
        info: the model's description.
        precision: FP32, or FP16 or BF16 (any device; hardly fast without a GPU).
        threads: CPU threads, None for PyTorch's choice.
        device: "cpu", "cuda", or None for the GPU where there is one.
        form: how torch runs it, one of `evit_cli.runtime.torch_forms.FORMS`.
    """

    backend = Backend.TORCH

    def __init__(
        self,
        model: nn.Module,
        info: ModelInfo,
        *,
        precision: Precision = Precision.FP32,
        threads: int | None = None,
        device: str | None = None,
        form: str = EAGER,
    ) -> None:
        import torch

        from evit_cli.models.fuse import fuse

        if precision is Precision.INT8:
            raise UsageError("the torch backend runs fp32, fp16 and bf16, not int8")
        if threads is not None:
            torch.set_num_threads(threads)
        self.info = info
        self.precision = precision
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.device = self._device.type
        check_form(form, self._device)
        halves = {Precision.FP16: torch.float16, Precision.BF16: torch.bfloat16}
        self._dtype = halves.get(precision, torch.float32)
        whole = copy.deepcopy(model) if form == PLAIN else fuse(model)
        self._model = as_form(laid_out(whole.to(self._device, self._dtype), form), form)
        scale = 1 / (255 * torch.tensor(info.preprocess.std_rgb, device=self._device))
        self._scale, self._shift = scale, -255 * scale * scale.new_tensor(info.preprocess.mean_rgb)
        classes = None if info.classes is None else len(info.classes)
        self.inputs = (TensorSpec("image", (None, None, None, 3), "uint8"),)
        shape = (None, classes) + ((None, None) if info.task is Task.SEGMENT else ())
        output = TensorSpec("logits", shape, "float32")
        if info.task is Task.SUPERRES:
            output = TensorSpec("upscaled", (None, 3, None, None), "float32")
        self.outputs = (output,)

    def normalise(self, image: npt.NDArray[Any]) -> torch.Tensor:
        """(B, H, W, 3) uint8 RGB -> (B, 3, H, W) of mean 0 and deviation 1, channels-last."""
        import torch

        if image.ndim != 4 or image.shape[-1] != 3 or image.dtype != np.uint8:
            raise ValueError(f"image must be (B, H, W, 3) uint8, got {image.shape} {image.dtype}")
        b, h, w, _ = image.shape
        x = torch.from_numpy(np.ascontiguousarray(image)).to(self._device)
        # Whole rows at once: five times as fast as broadcasting three values over the last axis.
        rows = x.view(b * h, w * 3).float().mul_(self._scale.repeat(w)).add_(self._shift.repeat(w))
        nchw = rows.view(b, h, w, 3).permute(0, 3, 1, 2)  # channels-last in memory already
        return nchw.to(self._dtype)

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """`{"image": (B, H, W, 3) uint8}` -> `{"logits": float32}` or "upscaled"; see `Session`."""
        import torch

        image = inputs["image"]
        try:
            with torch.inference_mode():
                logits = self._model(self.normalise(image)).float().cpu()
        except RuntimeError as error:
            if "memory" in str(error).lower():
                size = f"{image.shape[1]}x{image.shape[2]}"
                raise EvitError(
                    f"out of memory at input size {size}", hint="try a smaller --size"
                ) from error
            raise
        return {self.outputs[0].name: logits.contiguous().numpy()}

    def prepare(self, inputs: Mapping[str, npt.NDArray[Any]]) -> Callable[[], object]:
        """The model alone, on input that is normalised and on its device; see `Session`."""
        import torch

        self.run(inputs)  # checks them; compiles where the form compiles
        x = self.normalise(inputs["image"])

        def compute() -> None:
            with torch.inference_mode():
                self._model(x)
                if self._device.type == "cuda":
                    torch.cuda.synchronize(self._device)

        return compute

    def close(self) -> None:
        """Drop the weights."""
        del self._model


def load_torch_session(
    model: str | None,
    *,
    weights: Path | None = None,
    precision: Precision = Precision.FP32,
    threads: int | None = None,
    offline: bool = False,
    progress: Progress | None = None,
) -> TorchSession:
    """Load a model by any accepted name and make it ready to run.

    Raises:
        MissingDependency: torch is not installed.
        EvitError: the name or the weights are wrong, or cannot be had offline.
    """
    require("torch", extra="torch", why="running a model from its weights")
    from evit_cli.weights.load import load_model

    loaded = load_model(model, weights=weights, offline=offline, progress=progress)
    return TorchSession(loaded.model, loaded.info, precision=precision, threads=threads)
