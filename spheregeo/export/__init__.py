"""Trained models that leave the house: safetensors with a model card, torch.export and ONNX files, the hub, and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spheregeo.export.card import model_card
from spheregeo.export.describe import describe, equivariance_of
from spheregeo.export.force_field import export_force_field, save_force_field
from spheregeo.export.load import load, locate
from spheregeo.export.program import onnx_bytes, plan_of, save_onnx, save_program
from spheregeo.export.save import save
from spheregeo.export.twins import plain

if TYPE_CHECKING:
    from spheregeo.export.hub import HubModel

__all__ = [
    "HubModel",
    "describe",
    "equivariance_of",
    "export_force_field",
    "load",
    "locate",
    "model_card",
    "onnx_bytes",
    "plain",
    "plan_of",
    "save",
    "save_force_field",
    "save_onnx",
    "save_program",
]


def __getattr__(name: str) -> Any:
    if name == "HubModel":  # its client is an extra
        from spheregeo.export.hub import HubModel

        return HubModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
