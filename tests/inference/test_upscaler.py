"""Enlarging pictures of every size and depth, whole and in tiles."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

from evit_cli.errors import EvitError, UsageError
from evit_cli.inference.enlarge import enlarge, to_eight_bits
from evit_cli.inference.free_memory import free_memory_bytes
from evit_cli.inference.upscaler import Upscaler
from evit_cli.media.deep_images import DeepImage
from evit_cli.media.images import read_image
from evit_cli.media.metadata import Metadata
from evit_cli.models.build import build_model
from evit_cli.models.superres import SuperResolver
from evit_cli.models.variants import SUPERRES_PREPROCESS, get_variant
from evit_cli.runtime.torch_session import TorchSession
from evit_cli.types import Backend, ImageSize, ModelInfo, Precision, Task, TensorSpec
from evit_cli.weights.embedded import EMBEDDED
from tests.helpers.paths import REPOSITORY, shared_dir
from tests.helpers.sessions import GreySession

ImageU8 = npt.NDArray[np.uint8]
TRAINED = REPOSITORY / "runs" / "sr" / "bsds400-t91" / "best.safetensors"


def trained() -> Path:
    """The weights that travel with evit, or those of a training beside it."""
    models = [m.weights for m in EMBEDDED.values() if m.task is Task.SUPERRES]
    found = next((path for path in (*models, TRAINED) if path.exists()), None)
    if found is None:
        pytest.skip("needs runs/sr/bsds400-t91, which `evit train sr/bsds400-t91` makes")
    return found


def torch_session(name: str = "sr-xs-res-x2", *, changed: float = 0.0) -> TorchSession:
    """An untrained model, which is bicubic, or one with something in its last convolution."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(get_variant(name)).eval()
        assert isinstance(model, SuperResolver)
        torch.nn.init.normal_(model.head.to_pixels.weight, std=changed)
        torch.nn.init.zeros_(model.head.to_pixels.bias)
    info = ModelInfo(name, Task.SUPERRES, SUPERRES_PREPROCESS)
    return TorchSession(model, info, threads=1)


class Repeats:
    """A session that repeats pixels, with an artifact's limits and a small memory.

    Args:
        fixed_hw: the one size it takes.
        range_hw: the sizes it takes.
        room: it runs out of memory beyond so many pixels.
        error: how it says so.
    """

    backend, precision = Backend.TFLITE, Precision.INT8
    scale = 2

    def __init__(
        self,
        fixed_hw: tuple[int, int] | None = None,
        range_hw: tuple[ImageSize, ImageSize] | None = None,
        *,
        room: int = 1 << 30,
        error: Exception | None = None,
    ) -> None:
        sides = fixed_hw or (None, None)
        self.inputs = (TensorSpec("image", (1, *sides, 3), "uint8"),)
        self.outputs = (TensorSpec("upscaled", (1, 3, None, None), "float32"),)
        self.info = ModelInfo("repeats", Task.SUPERRES, SUPERRES_PREPROCESS)
        if range_hw is not None:
            self.range_hw = range_hw
        self.fixed_hw, self.room, self.error = fixed_hw, room, error
        self.seen: list[ImageSize] = []

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        image = inputs["image"]
        size_hw = ImageSize(*image.shape[1:3])
        assert image.dtype == np.uint8 and not any(side % 4 for side in size_hw)
        assert self.fixed_hw in (None, size_hw)
        if hasattr(self, "range_hw"):
            low, high = self.range_hw
            assert all(a <= b <= c for a, b, c in zip(low, size_hw, high, strict=True))
        if math.prod(size_hw) > self.room:
            raise self.error or EvitError("out of memory at input size 9x9")
        self.seen.append(size_hw)
        large = image.repeat(2, axis=1).repeat(2, axis=2)
        return {"upscaled": large.transpose(0, 3, 1, 2).astype(np.float32) / 255}

    def close(self) -> None:
        """Nothing to free."""


def noise(*shape: int) -> ImageU8:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def repeated(image: npt.NDArray[Any], times: int = 2) -> npt.NDArray[Any]:
    return image.repeat(times, axis=0).repeat(times, axis=1)


@pytest.mark.parametrize("size_hw", [(1, 1), (3, 200), (37, 41), (64, 64), (150, 97)])
@pytest.mark.parametrize("tile", [None, 0, 32, 64])
def test_any_size_comes_out_exactly(size_hw: tuple[int, int], tile: int | None) -> None:
    upscaler = Upscaler(Repeats(), tile=tile, overlap=12)
    image = noise(*size_hw, 3)
    done = upscaler(image)
    np.testing.assert_array_equal(done.image_rgb_u8, repeated(image))
    assert done.tiles == upscaler.tiles(ImageSize(*size_hw))
    assert (done.scale, done.image_rgb_u8.flags.c_contiguous) == (2, True)
    if tile:
        assert max(done.tile_hw) <= tile


