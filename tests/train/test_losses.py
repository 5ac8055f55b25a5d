"""Losses against plain formulas in float64, and how they add up."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from evit_cli.data.sample import IGNORE
from evit_cli.train.losses import (
    class_loss,
    divergence,
    feature_distance,
    pixel_cross_entropy,
    soft_targets,
)
from evit_cli.train.mix import mix_batch

CLASSES = 5


def pixels(
    seed: int, size: tuple[int, int, int] = (4, 12, 10)
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and labels of which a sixth is void."""
    generator = torch.Generator().manual_seed(seed)
    batch, height, width = size
    logits = 3 * torch.randn(batch, CLASSES, height, width, generator=generator)
    labels = torch.randint(IGNORE, CLASSES, size, generator=generator).to(torch.int16)
    return logits, labels


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, [0.1, 1.0, 2.0, 0.0, 5.0]])
def test_pixel_cross_entropy_is_torchs(smoothing: float, weights: list[float] | None) -> None:
    logits, labels = pixels(0)
    weight = None if weights is None else torch.tensor(weights)
    total, count = pixel_cross_entropy(
        logits, labels, class_weights=weight, label_smoothing=smoothing
    )
    expected = F.cross_entropy(
        logits.double(),
        labels.long(),
        weight=None if weight is None else weight.double(),
        ignore_index=IGNORE,
        label_smoothing=smoothing,
    )
    assert float(total / count) == pytest.approx(float(expected), rel=1e-5)


def test_small_logits_are_enlarged_to_the_labels() -> None:
    logits, labels = pixels(0, (2, 16, 24))
    small = logits[..., ::8, ::8].contiguous()
    large = F.interpolate(small, size=(16, 24), mode="bilinear", align_corners=False)
    found, expected = pixel_cross_entropy(small, labels), pixel_cross_entropy(large, labels)
    assert [float(value) for value in found] == [float(value) for value in expected]


def test_without_labels_nothing_counts() -> None:
    logits, labels = pixels(0)
    for hard in (None, 0.7):
        total, count = pixel_cross_entropy(
            logits.requires_grad_(), torch.full_like(labels, IGNORE), hard_below=hard
        )
        assert (float(total), float(count)) == (0.0, 0.0)
        total.backward()
        assert logits.grad is not None
        assert not logits.grad.any()


