"""`make demo`: segment a drawn street clip (or SOURCE), and say what is missing if that fails."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from evit_cli.media.street_scene import write_street_clip

MISSING = """
The demo needs weights for seg-b0-cityscapes, which could not be had (see above). evit does not
carry weights of its own yet. Either let this machine reach the Hugging Face Hub, or download
efficientvit_seg_b0_cityscapes.pt from the repository han-cai/efficientvit-seg and run
  make demo WEIGHTS=path/to/efficientvit_seg_b0_cityscapes.pt
Until then, this is what works on this machine:
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="evit-out")
    parser.add_argument("--source", default="")
    parser.add_argument("--weights", default="")
    options = parser.parse_args()
    source = options.source
    if not source:
        source = str(Path(options.out) / "street.mp4")
        Path(options.out).mkdir(parents=True, exist_ok=True)
        write_street_clip(Path(source))
        print(f"drew {Path(source).resolve()}")
    evit = [sys.executable, "-m", "evit_cli"]
    command = [*evit, "segment", source, "--out", options.out, "--force"]
    if options.weights:
        command += ["--weights", options.weights]
    code = subprocess.run(command).returncode
    if code == 0 or options.weights:
        return code
    print(MISSING)
    return subprocess.run([*evit, "doctor"]).returncode


if __name__ == "__main__":
    sys.exit(main())
