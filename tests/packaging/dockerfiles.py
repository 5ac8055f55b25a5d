"""What a Dockerfile says, as far as the tests ask."""

from __future__ import annotations

import re
from pathlib import Path


def instructions(file: Path) -> list[tuple[str, str]]:
    """(instruction, the rest) of a Dockerfile, continued lines joined, comments left out."""
    lines = [line for line in file.read_text("utf-8").splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    pairs = [line.strip().partition(" ") for line in joined.splitlines() if line.strip()]
    return [(name.upper(), rest.strip()) for name, _, rest in pairs]


def base_images(file: Path) -> list[str]:
    """The images that stages start from, with arguments at their defaults; no stage of its own."""
    defaults: dict[str, str] = {}
    stages: set[str] = set()
    images: list[str] = []
    for name, rest in instructions(file):
        if name == "ARG" and not images:
            key, _, value = rest.partition("=")
            defaults[key] = _filled(value.strip('"'), defaults)
        if name == "FROM":
            image, *alias = re.split(r"\s+AS\s+", _filled(rest, defaults))
            if image not in stages:
                images.append(image)
            stages.update(alias)
    return list(dict.fromkeys(images))


def _filled(text: str, values: dict[str, str]) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], text)
