"""Super-resolution in the training loop: patches of photographs, pixel loss, PSNR on Y."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from evit_cli.config.recipe import Recipe
from evit_cli.data.loader import Batch, Sample
from evit_cli.data.sampling import Request
from evit_cli.data.superres import Pairs, PhotoFolder, PhotoPatches
from evit_cli.errors import EvitError
from evit_cli.inference.enlarge import enlarge, to_eight_bits
from evit_cli.inference.evaluate_superres import evaluate_superres
from evit_cli.models.variants import SUPERRES_PREPROCESS, SuperresHeadSpec, get_variant
from evit_cli.runtime.torch_session import TorchSession
from evit_cli.train.distributed import Group
from evit_cli.train.losses import pixel_distance
from evit_cli.train.pictures import comparison_rows
from evit_cli.train.start import seed_everything, start_model
from evit_cli.train.task import Loss, Score
from evit_cli.types import ImageSize, ModelInfo, Progress, Task

_PICTURED = 4


class SuperresTask:
    """See `TrainTask`; the metric is the PSNR on Y in dB, over whole images.

    Args:
        recipe: its `superres` section is used.
        offline: make no network request for weights.
        progress: told of downloads.

    Raises:
        EvitError: the data are laid out in another way, or weights are missing or do not fit.
    """

    metric = "psnr_db"

    def __init__(
        self, recipe: Recipe, *, offline: bool = False, progress: Progress | None = None
    ) -> None:
        part = recipe.superres
        if part is None or recipe.data.dir is None:
            raise ValueError("a super-resolution task needs a section 'superres' and data")
        self.part = part
        self.variant = get_variant(recipe.model.variant)
        if not isinstance(self.variant.head, SuperresHeadSpec):
            raise EvitError(f"model.variant {self.variant.name} is not for super-resolution")
        scale = self.variant.head.scale
        root = Path(recipe.data.dir).expanduser()
        self.train_set = PhotoPatches(
            [PhotoFolder(root / p.folder, p.weight, p.shrink) for p in part.photos],
            scale,
            patch_hw=part.patch_hw[0],
            turn=part.turn,
            cache_bytes=int(part.cache_gb * 2**30),
        )
        self.val_set = Pairs(root / part.val, scale)
        seed_everything(recipe.train.seed)
        start = start_model(recipe.model, self.variant, offline=offline, progress=progress)
        self.model: nn.Module = start.model
        self.network: nn.Module = start.model
        self.count = len(self.train_set)
        self.sizes: Sequence[ImageSize] = [ImageSize(*size) for size in part.patch_hw]
        self.info = ModelInfo(
            recipe.name, Task.SUPERRES, SUPERRES_PREPROCESS, licence=recipe.licence
        )

    def sample(self, request: Request) -> Sample:
        """A random patch: "image" (h, w, 3) uint8 and "target", its original."""
        return self.train_set.sample(request)

    def where(self, index: int) -> str:
        """The photograph."""
        return self.train_set.where(index)

    def change(
        self, images: Tensor, batch: Batch, rng: np.random.Generator
    ) -> tuple[Tensor, Batch]:
        """Super-resolution has no change of a whole batch."""
        return images, batch

    def loss(self, outputs: Any, batch: Batch, *, images: Tensor, average: Any) -> Loss:
        """The recipe's distance between result and original, in RGB of 0..1."""
        target = batch.tensors["target"].permute(0, 3, 1, 2).float() / 255
        return Loss(*pixel_distance(outputs, target, kind=self.part.loss), {})

    def evaluate(self, model: nn.Module, group: Group, progress: Progress) -> Score:
        """PSNR in dB and SSIM, as `evit eval` measures them."""
        session = TorchSession(model, self.info, device=str(group.device))
        score = evaluate_superres(session, self.val_set, group=group, progress=progress)
        return Score({"psnr_db": round(score.psnr_db, 4), "ssim": round(score.ssim, 6)})

    def picture(self, model: nn.Module) -> npt.NDArray[np.uint8] | None:
        """The small image, the model's enlargement and the original, in a row for a few images."""
        session = TorchSession(model, self.info, device=str(next(model.parameters()).device))
        step = max(1, len(self.val_set) // _PICTURED)
        pairs = (self.val_set.read(i) for i in range(0, len(self.val_set), step)[:_PICTURED])
        return comparison_rows([(s, to_eight_bits(enlarge(session, s)), t) for s, t in pairs])
