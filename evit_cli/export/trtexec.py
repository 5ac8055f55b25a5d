"""The trtexec command line that builds an engine on a board where evit does not run.

Its options by version, from the help texts of NVIDIA's releases and the migration guides:

| TensorRT | memory                      | build only      | typing                      |
|----------|-----------------------------|-----------------|-----------------------------|
| 8.2      | --workspace=MiB             | --buildOnly     | weak: --fp16, --int8        |
| 8.4, 8.5 | --memPoolSize=workspace:MiB | --buildOnly     | weak                        |
| 8.6      | --memPoolSize=workspace:MiB | --skipInference | weak                        |
| 10       | --memPoolSize=workspace:MiB | --skipInference | --stronglyTyped             |
| 11       | --memPoolSize=workspace:MiB | --skipInference | always strong, flag ignored |

trtexec leaves uint8 inputs as they are from 8.5 on; earlier versions have no uint8.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from evit_cli.config.profile import Profile
from evit_cli.config.versions import version_key
from evit_cli.errors import EvitError
from evit_cli.runtime.description import Description
from evit_cli.runtime.fixed_input import decoder_of
from evit_cli.types import ImageSize, Precision

INPUT = "image"
"""Name of the input of every ONNX file that evit writes for an image model."""

_CLICK = 2
"""Points of the commonest prompt: the click, and the padding in place of a box."""

_PRECISION_FLAGS = ("--fp16", "--int8", "--bf16", "--fp8", "--best")
_WEAK = {Precision.FP32: (), Precision.FP16: ("--fp16",), Precision.INT8: ("--int8", "--fp16")}


class ShapeRange(NamedTuple):
    """Shapes of the input: what an engine must take, and what it is tuned for."""

    smallest: tuple[int, ...]
    best: tuple[int, ...]
    largest: tuple[int, ...]


def input_shapes(description: Description) -> ShapeRange:
    """The shapes of a model's input; all the same where only one size is taken.

    An engine is tuned for the size the model was measured at where that lies in the range, and for
    the largest otherwise.
    """
    small, large = description.size_hw, description.largest_hw or description.size_hw
    best = description.info.preprocess.size_hw
    within = all(low <= side <= high for low, side, high in zip(small, best, large, strict=True))
    if not within:
        best = large

    def shape(size_hw: ImageSize) -> tuple[int, ...]:
        rest = (*size_hw, 3) if description.layout == "NHWC" else (3, *size_hw)
        return (description.batch, *rest)

    return ShapeRange(shape(small), shape(best), shape(large))


def shape_ranges(description: Description) -> dict[str, ShapeRange]:
    """By input, the shapes of a model that takes more than one; empty where all are fixed.

    An engine of a SAM decoder is tuned for one prompt of one click, which has two points.
    """
    decoder = decoder_of(description)
    if decoder is None:
        free = description.largest_hw is not None
        return {INPUT: input_shapes(description)} if free else {}
    if all(low == high for low, high in (decoder.prompts, decoder.points)):
        return {}
    (few, most), (short, long) = decoder.prompts, decoder.points
    low = decoder.shapes_at(few, short)
    best = decoder.shapes_at(few, min(max(short, _CLICK), long))
    high = decoder.shapes_at(most, long)
    return {name: ShapeRange(low[name], best[name], high[name]) for name in low}


def trtexec_command(
    onnx: Path | str, engine: Path | str, *, description: Description, profile: Profile
) -> list[str]:
    """The arguments, trtexec itself first; `shlex.join` makes a line of them.

    Args:
        onnx: as it is called where the command runs.
        engine: the file it writes.
        description: of the ONNX file: precision, input layout, type and sizes.
        profile: of the board; the lowest TensorRT it is written for decides the syntax.

    Raises:
        EvitError: the board has no TensorRT, or none that takes this file.
    """
    rules, tool = profile.tensorrt, profile.tool("TensorRT")
    if rules is None:
        raise EvitError(
            f"{profile.name} has no TensorRT",
            hint="name a Jetson or an NVIDIA GPU with --device (`evit devices ls`)",
        )
    version = version_key(tool.at_least or "10") if tool else (10,)
    if description.dtype == "uint8" and version < (8, 5):
        raise EvitError(
            f"TensorRT {_dotted(version)} of {profile.name} takes no uint8 input",
            hint="write the ONNX file with a float32 input, as `evit export --device "
            f"{profile.name}` does",
        )
    command = [rules.trtexec, f"--onnx={onnx}", f"--saveEngine={engine}"]
    command += _typing_flags(description.precision, profile)
    if profile.memory is not None:
        pool = f"{int(profile.memory.usable_gib * 1024)}"  # MiB, in every version
        by_name = version >= (8, 4)
        command.append(f"--memPoolSize=workspace:{pool}" if by_name else f"--workspace={pool}")
    command.append("--skipInference" if version >= (8, 6) else "--buildOnly")
    free = shape_ranges(description)
    for i, name in enumerate(("min", "opt", "max")):
        shapes = (f"{tensor}:{'x'.join(map(str, r[i]))}" for tensor, r in free.items())
        command += [f"--{name}Shapes={','.join(shapes)}"] if free else []
    return command


def _typing_flags(precision: Precision, profile: Profile) -> list[str]:
    """The profile's flags; where typing is weak, the precision's in place of the profile's."""
    rules = profile.tensorrt
    assert rules is not None
    if rules.typing == "strong":
        return list(rules.flags)  # the ONNX file says the precision
    if precision not in profile.all_precisions:
        known = ", ".join(known.value for known in profile.all_precisions)
        raise EvitError(
            f"{profile.name} does not compute in {precision.value}", hint=f"it takes {known}"
        )
    others = [flag for flag in rules.flags if flag not in _PRECISION_FLAGS]
    return [*_WEAK[precision], *others]


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
