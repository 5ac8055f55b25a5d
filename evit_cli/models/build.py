"""From a variant to a module with random weights."""

from __future__ import annotations

from evit_cli.models.classify import Classifier
from evit_cli.models.sam.model import Sam
from evit_cli.models.segment import Segmenter
from evit_cli.models.superres import SuperResolver
from evit_cli.models.variants import Variant
from evit_cli.types import Task

Model = Classifier | Segmenter | SuperResolver | Sam


def build_model(variant: Variant) -> Model:
    """The model of `variant` with PyTorch's default initialisation, in training mode."""
    if variant.task is Task.CLASSIFY:
        return Classifier(variant)
    if variant.task is Task.SEGMENT:
        return Segmenter(variant)
    if variant.task is Task.SUPERRES:
        return SuperResolver(variant)
    if variant.task is Task.SAM:
        return Sam(variant)
    raise ValueError(f"variant {variant.name}: task {variant.task.value} has no builder")
