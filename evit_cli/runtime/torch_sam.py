"""The two halves of a SAM model in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from evit_cli.errors import EvitError, UsageError, require
from evit_cli.runtime.sam_part import (
    DECODER,
    DECODER_INPUTS,
    ENCODER,
    SamPart,
)
from evit_cli.runtime.torch_forms import EAGER, laid_out
from evit_cli.types import Backend, ModelInfo, Precision, Progress, Task, TensorSpec

if TYPE_CHECKING:
    import torch

    from evit_cli.models.sam.model import Sam

_MOST = 4096
"""Prompts per run and points per prompt; memory sets the real limit."""


class _TorchPart:
    """What both halves share.

    Args:
        info: the model's description.
        sam: which half.
        precision: of its arithmetic.
        device: "cpu", "cuda", or None for the GPU where there is one.
    """

    backend = Backend.TORCH

    def __init__(
        self, info: ModelInfo, sam: SamPart, *, precision: Precision, device: str | None
    ) -> None:
        import torch

        self.info, self.sam, self.precision = info, sam, precision
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.outputs = sam.outputs
        self._model: Any = None

    def _call(self, inputs: Mapping[str, npt.NDArray[Any]]) -> tuple[torch.Tensor, ...]:
        raise NotImplementedError

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Compute all outputs; see `Session`."""
        import torch

        try:
            with torch.inference_mode():
                found = [t.float().cpu().contiguous().numpy() for t in self._call(inputs)]
        except RuntimeError as error:
            if "memory" in str(error).lower():
                raise EvitError(
                    f"out of memory in the {self.sam.part}", hint="close other programs"
                ) from error
            raise
        return {spec.name: array for spec, array in zip(self.outputs, found, strict=True)}

    def prepare(self, inputs: Mapping[str, npt.NDArray[Any]]) -> Callable[[], object]:
        """The computation alone; see `Session`."""
        import torch

        self.run(inputs)

        def compute() -> None:
            with torch.inference_mode():
                self._call(inputs)
                if self._device.type == "cuda":
                    torch.cuda.synchronize(self._device)

        return compute

    def close(self) -> None:
        """Drop the weights."""
        del self._model


class TorchSamEncoder(_TorchPart):
    """From an image to its embedding; fused and channels-last.

    Args:
        model: it is fused and copied, not changed.
        info: its description.
        precision: FP32, FP16 or BF16.
        device: "cpu", "cuda", or None for the GPU where there is one.
    """

    def __init__(
        self,
        model: Sam,
        info: ModelInfo,
        *,
        precision: Precision = Precision.FP32,
        device: str | None = None,
    ) -> None:
        import torch

        from evit_cli.models.fuse import fuse
        from evit_cli.models.precision import to_half

        part = SamPart(ENCODER, embedding_of(model))
        super().__init__(info, part, precision=precision, device=device)
        encoder = fuse(model.encoder).eval()
        self._dtype = torch.float32
        if precision is Precision.FP16:
            self._dtype = torch.float16
            to_half(encoder)
        elif precision is Precision.BF16:
            self._dtype = torch.bfloat16
            encoder.to(self._dtype)
        self._model = laid_out(encoder.to(self._device), EAGER)
        std = 255 * torch.tensor(info.preprocess.std_rgb, device=self._device)
        mean = 255 * torch.tensor(info.preprocess.mean_rgb, device=self._device)
        self._mean, self._std = mean, std
        side = info.preprocess.size_hw
        self.inputs = (TensorSpec("image", (1, *side, 3), "float32"),)

    def _call(self, inputs: Mapping[str, npt.NDArray[Any]]) -> tuple[torch.Tensor, ...]:
        import torch

        image = inputs["image"]
        expected = self.inputs[0].shape
        if image.shape != expected or image.dtype != np.float32:
            raise ValueError(f"image must be {expected} float32, got {image.shape} {image.dtype}")
        x = (torch.from_numpy(image).to(self._device) - self._mean) / self._std
        return (self._model(x.permute(0, 3, 1, 2).to(self._dtype)),)


class TorchSamDecoder(_TorchPart):
    """From prompts to masks, in float32: next to the encoder it costs little.

    Args:
        model: it is copied, not changed.
        info: its description.
        device: "cpu", "cuda", or None for the GPU where there is one.
    """

    def __init__(self, model: Sam, info: ModelInfo, *, device: str | None = None) -> None:
        import copy

        most = (1, _MOST)
        part = SamPart(DECODER, embedding_of(model), prompts=most, points=most)
        super().__init__(info, part, precision=Precision.FP32, device=device)
        self._model = copy.deepcopy(model.decoder).float().to(self._device).eval()
        self.inputs = part.inputs

    def _call(self, inputs: Mapping[str, npt.NDArray[Any]]) -> tuple[torch.Tensor, ...]:
        import torch

        from evit_cli.models.sam.prompts import ABSENT

        tensors = {name: torch.from_numpy(inputs[name]).to(self._device) for name in DECODER_INPUTS}
        given = tensors.pop("has_mask")
        mask_input = tensors.pop("mask_input")
        self._model.takes_absent = bool((tensors["labels"] == ABSENT).any())
        masks: tuple[torch.Tensor, ...] = self._model(
            *tensors.values(),
            mask_input=mask_input if bool(given.any()) else None,
            has_mask=given if bool(given.any()) else None,
        )
        return masks


def embedding_of(model: Sam) -> tuple[int, int, int]:
    """Shape of one image's embedding."""
    from evit_cli.models.sam.prompts import EMBEDDING_SIDE

    return (len(model.encoder.norm.weight), EMBEDDING_SIDE, EMBEDDING_SIDE)


def torch_halves(
    model: Sam,
    info: ModelInfo,
    *,
    precision: Precision = Precision.FP32,
    device: str | None = None,
) -> tuple[TorchSamEncoder, TorchSamDecoder]:
    """A model's two sessions.

    Raises:
        UsageError: the torch backend has no such precision.
    """
    if precision is Precision.INT8:
        raise UsageError("the torch backend runs fp32, fp16 and bf16, not int8")
    encoder = TorchSamEncoder(model, info, precision=precision, device=device)
    return encoder, TorchSamDecoder(model, info, device=device)


def load_torch_sam(
    model: str | None,
    *,
    weights: Path | None = None,
    precision: Precision = Precision.FP32,
    threads: int | None = None,
    offline: bool = False,
    progress: Progress | None = None,
) -> tuple[TorchSamEncoder, TorchSamDecoder]:
    """Load a model by any accepted name and make both halves ready to run.

    Raises:
        MissingDependency: torch is not installed.
        EvitError: the name or the weights are wrong, or of another task.
    """
    require("torch", extra="torch", why="running a model from its weights")
    import torch

    from evit_cli.runtime.sam import not_sam
    from evit_cli.weights.load import load_model

    loaded = load_model(model, weights=weights, offline=offline, progress=progress)
    if loaded.info.task is not Task.SAM:
        raise not_sam(loaded.info)
    if threads is not None:
        torch.set_num_threads(threads)
    whole: Any = loaded.model
    return torch_halves(whole, loaded.info, precision=precision)
