"""The options of `evit export` that no other command has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Target = Annotated[
    str | None, typer.Option("--target", metavar="NAME", help="onnx, tflite, openvino or tensorrt.")
]
Device = Annotated[
    str | None,
    typer.Option("--device", metavar="PROFILE", help="From `evit devices ls`, a file, or auto."),
]
InputSize = Annotated[
    str | None,
    typer.Option(
        "--size", metavar="HxW", help="Input size, multiples of 32; super-resolution: of 4."
    ),
]
MaxSize = Annotated[
    str | None,
    typer.Option("--max-size", metavar="HxW", help="Take any size from --size to this."),
]
Batch = Annotated[int, typer.Option("--batch", min=1, max=256, help="Images per run.")]
Layout = Annotated[
    str | None, typer.Option("--layout", metavar="NHWC|NCHW", help="Of the input tensor.")
]
Opset = Annotated[int | None, typer.Option("--opset", help="Of the ONNX file, 13 to 20.")]
Calibration = Annotated[
    Path | None, typer.Option("--calib", metavar="DIR", help="Real images for int8 ranges.")
]
Islands = Annotated[
    str | None,
    typer.Option("--islands", metavar="NAMES", help="Layers to keep in float in an int8 model."),
]
Explain = Annotated[
    bool, typer.Option("--explain", help="Print the error of each layer of an int8 model.")
]
Images = Annotated[
    Path | None, typer.Option("--images", metavar="DIR", help="Compare on these; else evit's own.")
]
DatasetName = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        metavar="NAME",
        help="Compare mean IoU, or PSNR on `superres`, on this set too.",
    ),
]
DataFolder = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="The folder of --dataset.")
]
Random = Annotated[
    bool, typer.Option("--random-weights", help="Of a model's shape alone, to try its speed.")
]
Verify = Annotated[
    bool, typer.Option("--verify/--no-verify", help="Compare the artifact with its source.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the plan with its reasons, and stop.")
]
Bundle = Annotated[
    Path | None,
    typer.Option(
        "--bundle",
        metavar="DIR",
        help="A folder for a device without evit: model, scripts, and what runs it there.",
    ),
]
