"""The losses of masks against plain references, and which of the candidates learns."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evit_cli.config.recipe_sam import SamPart
from evit_cli.data.loader import Batch
from evit_cli.train.sam.examples import unpacked
from evit_cli.train.sam.losses import (
    PointRule,
    choose_places,
    mask_iou,
    mask_losses,
    point_losses,
    sample_map,
    shrunk_masks,
)
from evit_cli.train.sam.network import PromptedLoss, SamNetwork
from tests.helpers.mask_sets import tiny_model

seeds = st.integers(0, 2**31)


def naive_bilinear(values: np.ndarray, x: float, y: float) -> float:
    """The value at (x, y), shares of the map; pixel centres are at (i + 0.5) / n."""
    height, width = values.shape
    px, py = x * width - 0.5, y * height - 0.5
    x0, y0 = math.floor(px), math.floor(py)
    total = 0.0
    for j in (y0, y0 + 1):
        for i in (x0, x0 + 1):
            share = (1 - abs(px - i)) * (1 - abs(py - j))
            total += share * values[min(max(j, 0), height - 1), min(max(i, 0), width - 1)]
    return total


@settings(max_examples=30, deadline=None)
@given(hw=st.tuples(st.integers(1, 9), st.integers(1, 9)), seed=seeds)
def test_maps_are_sampled_at_shares_of_their_sides(hw: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, places = rng.standard_normal((2, *hw)), rng.random((2, 7, 2))
    found = sample_map(torch.from_numpy(values), torch.from_numpy(places))
    for p in range(2):
        expected = [naive_bilinear(values[p], x, y) for x, y in places[p]]
        np.testing.assert_allclose(found[p], expected, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, focal=st.sampled_from([0.0, 1.0, 2.0]))
def test_losses_of_points(seed: int, focal: float) -> None:
    rng = np.random.default_rng(seed)
    logits, truth = 4 * rng.standard_normal((3, 11)), rng.integers(0, 2, (3, 11))
    pair = torch.from_numpy(logits), torch.from_numpy(truth).double()
    entropy, dice = point_losses(*pair, focal=focal)
    for row in range(3):
        entropies, both, sums = [], 0.0, 0.0
        for logit, label in zip(logits[row], truth[row], strict=True):
            p = 1 / (1 + math.exp(-logit))
            right = p if label else 1 - p
            entropies.append(-((1 - right) ** focal) * math.log(right))
            both += p * label
            sums += p + label
        assert float(entropy[row]) == pytest.approx(np.mean(entropies), rel=1e-6)
        assert float(dice[row]) == pytest.approx(1 - (2 * both + 1) / (sums + 1), rel=1e-6)


def test_a_right_answer_costs_less() -> None:
    masks = torch.zeros(1, 32, 32)
    masks[:, 8:24, 8:24] = 1
    torch.manual_seed(0)
    for doubtful, border in ((0.0, 0.2), (0.75, 1.0)):
        rule, everywhere = PointRule(400, 3, doubtful), torch.ones(1, 2)
        good = mask_losses(20 * masks - 10, masks, everywhere, rule=rule)
        bad = mask_losses(10 - 20 * masks, masks, everywhere, rule=rule)
        # Doubtful points lie between the pixels, where a right answer is half right.
        assert float(good[0]) < border < 1.5 < float(bad[0])
        assert float(good[1]) < 0.2 < 0.5 < float(bad[1])


def test_most_points_are_doubtful() -> None:
    logits = torch.full((2, 64, 64), 9.0)
    logits[:, :, 30:34] = 0  # a sixteenth of the map
    torch.manual_seed(0)
    count = 400
    places = choose_places(logits, torch.ones(2, 2), PointRule(count, 40, 0.75))
    assert places.shape == (2, count, 2)
    inside = (places[..., 0] > 29 / 64) & (places[..., 0] < 35 / 64)
    assert inside[:, : 3 * count // 4].all()
    assert 0.02 < float(inside[:, 3 * count // 4 :].float().mean()) < 0.2  # the rest is random


@pytest.mark.parametrize("doubtful", [0.0, 0.5, 1.0])
def test_points_stay_inside_the_image(doubtful: float) -> None:
    extent = torch.tensor([[0.5, 1.0], [1.0, 0.25]])
    torch.manual_seed(0)
    logits = torch.randn(2, 16, 16)
    places = choose_places(logits, extent, PointRule(100, 3, doubtful))
    assert (places >= 0).all()
    assert (places <= extent[:, None]).all()
    assert (places.amax(1) > 0.8 * extent).all()


@settings(max_examples=40, deadline=None)
@given(seed=seeds)
def test_iou_of_masks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, truth = rng.standard_normal((2, 3, 4, 5)), rng.random((2, 4, 5)) > 0.5
    found = mask_iou(torch.from_numpy(logits), torch.from_numpy(truth))
    for p in range(2):
        for t in range(3):
            mine = logits[p, t] > 0
            either = (mine | truth[p]).sum()
            expected = (mine & truth[p]).sum() / either if either else 0
            assert float(found[p, t]) == pytest.approx(expected)


def test_masks_shrink_by_majority() -> None:
    masks = torch.zeros(1, 4, 4)
    masks[0, :2, :1] = 1  # half of the first quarter
    masks[0, 2, 2] = 1  # a fourth of the last one
    np.testing.assert_array_equal(shrunk_masks(masks, 2)[0], [[True, False], [False, False]])


@given(seed=seeds, width=st.sampled_from([8, 16, 40]))
def test_bits_are_unpacked(seed: int, width: int) -> None:
    masks = np.random.default_rng(seed).random((2, 3, 5, width)) > 0.5
    bits = torch.from_numpy(np.packbits(masks, axis=-1))
    np.testing.assert_array_equal(unpacked(bits).numpy(), masks)


class Fixed(torch.nn.Module):
    """A decoder that gives the same logits whatever it is asked, and notes the questions."""

    def __init__(self, masks: torch.Tensor, expected: torch.Tensor) -> None:
        super().__init__()
        self.masks, self.expected = torch.nn.Parameter(masks), torch.nn.Parameter(expected)
        self.asked: list[tuple[torch.Tensor, ...]] = []

    def forward(self, *question: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.asked.append(question)
        prompts = len(question[1])
        shape = (prompts, -1, -1, -1)
        return self.masks.expand(shape), self.expected.expand(prompts, -1)


def fixed_loss(part: SamPart) -> tuple[PromptedLoss, Fixed]:
    """Token 0 is empty, 1 and 3 cover the wrong half, 2 the right one."""
    masks = torch.full((1, 4, 16, 16), -6.0)
    masks[0, 2, :, :8] = 6.0
    masks[0, (1, 3), :, 8:] = 6.0
    decoder = Fixed(masks, torch.tensor([[0.5, 0.5, 0.5, 0.5]]))
    network = SamNetwork(tiny_model())
    network.sam.decoder = decoder
    return PromptedLoss(network, part), decoder


def left_half(single: bool, valid: float = 1.0) -> Batch:
    masks = np.zeros((1, 2, 32, 32), np.bool_)
    masks[..., :16] = True
    tensors = {
        "masks": torch.from_numpy(np.packbits(masks, axis=-1)),
        "content": torch.tensor([[32, 32]]),
        "points": torch.full((1, 2, 2, 2), 100.0),
        "labels": torch.tensor([[[1.0, -2.0], [1.0, -2.0]]]),
        "counts": torch.ones(1, 2, dtype=torch.int64),
        "boxed": torch.zeros(1, 2, dtype=torch.bool),
        "single": torch.tensor([single]),
        "valid": torch.tensor([valid]),
    }
    return Batch([], tensors)


def gradients(multimask: float | str, single: bool) -> tuple[list[float], float]:
    """How much each token's mask is pulled, and the loss."""
    part = SamPart(multimask=multimask, points=400, masks_per_image=2)  # type: ignore[arg-type]
    loss, decoder = fixed_loss(part)
    found = loss(torch.zeros(1, 32, 4, 4), left_half(single))
    found.total.backward()
    assert decoder.masks.grad is not None
    return decoder.masks.grad.abs().sum((0, 2, 3)).tolist(), float(found.total.detach())


