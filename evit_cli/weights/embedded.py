"""Models that travel with evit: in `assets/models/`, each as weights, artifact and model card.

NAME.safetensors    weights, for the torch backend and further training
NAME.tflite         the artifact that the base installation runs, with NAME.tflite.json beside it;
                    of a promptable model there are two, NAME-encoder.tflite and NAME-decoder.tflite
NAME.md             the model card: data, licence, recipe, metric, command
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import evit_cli
from evit_cli.types import Task


@dataclass(frozen=True)
class EmbeddedModel:
    """What is known of a model that travels with evit.

    Attributes:
        name: what a user types.
        task: what it does.
        params: number of parameters.
        macs: multiply-accumulates with the input size they hold for.
        metric: measured, with its data.
        licence: SPDX identifier of the data it was trained on, which limits its use.
    """

    name: str
    task: Task
    params: int
    macs: str
    metric: str
    licence: str

    @property
    def weights(self) -> Path:
        """The .safetensors file."""
        return _folder() / f"{self.name}.safetensors"

    @property
    def artifact(self) -> Path:
        """The .tflite file; of a promptable model its encoder, beside which its decoder lies."""
        half = "-encoder" if self.task is Task.SAM else ""
        return _folder() / f"{self.name}{half}.tflite"

    @property
    def card(self) -> Path:
        """The model card."""
        return _folder() / f"{self.name}.md"


def _folder() -> Path:
    return Path(evit_cli.__file__).parent / "assets" / "models"


EMBEDDED: dict[str, EmbeddedModel] = {
    model.name: model
    for model in (
        EmbeddedModel(
            name="seg-b0-street",
            task=Task.SEGMENT,
            params=705_659,
            macs="1.08G @544x960",
            metric="mIoU 69.80 (CamVid val)",
            licence="LicenseRef-CamVid-research-use",
        ),
        EmbeddedModel(
            name="sr-xs-res-x2",
            task=Task.SUPERRES,
            params=96_252,
            macs="2.25G @256x256",
            metric="PSNR 37.19 (Set5 x2, Y)",
            licence="LicenseRef-BSDS-T91-research-use",
        ),
        EmbeddedModel(
            name="sam-b0",
            task=Task.SAM,
            params=1_634_948,
            macs="1.13G @512x512",
            metric="mIoU 61.2 (28 of COCO128, boxes)",
            licence="LicenseRef-BSDS-COCO-research-use",
        ),
    )
}
"""By name."""
