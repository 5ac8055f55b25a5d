"""Following objects by re-prompting: seen, lost, and found again."""

from __future__ import annotations

import numpy as np
import pytest

from evit_cli.errors import EvitError, UsageError
from evit_cli.inference.sam_objects import SamObject, cut
from evit_cli.inference.sam_predictor import SamPredictor
from evit_cli.inference.sam_prompts import ObjectPrompt
from evit_cli.inference.sam_track import Tracker, TrackOptions, inner_point
from tests.helpers.sam_sessions import colour_session

RED, BLUE = (220, 20, 20), (20, 20, 220)


def frame(red: tuple[int, int] | None, blue: tuple[int, int] | None = None, size: int = 48):
    """Grey 256x256 with squares whose upper left corners are given."""
    image = np.full((256, 256, 3), 128, np.uint8)
    for place, colour in ((blue, BLUE), (red, RED)):
        if place is not None:
            image[place[1] : place[1] + size, place[0] : place[0] + size] = colour
    return image


def tracker(*prompts: ObjectPrompt, **options: float) -> Tracker:
    return Tracker(
        SamPredictor(colour_session()),
        prompts,
        TrackOptions(**options),  # type: ignore[arg-type]
    )


def at(x: float, y: float) -> ObjectPrompt:
    return ObjectPrompt(((x, y),), (1,))


def iou(one: SamObject, image: np.ndarray, colour: tuple[int, int, int]) -> float:
    truth = np.all(image == colour, axis=2)
    return float((one.mask & truth).sum() / (one.mask | truth).sum())


def test_two_objects_keep_their_numbers_while_they_move() -> None:
    follow = tracker(at(30, 30), at(200, 200))
    for n in range(12):
        image = frame((16 + 4 * n, 16), (180 - 4 * n, 160))
        red, blue = follow(image)
        assert (red.number, blue.number, red.lost, blue.lost) == (1, 2, False, False)
        assert iou(red, image, RED) > 0.9 and iou(blue, image, BLUE) > 0.9


def test_what_the_decoder_is_asked_after_the_first_frame() -> None:
    follow = tracker(ObjectPrompt(box_xyxy=(10, 10, 70, 70)), at(200, 200), margin=0.0)
    decoder = follow._predictor.session.decoder  # type: ignore[attr-defined]
    image = frame((16, 16), (180, 160))
    follow(image)
    calls = len(decoder.seen)
    follow(image)
    (asked,) = decoder.seen[calls:]
    assert asked["labels"].tolist() == [[1, 2, 3]] * 2
    boxes = asked["points_xy"][:, 1:] / 4
    assert np.abs(boxes[0] - [[16, 16], [64, 64]]).max() <= 1
    assert np.abs(boxes[1] - [[180, 160], [228, 208]]).max() <= 1
    assert asked["has_mask"].tolist() == [1, 1]
    assert asked["mask_input"][1, 0, 184, 204] > 0 > asked["mask_input"][1, 0, 40, 40]


def test_an_object_that_is_hidden_is_lost_and_found_again() -> None:
    follow = tracker(at(30, 30), at(200, 200))
    shown, hidden = frame((16, 16), (180, 160)), frame(None, (180, 160))
    follow(shown)
    for _ in range(5):
        red, blue = follow(hidden)
        assert (red.lost, red.area, red.number, blue.lost) == (True, 0, 1, False)
    red, _ = follow(shown)
    assert not red.lost and iou(red, shown, RED) > 0.9


def test_patience_ends() -> None:
    follow = tracker(at(30, 30), patience=3)
    follow(frame((16, 16)))
    for _ in range(4):
        assert follow(frame(None))[0].lost
    assert follow(frame((16, 16)))[0].lost, "nobody looks for it any more"
    decoder = follow._predictor.session.decoder  # type: ignore[attr-defined]
    asked = len(decoder.seen)
    follow(frame((16, 16)))
    assert len(decoder.seen) == asked


@pytest.mark.parametrize(
    ("second", "options"),
    [
        (frame((36, 36)), {"min_overlap": 0.5}),  # moved too far
        (frame(None, (16, 16)), {"min_likeness": 0.3}),  # another one in its place
        (frame((16, 16), size=12), {"max_growth": 2.0, "min_overlap": 0.0}),  # shrunk too much
        (frame((16, 16)), {"min_score": 0.99}),  # not sure enough
    ],
)
def test_each_threshold_makes_it_lost(second: np.ndarray, options: dict[str, float]) -> None:
    follow = tracker(at(30, 30), **options)
    assert not follow(frame((16, 16)))[0].lost
    assert follow(second)[0].lost
    lenient = tracker(
        at(30, 30), min_score=0, min_overlap=0, min_likeness=0, max_growth=99, margin=1
    )
    lenient(frame((16, 16)))
    assert not lenient(second)[0].lost


def test_an_object_that_was_never_there() -> None:
    follow = tracker(ObjectPrompt(((5, 5), (9, 9)), (1, 0)))
    assert follow(frame((100, 100)))[0].lost
    assert follow(frame((100, 100)))[0].lost


def test_a_prompt_outside_of_the_first_frame() -> None:
    with pytest.raises(EvitError, match="256 wide and 256 high"):
        tracker(at(300, 5))(frame((16, 16)))


@pytest.mark.parametrize(
    "options", [{"min_score": 2.0}, {"min_overlap": -1.0}, {"max_growth": 0.5}, {"patience": -1}]
)
def test_options_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        TrackOptions(**options)  # type: ignore[arg-type]


def test_the_inner_most_point_lies_in_the_thick_part() -> None:
    mask = np.zeros((60, 80), bool)
    mask[10:14, 5:70] = True
    mask[10:41, 40:71] = True
    window, offset_xy = cut(mask)
    x, y = inner_point(SamObject(1, window, offset_xy, (60, 80), 1.0, 1.0))
    assert abs(x - 55) <= 1 and abs(y - 25) <= 1
