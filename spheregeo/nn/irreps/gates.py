r"""Nonlinearities that act on scalars and on the sizes of irreps: no samples, no equivariance error.

An even scalar takes any function. An odd one (0o) changes sign under inversion, so only an odd function keeps its type. Every
other copy may be multiplied by an even scalar: a gate that was computed for it, or a function of its own norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from e3nn.o3 import Irrep, Irreps
from torch import Tensor, nn

from spheregeo.autograd import is_watched
from spheregeo.deprecation import renamed_arguments
from spheregeo.nn.activations import Activation, activation_name
from spheregeo.nn.irreps.activations import NormalizedActivation, parity
from spheregeo.nn.irreps.copies import Copies, PerCopy
from spheregeo.nn.irreps.layout import EVEN, as_irreps, blocks, check_features, check_layout, distinct_irreps
from spheregeo.nn.irreps.stacks import Features, Stacks, check_stacks, terms_of


class _Gated(torch.autograd.Function):
    """Fused forward and backward of ``IrrepsGate.plain``; saves the input alone."""

    @staticmethod
    def forward(x: Tensor, layer: IrrepsGate) -> Tensor:
        assert layer.copies is not None
        y = x.new_empty(len(x), layer.dim_out)
        *scalars, gates, gated = x.split(layer.widths, 1)
        factor = layer.copies.spread(layer.gate(gates))
        at = 0
        for (what, width), out in zip(layer.runs, y.split([w for _, w in layer.runs], 1), strict=True):
            if what == "gated":
                torch.mul(gated[:, at : at + width], factor[:, at : at + width], out=out)
                at += width
            else:
                out.copy_(layer.scalar_act(what)(scalars.pop(0)))
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.layer = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (x,), layer = ctx.saved_tensors, ctx.layer
        if torch.is_grad_enabled():  # differentiated again
            (dx,) = torch.autograd.grad(layer.plain(x), x, g, create_graph=True)
            return dx, None
        dx = torch.empty_like(x, memory_format=torch.contiguous_format)
        *scalars, gates, gated = x.split(layer.widths, 1)
        *of_scalars, of_gates, of_gated = dx.split(layer.widths, 1)
        with torch.enable_grad():
            gates = gates.detach().requires_grad_()
            values = layer.gate(gates)
        factor, pieces = layer.copies.spread(values.detach()), []
        at = 0
        for (what, width), grad in zip(layer.runs, g.split([w for _, w in layer.runs], 1), strict=True):
            if what == "gated":
                here = slice(at, at + width)
                torch.mul(grad, factor[:, here], out=of_gated[:, here])
                pieces.append(grad)
                at += width
                continue
            with torch.enable_grad():
                scalar = scalars.pop(0).detach().requires_grad_()
                (slope,) = torch.autograd.grad(layer.scalar_act(what)(scalar), scalar, grad)
            of_scalars.pop(0).copy_(slope)
        along = layer.copies.collect_product(pieces[0] if len(pieces) == 1 else torch.cat(pieces, 1), gated)
        of_gates.copy_(torch.autograd.grad(values, gates, along)[0])
        return dx, None


class IrrepsGate(nn.Module):
    """Gated nonlinearity: scalars are acted on, every other copy is multiplied by an activated even scalar that the input
    brings for it.

    ``irreps_in`` is scalars, gates, gated irreps: the order of e3nn's ``Gate`` where there are no 0o. An
    :class:`IrrepsLinear` or a convolution to ``irreps_in`` goes before.

    Args:
        irreps_out: of the output.
        act: activation of even scalars (0e).
        odd_act: activation of odd scalars (0o), an odd function; None to gate them like higher irreps.
        gate: activation of gates.
        normalize: whether the three are rescaled to unit second moment.
        layout: how the components of rows lie in memory, "mul_ir" (e3nn's) or "ir_mul"; of no meaning for stacks.

    Shape: (..., irreps_in.dim) -> (..., irreps_out.dim), or stacks -> stacks.
    Equivariance: O(3), exact (relative error 1e-16 measured in float64, 7e-8 in float32).
    Raises: ValueError for an ``odd_act`` that is not odd, or features of other irreps.
    Reference: Weiler, Geiger, Welling, Boomsma & Cohen 2018, arXiv:1807.02547, section 4.3; e3nn's ``Gate``.

    Example:
        >>> gate = IrrepsGate("8x0e + 4x1o")
        >>> gate.irreps_in, gate(torch.randn(10, 24)).shape
        (12x0e+4x1o, torch.Size([10, 20]))
    """

    @renamed_arguments(normalise="normalize")
    def __init__(
        self,
        irreps_out: str | Irreps,
        act: str | Activation = "silu",
        *,
        odd_act: str | Activation | None = "tanh",
        gate: str | Activation = "sigmoid",
        normalize: bool = True,
        layout: str = "mul_ir",
    ) -> None:
        super().__init__()
        self.irreps_out, self.layout = as_irreps(irreps_out, "irreps_out"), check_layout(layout)
        has_odd = any(ir.l == 0 and ir.p == -1 for _, ir in self.irreps_out)
        if odd_act is not None and has_odd and parity(odd_act) != -1:
            raise ValueError(
                f"odd_act is {activation_name(odd_act)}, which is not odd; 0o would lose its sign under inversion. "
                "Use an odd function such as 'tanh', or odd_act=None to gate 0o"
            )

        def kind(ir: Irrep) -> str:
            if ir == EVEN:
                return "even"
            return "odd" if odd_act is not None and ir.l == 0 else "gated"

        scalars = Irreps([term for term in self.irreps_out if kind(term.ir) != "gated"])
        gated = Irreps([term for term in self.irreps_out if kind(term.ir) == "gated"])
        self.num_gates = gated.num_irreps
        gates = Irreps([(self.num_gates, EVEN)] if self.num_gates else [])
        self.irreps_in = (scalars + gates).simplify() + gated
        self.dim_in, self.dim_out = self.irreps_in.dim, self.irreps_out.dim
        # the output in order, as runs of one kind and their widths; scalars and gated are each contiguous in the input
        self.runs: list[tuple[str, int]] = []
        for term in self.irreps_out:
            what, width = kind(term.ir), term.mul * term.ir.dim
            if self.runs and self.runs[-1][0] == what:
                width += self.runs.pop()[1]
            self.runs.append((what, width))
        widths = [width for what, width in self.runs if what != "gated"]
        self.widths = [*widths, self.num_gates, gated.dim]
        self.gated_widths = [width for what, width in self.runs if what == "gated"]
        self.act = NormalizedActivation(act, normalize=normalize)
        self.odd_act = (
            NormalizedActivation(odd_act, normalize=normalize) if odd_act is not None and has_odd else None
        )
        self.gate = NormalizedActivation(gate, normalize=normalize)
        self.copies = Copies(gated, layout) if self.num_gates else None
        self.gated = PerCopy(gated) if self.num_gates else None
        self._terms = terms_of(self.irreps_in), terms_of(self.irreps_out)
        self._gated_irs = [(ir.l, ir.p) for ir in distinct_irreps(gated)]
        self._plain = any(True for _ in self.parameters())

    def forward(self, x: Features) -> Features:
        if isinstance(x, Stacks):
            check_stacks(x, self._terms[0])
            return self._of_stacks(x)
        check_features(x, self.irreps_in)
        rows = x.reshape(-1, self.dim_in)
        if self.copies is None or self._plain or is_watched():
            y = self.plain(rows)
        else:
            y = _Gated.apply(rows, self)
        return y.reshape(*x.shape[:-1], self.dim_out)

    def _of_stacks(self, x: Stacks) -> Stacks:
        every = {term[:2]: part for term, part in zip(x.terms, x.parts, strict=True)}
        given = every.get((0, 1))
        factors: dict[tuple[int, int], Tensor] = {}
        if self.gated is not None and given is not None:
            given, gates = given.split([given.shape[-1] - self.num_gates, self.num_gates], -1)
            factors = dict(zip(self._gated_irs, self.gated.split(self.gate(gates)), strict=True))
        out = []
        for l, p, _ in self._terms[1]:
            if (l, p) in factors:
                out.append(every[l, p] * factors[l, p])
            elif (l, p) == (0, 1):
                out.append(self.act(given))
            else:
                assert self.odd_act is not None
                out.append(self.odd_act(every[l, p]))
        return Stacks.of(out, self._terms[1])

    def scalar_act(self, what: str) -> nn.Module:
        """The activation of a run of scalars."""
        if what == "even":
            return self.act
        assert self.odd_act is not None
        return self.odd_act

    def plain(self, rows: Tensor) -> Tensor:
        """The gate in differentiable pieces. Shape: (rows, irreps_in.dim) -> (rows, irreps_out.dim)."""
        *scalars, gates, gated = rows.split(self.widths, 1)
        if self.copies is not None:
            gated = gated * self.copies.spread(self.gate(gates))
        pieces = list(gated.split(self.gated_widths, 1)) if len(self.gated_widths) > 1 else [gated]
        out = []
        for what, _ in self.runs:
            out.append(pieces.pop(0) if what == "gated" else self.scalar_act(what)(scalars.pop(0)))
        return out[0] if len(out) == 1 else torch.cat(out, 1)

    def extra_repr(self) -> str:
        return f"'{self.irreps_in}' -> '{self.irreps_out}'"


class NormActivation(nn.Module):
    """Activation of the norm of each copy, whose direction is kept: y = x f(n + b)/n, n = √(|x|² + eps²).

    With eps > 0 the map is as smooth as f, at zero too. Even scalars are acted on as usual, f(x + b), odd ones as higher
    irreps are.

    Args:
        irreps: of the features.
        act: f, a name or a pointwise function.
        bias: whether b is learned, one number per copy; else zero.
        normalization: "component" takes |x|²/(2l + 1) for the squared norm, about 1 for features of unit component variance at
            any l; "norm" takes |x|².
        eps: size below which a direction fades out.
        layout: how the components of rows lie in memory, "mul_ir" (e3nn's) or "ir_mul"; of no meaning for stacks.

    Shape: (..., irreps.dim), or stacks -> the same.
    Equivariance: O(3), exact (relative error 3e-16 measured in float64, 8e-8 in float32).
    Raises: ValueError for eps that is not positive, an unknown normalisation, or features of other irreps.
    Reference: Thomas et al. 2018, arXiv:1802.08219, section 4.3; smoothed at zero here.

    Example:
        >>> act = NormActivation("8x0e + 4x1o", "silu")
        >>> act(torch.randn(10, 20)).shape
        torch.Size([10, 20])
    """

    width: Tensor

    def __init__(
        self,
        irreps: str | Irreps,
        act: str | Activation = "silu",
        *,
        bias: bool = True,
        normalization: str = "component",
        eps: float = 0.1,
        layout: str = "mul_ir",
    ) -> None:
        super().__init__()
        if not eps > 0:
            raise ValueError(f"eps is {eps}; expected a positive size below which a direction fades out")
        if normalization not in ("component", "norm"):
            raise ValueError(f"normalization is {normalization!r}; expected 'component' or 'norm'")
        self.irreps, self.eps, self.normalization, self.layout = as_irreps(irreps), eps, normalization, layout
        self.act = NormalizedActivation(act, normalize=False)
        self.copies, self.per_copy = Copies(self.irreps, layout), PerCopy(self.irreps)
        self._terms = terms_of(self.irreps)
        self.bias = nn.Parameter(torch.zeros(self.irreps.num_irreps)) if bias else None
        self._pieces = [(b.ir == EVEN, b.stop - b.start, b.first) for b in blocks(self.irreps, layout)]
        evens = [piece[0] for piece in self._pieces]
        self._any_even, self._all_even, self.dim = any(evens), all(evens), self.irreps.dim
        width = [ir.dim if normalization == "component" else 1 for mul, ir in self.irreps for _ in range(mul)]
        self.register_buffer("width", torch.tensor(width), persistent=False)

    def forward(self, x: Features) -> Features:
        if isinstance(x, Stacks):
            check_stacks(x, self._terms)
            return self._of_stacks(x)
        check_features(x, self.irreps)
        rows = x.reshape(-1, self.dim)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if self._all_even:
            return self.act(x if bias is None else x + bias)
        n = torch.sqrt(self.copies.collect(rows.square()) / self.width + self.eps**2)
        factor = self.copies.spread(self.act(n if bias is None else n + bias) / n)
        y = rows * factor
        if self._any_even:
            widths = [width for _, width, _ in self._pieces]
            parts = list(y.split(widths, 1))
            for i, ((even, width, first), part) in enumerate(
                zip(self._pieces, rows.split(widths, 1), strict=True)
            ):
                if even:
                    parts[i] = self.act(part if bias is None else part + bias.narrow(0, first, width))
            y = torch.cat(parts, 1)
        return y.reshape(x.shape)

    def _of_stacks(self, x: Stacks) -> Stacks:
        biases: Sequence[Tensor | None] = [None] * len(x.parts)
        if self.bias is not None:
            biases = self.per_copy.split(self.bias.to(x.parts[0].dtype))
        out = []
        for (l, p, _), part, bias in zip(x.terms, x.parts, biases, strict=True):
            if (l, p) == (0, 1):
                out.append(self.act(part if bias is None else part + bias))
                continue
            width = 2 * l + 1 if self.normalization == "component" else 1
            n = torch.sqrt(part.square().sum(-2, keepdim=True) / width + self.eps**2)
            out.append(part * (self.act(n if bias is None else n + bias) / n))
        return Stacks.of(out, x.terms)

    def extra_repr(self) -> str:
        return f"'{self.irreps}', bias={self.bias is not None}, normalization={self.normalization!r}, eps={self.eps}"
