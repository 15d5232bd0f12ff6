"""A field about a molecule: numbers at any places in space, such as how likely an element is missing there.

A trunk gives each atom features on irreps; a place asked about is a point without features of its own that receives one steerable
message from the atoms near it. The numbers at a place are invariants of what arrives, so the field is a function on R³ that turns
with the molecule, smooth and without a grid. Features on irreps are Fourier coefficients of functions on R³ ⋊ SO(3).
Reference: Xu, Lei, Dobriban & Daniilidis 2022, arXiv:2206.08362 (molecular completion); Thomas et al. 2018, arXiv:1802.08219,
section 5.3 (a missing atom, voted for by the others).
"""

from __future__ import annotations

from typing import Any

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from spheregeo.checks import check_least
from spheregeo.models.registry import create, register
from spheregeo.models.space.base import check_cutoff
from spheregeo.models.space.molecule_graph import MoleculeGraph
from spheregeo.models.space.steerable_blocks import PointBlock, invariants_of, pyramid, split_scalars
from spheregeo.nn.irreps import IrrepsGate, IrrepsLayerNorm, IrrepsLinear, Stacks
from spheregeo.nn.space import (
    EdgeGeometry,
    EdgeList,
    RadialBasis,
    RadialNetwork,
    SteerableConv,
    polynomial_envelope,
)


