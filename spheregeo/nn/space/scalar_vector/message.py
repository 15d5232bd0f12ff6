"""Messages of scalars and vectors along edges, with weights from radial functions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spheregeo.checks import check_least, check_tensor
from spheregeo.nn.dtypes import in_dtype
from spheregeo.nn.space.scalar_vector.packed import check_packed


class ScalarVectorMessage(nn.Module):
    """PaiNN's message: scalars s_i + Σ_j φ_s(s_j) w_s(ij), vectors v_i + Σ_j [v_j φ_v(s_j) w_v(ij) + r̂_ij φ_r(s_j) w_r(ij)].

    One perceptron of a point's scalars gives φ_s, φ_v and φ_r, and one sum over edges takes scalars and vectors together.

    Args:
        channels: scalars of a point, and as many vectors.

    Shape: x (N, 4, C), scalars in x[:, 0] and the components of vectors in x[:, 1:]; weights (E, 3C) of the edges for scalars,
        vectors and directions, which vanish smoothly at the cutoff; directions (E, 3), unit vectors from target to source;
        source and target (E,) int64 -> (N, 4, C).
    Equivariance: O(3) and permutations, exact (relative error 1e-15 measured in float64).
    Raises: ValueError for no channel, or features of another shape.
    Reference: Schütt, Unke & Gastegger 2021, arXiv:2102.03150, equations 7 and 8.

    Example:
        >>> message = ScalarVectorMessage(4)
        >>> source, target = torch.tensor([0, 1]), torch.tensor([1, 0])
        >>> message(torch.randn(2, 4, 4), torch.randn(2, 12), torch.eye(3)[:2], source, target).shape
        torch.Size([2, 4, 4])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        check_least(channels=(channels, 1))
        self.channels = channels
        self.perceptron = nn.Sequential(
            nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, 3 * channels)
        )

    def forward(
        self, x: Tensor, weights: Tensor, directions: Tensor, source: Tensor, target: Tensor
    ) -> Tensor:
        check_packed(x, self.channels)
        check_tensor(weights, "weights")
        factors = in_dtype(self.perceptron, x[:, 0]).index_select(0, source) * weights
        scalars, along, outward = factors.view(-1, 3, self.channels).split(1, 1)  # (E, 1, C) each
        vectors = x[:, 1:].index_select(0, source) * along + directions[:, :, None] * outward
        return x.index_add(0, target, torch.cat([scalars, vectors], 1).to(x.dtype))

    def extra_repr(self) -> str:
        return f"channels={self.channels}"
