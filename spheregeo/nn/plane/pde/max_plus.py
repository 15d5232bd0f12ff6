r"""``MaxPlusConv2d``: a convolution whose sums are maxima and whose products are sums, with a free learned kernel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spheregeo.checks import check_count, check_tensor
from spheregeo.nn.plane.pde.stencil import odd
from spheregeo.sparse import check_engine, max_plus_planes


class MaxPlusConv2d(nn.Module):
    r"""Convolution in the semiring (max, +) or (min, +): y_o(p) = max over c and u of x_c(p + u) + w_oc(u).

    It is max-pooling with a learned structuring function; outside the image nothing is seen. The forward pass keeps one tap for
    each output, two bytes, by which gradients are sent back.

    Args:
        in_channels, out_channels: channels.
        kernel_size: pixels along each side of the window, odd.
        dilation: distance between taps.
        groups: blocks of channels that see one another alone; in_channels for one kernel a channel.
        semiring: "max", or "min" for smallest sums.
        engine: name of an engine, see :func:`spheregeo.sparse.engines`; None picks the fastest.

    Shape: (B, in_channels, H, W) -> (B, out_channels, H, W).
    Equivariance: shifts by pixels, but at the border; kernels are free, so rotations are not kept.
    Raises: ValueError for an even kernel_size, groups that do not divide the channels, an unknown semiring, and other inputs.
    Reference: Ritter & Sussner 1996, "An introduction to morphological neural networks", ICPR.

    Example:
        >>> MaxPlusConv2d(3, 6, 3, groups=3)(torch.randn(1, 3, 9, 9)).shape
        torch.Size([1, 6, 9, 9])
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, *, dilation: int = 1, groups: int = 1,
        semiring: str = "max", engine: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.in_channels, self.out_channels = (
            check_count("in_channels", in_channels),
            check_count("out_channels", out_channels),
        )
        self.kernel_size, self.dilation = odd("kernel_size", kernel_size), check_count("dilation", dilation)
        self.groups = check_count("groups", groups)
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"groups is {groups}; expected a divisor of in_channels {in_channels} and of out_channels {out_channels}"
            )
        if semiring not in ("max", "min"):
            raise ValueError(f"semiring is {semiring!r}; expected 'max' or 'min'")
        self.semiring, self.engine = semiring, check_engine(engine)
        r = self.kernel_size // 2
        steps = [dilation * i for i in range(-r, r + 1)]
        self.shifts = [(0, down, right) for down in steps for right in steps]
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, kernel_size, kernel_size))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw structuring functions between −1 and 0 (0 and 1 for "min")."""
        low = -1.0 if self.semiring == "max" else 0.0
        self.weight.uniform_(low, low + 1)

    def forward(self, x: Tensor) -> Tensor:
        check_tensor(x)
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (B, {self.in_channels}, H, W)")
        kernel = self.weight.flatten(2)[:, :, None]
        return max_plus_planes(
            x[:, :, None], kernel, self.shifts, semiring=self.semiring, engine=self.engine
        )[:, :, 0]

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, dilation={self.dilation}, "
            f"groups={self.groups}, semiring={self.semiring!r}"
        )
