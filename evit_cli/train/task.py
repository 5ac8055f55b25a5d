"""What the loop needs to know of a task; the rest of the room works for all of them alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from evit_cli.data.loader import Batch, Sample
from evit_cli.data.sampling import Request
from evit_cli.models.variants import Variant
from evit_cli.train.distributed import Group
from evit_cli.types import ImageSize, ModelInfo, Progress


class Loss(NamedTuple):
    """A loss that adds up exactly over micro-batches and processes.

    Attributes:
        total: sum over what counts (pixels, examples), divided by a constant of the batch's shape;
            it is differentiated.
        weight: how much counted, divided by the same constant. The loss is total / weight, with
            both summed over the whole batch first.
        parts: values worth a line in the log, each a sum like `total`.
    """

    total: Tensor
    weight: Tensor
    parts: Mapping[str, Tensor]


@dataclass(frozen=True)
class Score:
    """The result of an evaluation: `values` by name, among them the task's metric."""

    values: Mapping[str, float]


class TrainTask(Protocol):
    """One recipe's data, model and loss.

    Attributes:
        network: what is trained; called with normalised RGB (B, 3, H, W).
        model: the part of it that is kept, averaged and evaluated.
        variant: the model's variant, with its class count.
        info: what the saved weights will say about themselves.
        metric: the value of a `Score` that tells which weights are best; more is better.
        count: training examples.
        sizes: training sizes; the loop takes one per step.
    """

    network: nn.Module
    model: nn.Module
    variant: Variant
    info: ModelInfo
    metric: str
    count: int
    sizes: Sequence[ImageSize]

    def sample(self, request: Request) -> Sample:
        """One training example; runs in loader processes. "image" is (H, W, 3) uint8 RGB."""

    def where(self, index: int) -> str:
        """The file of a training example, for messages."""

    def change(
        self, images: Tensor, batch: Batch, rng: np.random.Generator
    ) -> tuple[Tensor, Batch]:
        """Changes that need the whole batch (mixup); normalised images in and out."""

    def loss(self, outputs: Any, batch: Batch, *, images: Tensor, average: Any) -> Loss:
        """The loss of the network's outputs; `average` are those of the averaged model or None."""

    def evaluate(self, model: nn.Module, group: Group, progress: Progress) -> Score:
        """Measure a model on the validation examples, over all processes."""

    def picture(self, model: nn.Module) -> npt.NDArray[np.uint8] | None:
        """(H, W, 3) RGB: what the model makes of fixed validation images; None without any."""


def normalise(images_u8: Tensor, info: ModelInfo) -> Tensor:
    """(B, H, W, 3) uint8 RGB -> (B, 3, H, W) float32, channels-last, mean 0 and deviation 1."""
    mean = torch.tensor(info.preprocess.mean_rgb, device=images_u8.device) * 255
    std = torch.tensor(info.preprocess.std_rgb, device=images_u8.device) * 255
    return ((images_u8.float() - mean) / std).permute(0, 3, 1, 2)
