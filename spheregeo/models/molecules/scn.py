"""Spherical channels: functions on the sphere about each atom, messages in edge frames, pointwise updates on a sphere grid.

Reference: Zitnick, Das, Kolluru, Lan, Shuaibi, Sriram, Ulissi & Wood 2022, arXiv:2206.14331.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.checks import check_least
from spheregeo.models.registry import register
from spheregeo.models.space.base import InvariantAtomNetwork
from spheregeo.models.space.molecule_graph import MoleculeGraph
from spheregeo.nn.irreps import SphereMLP, Stacks
from spheregeo.nn.space import RadialBasis, RadialNetwork, polynomial_envelope
from spheregeo.nn.space.spherical_channels import FrameWays, SphereMean, TapMessage, channel_irreps

__all__ = ["SCN", "scn"]


class ChannelNetwork(InvariantAtomNetwork):
    """Base of networks of spherical channels: what a layer is but its message, heads for energies, numbers of atoms and forces.

    A subclass gives ``message(num_neighbors)``, a layer whose call has stacks, frames, features and envelope of the edges.
    """

    roll = False  # whether messages see the roll of frames, and its gradient counts

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int,
        depth: int,
        lmax: int,
        cutoff: float,
        basis: int,
        hidden: int,
        element_dim: int,
        oversampling: float,
        direct: bool,
        readout: str,
        out_atoms: int,
        messages: list[Any],
        features: int,
    ) -> None:
        super().__init__(in_channels, out_channels, depth, cutoff, readout, out_atoms=out_atoms)
        check_least(width=(width, 1), lmax=(lmax, 1), hidden=(hidden, 1), element_dim=(element_dim, 1))
        if not oversampling >= 1:
            raise ValueError(f"oversampling is {oversampling}; expected at least 1")
        self.lmax, self.direct = lmax, direct
        self._sizes: dict[str, Any] = {
            "width": width, "depth": depth, "lmax": lmax, "cutoff": cutoff, "basis": basis, "hidden": hidden,
            "element_dim": element_dim, "oversampling": oversampling, "direct": direct, "readout": readout,
            "out_atoms": out_atoms,
        }  # fmt: skip
        self.terms = tuple((degree, (-1) ** degree, width) for degree in range(lmax + 1))
        grid = (round(oversampling * (2 * lmax + 1)), round(oversampling * (4 * lmax + 1)))
        self.embedding = nn.Embedding(in_channels, width)
        self.elements = nn.Embedding(in_channels, element_dim)
        self.basis = RadialBasis(self.cutoff, basis, envelope=False)
        self.radial = nn.ModuleList(
            RadialNetwork(basis, [hidden], features, 2 * element_dim) for _ in range(depth)
        )
        for layer in self.radial.modules():
            if isinstance(layer, nn.Linear):  # messages begin as large as what they come from
                nn.init.normal_(layer.weight, std=2 * layer.in_features**-0.5)
        self.messages = nn.ModuleList(messages)
        both = channel_irreps(2 * width, lmax)
        self.updates = nn.ModuleList(
            SphereMLP(both, [hidden, hidden], width, resolution=grid) for _ in range(depth)
        )
        self.mean = SphereMean(width, lmax, hidden, hidden, resolution=grid)
        self.head = _last(hidden, out_channels) if out_channels else None
        self.atom_head = _last(hidden, out_atoms) if out_atoms else None
        self.force_head = (
            SphereMean(width, lmax, hidden, 1, vectors=True, resolution=grid) if direct else None
        )

    def channels(self, positions: Tensor, numbers: Tensor, graph: MoleculeGraph) -> Stacks:
        """Functions on the sphere about each atom after the last layer, as coefficients."""
        source, target = graph.edge_index
        geometry = self.geometry(positions, graph)
        basis = self.basis(geometry.lengths)
        # atoms at one place have no direction to one another: they do not meet
        envelope = polynomial_envelope(geometry.lengths / self.cutoff) * (geometry.lengths > 0)
        of = self.elements(numbers)
        extra = torch.cat([of.index_select(0, source), of.index_select(0, target)], 1)
        ways = [FrameWays.of(geometry, self.messages[0].rotation, self.lmax)]  # type: ignore[arg-type]
        if len(self.messages) > 1:
            more = FrameWays.of(geometry, self.messages[1].rotation, self.lmax, roll=self.roll)  # type: ignore[arg-type]
            ways += [more] * (len(self.messages) - 1)
        first = self.embedding(numbers)[:, None]
        shape = [(2 * l + 1, copies) for l, _, copies in self.terms]
        x = Stacks.of([first, *[first.new_zeros(len(first), d, n) for d, n in shape[1:]]], self.terms)
        ones = torch.ones_like(envelope)
        for way, radial, message, update in zip(ways, self.radial, self.messages, self.updates, strict=True):
            m = message(x, way, radial(basis, ones, extra), envelope)
            x = x + update(Stacks.cat([x, m]))
        return x

    def features(self, positions: Tensor, numbers: Tensor, graph: MoleculeGraph) -> Tensor:
        """Invariant features of the atoms, (P, hidden): means over the sphere."""
        return self._invariants(self.channels(positions, numbers, graph))

    def _invariants(self, x: Stacks) -> Tensor:
        found: Tensor = self.mean(x)
        return found

    def energy_and_forces(
        self,
        positions: Tensor,
        numbers: Tensor,
        batch: Tensor,
        graph: MoleculeGraph,
        num_graphs: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Numbers of the molecules (B, out_channels), and forces (P, 3) of a head of their own: **not conservative**.

        Args: as those of ``forward``.
        Raises: ValueError for a network that was made without ``direct``.
        """
        if self.force_head is None or self.head is None:
            raise ValueError("the network has no head for forces; make it with direct=True and out_channels")
        x = self.channels(positions, numbers, graph)
        values = self.read_out(self.head(self._invariants(x)), positions, numbers, batch, num_graphs)
        return values, self.force_head(x)[:, 0]


