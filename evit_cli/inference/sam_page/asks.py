"""What the page may ask for: checked before any of it reaches a model."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from evit_cli.errors import EvitError

MOST_POINTS = 256
MOST_OBJECTS = 200
MOST_BYTES = 1 << 20
"""Of one request: every object with all its points stays below."""

Pixel = Annotated[float, Field(ge=0, le=1 << 20, allow_inf_nan=False)]


class Ask(BaseModel):
    """A frozen request that knows no key but its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")


AskT = TypeVar("AskT", bound=Ask)


class OpenAsk(Ask):
    """Encode an image.

    Attributes:
        image: its index in the list.
    """

    image: int = Field(ge=0)


class Prompt(Ask):
    """Where an object is.

    Attributes:
        points: (x, y) in pixels of the image.
        labels: one per point: 1 on the object, 0 beside it.
        box: (x0, y0, x1, y1) in pixels of the image.
    """

    points: list[tuple[Pixel, Pixel]] = Field(default=[], max_length=MOST_POINTS)
    labels: list[Literal[0, 1]] = Field(default=[], max_length=MOST_POINTS)
    box: tuple[Pixel, Pixel, Pixel, Pixel] | None = None

    @model_validator(mode="after")
    def _complete(self) -> Prompt:
        if len(self.points) != len(self.labels):
            raise ValueError(f"{len(self.points)} points came with {len(self.labels)} labels")
        if not self.points and self.box is None:
            raise ValueError("an object needs a point or a box")
        if self.box is not None and not (self.box[0] < self.box[2] and self.box[1] < self.box[3]):
            raise ValueError("a box is x0, y0, x1, y1 with x0 < x1 and y0 < y1")
        return self


class PredictAsk(Prompt):
    """Find the masks of a prompt.

    Attributes:
        image: index of the image.
    """

    image: int = Field(ge=0)


class PageObject(Prompt):
    """An object as the page keeps it.

    Attributes:
        name: what the user calls it.
        candidate: which of the three masks was chosen.
    """

    name: str = Field(default="object", max_length=100)
    candidate: Literal[0, 1, 2] = 0


class SaveAsk(Ask):
    """Make a file of objects.

    Attributes:
        image: index of the image.
        what: "mask" and "cutout" are PNG files of all the objects together, "coco" is JSON.
        objects: one or more.
    """

    image: int = Field(ge=0)
    what: Literal["mask", "cutout", "coco"]
    objects: list[PageObject] = Field(min_length=1, max_length=MOST_OBJECTS)


def read_ask(kind: type[AskT], body: bytes) -> AskT:
    """A request from its JSON.

    Raises:
        EvitError: it is not one; the sentence names the first thing that is wrong.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise EvitError(f"{where}: {said}" if where else said) from error
