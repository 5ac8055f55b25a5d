"""What an install takes on the disk: `python -m benchmarks.install_size [--extras torch,onnx]`.

Installs this checkout with the versions of constraints.txt into a new environment of the Python
that runs it (`--python` for another), and counts the bytes of every file that pip wrote, compiled
ones too. Extras are counted together with the base. Needs the package registry.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

LISTED_BYTES = 1_000_000
REPOSITORY = Path(__file__).resolve().parents[1]
COUNT = """
import json
from importlib import metadata
sizes = {
    d.name: sum(p.stat().st_size for f in d.files or () if (p := d.locate_file(f)).is_file())
    for d in metadata.distributions()
}
print(json.dumps(sizes))
"""


def sizes_bytes(python: str, extras: str) -> dict[str, int]:
    """Bytes per distribution in a fresh environment, pip's own included."""
    what = f"{REPOSITORY}[{extras}]" if extras else str(REPOSITORY)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, "-m", "venv", folder], check=True)
        inside = Path(folder) / "bin" / "python"
        pip = [inside, "-m", "pip", "install", "--quiet", "--constraint"]
        subprocess.run([*pip, REPOSITORY / "constraints.txt", what], check=True)
        done = subprocess.run([inside, "-c", COUNT], check=True, stdout=subprocess.PIPE)
    sizes: dict[str, int] = json.loads(done.stdout)
    return sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--extras", default="")
    parser.add_argument("--python", default=sys.executable)
    arguments = parser.parse_args()
    sizes = sizes_bytes(arguments.python, arguments.extras)
    small = [size for size in sizes.values() if size < LISTED_BYTES]
    rows = {name: size for name, size in sizes.items() if size >= LISTED_BYTES}
    for name, size in sorted(rows.items(), key=lambda row: -row[1]):
        print(f"{name:28} {size / 1e6:7.1f} MB")
    print(f"{f'the other {len(small)}':28} {sum(small) / 1e6:7.1f} MB")
    print(f"{f'all {len(sizes)}':28} {sum(sizes.values()) / 1e6:7.1f} MB")


if __name__ == "__main__":
    main()
