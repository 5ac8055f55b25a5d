"""What is timed, in the process that times it: one session on real images.

Three parts are kept apart: `compute`, the invocation alone; `host`, with input and output brought
there and back; `e2e`, from the encoded image to the drawn or ranked result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from evit_cli.errors import EvitError
from evit_cli.runtime.session import Session
from evit_cli.types import ImageSize, ModelInfo, Precision, Preprocess, Task

PARTS = ("compute", "host", "e2e")
Part = Callable[[], object]


def photographs(size_hw: ImageSize, count: int) -> npt.NDArray[np.uint8]:
    """Photographs that travel with evit, (count, H, W, 3) uint8 RGB, repeated if they are few."""
    from evit_cli.media.images import read_image

    folder = Path(str(files("evit_cli") / "assets" / "photos"))
    paths = sorted(p for p in folder.iterdir() if p.suffix in (".jpg", ".png"))[:count]
    images = [
        cv2.resize(read_image(path)[0], size_hw[::-1], interpolation=cv2.INTER_AREA)
        for path in paths
    ]
    return np.stack([images[i % len(images)] for i in range(count)]).astype(np.uint8)


class Subject:
    """An open session and the parts of it that can be timed.

    Args:
        session: what to time.
        size_hw: of the input.
        batch: images per run.

    Raises:
        EvitError: it gives NaN or infinity: such a model is broken, not fast.
    """

    def __init__(self, session: Session, *, size_hw: ImageSize, batch: int = 1) -> None:
        self.session, self.size_hw = session, size_hw
        self._images = {"image": photographs(size_hw, batch)}
        first = session.run(self._images)
        for name, values in first.items():
            if not np.isfinite(values).all():
                raise EvitError(
                    f"{session.info.name} gives NaN or infinity in '{name}'",
                    hint="a broken model has no speed; try --precision fp32",
                )

    def parts(self) -> dict[str, Part]:
        """What can be timed, by name; e2e only where evit runs that task, one image at a time."""
        parts: dict[str, Part] = {
            "compute": self.session.prepare(self._images),
            "host": lambda: self.session.run(self._images),
        }
        if len(self._images["image"]) == 1 and self.session.info.classes is not None:
            parts["e2e"] = self._end_to_end()
        return parts

    def _end_to_end(self) -> Part:
        from evit_cli.media.images import decode_image

        image = self._images["image"][0]
        done, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        assert done
        data, name = encoded.tobytes(), Path("photo.jpg")
        if self.session.info.task is Task.CLASSIFY:
            from evit_cli.inference.classifier import ImageClassifier

            classify = ImageClassifier(self.session)
            return lambda: classify(decode_image(data, name)[0])
        from evit_cli.inference.segmenter import Segmenter
        from evit_cli.media.drawing import Palette, blend

        segment = Segmenter(self.session, size_hw=self.size_hw)
        palette = Palette(segment.classes)

        def drawn() -> object:
            rgb = decode_image(data, name)[0]
            return blend(rgb, palette.colorize(segment(rgb).class_map), 0.5)

        return drawn


def open_subject(order: Mapping[str, Any]) -> Subject:
    """A subject as the parent process orders it.

    Args:
        order: "artifact", a file; or "peer", a name; or "model" with "weights" (a file or None) and
            "random"; and in any case "size_hw", "batch", "threads", "precision", "form", "offline".

    Raises:
        EvitError: it cannot be opened or run.
        MissingDependency: a library is not installed.
    """
    size, batch = ImageSize(*order["size_hw"]), int(order["batch"])
    session = _session(order, size)
    if not order.get("artifact"):
        from evit_cli.runtime.torch_session import TorchSession

        assert isinstance(session, TorchSession)
    return Subject(session, size_hw=size, batch=batch)


def _session(order: Mapping[str, Any], size: ImageSize) -> Session:
    if order.get("artifact"):
        from evit_cli.runtime.open import open_artifact

        return open_artifact(Path(order["artifact"]), threads=order["threads"])
    from evit_cli.runtime.torch_session import TorchSession

    if order.get("peer"):
        from evit_cli.bench.peers.build import build_peer
        from evit_cli.bench.peers.catalog import find_peer

        peer = find_peer(order["peer"])
        model = build_peer(peer.name, size_hw=size, batch=int(order["batch"]))
        info = ModelInfo(peer.name, peer.task, Preprocess(size))
    else:
        from evit_cli.bench.source import open_source

        model, info = open_source(order)
    return TorchSession(
        model,
        info,
        precision=Precision(order["precision"]),
        threads=order["threads"],
        form=order["form"] or "eager",
    )
