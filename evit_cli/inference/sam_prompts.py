"""What a user asks for: prompts from the command line and from a file of JSON lines."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from evit_cli.errors import EvitError, UsageError, suggest
from evit_cli.inference.sam_predictor import Prompts
from evit_cli.runtime.sam import NEGATIVE, POSITIVE

_KEYS = ("image", "points", "labels", "boxes", "id")
_SLACK = 2.0
"""Pixels that a box may reach beyond the image: detectors' boxes do."""
_POINT = "write x,y in pixels for a point on the object, x,y,0 for one beside it"
_BOX = "write x0,y0,x1,y1 in pixels: left, top, right, bottom"


@dataclass(frozen=True)
class ObjectPrompt:
    """What is known of where one object is. Pixels of the image.

    Attributes:
        points_xy: (x, y) of each point.
        labels: one per point: 1 on the object, 0 beside it.
        box_xyxy: left, top, right, bottom, None for no box.
        id: a name for the object, "" for none.
    """

    points_xy: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    box_xyxy: tuple[float, float, float, float] | None = None
    id: str = ""

    @property
    def kind(self) -> tuple[int, bool]:
        """Prompts of one kind can be asked together: the number of points, and whether a box."""
        return len(self.points_xy), self.box_xyxy is not None


def together(prompts: Sequence[ObjectPrompt]) -> Prompts:
    """Prompts of one kind as arrays."""
    points, box = prompts[0].kind
    return Prompts(
        np.array([p.points_xy for p in prompts], np.float64) if points else None,
        np.array([p.labels for p in prompts], np.int64) if points else None,
        np.array([p.box_xyxy for p in prompts], np.float64) if box else None,
    )


def check_inside(prompts: Sequence[ObjectPrompt], image_hw: tuple[int, int]) -> None:
    """Make sure that every prompt lies on the image.

    Raises:
        EvitError: the message names the prompt and the image's size.
    """
    height, width = image_hw
    size = f"outside of the image, which is {width} wide and {height} high"
    for prompt in prompts:
        for x, y in prompt.points_xy:
            if not (0 <= x <= width and 0 <= y <= height):
                raise EvitError(f"the point {x:g},{y:g} is {size}")
        if prompt.box_xyxy is not None:
            x0, y0, x1, y1 = prompt.box_xyxy
            if min(x0, y0) < -_SLACK or x1 > width + _SLACK or y1 > height + _SLACK:
                raise EvitError(f"the box {x0:g},{y0:g},{x1:g},{y1:g} reaches {size}")


def parse_point(text: str) -> tuple[tuple[float, float], int]:
    """The value of `--point`: (x, y) and the label.

    >>> parse_point("120,80.5,0")
    ((120.0, 80.5), 0)

    Raises:
        UsageError: it is not x,y or x,y,0 or x,y,1.
    """
    numbers = _numbers(text)
    if numbers is None or len(numbers) not in (2, 3) or numbers[2:] not in ([], [0], [1]):
        raise UsageError(f"'{text}' is not a point", hint=_POINT)
    return (numbers[0], numbers[1]), int(numbers[2]) if len(numbers) == 3 else POSITIVE


def parse_box(text: str) -> tuple[float, float, float, float]:
    """The value of `--box`: left, top, right, bottom.

    Raises:
        UsageError: it is not four numbers, or the corners are reversed.
    """
    numbers = _numbers(text)
    if numbers is None or len(numbers) != 4:
        raise UsageError(f"'{text}' is not a box", hint=_BOX)
    x0, y0, x1, y1 = numbers
    if x0 >= x1 or y0 >= y1:
        raise UsageError(f"the box '{text}' has no area or is reversed", hint=_BOX)
    return x0, y0, x1, y1


def _numbers(text: str) -> list[float] | None:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def prompts_of(
    points: Sequence[tuple[tuple[float, float], int]],
    boxes: Sequence[tuple[float, float, float, float]],
    id: str = "",
) -> list[ObjectPrompt]:
    """The objects that points and boxes mean: all points are one, and so is each box.

    One box with points is one object with both.

    Raises:
        UsageError: several boxes with points, or only points beside the object.
    """
    if points and len(boxes) > 1:
        raise UsageError(
            f"points belong to one object, and {len(boxes)} boxes are several",
            hint="give one box with the points, or a line per object in a --prompts file",
        )
    xy, labels = tuple(p for p, _ in points), tuple(label for _, label in points)
    if points and not boxes and POSITIVE not in labels:
        raise UsageError(
            "all points lie beside the object", hint="give a point on it too, or a box around it"
        )
    if len(boxes) > 1:
        names = [f"{id}-{n + 1}" if id else "" for n in range(len(boxes))]
        return [ObjectPrompt(box_xyxy=b, id=name) for b, name in zip(boxes, names, strict=True)]
    return [ObjectPrompt(xy, labels, boxes[0] if boxes else None, id)] if points or boxes else []


@dataclass(frozen=True)
class Asked:
    """What a run is asked for.

    Attributes:
        everywhere: objects in every image, or in the first frame of a video.
        by_image: objects in single images, by path, in order of first appearance.
        name: of the file that named the images, without its suffix.
    """

    everywhere: Sequence[ObjectPrompt] = ()
    by_image: Mapping[Path, Sequence[ObjectPrompt]] = field(default_factory=dict)
    name: str = ""

    def __bool__(self) -> bool:
        return bool(self.everywhere or self.by_image)


