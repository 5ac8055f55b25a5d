"""Objects as masks, run lengths, cut-outs and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evit_cli.data.rle import read_rle
from evit_cli.inference.sam_drawing import draw_objects
from evit_cli.inference.sam_objects import SamObject, cut, find_objects, object_of
from evit_cli.inference.sam_predictor import SamPredictor
from evit_cli.inference.sam_prompts import ObjectPrompt
from evit_cli.inference.sam_writers import cutout_picture, number_map
from evit_cli.media.frame import Frame
from tests.helpers.sam_sessions import colour_session

masks = arrays(np.bool_, st.tuples(st.integers(1, 20), st.integers(1, 20)))


def an_object(mask: np.ndarray, number: int = 1, **more: Any) -> SamObject:
    window, offset_xy = cut(mask)
    return SamObject(number, window, offset_xy, mask.shape, 0.9, 0.8, **more)


def square(place: tuple[int, int, int, int], image_hw: tuple[int, int] = (60, 80)) -> np.ndarray:
    mask = np.zeros(image_hw, np.bool_)
    left, top, width, height = place
    mask[top : top + height, left : left + width] = True
    return mask


@given(masks)
def test_cutting_a_mask_loses_nothing(mask: np.ndarray) -> None:
    one = an_object(mask)
    assert (one.mask == mask).all()
    assert one.area == mask.sum()
    assert (read_rle(one.rle()) == mask).all()
    if mask.any():
        rows, columns = np.nonzero(mask)
        left, top, width, height = one.box_xywh
        assert (left, left + width) == (columns.min(), columns.max() + 1)
        assert (top, top + height) == (rows.min(), rows.max() + 1)


def test_stability_is_the_share_of_sure_pixels() -> None:
    low_res = np.full((256, 256), -5, np.float32)
    low_res[100:140, 100:140] = 0.5
    low_res[100:140, 100:120] = 5
    one = object_of(3, low_res, 0.7, (1024, 1024), prompt=None)
    assert one.area == pytest.approx(160 * 160, rel=0.03)
    assert one.stability == pytest.approx(0.5, abs=0.05)
    assert (one.number, one.score, one.row()["object"]) == (3, 0.7, 3)


def test_prompts_of_all_kinds_come_back_in_their_order() -> None:
    image = np.full((128, 128, 3), 128, np.uint8)
    image[8:40, 8:40] = (220, 20, 20)
    image[80:120, 60:100] = (20, 20, 220)
    predictor = SamPredictor(colour_session())
    predictor.set_image(image)
    prompts = [
        ObjectPrompt(((20, 20),), (1,), id="red"),
        ObjectPrompt(box_xyxy=(50, 70, 110, 125), id="blue"),
        ObjectPrompt(((60, 10), (20, 20)), (1, 0), id="ground"),
        ObjectPrompt(((90, 100),), (1,)),
    ]
    red, blue, ground, again = find_objects(predictor, prompts)
    assert red.mask[20, 20] and not red.mask[100, 80]
    assert blue.mask[100, 80] and not blue.mask[20, 20]
    assert ground.mask[60, 10] and not ground.mask[20, 20]
    assert [one.id for one in (red, blue, ground, again)] == ["red", "blue", "ground", ""]
    assert {one.answer for one in (red, blue, ground, again)} == {2}, "the most trusted one"
    assert (again.mask == blue.mask).all()
    every = find_objects(predictor, prompts, every_answer=True)
    assert [(one.number, one.answer) for one in every[:4]] == [(1, 1), (2, 2), (3, 3), (4, 1)]


def test_a_cutout_is_the_box_with_the_mask_as_transparency() -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    mask = square((10, 20, 30, 25))
    mask[20:25, 10:15] = False
    alpha_in = np.full((60, 80), 200, np.uint8)
    for own, most in ((None, 255), (alpha_in, 200)):
        frame = Frame(image, 0, "a.png", alpha=own)
        pixels, alpha = cutout_picture(frame, an_object(mask))
        kept = np.where(mask[20:45, 10:40, None], image[20:45, 10:40], 0)
        assert (pixels == kept).all() and alpha is not None
        assert (alpha == np.where(mask[20:45, 10:40], most, 0)).all()


def test_a_map_of_numbers_has_small_objects_on_top() -> None:
    small, large = square((20, 20, 5, 5)), square((10, 10, 40, 40))
    labels = number_map([an_object(small, 1), an_object(large, 2)], (60, 80))
    assert labels.dtype == np.uint8
    assert (labels[22, 22], labels[12, 12], labels[0, 0]) == (1, 2, 0)
    assert number_map([an_object(small, 300)], (60, 80)).dtype == np.uint16
    assert not number_map([], (4, 5)).any()


def test_the_overlay_changes_objects_and_nothing_else() -> None:
    image = np.full((300, 400, 3), 90, np.uint8)
    mask = square((50, 50, 100, 80), (300, 400))
    kept = image.copy()
    drawn = draw_objects(image, [an_object(mask)])
    assert (image == kept).all(), "the picture itself stays"
    changed = (drawn != image).any(axis=2)
    assert changed[mask].all()
    assert not changed[~square((45, 45, 110, 90), (300, 400))].any()
    lost = an_object(mask, lost=True)
    assert (draw_objects(image, [lost]) == image).all()


def test_prompts_are_drawn_where_they_are() -> None:
    image = np.full((300, 400, 3), 90, np.uint8)
    nothing = np.zeros((300, 400), np.bool_)
    prompt = ObjectPrompt(((200, 100), (20, 280)), (1, 0), (300, 50, 401, 250))
    one = an_object(nothing, prompt=prompt)
    drawn = draw_objects(image, [one])
    on, beside = drawn[100, 200].astype(int), drawn[280, 20].astype(int)
    assert on[1] > on[0] + 100 and beside[0] > beside[1] + 100
    assert (drawn[150, 300] == 255).all()
    assert (draw_objects(image, [one], prompts=False) == image).all()


def test_colours_of_the_first_objects_are_far_apart() -> None:
    nothing = np.zeros((2, 2), np.bool_)
    colours = np.array([an_object(nothing, n).color_rgb for n in range(1, 9)], int)
    between = np.abs(colours[:, None] - colours[None]).sum(axis=2) + 999 * np.eye(8, dtype=int)
    assert between.min() > 60


def test_names_do_not_leave_the_picture(tmp_path: Path) -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    objects = [
        an_object(square((18, 18, 2, 2), (20, 20)), n, prompt=ObjectPrompt(id="a long name"))
        for n in (1, 2)
    ]
    assert draw_objects(image, objects).shape == (20, 20, 3)
