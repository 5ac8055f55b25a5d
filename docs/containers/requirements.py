"""What evit still needs beside the Python packages that a machine already has.

On a Jetson, torch, TensorRT and OpenCV are NVIDIA's own builds, and pip alone would spoil them.
NVIDIA's OpenCV comes as a Debian package of which pip sees nothing, so that a plain install puts a
second one before it; a numpy of another major version breaks what was compiled against the old one.

Run this with the Python of a new `python3 -m venv --system-site-packages ENV` that has `packaging`
(and `tomli` below Python 3.11):

    ENV/bin/python requirements.py pyproject.toml constraints.txt OUT [EXTRA|NAME==VERSION ...]
    ENV/bin/pip install --requirement OUT/requirements.txt --constraint OUT/constraints.txt

A module of `KEPT` that lies outside the environment stays as it is. Nothing is imported to find
out: NVIDIA's modules may not load without a GPU, which an image that is being built does not see.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# Distributions whose builds are bound to a board, and the module that each is imported as.
KEPT = {
    "cuda-python": "cuda",
    "numpy": "numpy",
    "onnxruntime": "onnxruntime",
    "onnxruntime-gpu": "onnxruntime",
    "opencv-contrib-python": "cv2",
    "opencv-contrib-python-headless": "cv2",
    "opencv-python": "cv2",
    "opencv-python-headless": "cv2",
    "tensorrt": "tensorrt",
    "torch": "torch",
    "torchvision": "torchvision",
}
# Libraries whose newest releases want numpy 2: without a pin, pip finds one for the numpy there is.
FOLLOW_NUMPY = {"ml-dtypes"}


def is_provided(module: str | None) -> bool:
    """Whether a top-level module lies outside this environment."""
    spec = util.find_spec(module) if module else None
    if spec is None:
        return False
    places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
    return any(not Path(place).is_relative_to(sys.prefix) for place in places)


def version_of(distribution: str) -> Version | None:
    """The version that pip sees, None where it sees none."""
    try:
        return Version(metadata.version(distribution))
    except metadata.PackageNotFoundError:
        return None


def wanted(pyproject: Path, more: list[str]) -> list[Requirement]:
    """The dependencies of evit and of its extras as pyproject.toml names them, and others."""
    project = tomllib.loads(pyproject.read_text("utf-8"))["project"]
    others = [word for word in more if "==" in word]
    extras = [word for word in more if "==" not in word]
    unknown = set(extras) - set(project["optional-dependencies"])
    if unknown:
        raise SystemExit(f"error: evit has no extra {', '.join(sorted(unknown))}")
    lines = [*project["dependencies"], *others]
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    return [Requirement(line) for line in lines]


def lacking(requirements: list[Requirement]) -> Iterator[str]:
    """The requirements that are left, and numpy where the machine's is too old."""
    for requirement in requirements:
        name = canonicalize_name(requirement.name)
        if not is_provided(KEPT.get(name)) or (name == "numpy" and is_old(requirement)):
            yield str(requirement)


def is_old(requirement: Requirement) -> bool:
    """Whether the installed version does not satisfy a requirement."""
    found = version_of(requirement.name)
    return found is not None and found not in requirement.specifier


def pins(constraints: Path, requirements: list[Requirement]) -> Iterator[str]:
    """The exact set without the kept packages; these as they are, numpy at least in its major."""
    kept = {name for name, module in KEPT.items() if is_provided(module)}
    free = kept | (FOLLOW_NUMPY if "numpy" in kept else set())
    for line in constraints.read_text("utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if text and canonicalize_name(Requirement(text).name) not in free:
            yield text
    old = {canonicalize_name(r.name) for r in requirements if is_old(r)}
    for name in sorted(kept):
        if (version := version_of(name)) is None:
            continue  # a Debian package of which pip knows nothing
        is_numpy = name == "numpy" and name in old
        yield f"numpy<{version.major + 1}" if is_numpy else f"{name}=={version}"


def lines(texts: Iterator[str]) -> str:
    """One text a line."""
    return "".join(f"{text}\n" for text in texts)


def main(arguments: list[str]) -> None:
    """Write requirements.txt and constraints.txt into a folder, and say what is kept."""
    if len(arguments) < 3:
        raise SystemExit(
            "usage: requirements.py PYPROJECT CONSTRAINTS OUT [EXTRA|NAME==VERSION ...]"
        )
    pyproject, constraints, out = map(Path, arguments[:3])
    requirements = wanted(pyproject, arguments[3:])
    out.mkdir(parents=True, exist_ok=True)
    (out / "requirements.txt").write_text(lines(lacking(requirements)), "utf-8")
    (out / "constraints.txt").write_text(lines(pins(constraints, requirements)), "utf-8")
    kept = sorted({module for module in KEPT.values() if is_provided(module)})
    print(f"kept as they are: {', '.join(kept) or 'none'}")


if __name__ == "__main__":
    main(sys.argv[1:])