def gather(
    points: Sequence[str], boxes: Sequence[str], file: Path | None, *, source: str | None
) -> Asked:
    """What `--point`, `--box` and `--prompts` ask for together.

    Args:
        points: values of `--point`.
        boxes: values of `--box`.
        file: of `--prompts`.
        source: what the prompts are for; without one, the lines of the file name the images.

    Raises:
        UsageError: a value is wrong, or they do not go together.
        EvitError: the file is wrong.
    """
    parsed = [parse_point(text) for text in points], [parse_box(text) for text in boxes]
    if file is None:
        if source is None:
            raise UsageError("SOURCE is missing", hint="name an image, folder, video or camera")
        return Asked(prompts_of(*parsed))
    if points or boxes:
        raise UsageError(
            "prompts come from --point and --box or from --prompts, not from both",
            hint=f"write them into {file}",
        )
    return read_prompts(file, images=source is None)


def read_prompts(path: Path, *, images: bool = True) -> Asked:
    """Read one JSON object per line: image, points, labels, boxes, id.

    An image is looked for beside the file. Lines of the same image need not be neighbours. Empty
    lines are skipped.

    Args:
        path: of the file.
        images: whether each line names its image, or none does.

    Raises:
        EvitError: the file cannot be read, a line is wrong (the message has its number), or there
            is none.
    """
    by_image: dict[Path, list[ObjectPrompt]] = {}
    everywhere: list[ObjectPrompt] = []
    for number, line in _lines(path):
        try:
            image, prompts = _read_line(line)
            if images and image is None:
                raise EvitError(
                    "it names no image", hint="or give SOURCE, and no image in any line"
                )
            if image is not None and not images:
                raise EvitError("it names an image, and so does SOURCE", hint="leave SOURCE out")
        except (ValueError, EvitError) as error:
            hint = error.hint if isinstance(error, EvitError) else ""
            raise EvitError(f"{path} line {number}: {error}", hint=hint) from error
        if image is None:
            everywhere.extend(prompts)
        else:  # "a.png" and "in/../a.png" are one image
            place = Path(os.path.normpath(path.parent / image))
            by_image.setdefault(place, []).extend(prompts)
    if not by_image and not everywhere:
        raise EvitError(f"{path} holds no prompt", hint='a line is {"image": ..., "boxes": [...]}')
    return Asked(everywhere, by_image, path.stem)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line
    except OSError as error:
        raise EvitError(
            f"{path} cannot be read: {(error.strerror or str(error)).lower()}"
        ) from error
    except UnicodeDecodeError as error:
        raise EvitError(f"{path} is not a text file in UTF-8") from error


def _read_line(line: str) -> tuple[str | None, list[ObjectPrompt]]:
    """The image and the objects of one line.

    Raises:
        ValueError: it is not such a line.
    """
    try:
        raw = json.loads(line)
    except ValueError as error:
        raise ValueError(f"it is not JSON ({error})") from error
    if not isinstance(raw, dict):
        raise ValueError("it is not a JSON object in braces")
    unknown = next((key for key in raw if key not in _KEYS), None)
    if unknown is not None:
        raise EvitError(f"there is no key '{unknown}'", hint=suggest(unknown, _KEYS))
    image, name = raw.get("image"), raw.get("id", "")
    if image is not None and (not isinstance(image, str) or not image):
        raise ValueError("image is not a path")
    if not isinstance(name, str | int):
        raise ValueError("id is neither text nor a number")
    points = [_row(p, 2, "points", "[x, y]") for p in _list(raw, "points")]
    labels = _list(raw, "labels") or [POSITIVE] * len(points)
    if len(labels) != len(points):
        raise ValueError(f"{len(labels)} labels for {len(points)} points")
    if not all(label in (NEGATIVE, POSITIVE) for label in labels):
        raise ValueError("a label is 1 (on the object) or 0 (beside it)")
    boxes = [_row(b, 4, "boxes", "[x0, y0, x1, y1]") for b in _list(raw, "boxes")]
    if any(x0 >= x1 or y0 >= y1 for x0, y0, x1, y1 in boxes):
        raise ValueError("a box has no area or is reversed")
    pairs = [((x, y), int(label)) for (x, y), label in zip(points, labels, strict=True)]
    prompts = prompts_of(pairs, [(b[0], b[1], b[2], b[3]) for b in boxes], str(name))
    if not prompts:
        raise ValueError("it has neither points nor boxes")
    return image, prompts


def _list(raw: dict[str, Any], key: str) -> list[Any]:
    value = raw.get(key, [])
    if not isinstance(value, list):
        raise ValueError(f"{key} is not a list")
    return value


def _row(value: Any, length: int, key: str, shape: str) -> list[float]:
    numbers = isinstance(value, list) and all(
        isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in value
    )
    if not numbers or len(value) != length:
        raise ValueError(f"{key} must be a list of {shape}, got {json.dumps(value)}")
    return [float(v) for v in value]
