"""torch-harmonics' DISCO layers read and written: grids, basis, cutoff and normalisation found from the module itself.

A `DiscreteContinuousConvS2` (torch-harmonics 0.9.3) keeps its sizes, basis and cutoff but neither the names of its
grids nor its `basis_norm_mode`. Both are recovered from its coefficients: of the few combinations there are, the one
whose coefficients are the module's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.grids import Equiangular, GaussLegendre
from spheregeo.grids.latlon import LatLon
from spheregeo.kernels import (
    NORMALIZATIONS,
    Kernel,
    from_torch_harmonics,
    radius_from_torch_harmonics,
    weight_from_torch_harmonics,
    weight_to_torch_harmonics,
)
from spheregeo.nn.coefficients import coefficients

GRIDS = ("equiangular", "legendre-gauss")
AGREEMENT = 0.02  # relative L2 error: theirs leaves rows near the south pole to rounding; wrong guesses differ far more

_BASES = {
    "PiecewiseLinearFilterBasis": "piecewise linear",
    "HarmonicFilterBasis": "harmonic",
    "ZernikeFilterBasis": "zernike",
    "FourierBesselFilterBasis": "fourier-bessel",
}


def layer_arguments(
    module: nn.Module,
    transposed: bool,
    grid_in: str | None = None,
    grid_out: str | None = None,
    basis_norm_mode: str | None = None,
) -> dict[str, Any]:
    """Constructor arguments of our layer that computes what `module` does; names of theirs narrow the search.

    Raises: ValueError for another kind of module, or where no grids and mode that we know give its coefficients.
    """
    _check_module(module, transposed)
    basis, shape = _basis(module)
    kernel, _ = from_torch_harmonics(basis, shape)
    cutoff: float = module.theta_cutoff  # type: ignore[assignment]
    radius = min(radius_from_torch_harmonics(float(cutoff)), math.pi)
    best, found = math.inf, None
    for source, target, mode in _candidates(module, grid_in, grid_out, basis_norm_mode):
        error = _disagreement(module, source, target, kernel, radius, mode, transposed)
        if error < best:
            best, found = error, (source, target, mode)
    if found is None or best > AGREEMENT:
        raise ValueError(
            f"module has coefficients that differ by {best:.2g} (relative) from those of every combination of "
            f"grids {_names(grid_in, GRIDS)} -> {_names(grid_out, GRIDS)} and basis_norm_mode "
            f"{_names(basis_norm_mode, NORMALIZATIONS)}; expected one of them to agree. Lobatto and trapezoidal "
            "grids are not supported: train on equiangular or legendre-gauss"
        )
    source, target, mode = found
    out_channels, per_group, _ = module.weight.shape  # type: ignore[misc, union-attr]
    groups: int = module.groups  # type: ignore[assignment]
    return {
        "in_channels": per_group * groups,
        "out_channels": out_channels,
        "source": source,
        "target": target,
        "kernel": kernel,
        "radius": radius,
        "groups": groups,
        "bias": module.bias is not None,
        "normalization": mode,
    }


def weights_of(module: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Weight (out, in / groups, K) in our order, and bias, of a torch-harmonics layer."""
    bias: Tensor | None = module.bias  # type: ignore[assignment]
    weight: Tensor = module.weight  # type: ignore[assignment]
    return weight_from_torch_harmonics(
        weight.detach(), *_basis(module)
    ), None if bias is None else bias.detach()


def write_weights(module: nn.Module, weight: Tensor, bias: Tensor | None, transposed: bool) -> None:
    """Put our weight and bias into a torch-harmonics layer of the same sizes.

    Raises: ValueError where the sizes differ or only one of the two has a bias.
    """
    _check_module(module, transposed)
    theirs: Tensor = module.weight  # type: ignore[assignment]
    their_bias: Tensor | None = module.bias  # type: ignore[assignment]
    if theirs.shape != weight.shape or (their_bias is None) != (bias is None):
        raise ValueError(
            f"module has weight {tuple(theirs.shape)} and bias {their_bias is not None}, this layer "
            f"{tuple(weight.shape)} and {bias is not None}; expected the same sizes and groups"
        )
    with torch.no_grad():
        theirs.copy_(weight_to_torch_harmonics(weight, *_basis(module)))
        if their_bias is not None and bias is not None:
            their_bias.copy_(bias)


