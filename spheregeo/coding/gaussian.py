r"""The Gaussian conditional: latents whose scales another, smaller latent field tells.

    p(q | σ) = Φ((q + ½)/σ) − Φ((q − ½)/σ)

In files σ is one of 64 scales, each with a table of whole numbers; in estimates it is any number from the least scale on.
Reference: Ballé, Minnen, Singh, Hwang & Johnston 2018, arXiv 1802.01436.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.special import ndtr
from torch import Tensor, nn

from spheregeo.coding.bounds import at_least
from spheregeo.coding.prior import LEAST_PROBABILITY
from spheregeo.coding.tables import counts_of

LEAST, LARGEST, LEVELS = 0.11, 256.0, 64
REACH = 6.0  # standard deviations that a table covers on each side; values beyond are coded as escapes
FRACTION = 10  # bits after the point of scales in files


def scale_table() -> np.ndarray:
    """Return the scales that files know, from small to large. Shape: (64,)."""
    return np.exp(np.linspace(math.log(LEAST), math.log(LARGEST), LEVELS))


class GaussianConditional(nn.Module):
    """Bits of latents that are Gaussian with given scales, and the tables with which files code them.

    The tables, and the limits between the scales, are whole numbers that a checkpoint keeps.

    Shape: ``forward`` maps latents and scales (B, C, *) -> bits (B, C, *).
    Equivariance: exact for every permutation of the points.
    Reference: Ballé et al. 2018, arXiv 1802.01436.

    Example:
        >>> import torch
        >>> from spheregeo.coding import GaussianConditional
        >>> bits = GaussianConditional()(torch.zeros(1, 1, 3), torch.tensor([[[0.11, 1.0, 10.0]]]))
        >>> [round(b, 2) for b in bits.flatten().tolist()]
        [0.0, 1.38, 4.65]
    """

    counts: Tensor
    limits: Tensor

    def __init__(self) -> None:
        super().__init__()
        scales = scale_table()
        self.lengths = [math.ceil(REACH * s) + 2 for s in scales]  # of 0, 1, 2 ... and the escape
        rows = []
        for scale, length in zip(scales, self.lengths, strict=True):
            q = np.arange(length - 1, dtype=np.float64)
            rows.append(
                counts_of(
                    ndtr((0.5 - q) / scale) - ndtr((-0.5 - q) / scale), 2 * ndtr((0.5 - length + 1) / scale)
                )
            )
        self.register_buffer("counts", torch.from_numpy(np.concatenate(rows)))
        between = np.sqrt(scales[1:] * scales[:-1]) * 2**FRACTION
        self.register_buffer("limits", torch.from_numpy(np.rint(between).astype(np.int32)))

    def forward(self, y: Tensor, scales: Tensor) -> Tensor:
        with torch.autocast(y.device.type, enabled=False):
            size, spread = y.float().abs(), at_least(scales.float(), LEAST)
            near, far = ((half - size) / spread for half in (0.5, -0.5))
            probability = torch.special.ndtr(near) - torch.special.ndtr(far)
            return -at_least(probability, LEAST_PROBABILITY).log2()

    def indices(self, scales: Tensor) -> Tensor:
        """Return the number of the nearest scale, by ratio, that files know. Shape: (*) -> the same, int64.

        Exact for scales that are multiples of 2^-10, so that writer and reader agree if they agree on the scales.
        """
        steps = torch.floor(scales.double() * 2**FRACTION).clamp(0, 2**30).long()
        return torch.bucketize(steps, self.limits.long(), right=True)

    def tables(self) -> list[np.ndarray]:
        """Return the counts of each scale: of -n ... n and of the escape. Shape: (2 n + 2,) int32 each."""
        halves = np.split(self.counts.cpu().numpy(), np.cumsum(self.lengths)[:-1])
        return [np.concatenate([half[1:-1][::-1], half]) for half in halves]
