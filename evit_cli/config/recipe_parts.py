"""The sections of a training recipe; sizes are (height, width) in pixels."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from evit_cli.config.strict import Strict

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Magnitude = Annotated[float, Field(ge=0, le=10)]
SizeHW = tuple[Positive, Positive]


class ModelPart(Strict):
    """What is trained, and from which weights it starts.

    Attributes:
        variant: one of `evit_cli.models.variants.VARIANTS`.
        classes: names of the classes; by default those of the data.
        init: a model name or weights file to start from; None starts from random weights.
        init_part: "all" takes every tensor that fits, "backbone" leaves the head random.
        drop_path: probability of skipping the last residual block, rising linearly from the first.
        drop_path_skips: that many first blocks are never skipped.
        zero_init_residual: start with every residual branch at zero, as published.
    """

    variant: str
    classes: tuple[str, ...] | None = None
    init: str | None = None
    init_part: Literal["all", "backbone"] = "all"
    drop_path: Share = 0.0
    drop_path_skips: Count = 0
    zero_init_residual: bool = True


class DataPart(Strict):
    """Where the examples come from.

    Attributes:
        name: the kind of data set; docs/train.md shows the layout of each.
        dir: its folder; `--data` replaces it.
        void: label value that does not count ("folders" and "shards").
        val_share: share of the examples kept for validation where the data has no such part.
        workers: processes that load data; "auto" takes what the machine has.
    """

    name: Literal[
        "cityscapes",
        "ade20k",
        "camvid",
        "folders",
        "coco",
        "imagenet",
        "imagefolder",
        "cifar10",
        "superres",
        "shards",
        "masks",
        "images",
    ]
    dir: str | None = None
    void: int | None = 255
    val_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    workers: Count | Literal["auto"] = "auto"


class ColorPart(Strict):
    """Random colour changes; each value is the largest relative change, hue in turns."""

    brightness: Amount = 0.0
    contrast: Amount = 0.0
    saturation: Amount = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0


class SegmentPart(Strict):
    """Examples and loss of semantic segmentation.

    Attributes:
        crop_hw: size of the training crops; of several sizes one is drawn per batch.
        base_hw: images are first resized to fit this size; None keeps their own.
        scale: range of the random enlargement after that, drawn evenly in its logarithm.
        flip: probability of a mirror image.
        max_class_share: a crop with more than this share of one class is drawn again (10 times).
        color: random colour changes.
        blur: probability of a slight blur.
        noise: standard deviation of Gaussian noise, in units of 0..255, drawn from 0 to this.
        class_weights: one weight per class; "balanced" computes them from the training labels.
        ohem: keep only pixels whose true class has a lower probability than this (hard pixels).
        ohem_min_share: but at least this share of them.
        label_smoothing: share of the target spread over all classes.
        label_stride: the loss is taken at every so many pixels; 2 is enough for images that were
            enlarged to twice their size, and saves time.
        eval_hw: input size of validation; None is the published protocol of the data set.
    """

    crop_hw: tuple[SizeHW, ...]
    base_hw: SizeHW | None = None
    scale: tuple[float, float] = (0.5, 2.0)
    flip: Share = 0.5
    max_class_share: Share = 1.0
    color: ColorPart = ColorPart()
    blur: Share = 0.0
    noise: Amount = 0.0
    class_weights: tuple[Amount, ...] | Literal["balanced"] | None = None
    ohem: Share | None = None
    ohem_min_share: Share = 0.1
    label_smoothing: Share = 0.0
    label_stride: Literal[1, 2, 4, 8] = 1
    eval_hw: SizeHW | None = None


class ClassifyPart(Strict):
    """Examples and loss of classification.

    Attributes:
        sizes: sides of the square training crops; one is drawn per batch.
        eval_size: side of the validation crop.
        crop_ratio: the validation crop's share of the resized short side.
        area: range of the random crop's share of the image.
        aspect: range of its width over height.
        flip: probability of a mirror image.
        color: random colour changes.
        rand_augment: (number of operations, magnitude 0..10), None for none.
        erase: probability of erasing a random rectangle.
        mixup: alpha of mixup; 0 for none.
        cutmix: alpha of cutmix; 0 for none. With both, one of them is drawn per batch.
        label_smoothing: share of the target spread over all classes.
        loss: "bce" per class as published, or "ce".
    """

    sizes: tuple[Positive, ...]
    eval_size: Positive
    crop_ratio: Annotated[float, Field(gt=0, le=1)] = 1.0
    area: tuple[Share, Share] = (0.08, 1.0)
    aspect: tuple[float, float] = (0.75, 1.3333)
    flip: Share = 0.5
    color: ColorPart = ColorPart()
    rand_augment: (
        tuple[Annotated[int, Field(ge=0)], Annotated[float, Field(ge=0, le=10)]] | None
    ) = None
    erase: Share = 0.0
    mixup: Amount = 0.0
    cutmix: Amount = 0.0
    label_smoothing: Share = 0.0
    loss: Literal["bce", "ce"] = "bce"


class PhotosPart(Strict):
    """One folder of photographs to learn super-resolution from.

    Attributes:
        folder: in the folder of the data.
        weight: how often its pixels are seen, beside those of the other folders.
        shrink: the photographs are made smaller by this factor first, which takes away what a JPEG
            or a camera put into them; 1 leaves them as they are.
    """

    folder: str
    weight: Annotated[float, Field(gt=0)] = 1.0
    shrink: Annotated[int, Field(ge=1, le=8)] = 1


class SuperresPart(Strict):
    """Examples and loss of super-resolution; the scale is the model's.

    Attributes:
        photos: what to learn from; the small images are made from them as the benchmarks' are.
        val: folder of the validation pairs or photographs, in the folder of the data.
        patch_hw: size of the training patches of the small image, multiples of 4; of several sizes
            one is drawn per step.
        turn: patches are mirrored and turned by quarters at random.
        loss: "l1", or "charbonnier", which is rounded off at the bottom.
        cache_gb: photographs are kept in memory up to this size; the rest is read every time.
    """

    photos: tuple[PhotosPart, ...]
    val: str
    patch_hw: tuple[SizeHW, ...] = ((48, 48),)
    turn: bool = True
    loss: Literal["l1", "charbonnier"] = "l1"
    cache_gb: Amount = 8.0

    @model_validator(mode="after")
    def _fits_the_strides(self) -> SuperresPart:
        if not self.photos:
            raise ValueError("photos names no folder")
        for side in (side for size in self.patch_hw for side in size):
            if side % 4:
                raise ValueError(f"patch_hw has a side of {side}, which is no multiple of 4")
        return self


class OptimizerPart(Strict):
    """AdamW; weight decay spares biases and everything with one dimension.

    Attributes:
        lr: highest learning rate, for the whole batch of `train.batch_size`.
        backbone_lr_scale: factor on it for the backbone.
        betas: running-average coefficients.
        eps: added to the denominator.
        weight_decay: decoupled weight decay.
        clip_value: largest absolute value of a gradient element.
        clip_norm: largest norm of the whole gradient.
    """

    lr: Annotated[float, Field(gt=0)]
    backbone_lr_scale: Amount = 1.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: Amount = 0.01
    clip_value: Annotated[float, Field(gt=0)] | None = None
    clip_norm: Annotated[float, Field(gt=0)] | None = None


class TrainPart(Strict):
    """How long and how.

    Attributes:
        epochs: passes over the data; either this or `steps`.
        steps: optimiser steps.
        warmup_epochs: of linear warm-up from 0; they are part of the length.
        warmup_steps: the same in steps.
        final_lr: the cosine ends at this share of the highest learning rate.
        batch_size: images per optimiser step, over all processes and accumulations together.
        accumulate: micro-batches per step.
        precision: "bf16" and "fp16" run the model under autocast; fp16 scales the loss.
        channels_last: memory order; faster for depthwise convolutions.
        compile: torch.compile the model; drop path then has its final rate from the start.
        batch_norm: "local" statistics per process and micro-batch, "sync" over processes, "frozen".
        ema: largest decay of the weights' average (published: 0.9998); None for none.
        ema_tau: the decay at step t is ema * (1 - exp(-t / ema_tau)).
        bn_images: before evaluation, statistics of BatchNorm are computed anew on so many images.
        mesa_ratio: weight of the loss towards the EMA model's outputs (MESA), 0 for none.
        mesa_start: share of the training after which MESA begins.
        eval_epochs: evaluate after so many epochs.
        save_minutes: a checkpoint at least every so many minutes.
        seed: of everything random.
    """

    epochs: Annotated[float, Field(gt=0)] | None = None
    steps: Positive | None = None
    warmup_epochs: Amount = 0.0
    warmup_steps: Count = 0
    final_lr: Share = 0.0
    batch_size: Positive
    accumulate: Positive = 1
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    channels_last: bool = True
    compile: bool = False
    batch_norm: Literal["local", "sync", "frozen"] = "local"
    ema: Annotated[float, Field(gt=0, lt=1)] | None = 0.9998
    ema_tau: Annotated[float, Field(gt=0)] = 2000.0
    bn_images: Count = 0
    mesa_ratio: Amount = 0.0
    mesa_start: Share = 0.25
    eval_epochs: Annotated[float, Field(gt=0)] = 1.0
    save_minutes: Annotated[float, Field(gt=0)] = 5.0
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @model_validator(mode="after")
    def _one_length(self) -> TrainPart:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give the length as epochs or as steps, one of the two")
        if self.warmup_epochs and self.warmup_steps:
            raise ValueError("give the warm-up in epochs or in steps, not both")
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size {self.batch_size} does not divide into {self.accumulate} micro-batches"
            )
        if self.mesa_ratio and self.ema is None:
            raise ValueError("mesa_ratio needs ema: it learns from the averaged model")
        return self


class DistillPart(Strict):
    """What is learnt from a teacher, beside or in place of the labels.

    Attributes:
        teacher: a model name or weights file; `--teacher` replaces it.
        view: "cached" runs the teacher once per whole image and keeps its outputs in shards;
            "online" runs it on every augmented batch.
        teacher_hw: the cached teacher's input size; None is its own protocol.
        class_map: JSON file from the teacher's classes to the data's; None takes the shipped one
            where the two differ.
        logits: weight of the divergence between the two models' class probabilities.
        temperature: of both softmaxes.
        features: weight of the distance between the two models' normalised features.
        feature_levels: which strides are compared.
        blocks: weight of block-wise distillation, where each stage learns from the teacher's
            features; the teacher has the student's widths, and `features` is not used.
        labels: weight of the ordinary loss on labelled images.
        quantise: "int8" trains for int8: the student, which keeps the teacher's classes, computes
            as its fast int8 form does and learns the teacher's probabilities alone.
        extra: unlabelled images, folders and videos that the teacher labels.
        extra_every: every so many frames of a video.
    """

    teacher: str | None = None
    view: Literal["cached", "online"] = "cached"
    teacher_hw: SizeHW | None = None
    class_map: str | None = None
    logits: Amount = 1.0
    temperature: Annotated[float, Field(gt=0)] = 1.0
    features: Amount = 0.0
    feature_levels: tuple[Literal[4, 8, 16, 32], ...] = (8, 16, 32)
    blocks: Amount = 0.0
    labels: Amount = 1.0
    quantise: Literal["int8"] | None = None
    extra: tuple[str, ...] = ()
    extra_every: Positive = 1

    @model_validator(mode="after")
    def _blocks_online(self) -> DistillPart:
        if self.blocks and self.view == "cached":
            raise ValueError("block-wise distillation asks the teacher online: view: online")
        return self

    @model_validator(mode="after")
    def _rounded_alone(self) -> DistillPart:
        if self.quantise and (self.labels or self.features or self.blocks or not self.logits):
            raise ValueError(
                "quantise learns the teacher's probabilities alone: labels, features and blocks are"
                " 0, and logits is not"
            )
        return self


class Expected(Strict):
    """What the run should reach, and how that is known.

    Attributes:
        metric: "mean_iou", "top1", "box_iou", "coco_ap" or "explained", in percent, or "psnr_db".
        value: the published or measured figure, None where there is none.
        source: where the figure is from.
    """

    metric: str
    value: float | None = None
    source: str
