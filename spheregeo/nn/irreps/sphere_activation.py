r"""Activations of irreps read as functions on the sphere, and as functions on SO(3).

On the sphere, copy i of each degree together is f_i(p) = sum_lm x^l_m Y^l_m(p). Inversion sends natural irreps (0e, 1o, 2e, ...)
to f(-p), which any pointwise function commutes with, and pseudo irreps (0o, 1e, 2o, ...) to -f(-p), which odd functions do; so
the two are separate signals. On SO(3), 2l + 1 copies of each degree together are F(R) = sum_lmn sqrt(2l+1) x^l_mn D^l_mn(R).
"""

from __future__ import annotations

import torch
from e3nn.o3 import Irrep, Irreps
from torch import Tensor

from spheregeo.deprecation import renamed_arguments
from spheregeo.nn.activations import Activation
from spheregeo.nn.irreps.layout import as_irreps, blocks, check_layout
from spheregeo.nn.irreps.sample_grids import Signal
from spheregeo.nn.irreps.sampled import Channels, FunctionalActivation
from spheregeo.nn.irreps.stacks import Features, Stacks


def copies_by_irrep(irreps: Irreps, layout: str = "mul_ir") -> dict[Irrep, Tensor]:
    """Where the components of all copies of each irrep lie, copies in order. Shape of each: (copies, 2l + 1)."""
    every = torch.arange(irreps.dim)
    found: dict[Irrep, Tensor] = {}
    for block in blocks(irreps, layout):
        index = torch.stack([every[part] for part in block.components], 1)
        found[block.ir] = torch.cat([found[block.ir], index]) if block.ir in found else index
    return found


def sphere_channels(irreps: Irreps, layout: str = "mul_ir") -> list[Channels]:
    """Functions on the sphere: the i-th copies of all natural irreps, and likewise of all pseudo ones."""
    copies, out = copies_by_irrep(irreps, layout), []
    for natural in (True, False):
        mine = {
            ir: index
            for ir, index in sorted(copies.items(), key=lambda item: item[0].l)
            if (ir.p == (-1) ** ir.l) == natural
        }
        ends = sorted({len(index) for index in mine.values()})
        for first, last in zip([0, *ends], ends):  # channels that have the same degrees
            used = {ir: index[first:last] for ir, index in mine.items() if len(index) >= last}
            signal = Signal(tuple(used), (0,) * len(used))
            out.append(Channels(torch.cat(list(used.values()), 1), signal, not natural))
    return out


class SphereActivation(FunctionalActivation):
    """Pointwise activation of the functions on the sphere that irreps describe together.

    Channel i is the i-th copy of every natural irrep: "16x0e + 16x1o + 16x2e" is 16 functions of degree ≤ 2. Pseudo irreps
    (0o, 1e, 2o, ...) are channels of their own. ``error`` measures the equivariance error of the layer as it is.

    Args:
        irreps: of the features.
        act: a name or a pointwise function; a module with parameters is trained.
        odd_act: activation of the channels of pseudo irreps, an odd function.
        resolution: (rings, points per ring) of a Gauss-Legendre grid about y; None for (2L + 1, 4L + 1), L the channel's largest
            degree.
        tolerance: a bound of the measured equivariance error, for normal coefficients of standard deviation ``amplitude``, which
            chooses the smallest tried grid below it; None to take ``resolution``.
        amplitude: see tolerance.
        normalize: whether the activation is rescaled to unit second moment.
        layout: how the components of rows lie in memory, "mul_ir" (e3nn's) or "ir_mul"; of no meaning for stacks.

    Shape: (..., irreps.dim), or stacks -> the same.
    Equivariance: O(3), approximate. Measured relative RMS error for unit components at L = 2, 4, 6 at the default grid: SiLU
        4.8e-3, 3.3e-3, 2.8e-3, GELU 1.1e-2 to 7e-3, tanh 1.7e-2 to 1.2e-2, ReLU 3.6e-2 to 3.0e-2; at twice as many rings and
        points SiLU has 4e-6. Exact (2e-15) for x² and x³.
    Raises: ValueError for a grid that loses the input itself, a tolerance out of reach, pseudo irreps without an odd ``odd_act``,
        or features of other irreps.
    Reference: Cohen et al. 2018, arXiv:1801.10130; ``e3nn.nn.S2Activation``.

    Example:
        >>> act = SphereActivation("4x0e + 4x1o + 4x2e")
        >>> act(torch.randn(10, 36)).shape
        torch.Size([10, 36])
    """

    @renamed_arguments(normalise="normalize")
    def __init__(
        self,
        irreps: str | Irreps,
        act: str | Activation = "silu",
        *,
        odd_act: str | Activation | None = "tanh",
        resolution: tuple[int, int] | None = None,
        tolerance: float | None = None,
        amplitude: float = 1.0,
        normalize: bool = True,
        layout: str = "mul_ir",
    ) -> None:
        irreps = as_irreps(irreps)
        super().__init__(
            irreps,
            sphere_channels(irreps, check_layout(layout)),
            act,
            odd_act,
            on_group=False,
            resolution=resolution,
            tolerance=tolerance,
            amplitude=amplitude,
            normalize=normalize,
            layout=layout,
        )


