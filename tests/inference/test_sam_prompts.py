"""Prompts from the command line and from files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evit_cli.errors import EvitError, UsageError
from evit_cli.inference.sam_prompts import (
    ObjectPrompt,
    check_inside,
    gather,
    parse_box,
    parse_point,
    read_prompts,
)

pixels = st.floats(-1e6, 1e6, allow_nan=False)


@given(pixels, pixels, st.sampled_from(["", ",0", ",1"]))
def test_points_are_read_as_written(x: float, y: float, label: str) -> None:
    assert parse_point(f"{x!r},{y!r}{label}") == ((x, y), int(label[1:] or 1))


@given(st.text())
def test_anything_else_is_a_usage_error(text: str) -> None:
    for parse in (parse_point, parse_box):
        try:
            parse(text)
        except UsageError as error:
            assert error.hint
        else:
            assert text.count(",") in (1, 2, 3)


@pytest.mark.parametrize("text", ["", "5", "5,", "a,b", "1,2,3", "1,2,0.5", "1,2,1,0", "nan,1"])
def test_malformed_points(text: str) -> None:
    with pytest.raises(UsageError, match="is not a point"):
        parse_point(text)


@pytest.mark.parametrize("text", ["1,2,3", "1,2,3,4,5", "1,2,inf,4", "9,2,3,4", "1,2,3,2"])
def test_malformed_boxes(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not a box|no area or is reversed"):
        parse_box(text)


def ask(points: list[str], boxes: list[str], **how: Any) -> list[ObjectPrompt]:
    return list(
        gather(points, boxes, how.get("file"), source=how.get("source", "a.png")).everywhere
    )


def test_points_are_one_object_and_boxes_are_many() -> None:
    both = ask(["1,2", "3,4,0"], ["0,0,9,9"])
    assert both == [ObjectPrompt(((1, 2), (3, 4)), (1, 0), (0, 0, 9, 9))]
    assert [len(ask(["1,2", "3,4"], [])), len(ask([], ["0,0,9,9", "1,1,5,5"]))] == [1, 2]
    assert ask([], []) == []


@pytest.mark.parametrize(
    ("points", "boxes", "how", "words"),
    [
        (["1,2"], ["0,0,9,9", "1,1,5,5"], {}, "2 boxes are several"),
        (["1,2,0"], [], {}, "beside the object"),
        (["1,2"], [], {"file": Path("a.jsonl")}, "not from both"),
        ([], [], {"source": None}, "SOURCE is missing"),
    ],
)
def test_what_does_not_go_together(
    points: list[str], boxes: list[str], how: Any, words: str
) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        ask(points, boxes, **how)
    assert caught.value.hint


@pytest.mark.parametrize(
    "prompt",
    [
        ObjectPrompt(((64.5, 10),), (1,)),
        ObjectPrompt(((5, 10), (5, -0.1)), (1, 0)),
        ObjectPrompt(box_xyxy=(10, 10, 67, 20)),
        ObjectPrompt(box_xyxy=(-3, 10, 60, 20)),
    ],
)
def test_outside_of_the_image(prompt: ObjectPrompt) -> None:
    with pytest.raises(EvitError, match="outside of the image, which is 64 wide and 48 high"):
        check_inside([prompt], (48, 64))


def test_inside_of_the_image() -> None:
    inside = [ObjectPrompt(((0, 0), (64, 48)), (1, 0)), ObjectPrompt(box_xyxy=(-1, 0, 65, 49))]
    check_inside(inside, (48, 64))


def write(path: Path, *lines: Any) -> Path:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts), "utf-8")
    return path


def test_a_file_of_prompts(tmp_path: Path) -> None:
    path = write(
        tmp_path / "p.jsonl",
        {"image": "b/x.png", "points": [[1, 2], [3.5, 4]], "labels": [1, 0], "id": "cup"},
        "",
        {"image": "a.png", "boxes": [[0, 0, 9, 9], [1, 1, 5, 5]], "id": 7},
        {"image": "c/../b/./x.png", "boxes": [[0, 0, 9, 9]], "points": [[2, 2]]},
    )
    found = read_prompts(path)
    assert list(found.by_image) == [tmp_path / "b/x.png", tmp_path / "a.png"]
    assert found.by_image[tmp_path / "b/x.png"] == [
        ObjectPrompt(((1, 2), (3.5, 4)), (1, 0), None, "cup"),
        ObjectPrompt(((2, 2),), (1,), (0, 0, 9, 9)),
    ]
    assert [one.id for one in found.by_image[tmp_path / "a.png"]] == ["7-1", "7-2"]
    assert (found.name, found.everywhere) == ("p", [])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "it is not JSON"),
        ("[1]", "not a JSON object"),
        ({"image": "a", "box": [0, 0, 1, 1]}, "there is no key 'box'"),
        ({"image": 3, "points": [[1, 2]]}, "image is not a path"),
        ({"image": "a"}, "neither points nor boxes"),
        ({"points": [[1, 2]]}, "names no image"),
        ({"image": "a", "points": [1, 2]}, r"points must be a list of \[x, y\], got 1"),
        ({"image": "a", "points": [[1, True]]}, "points must be"),
        ({"image": "a", "points": {"x": 1}}, "points is not a list"),
        ({"image": "a", "points": [[1, 2]], "labels": [1, 1]}, "2 labels for 1 points"),
        ({"image": "a", "points": [[1, 2]], "labels": ["on"]}, "a label is"),
        ({"image": "a", "boxes": [[0, 0, 1]]}, "boxes must be"),
        ({"image": "a", "boxes": [[5, 0, 1, 3]]}, "no area or is reversed"),
        ({"image": "a", "points": [[1, 2]], "boxes": [[0, 0, 1, 1]] * 2}, "several"),
        ({"image": "a", "points": [[1, 2]], "id": []}, "id is neither"),
    ],
)
def test_a_bad_line_has_its_number(tmp_path: Path, line: Any, words: str) -> None:
    path = write(tmp_path / "p.jsonl", {"image": "a", "points": [[1, 2]]}, "", line)
    with pytest.raises(EvitError, match=f"p.jsonl line 3: .*{words}") as caught:
        read_prompts(path)
    assert not caught.value.message.endswith(".")


def test_lines_for_a_source_name_no_image(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", {"points": [[1, 2]]}, {"boxes": [[0, 0, 1, 1]]})
    assert len(read_prompts(path, images=False).everywhere) == 2
    path = write(tmp_path / "p.jsonl", {"image": "a", "points": [[1, 2]]})
    with pytest.raises(EvitError, match="line 1: it names an image"):
        read_prompts(path, images=False)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(EvitError, match="no such file"):
        read_prompts(tmp_path / "none.jsonl")
    with pytest.raises(EvitError, match="holds no prompt"):
        read_prompts(write(tmp_path / "p.jsonl", "", ""))
    (tmp_path / "p.jsonl").write_bytes(b"\xff\xfe{")
    with pytest.raises(EvitError, match="UTF-8"):
        read_prompts(tmp_path / "p.jsonl")
