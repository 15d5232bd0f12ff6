"""MACE: messages whose order is raised by products of many of an atom's features; two interactions see four bodies and more.

Reference: Batatia, Kovács, Simm, Ortner & Csányi 2022, arXiv:2206.07697.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.checks import check_least
from spheregeo.models.molecules.mace_parts import MACEInteraction, MACERadial, PairRepulsion
from spheregeo.models.registry import register
from spheregeo.models.space.base import AtomNetwork, natural_irreps
from spheregeo.models.space.heads import Outputs
from spheregeo.models.space.molecule_graph import MoleculeGraph
from spheregeo.nn.irreps import Stacks
from spheregeo.nn.space.many_body import Kinds

__all__ = ["MACE", "mace"]

SKIPS = {  # for the first interaction and for the others
    "all": ("residual", "residual"),
    "later": ("message", "residual"),
    "none": ("message", "message"),
}
_NEAREST = 1e-12  # Å²; distances are bounded from below by its root, so that coincident atoms have a gradient


class MACE(AtomNetwork):
    """MACE: equivariant messages, products of up to ``correlation`` of an atom's sums, weights for each element, linear readouts.

    Every interaction but the last is read by a linear map of its scalars, the last, which gives scalars alone, by a perceptron.

    Shape: positions (P, 3), atomic numbers (P,) int64 below ``in_channels``, batch (P,) int64, graph as ``neighbors`` gives it;
        returns (B, out_channels). An atom without neighbours contributes what its element alone says.
    Units: Å.
    Equivariance: invariant to O(3), translations and permutations, to rounding (measured 1e-13 relative in float64, 1e-5 in
        float32, with random parameters). Twice differentiable in the positions, also where an atom crosses the cutoff.
    Raises: ValueError for sizes below 1, a cutoff that is not positive, an unknown readout, transform or ``skip``, an element
        that is not in ``elements``.
    Reference: Batatia et al. 2022, arXiv:2206.07697; weights of mace-torch come by
        :func:`~spheregeo.models.molecules.mace_import.from_mace`.

    Args:
        in_channels: size of the table of elements: atomic numbers are below it.
        out_channels: numbers for each molecule, such as energies of several methods.
        width: channels, copies of each irrep.
        depth: interactions.
        lmax: largest degree of the edges' harmonics and of the sums over neighbours.
        hidden_lmax: largest degree of the features between interactions.
        correlation: ν, factors of a product; one number, or one for each interaction.
        cutoff: in Å.
        basis: Bessel functions.
        hidden: widths of the radial networks' hidden layers.
        power: p of the envelope.
        num_neighbors: mean number of neighbours, a constant that scales sums over them.
        readout_width: hidden width of the last readout.
        skip: where maps for each element stand: "all": added to the output of each interaction; "later": of the first, on the
            sums over neighbours; "none": on the sums of all.
        density: divide sums by a learned density of neighbours.
        transform: None, or "agnesi", a map of distances before the Bessel functions.
        repulsion: whether close nuclei repel one another as Ziegler, Biersack and Littmark have it.
        elements: atomic numbers that occur, for fewer weights; all below ``in_channels`` if None.
        readout: "sum" or "mean" of the atoms' outputs, "dipole" or "extent" from them and the atoms' places.
        chunk: edges done at a time, for large systems; None for all.

    Example:
        >>> network = MACE(10, 1, width=4, lmax=2, correlation=2)
        >>> positions, numbers, batch = torch.randn(6, 3), torch.randint(1, 9, (6,)), torch.tensor([0, 0, 0, 1, 1, 1])
        >>> network(positions, numbers, batch, network.neighbors(positions, batch), 2).shape
        torch.Size([2, 1])
    """

    rows: Tensor
    scale: Tensor
    shift: Tensor
    atomic_energies: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 64,
        depth: int = 2,
        lmax: int = 3,
        hidden_lmax: int = 1,
        correlation: int | Sequence[int] = 3,
        cutoff: float = 5.0,
        basis: int = 8,
        hidden: Sequence[int] = (64, 64, 64),
        power: int = 5,
        num_neighbors: float = 12.0,
        readout_width: int = 16,
        skip: str = "all",
        density: bool = False,
        transform: str | None = None,
        repulsion: bool = False,
        elements: Sequence[int] | None = None,
        readout: str = "sum",
        chunk: int | None = None,
    ) -> None:
        super().__init__(in_channels, out_channels, depth, cutoff, readout)
        check_least(basis=(basis, 1), hidden=(len(hidden), 1), readout_width=(readout_width, 1))
        check_least(hidden_lmax=(hidden_lmax, 0), power=(power, 3))
        orders = [correlation] * depth if isinstance(correlation, int) else list(correlation)
        if len(orders) != depth:
            raise ValueError(
                f"correlation is {correlation}; expected one number, or {depth}, one for each interaction"
            )
        if skip not in SKIPS:
            raise ValueError(f"skip is {skip!r}; expected one of {', '.join(map(repr, SKIPS))}")
        known = range(in_channels) if elements is None else sorted(set(elements))
        if len(known) == 0 or known[0] < 0 or known[-1] >= in_channels:
            raise ValueError(f"elements is {elements}; expected atomic numbers below {in_channels}")
        self.width, self.num_kinds, self.readout_width = width, len(known), readout_width
        rows = torch.full((in_channels,), -1, dtype=torch.int64)
        rows[list(known)] = torch.arange(len(known))
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("scale", torch.ones(out_channels))
        self.register_buffer("shift", torch.zeros(out_channels))
        self.register_buffer("atomic_energies", torch.zeros(in_channels, out_channels, dtype=torch.float64))
        self.embedding = nn.Embedding(len(known), width)
        self.basis = MACERadial(self.cutoff, basis, power, transform)
        self.repulsion = PairRepulsion(power) if repulsion else None
        scalars, wide = natural_irreps(width, 0), natural_irreps(width, hidden_lmax)
        blocks: list[nn.Module] = []
        for layer in range(depth):
            first, last = layer == 0, layer == depth - 1
            blocks.append(
                MACEInteraction(
                    scalars if first else wide,
                    natural_irreps(width, lmax),
                    scalars if last else wide,
                    lmax=lmax,
                    basis=basis,
                    hidden=tuple(hidden),
                    correlation=orders[layer],
                    num_neighbors=num_neighbors,
                    kinds=len(known),
                    skip=SKIPS[skip][0 if first else 1],
                    density=density,
                    chunk=chunk,
                )
            )
        self.blocks = nn.ModuleList(blocks)
        self.terms = ((0, 1, width),)
        self.heads = nn.ModuleList(nn.Linear(width, out_channels, bias=False) for _ in range(depth - 1))
        self.hidden_head = nn.Linear(width, out_channels * readout_width, bias=False)
        self.last_head = nn.Parameter(torch.empty(out_channels, readout_width))
        for linear in (*self.heads, self.hidden_head):
            nn.init.normal_(linear.weight, std=width**-0.5)
        nn.init.normal_(self.last_head, std=readout_width**-0.5)
        with torch.no_grad():  # sums over tens of atoms begin at order one
            for weight in (*self.heads.parameters(), self.last_head):
                weight.mul_(0.1)

    def kinds(self, numbers: Tensor) -> Tensor:
        """The place of each atom's element among those that the network knows.

        Raises: ValueError for an element that it does not know.
        """
        found = self.rows.index_select(0, numbers)
        if self.num_kinds < len(self.rows) and not torch.compiler.is_compiling() and bool((found < 0).any()):
            unknown = sorted(set(numbers[found < 0].tolist()))
            raise ValueError(
                f"numbers holds the elements {', '.join(map(str, unknown))}; expected those that the network knows, "
                f"{', '.join(map(str, (self.rows >= 0).nonzero()[:, 0].tolist()))}"
            )
        return found

    def atom_values(self, positions: Tensor, numbers: Tensor, graph: MoleculeGraph) -> Tensor:
        """The numbers of each atom, whose sums are the molecule's, (P, out_channels)."""
        source, target = graph.edge_index
        geometry = self.geometry(positions, graph)
        lengths = geometry.vectors.square().sum(1).clamp_min(_NEAREST).sqrt()
        ends = numbers.index_select(0, source), numbers.index_select(0, target)
        radial = self.basis(lengths, *ends)
        rows = self.kinds(numbers)
        kinds = Kinds.of(rows, self.num_kinds)
        x = Stacks.of([self.embedding(rows)[:, None]], self.terms)
        values: Tensor | None = None
        for layer, block in enumerate(self.blocks):
            x = block(x, geometry, radial, rows, kinds)
            scalars = x.parts[0][:, 0]
            found = self.heads[layer](scalars) if layer < len(self.heads) else self._last(scalars)
            values = found if values is None else values + found
        assert values is not None
        if self.repulsion is not None:
            close = geometry.scatter(self.repulsion(lengths, *ends))
            values = values + close[:, None]
        return values * self.scale.to(values.dtype) + self.shift.to(values.dtype)

    def _last(self, scalars: Tensor) -> Tensor:
        y = nn.functional.silu(self.hidden_head(scalars))
        if self.out_channels == 1:
            return y @ self.last_head.T
        return (y.view(len(y), self.out_channels, self.readout_width) * self.last_head).sum(2)

    def outputs(
        self,
        positions: Tensor,
        features: Tensor,
        batch: Tensor,
        graph: MoleculeGraph,
        num_graphs: int | None = None,
    ) -> Outputs:
        """Numbers of the molecules; arguments as those of ``forward``."""
        molecules = self(positions, features, batch, graph, num_graphs)
        return Outputs(
            molecules, molecules.new_zeros(len(molecules), 0, 3), molecules.new_zeros(len(features), 0)
        )

    def forward(
        self,
        positions: Tensor,
        features: Tensor,
        batch: Tensor,
        graph: MoleculeGraph,
        num_graphs: int | None = None,
    ) -> Tensor:
        values = self.atom_values(positions, features, graph)
        return self.read_out(values, positions, features, batch, num_graphs)

    def energy(
        self,
        positions: Tensor,
        numbers: Tensor,
        batch: Tensor,
        graph: MoleculeGraph,
        num_graphs: int | None = None,
    ) -> Tensor:
        """Energies with those of free atoms, ``atomic_energies``, which imported weights have; as ``forward`` otherwise."""
        inner = self(positions, numbers, batch, graph, num_graphs)
        free = self.atomic_energies.index_select(0, numbers).to(inner.dtype)
        return inner.index_add(0, batch, free)


@register("mace", output="label", domain="molecule", options_of=MACE)
def mace(in_channels: int, out_channels: int, grid: Any, **options: Any) -> MACE:
    """MACE (Batatia et al. 2022): products of many of an atom's features with weights for each element; invariant, smooth."""
    return MACE(in_channels, out_channels, **options)
