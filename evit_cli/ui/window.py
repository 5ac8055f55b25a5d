"""The live window of `--show`."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from evit_cli.errors import MissingDependency

_QUIT_KEYS = (27, ord("q"))


class Window:
    """Shows pictures until the user presses q or Esc.

    Args:
        title: of the window.

    Raises:
        MissingDependency: this OpenCV build has no windows, or there is no display.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        try:
            cv2.namedWindow(title, cv2.WINDOW_NORMAL)
        except cv2.error as error:
            raise MissingDependency(
                "--show needs an OpenCV with windows and a display",
                hint="pip uninstall -y opencv-python-headless && pip install opencv-python",
            ) from error

    def show(self, image_rgb_u8: npt.NDArray[np.uint8]) -> None:
        """Show one (H, W, 3) picture.

        Raises:
            KeyboardInterrupt: the user asked to stop; the run ends as with Ctrl-C.
        """
        cv2.imshow(self._title, image_rgb_u8[:, :, ::-1])
        if cv2.waitKey(1) & 0xFF in _QUIT_KEYS:
            raise KeyboardInterrupt
