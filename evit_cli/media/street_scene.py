"""Draws a short clip of a moving street scene: something to segment without anyone's footage."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from evit_cli.media.frame import ImageU8
from evit_cli.media.video_writer import VideoWriter

RATE = Fraction(25)
_SKY, _ROAD, _PAVEMENT, _LINE = (150, 190, 235), (92, 90, 94), (150, 140, 132), (235, 235, 230)
_TREE, _TRUNK, _GLASS, _TYRE = (52, 96, 44), (84, 62, 44), (60, 72, 90), (25, 25, 28)
_HOUSES = ((176, 120, 92), (196, 176, 140), (140, 120, 116), (202, 190, 176))
_CARS = ((158, 32, 36), (36, 66, 140), (206, 206, 210))
_NOISE_SIGMA = 2.0
_Color = tuple[int, int, int]


def _point(x: float, y: float, z: float, size_hw: tuple[int, int]) -> tuple[int, int]:
    """Project metres right, up and ahead of a camera 1.4 m above the road to pixels."""
    height, width = size_hw
    focal = 0.9 * width
    z = max(z, 0.8)
    return round(width / 2 + focal * x / z), round(height * 0.48 - focal * (y - 1.4) / z)


def _polygon(image: ImageU8, corners: Sequence[tuple[float, float, float]], color: _Color) -> None:
    size_hw = image.shape[0], image.shape[1]
    points = np.array([_point(*corner, size_hw) for corner in corners], dtype=np.int32)
    cv2.fillPoly(image, [points], color, cv2.LINE_AA)


def _wall(image: ImageU8, x: float, near: float, far: float, top: float, index: int) -> None:
    color = _HOUSES[index % len(_HOUSES)]
    _polygon(image, [(x, 0, near), (x, top, near), (x, top, far), (x, 0, far)], color)
    for floor in range(1, int(top // 3)):
        for step in range(3):
            z = near + (far - near) * (0.2 + 0.27 * step)
            y = 3.0 * floor
            pane = [(x, y, z), (x, y + 1.5, z), (x, y + 1.5, z + 1.2), (x, y, z + 1.2)]
            _polygon(image, pane, _GLASS)


def _tree(image: ImageU8, x: float, z: float) -> None:
    size_hw = image.shape[0], image.shape[1]
    _polygon(image, [(x - 0.2, 0, z), (x - 0.2, 3, z), (x + 0.2, 3, z), (x + 0.2, 0, z)], _TRUNK)
    centre, edge = _point(x, 4.2, z, size_hw), _point(x + 1.8, 4.2, z, size_hw)
    cv2.circle(image, centre, max(1, edge[0] - centre[0]), _TREE, -1, cv2.LINE_AA)


def _car(image: ImageU8, x: float, z: float, color: _Color) -> None:
    def box(
        left: float, low: float, right: float, high: float, paint: tuple[int, int, int]
    ) -> None:
        corners = [(left, low, z), (left, high, z), (right, high, z), (right, low, z)]
        _polygon(image, corners, paint)

    box(x - 0.9, 0.35, x + 0.9, 0.95, color)
    box(x - 0.7, 0.95, x + 0.7, 1.5, color)
    box(x - 0.6, 1.0, x + 0.6, 1.4, _GLASS)
    for side in (-0.85, 0.6):
        box(x + side, 0, x + side + 0.25, 0.4, _TYRE)


def street_frames(count: int, size_hw: tuple[int, int] = (360, 640)) -> Iterator[ImageU8]:
    """`count` RGB (H, W, 3) uint8 frames: driving at 12 m/s past houses, trees and cars."""
    rng = np.random.default_rng(0)
    for number in range(count):
        travelled = 12.0 * number / float(RATE)
        image = np.full((*size_hw, 3), _SKY, dtype=np.uint8)
        _polygon(image, [(-60, 0, 1), (-60, 0, 400), (60, 0, 400), (60, 0, 1)], _PAVEMENT)
        _polygon(image, [(-4, 0, 1), (-4, 0, 400), (4, 0, 400), (4, 0, 1)], _ROAD)
        for ahead in range(160, 0, -6):
            z = ahead - travelled % 6
            line = [(-0.1, 0, z), (0.1, 0, z), (0.1, 0, z + 2.5), (-0.1, 0, z + 2.5)]
            _polygon(image, line, _LINE)
        first = int(travelled // 14)
        for house in range(first + 9, first - 2, -1):
            near = 14.0 * house - travelled
            if near + 13 > 1:
                _wall(image, -9, max(near, 1), near + 13, 9 + 3 * (house % 3), house)
                _wall(image, 9, max(near, 1), near + 13, 6 + 3 * (house % 4), house + 1)
                _tree(image, 6.5 if house % 2 else -6.5, max(near + 6, 1.5))
        for lane, (start, speed) in enumerate(((34, 13.5), (60, -9.0), (22, 11.0))):
            z = start + (speed - 12.0) * number / float(RATE)
            if z > 3:
                sway = 0.1 * math.sin(number / 12 + lane)
                _car(image, (2.0, -2.0, 2.0)[lane] + sway, z, _CARS[lane])
        noise = rng.normal(0, _NOISE_SIGMA, image.shape)
        yield np.clip(image + noise, 0, 255).astype(np.uint8)


def write_street_clip(
    path: Path, *, count: int = 75, size_hw: tuple[int, int] = (360, 640)
) -> None:
    """Write `street_frames` as an H.264 movie.

    Raises:
        EvitError: it cannot be written.
    """
    writer = VideoWriter(path, rate=RATE)
    for number, image in enumerate(street_frames(count, size_hw)):
        writer.write(image, number / RATE)
    writer.close()
