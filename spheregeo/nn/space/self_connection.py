"""A linear map of irreps features whose matrices belong to an atom's element: NequIP's and MACE's self-connection."""

from __future__ import annotations

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from spheregeo.checks import check_least, check_tensor
from spheregeo.nn.irreps.layout import as_irreps, check_features, join_rows, places_of, split_rows
from spheregeo.nn.irreps.stacks import Features, Stacks, check_stacks, terms_of

__all__ = ["SelfConnection"]

MANY_WEIGHTS = (
    1 << 22
)  # weights of all points that are gathered at most; beyond it points are sorted by element


class SelfConnection(nn.Module):
    """Equivariant linear map of features at points, with a matrix for each irrep and each kind of point, such as its element.

    ``weight[z]`` holds the (copies in, copies out) matrices of kind z, one after the other, for each irrep of the output that the
    input has. Irreps that the input lacks come out as zero.

    Args:
        irreps_in: of the input.
        irreps_out: of the output.
        kinds: number of kinds, such as the size of the table of elements.

    Shape: features (N, irreps_in.dim) or stacks of N points, kinds (N,) int64 -> (N, irreps_out.dim), or stacks.
    Equivariance: O(3), exact (relative error 1e-15 measured in float64).
    Raises: ValueError where the output has no irrep of the input, for features of other irreps, or kinds of another shape.
    Reference: Batzner et al. 2022, arXiv:2101.03164, "self-interaction"; equals e3nn's ``FullyConnectedTensorProduct`` of the
        features with the kind as a one-hot vector.

    Example:
        >>> layer = SelfConnection("4x0e + 2x1o", "3x0e + 2x1o", kinds=10)
        >>> layer(torch.randn(5, 10), torch.tensor([1, 6, 8, 1, 1])).shape
        torch.Size([5, 9])
    """

    def __init__(self, irreps_in: str | Irreps, irreps_out: str | Irreps, kinds: int) -> None:
        super().__init__()
        check_least(kinds=(kinds, 1))
        self.irreps_in, self.irreps_out = (
            as_irreps(irreps_in, "irreps_in"),
            as_irreps(irreps_out, "irreps_out"),
        )
        self._terms = terms_of(self.irreps_in), terms_of(self.irreps_out)
        self._places = places_of(self.irreps_in), places_of(self.irreps_out)
        given = {term[:2]: (place, term[2]) for place, term in enumerate(self._terms[0])}
        # of each output stack: the input's place and the matrix's shape, or None
        self._from = [
            (given[l, p][0], given[l, p][1], copies) if (l, p) in given else None
            for l, p, copies in self._terms[1]
        ]
        self._sizes = [a * b for _, a, b in filter(None, self._from)]
        if not self._sizes:
            raise ValueError(
                f"irreps_out is {irreps_out}, none of which irreps_in {irreps_in} has; the map would be zero"
            )
        self.weight = nn.Parameter(torch.empty(kinds, sum(self._sizes)))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw weights anew, N(0, 1/fan-in)."""
        parts = self.weight.split(self._sizes, 1)
        for part, (_, copies, _) in zip(parts, filter(None, self._from), strict=True):
            part.normal_(std=copies**-0.5)

    def forward(self, x: Features, kinds: Tensor) -> Features:
        if isinstance(x, Stacks):
            check_stacks(x, self._terms[0])
            return Stacks.of(self._mapped(x.parts, kinds), self._terms[1])
        check_features(x, self.irreps_in)
        if x.ndim != 2:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (points, {self.irreps_in.dim})")
        return join_rows(self._mapped(split_rows(x, self._places[0]), kinds), self._places[1])

    def _mapped(self, parts: tuple[Tensor, ...] | list[Tensor], kinds: Tensor) -> list[Tensor]:
        check_tensor(parts[0])
        points = parts[0].shape[0]
        if tuple(kinds.shape) != (points,):
            raise ValueError(
                f"kinds has shape {tuple(kinds.shape)}; expected ({points},), one for each point"
            )
        weight = self.weight.to(parts[0].dtype)
        if torch.compiler.is_compiling() or points * weight.shape[1] <= MANY_WEIGHTS:
            return self._products(parts, weight.index_select(0, kinds).split(self._sizes, 1))
        # kind after kind, so that no weight is copied
        order = torch.argsort(kinds, stable=True)
        found, counts = kinds[order].unique_consecutive(return_counts=True)
        segments = [part.index_select(0, order).split(counts.tolist()) for part in parts]
        done = [
            self._products([part[k] for part in segments], weight[int(z)].split(self._sizes))
            for k, z in enumerate(found.tolist())
        ]
        back = torch.empty_like(order).index_copy(0, order, torch.arange(points, device=order.device))
        return [torch.cat(pieces).index_select(0, back) for pieces in zip(*done, strict=True)]

    def _products(
        self, parts: tuple[Tensor, ...] | list[Tensor], weights: tuple[Tensor, ...]
    ) -> list[Tensor]:
        """Matrices of all points (N, size), or of one kind (size,), times the stacks."""
        matrices, out = iter(weights), []
        for (l, _, copies), found in zip(self._terms[1], self._from, strict=True):
            if found is None:
                out.append(parts[0].new_zeros(parts[0].shape[0], 2 * l + 1, copies))
                continue
            matrix = next(matrices)
            out.append(parts[found[0]] @ matrix.view(*matrix.shape[:-1], *found[1:]))
        return out

    def extra_repr(self) -> str:
        return f"'{self.irreps_in}', '{self.irreps_out}', kinds={self.weight.shape[0]}"
