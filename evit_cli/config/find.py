"""Where the data that travels with evit lies: device profiles and recipes.

In a repository checkout they are `devices/` and `recipes/` beside the package; an installed wheel
carries them inside it, in `_data/`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import evit_cli
from evit_cli.errors import EvitError

DataKind = Literal["devices", "recipes"]


def package_root() -> Path:
    """The folder of the `evit_cli` package."""
    return Path(evit_cli.__file__).resolve().parent


def data_folder(kind: DataKind, package: Path | None = None) -> Path:
    """The folder of the shipped `devices` or `recipes`.

    Args:
        kind: which data.
        package: the package's folder, if not the one that is running.

    Raises:
        EvitError: neither an installed copy nor a checkout has it.
    """
    package = package or package_root()
    installed = package / "_data" / kind
    if installed.is_dir():
        return installed
    # Only a checkout counts: site-packages may hold somebody else's `devices` folder.
    checkout = package.parent
    if (checkout / "pyproject.toml").is_file() and (checkout / kind).is_dir():
        return checkout / kind
    raise EvitError(
        f"the {kind} folder that comes with evit is missing: looked in {installed} and {checkout}",
        hint="reinstall evit: pip install --force-reinstall evit-cli",
    )


def data_files(kind: DataKind, package: Path | None = None) -> list[Path]:
    """The shipped yaml files of one kind, those in its subfolders too, by path."""
    return sorted(data_folder(kind, package).rglob("*.yaml"))
