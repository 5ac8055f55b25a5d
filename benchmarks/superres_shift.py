"""What a super-resolution model loses when attention sees another extent than in training.

    python -m benchmarks.superres_shift WEIGHTS DIR

Attention sums over all pixels, and patches of 48x48 are trained on. DIR holds pairs such as Set5's.
Each image is enlarged in one piece, and in tiles that overlap by 16 pixels on every side.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from evit_cli.data.superres import Pairs
from evit_cli.inference.enlarge import enlarge, scale_of, to_eight_bits
from evit_cli.metrics.fidelity import Fidelity
from evit_cli.runtime.session import Session
from evit_cli.runtime.torch_session import load_torch_session

TILES = (0, 80, 128)
OVERLAP = 16


def in_tiles(session: Session, image: np.ndarray, side: int, scale: int) -> np.ndarray:
    """(H, W, 3) uint8 -> (H * scale, W * scale, 3); later tiles lie over the earlier ones' edge."""
    height, width = image.shape[:2]
    out = np.zeros((scale * height, scale * width, 3), np.float32)
    step = side - 2 * OVERLAP
    for y in range(0, max(1, height - 2 * OVERLAP), step):
        for x in range(0, max(1, width - 2 * OVERLAP), step):
            top, left = min(y, max(0, height - side)), min(x, max(0, width - side))
            tile = np.ascontiguousarray(image[top : top + side, left : left + side])
            found = enlarge(session, tile)
            off_y, off_x = (OVERLAP if at else 0 for at in (top, left))
            rows = slice(scale * (top + off_y), scale * (top + tile.shape[0]))
            columns = slice(scale * (left + off_x), scale * (left + tile.shape[1]))
            out[rows, columns] = found[scale * off_y :, scale * off_x :]
    return out


def main() -> None:
    """Print PSNR and SSIM for every tile size; 0 is the whole image."""
    session = load_torch_session(None, weights=Path(sys.argv[1]))
    scale = scale_of(session)
    pairs = Pairs(Path(sys.argv[2]), scale)
    for side in TILES:
        score = Fidelity(scale)
        for index in range(len(pairs)):
            small, large = pairs.read(index)
            found = in_tiles(session, small, side, scale) if side else enlarge(session, small)
            score.update(large, to_eight_bits(found))
        print(f"tile {side or 'none':>4}  PSNR {score.psnr_db:.3f} dB  SSIM {score.ssim:.5f}")


if __name__ == "__main__":
    main()
