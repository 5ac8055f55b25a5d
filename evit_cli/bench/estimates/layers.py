"""What a model is made of, layer by layer, as a runtime sees it: work, weights, traffic.

The model runs once on PyTorch's meta device, which computes shapes and nothing else, and every
operator it calls is written down. Operators that a runtime joins to the one before them
(activation, normalisation, residual addition) are joined here too.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from evit_cli.errors import require
from evit_cli.models.variants import Variant
from evit_cli.types import ImageSize

if TYPE_CHECKING:
    from torch import Tensor, nn

LayerKind = Literal[
    "conv", "pointwise", "grouped", "depthwise", "linear", "matmul", "resize", "pool", "norm",
    "elementwise",
]  # fmt: skip
"""conv: k x k over all channels; pointwise: 1x1; grouped: in groups of channels; depthwise: channel
by channel; matmul: a product of two activations, as in attention; pool: a mean over the image."""

_NO_SIZE = ImageSize(1, 1)


@dataclass(frozen=True)
class Layer:
    """One layer after fusing, for a whole batch.

    Attributes:
        name: the module it belongs to, "backbone.stages.0.1.main.depth_conv.conv".
        kind: what it does.
        macs: multiply-accumulates of convolutions, linear layers and products.
        weights: parameters, with BatchNorm folded.
        inputs: elements read, without the weights.
        outputs: elements written.
        depth: what one output sums over: input channels of a group times the kernel's area.
        width: output channels, which share what is read.
        size_hw: of the output; (1, 1) where it has none.
    """

    name: str
    kind: LayerKind
    macs: int
    weights: int
    inputs: int
    outputs: int
    depth: int = 1
    width: int = 1
    size_hw: ImageSize = _NO_SIZE


_VIEWS = frozenset(
    "view _unsafe_view reshape transpose t permute expand slice select split split_with_sizes "
    "chunk narrow unsqueeze squeeze alias detach clone cat unbind unfold as_strided contiguous "
    "empty zeros ones full arange lift_fresh copy_ _to_copy _reshape_alias scalar_tensor".split()
)
"""Cost nothing of their own: a runtime writes each part of a concatenation where it will lie."""
_REDUCTIONS = frozenset("mean sum amax max avg_pool2d adaptive_avg_pool2d _softmax".split())
_NORMS = frozenset("native_layer_norm native_group_norm".split())
_PRODUCTS = frozenset("mm addmm bmm baddbmm".split())


class _Recorder:
    """Turns the operators of one run into layers."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self._made_by: dict[int, int] = {}
        self._alive: list[Any] = []  # so that no id is given twice

    def see(self, op: str, name: str, args: tuple[Any, ...], result: Any) -> None:
        """One operator: its name, the module that called it, its arguments and its result."""
        tensors = [arg for arg in args if hasattr(arg, "shape")]
        made = result if isinstance(result, tuple | list) else (result,)
        self._alive += [*made, *tensors]
        if op in _VIEWS:
            self._pass_on(tensors, made)
            return
        if op not in ("native_batch_norm", "_native_batch_norm_legit_no_training", "batch_norm"):
            self._add(op, name, args, made[0])
        elif not self._joins(tensors[:1], made[0]):
            self._append(Layer(name, "norm", 0, 0, made[0].numel(), made[0].numel()))
        for tensor in made:
            self._made_by[id(tensor)] = len(self.layers) - 1

    def _pass_on(self, tensors: list[Tensor], made: Any) -> None:
        source = self._made_by.get(id(tensors[0])) if len(tensors) == 1 else None
        for tensor in made:
            if source is not None:
                self._made_by[id(tensor)] = source

    def _add(self, op: str, name: str, args: tuple[Any, ...], out: Tensor) -> None:
        tensors = [arg for arg in args if hasattr(arg, "shape")]
        if op in ("convolution", "_convolution", "conv2d"):
            self._append(_convolution(name, args, out))
        elif op in _PRODUCTS:
            self._append(_product(op, name, tensors, out))
        elif op.startswith("_scaled_dot_product"):
            self._append(_softmax_attention(name, tensors, out))
        elif op.startswith("upsample"):
            self._append(_plain("resize", name, tensors, out))
        elif op in _NORMS:
            self._append(_plain("norm", name, tensors, out))
        elif op in _REDUCTIONS and not self._in_elementwise():
            self._append(_plain("pool", name, tensors, out))
        elif not self._joins(tensors, out):
            self._append(_plain("elementwise", name, tensors, out))

    def _append(self, layer: Layer) -> None:
        self.layers.append(layer)

    def _in_elementwise(self) -> bool:
        return bool(self.layers) and self.layers[-1].kind in ("elementwise", "pool")

    def _joins(self, tensors: list[Tensor], out: Tensor) -> bool:
        """Whether a runtime computes it together with the layer before; then that one reads more.

        That is so for what follows a layer on its whole output, and for a run of operators without
        arithmetic between them.
        """
        if not self.layers:
            return False
        last, index = self.layers[-1], len(self.layers) - 1
        own = [t for t in tensors if self._made_by.get(id(t)) == index]
        others = sum(t.numel() for t in tensors if self._made_by.get(id(t)) != index)
        if self._in_elementwise():
            written = max(last.outputs, out.numel()) if own else last.outputs + out.numel()
            kind: LayerKind = "elementwise" if written > last.outputs else last.kind
            read = last.inputs + others
            self.layers[-1] = replace(last, kind=kind, inputs=read, outputs=written)
            return True
        if not any(t.numel() == last.outputs for t in own):
            return False
        self.layers[-1] = replace(last, inputs=last.inputs + others)
        return True