def test_the_best_of_three_learns() -> None:
    torch.manual_seed(0)
    pulled, total = gradients(1.0, single=False)
    assert pulled[2] > 0
    assert pulled[0] == pulled[1] == pulled[3] == 0
    assert total < 3  # it is right but for its border


def test_the_single_token_learns_alone() -> None:
    pulled, total = gradients(0.0, single=True)
    assert pulled[0] > 0
    assert pulled[1] == pulled[2] == pulled[3] == 0
    assert total > 20  # it is empty


def test_both_learn_from_every_prompt() -> None:
    pulled, _ = gradients("both", single=False)
    assert pulled[0] > 0
    assert pulled[2] > 0
    assert pulled[1] == pulled[3] == 0


def test_the_expected_iou_is_compared_with_the_true_one() -> None:
    loss, decoder = fixed_loss(SamPart(points=64, masks_per_image=2, iou=2.0, bce=0.0, dice=0.0))
    found = loss(torch.zeros(1, 32, 4, 4), left_half(False))
    # True: empty 0, wrong half 0, right half 1, wrong half 0; all are expected to have 0.5.
    assert float(found.total.detach()) == pytest.approx(2 * 0.25)
    found.total.backward()
    assert decoder.expected.grad is not None
    np.testing.assert_allclose(decoder.expected.grad[0], [0.5, 0.5, -0.5, 0.5], atol=1e-6)


def test_images_without_a_mask_do_not_count() -> None:
    loss, _ = fixed_loss(SamPart(points=64, masks_per_image=2, rounds=2))
    found = loss(torch.zeros(1, 32, 4, 4), left_half(False, valid=0.0))
    assert (float(found.total.detach()), float(found.weight)) == (0, 0)
    assert all(float(value.detach()) == 0 for value in found.parts.values())


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_answers_are_asked_again_with_a_click_and_their_mask(share: float) -> None:
    part = SamPart(points=64, masks_per_image=2, rounds=3, mask_prompts=share, multimask=0.0)
    loss, decoder = fixed_loss(part)
    loss(torch.zeros(1, 32, 4, 4), left_half(True))
    assert [question[2].shape[1] for question in decoder.asked] == [2, 3, 4]
    assert decoder.asked[0][3] is None
    for question in decoder.asked[1:]:
        assert (question[2][:, 1:-1] == 1).all()  # the empty answer missed the whole half
        assert (question[1][:, 1:-1, 0] < 512).all()
        assert (question[2][:, -1] == -1).all()
        if share:
            torch.testing.assert_close(question[3][:, 0], decoder.masks[:, 0].expand(2, -1, -1))
            assert (question[4] == 1).all()
        else:
            assert question[3] is None
