"""Which int8 form an export takes: the fast one where it agrees with its source."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from evit_cli.export.graph import build_graph
from evit_cli.export.int8 import NEAR
from evit_cli.export.plan import ExportRequest, make_plan
from evit_cli.models.quantize.layers import QuantizedHardswish, QuantizedSixfoldHardswish
from evit_cli.types import Backend, ImageSize, Precision
from tests.helpers.exports import healthy_model, info_of, photos

STEM, STAGE = "backbone.stem", "backbone.stages.0"


@pytest.mark.parametrize(
    ("share", "form", "islands"),
    [(NEAR, "fast", (STEM,)), (NEAR - 0.01, "gated", (STEM, STAGE))],
)
def test_the_fast_form_is_for_models_that_agree_in_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    share: float,
    form: str,
    islands: tuple[str, ...],
) -> None:
    monkeypatch.setattr("evit_cli.export.int8.agreement", lambda *_: share)
    request = ExportRequest(
        Backend.TFLITE, precision=Precision.INT8, size_hw=ImageSize(64, 64), out=tmp_path
    )
    plan = make_plan(request, info_of("seg-b0-cityscapes"))
    built = build_graph(plan, healthy_model("seg-b0-cityscapes"), photos(8))
    assert built.islands == islands
    assert built.calibration["form"] == form
    gates = kinds(built.model, QuantizedHardswish)
    assert (gates == 0) is (form == "fast")
    assert kinds(built.model, QuantizedSixfoldHardswish) > 0


def kinds(model: nn.Module, kind: type[nn.Module]) -> int:
    """How many modules are of a kind."""
    return sum(isinstance(module, kind) for module in model.modules())