def own_probability(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    chosen = labels.long().clamp(min=0).unsqueeze(1)
    return logits.softmax(1).gather(1, chosen).squeeze(1)


@pytest.mark.parametrize(("below", "share"), [(0.3, 0.01), (0.9, 0.01), (0.0, 0.25), (0.05, 0.5)])
def test_hard_pixels_alone_count(below: float, share: float) -> None:
    logits, labels = pixels(1)
    logits.requires_grad_()
    total, count = pixel_cross_entropy(logits, labels, hard_below=below, hard_min_share=share)
    total.backward()
    known = labels != IGNORE
    probability = own_probability(logits.detach(), labels)
    ranked = probability[known].sort().values
    at_least = int(share * len(ranked))
    hard = known & (probability < max(below, float(ranked[at_least - 1]) + 1e-9))
    assert int(hard.sum()) >= at_least
    assert logits.grad is not None
    assert torch.equal(logits.grad.abs().sum(1) > 0, hard)
    assert float(count) * labels.numel() == pytest.approx(int(hard.sum()))
    each = -own_probability(logits.detach().double(), labels).log()
    assert float(total / count) == pytest.approx(float(each[hard].mean()), rel=1e-5)


@pytest.mark.parametrize("options", [{}, {"class_weights": [3.0, 1, 1, 0, 1]}, {"hard_below": 0.6}])
def test_micro_batches_add_up_to_the_whole(options: dict[str, object]) -> None:
    """Also where the parts have very different numbers of labelled pixels."""
    logits, labels = pixels(2)
    labels[0] = IGNORE
    labels[1, :11] = IGNORE
    if "class_weights" in options:
        options = {"class_weights": torch.tensor(options["class_weights"])}
    options = {**options, "hard_min_share": 0.01}
    whole = pixel_cross_entropy(logits, labels, **options)  # type: ignore[arg-type]
    parts = [
        pixel_cross_entropy(logits[i : i + 1], labels[i : i + 1], **options)  # type: ignore[arg-type]
        for i in range(4)
    ]
    total, count = (sum(part[k] for part in parts) for k in range(2))
    assert float(total) / float(count) == pytest.approx(float(whole[0] / whole[1]), rel=1e-5)
    assert float(total) == pytest.approx(4 * float(whole[0]), rel=1e-5)


def soft(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(6, CLASSES, generator=generator)
    labels = torch.randint(0, CLASSES, (6,), generator=generator)
    return logits, soft_targets(labels, CLASSES, 0.1)


@pytest.mark.parametrize("kind", ["bce", "ce"])
def test_class_losses(kind: str) -> None:
    logits, targets = soft(0)
    total, count = class_loss(logits, targets, kind=kind)
    x, t = logits.double().numpy(), targets.double().numpy()
    if kind == "ce":
        naive = -(t * (x - np.log(np.exp(x).sum(1, keepdims=True)))).sum(1)
    else:
        p = 1 / (1 + np.exp(-x))
        naive = -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean(1)
    assert float(total / count) == pytest.approx(naive.mean(), rel=1e-5)
    assert float(count) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["bce", "ce"])
def test_examples_without_a_label_do_not_count(kind: str) -> None:
    logits, _ = soft(0)
    labels = torch.tensor([1, IGNORE, 2, IGNORE, IGNORE, 0])
    targets = soft_targets(labels, CLASSES, 0.1)
    assert targets.sum(1).tolist() == pytest.approx([1, 0, 1, 0, 0, 1])
    total, count = class_loss(logits, targets, kind=kind)
    known = labels != IGNORE
    alone, all_known = class_loss(logits[known], targets[known], kind=kind)
    assert float(total / count) == pytest.approx(float(alone / all_known), rel=1e-5)


def test_soft_targets() -> None:
    found = soft_targets(torch.tensor([2, 0]), 4, 0.2)
    assert found.tolist() == [
        pytest.approx([0.05, 0.05, 0.85, 0.05]),
        pytest.approx([0.85, 0.05, 0.05, 0.05]),
    ]


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_divergence(temperature: float) -> None:
    generator = torch.Generator().manual_seed(3)
    student, teacher = (3 * torch.randn(2, 4, 3, 5, generator=generator) for _ in range(2))
    weight = torch.rand(2, 3, 5, generator=generator)
    total, count = divergence(student, teacher, temperature=temperature, weight=weight)

    def softened(logits: torch.Tensor) -> np.ndarray:
        e = np.exp(logits.double().numpy() / temperature)
        return np.asarray(e / e.sum(1, keepdims=True))

    p, q, w = softened(student), softened(teacher), weight.double().numpy()
    each = (q * np.log(q / p)).sum(1) * temperature**2
    assert float(total / count) == pytest.approx((each * w).sum() / w.sum(), rel=1e-4)
    nothing, _ = divergence(teacher, teacher, temperature=temperature, weight=weight)
    assert float(nothing) == pytest.approx(0, abs=1e-6)


def test_a_certain_teacher_makes_no_nan() -> None:
    student = torch.zeros(1, 3, requires_grad=True)
    total, _ = divergence(
        student, torch.tensor([[0.0, -400.0, -6e4]]), temperature=1.0, weight=torch.ones(1)
    )
    total.backward()
    assert float(total) == pytest.approx(math.log(3), rel=1e-5)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


def test_feature_distance() -> None:
    generator = torch.Generator().manual_seed(4)
    student = torch.randn(2, 3, 4, 5, generator=generator)
    teacher = 7 * torch.randn(2, 3, 4, 5, generator=generator) + 2
    weight = torch.rand(2, 4, 5, generator=generator)
    total, count = feature_distance(student, teacher, weight=weight)
    s, t, w = (x.double().numpy() for x in (student, teacher, weight))
    mean = np.array([(t[:, c] * w).sum() / w.sum() for c in range(3)])
    var = np.array([((t[:, c] - mean[c]) ** 2 * w).sum() / w.sum() for c in range(3)])
    standard = (t - mean[None, :, None, None]) / np.sqrt(var + 1e-6)[None, :, None, None]
    naive = (((s - standard) ** 2).mean(1) * w).sum() / w.sum()
    assert float(total / count) == pytest.approx(naive, rel=1e-4)


def test_features_outside_the_images_do_not_count() -> None:
    generator = torch.Generator().manual_seed(5)
    student, teacher = (torch.randn(1, 3, 4, 4, generator=generator) for _ in range(2))
    weight = torch.ones(1, 4, 4)
    weight[:, 2:] = 0
    spoiled = teacher.clone()
    spoiled[:, :, 2:] = 1e4
    one = feature_distance(student, teacher, weight=weight)
    two = feature_distance(student, spoiled, weight=weight)
    assert [float(v) for v in one] == pytest.approx([float(v) for v in two])
    empty, count = feature_distance(student, teacher, weight=torch.zeros(1, 4, 4))
    assert (float(empty), float(count)) == (0.0, 0.0)


@settings(deadline=None, max_examples=80)
@given(
    seed=st.integers(0, 10**6),
    mixup=st.sampled_from([0.0, 0.4]),
    cutmix=st.sampled_from([0.0, 0.4]),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
)
def test_pixels_are_mixed_in_the_share_of_the_targets(
    seed: int, mixup: float, cutmix: float, size: tuple[int, int]
) -> None:
    """Each image is one colour of its own, so that a pixel tells whose it is."""
    values = torch.tensor([0.0, 1.0, 10.0, 11.0])
    images = values.view(4, 1, 1, 1).expand(4, 3, *size).contiguous()
    before = images.clone()
    mix = mix_batch(images, np.random.default_rng(seed), mixup=mixup, cutmix=cutmix)
    assert torch.equal(images, before)
    assert 0 <= mix.own <= 1
    expected = values * mix.own + values.flip(0) * (1 - mix.own)
    assert mix.images.mean((1, 2, 3)).tolist() == pytest.approx(expected.tolist(), abs=1e-4)
    targets = mix.targets(torch.eye(4))
    assert torch.allclose(targets @ values, expected, atol=1e-4)
    assert targets.sum(1).tolist() == pytest.approx([1] * 4)
    if not mixup and not cutmix:
        assert mix.images is images
    elif not mixup:  # whole pixels of one image or the other
        assert set(mix.images[0].unique().tolist()) <= {0.0, 11.0}


def test_both_mixtures_are_drawn_and_one_image_is_mixed_with_nothing() -> None:
    images = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 3, 16, 16)
    kinds = set()
    for seed in range(30):
        mix = mix_batch(images, np.random.default_rng(seed), mixup=1.0, cutmix=1.0)
        kinds.add(len(mix.images[0].unique()))
    assert kinds == {1, 2}
    alone = mix_batch(images[:1], np.random.default_rng(0), mixup=1.0, cutmix=1.0)
    assert alone.own == 1
