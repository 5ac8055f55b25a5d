"""Who may import whom (CONTRIBUTING.md), what start-up may load, and how big a file may get."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "evit_cli"
FOUNDATIONS = {"types", "errors", "signals"}
# What each room may import of the others at module level, beside the foundations.
ALLOWED: dict[str, set[str]] = {
    "models": set(),
    "data": {"media.images"},
    "metrics": set(),
    "media": set(),
    "config": set(),
    "ui": set(),
    "weights": {"models.variants", "models.classes"},
    "runtime": set(),
    "inference": {"runtime", "media", "data", "metrics"},
    "export": {
        # An artifact is compared with its source by what `evit segment` and `evit eval` do.
        "models", "runtime", "data", "metrics", "inference", "config", "weights", "media.images"
    },
    # It makes the artifacts that it times, and times what `evit segment` does.
    "bench": {
        "runtime", "inference", "config", "metrics", "weights", "models", "export", "media", "data"
    },
    # Validation is `evit eval` itself, over the model in training.
    "train": {
        "models", "data", "metrics", "weights", "config", "inference", "runtime", "media"
    },
    "commands": {
        "config", "data", "export", "inference", "media", "metrics", "models", "runtime", "train",
        "ui", "weights", "bench", "commands.options", "commands.export_options",
        "commands.export_output", "commands.bench_options", "commands.evaluate_scores",
        "commands.evaluate_options", "commands.evaluate_prompted", "commands.sam_options",
        "commands.sam_page", "commands.segment_options", "commands.run_output",
    },
}  # fmt: skip
# Inside functions, rooms may also reach these.
ALLOWED_LATE: dict[str, set[str]] = {
    "runtime": {"models", "weights"},
    "weights": {"models"},
}
HEAVY = (
    "torch", "numpy", "cv2", "av", "huggingface_hub", "pydantic", "yaml", "onnxruntime",
    "ai_edge_litert", "tensorrt", "openvino", "transformers", "safetensors",
)  # fmt: skip
# Third-party libraries that only these files may import at module level.
AT_HOME = {
    "torch": {"models", "train", "export"},
    "onnxruntime": set[str](),
    "tensorrt": set[str](),
    "openvino": set[str](),
    "ai_edge_litert": set[str](),
    "transformers": set[str](),
}


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _at_module_level(tree: ast.Module) -> set[ast.AST]:
    """Import nodes that run when the module is imported."""
    found: set[ast.AST] = set()

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import | ast.ImportFrom):
                found.add(child)
            visit(child)

    visit(tree)
    return found


def _for_types_only(tree: ast.Module) -> set[ast.AST]:
    return {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """(module, whether at module level) of every import that can run."""
    tree = ast.parse(path.read_text("utf-8"))
    early, typing_only = _at_module_level(tree), _for_types_only(tree)
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node in early) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write absolute imports"
            module = node.module or ""
            submodules = [f"{module}.{alias.name}" for alias in node.names]
            for name in submodules:
                is_module = (PACKAGE.parent / name.replace(".", "/")).with_suffix(".py").exists()
                is_package = (PACKAGE.parent / name.replace(".", "/")).is_dir()
                yield (name if is_module or is_package else module), node in early


def _allows(allowed: set[str], inner: str) -> bool:
    return any(inner == name or inner.startswith(f"{name}.") for name in allowed)


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_rooms_import_only_what_they_may(path: Path) -> None:
    room = room_of(path)
    if room in ("__init__", "__main__", "app"):
        return  # the entrance may open every door
    for module, early in imports(path):
        if not module.startswith("evit_cli"):
            continue
        inner = module.removeprefix("evit_cli").removeprefix(".")
        target = inner.partition(".")[0]
        if target in (room, "", *FOUNDATIONS) and (room != "commands" or target != "commands"):
            continue
        assert room not in FOUNDATIONS, f"{room}.py must not import {module}"
        allowed = ALLOWED[room] | (set() if early else ALLOWED_LATE.get(room, set()))
        assert _allows(allowed, inner), f"{path.relative_to(PACKAGE)} must not import {module}"


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_libraries_stay_in_their_rooms(path: Path) -> None:
    for module, early in imports(path):
        top = module.partition(".")[0]
        if early and top in AT_HOME:
            assert room_of(path) in AT_HOME[top], f"{path}: import {top} inside the function"
        if top in ("rich", "typer"):
            assert room_of(path) in ("ui", "commands", "app"), f"{path}: only ui may print"


@pytest.mark.parametrize("name", ["variants", "classes"])
def test_facts_about_models_need_no_torch(name: str) -> None:
    assert not loaded_after(f"import evit_cli.models.{name}") & {"torch", "numpy"}


def loaded_after(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after a statement."""
    script = f"{statement}\nimport sys, json\nprint('\\n' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def test_importing_the_package_is_light() -> None:
    assert not loaded_after("import evit_cli") & {*HEAVY, "typer", "rich"}


def test_help_is_light() -> None:
    statement = (
        "import sys; sys.argv = ['evit', '--help']\n"
        "from evit_cli.app import app\n"
        "try:\n    app()\nexcept SystemExit: pass\n"
    )
    assert not loaded_after(statement) & {*HEAVY}


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= 400
    if room_of(path) == "commands":
        assert len(text.splitlines()) <= 170
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            first = node.body[0]
            documented = ast.get_docstring(node) is not None and len(node.body) > 1
            start = node.body[1].lineno if documented else first.lineno
            assert (node.end_lineno or 0) - start < 60, f"{node.name} is too long"


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nobody_but_ui_and_commands_prints(path: Path) -> None:
    if room_of(path) in ("ui", "commands", "app", "__main__"):
        return
    calls = [
        node
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "sys.stdout.write")
    ]
    if path.name == "trial.py":  # the child process of `doctor --deep` answers through its stdout
        return
    assert not calls
