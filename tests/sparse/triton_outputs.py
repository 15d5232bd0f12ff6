"""Triton's kernels on CPU tensors, in its interpreter, beside float64 twins: a script, for the first import reads the switch.

Every launch is given copies of its arrays inside larger ones that are filled with NaN (integers with a marker), so that a read
past an end makes a result NaN, and a write past an end is seen. Prints JSON: by case the relative error of each result.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"

import torch
from torch import Tensor
from triton.runtime.interpreter import InterpreterBuilder

import spheregeo as sg
from spheregeo.grids import Equiangular, HEALPix, Icosahedral
from spheregeo.sparse import Coupling, CSRPattern, Pairs, Path, RowMaps, Rows, SparseMap, TangentMap

EDGE = 48  # entries beyond each end
MARK = -1234567
PRODUCT = InterpreterBuilder.create_dot


class Guarded:
    """A kernel whose launches work on arrays with guarded ends; counts them by name."""

    launched: dict[str, int] = {}  # noqa: RUF012

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        def launch(*arguments: Any, **options: Any) -> None:
            name = self.kernel.fn.__name__
            self.launched[name] = self.launched.get(name, 0) + 1
            inside = [self._inside(a) if isinstance(a, Tensor) else (a, a) for a in arguments]
            self.kernel[grid](*[a for a, _ in inside], **options)
            for (view, whole), own in zip(inside, arguments, strict=True):
                if isinstance(own, Tensor):
                    ends = torch.cat([whole[:EDGE], whole[len(whole) - EDGE :]])
                    kept = ends.isnan() if ends.is_floating_point() else ends == MARK
                    assert bool(kept.all()), f"{name} wrote past an end"
                    own.copy_(view)

        return launch

    @staticmethod
    def _inside(t: Tensor) -> tuple[Tensor, Tensor]:
        assert t.is_contiguous()
        fill = float("nan") if t.is_floating_point() else MARK
        whole = torch.full((t.numel() + 2 * EDGE,), fill, dtype=t.dtype)
        view = whole[EDGE : EDGE + t.numel()].view(t.shape)
        view.copy_(t)
        return view, whole


def product(self: Any, a: Any, b: Any, d: Any, *options: Any) -> Any:
    """The interpreter's product of tiles, which takes the bits of bfloat16 for whole numbers, with its operands widened."""
    from triton import language as tl
    from triton.runtime.interpreter import TensorHandle

    a, b = (
        TensorHandle((t.data.astype("uint32") << 16).view("float32"), tl.float32)
        if t.dtype.scalar == tl.bfloat16
        else t
        for t in (a, b)
    )
    return PRODUCT(self, a, b, d, *options)


def guard() -> None:
    """Put guards around every kernel that the engine's modules launch, and NaN into memory that is not written."""
    InterpreterBuilder.create_dot = product
    for name, module in list(sys.modules.items()):
        if name.startswith("spheregeo.sparse.engines.triton") and ".kernels" not in name:
            for key, value in list(vars(module).items()):
                if type(value).__name__ == "InterpretedFunction":
                    setattr(module, key, Guarded(value))
    torch.use_deterministic_algorithms(True)  # fills new memory with NaN


def errors(
    run: Callable[..., Tensor],
    twin: Callable[..., Tensor],
    given: Sequence[Tensor],
    low: torch.dtype | None,
    second: bool,
) -> dict[str, float]:
    """Output, gradients and second derivatives against the twin's in float64, and whether two runs are equal."""

    def every(
        f: Callable[..., Tensor], dtype: torch.dtype, feature: torch.dtype, second: bool
    ) -> dict[str, Tensor]:
        inputs = [t.to(feature if i == 0 else dtype).requires_grad_() for i, t in enumerate(given)]
        y = f(*inputs)
        g = cotangent(y.shape, 1).to(y.dtype).requires_grad_()
        first = torch.autograd.grad(y, inputs, g, create_graph=second)
        found = {"output": y} | {f"d{i}": t for i, t in enumerate(first)}
        if second:
            scalar = sum((t * cotangent(t.shape, 2 + i).to(t)).sum() for i, t in enumerate(first))
            wanted = [*inputs, g]
            again = torch.autograd.grad(scalar, wanted)
            found |= {f"dd{i}": t for i, t in enumerate(again)}
        return {name: t.detach().double() for name, t in found.items()}

    expected = every(twin, torch.float64, torch.float64, second)
    ours = every(run, torch.float32, low or torch.float32, second)
    again = every(run, torch.float32, torch.float32, False) if low is None else {}
    found = {n: float((ours[n] - e).abs().max() / e.abs().max()) for n, e in expected.items()}
    return found | {"changed": float(any(not torch.equal(ours[n], t) for n, t in again.items()))}