def _check_module(module: nn.Module, transposed: bool) -> None:
    expected = "DiscreteContinuousConvTransposeS2" if transposed else "DiscreteContinuousConvS2"
    names = {kind.__name__ for kind in type(module).__mro__}
    if expected not in names or not hasattr(module, "psi_vals"):
        raise ValueError(f"module is a {type(module).__name__}; expected torch-harmonics' {expected}")


def _basis(module: nn.Module) -> tuple[str, int | tuple[int, ...]]:
    """torch-harmonics' name of the module's basis and its shape."""
    basis: Any = module.filter_basis
    name = type(basis).__name__
    if name not in _BASES:
        raise ValueError(f"module has the basis {name}; expected one of {', '.join(_BASES)}")
    # The deprecated "morlet" is the harmonic basis without its norms.
    kind = "morlet" if name == "HarmonicFilterBasis" and basis._l2_norms is None else _BASES[name]
    shape: Any = module.kernel_shape
    return kind, shape if isinstance(shape, int) else tuple(shape)


def _grid(name: str, nlat: int, nlon: int) -> LatLon:
    if name not in GRIDS:
        raise ValueError(f"grid is {name!r}; expected one of {', '.join(map(repr, GRIDS))}")
    return Equiangular(nlat, nlon, poles=True) if name == "equiangular" else GaussLegendre(nlat, nlon)


def _candidates(
    module: Any, grid_in: str | None, grid_out: str | None, mode: str | None
) -> Iterator[tuple[LatLon, LatLon, str]]:
    """Pairs of grids and modes, the likeliest first."""
    if mode is not None and mode not in NORMALIZATIONS:
        raise ValueError(f"basis_norm_mode is {mode!r}; expected one of {', '.join(NORMALIZATIONS)}")
    modes = ("nodal", "modal", "mean", "support", "geometric", "none") if mode is None else (mode,)
    names_in = GRIDS if grid_in is None else (grid_in,)
    names_out = GRIDS if grid_out is None else (grid_out,)
    for name_in, name_out in sorted(
        ((a, b) for a in names_in for b in names_out), key=lambda n: n[0] != n[1]
    ):
        source = _grid(name_in, module.nlat_in, module.nlon_in)
        target = _grid(name_out, module.nlat_out, module.nlon_out)
        for each in modes:
            yield source, target, each


def _disagreement(
    module: Any, source: LatLon, target: LatLon, kernel: Kernel, radius: float, mode: str, transposed: bool
) -> float:
    """Relative L2 difference between our coefficients and the module's, at the first longitude of each row.

    Pole rows are left out: in theirs the angles of coincident points, and sums over angular hats, are rounding there.
    """
    found, values = coefficients(source, target, kernel, radius, None, mode, transposed)
    centres, points = (source, target) if transposed else (target, source)
    row = found.representatives // centres.nlon
    inner = torch.sin(centres.colatitudes) > 1e-9
    first = (found.representatives % centres.nlon == 0) & inner[row]
    kept = first[found.neighborhood.rows]
    index = torch.stack([row[found.neighborhood.rows], found.neighborhood.indices])[:, kept]
    size = (len(values), centres.nlat, points.num_points)
    k = torch.arange(len(values)).repeat_interleave(index.shape[1])
    ours = torch.sparse_coo_tensor(
        torch.cat([k[None], index.repeat(1, len(values))]),
        values[:, kept].flatten(),
        size,
        check_invariants=True,
    )
    index, psi = module.psi_idx.cpu(), module.psi_vals.detach().cpu().double()
    psi = psi * inner[index[1]]
    theirs = torch.sparse_coo_tensor(index, psi, size, check_invariants=True)
    difference = (ours - theirs).coalesce().values().norm()
    return float(difference / theirs.coalesce().values().norm())


def _names(name: str | None, all_names: tuple[str, ...]) -> str:
    return repr(name) if name is not None else "/".join(all_names)
