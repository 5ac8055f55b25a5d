"""The ways torch runs a model: eagerly, compiled, as a CUDA graph, or plainly as it was trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from evit_cli.errors import EvitError, UsageError, suggest

if TYPE_CHECKING:
    import torch
    from torch import nn

EAGER, COMPILED, CUDA_GRAPH, PLAIN = "eager", "compiled", "cuda-graph", "plain"
FORMS = (EAGER, COMPILED, CUDA_GRAPH, PLAIN)
"""`eager` is fused and channels-last; `plain` is neither, as the published code runs."""

_WARM_UP = 3

Call = Callable[["torch.Tensor"], "torch.Tensor"]


def check_form(form: str, device: torch.device) -> None:
    """Refuse a form that does not exist, or that this device has not.

    Raises:
        UsageError: there is no such form, or it needs a GPU.
    """
    if form not in FORMS:
        raise UsageError(f"torch has no form '{form}'", hint=suggest(form, FORMS))
    if form == CUDA_GRAPH and device.type != "cuda":
        raise UsageError("a CUDA graph needs a CUDA GPU", hint="leave --form away")


def laid_out(model: nn.Module, form: str) -> nn.Module:
    """The module as a form wants its convolutions: channels-last, or as they are."""
    import torch

    if form != PLAIN:
        for parameter in model.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return model


def as_form(model: nn.Module, form: str) -> Call:
    """The model as something to call with (B, 3, H, W); outputs of a CUDA graph are overwritten."""
    if form == COMPILED:
        return _compiled(model)
    if form == CUDA_GRAPH:
        return _GraphCall(model)
    if form == PLAIN:
        return lambda x: model(x.contiguous())
    return model


def _compiled(model: nn.Module) -> Call:
    import torch

    compiled = torch.compile(model, dynamic=False)

    def call(x: torch.Tensor) -> torch.Tensor:
        try:
            result: torch.Tensor = compiled(x)
        except Exception as error:
            if type(error).__module__.startswith("torch._"):  # its errors have no public class
                reason = next((line for line in str(error).splitlines() if line.strip()), "")
                raise EvitError(
                    f"torch could not compile the model: {reason}",
                    hint="a C++ compiler (on a GPU also triton) must be installed; or --form eager",
                ) from error
            raise
        return result

    return call


class _GraphCall:
    """Replays the model as one CUDA graph per input shape."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._shape: tuple[int, ...] = ()

    def _capture(self, x: torch.Tensor) -> None:
        import torch

        self._input = x.clone()
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # libraries choose their kernels before the capture
            for _ in range(_WARM_UP):
                self._model(self._input)
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._output = self._model(self._input)
        self._shape = tuple(x.shape)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if tuple(x.shape) != self._shape:
            self._capture(x)
        self._input.copy_(x)
        self._graph.replay()
        output: torch.Tensor = self._output
        return output
