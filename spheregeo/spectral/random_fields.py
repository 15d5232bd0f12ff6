"""Gaussian random fields: coefficients drawn with given power spectra, alone or correlated (T, E, B)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from spheregeo.checks import check_tensor
from spheregeo.spectral.power import degrees

__all__ = ["correlated_coefficients", "random_coefficients"]


def random_coefficients(
    spectrum: Tensor, size: Sequence[int] = (), generator: torch.Generator | None = None
) -> Tensor:
    """Draw coefficients of isotropic Gaussian fields with a power spectrum: independent, of variance C_l.

    Args:
        spectrum: power spectrum C_l, from l = 0.
        size: leading axes of independent draws.
        generator: random stream; torch's own if None.

    Shape: spectrum (lmax + 1,) -> (*size, (lmax + 1)²) of its dtype.
    Units: the square root of the spectrum's.
    Raises: ValueError for a spectrum that is negative or not finite.

    Example:
        >>> import torch
        >>> from spheregeo.spectral import power_spectrum, random_coefficients
        >>> drawn = random_coefficients(torch.tensor([0.0, 0.0, 1.0, 0.5]), (1000,))
        >>> bool((power_spectrum(drawn).mean(0) - torch.tensor([0, 0, 1, 0.5])).abs().max() < 0.1)
        True
    """
    check_tensor(spectrum, "spectrum")
    if (
        spectrum.ndim != 1
        or not len(spectrum)
        or not bool((spectrum >= 0).all())
        or not bool(torch.isfinite(spectrum).all())
    ):
        raise ValueError(
            f"spectrum has shape {tuple(spectrum.shape)} and least value {float(spectrum.min()) if spectrum.numel() else None}; "
            "expected (lmax + 1,), finite and at least 0"
        )
    index = degrees(len(spectrum) - 1)
    drawn = torch.randn(*size, len(index), generator=generator, dtype=spectrum.dtype)
    return drawn.to(spectrum.device) * spectrum.sqrt()[index.to(spectrum.device)]


def correlated_coefficients(
    spectra: Mapping[str, Tensor],
    fields: str = "TEB",
    size: Sequence[int] = (),
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw coefficients of several isotropic Gaussian fields that are correlated degree by degree.

    Args:
        spectra: spectra by the names of two fields, such as TT, EE, BB, TE; those that are not given are 0.
        fields: names of the fields, a letter each.
        size: leading axes of independent draws.
        generator: random stream; torch's own if None.

    Shape: spectra (lmax + 1,) each -> (*size, len(fields), (lmax + 1)²) of their dtype.
    Units: square roots of the spectra's.
    Raises: ValueError for names of other fields, spectra of several lengths, or ones that no fields can have.

    Example:
        >>> import torch
        >>> from spheregeo.spectral import correlated_coefficients
        >>> one = torch.ones(5)
        >>> correlated_coefficients({"TT": one, "EE": one, "TE": 0.5 * one}, "TE").shape
        torch.Size([2, 25])
    """
    lengths = {len(spectrum) for spectrum in spectra.values()}
    if len(lengths) != 1:
        raise ValueError(f"spectra have lengths {sorted(lengths)}; expected one length, lmax + 1")
    first = next(iter(spectra.values()))
    matrix = first.new_zeros(len(first), len(fields), len(fields), dtype=torch.float64)
    for name, spectrum in spectra.items():
        if len(name) != 2 or not set(name) <= set(fields):
            raise ValueError(f"spectra has {name!r}; expected pairs of the fields {fields}")
        i, j = (fields.index(letter) for letter in name)
        matrix[:, i, j] = matrix[:, j, i] = spectrum.double()
    values, vectors = torch.linalg.eigh(matrix)
    largest = values.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    if not bool((values >= -1e-9 * largest).all()):
        bad = int((values < -1e-9 * largest).any(-1).nonzero()[0])
        raise ValueError(
            f"spectra at l = {bad} fit no fields: a cross spectrum is larger than the auto spectra allow"
        )
    root = (vectors * values.clamp_min(0).sqrt()[:, None]) @ vectors.mT  # (lmax + 1, F, F), symmetric
    index = degrees(len(first) - 1).to(first.device)
    drawn = torch.randn(*size, len(fields), len(index), generator=generator, dtype=first.dtype).to(
        first.device
    )
    return torch.einsum("...jk,kij->...ik", drawn, root.to(first.dtype)[index])