def cotangent(shape: Sequence[int], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear(
    grid: Any,
    functions: tuple[int, int],
    channels: tuple[int, int],
    groups: int = 1,
    low: torch.dtype | None = None,
    second: bool = False,
    mixes: bool = True,
) -> dict[str, float]:
    kernel = sg.kernels.Morlet(*functions)
    own = sg.nn.DiscoConv(1, 1, grid, kernel=kernel).map
    maps = [
        SparseMap.from_pattern(own.pattern, own.values.to(t), dtype=t, engine=e)
        for t, e in ((torch.float32, "triton"), (torch.float64, "reference"))
    ]
    x = cotangent((1, channels[0], own.num_source), 3)
    w = cotangent((channels[1], channels[0] // groups, own.num_components), 4)
    if not mixes:
        return errors(maps[0], maps[1], [x], low, second)
    return errors(*(lambda x, w, m=m: m.mix(x, w, groups) for m in maps), [x, w], low, second)  # type: ignore[misc]


def coupling(
    kind: str | None,
    low: torch.dtype | None = None,
    second: bool = False,
    budget: int = 1 << 28,
    channels: int = 5,
) -> dict[str, float]:
    """Two blocks of the source, three paths, targets without pairs, sources without pairs."""
    from spheregeo.sparse.engines.triton import pairs

    pairs.BUDGET = budget
    draw = torch.Generator().manual_seed(2)
    third = 4 if channels % 4 == 0 else 3
    blocks, groups, paths = [(1, channels), (3, third)], [3, 1], [(0, 0), (1, 0), (1, 1)]
    listed = [
        Path(b, g, torch.randn(groups[g], blocks[b][0], 4, generator=draw, dtype=torch.float64))
        for b, g in paths
    ]
    heads, width = 2 if kind == "shared" else 1, channels + third + third
    made = [
        Coupling(blocks, groups, listed, 4, weights=kind, heads=heads, engine=e)
        for e in ("triton", "reference")
    ]
    source = torch.randint(0, 7, (12,), generator=draw)
    ends = Pairs.of(source, torch.randint(0, 3, (12,), generator=draw).mul(2).sort().values, 9, 6)
    given = [cotangent((9 * (channels + 3 * third),), 3), cotangent((12, 4), 4)]
    if kind is not None:
        given.append(cotangent((12, {"shared": heads, "channel": width, "factored": 2}[kind]), 5))
    if kind == "factored":
        given.append(cotangent((2, width), 6))
    return errors(*(lambda x, y, *w, m=m: m(x, y, ends, *w) for m in made), given, low, second)  # type: ignore[misc]


def rows(second: bool) -> dict[str, float]:
    draw = torch.Generator().manual_seed(2)
    blocks, groups, paths = [(1, 5), (3, 3)], [3, 1], [(0, 0), (1, 0), (1, 1)]
    listed = [
        Path(b, g, torch.randn(groups[g], blocks[b][0], 4, generator=draw, dtype=torch.float64))
        for b, g in paths
    ]
    made = [RowMaps(blocks, groups, listed, 4, engine=e) for e in ("triton", "reference")]
    own = Rows.of(torch.tensor([3, 0, 0, 4, 1, 3, 3]), 6)
    given = [cotangent((6 * made[0].inputs,), 3), cotangent((7, 4), 4)]
    return errors(*(lambda x, y, m=m: m(x, m.coefficients(y), own) for m in made), given, None, second)  # type: ignore[misc]


def tangent(low: torch.dtype | None = None, second: bool = False, budget: int = 1 << 28) -> dict[str, float]:
    """Orders 0 to 2 in, 0 and 1 out, pairs and coefficients drawn."""
    from spheregeo.sparse.engines.triton import tangent as module

    module.CHUNK_BYTES = budget
    draw = torch.Generator().manual_seed(2)
    rows = torch.randint(0, 8, (14,), generator=draw).mul(2).sort().values
    indptr = torch.searchsorted(rows, torch.arange(18))
    pattern = CSRPattern.of(indptr, torch.randint(0, 11, (14,), generator=draw), 12)
    numbers = cotangent((2 * 7, 14), 7), cotangent((14,), 8)
    terms = ((3, 0), (2, 1), (1, 2)), ((1, 0), (2, 1))
    maps = [TangentMap(pattern, *numbers, rings=2, engine=e) for e in ("triton", "reference")]
    given = [cotangent((1, 9, 12), 3), cotangent((5, 9, 2), 4)]
    return errors(*(lambda x, w, m=m: m(x, w, *terms) for m in maps), given, low, second)  # type: ignore[misc]


def farthest() -> dict[str, float]:
    """Three clouds, one of them a lattice full of ties, one empty: the names that the compiled loop chooses."""
    from spheregeo.sampling.points import _farthest_triton as module
    from spheregeo.sampling.points import farthest as rule

    module.BLOCK = 16
    module.farthest = Guarded(module.farthest)
    lattice = torch.cartesian_prod(*[torch.arange(3.0)] * 3)
    points = torch.cat([cotangent((23, 3), 1).float(), lattice])
    batch = torch.tensor([0] * 23 + [2] * 27)
    expected = sg.sampling.farthest_points(points, 9, batch)
    rule._compiled = module.on_device
    found = [sg.sampling.farthest_points(points, 9, batch) for _ in range(2)]
    changed = float(not torch.equal(*found))
    return {
        "names": float((found[0] != expected).sum()),
        "number": float(len(expected) != 18),
        "changed": changed,
    }


def main() -> None:
    import spheregeo.sparse.engines.triton  # noqa: F401

    guard()
    cases: dict[str, Callable[[], dict[str, float]]] = {
        "scattered rows": lambda: linear(Icosahedral(2), (1, 2), (5, 18), second=True),
        "rings": lambda: linear(Equiangular(8, 16), (2, 1), (18, 5)),
        "blocks": lambda: linear(HEALPix(2), (2, 2), (4, 6), groups=2),
        "depthwise": lambda: linear(HEALPix(2), (2, 2), (20, 20), groups=20),
        "apart": lambda: linear(HEALPix(2), (2, 2), (3, 3), mixes=False),
        "low linear": lambda: linear(HEALPix(2), (2, 2), (4, 6), low=torch.bfloat16),
        "coupling": lambda: coupling(None),
        "shared weights": lambda: coupling("shared", channels=8),
        "weights of channels": lambda: coupling("channel", second=True),
        "factors, in stretches": lambda: coupling("factored", budget=500),
        "low coupling": lambda: coupling("channel", torch.bfloat16, channels=8),
        "rows": lambda: rows(False),
        "tangent": lambda: tangent(budget=1 << 11),
        "low tangent": lambda: tangent(torch.bfloat16),
        "farthest points": farthest,
        "float16": lambda: linear(HEALPix(2), (2, 2), (4, 6), low=torch.float16),
    }
    chosen = [name for name in cases if not sys.argv[1:] or sys.argv[1] in name]
    found = {}
    for name in chosen:
        begun = time.process_time()
        found[name] = cases[name]()
        print(f"{name}: {time.process_time() - begun:.1f} s", file=sys.stderr)
    print(json.dumps({"errors": found, "launched": Guarded.launched}))


if __name__ == "__main__":
    main()
