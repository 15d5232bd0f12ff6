"""Rotations for e3nn's equivariance test: its own matrices lose up to half the digits near their poles, ours do not."""

from __future__ import annotations

import pytest
from e3nn.o3 import Irreps

from spheregeo.harmonics import wigner_D


@pytest.fixture(autouse=True)
def _exact_rotations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Irreps, "D_from_matrix", lambda irreps, rotation: wigner_D(irreps, rotation))
