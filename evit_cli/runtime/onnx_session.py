"""Runs an .onnx artifact with ONNX Runtime: on a CUDA GPU where its build has one, else the CPU."""

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
    expect_inputs,
    input_specs,
    output_names,
    rows_of,
    size_range,
    stored_inputs,
)
from evit_cli.types import Backend, TensorSpec

_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}
_ERRORS_ONLY = 3


def _runtime() -> Any:
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise MissingDependency(
            "running an .onnx file needs onnxruntime, which is not installed",
            hint="pip install onnxruntime",
        ) from error


class OnnxSession:
    """A `Session` over an .onnx file that `evit export` wrote.

    Args:
        path: the file.
        threads: CPU threads, None for ONNX Runtime's choice.

    Raises:
        EvitError: the file or its description is missing or damaged.
        MissingDependency: onnxruntime is not installed.
    """

    backend = Backend.ONNX

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        self._description = read_description(path)
        self.info, self.precision = self._description.info, self._description.precision
        runtime = _runtime()
        options = runtime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        # Its threads would spin between runs and take the cores from decoding and drawing.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if threads is not None:
            options.intra_op_num_threads = threads
        providers = [p for p in _PROVIDERS if p in runtime.get_available_providers()]
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # its exceptions have no common class of their own
            raise EvitError(
                f"{path} is not a file that ONNX Runtime can run: {_first_line(error)}",
                hint="export it again, or update onnxruntime",
            ) from error
        taken = [_spec(source) for source in self._session.get_inputs()]
        expect_inputs(taken, self._description, path)
        self.inputs = input_specs(self._description)
        # Of an image model the file may call its one input as it likes.
        own = [spec.name for spec in taken]
        names = own if len(own) > 1 else [self.inputs[0].name]
        self._feeds = dict(zip(names, own, strict=True))
        self.range_hw, self.sam = size_range(self._description), self._description.sam
        results = zip(output_names(self._description), self._session.get_outputs(), strict=True)
        self.outputs = tuple(
            TensorSpec(name, _shape(result.shape), "float32") for name, result in results
        )

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """`{"image": (B, H, W, 3) uint8}` -> `{"logits": float32}` or others; see `Session`."""
        stored, rows = stored_inputs(inputs, self._description), rows_of(inputs)
        try:
            feed = {self._feeds[name]: array for name, array in stored.items()}
            results = self._session.run(None, feed)
        except Exception as error:
            raise EvitError(f"ONNX Runtime failed: {_first_line(error)}") from error
        return {
            spec.name: np.asarray(result[:rows], dtype=np.float32)
            for spec, result in zip(self.outputs, results, strict=True)
        }

    def prepare(self, inputs: Mapping[str, npt.NDArray[Any]]) -> Callable[[], object]:
        """The run alone, with both ends bound to the device's memory; see `Session`."""
        stored = stored_inputs(inputs, self._description)
        device = "cuda" if self._session.get_providers()[0].startswith("CUDA") else "cpu"
        binding = self._session.io_binding()
        for name, array in stored.items():
            binding.bind_ortvalue_input(
                self._feeds[name], _runtime().OrtValue.ortvalue_from_numpy(array, device, 0)
            )
        for output in self._session.get_outputs():
            binding.bind_output(output.name, device)

        def compute() -> None:
            self._session.run_with_iobinding(binding)
            binding.synchronize_outputs()

        return compute

    def close(self) -> None:
        """Drop the session."""
        del self._session


def _spec(source: Any) -> TensorSpec:
    return TensorSpec(source.name, _shape(source.shape), _DTYPES.get(source.type, source.type))


def _shape(shape: list[Any]) -> tuple[int | None, ...]:
    return tuple(side if isinstance(side, int) else None for side in shape)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].strip()