def _last(hidden: int, channels: int) -> nn.Linear:
    """A linear map whose outputs are small at first, for sums over tens of atoms."""
    last = nn.Linear(hidden, channels)
    nn.init.zeros_(last.bias)
    with torch.no_grad():
        last.weight *= 0.1
    return last


class SCN(ChannelNetwork):
    """The spherical channel network: perceptrons of coefficients in edge frames, so that symmetry is relaxed, not strict.

    Shape: positions (P, 3), atomic numbers (P,) int64 below ``in_channels``, batch (P,) int64, graph as ``neighbors`` gives it;
        returns (B, out_channels). An atom without neighbours contributes what its element alone says.
    Units: Å.
    Equivariance: invariant to translations and permutations, to rounding. Rotations: with ``mmax`` 0 up to the sphere grid, whose
        error falls exponentially with ``oversampling``; with ``mmax`` 1 up to the taps as well, exponentially likewise: figures
        are on the page about slabs. Reflections: with ``mmax`` 0 alone. Energies are smooth in the positions with any number of
        taps: two frames of each edge take turns, so that none ends.
    Raises: ValueError for sizes below 1, mmax above lmax, a cutoff that is not positive, an unknown readout.
    Reference: Zitnick et al. 2022, arXiv:2206.14331; without random rolls of frames, and with a quadrature on the sphere.

    Args:
        in_channels: size of the table of elements.
        out_channels: numbers for each molecule.
        width: functions on the sphere about each atom.
        depth: layers.
        lmax: largest degree.
        mmax: orders that messages keep in the frames of edges; the first layer, which sees l = 0 alone, keeps order 0.
        taps: turns of a frame that are averaged.
        cutoff: in Å.
        basis: radial functions.
        hidden: width of all perceptrons.
        element_dim: numbers of each end's element that radial networks see.
        num_neighbors: mean number of neighbours, a constant that scales sums over them.
        oversampling: of the sphere grids, in units of (2L + 1, 4L + 1) rings and points.
        direct: make a head for forces, which are **not conservative**; see ``fit-forces``'s option of that name.
        readout: "sum" or "mean" of the atoms' outputs, or "dipole" or "extent" from them and the atoms' places.
        out_atoms: numbers for each atom, which :meth:`outputs` gives beside those of the molecules.

    Example:
        >>> network = SCN(10, 1, width=4, depth=1, lmax=1, hidden=8)
        >>> positions, numbers, batch = torch.randn(6, 3), torch.randint(1, 9, (6,)), torch.tensor([0, 0, 0, 1, 1, 1])
        >>> network(positions, numbers, batch, network.neighbors(positions, batch), 2).shape
        torch.Size([2, 1])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 16,
        depth: int = 2,
        lmax: int = 2,
        mmax: int = 1,
        taps: int = 4,
        cutoff: float = 5.0,
        basis: int = 12,
        hidden: int = 64,
        element_dim: int = 8,
        num_neighbors: float = 30.0,
        oversampling: float = 1.0,
        direct: bool = False,
        readout: str = "sum",
        out_atoms: int = 0,
    ) -> None:
        self.roll = mmax > 0
        # The first layer sees l = 0 alone, of which nothing turns with a frame.
        orders = [0, *[mmax] * (depth - 1)]
        messages = [TapMessage(width, lmax, order, hidden, taps, num_neighbors) for order in orders]
        super().__init__(
            in_channels, out_channels, width=width, depth=depth, lmax=lmax, cutoff=cutoff, basis=basis, hidden=hidden,
            element_dim=element_dim, oversampling=oversampling, direct=direct, readout=readout, out_atoms=out_atoms,
            messages=messages, features=hidden,
        )  # fmt: skip

    def strict(self) -> ChannelNetwork:
        """The strict network of the same sizes, :class:`~spheregeo.models.ESCN`, with new weights."""
        from spheregeo.models.molecules.escn import ESCN

        return ESCN(self.embedding.num_embeddings, self.out_channels, **self._sizes)


@register("scn", output="label", domain="molecule", options_of=SCN)
def scn(in_channels: int, out_channels: int, grid: Any, **options: Any) -> SCN:
    """Spherical channels (Zitnick et al. 2022): perceptrons in edge frames; symmetry relaxed, errors stated by the audit."""
    return SCN(in_channels, out_channels, **options)
