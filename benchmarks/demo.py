"""`make demo`: segment a drawn street clip, or SOURCE, with the model that travels with evit."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from evit_cli.media.street_scene import write_street_clip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="evit-out")
    parser.add_argument("--source", default="")
    options = parser.parse_args()
    source = options.source
    if not source:
        source = str(Path(options.out) / "street.mp4")
        Path(options.out).mkdir(parents=True, exist_ok=True)
        write_street_clip(Path(source))
        print(f"drew {Path(source).resolve()}")
    evit = [sys.executable, "-m", "evit_cli", "segment", source, "--out", options.out]
    return subprocess.run([*evit, "--force", "--offline"]).returncode


if __name__ == "__main__":
    sys.exit(main())
