"""Writing an ONNX graph for parsers older than the exporter's opset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_AXES_AS_INPUT = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceProd")


def write_in_opset(model: Any, opset: int) -> None:
    """Rewrite a graph of opset 18 for another, in place; the caller checks the result.

    onnx's own converter stops at the first operator whose newer version only added types. Of what
    these models consist of, the following changed in more than types:

    - 18: reductions take their axes as an input, `Split` a number of parts;
    - 17: `LayerNormalization`;
    - 15: `Shape` of a part of the axes;
    - 14: `HardSwish`, and an attribute of `Reshape` that is 0 here.
    """
    if opset < 18:
        _replace(model, ("Split",), lambda node: _slices(model, node))
        _replace(model, _AXES_AS_INPUT, lambda node: _axes_as_attribute(model, node))
    if opset < 17:
        _replace(model, ("LayerNormalization",), lambda node: _layer_norm(model, node))
        # ONNX has it since 14, but the TensorRT of that time does not take it.
        _replace(model, ("HardSwish",), _gate)
    if opset < 15:
        _replace(model, ("Shape",), lambda node: _part_of_shape(model, node))
    if opset < 14:
        for node in model.graph.node:
            if node.op_type == "Reshape":
                del node.attribute[:]
    del model.opset_import[:]
    version = model.opset_import.add()
    version.domain, version.version = "", opset


def _replace(model: Any, kinds: tuple[str, ...], make: Callable[[Any], list[Any]]) -> None:
    nodes = []
    for node in model.graph.node:
        nodes += make(node) if node.op_type in kinds else [node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _gate(node: Any) -> list[Any]:
    """HardSwish is defined with these two numbers: x * max(0, min(1, x / 6 + 0.5))."""
    import onnx

    (source,), (result,) = node.input, node.output
    gate = f"{result}_gate"
    name = f"{node.name}_gate"
    return [
        onnx.helper.make_node("HardSigmoid", [source], [gate], name=name, alpha=1 / 6, beta=0.5),
        onnx.helper.make_node("Mul", [source, gate], [result], name=node.name),
    ]


def _slices(model: Any, node: Any) -> list[Any]:
    import numpy as np
    import onnx

    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    axis = int(attributes.get("axis", 0))
    sizes = _sizes(model, node, attributes)
    ends = np.cumsum(sizes)
    nodes = []
    for i, (result, size, end) in enumerate(zip(node.output, sizes, ends, strict=True)):
        names = []
        for part, value in (("start", end - size), ("end", end), ("axis", axis)):
            name = f"{node.name}_{i}_{part}"
            tensor = onnx.numpy_helper.from_array(np.array([value], np.int64), name)
            model.graph.initializer.append(tensor)
            names.append(name)
        name = f"{node.name}_{i}"
        nodes.append(onnx.helper.make_node("Slice", [node.input[0], *names], [result], name=name))
    return nodes


def _part_of_shape(model: Any, node: Any) -> list[Any]:
    """The whole shape, then a slice of it."""
    import numpy as np
    import onnx

    bounds = {a.name: int(onnx.helper.get_attribute_value(a)) for a in node.attribute}
    if not bounds:
        return [node]
    names = []
    for part, value in (("start", bounds.get("start", 0)), ("end", bounds.get("end", 2**31))):
        name = f"{node.name}_{part}"
        tensor = onnx.numpy_helper.from_array(np.array([value], np.int64), name)
        model.graph.initializer.append(tensor)
        names.append(name)
    (result,), whole = node.output, f"{node.output[0]}_whole"
    return [
        onnx.helper.make_node("Shape", list(node.input), [whole], name=f"{node.name}_whole"),
        onnx.helper.make_node("Slice", [whole, *names], [result], name=node.name),
    ]


def _sizes(model: Any, node: Any, attributes: dict[str, Any]) -> list[int]:
    """The lengths of a Split's parts: given, or equal and then read off the outputs' shapes."""
    if len(node.input) > 1:
        return [int(size) for size in _constant(model, node.input[1])]
    axis = int(attributes.get("axis", 0))
    shapes = {value.name: value.type.tensor_type.shape for value in model.graph.value_info}
    return [int(shapes[result].dim[axis].dim_value) for result in node.output]


def _constant(model: Any, name: str) -> Any:
    import onnx

    tensor = next(t for t in model.graph.initializer if t.name == name)
    return onnx.numpy_helper.to_array(tensor)


def _axes_as_attribute(model: Any, node: Any) -> list[Any]:
    import onnx

    if len(node.input) > 1:
        axes = [int(axis) for axis in _constant(model, node.input[1])]
        del node.input[1:]
        node.attribute.append(onnx.helper.make_attribute("axes", axes))
    kept = [a for a in node.attribute if a.name != "noop_with_empty_axes"]
    del node.attribute[:]
    node.attribute.extend(kept)
    return [node]


def _layer_norm(model: Any, node: Any) -> list[Any]:
    """Mean, difference, square and root over the last axis, as opset 17 defines it."""
    import numpy as np
    import onnx

    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    source, scale, *bias = node.input
    out, make = node.output[0], onnx.helper.make_node
    epsilon = f"{out}_epsilon"
    value = np.array(attributes.get("epsilon", 1e-5), np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(value, epsilon))
    names = {part: f"{out}_{part}" for part in ("mean", "off", "sq", "var", "safe", "std", "unit")}
    steps = [
        make("ReduceMean", [source], [names["mean"]], axes=[-1], keepdims=1),
        make("Sub", [source, names["mean"]], [names["off"]]),
        make("Mul", [names["off"], names["off"]], [names["sq"]]),
        make("ReduceMean", [names["sq"]], [names["var"]], axes=[-1], keepdims=1),
        make("Add", [names["var"], epsilon], [names["safe"]]),
        make("Sqrt", [names["safe"]], [names["std"]]),
        make("Div", [names["off"], names["std"]], [names["unit"]]),
    ]
    scaled = f"{out}_scaled" if bias else out
    steps.append(make("Mul", [names["unit"], scale], [scaled]))
    if bias:
        steps.append(make("Add", [scaled, bias[0]], [out]))
    for step in steps:
        step.name = f"{node.name}_{step.output[0]}"
    return steps
