"""Writes ``e2cnn_layers.npz``: kernels and outputs of small layers, run in an environment of e2cnn 0.2.3 (numpy < 2)."""

from __future__ import annotations

import numpy as np
import torch
from e2cnn import gspaces
from e2cnn import nn as e2nn


def main() -> None:
    """Write the file beside this one."""
    torch.manual_seed(0)
    c4, c8, d4 = gspaces.Rot2dOnR2(4), gspaces.Rot2dOnR2(8), gspaces.FlipRot2dOnR2(4)
    so2, o2 = gspaces.Rot2dOnR2(-1, maximum_frequency=3), gspaces.FlipRot2dOnR2(-1, maximum_frequency=3)
    cases = {
        "C4": (c4, [c4.trivial_repr] * 2, [c4.regular_repr, c4.trivial_repr], 3),
        "C8": (c8, [c8.regular_repr], [c8.regular_repr], 5),
        "D4": (d4, [d4.trivial_repr, d4.regular_repr], [d4.regular_repr], 3),
        "SO2": (so2, [so2.irrep(0), so2.irrep(1), so2.irrep(2)], [so2.irrep(0), so2.irrep(1), so2.irrep(1)], 5),
        "O2": (o2, [o2.irrep(0, 0), o2.irrep(1, 1), o2.irrep(1, 2)], [o2.irrep(0, 0), o2.irrep(1, 1), o2.irrep(1, 2)], 7),
    }  # fmt: skip
    arrays: dict[str, np.ndarray] = {}
    for name, (space, into, out, size) in cases.items():
        inside, outside = e2nn.FieldType(space, into), e2nn.FieldType(space, out)
        layer = e2nn.R2Conv(inside, outside, size, padding=size // 2)
        for parameter in layer.parameters():
            torch.nn.init.normal_(parameter)
        layer.eval()
        x = torch.randn(1, inside.size, 5, 5)
        with torch.no_grad():
            y = layer(e2nn.GeometricTensor(x, inside)).tensor
        arrays |= {
            f"{name}.{key}": value.detach().numpy().astype(np.float32)
            for key, value in {
                "filter": layer.filter, "expanded_bias": layer.expanded_bias, "x": x, "y": y,
            }.items()
        }  # fmt: skip
    np.savez_compressed(__file__.replace("make_e2cnn_layers.py", "e2cnn_layers.npz"), **arrays)


if __name__ == "__main__":
    main()
