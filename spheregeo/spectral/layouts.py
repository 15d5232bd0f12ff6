r"""Coefficients in the layouts of healpy, torch-harmonics, s2fft, pyshtools and e3nn, exactly and differentiably.

Between real coefficients c and those of complex harmonics with Condon–Shortley phase, f = Σ a_lm Y_lm over both signs of m:

    a_lm = (−1)^m (c_{l,m} − i c_{l,−m})/√2,   a_{l,−m} = (c_{l,m} + i c_{l,−m})/√2   for m > 0,   a_l0 = c_l0.

``lmax`` is inclusive here, in healpy and in pyshtools, and exclusive in torch-harmonics and s2fft. Tensors come out, of which
``.numpy()`` makes arrays, and arrays go in as they are. Tangent fields have two rows of coefficients, gradient and curl.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spheregeo.grids.cache import geometry
from spheregeo.spectral.operators import roots
from spheregeo.spectral.rotation import rotate_coefficients

__all__ = [
    "from_e3nn",
    "from_healpy",
    "from_healpy_spin",
    "from_pyshtools",
    "from_s2fft",
    "from_torch_harmonics",
    "from_torch_harmonics_vector",
    "to_e3nn",
    "to_healpy",
    "to_healpy_spin",
    "to_pyshtools",
    "to_s2fft",
    "to_torch_harmonics",
    "to_torch_harmonics_vector",
]

CYCLE = ((0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0))  # (x, y, z) to (y, z, x)


def to_healpy(coefficients: Tensor) -> Tensor:
    """healpy's ``alm`` of real fields: complex, m ≥ 0, sorted by m and then by l.

    Shape: (..., (lmax + 1)²) -> (..., (lmax + 1)(lmax + 2)/2). Raises: ValueError for another size.

    Example:
        >>> import torch
        >>> from spheregeo.spectral import layouts
        >>> layouts.to_healpy(torch.randn(3, 25)).shape
        torch.Size([3, 15])
    """
    lmax = _lmax(coefficients)
    return _complex(coefficients, *_pairs("healpy", lmax, coefficients.device))


def from_healpy(alm: Any) -> Tensor:
    """Real coefficients of healpy's ``alm``. Shape: (..., (lmax + 1)(lmax + 2)/2) -> (..., (lmax + 1)²).

    Raises: ValueError for a size that no lmax has (an ``alm`` with mmax < lmax is padded by healpy's ``resize_alm`` first).
    """
    alm = torch.as_tensor(alm)
    size = alm.shape[-1] if alm.ndim else 0
    lmax = (math.isqrt(8 * size + 1) - 3) // 2
    if size < 1 or (lmax + 1) * (lmax + 2) // 2 != size:
        raise ValueError(f"alm has shape {tuple(alm.shape)}; expected (..., (lmax + 1)(lmax + 2)/2)")
    return _real(alm, *_pairs("healpy", lmax, alm.device), (lmax + 1) ** 2)


def to_healpy_spin(coefficients: Tensor) -> Tensor:
    """healpy's E and B of tangent fields: E is the gradient, B minus the curl.

    For the pair (f1, f2) that ``healpy.alm2map_spin`` makes of them, as components along south and east.

    Shape: (..., 2, (lmax + 1)²) -> (..., 2, (lmax + 1)(lmax + 2)/2). Raises: ValueError for another shape.
    """
    return to_healpy(_pair(coefficients) * _signs(coefficients))


def from_healpy_spin(alm: Any) -> Tensor:
    """Gradient and curl coefficients of healpy's E and B. Shape: (..., 2, size) -> (..., 2, (lmax + 1)²)."""
    coefficients = from_healpy(torch.as_tensor(alm))
    return _pair(coefficients) * _signs(coefficients)


def to_torch_harmonics(coefficients: Tensor, csphase: bool = True) -> Tensor:
    """The array of torch-harmonics' ``RealSHT`` with ``norm="ortho"``: complex, entry (l, m), zero for m > l.

    Args:
        coefficients: of real fields.
        csphase: whether its harmonics have the Condon–Shortley phase, as there by default.

    Shape: (..., (lmax + 1)²) -> (..., lmax + 1, lmax + 1): its ``lmax`` and ``mmax``, exclusive, are lmax + 1.
    Raises: ValueError for another size.
    """
    lmax = _lmax(coefficients)
    degree, order = _pairs("triangle", lmax, coefficients.device)
    values = _complex(coefficients, degree, order, csphase)
    out = values.new_zeros(*values.shape[:-1], (lmax + 1) ** 2)
    return out.index_copy(-1, degree * (lmax + 1) + order, values).unflatten(-1, (lmax + 1, lmax + 1))


def from_torch_harmonics(array: Any, csphase: bool = True) -> Tensor:
    """Real coefficients of a torch-harmonics array; orders that an ``mmax`` below ``lmax`` leaves out are zero.

    Shape: (..., lmax + 1, mmax) -> (..., (lmax + 1)²). Raises: ValueError for mmax > lmax + 1, its exclusive lmax.
    """
    array = torch.as_tensor(array)
    if array.ndim < 2 or array.shape[-1] > array.shape[-2] or not array.shape[-1]:
        raise ValueError(
            f"array has shape {tuple(array.shape)}; expected (..., lmax, mmax) with mmax <= lmax"
        )
    side, orders = array.shape[-2:]
    degree, order = _pairs("triangle", side - 1, array.device)
    here = order < orders
    degree, order = degree[here], order[here]
    return _real(array.flatten(-2)[..., degree * orders + order], degree, order, side * side, csphase)


def to_torch_harmonics_vector(coefficients: Tensor, csphase: bool = True) -> Tensor:
    """The array (s, t) of torch-harmonics' ``RealVectorSHT``: coefficients of potentials, gradient and curl over √(l(l + 1)).

    Shape: (..., 2, (lmax + 1)²) -> (..., 2, lmax + 1, lmax + 1). Raises: ValueError for another shape.
    """
    root = roots(_lmax(_pair(coefficients)), coefficients)
    return to_torch_harmonics(torch.where(root > 0, coefficients / root.clamp(min=1), 0), csphase)


def from_torch_harmonics_vector(array: Any, csphase: bool = True) -> Tensor:
    """Gradient and curl coefficients of torch-harmonics' (s, t). Shape: (..., 2, lmax + 1, mmax) -> (..., 2, (lmax + 1)²)."""
    coefficients = _pair(from_torch_harmonics(array, csphase))
    return coefficients * roots(_lmax(coefficients), coefficients)


def to_s2fft(coefficients: Tensor) -> Tensor:
    """s2fft's ``flm``: complex, entry (l, L − 1 + m), both signs of m, of real or complex fields. L is lmax + 1.

    Shape: (..., (lmax + 1)²) -> (..., lmax + 1, 2 lmax + 1). Raises: ValueError for another size.
    """
    lmax = _lmax(coefficients)
    degree, order = _pairs("triangle", lmax, coefficients.device)
    centre = degree * (2 * lmax + 1) + lmax
    plus, minus = _both(coefficients, degree, order)
    out = plus.new_zeros(*plus.shape[:-1], (lmax + 1) * (2 * lmax + 1))
    out = out.index_copy(-1, centre - order, minus).index_copy(-1, centre + order, plus)
    return out.unflatten(-1, (lmax + 1, 2 * lmax + 1))


def from_s2fft(flm: Any, real: bool = True) -> Tensor:
    """Coefficients of s2fft's ``flm``, real for real fields and complex otherwise.

    Args:
        flm: s2fft's array of a scalar field.
        real: whether the field is real; what contradicts it is dropped.

    Shape: (..., L, 2L − 1) -> (..., L²). Raises: ValueError for another shape.
    """
    flm = torch.as_tensor(flm)
    if flm.ndim < 2 or flm.shape[-1] != 2 * flm.shape[-2] - 1:
        raise ValueError(f"flm has shape {tuple(flm.shape)}; expected (..., L, 2L - 1)")
    side = flm.shape[-2]
    degree, order = _pairs("triangle", side - 1, flm.device)
    centre = degree * (2 * side - 1) + side - 1
    flat = flm.flatten(-2)
    plus, minus = flat[..., centre + order] * _phase(order), flat[..., centre - order]
    zero = order == 0
    cosine = torch.where(zero, minus, (plus + minus) * math.sqrt(0.5))
    sine = torch.where(zero, minus, 1j * (plus - minus) * math.sqrt(0.5))
    if real:
        cosine, sine = cosine.real, sine.real
    return _placed(cosine, sine, degree, order, side * side)


def to_pyshtools(coefficients: Tensor, normalization: str = "4pi", csphase: int = 1) -> Tensor:
    """pyshtools' array ``cilm`` of real fields: cosines [0, l, m] and sines [1, l, m].

    Args:
        coefficients: of real fields.
        normalization: "4pi" (of geodesy, pyshtools' default), "ortho", "schmidt" or "unnorm", as there.
        csphase: 1 for harmonics without Condon–Shortley phase, −1 for those with it, as there.

    Shape: (..., (lmax + 1)²) -> (..., 2, lmax + 1, lmax + 1). Raises: ValueError for other values or another size.
    """
    lmax = _lmax(coefficients)
    degree, order = _pairs("triangle", lmax, coefficients.device)
    scale = _pyshtools_scale(normalization, csphase, lmax, coefficients)
    centre = degree * (degree + 1)
    sines = coefficients[..., centre - order] * (order > 0)
    values = torch.stack([coefficients[..., centre + order], sines], -2) * scale
    out = values.new_zeros(*values.shape[:-1], (lmax + 1) ** 2)
    return out.index_copy(-1, degree * (lmax + 1) + order, values).unflatten(-1, (lmax + 1, lmax + 1))


def from_pyshtools(cilm: Any, normalization: str = "4pi", csphase: int = 1) -> Tensor:
    """Real coefficients of pyshtools' ``cilm``; arguments as :func:`to_pyshtools`. Shape: (..., 2, L, L) -> (..., L²)."""
    cilm = torch.as_tensor(cilm)
    if cilm.ndim < 3 or cilm.shape[-3] != 2 or cilm.shape[-1] != cilm.shape[-2] or not cilm.shape[-1]:
        raise ValueError(f"cilm has shape {tuple(cilm.shape)}; expected (..., 2, lmax + 1, lmax + 1)")
    side = cilm.shape[-1]
    degree, order = _pairs("triangle", side - 1, cilm.device)
    scale = _pyshtools_scale(normalization, csphase, side - 1, cilm)
    cosine, sine = (cilm.flatten(-2)[..., degree * side + order] / scale).unbind(-2)
    return _placed(cosine, sine, degree, order, side * side)


def to_e3nn(coefficients: Tensor) -> Tensor:
    """Coefficients of the same field in e3nn's harmonics of normalisation "integral", whose polar axis is y.

    Shape: (..., (lmax + 1)²) -> the same: features of ``o3.Irreps.spherical_harmonics(lmax)``, parities aside.
    Raises: ValueError for another size.
    Reference: :func:`~spheregeo.harmonics.from_z_polar` gives the same for any irreps to degree 60.
    """
    return rotate_coefficients(coefficients, torch.tensor(CYCLE, dtype=torch.float64).T)


def from_e3nn(coefficients: Tensor) -> Tensor:
    """The inverse of :func:`to_e3nn`. Shape: (..., (lmax + 1)²) -> the same."""
    return rotate_coefficients(coefficients, torch.tensor(CYCLE, dtype=torch.float64))


def _lmax(coefficients: Tensor) -> int:
    size = coefficients.shape[-1] if isinstance(coefficients, Tensor) and coefficients.ndim else 0
    lmax = math.isqrt(size) - 1
    if size < 1 or (lmax + 1) ** 2 != size:
        got = (
            f"shape {tuple(coefficients.shape)}"
            if isinstance(coefficients, Tensor)
            else f"type {type(coefficients)}"
        )
        raise ValueError(f"coefficients has {got}; expected a tensor (..., (lmax + 1)²)")
    return lmax


def _pair(coefficients: Tensor) -> Tensor:
    if coefficients.ndim < 2 or coefficients.shape[-2] != 2:
        raise ValueError(
            f"coefficients has shape {tuple(coefficients.shape)}; expected (..., 2, (lmax + 1)²), gradient and curl"
        )
    return coefficients


def _signs(like: Tensor) -> Tensor:
    return like.new_tensor([[1.0], [-1.0]])


def _pairs(order: str, lmax: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Degrees and orders 0 ≤ m ≤ l, sorted by m first ("healpy") or by l first ("triangle")."""

    def compute() -> tuple[Tensor, Tensor]:
        row, column = np.tril_indices(lmax + 1)
        if order == "healpy":
            by_order = np.lexsort((row, column))
            row, column = row[by_order], column[by_order]
        return torch.from_numpy(row).to(device), torch.from_numpy(column).to(device)

    return geometry.get(("coefficients", order, lmax, device), compute)


def _phase(order: Tensor) -> Tensor:
    return 1 - 2 * (order % 2)


def _both(c: Tensor, degree: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    """a_lm and a_{l,−m} for m ≥ 0."""
    centre = degree * (degree + 1)
    cosine, sine = c[..., centre + order] + 0j, c[..., centre - order] + 0j
    zero = order == 0
    plus = torch.where(zero, cosine, _phase(order) * (cosine - 1j * sine) * math.sqrt(0.5))
    return plus, torch.where(zero, cosine, (cosine + 1j * sine) * math.sqrt(0.5))


def _complex(c: Tensor, degree: Tensor, order: Tensor, csphase: bool = True) -> Tensor:
    """a_lm of real fields, m ≥ 0."""
    if c.is_complex():
        raise ValueError("coefficients are complex; expected those of real fields, for only m >= 0 is kept")
    plus = _both(c, degree, order)[0]
    return plus if csphase else plus * _phase(order)


def _real(a: Tensor, degree: Tensor, order: Tensor, size: int, csphase: bool = True) -> Tensor:
    """Real coefficients from a_lm, m ≥ 0; zero where none are given. Real numbers are complex ones without imaginary part."""
    a = a + 0j
    scale = 1 + (math.sqrt(2) - 1) * (order > 0).to(a.real)
    scale = scale * _phase(order) if csphase else scale
    return _placed(a.real * scale, -a.imag * scale, degree, order, size)


def _placed(cosine: Tensor, sine: Tensor, degree: Tensor, order: Tensor, size: int) -> Tensor:
    centre = degree * (degree + 1)
    out = cosine.new_zeros(*cosine.shape[:-1], size)
    return out.index_copy(-1, centre - order, sine).index_copy(
        -1, centre + order, cosine
    )  # cosines last: m = 0


def _pyshtools_scale(normalization: str, csphase: int, lmax: int, like: Tensor) -> Tensor:
    """Factors from orthonormal coefficients to those of another normalisation, (l, m) as in the triangle."""
    if csphase not in (1, -1):
        raise ValueError(f"csphase is {csphase!r}; expected 1 or -1")
    degree, order = _pairs("triangle", lmax, torch.device("cpu"))
    degree = degree.to(torch.float64)
    if normalization == "4pi":
        scale = torch.full_like(degree, math.sqrt(0.25 / math.pi))
    elif normalization == "ortho":
        scale = torch.ones_like(degree)
    elif normalization == "schmidt":
        scale = ((2 * degree + 1) / (4 * math.pi)).sqrt()
    elif normalization == "unnorm":
        ratio = torch.lgamma(degree - order + 1) - torch.lgamma(degree + order + 1)
        double = torch.where(order > 0, 2.0, 1.0)
        scale = ((2 * degree + 1) * double / (4 * math.pi)).sqrt() * (ratio / 2).exp()
    else:
        raise ValueError(
            f"normalization is {normalization!r}; expected '4pi', 'ortho', 'schmidt' or 'unnorm'"
        )
    scale = scale.to(like)
    if not bool((scale.abs() >= torch.finfo(scale.dtype).tiny).all()):
        raise ValueError(
            f"normalization is 'unnorm' with lmax {lmax}, whose factors {scale.dtype} cannot hold; expected a smaller lmax"
        )
    return scale * _phase(order).to(scale) if csphase == -1 else scale