class SeparableSphereActivation(SphereActivation):
    """:class:`SphereActivation` for l > 0 beside the plain activation of scalars, so that scalars keep a path of their own.

    Scalars still enter the functions that the other degrees are read from.

    Args:
        irreps: of the features.
        act: a name or a pointwise function.
        options: the other arguments of :class:`SphereActivation`.

    Shape: (..., irreps.dim), or stacks -> the same.
    Equivariance: O(3), exact in the scalars only as far as they go through ``act`` alone; the rest as for the sphere activation.
    Reference: Liao, Wood, Das & Smidt 2023, arXiv:2306.12059, section 4 (EquiformerV2), where the plain one diverged.

    Example:
        >>> act = SeparableSphereActivation("4x0e + 4x1o")
        >>> act(torch.randn(10, 16)).shape
        torch.Size([10, 16])
    """

    scalars: Tensor
    odd_scalars: Tensor

    def __init__(self, irreps: str | Irreps, act: str | Activation = "silu", **options: object) -> None:
        super().__init__(irreps, act, **options)  # type: ignore[arg-type]
        copies = copies_by_irrep(self.irreps, self.layout)
        for name, ir in (("scalars", Irrep(0, 1)), ("odd_scalars", Irrep(0, -1))):
            self.register_buffer(name, copies.get(ir, torch.zeros(0, 1).long())[:, 0], persistent=False)

    def forward(self, x: Features) -> Features:
        if isinstance(x, Stacks):
            return self.by_rows(self.forward, x)
        y = super().forward(x)
        for i, odd in enumerate(self._odd):
            index = self.odd_scalars if odd else self.scalars
            if len(index) and (i == 0 or self._odd[i - 1] != odd):
                y = y.index_copy(-1, index, self.acts[i](x.index_select(-1, index)))
        return y


def rotation_channels(irreps: Irreps, layout: str = "mul_ir") -> list[Channels]:
    """Functions on SO(3): see :class:`SO3Activation` for which irreps make them. Raises: ValueError for others."""
    copies = copies_by_irrep(irreps, layout)
    lmax = irreps.lmax
    even = all(ir.p == 1 for ir in copies)
    wanted = []
    for degree in range(lmax + 1):
        if even:
            wanted.append((Irrep(degree, 1), list(range(-degree, degree + 1))))
        else:
            natural = (-1) ** degree
            wanted.append((Irrep(degree, natural), list(range(degree + 1))))
            if degree:
                wanted.append((Irrep(degree, -natural), list(range(-degree, 0))))
    counts = {len(copies.get(ir, ())) / len(columns) for ir, columns in wanted}
    if len(counts) > 1 or len(copies) != len(wanted) or not next(iter(counts)).is_integer():
        raise ValueError(
            f"irreps is {irreps}; expected C functions on SO(3) of degree ≤ {lmax}: C(2l+1) copies of each le, or, with "
            "reflections, C(l+1) copies of each natural (0e, 1o, 2e, ...) and C·l of each pseudo irrep (1e, 2o, ...)"
        )
    channels = int(next(iter(counts)))
    parts = [copies[ir].unflatten(0, (channels, len(columns))).flatten(1) for ir, columns in wanted]
    signal = Signal(
        tuple(ir for ir, columns in wanted for _ in columns),
        tuple(n for _, columns in wanted for n in columns),
    )
    return [Channels(torch.cat(parts, 1), signal, False)]


