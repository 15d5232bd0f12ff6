"""Parts of MACE: functions of distances, the repulsion of close nuclei, one interaction with its products."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from spheregeo.nn.irreps import IrrepsLinear, Stacks
from spheregeo.nn.space import EdgeGeometry, RadialBasis, SelfConnection, SteerableConv, polynomial_envelope
from spheregeo.nn.space.many_body import Kinds, SymmetricContraction

__all__ = ["MACEInteraction", "MACERadial", "PairRepulsion"]

_SILU = 1.6790  # factor that gives SiLU of normal numbers a second moment of one
_AGNESI = (0.9183, 4.5791, 1.0805)  # q, p and a of the transform


def _covalent_radii() -> Tensor:
    from ase.data import covalent_radii

    return torch.tensor(covalent_radii, dtype=torch.float64)


class MACERadial(nn.Module):
    """Bessel functions of the distance times an envelope with two derivatives at the cutoff, perhaps of a transformed distance.

    Args:
        cutoff: in Å.
        basis: number of functions.
        power: p of the envelope.
        transform: None, or "agnesi": distances are first mapped to (0, 1], measured by the sum of both elements' covalent radii.

    Shape: distances (E,), atomic numbers of sources and targets (E,) int64 -> (E, basis).
    Units: Å.
    Equivariance: invariant; distances are.
    Reference: Batatia et al. 2022, arXiv:2206.07697, equation 9; Witt et al. 2023, doi:10.1063/5.0158783 (the transform).

    Example:
        >>> MACERadial(5.0, 8)(torch.rand(4), torch.ones(4).long(), torch.ones(4).long()).shape
        torch.Size([4, 8])
    """

    def __init__(self, cutoff: float, basis: int, power: int = 5, transform: str | None = None) -> None:
        super().__init__()
        if transform not in (None, "agnesi"):
            raise ValueError(f"transform is {transform!r}; expected 'agnesi', or None")
        self.power, self.transform = power, transform
        self.basis = RadialBasis(cutoff, basis, envelope=False)
        if transform is not None:
            self.register_buffer("constants", torch.tensor(_AGNESI, dtype=torch.float64))
            self.register_buffer("covalent_radii", _covalent_radii())

    def forward(self, distance: Tensor, source: Tensor, target: Tensor) -> Tensor:
        envelope = polynomial_envelope(distance / self.basis.cutoff, self.power)
        if self.transform is not None:
            radii = self.get_buffer("covalent_radii").to(distance)
            t = distance / (0.5 * (radii[source] + radii[target]))
            q, p, a = self.get_buffer("constants").to(distance)
            distance = 1 / (1 + a * t**q / (1 + t ** (q - p)))
        result: Tensor = self.basis(distance) * envelope[:, None]
        return result


class PairRepulsion(nn.Module):
    """Ziegler-Biersack-Littmark's repulsion of screened nuclei, ended smoothly at the sum of both covalent radii.

    Args:
        power: p of the envelope.

    Shape: distances (E,), atomic numbers of sources and targets (E,) int64 -> (E,), the half that counts for the target.
    Units: Å, eV.
    Equivariance: invariant; distances are.
    Reference: Ziegler, Biersack & Littmark 1985, The Stopping and Range of Ions in Solids.

    Example:
        >>> PairRepulsion()(torch.tensor([0.5]), torch.tensor([1]), torch.tensor([1])).shape
        torch.Size([1])
    """

    def __init__(self, power: int = 5) -> None:
        super().__init__()
        self.power = power
        self.register_buffer("shares", torch.tensor([0.1818, 0.5099, 0.2802, 0.02817], dtype=torch.float64))
        self.register_buffer(
            "screening", torch.tensor([0.3, 0.4543], dtype=torch.float64)
        )  # exponent, factor
        self.register_buffer("covalent_radii", _covalent_radii())

    def forward(self, distance: Tensor, source: Tensor, target: Tensor) -> Tensor:
        exponent, factor = self.get_buffer("screening").to(distance)
        radii = self.get_buffer("covalent_radii").to(distance)
        first, second = source.to(distance.dtype), target.to(distance.dtype)
        scaled = distance * (first**exponent + second**exponent) / (factor * 0.529)
        rates = distance.new_tensor([-3.2, -0.9423, -0.4028, -0.2016])
        screened = torch.exp(scaled[:, None] * rates) @ self.get_buffer("shares").to(distance)
        envelope = polynomial_envelope(distance / (radii[source] + radii[target]), self.power)
        return 0.5 * 14.3996 * first * second / distance * screened * envelope


def radial_network(basis: int, hidden: Sequence[int]) -> nn.Sequential:
    """Linear maps without bias and SiLU: no basis gives no feature."""
    layers: list[nn.Module] = []
    for a, b in pairwise((basis, *hidden)):
        linear = nn.Linear(a, b, bias=False)
        nn.init.normal_(linear.weight, std=(_SILU if layers else 1.0) * a**-0.5)
        layers += [linear, nn.SiLU()]
    return nn.Sequential(*layers)


class MACEInteraction(nn.Module):
    """One interaction of MACE: depthwise products with the edges' harmonics, summed over neighbours, then products of the sums.

    Args:
        irreps_in: features that come in.
        irreps_mid: sums over neighbours, C copies of each degree up to lmax.
        irreps_out: features that come out.
        lmax: largest degree of the edges' harmonics.
        basis: radial functions.
        hidden: widths of the radial network.
        correlation: factors of a product.
        num_neighbors: mean number of neighbours, a constant that scales sums; 1 where ``density`` does.
        kinds: number of elements.
        skip: "residual": a map of the input for each element is added to the output; "message": a map for each element is put on
            the sums.
        density: divide sums by one plus a learned density of neighbours, in place of a constant.
        chunk: edges done at a time, for large systems; None for all.

    Shape: stacks of N points, geometry, radial functions (E, basis), kinds (N,) and these as :class:`Kinds` -> stacks of N
        points.
    Equivariance: O(3) and translations, exact (relative error 1e-14 measured in float64).
    Raises: ValueError for an unknown ``skip``.
    Reference: Batatia et al. 2022, arXiv:2206.07697, equations 8 to 12.

    Example:
        >>> block = MACEInteraction(Irreps("4x0e"), Irreps("4x0e + 4x1o"), Irreps("4x0e"), lmax=1, basis=3, hidden=(8,),
        ...     correlation=2, num_neighbors=2.0, kinds=2)
        >>> x, kinds = Stacks.from_mul_ir(torch.randn(2, 4), "4x0e"), torch.tensor([0, 1])
        >>> geometry = EdgeGeometry.of(torch.randn(2, 3), torch.tensor([[1, 0], [0, 1]]))
        >>> block(x, geometry, torch.randn(2, 3), kinds, Kinds.of(kinds, 2))
        Stacks('4x0e', (2,))
    """

    def __init__(
        self,
        irreps_in: Irreps,
        irreps_mid: Irreps,
        irreps_out: Irreps,
        *,
        lmax: int,
        basis: int,
        hidden: Sequence[int],
        correlation: int,
        num_neighbors: float,
        kinds: int,
        skip: str = "residual",
        density: bool = False,
        chunk: int | None = None,
    ) -> None:
        super().__init__()
        if skip not in ("residual", "message"):
            raise ValueError(f"skip is {skip!r}; expected 'residual' or 'message'")
        residual = skip == "residual"
        self.before = IrrepsLinear(irreps_in, irreps_in, bias=False)
        self.radial = radial_network(basis, hidden)
        self.density = nn.Linear(basis, 1, bias=False) if density else None
        self.conv = SteerableConv(
            irreps_in,
            irreps_mid,
            lmax=lmax,
            edge_dim=hidden[-1],
            depthwise=True,
            num_neighbors=1.0 if density else num_neighbors,
            chunk=chunk,
        )
        self.own = SelfConnection(irreps_in, irreps_out, kinds) if residual else None
        self.message = None if residual else SelfConnection(irreps_mid, irreps_mid, kinds)
        self.products = SymmetricContraction(irreps_mid, irreps_out, correlation, kinds)
        self.after = IrrepsLinear(irreps_out, irreps_out, bias=False)

    def forward(
        self, x: Stacks, geometry: EdgeGeometry, radial: Tensor, numbers: Tensor, kinds: Kinds
    ) -> Stacks:
        a: Stacks = self.conv(self.before(x), geometry, self.radial(radial))
        if self.density is not None:
            around = geometry.scatter(torch.tanh(self.density(radial).square()))
            a = a.map(lambda part: part / (around + 1)[:, None])
        if self.message is not None:
            a = self.message(a, numbers)
        result: Stacks = self.after(self.products(a, kinds))
        return result if self.own is None else result + self.own(x, numbers)
