"""The Pythons of this machine that evit supports."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST, NEWEST = (3, 10), (3, 13)


def find() -> dict[tuple[int, int], Path]:
    """Version and interpreter: this one, those on the search path, and pyenv's."""
    found = {sys.version_info[:2]: Path(sys.executable)}
    for minor in range(OLDEST[1], NEWEST[1] + 1):
        name = f"python3.{minor}"
        pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
        candidates = [*sorted(pyenv.glob(f"3.{minor}.*/bin/{name}")), shutil.which(name)]
        for candidate in candidates:
            if candidate and _works(Path(candidate)):
                found.setdefault((3, minor), Path(candidate))
    return found


def _works(interpreter: Path) -> bool:
    """A shim of pyenv's may lead nowhere, and Debian's Python may lack what makes environments."""
    command = [str(interpreter), "-c", "import ensurepip, venv"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