def rotation_irreps(channels: int, lmax: int, *, reflections: bool = False) -> Irreps:
    """Irreps of C functions on SO(3) of degree ≤ lmax, as :class:`SO3Activation` takes them.

    Raises: ValueError for channels below 1 or lmax below 0.
    """
    if channels < 1 or lmax < 0:
        raise ValueError(f"channels is {channels} and lmax {lmax}; expected at least 1 and 0")
    terms: list[tuple[int, tuple[int, int]]] = []
    for degree in range(lmax + 1):
        if not reflections:
            terms.append((channels * (2 * degree + 1), (degree, 1)))
            continue
        terms.append((channels * (degree + 1), (degree, (-1) ** degree)))
        if degree:
            terms.append((channels * degree, (degree, -((-1) ** degree))))
    return Irreps(terms)


class SO3Activation(FunctionalActivation):
    """Pointwise activation of the functions on SO(3) that irreps describe together.

    Channel c has 2l + 1 copies of each degree, the columns n of its Fourier matrices: copy c (2l + 1) + n + l of ``le`` is
    x^l_n, and F(R) = Σ √(2l+1) x^l_mn D^l_mn(R). With all irreps even, inversion leaves functions alone. With reflections,
    F ↦ F(R h), h the rotation by π about x, columns n ≥ 0 are natural irreps and n < 0 pseudo ones: C (l + 1) and C l
    copies. ``rotation_irreps`` lists either.

    Args:
        irreps: of the features.
        act: a name or a pointwise function; a module with parameters is trained.
        resolution: (β, α, γ) samples of an Euler grid; None for (2L + 1, 4L + 1, 4L + 1).
        tolerance: a bound of the measured equivariance error, for normal coefficients of standard deviation ``amplitude``, which
            chooses the smallest tried grid below it; None to take ``resolution``.
        amplitude: see tolerance.
        normalize: whether the activation is rescaled to unit second moment.
        layout: how the components of rows lie in memory, "mul_ir" (e3nn's) or "ir_mul"; of no meaning for stacks.

    Shape: (..., irreps.dim), or stacks -> the same.
    Equivariance: O(3), approximate; measured relative RMS error of SiLU at the default grid for unit components, L = 1, 2:
        4.2e-3, 2.6e-3. Exact (2e-15) for x² and x³.
    Raises: ValueError for irreps that are no functions on SO(3), a grid that loses the input itself, or a tolerance out of reach.
    Reference: Poulenard, Ovsjanikov & Guibas 2022, arXiv:2211.15903; ``e3nn.nn.SO3Activation``.

    Example:
        >>> act = SO3Activation(rotation_irreps(channels=2, lmax=1))
        >>> act.irreps, act(torch.randn(10, 20)).shape
        (2x0e+6x1e, torch.Size([10, 20]))
    """

    @renamed_arguments(normalise="normalize")
    def __init__(
        self,
        irreps: str | Irreps,
        act: str | Activation = "silu",
        *,
        resolution: tuple[int, int, int] | None = None,
        tolerance: float | None = None,
        amplitude: float = 1.0,
        normalize: bool = True,
        layout: str = "mul_ir",
    ) -> None:
        irreps = as_irreps(irreps)
        super().__init__(
            irreps,
            rotation_channels(irreps, check_layout(layout)),
            act,
            None,
            on_group=True,
            resolution=resolution,
            tolerance=tolerance,
            amplitude=amplitude,
            normalize=normalize,
            layout=layout,
        )
