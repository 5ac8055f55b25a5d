"""Block-wise distillation: its distances, its refusals, and that stages learn alone."""

from __future__ import annotations

import pytest
import torch

from evit_cli.errors import EvitError
from evit_cli.models.build import build_model
from evit_cli.models.classes import class_set
from evit_cli.models.variants import get_variant
from evit_cli.train.blockwise import BlockStudent, relative_distance
from evit_cli.train.teacher import Teacher
from evit_cli.types import ImageSize, ModelInfo, Preprocess, Task

INFO = ModelInfo("t", Task.SEGMENT, Preprocess(ImageSize(64, 64)), class_set("cityscapes"))


def teacher() -> Teacher:
    torch.manual_seed(1)
    variant = get_variant("seg-b0-cityscapes")
    model = build_model(variant).eval()
    return Teacher(model, INFO, variant.backbone.widths, torch.eye(19))


def test_relative_distance_is_one_for_the_mean_and_zero_for_the_truth() -> None:
    wanted = torch.randn(2, 3, 8, 8) * torch.tensor([1.0, 10.0, 100.0]).view(1, 3, 1, 1)
    assert float(relative_distance(wanted, wanted)) == 0
    mean = wanted.mean((0, 2, 3), keepdim=True).expand_as(wanted)
    # The floor takes a little from the quiet channels.
    assert 0.5 < float(relative_distance(mean, wanted)) <= 1


def test_a_copy_of_the_teacher_has_nothing_to_learn() -> None:
    taught = teacher()
    student = BlockStudent(taught.model, taught).eval()
    logits, found, wanted, target = student(torch.randn(2, 3, 64, 64))
    torch.testing.assert_close(logits, target)
    for own, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(own, theirs)


def test_the_teacher_is_no_part_of_what_is_trained() -> None:
    taught = teacher()
    model = build_model(get_variant("seg-b0-cityscapes", num_classes=19))
    student = BlockStudent(model, taught)
    assert len(list(student.parameters())) == len(list(model.parameters()))
    assert set(student.state_dict()) == {f"model.{name}" for name in model.state_dict()}


def test_a_stage_learns_from_the_teacher_alone() -> None:
    """The gradient of one stage's distance touches no other stage."""
    model = build_model(get_variant("seg-b0-cityscapes", num_classes=19))
    _, found, wanted, _ = BlockStudent(model, teacher())(torch.randn(2, 3, 64, 64))
    relative_distance(found[3], wanted[3]).backward()
    touched = {name for name, p in model.named_parameters() if p.grad is not None}
    assert touched
    assert all(name.startswith("backbone.stages.2.") for name in touched)


def test_another_width_is_refused() -> None:
    model = build_model(get_variant("seg-b1-cityscapes"))
    with pytest.raises(EvitError, match="the student's widths"):
        BlockStudent(model, teacher())
