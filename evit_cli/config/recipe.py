"""Training recipes: one YAML file says everything that a run depends on.

A recipe is data, not code: the file in the run folder (`recipe.yaml`) is the one that was run, with
every default written out. Sizes are (height, width) in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import model_validator

from evit_cli.config.find import data_files, data_folder
from evit_cli.config.recipe_parts import (
    ClassifyPart,
    DataPart,
    DistillPart,
    Expected,
    ModelPart,
    OptimizerPart,
    SegmentPart,
    SuperresPart,
    TrainPart,
)
from evit_cli.config.recipe_sam import SamPart
from evit_cli.config.strict import Strict, load_yaml
from evit_cli.errors import EvitError, suggest
from evit_cli.types import Task


class Recipe(Strict):
    """Everything that a training run depends on, beside the data themselves."""

    name: str
    task: Task
    model: ModelPart
    data: DataPart
    segment: SegmentPart | None = None
    classify: ClassifyPart | None = None
    superres: SuperresPart | None = None
    sam: SamPart | None = None
    optimizer: OptimizerPart
    train: TrainPart
    distill: DistillPart | None = None
    expected: Expected | None = None
    licence: str = ""

    @model_validator(mode="after")
    def _keeps_batch_norm(self) -> Recipe:
        if self.distill is None or self.distill.quantise is None:
            return self
        if self.task is not Task.SEGMENT:
            raise ValueError("distill.quantise is for segmentation")
        if self.model.classes is not None:
            raise ValueError("distill.quantise keeps the classes of the weights: no model.classes")
        if self.train.bn_images or self.train.batch_norm != "frozen":
            raise ValueError(
                "distill.quantise needs train.batch_norm: frozen and train.bn_images: 0, since int8"
                " has no statistics of its own"
            )
        return self

    @model_validator(mode="after")
    def _own_section(self) -> Recipe:
        sections: dict[Task, Strict | None] = {
            Task.SEGMENT: self.segment,
            Task.CLASSIFY: self.classify,
            Task.SUPERRES: self.superres,
            Task.SAM: self.sam,
        }
        for task, section in sections.items():
            if (section is not None) != (task is self.task):
                verb = "needs" if task is self.task else "does not take"
                raise ValueError(f"a {self.task.value} recipe {verb} a section '{task.value}'")
        return self

    @model_validator(mode="after")
    def _superres_alone(self) -> Recipe:
        if (self.data.name == "superres") != (self.task is Task.SUPERRES):
            raise ValueError(f"task {self.task.value} does not learn from data '{self.data.name}'")
        if self.task is not Task.SUPERRES:
            return self
        if self.distill is not None or self.train.mesa_ratio:
            raise ValueError("super-resolution learns from photographs alone: no distill, no mesa")
        if self.model.classes is not None:
            raise ValueError("super-resolution has no model.classes")
        return self

    @model_validator(mode="after")
    def _sam_alone(self) -> Recipe:
        if (self.data.name in ("masks", "images")) != (self.sam is not None):
            raise ValueError(f"task {self.task.value} does not learn from data '{self.data.name}'")
        if self.sam is None:
            return self
        if self.train.mesa_ratio or self.model.classes is not None:
            raise ValueError("a sam recipe has no mesa and no model.classes")
        if (self.distill is not None) != (self.data.name == "images"):
            raise ValueError("sam learns from data 'masks', or from 'images' and a teacher")
        if self.distill is None and (not self.sam.sets or self.sam.val is None):
            raise ValueError("sam.sets and sam.val name no set of masks")
        return self


def recipe_names() -> list[str]:
    """Names of the shipped recipes, such as "seg/camvid-b0"."""
    root = data_folder("recipes")
    return [path.relative_to(root).with_suffix("").as_posix() for path in data_files("recipes")]


def find_recipe(name: str) -> Path:
    """The file of a recipe: a path that exists, or the name of a shipped one.

    Raises:
        EvitError: there is neither.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    short = name.removeprefix("recipes/").removesuffix(".yaml")
    if short in recipe_names():
        return data_folder("recipes") / f"{short}.yaml"
    raise EvitError(f"there is no recipe '{name}'", hint=suggest(short, recipe_names()))


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe, with "a.b=value" changes applied before it is checked.

    Raises:
        EvitError: the file or an override is wrong; the message says where.
    """
    return load_yaml(path, Recipe, overrides=overrides)


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML with every default written out; `load_recipe` reads it back."""
    return yaml.safe_dump(
        recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, default_flow_style=None
    )
