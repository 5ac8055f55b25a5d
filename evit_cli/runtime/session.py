"""What every runtime offers: one loaded model that maps named arrays to named arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from evit_cli.types import Backend, ModelInfo, Precision, TensorSpec

Array = npt.NDArray[np.generic]


class Session(Protocol):
    """A model or artifact that is ready to run.

    Image models take `image`, uint8 RGB (B, H, W, 3): normalisation is part of the session.
    Segmentation gives `logits` (B, classes, H / 8, W / 8) float32, classification `logits`
    (B, classes) float32. Super-resolution gives `upscaled` (B, 3, H * scale, W * scale) float32
    RGB, 0..1 and a bit beyond.

    Attributes:
        info: what the model says about itself.
        backend: what runs it.
        precision: the number format of its arithmetic.
        inputs: names, shapes (None where free) and dtypes.
        outputs: the same of the results.
    """

    @property
    def info(self) -> ModelInfo: ...  # noqa: D102

    @property
    def backend(self) -> Backend: ...  # noqa: D102

    @property
    def precision(self) -> Precision: ...  # noqa: D102

    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...  # noqa: D102

    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...  # noqa: D102

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Compute all outputs.

        Raises:
            EvitError: the runtime failed, for example out of memory.
        """

    def prepare(self, inputs: Mapping[str, npt.NDArray[Any]]) -> Callable[[], object]:
        """Put the inputs where the runtime reads them, for timing the computation alone.

        Returns:
            Computes once per call and leaves the outputs where the runtime keeps them. It is done
            when it returns, on a GPU too.
        """

    def close(self) -> None:
        """Free what the session holds; it cannot run afterwards."""
