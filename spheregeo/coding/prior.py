r"""The factorised prior: every channel has a density of its own, learned through its cumulative function.

    c = sigmoid(f_4 ∘ f_3 ∘ f_2 ∘ f_1),     f_k(u) = g(softplus(H_k) u + b_k),     g(u) = u + tanh(a_k) tanh(u)

which grows from 0 to 1 for whatever weights; f_4 has no g. The probability of a whole number q is c(q + ½) − c(q − ½).
Reference: Ballé, Minnen, Singh, Hwang & Johnston 2018, arXiv 1802.01436, appendix 6.1.
"""

from __future__ import annotations

import copy
import math
import zlib
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spheregeo.checks import check_count
from spheregeo.coding.bounds import at_least
from spheregeo.coding.tables import SCALE, counts_of

LEAST_PROBABILITY = 1e-9  # of a symbol, in estimates: bits stay finite


class FactorizedPrior(nn.Module):
    """Learned density of each channel, independent of place and of the other channels.

    A checkpoint holds the density twice: as weights, and as the table of whole numbers with which files are coded. The table
    is made anew when the weights have changed since, so that a file's reader never depends on its machine's exponential.

    Args:
        channels: of the latent field.
        widths: widths of the hidden layers of the cumulative function.
        spread: range of values, about, that the density covers at first.
        reach: largest magnitude in the tables; values beyond are coded as escapes.

    Shape: ``forward`` maps (B, channels, *) -> bits (B, channels, *).
    Equivariance: exact for every permutation of the points.
    Raises: ValueError for channels below 1 or an input with other channels.
    Reference: Ballé et al. 2018, arXiv 1802.01436, appendix 6.1.

    Example:
        >>> import torch
        >>> from spheregeo.coding import FactorizedPrior
        >>> FactorizedPrior(4)(torch.zeros(2, 4, 12)).shape
        torch.Size([2, 4, 12])
    """

    counts: Tensor
    fingerprint: Tensor

    def __init__(
        self, channels: int, widths: tuple[int, ...] = (3, 3, 3), spread: float = 10.0, reach: int = 64
    ) -> None:
        super().__init__()
        self.channels, self.reach = check_count("channels", channels), check_count("reach", reach)
        sizes = (1, *widths, 1)
        scale = spread ** (1 / (len(sizes) - 1))
        self.matrices, self.offsets, self.factors = (
            nn.ParameterList(),
            nn.ParameterList(),
            nn.ParameterList(),
        )
        for k, (a, b) in enumerate(pairwise(sizes)):
            self.matrices.append(torch.full((channels, b, a), math.log(math.expm1(1 / scale / b))))
            self.offsets.append(torch.empty(channels, b, 1).uniform_(-0.5, 0.5))
            if k < len(sizes) - 2:
                self.factors.append(torch.zeros(channels, b, 1))
        # no table belongs to fingerprint 0, which weights practically never have
        self.register_buffer("counts", torch.zeros(channels, 2 * reach + 2, dtype=torch.int32))
        self.register_buffer("fingerprint", torch.zeros((), dtype=torch.int64))

    def _logits(self, x: Tensor) -> Tensor:
        """Logits of the cumulative functions at x. Shape: (channels, 1, n) -> the same."""
        for k, (matrix, offset) in enumerate(zip(self.matrices, self.offsets, strict=True)):
            x = torch.matmul(nn.functional.softplus(matrix.to(x.dtype)), x) + offset.to(x.dtype)
            if k < len(self.factors):
                x = x + torch.tanh(self.factors[k].to(x.dtype)) * torch.tanh(x)
        return x

    def probability(self, x: Tensor) -> Tensor:
        """Return the probability of the unit interval around each value. Shape: (channels, n) -> the same."""
        lower, upper = self._logits(x[:, None] - 0.5), self._logits(x[:, None] + 0.5)
        # on the side of the median where the sigmoids are small, so that tails keep their digits
        sign = -torch.sign(lower + upper).detach()
        return (torch.sigmoid(sign * upper) - torch.sigmoid(sign * lower)).abs().squeeze(1)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 2 or x.shape[1] != self.channels:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (batch, {self.channels}, ...)")
        with torch.autocast(x.device.type, enabled=False):
            rows = x.float().transpose(0, 1).flatten(1)  # (channels, B *)
            bits = -at_least(self.probability(rows), LEAST_PROBABILITY).log2()
        return bits.unflatten(1, (x.shape[0], *x.shape[2:])).transpose(0, 1)

    # ---- tables

    def _digest(self) -> int:
        parts = [p.detach().cpu().float().contiguous().numpy().tobytes() for p in self.parameters()]
        return zlib.crc32(b"".join(parts)) + 1

    @torch.no_grad()
    def refresh(self) -> bool:
        """Make the table anew if the weights have changed since it was made; return whether it was."""
        digest = self._digest()
        if int(self.fingerprint) == digest:
            return False
        values = torch.arange(-self.reach, self.reach + 1, dtype=torch.float64).expand(self.channels, -1)
        table = copy.deepcopy(self).cpu().probability(values).numpy()  # (channels, 2 reach + 1)
        made = np.stack([counts_of(row, max(0.0, 1 - row.sum())) for row in table])
        self.counts.copy_(torch.from_numpy(made))
        self.fingerprint.fill_(digest)
        return True

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        self.refresh()
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def tables(self) -> list[np.ndarray]:
        """Return the counts of each channel: of -reach ... reach, and of the escape. Shape: (2 reach + 2,) int32 each."""
        self.refresh()
        return list(self.counts.cpu().numpy())

    def extra_repr(self) -> str:
        return f"{self.channels}, reach={self.reach}, counts of {SCALE}"
