"""Runs a .tflite artifact with LiteRT on the CPU (XNNPACK); no torch is needed.

`ai-edge-litert` is the successor of `tflite-runtime`, which is taken where a board has only that.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evit_cli.errors import EvitError, MissingDependency
from evit_cli.runtime.description import read_description
from evit_cli.runtime.fixed_input import (
    decoder_of,
    expect_inputs,
    input_specs,
    output_names,
    rows_of,
    size_range,
    stored_inputs,
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
        sources = _in_order(self._interpreter.get_input_details())
        results = _in_order(self._interpreter.get_output_details())
        self.inputs = input_specs(self._description)
        names = [spec.name for spec in self.inputs]
        if len(sources) != len(names):
            raise EvitError(
                f"{path} takes {len(sources)} tensors, and its description says {names}",
                hint="export it again",
            )
        taken = [_spec(name, source) for name, source in zip(names, sources, strict=True)]
        expect_inputs(taken, self._description, path)
        self._index = {n: source["index"] for n, source in zip(names, sources, strict=True)}
        # Images lie in a .tflite file with their channels last; masks do not.
        self._images = decoder_of(self._description) is None
        self.range_hw, self.sam = size_range(self._description), self._description.sam
        given = zip(output_names(self._description), results, strict=True)
        self._results = dict(given)
        self.outputs = tuple(
            TensorSpec(name, self._shape(result["shape"]), "float32")
            for name, result in self._results.items()
        )

    def _shape(self, shape: Any) -> tuple[int, ...]:
        """Of an output as the session gives it."""
        first, *rest = (int(side) for side in shape)
        return (first, rest[-1], *rest[:-1]) if self._images else (first, *rest)

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """`{"image": (B, H, W, 3) uint8}` -> `{"logits": float32}` or others; see `Session`."""
        stored, rows = stored_inputs(inputs, self._description), rows_of(inputs)
        try:
            for name, array in stored.items():
                self._interpreter.set_tensor(self._index[name], array)
            self._interpreter.invoke()
            return {name: self._given(result)[:rows] for name, result in self._results.items()}
        except (ValueError, RuntimeError) as error:
            raise EvitError(f"LiteRT failed: {str(error).partition(chr(10))[0]}") from error

    def _given(self, result: Mapping[str, Any]) -> npt.NDArray[Any]:
        values = self._interpreter.get_tensor(result["index"])
        # An int8 model's logits come as int8 codes with this scale and zero point.
        scale, zero = result.get("quantization", (0.0, 0))
        if scale:
            values = (values.astype(np.float32) - zero) * scale
        values = np.asarray(values, np.float32)
        # NHWC -> NCHW, as a view: what reads it copies it anyway.
        return np.moveaxis(values, -1, 1) if self._images else values

    def prepare(self, inputs: Mapping[str, npt.NDArray[Any]]) -> Callable[[], object]:
        """The invocation alone; see `Session`."""
        self.run(inputs)  # checks them, and sets the tensor
        invoke: Callable[[], object] = self._interpreter.invoke
        return invoke

    def close(self) -> None:
        """Drop the interpreter."""
        del self._interpreter


def _in_order(details: list[Any]) -> list[Any]:
    """Tensors in the order of the function that was exported.

    Their names end in it ("serving_default_args_2:0", "StatefulPartitionedCall:1"), and the file
    lists them as its converter liked.
    """
    if len(details) == 1:
        return details
    return sorted(details, key=lambda one: [int(n) for n in re.findall(r"\d+", one["name"])])


def _spec(name: str, details: Mapping[str, Any]) -> TensorSpec:
    shape = tuple(int(side) for side in details["shape"])
    return TensorSpec(name, shape, np.dtype(details["dtype"]).name)
