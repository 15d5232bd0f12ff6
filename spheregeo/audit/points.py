"""Networks of points in space: what motions, reflections and a new order of the points change, and what a pass costs."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from spheregeo.audit.cost import aligned, count_parameters, machine_of, time_rows
from spheregeo.audit.fields import FieldSpec
from spheregeo.audit.randomise import randomise as randomise_
from spheregeo.sampling import random_rotations

KINDS = ("rotations", "reflections", "translations", "permutations")
Moved = tuple[Tensor, Tensor | None, Tensor]  # positions, features, batch
Motion = tuple[Tensor, Tensor | None, Tensor | None]  # positions, features, the new order of the points


class _Whole(nn.Module):
    """A network with its search for neighbours, as a function of the positions."""

    def __init__(self, module: Any, features: Tensor | None, batch: Tensor) -> None:
        super().__init__()
        self.module, self.features, self.batch = module, features, batch

    def forward(self, positions: Tensor) -> Tensor:
        return _run(self.module, (positions, self.features, self.batch))


def _run(module: Any, cloud: Moved) -> Tensor:
    positions, features, batch = cloud
    result: Tensor = module(positions, features, batch, module.neighbors(positions, batch))
    return result


def turned_features(features: Tensor | None, irreps: str | None, rotation: Tensor) -> Tensor | None:
    """Features of the turned cloud.

    Args:
        features: of the points, or None.
        irreps: what they are, such as "2x0e + 1x1o"; scalars if None.
        rotation: a rotation or a reflection.

    Shape: (P, C), (3, 3) -> (P, C).
    Raises: ValueError for text that names no irreps.
    """
    if features is None or not irreps:
        return features
    return FieldSpec.of(Irreps(irreps)).turn(features.T, rotation).T


@torch.no_grad()
def measure_invariance(
    module: nn.Module,
    positions: Tensor,
    features: Tensor | None = None,
    batch: Tensor | None = None,
    *,
    feature_irreps: str | None = None,
    num: int = 3,
    randomise: bool = True,
    seed: int = 0,
) -> dict[str, float]:
    """Relative change of a network's output by kind of motion, in float64. The module itself is left as it is.

    Args:
        module: with ``neighbors(positions, batch)`` and ``module(positions, features, batch, graph)``; a copy is measured, in
            eval mode.
        positions, features, batch: the clouds; features (P, C) real, or (P,) whole numbers such as those of atoms.
        feature_irreps: what real features are; scalars if None.
        num: motions of each kind, of which the worst counts.
        randomise: draw all parameters and norm statistics anew.
        seed: of motions and parameters.

    Returns: for each of "rotations", "reflections", "translations", "permutations" (of the points of each cloud, which outputs of
        points follow) the largest |y' - y| / |y| over the motions, norms over the whole output; and as "spread" the same of y
        less its mean over the clouds, or points: what the network tells them apart by, beside which the changes are to be
        judged.
    """
    generator = torch.Generator().manual_seed(seed)
    module = copy.deepcopy(module).double().eval()
    x = positions.double()
    f = features.double() if features is not None and features.is_floating_point() else features
    index = torch.zeros(len(x), dtype=torch.int64, device=x.device) if batch is None else batch
    if randomise:
        randomise_(_Whole(module, f, index), generator, x)
    y = _run(module, (x, f, index))
    of_points = (
        getattr(module, "output", "label") == "field"
    )  # numbers of each point take a new order as points do
    size = max(float(y.norm()), 1e-300)
    extent = float(x.abs().max())

    def turned(sign: float) -> Motion:
        r = sign * random_rotations(1, generator)[0].to(x)
        return x @ r.T, turned_features(f, feature_irreps, r), None

    def shifted() -> Motion:
        step = torch.randn(3, dtype=torch.float64, generator=generator).to(x)
        return x + extent * step, f, None

    def permuted() -> Motion:
        order = torch.argsort(torch.rand(len(x), generator=generator).to(x) + 2 * index)
        return x[order], None if f is None else f[order], order

    def change(motion: Motion) -> float:
        place, values, order = motion
        expected = y[order] if order is not None and of_points else y
        return float((_run(module, (place, values, index)) - expected).norm()) / size

    motions: dict[str, Callable[[], Motion]] = {
        "rotations": lambda: turned(1.0), "reflections": lambda: turned(-1.0), "translations": shifted,
        "permutations": permuted,
    }  # fmt: skip
    found = {kind: max(change(move()) for _ in range(num)) for kind, move in motions.items()}
    return {**found, "spread": float((y - y.mean(0)).norm()) / size}


def _median(call: Callable[[], Any], repeats: int) -> float:
    call()
    times = []
    for _ in range(max(3, repeats)):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def report_points(
    module: nn.Module,
    positions: Tensor,
    features: Tensor | None = None,
    batch: Tensor | None = None,
    *,
    feature_irreps: str | None = None,
    repeats: int = 3,
    seed: int = 0,
) -> dict[str, Any]:
    """Invariance, parameters and time of a network of points, as plain numbers.

    Args: as for :func:`measure_invariance`; ``repeats`` of the passes that are timed, of which the median counts.
    Units: seconds; per point, nanoseconds.
    """
    common: dict[str, Any] = {"feature_irreps": feature_irreps, "seed": seed}
    index = (
        torch.zeros(len(positions), dtype=torch.int64, device=positions.device) if batch is None else batch
    )
    errors = {
        "as they are": measure_invariance(module, positions, features, index, randomise=False, **common),
        "randomised": measure_invariance(module, positions, features, index, **common),
    }
    network: Any = copy.deepcopy(module).eval()
    like = next((p for p in network.parameters() if p.is_floating_point()), positions)
    x = positions.to(like)
    f = features.to(like) if features is not None and features.is_floating_point() else features
    graph = network.neighbors(x, index)

    def forward() -> None:
        with torch.no_grad():
            network(x, f, index, graph)

    def both() -> None:
        network.zero_grad(set_to_none=True)
        network(x, f, index, graph).square().sum().backward()

    seconds = {
        "neighbours": _median(lambda: network.neighbors(x, index), repeats),
        "forward": _median(forward, repeats),
        "forward_backward": _median(both, repeats),
    }
    return {
        "module": type(module).__name__,
        "clouds": int(index.max()) + 1,
        "points": len(x),
        "dtype": str(x.dtype).removeprefix("torch."),
        "invariance": errors,
        "parameters": count_parameters(module),
        "seconds": seconds,
        "nanoseconds_per_point": {name: 1e9 * s / len(x) for name, s in seconds.items()},
        "machine": machine_of(x),
    }


def format_points(result: dict[str, Any]) -> str:
    """The text that :func:`print_points` prints."""
    rows = [(name, str(result[name])) for name in ("module", "clouds", "points", "dtype")]
    for weights, found in result["invariance"].items():
        rows += [(f"change by {kind}", f"{found[kind]:.2e}  (float64, weights {weights})") for kind in KINDS]
        rows.append(("difference of clouds", f"{found['spread']:.2e}  (float64, weights {weights})"))
    rows.append(("parameters", f"{result['parameters']:,}"))
    rows += time_rows(result, "nanoseconds_per_point", "a point")
    return aligned(rows, result["machine"])


def print_points(result: dict[str, Any]) -> None:
    """Print what :func:`report_points` returned."""
    print(format_points(result), flush=True)
