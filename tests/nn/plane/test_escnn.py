"""Layers of e2cnn 0.2.3, converted: the outputs that e2cnn gave (made by ``make_e2cnn_layers.py``)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from spheregeo.nn.plane.basis import GaussianTapBasis
from spheregeo.nn.plane.escnn import escnn_components, from_escnn

LAYERS = {
    "C4": ("2x0", "1xC4 + 1x0"),
    "C8": ("1xC8", "1xC8"),
    "D4": ("1x0 + 1xD4", "1xD4"),
    "SO2": ("1x0 + 1x1 + 1x2", "1x0 + 2x1"),
    "O2": ("1x0 + 1x1 + 1x2", "1x0 + 1x1 + 1x2"),
}


@pytest.fixture(scope="module")
def layers() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parent / "e2cnn_layers.npz") as file:
        return dict(file)


@pytest.mark.parametrize("name", LAYERS)
def test_outputs_of_e2cnn(name: str, layers: dict[str, np.ndarray]) -> None:
    state = {key: torch.from_numpy(layers[f"{name}.{key}"]) for key in ("filter", "expanded_bias", "x", "y")}
    layer = from_escnn(state, *LAYERS[name], group=name)
    into, out = (escnn_components(fields, name).float() for fields in LAYERS[name])
    found = layer(torch.einsum("ab,nbij->naij", into, state["x"]))
    expected = torch.einsum("ab,nbij->naij", out, state["y"])
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5 * float(expected.abs().max()))

    class Layer:
        """As an ``R2Conv`` is used."""

        def expand_parameters(self) -> tuple[torch.Tensor, torch.Tensor]:
            return state["filter"], state["expanded_bias"]

    again = from_escnn(Layer(), *LAYERS[name], group=name)
    torch.testing.assert_close(again.state_dict(), layer.state_dict())


def test_what_does_not_fit(layers: dict[str, np.ndarray]) -> None:
    state = {"filter": torch.from_numpy(layers["C8.filter"])}
    assert from_escnn(state, "1xC8", "1xC8").bias is None
    with pytest.raises(ValueError, match="off all kernels"):
        from_escnn({"filter": state["filter"].flip(0)}, "1xC8", "1xC8")
    with pytest.raises(ValueError, match="off all kernels"):
        from_escnn(state, "1xC8", "1xC8", basis=GaussianTapBasis(5, (0, 1), (0.005, 0.6), (0, 1)))
    with pytest.raises(ValueError, match=r"call \.eval"):
        from_escnn({"weights": state["filter"]}, "1xC8", "1xC8")
    with pytest.raises(ValueError, match="source is Conv2d"):
        from_escnn(torch.nn.Conv2d(1, 1, 3), "1x0", "1x0")
    with pytest.raises(ValueError, match="filter of shape"):
        from_escnn(state, "2x0", "1xC8")
    with pytest.raises(ValueError, match="widths is"):
        GaussianTapBasis(5, (0, 1), (0.6,))
