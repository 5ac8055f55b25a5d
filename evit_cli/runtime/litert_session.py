"""Runs a .tflite artifact with LiteRT on the CPU (XNNPACK); no torch is needed.

`ai-edge-litert` is the successor of `tflite-runtime`, which is taken where a board has only that.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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
from evit_cli.types import Backend, TensorSpec

_RUNTIMES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")


def litert_available() -> bool:
    """Whether a runtime for .tflite files is installed."""
    try:
        _interpreter_class()
    except MissingDependency:
        return False
    return True


def _interpreter_class() -> Any:
    for name in _RUNTIMES:
        try:
            return importlib.import_module(name).Interpreter
        except ImportError:
            continue
    raise MissingDependency(
        "running a .tflite file needs ai-edge-litert, which is not installed",
        hint="pip install ai-edge-litert",
    )


@contextmanager
def _quiet_standard_error() -> Iterator[None]:
    """LiteRT's C++ side announces its delegate on file descriptor 2, and has no switch for it.

    What goes wrong comes as an exception.
    """
    try:
        kept = os.dup(2)
    except OSError:  # standard error is closed: nothing to keep quiet
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class LitertSession:
    """A `Session` over a .tflite file that `evit export` wrote.

    Args:
        path: the file; its description lies in it, or beside it.
        threads: CPU threads, None for LiteRT's choice.

    Raises:
        EvitError: the file or its description is missing or damaged.
        MissingDependency: no runtime is installed.
    """

    backend = Backend.TFLITE

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        self._description = read_description(path)
        self.info, self.precision = self._description.info, self._description.precision
        interpreter = _interpreter_class()
        try:
            with _quiet_standard_error():
                self._interpreter = interpreter(model_path=str(path), num_threads=threads)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError, OSError) as error:
            reason = str(error).partition("\n")[0].strip().lower()
            raise EvitError(
                f"{path} is not a .tflite file that LiteRT can run: {reason}",
                hint="export it again, or update ai-edge-litert",
            ) from error
        (source,) = self._interpreter.get_input_details()
        (result,) = self._interpreter.get_output_details()
        self._input, self._output = source["index"], result["index"]
        # An int8 model's logits come as int8 codes with this scale and zero point.
        self._scale, self._zero = result.get("quantization", (0.0, 0))
        expect_input(_spec("image", source), self._description, path)
        self.inputs = (image_spec(self._description),)
        self.range_hw = size_range(self._description)
        batch, *space, classes = (int(side) for side in result["shape"])
        self._name = output_name(self.info.task)
        self.outputs = (TensorSpec(self._name, (batch, classes, *space), "float32"),)

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """`{"image": (B, H, W, 3) uint8}` -> `{"logits": float32}` or "upscaled"; see `Session`."""
        image = inputs["image"]
        check_image(image, self._description)
        try:
            self._interpreter.set_tensor(self._input, as_stored(image, self._description))
            self._interpreter.invoke()
            values = self._interpreter.get_tensor(self._output)
        except (ValueError, RuntimeError) as error:
            raise EvitError(f"LiteRT failed: {str(error).partition(chr(10))[0]}") from error
        if self._scale:
            values = (values.astype(np.float32) - self._zero) * self._scale
        # NHWC -> NCHW, as a view: what reads it copies it anyway.
        return {self._name: np.moveaxis(np.asarray(values[: len(image)], np.float32), -1, 1)}

    def prepare(self, inputs: Mapping[str, npt.NDArray[Any]]) -> Callable[[], object]:
        """The invocation alone; see `Session`."""
        self.run(inputs)  # checks them, and sets the tensor
        invoke: Callable[[], object] = self._interpreter.invoke
        return invoke

    def close(self) -> None:
        """Drop the interpreter."""
        del self._interpreter


def _spec(name: str, details: Mapping[str, Any]) -> TensorSpec:
    shape = tuple(int(side) for side in details["shape"])
    return TensorSpec(name, shape, np.dtype(details["dtype"]).name)