@pytest.mark.parametrize("size_hw", [(5, 7), (48, 80), (50, 170), (300, 30)])
def test_artifacts_get_the_sizes_they_take(size_hw: tuple[int, int]) -> None:
    image = noise(*size_hw, 3)
    fixed = Upscaler(Repeats((48, 80)))
    np.testing.assert_array_equal(fixed(image).image_rgb_u8, repeated(image))
    for tile in (None, 0, 40):
        free = Upscaler(Repeats(None, (ImageSize(32, 32), ImageSize(64, 96))), tile=tile)
        np.testing.assert_array_equal(free(image).image_rgb_u8, repeated(image))


def test_four_times_by_two_passes() -> None:
    image = noise(40, 50, 3)
    upscaler = Upscaler(Repeats(), scale=4, tile=32)
    done = upscaler(image)
    np.testing.assert_array_equal(done.image_rgb_u8, repeated(image, 4))
    assert done.tiles == upscaler.tiles(ImageSize(40, 50)) > 4


@pytest.mark.parametrize("error", [None, MemoryError()])
def test_out_of_memory_halves_the_tiles_and_says_so_once(error: Exception | None) -> None:
    session = Repeats(room=50 * 50, error=error)
    upscaler = Upscaler(session, overlap=8)
    image = noise(150, 200, 3)
    for _ in range(2):
        np.testing.assert_array_equal(upscaler(image).image_rgb_u8, repeated(image))
    assert upscaler.notes == ["out of memory with tiles of 152x200: smaller ones were used"]
    assert max(max(seen) for seen in session.seen) <= 50


def test_out_of_memory_with_the_smallest_tiles_is_an_error() -> None:
    session = Repeats()
    upscaler = Upscaler(session)
    session.room = 10
    with pytest.raises(EvitError, match="out of memory with tiles of 28x28"):
        upscaler(noise(64, 64, 3))


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    session = Repeats()
    upscaler = Upscaler(session)
    session.room, session.error = 10, EvitError("the device is gone")
    with pytest.raises(EvitError, match="the device is gone"):
        upscaler(noise(64, 64, 3))


def test_what_cannot_be_done_is_refused() -> None:
    with pytest.raises(EvitError, match="grey is a segment model, not for super-resolution"):
        Upscaler(GreySession())  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="enlarges 2 times, which gives no 3"):
        Upscaler(Repeats(), scale=3)
    with pytest.raises(UsageError, match="tiles of 48x80 only"):
        Upscaler(Repeats((48, 80)), tile=64)
    with pytest.raises(UsageError, match="too small"):
        Upscaler(Repeats(), tile=31)
    with pytest.raises(ValueError, match="must be"):
        Upscaler(Repeats())(noise(4, 4))


def test_nan_is_not_written() -> None:
    class Broken(Repeats):
        def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
            return {"upscaled": super().run(inputs)["upscaled"] * np.nan}

    with pytest.raises(EvitError, match="NaN"):
        Upscaler(Broken())(noise(8, 8, 3))


def test_whole_pictures_are_what_evaluation_measures() -> None:
    session = torch_session(changed=0.02)
    image = noise(37, 50, 3)
    expected = to_eight_bits(enlarge(session, image))
    found = Upscaler(session)(image).image_rgb_u8
    np.testing.assert_array_equal(found, expected)


