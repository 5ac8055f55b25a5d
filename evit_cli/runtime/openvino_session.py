"""Runs an OpenVINO artifact (.xml with its .bin) on the processor.

A float32 artifact is computed in float32. A float16 one holds float16 weights and is computed in
what the processor is fastest in: bfloat16 where it has instructions for it, else float32.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evit_cli.errors import EvitError, MissingDependency
from evit_cli.runtime.description import read_description
from evit_cli.runtime.fixed_input import (
    as_stored,
    check_image,
    expect_input,
    image_spec,
    output_name,
    size_range,
)
from evit_cli.types import Backend, Precision, TensorSpec

_DTYPES = {"u8": "uint8", "f32": "float32"}


def _openvino() -> Any:
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        raise MissingDependency(
            "running an OpenVINO model needs openvino, which is not installed",
            hint="pip install openvino",
        ) from error


class OpenvinoSession:
    """A `Session` over an .xml file that `evit export` wrote, with its .bin beside it.

    Args:
        path: the .xml file.
        threads: CPU threads, None for OpenVINO's choice.

    Raises:
        EvitError: a file or the description is missing or damaged.
        MissingDependency: openvino is not installed.
    """

    backend = Backend.OPENVINO

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        self._description = read_description(path)
        self.info, self.precision = self._description.info, self._description.precision
        if not path.with_suffix(".bin").is_file():
            raise EvitError(
                f"{path.with_suffix('.bin').name} is missing beside {path}",
                hint="an OpenVINO model is two files: copy both",
            )
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        if self.precision is not Precision.FP16:
            settings["INFERENCE_PRECISION_HINT"] = "f32"
        openvino = _openvino()
        try:
            model = openvino.Core().read_model(path)
            self._model = openvino.Core().compile_model(model, "CPU", settings)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1] if str(error).strip() else "no reason"
            raise EvitError(
                f"{path} is not a model that OpenVINO can run: {reason}",
                hint="export it again, or update openvino",
            ) from error
        source, result = self._model.inputs[0], self._model.outputs[0]
        dtype = source.element_type.get_type_name()
        own = TensorSpec("image", _shape(source.partial_shape), _DTYPES.get(dtype, dtype))
        expect_input(own, self._description, path)
        self._request = self._model.create_infer_request()
        self.inputs = (image_spec(self._description),)
        self.range_hw = size_range(self._description)
        self._name = output_name(self.info.task)
        self.outputs = (TensorSpec(self._name, _shape(result.partial_shape), "float32"),)

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """`{"image": (B, H, W, 3) uint8}` -> `{"logits": float32}` or "upscaled"; see `Session`."""
        image = inputs["image"]
        check_image(image, self._description)
        try:
            self._request.infer({0: as_stored(image, self._description)})
        except RuntimeError as error:
            raise EvitError(f"OpenVINO failed: {str(error).strip().splitlines()[-1]}") from error
        # A copy: the request's own memory is written again by the next image.
        logits = self._request.get_output_tensor(0).data[: len(image)]
        return {self._name: np.array(logits, dtype=np.float32)}

    def prepare(self, inputs: Mapping[str, npt.NDArray[Any]]) -> Callable[[], object]:
        """The inference alone; see `Session`."""
        self.run(inputs)  # checks them, and copies the input into the request
        infer: Callable[[], object] = self._request.infer
        return infer

    def close(self) -> None:
        """Drop the model."""
        del self._request, self._model


def _shape(shape: Any) -> tuple[int | None, ...]:
    return tuple(side.get_length() if side.is_static else None for side in shape)
