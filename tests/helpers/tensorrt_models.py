"""Tiny typed ONNX files of the shape that evit exports, and their descriptions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from evit_cli.models.classes import numbered_classes
from evit_cli.runtime.description import Description
from evit_cli.types import ImageSize, ModelInfo, Precision, Preprocess, Task

CLASSES = 4
STRIDE = 8
SIZE = ImageSize(32, 48)
SCALE = 1.0  # of the quantised input: whole numbers stay what they are


@dataclass(frozen=True)
class Tiny:
    """One strided convolution of an image in 0..255; logits are (1, 4, H / 8, W / 8)."""

    precision: Precision = Precision.FP32
    size_hw: ImageSize = SIZE
    largest_hw: ImageSize | None = None
    layout: str = "NCHW"
    dtype: str = "float32"
    opset: int = 18
    seed: int = 0

    @property
    def description(self) -> Description:
        preprocess = Preprocess(ImageSize(64, 64), stride=STRIDE)
        info = ModelInfo("tiny", Task.SEGMENT, preprocess, numbered_classes(CLASSES), "MIT")
        return Description(
            info, self.size_hw, self.precision, self.largest_hw, layout=self.layout,
            dtype=self.dtype, profile="jetson-agx-orin",
        )  # fmt: skip

    @property
    def weights(self) -> np.ndarray:
        """(4, 3, 8, 8), exact in float16."""
        rng = np.random.default_rng(self.seed)
        whole = rng.integers(-8, 9, (CLASSES, 3, STRIDE, STRIDE))
        return (whole / 64).astype(np.float32)

    def logits(self, image_rgb_u8: np.ndarray) -> np.ndarray:
        """What the model gives for (1, H, W, 3)."""
        _, h, w, _ = image_rgb_u8.shape
        x = np.minimum(image_rgb_u8, 127) if self.precision is Precision.INT8 else image_rgb_u8
        cut = x.reshape(1, h // STRIDE, STRIDE, w // STRIDE, STRIDE, 3).astype(np.float64)
        return np.einsum("bhiwjc,ncij->bnhw", cut, self.weights.astype(np.float64))

    def model(self) -> onnx.ModelProto:
        half = self.precision is Precision.FP16
        work = TensorProto.FLOAT16 if half else TensorProto.FLOAT
        given = TensorProto.UINT8 if self.dtype == "uint8" else TensorProto.FLOAT
        nodes = [helper.make_node("Cast", ["image"], ["x0"], name="to_float", to=work)]
        last = "x0"
        if self.layout == "NHWC":
            nodes.append(
                helper.make_node("Transpose", [last], ["x1"], name="nchw", perm=[0, 3, 1, 2])
            )
            last = "x1"
        weights = self.weights.astype(np.float16 if half else np.float32)
        held = [numpy_helper.from_array(weights, "w")]
        if self.precision is Precision.INT8:
            held += [
                numpy_helper.from_array(np.float32(SCALE), "scale"),
                numpy_helper.from_array(np.int8(0), "zero"),
            ]
            pair = ["scale", "zero"]
            nodes += [
                helper.make_node("QuantizeLinear", [last, *pair], ["q"], name="quantise"),
                helper.make_node("DequantizeLinear", ["q", *pair], ["dq"], name="dequantise"),
            ]
            last = "dq"
        nodes += [
            helper.make_node(
                "Conv", [last, "w"], ["y"], name="conv", strides=[STRIDE, STRIDE],
                kernel_shape=[STRIDE, STRIDE],
            ),
            helper.make_node("Cast", ["y"], ["logits"], name="to_logits", to=TensorProto.FLOAT),
        ]  # fmt: skip
        free = self.largest_hw is not None
        space = ["h", "w"] if free else list(self.size_hw)
        shape = [1, *space, 3] if self.layout == "NHWC" else [1, 3, *space]
        out = ["oh", "ow"] if free else [side // STRIDE for side in self.size_hw]
        graph = helper.make_graph(
            nodes,
            "tiny",
            [helper.make_tensor_value_info("image", given, shape)],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, CLASSES, *out])],
            held,
        )
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8
        )

    def save(self, path: Path) -> Path:
        onnx.save(self.model(), str(path))
        return path
