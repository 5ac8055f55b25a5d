"""What is left to do on a board that builds its own engine."""

from __future__ import annotations

import shlex

from evit_cli.export.plan import ExportPlan
from evit_cli.export.trtexec import trtexec_command
from evit_cli.runtime.description import Description
from evit_cli.types import Backend


def board_command(plan: ExportPlan, description: Description) -> str | None:
    """The trtexec line for the .onnx file that was made; None where nothing is left to do."""
    if plan.backend is not Backend.TENSORRT or plan.engine or plan.profile is None:
        return None
    engine = plan.path.with_suffix(".engine").name
    command = trtexec_command(plan.path.name, engine, description=description, profile=plan.profile)
    return shlex.join(command)
