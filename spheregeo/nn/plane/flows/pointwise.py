r"""Layers of a flow that act at single pixels: a scale for each field, an invertible mix of fields, the logit.

The mix is a 1x1 group convolution, W[o, u, c, s] = w[o, c, u⁻¹s]. Fourier transforms on the group bring it into blocks, so that

    log|det| = H W Σ_ρ d_ρ log|det Σ_g w[:, :, g] ⊗ ρ(g)|.

Reference: Kingma & Dhariwal 2018, arXiv 1807.03039; Bose, Brubaker & Kobyzev 2021, arXiv 2110.08649.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spheregeo.groups import PlanarGroup, PlanarType, irreps
from spheregeo.nn.parallel import is_synchronized, sum_over_processes
from spheregeo.nn.plane.flows.layer import FlowLayer, field_of_channel


class GroupActNorm(FlowLayer):
    """A learned scale and shift for each field, drawn at first from a batch so that outputs have mean 0 and variance 1.

    Args:
        field_type: fields that come in, such as ``"4xC4"``.
        group: the group, where all fields are trivial.

    Shape: (B, dim, H, W) -> the same and log|det| (B,).
    Equivariance: the group of the fields, exact.
    Raises: ValueError for input of another type.
    Reference: Kingma & Dhariwal 2018, arXiv 1807.03039.

    Example:
        >>> z, logdet = GroupActNorm("4xC4")(torch.randn(2, 16, 5, 5))
        >>> logdet.shape
        torch.Size([2])
    """

    field: Tensor
    ready: Tensor

    def __init__(self, field_type: str | PlanarType, group: str | PlanarGroup | None = None) -> None:
        super().__init__(field_type, group)
        self.register_buffer("field", field_of_channel(self.field_type), persistent=False)
        self.register_buffer("ready", torch.zeros((), dtype=torch.bool))
        self.log_scale = nn.Parameter(torch.zeros(self.field_type.num_fields))
        self.shift = nn.Parameter(torch.zeros(self.field_type.num_fields))

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Draw scale and shift from a batch; the first batch in training mode that is not empty does so by itself.

        In a training with several processes the batch is that of all of them.

        Args:
            x: a batch of features.
        """
        rows = self.checked(x).transpose(0, 1).flatten(1).to(self.log_scale)
        sums = torch.stack([rows.new_full((len(rows),), rows.shape[1]), rows.sum(1), rows.square().sum(1)])
        total = sums.new_zeros(3, len(self.shift)).index_add_(1, self.field, sums)
        if is_synchronized(self):
            total = sum_over_processes(total)
        count, mean, square = total
        if not bool(count[0]):
            return
        mean, square = mean / count, square / count
        self.log_scale.copy_(-0.5 * (square - mean.square()).clamp_min(1e-6).log())
        self.shift.copy_(-mean)
        self.ready.fill_(True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.checked(x)
        if self.training and not bool(self.ready):
            self.initialize(x)
        scale, shift = self._constants(x)
        logdet = scale.sum() * x.shape[2] * x.shape[3]
        return (x + shift[:, None, None]) * scale.exp()[:, None, None], logdet.expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        scale, shift = self._constants(self.checked(z, "z"))
        return z * (-scale).exp()[:, None, None] - shift[:, None, None]

    def _constants(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.log_scale[self.field].to(x.dtype), self.shift[self.field].to(x.dtype)


class GroupMix(FlowLayer):
    """Invertible mix of fields and orientations at each pixel, a 1x1 group convolution, with its exact log-determinant.

    Args:
        field_type: fields of one kind, regular such as ``"4xC4"`` or trivial.
        group: the group, where all fields are trivial.

    Shape: (B, dim, H, W) -> the same and log|det| (B,).
    Equivariance: the group of the fields, exact (1e-15 measured in float64).
    Raises: ValueError for fields of several kinds or quotient fields.
    Reference: Kingma & Dhariwal 2018, arXiv 1807.03039; Bose, Brubaker & Kobyzev 2021, arXiv 2110.08649.

    Example:
        >>> mix = GroupMix("4xC4").double()
        >>> x = torch.randn(2, 16, 5, 5, dtype=torch.float64)
        >>> bool(torch.allclose(mix.inverse(mix(x)[0]), x))
        True
    """

    relative: Tensor

    def __init__(self, field_type: str | PlanarType, group: str | PlanarGroup | None = None) -> None:
        super().__init__(field_type, group)
        kinds = {sub for _, sub in self.field_type.terms}
        if kinds not in ({None}, {"C1"}):
            raise ValueError(
                f"field_type is '{self.field_type}'; expected regular fields alone, or trivial fields alone"
            )
        acting = self.group if kinds == {"C1"} else PlanarGroup.of("C1")
        self.register_buffer("relative", acting.relative, persistent=False)
        self.blocks = [rho.shape[1] for rho in irreps(str(acting))]
        for k, rho in enumerate(irreps(str(acting))):
            self.register_buffer(f"rho{k}", torch.view_as_real(rho), persistent=False)
        fields = self.field_type.num_fields
        self.weight = nn.Parameter(torch.empty(fields, fields, acting.size))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """A random rotation of the fields, which leaves orientations apart."""
        self.weight.zero_()
        self.weight[:, :, 0] = torch.linalg.qr(torch.randn(self.weight.shape[:2], dtype=torch.float64))[0]

    def matrix(self) -> Tensor:
        """Return the mix as a matrix of channels. Shape: (dim, dim)."""
        return self.weight[:, :, self.relative].transpose(1, 2).flatten(2).flatten(0, 1)

    def log_determinant(self) -> Tensor:
        """Return log|det| of the matrix from its blocks by representation. Shape: -> ()."""
        total = self.weight.new_zeros((), dtype=torch.float64)
        weight = self.weight.double().to(torch.complex128)
        for k, width in enumerate(self.blocks):
            rho = torch.view_as_complex(self.get_buffer(f"rho{k}").double().contiguous())
            block = torch.einsum("ocg,gij->oicj", weight, rho).flatten(2).flatten(0, 1)
            total = total + width * torch.linalg.slogdet(block)[1]
        return total

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.checked(x)
        z = F.conv2d(x, self.matrix().to(x.dtype)[:, :, None, None])
        logdet = self.log_determinant().to(x.dtype) * (x.shape[2] * x.shape[3])
        return z, logdet.expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        back = torch.linalg.inv(self.matrix().double()).to(z.dtype)
        return F.conv2d(self.checked(z, "z"), back[:, :, None, None])


class Logit(FlowLayer):
    """The logit of pixels in [0, 1], drawn in a little so that it stays finite: log(p/(1 − p)), p = margin + (1 − 2 margin) x.

    Args:
        field_type: trivial fields, such as ``"1x0"``.
        group: the group.
        margin: distance of p from 0 and 1.

    Shape: (B, dim, H, W) -> the same and log|det| (B,).
    Equivariance: any group that permutes pixels and channels, exact.
    Raises: ValueError for a margin outside (0, ½) and for input of another type.
    Reference: Dinh, Sohl-Dickstein & Bengio 2017, arXiv 1605.08803.

    Example:
        >>> logit = Logit("1x0", "C4")
        >>> x = torch.rand(2, 1, 4, 4)
        >>> bool(torch.allclose(logit.inverse(logit(x)[0]), x, atol=1e-5))
        True
    """

    def __init__(
        self, field_type: str | PlanarType, group: str | PlanarGroup | None = None, margin: float = 0.05
    ) -> None:
        super().__init__(field_type, group)
        if not 0 < margin < 0.5:
            raise ValueError(f"margin is {margin}; expected a number between 0 and 0.5")
        self.margin = margin

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        p = self.margin + (1 - 2 * self.margin) * self.checked(x)
        slope = math.log(1 - 2 * self.margin) - p.log() - (-p).log1p()
        return p.log() - (-p).log1p(), slope.flatten(1).sum(1)

    def inverse(self, z: Tensor) -> Tensor:
        return (self.checked(z, "z").sigmoid() - self.margin) / (1 - 2 * self.margin)
