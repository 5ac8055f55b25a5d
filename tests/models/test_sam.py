"""Segment Anything against the published outputs, and what the decoder promises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from evit_cli.models.build import build_model
from evit_cli.models.sam.model import Sam
from evit_cli.models.sam.prompts import ABSENT, LOWER_RIGHT, NEGATIVE, PADDING, POSITIVE, UPPER_LEFT
from evit_cli.models.variants import SAM, get_variant
from evit_cli.weights.remap import to_evit
from tests.helpers.paths import shared_dir

State = dict[str, torch.Tensor]
# The fixture does not name its prompts. These two were found by least squares on its masks, and
# no others come near: a hundredth of a pixel away, the difference is a hundred times as large.
POINTS = ([[300.0, 400.0], [700.0, 200.0], [0.0, 0.0]], [POSITIVE, NEGATIVE, PADDING])
BOX = ([[100.0, 150.0], [800.0, 900.0]], [UPPER_LEFT, LOWER_RIGHT])


def built(name: str) -> Sam:
    torch.manual_seed(0)
    model = build_model(get_variant(name)).eval()
    assert isinstance(model, Sam)
    return model


def prompt(points: list[list[float]], labels: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor([points]), torch.tensor([labels], dtype=torch.float32)


@pytest.fixture(scope="module")
def small() -> Sam:
    return built("sam-b0")


@pytest.fixture(scope="module")
def embedding() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1, 128, 64, 64, generator=generator)


@pytest.mark.shared
def test_l0_equals_the_published_model(
    filled_state: Callable[[str], State], reference_fill: Any
) -> None:
    fixture = np.load(shared_dir("parity", "fixtures", "sam-l0.npz"))
    model, state = built("sam-l0"), filled_state("sam-l0")
    model.load_state_dict(to_evit(state, model.state_dict(), model.variant))
    image = torch.from_numpy(reference_fill.image(*fixture["input_hw"]))

    def difference(kind: str, found: torch.Tensor) -> float:
        assert tuple(found.shape) == tuple(fixture[f"{kind}_shape"])
        values = found.flatten().numpy()[fixture[f"{kind}_index"]]
        return float(np.abs(values - fixture[f"{kind}_value"]).max() / fixture[f"{kind}_std"])

    with torch.inference_mode():
        found = model(image)
        assert difference("embedding", found) <= 1e-4
        masks, iou = model.decoder(found, *prompt(*POINTS))
        assert difference("points_masks", masks[:, 1:]) <= 1e-4
        assert np.allclose(iou[:, 1:], fixture["points_iou"], atol=1e-4)
        masks, iou = model.decoder(found, *prompt(*BOX))
        assert difference("box_masks", masks[:, :1]) <= 1e-4
        assert np.allclose(iou[:, :1], fixture["box_iou"], atol=1e-4)


@pytest.mark.parametrize("name", SAM)
def test_every_encoder_gives_64_by_64(name: str) -> None:
    with torch.device("meta"):
        model = build_model(get_variant(name)).eval()
    assert isinstance(model, Sam)
    side = model.encoder.input_side
    out = model(torch.empty(1, 3, side, side, device="meta"))
    assert out.shape == (1, 128 if name == "sam-b0" else 256, 64, 64)


def test_a_batch_of_prompts_is_one_prompt_at_a_time(small: Sam, embedding: torch.Tensor) -> None:
    generator = torch.Generator().manual_seed(2)
    points = 1024 * torch.rand(5, 3, 2, generator=generator)
    labels = torch.tensor([[1.0, 0.0, -1.0]]).expand(5, -1)
    mask_input = torch.randn(5, 1, 256, 256, generator=generator)
    has_mask = torch.tensor([1.0, 0, 1, 0, 0])
    with torch.inference_mode():
        masks, iou = small.decoder(embedding, points, labels, mask_input, has_mask)
        for i in range(5):
            given = mask_input[i : i + 1] if has_mask[i] else None
            alone = small.decoder(embedding, points[i : i + 1], labels[i : i + 1], given)
            assert torch.allclose(masks[i], alone[0][0], atol=1e-5)
            assert torch.allclose(iou[i], alone[1][0], atol=1e-5)


def test_each_prompt_may_have_its_own_image(small: Sam, embedding: torch.Tensor) -> None:
    other = embedding.flip(-1)
    points, labels = prompt(*BOX)
    with torch.inference_mode():
        both, _ = small.decoder(
            torch.cat((embedding, other)), points.expand(2, -1, -1), labels.expand(2, -1)
        )
        one, _ = small.decoder(embedding, points, labels)
        two, _ = small.decoder(other, points, labels)
    assert torch.allclose(both, torch.cat((one, two)), atol=1e-5)
    assert not torch.allclose(one, two, atol=1e-2)


def test_absent_points_are_not_seen(small: Sam, embedding: torch.Tensor) -> None:
    points, labels = prompt(*POINTS)
    filled = torch.cat((points, torch.full((1, 4, 2), 512.0)), dim=1)
    absent = torch.cat((labels, torch.full((1, 4), float(ABSENT))), dim=1)
    padded = torch.cat((labels, torch.full((1, 4), float(PADDING))), dim=1)
    with torch.inference_mode():
        expected, _ = small.decoder(embedding, points, labels)
        seen, _ = small.decoder(embedding, filled, padded)
        try:
            small.decoder.takes_absent = True
            unseen, _ = small.decoder(embedding, filled, absent)
        finally:
            small.decoder.takes_absent = False
    assert torch.allclose(unseen, expected, atol=1e-5)
    # Padding points are tokens like others: they would change the masks.
    assert (seen - expected).abs().max() > 100 * (unseen - expected).abs().max()


def test_order_of_points_does_not_matter_but_their_labels_do(
    small: Sam, embedding: torch.Tensor
) -> None:
    points, labels = prompt(*POINTS)
    with torch.inference_mode():
        forward, _ = small.decoder(embedding, points, labels)
        backward, _ = small.decoder(embedding, points.flip(1), labels.flip(1))
        negated, _ = small.decoder(embedding, points, torch.tensor([[0.0, 1.0, -1.0]]))
    assert torch.allclose(forward, backward, atol=1e-5)
    assert not torch.allclose(forward, negated, atol=1e-4)


def test_where_a_padding_point_lies_does_not_matter(small: Sam, embedding: torch.Tensor) -> None:
    points, labels = prompt(*POINTS)
    moved = points.clone()
    moved[0, 2] = 900.0
    with torch.inference_mode():
        assert torch.equal(
            small.decoder(embedding, points, labels)[0], small.decoder(embedding, moved, labels)[0]
        )


def test_prompts_are_drawn_where_they_are(small: Sam) -> None:
    assert small.decoder.drawn is not None
    points = torch.tensor([[[512.0, 264.0], [100.0, 900.0]], [[256.0, 128.0], [768.0, 136.0]]])
    labels = torch.tensor([[POSITIVE, NEGATIVE], [UPPER_LEFT, LOWER_RIGHT]], dtype=torch.float32)
    drawn = small.decoder.drawn.picture(points, labels, 64)
    assert drawn.shape == (2, 5, 64, 64) and 0 <= drawn.min() and drawn.max() <= 1
    positive, negative, box, boxed, small = drawn[0]
    row, column = divmod(int(positive.argmax()), 64)
    assert row == 16 and column in (31, 32)  # between two cells
    assert divmod(int(negative.argmax()), 64) == (56, 6)
    assert box.max() == boxed.max() == small.max() == 0
    positive, negative, box, boxed, small = drawn[1]
    assert positive.max() == negative.max() == 0 and boxed.min() == 1
    assert torch.allclose(small, box * 0.3679, atol=1e-4)  # sqrt(512 * 8) is 64
    assert float(box.sum()) * 16**2 == pytest.approx(512 * 8, rel=0.05)  # its area
    assert box[8, 17:47].min() == 0.5 and box[:, :15].max() == 0


def test_a_model_of_another_task_is_refused() -> None:
    with pytest.raises(ValueError, match="is no SAM model"):
        Sam(get_variant("seg-b0-cityscapes"))
