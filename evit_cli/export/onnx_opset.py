"""Writing an ONNX graph for parsers older than the exporter's opset."""

from __future__ import annotations

from typing import Any


def write_out_hard_swish(model: Any) -> None:
    """Replace `HardSwish` (opset 14) by x * HardSigmoid(x), in place."""
    import onnx

    nodes = []
    for node in model.graph.node:
        if node.op_type != "HardSwish":
            nodes.append(node)
            continue
        (source,), (result,) = node.input, node.output
        gate = f"{result}_gate"
        # HardSwish is defined with these two numbers: max(0, min(1, x / 6 + 0.5)).
        nodes.append(
            onnx.helper.make_node(
                "HardSigmoid", [source], [gate], name=f"{node.name}_gate", alpha=1 / 6, beta=0.5
            )
        )
        nodes.append(onnx.helper.make_node("Mul", [source, gate], [result], name=node.name))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
