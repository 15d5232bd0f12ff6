"""Molecules on spheres: potentials on a sphere about each atom, a network of needlets on it, and a sum over atoms.

Reference: Yi et al. 2022, arXiv:2206.10385 (needlets, shrinkage, DeepSet over atoms); Cohen et al. 2018, arXiv:1801.10130 (the
potentials).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.checks import check_least
from spheregeo.models.molecules.atom_spheres import ELEMENTS, AtomSpheres
from spheregeo.models.registry import register
from spheregeo.models.space.base import InvariantAtomNetwork
from spheregeo.models.space.molecule_graph import MoleculeGraph
from spheregeo.nn import NeedletConv, ScaleInvariants, Shrinkage
from spheregeo.spectral import NeedletFrame

_FLOOR = 1e-4  # added to mean squares under a root, so that empty scales have a gradient


class SphereMolecule(InvariantAtomNetwork):
    """Needlets on the spheres about atoms: potentials, blocks of convolution and shrinkage, invariants of scales, a DeepSet.

    Shape: positions (P, 3), atomic numbers (P,) int64 below ``in_channels``, batch (P,) int64, graph as ``neighbors`` gives it;
        returns (B, out_channels). An atom without neighbours contributes what its element alone says.
    Units: Å.
    Equivariance: invariant to translations and permutations, to rounding; to rotations and reflections up to the aliasing of
        thresholds and absolute values on the bands' grids: trained on QM7 0.50, 0.17 and 0.08 kcal/mol (mean; the test error is
        1.6) with oversampling 1, 1.5 and 2, which may be chosen after the training.
    Raises: ValueError for sizes below 1, a cutoff or radius that is not positive, an unknown threshold or readout.
    Reference: Yi et al. 2022, arXiv:2206.10385, with zonal filters in place of those on SO(3).

    Args:
        in_channels: size of the table of elements: atomic numbers are below it.
        out_channels: numbers for each molecule.
        width: channels on the spheres.
        depth: blocks of convolution and shrinkage.
        hidden: width of the network of invariants.
        lmax: largest degree on the spheres.
        cutoff: in Å; potentials end there, smoothly.
        radius: of the spheres, in Å.
        powers: p of the potentials z_i z_j / |x − r_j|^p, a set of channels for each.
        elements: atomic numbers with channels of their own; all others share one.
        taps: rings of a filter.
        threshold, start: of the shrinkage, see :class:`~spheregeo.nn.Shrinkage`.
        oversampling: of the bands' grids.
        readout: "sum" or "mean" of the atoms' outputs, or "dipole" or "extent" from them and the atoms' places.
        out_atoms: numbers for each atom, which :meth:`outputs` gives beside those of the molecules.

    Example:
        >>> network = SphereMolecule(10, 1, width=4, lmax=3)
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
        hidden: int = 128,
        lmax: int = 8,
        cutoff: float = 8.0,
        radius: float = 0.7,
        powers: Sequence[float] = (2.0, 6.0),
        elements: Sequence[int] = ELEMENTS,
        taps: int = 2,
        threshold: str = "learned",
        start: float = 0.03,
        oversampling: float = 1.0,
        readout: str = "sum",
        out_atoms: int = 0,
    ) -> None:
        super().__init__(in_channels, out_channels, depth, cutoff, readout, out_atoms=out_atoms)
        check_least(width=(width, 1), hidden=(hidden, 1), lmax=(lmax, 1))
        self.spheres = AtomSpheres(in_channels, elements, lmax, radius, powers, self.cutoff)
        self.frame = NeedletFrame(lmax, oversampling=oversampling)
        self.embedding = nn.Embedding(in_channels, hidden)
        self.gains = nn.Embedding(
            in_channels, width
        )  # what an element adds to the gain of each channel of its sphere
        nn.init.normal_(self.gains.weight, std=0.3)
        first = self.spheres.num_channels
        self.convs = nn.ModuleList(
            NeedletConv(width if i else first, width, self.frame, taps=taps) for i in range(depth)
        )
        self.shrinkages = nn.ModuleList(
            Shrinkage(width, self.frame, threshold, start=start) for _ in range(depth)
        )
        self.invariants = ScaleInvariants(self.frame)
        count = 2 * self.frame.num_scales * width * depth
        self.mix = nn.Sequential(nn.LayerNorm(count), nn.Linear(count, hidden))
        self.point = nn.Sequential(nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
        self.head = _last(hidden, out_channels) if out_channels else None
        self.atom_head = _last(hidden, out_atoms) if out_atoms else None

    def features(self, positions: Tensor, numbers: Tensor, graph: MoleculeGraph) -> Tensor:
        """Invariant features of the atoms, (P, hidden)."""
        x = self.spheres(positions, numbers, graph)
        gain = 1 + self.gains(numbers)[..., None]
        found = []
        for i, (conv, shrinkage) in enumerate(zip(self.convs, self.shrinkages)):
            bands = shrinkage(conv(x))
            means = self.invariants(bands).unflatten(1, (self.frame.num_scales, 2, -1))
            squares, others = means.unbind(2)
            found += [(squares + _FLOOR).sqrt().flatten(1), others.flatten(1)]
            if i + 1 < len(self.convs):
                y = self.frame.reconstruct(bands) * gain
                x = x + y if i else y
        result: Tensor = self.point(self.mix(torch.cat(found, 1)) + self.embedding(numbers))
        return result


def _last(hidden: int, channels: int) -> nn.Linear:
    """A linear map whose outputs are small at first, for sums over tens of atoms."""
    last = nn.Linear(hidden, channels)
    nn.init.zeros_(last.bias)
    with torch.no_grad():
        last.weight *= 0.1
    return last


@register("sphere-molecule", output="label", domain="molecule", options_of=SphereMolecule)
def sphere_molecule(in_channels: int, out_channels: int, grid: Any, **options: Any) -> SphereMolecule:
    """Needlets on spheres about atoms (Yi et al. 2022): potentials, shrinkage, invariants of scales, a sum over atoms."""
    return SphereMolecule(in_channels, out_channels, **options)


__all__ = ["SphereMolecule", "sphere_molecule"]
