"""What an export adds to `evit_cli.models.quantize`: converters' wishes, and where it loses."""

from __future__ import annotations

from evit_cli.export.quantize.explain import LayerError, explain
from evit_cli.export.quantize.targets import for_onnx, litert_config

__all__ = ["LayerError", "explain", "for_onnx", "litert_config"]
