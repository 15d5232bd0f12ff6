"""Triton's kernels on CPU tensors, in its interpreter, beside float64 twins: a script, for the first import reads the switch.

Every launch is given copies of its arrays inside larger ones that are filled with NaN (integers with a marker), so that a read
past an end makes a result NaN, and a write past an end is seen. Prints JSON: by case the relative error of each result.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"

import torch
from torch import Tensor
from triton.runtime.interpreter import InterpreterBuilder

import spheregeo as sg
from spheregeo.grids import Equiangular, HEALPix, Icosahedral
from spheregeo.sparse import SparseMap

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
    again = every(run, torch.float32, low or torch.float32, False)
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


def main() -> None:
    import spheregeo.sparse.engines.triton  # noqa: F401

    guard()
    found = {
        "scattered rows": linear(Icosahedral(2), (1, 2), (5, 18), second=True),
        "rings": linear(Equiangular(8, 16), (2, 1), (18, 5), second=True),
        "blocks": linear(HEALPix(2), (2, 2), (4, 6), groups=2),
        "depthwise": linear(HEALPix(2), (2, 2), (20, 20), groups=20),
        "apart": linear(HEALPix(2), (2, 2), (3, 3), mixes=False),
        "bfloat16": linear(HEALPix(2), (2, 2), (4, 6), low=torch.bfloat16),
        "float16": linear(HEALPix(2), (2, 2), (4, 6), low=torch.float16),
    }
    print(json.dumps({"errors": found, "launched": Guarded.launched}))


if __name__ == "__main__":
    main()
