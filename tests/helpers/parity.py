"""The module beside the project that fills published tensors from their names."""

from __future__ import annotations

import importlib.util
from types import ModuleType

from tests.helpers.paths import shared_dir


def reference_fill_module() -> ModuleType:
    """`parity/reference_fill.py`; the test is skipped where there is none."""
    path = shared_dir("parity", "reference_fill.py")
    spec = importlib.util.spec_from_file_location("reference_fill", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
