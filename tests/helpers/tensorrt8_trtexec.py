"""The trtexec of TensorRT 8.2 for tests: knows its options, reads what its parser reads."""

from __future__ import annotations

import json
import os
import struct
import sys
from pathlib import Path

import onnx

from evit_cli.export.onnx import NOT_IN_TENSORRT, NOT_IN_TENSORRT_8

OPTIONS = {
    "--onnx", "--saveEngine", "--loadEngine", "--fp16", "--int8", "--best", "--noTF32",
    "--workspace", "--buildOnly", "--explicitBatch", "--minShapes", "--optShapes", "--maxShapes",
    "--shapes",
    "--verbose", "--inputIOFormats", "--outputIOFormats", "--precisionConstraints", "--sparsity",
    "--timingCacheFile", "--tacticSources", "--useDLACore", "--allowGPUFallback", "--iterations",
    "--warmUp", "--duration", "--avgRuns", "--device", "--useSpinWait", "--useCudaGraph",
}  # fmt: skip
"""Those of the help text of 8.2 that have to do with building and timing an ONNX file."""
_NEWEST_OPSET = 13


def failed(why: str) -> int:
    print(f"[E] {why}\n&&&& FAILED TensorRT.trtexec [TensorRT v8201]")
    return 1


def main(words: list[str]) -> int:
    with open(os.environ["STANDIN_CALLS"], "a", encoding="utf-8") as calls:
        calls.write(json.dumps(words) + "\n")
    given = dict((word.partition("=")[0], word.partition("=")[2]) for word in words)
    unknown = sorted(set(given) - OPTIONS)
    if unknown:
        return failed(f"Unknown option: {unknown[0]}")
    model = onnx.load(given["--onnx"])
    opset = next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx"))
    used = {node.op_type for node in model.graph.node}
    if opset > _NEWEST_OPSET or used & (NOT_IN_TENSORRT | NOT_IN_TENSORRT_8):
        return failed(f"No importer registered for op, or opset {opset} is too new")
    tensors = [_tensor(value, taken=True) for value in model.graph.input]
    tensors += [_tensor(value, taken=False) for value in model.graph.output]
    if any(tensor["dtype"] != "FLOAT" for tensor in tensors):
        return failed("Unsupported input type")
    if os.environ.get("STANDIN_BUILD_FAILS"):
        Path(given["--saveEngine"]).write_bytes(b"half")
        return failed("Error Code 2: Internal Error (Assertion memory failed.)")
    header = json.dumps({"version": "8.2.1.9", "tensors": tensors}).encode()
    engine = b"trt8" + struct.pack("<I", len(header)) + header + model.SerializeToString()
    Path(given["--saveEngine"]).write_bytes(engine)
    print("&&&& PASSED TensorRT.trtexec [TensorRT v8201]")
    return 0


def _tensor(value: onnx.ValueInfoProto, *, taken: bool) -> dict[str, object]:
    kind = value.type.tensor_type
    shape = [side.dim_value for side in kind.shape.dim]
    dtype = {1: "FLOAT", 10: "HALF"}.get(kind.elem_type, "OTHER")
    return {"name": value.name, "shape": shape, "dtype": dtype, "input": taken}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
