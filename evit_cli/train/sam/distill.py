"""Phase 1 of the SAM training: the image encoder learns a teacher's embeddings.

The loss is the mean squared distance (arXiv 2402.05008, section 3.2). No label is needed: any
photographs do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from evit_cli.config.recipe import Recipe
from evit_cli.config.recipe_parts import DistillPart
from evit_cli.data.color import jitter
from evit_cli.data.loader import Batch, Sample
from evit_cli.data.outputs import OutputShards
from evit_cli.data.sampling import Request
from evit_cli.data.split import held_out
from evit_cli.data.superres import image_files
from evit_cli.models.sam.model import Sam
from evit_cli.models.sam.prompts import EMBEDDING_SIDE
from evit_cli.train.distributed import Group
from evit_cli.train.sam.placement import Placement, fitted, random_placement
from evit_cli.train.sam.task import first_model, sam_info, sam_variant
from evit_cli.train.sam.teacher import EncoderTeacher, load_encoder_teacher, take_decoder
from evit_cli.train.sam.validate import blanked
from evit_cli.train.task import Loss, Score, normalise
from evit_cli.train.teacher import fill_shards
from evit_cli.train.unlabelled import Unlabelled, open_unlabelled
from evit_cli.types import ImageSize, ModelInfo, Progress

_NAME = "embedding"


class EncoderStudent(nn.Module):
    """The encoder, and a 1x1 projection where the teacher's embedding has another width.

    Args:
        sam: the model; its decoder has no part in this.
        width: channels of the teacher's embedding.
    """

    def __init__(self, sam: Sam, width: int) -> None:
        super().__init__()
        self.encoder = sam.encoder
        own = len(sam.encoder.norm.weight)
        self.adapter: nn.Module = nn.Identity() if own == width else nn.Conv2d(own, width, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised RGB (B, 3, S, S), zero in the padding -> (B, width, 64, 64)."""
        return self.adapter(self.encoder(images))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Photographs:
    """The images of a run: indices below `count` are trained on, the others measured.

    Attributes:
        images: all of them.
        count: how many are for training.
    """

    images: Unlabelled
    count: int

    def __len__(self) -> int:
        return len(self.images)


def open_photographs(root: Path, extra: Unlabelled, *, val_share: float) -> Photographs:
    """All images below a folder, of which a share is kept out, and extra ones to train on.

    Raises:
        EvitError: there are fewer than two.
    """
    files = image_files(root)
    keys = [path.relative_to(root).as_posix() for path in files]
    parts: dict[str, list[Path]] = {
        "train": [files[i] for i in held_out(keys, "train", val_share=val_share, root=root)],
        "val": [files[i] for i in held_out(keys, "val", val_share=val_share, root=root)],
    }
    train = [*parts["train"], *extra.files]
    return Photographs(Unlabelled((*train, *parts["val"])), len(train))


def embeddings_of(
    teacher: EncoderTeacher,
    photos: Photographs,
    folder: Path,
    *,
    grid: int,
    info: ModelInfo,
    group: Group,
    progress: Progress | None,
) -> OutputShards:
    """The teacher's embedding of every whole image, float16 in shards; what is there is kept.

    Args:
        teacher: who is asked.
        photos: about which images.
        folder: of the shards.
        grid: side of the embeddings.
        info: how images are normalised.
        group: the processes that share the work.
        progress: gets one step per image.

    Raises:
        EvitError: an image cannot be read, or the disk is full.
    """
    names = "\n".join(photos.images.where(i) for i in range(len(photos)))
    digest = hashlib.sha256(names.encode()).hexdigest()
    key = {"teacher": teacher.key, "names": digest, "grid": grid}
    limit = float(np.finfo(np.float16).max)

    def answer(index: int) -> dict[str, npt.NDArray[np.float16]]:
        image = photos.images.read(index)
        placement = fitted(image.shape[:2], teacher.side)
        images, content = _one(placement, image, info, group.device)
        found = teacher(blanked(images, content), grid)[0]
        return {_NAME: found.clamp(-limit, limit).half().cpu().numpy()}

    shards = OutputShards(folder, len(photos))
    return fill_shards(shards, key, answer, group=group, progress=progress)


def _one(
    placement: Placement, image: npt.NDArray[np.uint8], info: ModelInfo, device: torch.device
) -> tuple[Tensor, Tensor]:
    """One image, normalised, and the size of its content."""
    square = torch.from_numpy(placement.image(image))[None].to(device)
    return normalise(square, info), torch.tensor([placement.content_hw], device=device)