def _size(out: Tensor) -> ImageSize:
    return ImageSize(*out.shape[-2:]) if out.dim() == 4 else _NO_SIZE


def _plain(kind: LayerKind, name: str, tensors: list[Tensor], out: Tensor) -> Layer:
    read = sum(tensor.numel() for tensor in tensors if tensor.dim() > 1)
    weights = sum(tensor.numel() for tensor in tensors if tensor.dim() == 1)
    return Layer(name, kind, 0, weights, read, out.numel(), size_hw=_size(out))


def _convolution(name: str, args: tuple[Any, ...], out: Tensor) -> Layer:
    x, weight, *rest = args
    bias = rest[0] if rest else None
    depth = prod(weight.shape[1:])
    groups = x.shape[1] // weight.shape[1]
    kind: LayerKind = "conv" if prod(weight.shape[2:]) > 1 else "pointwise"
    if groups > 1:
        kind = "depthwise" if weight.shape[1] == 1 else "grouped"
    weights = weight.numel() + (0 if bias is None else bias.numel())
    macs = out.numel() * depth
    width = weight.shape[0]
    return Layer(name, kind, macs, weights, x.numel(), out.numel(), depth, width, _size(out))


def _product(op: str, name: str, tensors: list[Tensor], out: Tensor) -> Layer:
    *bias, left, right = tensors
    depth = left.shape[-1]
    macs, width = out.numel() * depth, out.shape[-1]
    if op in ("mm", "addmm"):
        weights = right.numel() + sum(tensor.numel() for tensor in bias)
        return Layer(name, "linear", macs, weights, left.numel(), out.numel(), depth, width)
    read = sum(tensor.numel() for tensor in tensors)
    return Layer(name, "matmul", macs, 0, read, out.numel(), depth, width)


def _softmax_attention(name: str, tensors: list[Tensor], out: Tensor) -> Layer:
    """What peers call: two products with everything between them in one kernel."""
    q, k, v = tensors[:3]
    scores = prod(q.shape[:-1]) * k.shape[-2]
    macs = scores * (q.shape[-1] + v.shape[-1])
    read = sum(tensor.numel() for tensor in (q, k, v))
    return Layer(name, "matmul", macs, 0, read, out.numel(), q.shape[-1], k.shape[-2])


def model_layers(
    model: Variant | nn.Module, size_hw: tuple[int, int], *, batch: int = 1
) -> list[Layer]:
    """The layers of a model in the order in which they run; no weights are needed.

    Args:
        model: a variant, or a module that takes (B, 3, H, W) and is not changed.
        size_hw: of the input, in pixels.
        batch: images per run.

    Raises:
        MissingDependency: torch is not installed.
    """
    size = ImageSize(*size_hw)
    if isinstance(model, Variant):
        return list(_layers_of_variant(model, size, batch))
    from evit_cli.models.fuse import fuse

    return _trace(fuse(copy.deepcopy(model).to("meta")), size, batch)


@lru_cache(maxsize=64)
def _layers_of_variant(variant: Variant, size_hw: ImageSize, batch: int) -> tuple[Layer, ...]:
    return tuple(_trace(_built(variant)[0], size_hw, batch))


@lru_cache(maxsize=64)
def _built(variant: Variant) -> tuple[nn.Module, int]:
    """The fused model without memory for its weights, and its parameters before fusing."""
    torch = require("torch", extra="torch", why="counting the layers of a model")
    from evit_cli.models.build import build_model
    from evit_cli.models.fuse import fuse

    with torch.device("meta"):
        model = build_model(variant)
        return fuse(model), sum(parameter.numel() for parameter in model.parameters())


def _trace(model: nn.Module, size_hw: ImageSize, batch: int) -> list[Layer]:
    """Run a model that lies on the meta device."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    recorder, where = _Recorder(), [""]

    class Watch(TorchDispatchMode):  # type: ignore[misc, no-untyped-call, unused-ignore]
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            flat = tuple(args[0]) if args and isinstance(args[0], list | tuple) else args
            recorder.see(func.overloadpacket.__name__, where[-1], flat, result)
            return result

    handles = []
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(lambda *_, name=name: where.append(name)))
        handles.append(module.register_forward_hook(lambda *_: where.pop() and None))
    try:
        # Inference mode would not take operators apart.
        with Watch(), torch.no_grad():  # type: ignore[no-untyped-call, unused-ignore]
            model(torch.empty(batch, 3, *size_hw, device="meta"))
    finally:
        for handle in handles:
            handle.remove()
    return recorder.layers


def model_macs(model: Variant | nn.Module, size_hw: tuple[int, int]) -> int:
    """Multiply-accumulates of one image, counted as the published tables count them.

    Raises:
        MissingDependency: torch is not installed.
    """
    return sum(layer.macs for layer in model_layers(model, size_hw))


def model_params(model: Variant | nn.Module) -> int:
    """Parameters, BatchNorm's scale and shift among them, as the published tables count them.

    Raises:
        MissingDependency: torch is not installed.
    """
    if isinstance(model, Variant):
        return _built(model)[1]
    return sum(parameter.numel() for parameter in model.parameters())
