r"""torch-harmonics' names, weights and normalisations, so that its trained DISCO layers run here unchanged.

torch-harmonics 0.9.3 stores, for every output latitude and every input point within 1.001 times `theta_cutoff`, the
coefficient :math:`q\, (\psi - b) / s` with q the quadrature weight as a share of the sphere. Its modes choose b and s
(sums over a function's support in one row): none: 0, 1; nodal: 0, :math:`\sum |\psi| q`; mean: 0, that sum averaged over rows;
support: 0, :math:`\sum q`; geometric: 0, :math:`(1 - \cos\theta_c)/4`; modal: the q-mean of functions that are not isotropic,
:math:`\sum |\psi - b| q`. Its polar angle, like ours, runs from south to east, and its functions come in the same order with
the same signs. Its transposed layer sees the fine point from the coarse one, :math:`\psi(r, \phi_{qp})`, weighs with the coarse
point's q, and averages each fine ring's sums over the ring (`ring` of `normalize`).
Where a function all but vanishes on a row's neighbours, nodal and modal divide rounding by 1e-9, and where points lie
on the border of an angular hat (due south, east, ...), support and modal let rounding decide whether they count:
there their figures are arbitrary (they differ between north and south pole), ours are not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from spheregeo.kernels.fourier_bessel import FourierBessel
from spheregeo.kernels.kernel import Kernel
from spheregeo.kernels.morlet import Morlet
from spheregeo.kernels.piecewise_linear import PiecewiseLinear
from spheregeo.kernels.rings import Rings
from spheregeo.kernels.zernike import Zernike

NORMALIZATIONS = ("none", "nodal", "mean", "support", "geometric", "modal")
WIDENING = 1.001  # torch_harmonics.quadrature.THETA_CUTOFF_EPS = 1e-3
EPS = 1e-9  # their floor under every divisor


def radius_from_torch_harmonics(theta_cutoff: float) -> float:
    """The radius in which torch-harmonics evaluates its functions for a given `theta_cutoff`."""
    return WIDENING * theta_cutoff


def from_torch_harmonics(basis_type: str, kernel_shape: int | Sequence[int]) -> tuple[Kernel, Tensor]:
    """Our kernel for their basis, and the permutation p with (our weight) = (their weight)[..., p].

    Raises: ValueError for an unknown basis_type or a kernel_shape that it does not take.
    """
    shape = [kernel_shape] if isinstance(kernel_shape, int) else list(kernel_shape)
    makers: dict[str, Callable[..., Kernel]] = {
        "piecewise linear": lambda n, a=1: Rings(n) if a == 1 else PiecewiseLinear(n, a),
        "harmonic": lambda n, a=None: Morlet(n, n if a is None else a),
        "morlet": lambda n, a=None: Morlet(n, n if a is None else a, normalized=False),
        "zernike": lambda n, *_: Zernike(n - 1),
        "fourier-bessel": lambda n, a=None: FourierBessel(n, n if a is None else a),
    }
    if basis_type not in makers:
        raise ValueError(f"basis_type is {basis_type!r}, expected one of {', '.join(map(repr, makers))}")
    if not 1 <= len(shape) <= 2:
        raise ValueError(f"kernel_shape is {kernel_shape!r}, expected one or two integers")
    kernel = makers[basis_type](*shape)
    return kernel, torch.arange(kernel.num_functions)


def weight_from_torch_harmonics(weight: Tensor, basis_type: str, kernel_shape: int | Sequence[int]) -> Tensor:
    """Weight of a DiscreteContinuousConvS2 (or its transpose) as ours: (out, in / groups, K) in both.

    Raises: ValueError if the last axis is not the basis' size.
    """
    kernel, permutation = from_torch_harmonics(basis_type, kernel_shape)
    _check_weight(weight, kernel)
    return weight[..., permutation.to(weight.device)]


def weight_to_torch_harmonics(weight: Tensor, basis_type: str, kernel_shape: int | Sequence[int]) -> Tensor:
    """Inverse of `weight_from_torch_harmonics`."""
    kernel, permutation = from_torch_harmonics(basis_type, kernel_shape)
    _check_weight(weight, kernel)
    return weight[..., permutation.argsort().to(weight.device)]


def _check_weight(weight: Tensor, kernel: Kernel) -> None:
    if weight.dim() != 3 or weight.shape[-1] != kernel.num_functions:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)} but {kernel} has {kernel.num_functions} functions; "
            "expected (out, in / groups, K); is this the basis the layer was built with?"
        )


def normalize(
    values: Tensor,
    weights: Tensor,
    indptr: Tensor,
    radius: float,
    mode: str,
    *,
    support: Tensor | None = None,
    isotropic: Sequence[bool] | None = None,
    ring: Tensor | None = None,
) -> Tensor:
    """Filter values normalised as torch-harmonics does: times `weights` they are its coefficients.

    Shape: values (K, nnz), weights (nnz,) areas that sum to 4 pi over the sphere, indptr (P + 1,) -> (K, nnz).
    `radius` is the one the kernel was evaluated with (1.001 theta_cutoff). `support` (K, nnz) is `kernel.support(...)`, by
    default where values are not zero; `isotropic` (K,) marks order 0, by default the first function; rows with equal
    `ring` (P,) share the average of their sums, by default every row stands alone.
    Raises: ValueError for an unknown mode or sizes that do not fit.
    """
    if mode not in NORMALIZATIONS:
        raise ValueError(f"mode is {mode!r}, expected one of {', '.join(NORMALIZATIONS)}")
    if values.dim() != 2 or weights.shape != values.shape[1:] or int(indptr[-1]) != values.shape[1]:
        got = (tuple(values.shape), tuple(weights.shape), int(indptr[-1]))
        raise ValueError(f"values, weights, indptr[-1] are {got}; expected (K, nnz), (nnz,) and nnz")
    share = weights / (4 * math.pi)
    if mode == "none":
        return values / (4 * math.pi)
    if mode == "geometric":
        return values / max((1 - math.cos(radius / WIDENING)) / 4, EPS) / (4 * math.pi)
    support = values != 0 if support is None else support
    num_rows = len(indptr) - 1
    row = torch.repeat_interleave(torch.arange(num_rows, device=values.device), indptr.diff())
    if ring is None:
        group, num_groups, rows_in_group = row, num_rows, values.new_ones(num_rows)
    else:
        label, rows_in_group = torch.unique(ring, return_inverse=True, return_counts=True)[1:]
        group, num_groups = label[row], len(rows_in_group)

    def total(
        x: Tensor,
    ) -> Tensor:  # (K, nnz) -> (K, groups): sum over a row, averaged over the rows of its group
        return x.new_zeros(len(x), num_groups).index_add_(1, group, x) / rows_in_group

    area = total(share * support)
    if mode == "support":
        return values / area.clamp(min=EPS)[:, group] / (4 * math.pi)
    if mode == "modal":
        directional = torch.tensor(
            [k > 0 for k in range(len(values))] if isotropic is None else [not i for i in isotropic]
        )
        mean = total(values * share) / area.clamp(min=EPS) * directional.to(values)[:, None]
        values = values - mean[:, group] * support
    scale = total(values.abs() * share)
    if mode == "mean":  # over rows, as every latitude counts once in theirs
        scale = ((scale * rows_in_group).sum(1, keepdim=True) / num_rows).expand(-1, num_groups)
    return values / scale.clamp(min=EPS)[:, group] / (4 * math.pi)
