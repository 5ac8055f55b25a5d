"""Runs an OpenVINO artifact (.xml with its .bin) on the processor.

A float32 artifact is computed in float32. A float16 one holds float16 weights and is computed in
what the processor is fastest in: bfloat16 where it has instructions for it, else float32.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evit_cli.errors import EvitError, MissingDependency
from evit_cli.runtime.description import read_description
from evit_cli.runtime.fixed_input import (
    expect_inputs,
    input_specs,
    output_names,
    rows_of,
    size_range,
    stored_inputs,
)
from evit_cli.types import Backend, Precision, TensorSpec

_DTYPES = {"u8": "uint8", "f32": "float32"}


def _core() -> Any:
    try:
        return _core_of(importlib.import_module("openvino"))
    except ImportError as error:
        raise MissingDependency(
            "running an OpenVINO model needs openvino, which is not installed",
            hint="pip install openvino",
        ) from error


@cache
def _core_of(openvino: Any) -> Any:
    """One for the process: OpenVINO 2026 crashes, some models later, where cores come and go."""
    return openvino.Core()


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
        core = _core()
        try:
            self._model = core.compile_model(core.read_model(path), "CPU", settings)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1] if str(error).strip() else "no reason"
            raise EvitError(
                f"{path} is not a model that OpenVINO can run: {reason}",
                hint="export it again, or update openvino",
            ) from error
        taken = [_spec(source) for source in self._model.inputs]
        expect_inputs(taken, self._description, path)
        self._request = self._model.create_infer_request()
        self.inputs = input_specs(self._description)
        own = [spec.name for spec in taken]
        names = own if len(own) > 1 else [self.inputs[0].name]
        self._order = {name: index for index, name in enumerate(names)}
        self.range_hw, self.sam = size_range(self._description), self._description.sam
        results = zip(output_names(self._description), self._model.outputs, strict=True)
        self.outputs = tuple(
            TensorSpec(name, _shape(result.partial_shape), "float32") for name, result in results
        )

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """`{"image": (B, H, W, 3) uint8}` -> `{"logits": float32}` or others; see `Session`."""
        stored, rows = stored_inputs(inputs, self._description), rows_of(inputs)
        try:
            feed = {self._order[name]: array for name, array in stored.items()}
            self._request.infer(feed, share_outputs=True)  # what is returned is copied below
        except RuntimeError as error:
            raise EvitError(f"OpenVINO failed: {str(error).strip().splitlines()[-1]}") from error
        # Copies: the request's own memory is written again by the next run.
        return {
            spec.name: np.array(self._request.get_output_tensor(i).data[:rows], dtype=np.float32)
            for i, spec in enumerate(self.outputs)
        }

    def prepare(self, inputs: Mapping[str, npt.NDArray[Any]]) -> Callable[[], object]:
        """The inference alone; see `Session`."""
        self.run(inputs)  # checks them, and copies the input into the request
        infer: Callable[[], object] = self._request.infer
        return infer

    def close(self) -> None:
        """Drop the model."""
        del self._request, self._model


def _spec(source: Any) -> TensorSpec:
    dtype = source.element_type.get_type_name()
    name = source.any_name if source.names else ""
    return TensorSpec(name, _shape(source.partial_shape), _DTYPES.get(dtype, dtype))


def _shape(shape: Any) -> tuple[int | None, ...]:
    return tuple(side.get_length() if side.is_static else None for side in shape)
