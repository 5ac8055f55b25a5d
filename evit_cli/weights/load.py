"""From a name, a file or an address to a model that runs."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from evit_cli.errors import EvitError, UsageError
from evit_cli.models.classes import class_set, numbered_classes
from evit_cli.models.variants import VARIANTS, Variant, get_variant, own_info
from evit_cli.types import ClassSet, ModelInfo, Progress
from evit_cli.weights.catalog import CATALOG, CatalogEntry, entry_of_variant, find_entry
from evit_cli.weights.checkpoint import Checkpoint, check_sha256, read_checkpoint, sha256_of
from evit_cli.weights.source import PREFERRED_FILE, Located, locate, locate_path, parse

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode and float32, with what is known about it."""

    model: nn.Module
    info: ModelInfo
    variant: Variant


def load_model(
    model: str | None = None,
    *,
    weights: Path | None = None,
    variant: str | None = None,
    offline: bool = False,
    progress: Progress | None = None,
) -> LoadedModel:
    """Load a model for inference or further training.

    >>> loaded = load_model("seg-b0-cityscapes")        # doctest: +SKIP
    >>> loaded.info.classes.classes[0]                  # doctest: +SKIP
    'road'

    Args:
        model: a catalog name, a file, a folder or an hf:// address. None: the weights say it.
        weights: a file to load in place of the published one; `model` is then a name.
        variant: the variant's name, when neither `model` nor the weights shall decide.
        offline: make no network request.
        progress: told how much of a download has arrived.

    Raises:
        EvitError: the weights cannot be found, fetched or read, or are of another model.
        UsageError: nothing, or a contradiction, was asked for.
        MissingDependency: torch is not installed.
    """
    if model is None and weights is None:
        raise UsageError("no model was named", hint="pass --model NAME, or --weights FILE")
    wanted = _wanted_variant(model, weights, variant)
    if weights is not None:
        located = locate_path(Path(os.path.expanduser(weights)))
        located = replace(located, entry=None if model is None else find_entry(model))
    else:
        located = locate(model or "", offline=offline, progress=progress)
    return _load(located, wanted)


def _wanted_variant(model: str | None, weights: Path | None, variant: str | None) -> str | None:
    """The variant that the arguments decide; None leaves it to the weights."""
    if variant is not None:
        get_variant(variant)
    if model is None:
        return variant
    source = parse(model)
    if isinstance(source, CatalogEntry):
        if variant not in (None, source.variant):
            raise UsageError(f"{model} is {source.variant}, and the variant asked for is {variant}")
        return source.variant
    if weights is not None:
        raise UsageError(
            f"--weights goes with a model's name, and '{model}' is weights itself",
            hint="pass one of the two",
        )
    return variant


def _load(located: Located, wanted: str | None) -> LoadedModel:
    from evit_cli.weights.identify import check_fits, meta_model
    from evit_cli.weights.remap import to_evit

    sha256 = sha256_of(located.path)
    if located.expected_sha256 is not None:
        check_sha256(located.path, sha256, located.expected_sha256)
    checkpoint = read_checkpoint(located.path)
    variant = _variant_of(checkpoint, wanted, located.path)
    module = meta_model(variant)
    expected = module.state_dict()
    check_fits(checkpoint.state, expected, variant, where=str(located.path))
    # Assigned, not copied: the module has no memory of its own yet.
    module.load_state_dict(to_evit(checkpoint.state, expected, variant), assign=True)
    info = _info(located, checkpoint, variant, sha256)
    return LoadedModel(module.eval(), info, variant)


def _variant_of(checkpoint: Checkpoint, wanted: str | None, path: Path) -> Variant:
    from evit_cli.weights.identify import identify, with_own_classes

    state, saved = checkpoint.state, checkpoint.saved
    if wanted is None and saved is not None:
        if saved.variant not in VARIANTS:
            raise EvitError(
                f"{path} is a model of variant '{saved.variant}', which this evit does not know",
                hint="update evit, or name the variant with --model",
            )
        wanted = saved.variant
    variant = identify(state) if wanted is None else with_own_classes(wanted, state)
    if variant is None:
        raise EvitError(
            f"{path} fits no EfficientViT model that evit builds",
            hint="`evit models ls` lists them; name one with --model to see the first difference",
        )
    if saved is not None and saved.num_classes != variant.num_classes:
        raise EvitError(
            f"{path} is inconsistent: it names {saved.num_classes} classes and its classifier has"
            f" {variant.num_classes}"
        )
    return variant


def _info(located: Located, checkpoint: Checkpoint, variant: Variant, sha256: str) -> ModelInfo:
    saved = checkpoint.saved
    if saved is not None and saved.variant == variant.name:
        return replace(saved.info, source=located.address, sha256=sha256)
    twin = next((e for e in CATALOG.values() if e.sha256 == sha256), None)
    origin = located.entry or twin or _entry_by_path(located.path)
    if origin is not None and origin.variant != variant.name:
        origin = None
    if variant.ours:
        return replace(own_info(variant), source=located.address, sha256=sha256)
    guide = origin or entry_of_variant(variant.ablation_of or variant.name)
    if guide is None:
        raise ValueError(f"variant {variant.name} has no catalog entry")
    published = variant.num_classes == VARIANTS[variant.name].num_classes
    # A licence is stated only for files known to be the published ones.
    certain = twin is not None or (located.entry is not None and located.from_hub)
    return ModelInfo(
        name=origin.name if origin is not None and published else variant.name,
        task=variant.task,
        preprocess=guide.preprocess,
        classes=_classes(guide.dataset, variant, published),
        licence=guide.licence if certain else "",
        source=located.address,
        sha256=sha256,
    )


def _classes(dataset: str, variant: Variant, published: bool) -> ClassSet | None:
    if variant.num_classes == 0:
        return None
    return class_set(dataset) if published else numbered_classes(variant.num_classes)


def _entry_by_path(path: Path) -> CatalogEntry | None:
    """The entry whose file has the name of `path`, or its repository and name: for the size."""
    full = path.absolute().as_posix()
    for entry in CATALOG.values():
        unique = entry.file != PREFERRED_FILE
        if full.endswith(f"/{entry.repo}/{entry.file}") or (unique and path.name == entry.file):
            return entry
    return None