def seams(whole: ImageU8, tiled: ImageU8, tile: int, overlap: int) -> tuple[float, float]:
    """Mean difference where tiles meet, and elsewhere, in steps of 1/255."""
    from evit_cli.inference.tiles import even_tile, spans

    difference = np.abs(whole.astype(float) - tiled).mean(axis=2)
    at_seam = np.zeros(difference.shape, bool)
    for axis in (0, 1):
        length = whole.shape[axis] // 2
        side = even_tile(length, tile, overlap, 4)
        for span in spans(length, side, min(overlap, side // 3)):
            if span.fade_in:
                band = slice(2 * span.first, 2 * (span.first + span.fade_in))
                at_seam[(slice(None),) * axis + (band,)] = True
    return float(difference[at_seam].mean()), float(difference[~at_seam].mean())


def test_tiles_leave_no_seam() -> None:
    session = torch_session(changed=0.05)
    image = cv2.GaussianBlur(noise(150, 180, 3), (0, 0), 1.5)
    image = np.asarray(cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX), np.uint8)
    whole = Upscaler(session, tile=0)(image).image_rgb_u8
    plain = cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    assert np.abs(whole.astype(float) - plain).mean() > 1, "the model does something"
    tiled = Upscaler(session, tile=96, overlap=32)(image).image_rgb_u8
    at_seam, elsewhere = seams(whole, tiled, 96, 32)
    assert at_seam < elsewhere + 0.5


def test_a_trained_model_leaves_no_seam() -> None:
    image = read_image(shared_dir("data", "sr", "set5", "img_003_SRF_2_HR.png"))[0]
    whole = Upscaler.load(None, weights=trained(), tile=0)(image).image_rgb_u8
    tiled = Upscaler.load(None, weights=trained(), tile=96)(image).image_rgb_u8
    at_seam, elsewhere = seams(whole, tiled, 96, 32)
    assert at_seam < elsewhere + 0.5
    assert elsewhere < 1


# What belongs to a picture


def test_sixteen_bits_keep_their_steps() -> None:
    ramp = np.linspace(20_000, 24_000, 120).astype(np.uint16)
    stored = np.repeat(np.tile(ramp, (40, 1))[:, :, None], 3, axis=2)
    for session in (torch_session(), Repeats()):
        done = Upscaler(session, tile=48).upscale(DeepImage(stored)).image.stored
        assert done.dtype == np.uint16
        if isinstance(session, TorchSession):
            assert len(np.unique(done[:, 20:-20])) > 190  # of 200 columns; 8 bits leave 14
            exact = cv2.resize(stored, (240, 80), interpolation=cv2.INTER_CUBIC)
            assert np.abs(done.astype(int) - exact).max() <= 2


def test_a_sixteen_bit_gradient_keeps_more_than_256_levels() -> None:
    ramp = np.linspace(0, 65535, 700).astype(np.uint16)
    done = Upscaler(torch_session(changed=0.001)).upscale(DeepImage(np.tile(ramp, (16, 1))))
    assert len(np.unique(done.image.stored[16])) > 1300


def test_sixteen_bits_of_whole_eights_are_the_same_as_eight() -> None:
    image = noise(40, 50, 3)
    session = torch_session(changed=0.02)
    eight = Upscaler(session).upscale(DeepImage(image)).image.stored
    sixteen = Upscaler(session).upscale(DeepImage(image.astype(np.uint16) * 257)).image.stored
    assert np.abs(sixteen / 257 - eight).max() <= 0.51


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_stays_grey(dtype: Any) -> None:
    stored = noise(40, 50).astype(dtype) * (257 if dtype == np.uint16 else 1)
    metadata = Metadata(icc=b"x" * 40)
    done = Upscaler(torch_session(changed=0.02)).upscale(DeepImage(stored, metadata)).image
    assert (done.stored.shape, done.stored.dtype) == ((80, 100), dtype)
    assert done.metadata == metadata


def test_transparency_is_enlarged_and_hidden_colours_do_not_bleed() -> None:
    stored = np.zeros((40, 60, 4), np.uint8)
    stored[:, 30:] = (200, 150, 100, 255)  # the left half is black and cannot be seen
    for tile in (0, 32):
        done = Upscaler(torch_session(), tile=tile).upscale(DeepImage(stored)).image.stored
        assert done.shape == (80, 120, 4)
        assert (done[:, :50, 3] == 0).all() and (done[:, 70:, 3] == 255).all()
        seen = done[done[:, :, 3] > 0]
        assert np.abs(seen[:, :3].astype(int) - (200, 150, 100)).max() <= 1


# Memory


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:   1000 kB\n"}, 1_024_000),
        (
            {
                "proc/meminfo": "MemAvailable: 1000 kB\n",
                "sys/fs/cgroup/memory.max": "5000\n",
                "sys/fs/cgroup/memory.current": "4500\n",
                "sys/fs/cgroup/memory.stat": "anon 1\ninactive_file 100\n",
            },
            600,
        ),
        (
            {
                "proc/meminfo": "MemAvailable: 1 kB\n",
                "sys/fs/cgroup/memory.max": "max\n",
                "sys/fs/cgroup/memory.current": "4500\n",
            },
            1024,
        ),
        (
            {
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "5000",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "6000",
            },
            0,
        ),
        ({"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712"}, None),
    ],
)
def test_free_memory(files: dict[str, str], expected: int | None, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert free_memory_bytes(root=tmp_path) == expected


@pytest.mark.parametrize(("free", "largest"), [(1 << 40, 352), (1 << 30, 200), (0, 32)])
def test_automatic_tiles_fit_into_the_free_memory(
    free: int, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evit_cli.inference.upscaler.free_memory_bytes", lambda: free)
    session = Repeats()
    done = Upscaler(session)(np.zeros((1200, 1300, 3), np.uint8))
    assert largest * 0.7 < max(done.tile_hw) <= largest
