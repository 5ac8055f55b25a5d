"""What TensorRT's ONNX parser documents that it takes: a check on an ONNX file without TensorRT.

From the operator tables of onnx-tensorrt for 8.2, 10.0 to 10.15 and 11.2. One rule is stricter than
the real parser: an opset beyond the documented range is refused here and warned of there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx
from onnx import TensorProto, numpy_helper

_BOTH = set(
    "Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization "
    "Cast Ceil Celu Clip Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum "
    "DepthToSpace DequantizeLinear Div Dropout Einsum Elu Equal Erf Exp Expand EyeLike Flatten "
    "Floor Gather GatherElements GatherND Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool "
    "Greater GreaterOrEqual GRU HardSigmoid Identity If InstanceNormalization LeakyRelu Less "
    "LessOrEqual Log LogSoftmax Loop LRN LSTM LpNormalization LpPool MatMul Max MaxPool Mean Min "
    "Mul Neg Not Or Pad Pow PRelu QuantizeLinear Range ReduceL1 ReduceL2 ReduceLogSum "
    "ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu "
    "Reshape Resize ReverseSequence RNN Round Scan Scatter ScatterElements ScatterND Selu Shape "
    "Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze "
    "Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Unsqueeze Upsample Where".split()
)
_SINCE_10 = set(
    "CastLike DeformConv Gelu GridSample GroupNormalization HardSwish Hardmax IsInf IsNaN "
    "LayerNormalization MeanVarianceNormalization Mish Mod NonMaxSuppression NonZero OneHot "
    "RandomUniform Reciprocal RoiAlign Shrink Trilu Xor".split()
)
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


@dataclass(frozen=True)
class Problem:
    """A reason why the parser does not take a model; `node` is -1 where it is no node's."""

    node: int
    name: str
    op: str
    text: str


def version_of(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def opset_range(version: str) -> tuple[int, int]:
    numbers = version_of(version)
    if numbers < (8, 5):
        return 7, 13
    return (9, 24) if numbers >= (10, 15) else (9, 20)


def problems(model: onnx.ModelProto, version: str) -> list[Problem]:
    """Everything in a model that TensorRT `version` documents not to take; none is the goal."""
    low, high = opset_range(version)
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    found = []
    if not low <= opset <= high:
        found.append(Problem(-1, "", "", f"opset {opset} is not in {low} to {high}"))
    try:
        onnx.checker.check_model(model, full_check=True)
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        text = str(error).strip().partition("\n")[0]
        return [*found, Problem(-1, "", "", f"the model is not valid: {text}")]
    types = types_of(model)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        value = _attribute(node, "value") if node.op_type == "Constant" else None
        if isinstance(value, TensorProto):
            constants[node.output[0]] = value
    for index, node in enumerate(model.graph.node):
        for text in (
            *_operator(node, version, constants),
            *_uint8(node, version, types, {value.name for value in model.graph.input}),
            *_quantisation(node, constants),
        ):
            found.append(Problem(index, node.name, node.op_type, text))
    return found


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    """ONNX element types by tensor name; the model has its shapes inferred."""
    graph = model.graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        types[value.name] = value.type.tensor_type.elem_type
    return types


def _attribute(node: onnx.NodeProto, name: str, default: object = None) -> object:
    for attribute in node.attribute:
        if attribute.name == name:
            return onnx.helper.get_attribute_value(attribute)
    return default


def _operator(
    node: onnx.NodeProto, version: str, constants: dict[str, onnx.TensorProto]
) -> Iterator[str]:
    old = version_of(version) < (10,)
    if node.domain not in ("", "ai.onnx"):
        yield f"No importer registered for op: {node.domain}.{node.op_type}"
    elif node.op_type not in _BOTH | (set() if old else _SINCE_10):
        yield f"No importer registered for op: {node.op_type}"
    if node.op_type == "Resize":
        if _attribute(node, "mode", b"nearest") not in (b"nearest", b"linear"):
            yield "resize mode cubic is not supported"
        if _attribute(node, "antialias", 0):
            yield "antialiasing is not supported"
    if node.op_type == "Pad" and old and len(node.input) > 2 and node.input[2]:
        value = constants.get(node.input[2])
        if value is None or numpy_helper.to_array(value).any():
            yield "Pad takes no value but 0"


def _uint8(
    node: onnx.NodeProto, version: str, types: dict[str, int], inputs: set[str]
) -> Iterator[str]:
    """Only as a network input or output, converted to or from a float by Cast."""
    taken = [name for name in node.input if types.get(name) == TensorProto.UINT8]
    given = [name for name in node.output if types.get(name) == TensorProto.UINT8]
    if (taken or given) and version_of(version) < (8, 5):
        yield "Unsupported ONNX data type: UINT8 (2)"
        return
    for name in taken:
        to_float = node.op_type == "Cast" and types.get(node.output[0]) in _FLOATS
        if name not in inputs or not to_float:
            yield f"UINT8 tensor '{name}' must be a network input that Cast turns into a float"
    if given and node.op_type != "Cast":
        yield "UINT8 comes out of Cast alone"


def _quantisation(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> Iterator[str]:
    if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
        return
    if len(node.input) < 3 or not node.input[2]:
        yield "the zero point is missing, which makes it UINT8"
        return
    zero = constants.get(node.input[2])
    if zero is None or zero.data_type != TensorProto.INT8:
        yield "the quantised type must be INT8"
    elif numpy_helper.to_array(zero).any():
        yield "zero_point must be 0"
