r"""Convolution on SE(3) and the steerable convolution are one map: converters of their weights, both ways.

A feature on SE(3), F(x, R) = sum_lmn F^l_mn(x) D^l_mn(R), is an irreps feature with 2l+1 copies n of each l: rotations from the
left act on m alone, so n is an ordinary channel. The correlation

    out(x, R) = sum_x' int dR' F(x', R') kappa(R^-1 (x' - x), R^-1 R'),
    kappa(v, Q) = sum kappa[m2; k, n1] Y^l2_m2(v) D^l1_kn1(Q),

Haar measure of volume 1, Y in component normalisation and kappa a function of |v|, is a tensor-product convolution

    out^l3_{m3,n3}(x) = sum_x' sum w[n1, n3] C^{l1 l2 l3}_{m1 m2 m3} F^l1_{m1,n1}(x') Y^l2_m2(x' - x),
    w[n1, n3] = (2 l3 + 1)/(2 l1 + 1) sum_{k, m2} C[k, m2, n3] kappa[m2; k, n1],
    kappa[m2; k, n1] = (2 l1 + 1) sum_{l3, n3} C[k, m2, n3] w[n1, n3],

for each l1, l2, one weight for every copy in, copy out and l3 in |l1 - l2| ... l1 + l2: as many numbers on either side.
Reference: Poulenard, Ovsjanikov & Guibas 2022, "Equivalence between SE(3) equivariant networks via steerable kernels and group
convolution", arXiv:2211.15903.
"""

from __future__ import annotations

import torch
from e3nn.o3 import Irreps
from torch import Tensor

from spheregeo.harmonics import clebsch_gordan


def output_degrees(l1: int, l2: int) -> range:
    """Degrees l3 that the product of l1 and l2 has."""
    return range(abs(l1 - l2), l1 + l2 + 1)


def group_irreps(channels: int, lmax: int) -> Irreps:
    """Irreps of C features on SE(3) of degree ≤ lmax at each point: C (2l+1) copies of each l, copy c (2l+1) + n + l.

    Parities are even: SE(3) has no reflections.
    Raises: ValueError for channels below 1 or lmax below 0.
    """
    if channels < 1 or lmax < 0:
        raise ValueError(f"channels is {channels} and lmax {lmax}; expected at least 1 and 0")
    return Irreps([(channels * (2 * l + 1), (l, 1)) for l in range(lmax + 1)])


def path_weights(kernel: Tensor, l1: int, l2: int) -> dict[int, Tensor]:
    """Weights of the paths (l1, l2, l3) of a tensor-product convolution from an SE(3) kernel's coefficients of l1 and l2.

    Shape: (..., 2 l2 + 1, 2 l1 + 1, 2 l1 + 1), axes m2, k, n1 -> {l3: (..., 2 l1 + 1, 2 l3 + 1)}, axes n1, n3. Leading axes, such
    as channels out, channels in and radial functions, are kept.
    Units: products Σ C F Y with ‖C‖ = 1 (``clebsch_gordan``) and component harmonics, without path coefficients.
    Raises: ValueError for a kernel of other degrees.
    Reference: Poulenard, Ovsjanikov & Guibas 2022, arXiv:2211.15903; constants derived here.
    """
    expected = (2 * l2 + 1, 2 * l1 + 1, 2 * l1 + 1)
    if tuple(kernel.shape[-3:]) != expected:
        raise ValueError(
            f"kernel has shape {tuple(kernel.shape)}; expected (..., {', '.join(map(str, expected))})"
        )
    found = {}
    for l3 in output_degrees(l1, l2):
        C = clebsch_gordan(l1, l2, l3).to(kernel)
        found[l3] = (2 * l3 + 1) / (2 * l1 + 1) * torch.einsum("kmp,...mkn->...np", C, kernel)
    return found


def group_kernel(weights: dict[int, Tensor], l1: int, l2: int) -> Tensor:
    """Coefficients of the SE(3) kernel from the weights of the paths (l1, l2, l3); the inverse of :func:`path_weights`.

    Degrees l3 that are left out count as zero weights.

    Shape: {l3: (..., 2 l1 + 1, 2 l3 + 1)}, axes n1, n3 -> (..., 2 l2 + 1, 2 l1 + 1, 2 l1 + 1), axes m2, k, n1.
    Raises: ValueError for no weights, a degree that l1 and l2 do not make, or weights of other shapes.
    """
    if not weights:
        raise ValueError(f"weights is empty; expected some degree of {list(output_degrees(l1, l2))}")
    kernel: Tensor | None = None
    for l3, w in weights.items():
        if l3 not in output_degrees(l1, l2) or tuple(w.shape[-2:]) != (2 * l1 + 1, 2 * l3 + 1):
            raise ValueError(
                f"weights of degree {l3} have shape {tuple(w.shape)}; expected (..., {2 * l1 + 1}, {2 * l3 + 1}) and a degree of "
                f"{list(output_degrees(l1, l2))}"
            )
        part = (2 * l1 + 1) * torch.einsum("kmp,...np->...mkn", clebsch_gordan(l1, l2, l3).to(w), w)
        kernel = part if kernel is None else kernel + part
    assert kernel is not None
    return kernel