class EncoderTask:
    """See `TrainTask`; the metric is the share of the teacher's variance that is explained.

    Args:
        recipe: its `sam` and `distill` sections are used.
        group: the processes of the run.
        cache: folder for the teacher's embeddings.
        offline: make no network request for weights.
        progress: told of downloads and of the teacher's work.

    Raises:
        EvitError: there are no images, or weights are missing or do not fit.
    """

    metric = "explained"

    def __init__(
        self,
        recipe: Recipe,
        *,
        group: Group,
        cache: Path,
        offline: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self.variant, head, self.part = sam_variant(recipe)
        if recipe.distill is None or recipe.data.dir is None:
            raise ValueError("an encoder learns from a teacher and images")
        self.side = max(self.part.sides or (head.input_side,))
        self.info = sam_info(recipe, head.input_side)
        self.photos = _photographs(recipe, recipe.distill, group, cache)
        sam = first_model(recipe, self.variant, offline=offline, progress=progress)
        self.teacher = load_encoder_teacher(recipe.distill.teacher, group.device, offline=offline)
        self.took_decoder = take_decoder(sam, self.teacher)
        self.model: nn.Module = sam.to(group.device)
        self.student = EncoderStudent(sam, self.teacher.width)
        self.network: nn.Module = self.student
        self.count = self.photos.count
        self.sizes: Sequence[ImageSize] = [ImageSize(self.side, self.side)]
        self.cached: OutputShards | None = None
        if recipe.distill.view == "cached":
            self.cached = embeddings_of(
                self.teacher,
                self.photos,
                cache / "embeddings",
                grid=EMBEDDING_SIDE * self.side // head.input_side,
                info=self.info,
                group=group,
                progress=progress,
            )

    def sample(self, request: Request) -> Sample:
        """An image and the teacher's embedding of it, or the image as the teacher wants it.

        A cached embedding is that of the whole image as it is: it cannot be mirrored or cut, since
        the teacher knows places. Asked online, the teacher sees the image changed.
        """
        rng = request.rng()
        image = self.photos.images.read(request.index)
        color = self.part.color.model_dump()
        if self.cached is not None:
            placement = fitted(image.shape[:2], self.side)
            answer = self.cached.read(request.index)[_NAME]
            image = jitter(image, rng, **color) if any(color.values()) else image
            return {**_framed(placement, image), _NAME: answer}
        side = max(self.side, self.teacher.side)
        placement = random_placement(
            image.shape[:2], side, rng, scale=self.part.scale, flip=self.part.flip
        )
        image = jitter(image, rng, **color) if any(color.values()) else image
        large = _framed(placement, image)
        theirs = _shrunk(large, self.teacher.side)
        return {
            **_shrunk(large, self.side),
            "teacher_image": theirs["image"],
            "teacher_content": theirs["content"],
        }

    def where(self, index: int) -> str:
        """The image file."""
        return self.photos.images.where(index)

    def change(
        self, images: Tensor, batch: Batch, rng: np.random.Generator
    ) -> tuple[Tensor, Batch]:
        """Padding becomes zero after the normalisation."""
        return blanked(images, batch.tensors["content"]), batch

    def loss(self, outputs: Any, batch: Batch, *, images: Tensor, average: Any) -> Loss:
        """The mean squared distance to the teacher's embeddings, per image."""
        if self.cached is not None:
            target = batch.tensors[_NAME].float()
        else:
            theirs = normalise(batch.tensors["teacher_image"], self.info)
            content = batch.tensors["teacher_content"]
            target = self.teacher(blanked(theirs, content), outputs.shape[-1])
        total = (outputs.float() - target).square().mean()
        return Loss(total, torch.ones_like(total), {})

    @torch.no_grad()
    def evaluate(self, model: nn.Module, group: Group, progress: Progress) -> Score:
        """1 - distance / variance of the teacher per channel of an image, and the mean cosine."""
        sums = torch.zeros(4, dtype=torch.float64, device=group.device)
        for index in group.share(range(self.photos.count, len(self.photos))):
            found, target = self._pair(model, index, group.device)
            spread = (target - target.mean((-2, -1), keepdim=True)).square().sum()
            cosine = torch.cosine_similarity(found, target, dim=1).mean()
            ones = torch.ones_like(spread)
            sums += torch.stack(((found - target).square().sum(), spread, cosine, ones))
        distance, spread_sum, cosines, count = group.sum(sums).tolist()
        explained = 1 - distance / spread_sum if spread_sum else float("nan")
        return Score({"explained": round(explained, 6), "cosine": round(cosines / count, 6)})

    def _pair(self, model: nn.Module, index: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """(1, C, 64, 64) of the student and of the teacher."""
        image = self.photos.images.read(index)
        images, content = _one(fitted(image.shape[:2], self.side), image, self.info, device)
        found = self.student.adapter(model(blanked(images, content))).float()
        if self.cached is not None:
            answer = torch.from_numpy(self.cached.read(index)[_NAME])
            return found, answer[None].to(device).float()
        placement = fitted(image.shape[:2], self.teacher.side)
        images, content = _one(placement, image, self.info, device)
        return found, self.teacher(blanked(images, content), found.shape[-1])

    def picture(self, model: nn.Module) -> npt.NDArray[np.uint8] | None:
        """None: an embedding is nothing to look at."""
        return None


def _photographs(recipe: Recipe, part: DistillPart, group: Group, cache: Path) -> Photographs:
    """The images below the folder of the data, and the extra ones."""
    root = Path(recipe.data.dir or ".").expanduser()
    if group.first:  # frames of videos are taken out once
        open_unlabelled(part.extra, every=part.extra_every, cache=cache / "frames")
    group.wait()
    extra = open_unlabelled(part.extra, every=part.extra_every, cache=cache / "frames")
    return open_photographs(root, extra, val_share=recipe.data.val_share)


def _framed(placement: Placement, image: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
    content = np.array(placement.content_hw, np.int64)
    return {"image": placement.image(image), "content": content}


def _shrunk(framed: dict[str, npt.NDArray[Any]], side: int) -> dict[str, npt.NDArray[Any]]:
    """The same square at another size."""
    from_side = framed["image"].shape[0]
    if from_side == side:
        return framed
    image = cv2.resize(framed["image"], (side, side), interpolation=cv2.INTER_AREA)
    content = np.ceil(framed["content"] * (side / from_side)).astype(np.int64)
    return {"image": np.asarray(image, np.uint8), "content": content}