class QueryMessage(nn.Module):
    """Norm, linear map, depthwise steerable convolution from atoms to places, gate, linear map: features at the places.

    Shape: stacks of P atoms, geometry of edges from atoms to Q places, basis (E, K), envelope (E,) -> stacks of Q places.
    Equivariance: O(3) and translations, exact.

    Args:
        irreps_in: features of the atoms.
        irreps_out: features of the places, even scalars first.
        lmax: highest degree of the edges' harmonics.
        basis: radial functions.
        hidden: hidden width of the radial network.
        edge_dim: numbers of each edge, from which weights are mixed.
        num_neighbors: mean number of atoms near a place, a constant that scales sums over them.

    Example:
        >>> message = QueryMessage(pyramid(4, 1), pyramid(4, 1), lmax=1, basis=3, hidden=8, edge_dim=4, num_neighbors=2.0)
        >>> atoms, places = torch.randn(3, 3), torch.randn(5, 3)
        >>> geometry = EdgeGeometry.of((atoms, places), torch.tensor([[0, 1, 2], [0, 0, 4]]))
        >>> x = Stacks.from_mul_ir(torch.randn(3, 16), pyramid(4, 1))
        >>> message(x, geometry, torch.randn(3, 3), torch.ones(3)).shape
        torch.Size([5])
    """

    def __init__(
        self, irreps_in: Irreps, irreps_out: Irreps, *, lmax: int, basis: int, hidden: int, edge_dim: int,
        num_neighbors: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.norm = IrrepsLayerNorm(irreps_in, share="separable")
        self.before = IrrepsLinear(irreps_in, irreps_in)
        self.gate = IrrepsGate(irreps_out)
        self.radial = RadialNetwork(basis, [hidden], edge_dim)
        self.conv = SteerableConv(
            irreps_in, self.gate.irreps_in, lmax=lmax, edge_dim=edge_dim, depthwise=True, num_neighbors=num_neighbors
        )  # fmt: skip
        self.bias = nn.Parameter(torch.zeros(split_scalars(self.gate.irreps_in)[0]))
        self.after = IrrepsLinear(irreps_out, irreps_out)

    def send(self, x: Stacks) -> Stacks:
        """What the atoms send, once for all places: the normed features, mixed."""
        sent: Stacks = self.before(self.norm(x))
        return sent

    def receive(self, sent: Stacks, geometry: EdgeGeometry, basis: Tensor, envelope: Tensor) -> Stacks:
        """Features of the places from what the atoms sent."""
        y = self.conv(sent, geometry, self.radial(basis, envelope))
        y = Stacks.of([y.parts[0] + self.bias, *y.parts[1:]], y.terms)
        found: Stacks = self.after(self.gate(y))
        return found

    def forward(self, x: Stacks, geometry: EdgeGeometry, basis: Tensor, envelope: Tensor) -> Stacks:
        return self.receive(self.send(x), geometry, basis, envelope)


class MoleculeField(nn.Module):
    """Numbers at any places about a molecule: a trunk of atoms, a steerable message to each place, a perceptron of invariants.

    Shape: positions (P, 3), atomic numbers (P,) int64 below ``in_channels``, batch (P,) int64, graph as ``neighbors`` gives it,
        queries (Q, 3) with their molecules ``owner`` (Q,) int64; returns (Q, out_channels). Without queries the places are the
        centres of the molecules, (B, out_channels).
    Units: Å.
    Equivariance: the field turns and reflects with the molecule, f(Rx; R molecule) = f(x; molecule), and does not see
        translations or the order of atoms; to rounding (1e-14 relative in float64, 1e-5 in float32, with random parameters) for
        the trunks that are. Smooth in places and positions.
    Raises: ValueError for sizes below 1, cutoffs that are not positive, a trunk without features of atoms, queries without owner.
    Reference: Xu et al. 2022, arXiv:2206.08362, for the task; own arrangement.

    Args:
        in_channels: size of the table of elements.
        out_channels: numbers at each place.
        trunk: name of a network for molecules whose atoms have features: "steerable-molecule", "schnet", "sphere-molecule" and
            others with ``features(positions, numbers, graph)``.
        width: width of the trunk, and scalars of a place; half as many vectors, a quarter as many of degree 2.
        depth: depth of the trunk.
        lmax: highest degree of the features of places and of the harmonics of edges to them.
        cutoff: how far atoms see one another, in Å.
        reach: how far a place sees atoms, in Å.
        basis: radial functions of the edges to places.
        hidden: hidden width of the radial network, and of the last perceptron.
        edge_dim: numbers of an edge to a place, from which weights are mixed.
        num_neighbors: mean number of atoms near a place, a constant that scales sums over them.
        trunk_options: further options of the trunk.

    Example:
        >>> network = MoleculeField(10, 4, width=8, depth=1)
        >>> positions, numbers, batch = torch.randn(6, 3), torch.randint(1, 9, (6,)), torch.tensor([0, 0, 0, 1, 1, 1])
        >>> graph = network.neighbors(positions, batch)
        >>> network(positions, numbers, batch, graph, 2, torch.randn(5, 3), torch.tensor([0, 0, 0, 1, 1])).shape
        torch.Size([5, 4])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        trunk: str = "steerable-molecule",
        width: int = 64,
        depth: int = 3,
        lmax: int = 2,
        cutoff: float = 5.0,
        reach: float = 4.0,
        basis: int = 16,
        hidden: int = 64,
        edge_dim: int = 32,
        num_neighbors: float = 8.0,
        trunk_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_least(out_channels=(out_channels, 1), hidden=(hidden, 1), lmax=(lmax, 0))
        self.out_channels, self.reach = out_channels, check_cutoff(reach)
        options = {"width": width, "depth": depth, "cutoff": cutoff, **(trunk_options or {})}
        made: Any = create(trunk, in_channels, 1, None, **options)
        if not callable(getattr(made, "features", None)) or not hasattr(made, "head"):
            raise ValueError(
                f"trunk is {trunk!r}, whose atoms have no features to read; expected a network such as "
                "'steerable-molecule' or 'schnet'"
            )
        # its numbers of molecules are not asked for
        scalars = next(part.in_features for part in made.head.modules() if isinstance(part, nn.Linear))
        made.head = None
        self.trunk: Any = made
        given = getattr(self.trunk, "irreps", None)
        self.irreps = Irreps(f"{scalars}x0e") if given is None else Irreps(given)
        places = pyramid(width, lmax)
        self.basis = RadialBasis(self.reach, basis, envelope=False)
        self.message = QueryMessage(
            self.irreps, places, lmax=lmax, basis=basis, hidden=hidden, edge_dim=edge_dim, num_neighbors=num_neighbors
        )  # fmt: skip
        self.point = PointBlock(places, 2 * width)
        count = places.num_irreps
        last = nn.Linear(hidden, out_channels)
        nn.init.zeros_(last.bias)
        self.head = nn.Sequential(nn.LayerNorm(count), nn.Linear(count, hidden), nn.SiLU(), last)

    def neighbors(
        self, positions: Tensor, batch: Tensor | None = None, cell: Tensor | None = None, pbc: Tensor | None = None
    ) -> Any:  # fmt: skip
        """The pairs of atoms that the trunk takes. Raises: ValueError for periodic systems, whose places would repeat."""
        if pbc is not None and bool(torch.as_tensor(pbc).any()):
            raise ValueError("pbc is given, but fields about molecules know no periods; expected none")
        return self.trunk.neighbors(positions, batch)

    def sent(self, positions: Tensor, features: Tensor, graph: MoleculeGraph) -> Stacks:
        """What the atoms send to places: made once, whatever the number of places."""
        if hasattr(self.trunk, "stacks"):
            return self.message.send(self.trunk.stacks(positions, features, graph))
        rows = self.trunk.features(positions, features, graph)
        return self.message.send(Stacks.from_mul_ir(rows, self.irreps))

    def at(self, sent: Stacks, positions: Tensor, counts: Tensor, queries: Tensor, owner: Tensor) -> Tensor:
        """Numbers at places.

        Args:
            sent: what the atoms send, as :meth:`sent` gives it.
            positions: of the atoms.
            counts: atoms of each molecule.
            queries: the places, in the frame of the positions.
            owner: molecule of each place.

        Shape: positions (P, 3), counts (B,), queries (Q, 3), owner (Q,) -> (Q, out_channels).
        """
        edges = EdgeList.of(
            pairs_within(positions, counts, queries, owner, self.reach), len(positions), len(queries)
        )
        geometry = EdgeGeometry.of((positions, queries), edges)
        envelope = polynomial_envelope(geometry.lengths / self.reach)
        y = self.message.receive(sent, geometry, self.basis(geometry.lengths), envelope)
        numbers: Tensor = self.head(invariants_of(self.point(y)))
        return numbers

    def forward(
        self,
        positions: Tensor,
        features: Tensor,
        batch: Tensor,
        graph: MoleculeGraph,
        num_graphs: int | None = None,
        queries: Tensor | None = None,
        owner: Tensor | None = None,
    ) -> Tensor:
        if (queries is None) != (owner is None):
            raise ValueError("one of queries and owner is given without the other; expected both, or neither")
        count = num_graphs if num_graphs is not None else (int(batch[-1]) + 1 if len(batch) else 0)
        counts = torch.zeros(count, dtype=torch.int64, device=batch.device).index_add(
            0, batch, torch.ones_like(batch)
        )
        if queries is None or owner is None:
            sums = positions.new_zeros(count, 3).index_add(0, batch, positions)
            queries, owner = sums / counts.clamp_min(1)[:, None], torch.arange(count, device=batch.device)
        return self.at(self.sent(positions, features, graph), positions, counts, queries, owner)


@torch.no_grad()
def pairs_within(positions: Tensor, counts: Tensor, queries: Tensor, owner: Tensor, reach: float) -> Tensor:
    """Pairs of an atom and a place of its molecule within a distance, sorted by place.

    Args:
        positions: of the atoms, molecule after molecule.
        counts: atoms of each molecule.
        queries: the places.
        owner: molecule of each place.
        reach: the distance.

    Shape: (P, 3), (B,), (Q, 3), (Q,) -> (2, E) int64, rows atom and place.

    Example:
        >>> atoms, places = torch.tensor([[0.0, 0, 0], [9.0, 0, 0]]), torch.tensor([[1.0, 0, 0]])
        >>> pairs_within(atoms, torch.tensor([2]), places, torch.tensor([0]), 2.0)
        tensor([[0],
                [0]])
    """
    first = counts.cumsum(0) - counts
    near = counts[owner]
    place = torch.repeat_interleave(torch.arange(len(queries), device=queries.device), near)
    before = near.cumsum(0) - near
    atom = torch.arange(len(place), device=place.device) + torch.repeat_interleave(
        first[owner] - before, near
    )
    within = (positions[atom] - queries[place]).square().sum(1) < reach**2
    return torch.stack([atom[within], place[within]])


@register("molecule-field", output="completion", domain="molecule", options_of=MoleculeField)
def molecule_field(in_channels: int, out_channels: int, grid: Any, **options: Any) -> MoleculeField:
    """Numbers at any places about a molecule (Xu et al. 2022): steerable messages between atoms, and from atoms to places."""
    return MoleculeField(in_channels, out_channels, **options)


@register("molecule-field-schnet", output="completion", domain="molecule", options_of=MoleculeField)
def molecule_field_schnet(in_channels: int, out_channels: int, grid: Any, **options: Any) -> MoleculeField:
    """Numbers at any places about a molecule, from the invariant features that SchNet gives atoms."""
    return MoleculeField(in_channels, out_channels, **{"trunk": "schnet", **options})


__all__ = ["MoleculeField", "QueryMessage", "molecule_field", "molecule_field_schnet", "pairs_within"]
