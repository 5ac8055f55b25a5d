"""Computes an ONNX file for `tensorrt8_module`: inputs come through a pipe, outputs go back."""

from __future__ import annotations

import sys

import numpy as np
import onnxruntime


def main(path: str) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (taken,) = session.get_inputs()
    size = int(np.prod(taken.shape)) * 4
    while len(data := sys.stdin.buffer.read(size)) == size:
        image = np.frombuffer(data, np.float32).reshape(taken.shape)
        (found,) = session.run(None, {taken.name: image})
        sys.stdout.buffer.write(np.ascontiguousarray(found, np.float32).tobytes())
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(sys.argv[1])
