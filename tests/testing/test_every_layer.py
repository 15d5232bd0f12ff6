"""Every public layer passes the compliance suite. A newly exported class without a case here fails, and is told what to add."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest
import torch
from layer_cases.common import CASES, EDGES, OWN_TWIN, PARTS, places, rows

import spheregeo.nn as layers
from spheregeo.testing import check_layer

ROOMS = Path(__file__).parent / "layer_cases"
for room in ROOMS.glob("*.py"):
    importlib.import_module(f"layer_cases.{room.stem}")
TESTS = Path(__file__).resolve().parents[1]
INDIRECT = "SO2Maps CGPath PathTable"  # tested through SteerableConv and SO2Linear


def public_classes() -> dict[type, str]:
    """Classes in ``__all__`` of ``spheregeo.nn`` and its packages, with the place where they are exported."""
    inner = [m.name for m in pkgutil.walk_packages(layers.__path__, "spheregeo.nn.") if m.ispkg]
    found: dict[type, str] = {}
    for name in ["spheregeo.nn", *inner]:
        room = importlib.import_module(name)
        for member in getattr(room, "__all__", ()):
            value = getattr(room, member)
            if inspect.isclass(value):
                found.setdefault(value, f"{name}.{member}")
    return found


def test_every_public_layer_has_a_case() -> None:
    missing = [
        place for kind, place in public_classes().items() if kind not in CASES and kind.__name__ not in PARTS
    ]
    assert not missing, "\n".join(
        f"{place} has no case in a file of {ROOMS.name}; add one that builds it small, with an input:\n"
        f"    simple({place.rsplit('.', 1)[1]}, lambda: dict(layer={place.rsplit('.', 1)[1]}(2, 3, G), inputs=x(2), "
        'equivariance={"grid": 1e-11}))'
        for place in missing
    )
    lost = [
        name
        for name, file in {**PARTS, **OWN_TWIN}.items()
        if name not in (TESTS / file).read_text() + INDIRECT
    ]
    assert not lost, f"the test files named here for {', '.join(lost)} hold nothing of them"


@pytest.mark.parametrize(
    "kind", sorted(public_classes(), key=lambda kind: kind.__name__), ids=lambda kind: kind.__name__
)
def test_compliance(kind: type) -> None:
    if kind.__name__ in PARTS:
        return  # held by its own test file, see above
    if kind not in CASES:
        pytest.fail("no case; see test_every_public_layer_has_a_case")
    arguments = CASES[kind]()
    skip = [*arguments.pop("skip", ()), *(["twin"] if kind.__name__ in OWN_TWIN else [])]
    check_layer(**arguments, skip=skip)


@pytest.mark.parametrize("method", ["product", "so2", "tensor"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_points_without_neighbours_get_the_constant_part(method: str, dtype: torch.dtype) -> None:
    """No edges at all: zeros (or the bias of an implicit kernel), and gradients that exist and are zero."""
    edges = layers.EdgeList.of(EDGES[:, :0], 8)
    steerable = layers.SteerableConv("2x0e + 1x1o", "1x0e + 1x1o", lmax=1, method=method)
    given = rows("2x0e + 1x1o").to(dtype).requires_grad_()
    y = steerable(given, places(), edges)
    y.sum().backward()
    assert y.dtype == dtype and y.shape == (8, 4) and not bool(y.any())
    assert given.grad is not None and not bool(given.grad.any())
    implicit = layers.ImplicitConv("2x0e + 1x1o", "1x0e + 1x1o", hidden=3, radius=2.0)
    torch.testing.assert_close(implicit(given.float(), places(), edges), implicit.fixed().expand(8, 4))
    vector = layers.VectorEdgeConv(5, 4)
    assert not bool(vector(torch.randn(8, 3, 5), EDGES[:, :0]).any())
