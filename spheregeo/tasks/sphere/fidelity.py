r"""How near decoded images are to the originals, by area: peak signal-to-noise ratios, and Bjøntegaard's difference of rates.

    PSNR = 10 log10(peak² / e²),     e² = sum of w_p e_p² over the points / sum of w_p

On an equirectangular image with w = cos(latitude) the ratio is WS-PSNR, over points spread evenly on the sphere S-PSNR, and on
HEALPix, whose pixels have one area, the plain one.
Reference: WS-PSNR: Sun, Lu & Yu 2017, IEEE Signal Processing Letters 24 (9); S-PSNR: Yu, Lakshman & Girod 2015, ISMAR; rates:
Bjøntegaard 2001, VCEG-M33.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

LEAST_ERROR = 1e-10  # squared, of values in [0, 1]: identical images have 100 dB


def psnr(image: Tensor, truth: Tensor, weights: Tensor | None = None, peak: float = 1.0) -> Tensor:
    """Return the peak signal-to-noise ratio of each image in dB.

    Args:
        image: decoded images.
        truth: originals.
        weights: area of each point; all alike if None.
        peak: largest value that there is.

    Shape: images (B, C, *shape), weights (*shape) -> (B,).
    """
    error = (image.double() - truth.double()).square().mean(1).flatten(1)  # (B, points)
    share = torch.ones_like(error[0]) if weights is None else weights.double().flatten().to(error)
    mean = (error * share).sum(1) / share.sum()
    return 10 * torch.log10(peak**2 / mean.clamp_min(LEAST_ERROR * peak**2))


def ws_weights(height: int, width: int) -> Tensor:
    """Return the weights of WS-PSNR, cos of each row's latitude, in proportion to the pixels' areas. Shape: (height, width)."""
    rows = torch.cos((torch.arange(height, dtype=torch.float64) + 0.5 - height / 2) * torch.pi / height)
    return rows[:, None].expand(height, width)


def bd_rate(
    rates: Sequence[float], scores: Sequence[float], base_rates: Sequence[float], base_scores: Sequence[float]
) -> float:
    """Return Bjøntegaard's difference of rates: by how much a codec's rate differs from a base's at equal scores, on average.

    The logarithm of the rate is a piecewise cubic, monotone function of the score, integrated over the scores that both reach.

    Args:
        rates: of the codec, in any unit, at least two.
        scores: at these rates, such as PSNR in dB.
        base_rates: of the base, in the same unit.
        base_scores: at the base's rates.

    Returns: a share, such as -0.1 for ten per cent less; NaN where the scores have no range in common.
    Raises: ValueError for fewer than two points, lengths that differ, or rates that are not positive.

    Example:
        >>> round(bd_rate([1, 2, 4], [30, 33, 36], [2, 4, 8], [30, 33, 36]), 6)
        -0.5
    """
    from scipy.interpolate import PchipInterpolator

    curves = []
    for r, s in ((rates, scores), (base_rates, base_scores)):
        if len(r) != len(s) or len(r) < 2 or min(r) <= 0:
            raise ValueError(
                f"got {len(r)} rates and {len(s)} scores; expected as many, at least two, rates above 0"
            )
        by_score = sorted(zip(s, r, strict=True))
        kept = [by_score[0]]
        for score, rate in by_score[1:]:
            if score > kept[-1][0]:
                kept.append((score, rate))
        curves.append(kept)
    if any(len(c) < 2 for c in curves):
        return float("nan")
    low, high = max(c[0][0] for c in curves), min(c[-1][0] for c in curves)
    if not low < high:
        return float("nan")
    means = []
    for kept in curves:
        at, rate = np.array(kept, float).T
        means.append(float(PchipInterpolator(at, np.log(rate)).integrate(low, high)) / (high - low))
    return float(np.exp(means[0] - means[1]) - 1)
