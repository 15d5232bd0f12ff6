r"""Generalised divisive normalisation, of image compression: each channel divided by the strength of all.

    z_i = x_i / sqrt(beta_i + sum_j gamma_ij x_j²),     its inverse layer multiplies

beta and gamma are kept as square roots above a small bound, so that they stay positive and can still leave the bound.
Reference: Ballé, Laparra & Simoncelli 2016, arXiv:1511.06281, eq. 3 and section 4.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spheregeo.checks import check_tensor
from spheregeo.coding.bounds import at_least
from spheregeo.nn.statistics import working_dtype

PEDESTAL = 2.0**-36  # what is added under the root: its gradient is then never zero


class GDN(nn.Module):
    """Generalised divisive normalisation, or, ``inverse``, the multiplication that stands in a decoder for it.

    Args:
        channels: of input and output.
        inverse: multiply by the norm instead of dividing by it, as decoders do.
        beta_min: least value of the constant under the root, above 0.
        gamma_init: weight of each channel in its own norm at first.

    Shape: (B, channels, *) -> the same.
    Equivariance: exact for any permutation or rotation of the points (scalar fields).
    Raises: ValueError for channels below 1 or an input with other channels.
    Reference: Ballé et al. 2016, arXiv:1511.06281, eq. 3.

    Example:
        >>> import torch
        >>> from spheregeo.nn import GDN
        >>> GDN(3)(torch.randn(2, 3, 8, 16)).shape
        torch.Size([2, 3, 8, 16])
    """

    def __init__(
        self, channels: int, *, inverse: bool = False, beta_min: float = 1e-6, gamma_init: float = 0.1
    ) -> None:
        super().__init__()
        if not isinstance(channels, int) or channels < 1:
            raise ValueError(f"channels is {channels!r}; expected a positive integer")
        self.channels, self.inverse, self.beta_min = channels, inverse, beta_min
        self.root_beta = nn.Parameter((torch.ones(channels) + PEDESTAL).sqrt())
        self.root_gamma = nn.Parameter((gamma_init * torch.eye(channels) + PEDESTAL).sqrt())

    @property
    def beta(self) -> Tensor:
        """Constants under the root, at least ``beta_min``. Shape: (channels,)."""
        root = self.root_beta.to(working_dtype(self.root_beta))
        return at_least(root, (self.beta_min + PEDESTAL) ** 0.5).square() - PEDESTAL

    @property
    def gamma(self) -> Tensor:
        """Weight of channel j's square in channel i's norm, at least 0. Shape: (channels, channels)."""
        root = self.root_gamma.to(working_dtype(self.root_gamma))
        return at_least(root, PEDESTAL**0.5).square() - PEDESTAL

    def forward(self, x: Tensor) -> Tensor:
        check_tensor(x)
        if x.ndim < 2 or x.shape[1] != self.channels:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (batch, {self.channels}, ...)")
        dtype = working_dtype(x)  # squares and constants leave the range of half precision
        with torch.autocast(x.device.type, enabled=False):
            rows = x.to(dtype).square().movedim(1, -1)  # (B, *, channels)
            norm = nn.functional.linear(rows, self.gamma.to(dtype), self.beta.to(dtype)).movedim(-1, 1)
            return x * (norm.sqrt() if self.inverse else norm.rsqrt()).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.channels}, inverse={self.inverse}"
