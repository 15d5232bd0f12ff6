"""Spherical channels with strict messages: SO(2) products in the frames of edges.

Reference: Passaro & Zitnick 2023, arXiv:2302.03655.
"""

from __future__ import annotations

from typing import Any

from spheregeo.models.molecules.scn import ChannelNetwork
from spheregeo.models.registry import register
from spheregeo.nn.space.spherical_channels import StrictMessage

__all__ = ["ESCN", "escn"]


class ESCN(ChannelNetwork):
    """Equivariant spherical channels: SO(2) products in edge frames, pointwise updates on a sphere grid at atoms.

    Shape: positions (P, 3), atomic numbers (P,) int64 below ``in_channels``, batch (P,) int64, graph as ``neighbors`` gives it;
        returns (B, out_channels). An atom without neighbours contributes what its element alone says.
    Units: Å.
    Equivariance: invariant to translations and permutations, to rounding; to rotations and reflections up to the sphere grids,
        whose error falls exponentially with ``oversampling`` (messages with "gate" are exact).
    Raises: ValueError for sizes below 1, a cutoff that is not positive, an unknown activation or readout.
    Reference: Passaro & Zitnick 2023, arXiv:2302.03655, with harmonics' parity, so that reflections count, too.

    Args:
        in_channels: size of the table of elements.
        out_channels: numbers for each molecule.
        width: functions on the sphere about each atom.
        depth: layers.
        lmax: largest degree.
        mmax: orders that messages keep in the frames of edges; None for all.
        between: copies of each degree between a message's two products; ``width`` if None.
        activation: of messages: "gate", or "sphere" for a pointwise one on a grid about the edge.
        cutoff: in Å.
        basis: radial functions.
        hidden: width of the perceptrons.
        element_dim: numbers of each end's element that radial networks see.
        num_neighbors: mean number of neighbours, a constant that scales sums over them.
        oversampling: of the sphere grids, in units of (2L + 1, 4L + 1) rings and points.
        direct: make a head for forces, which are **not conservative**; see ``fit-forces``'s option of that name.
        readout: "sum" or "mean" of the atoms' outputs, or "dipole" or "extent" from them and the atoms' places.
        out_atoms: numbers for each atom, which :meth:`outputs` gives beside those of the molecules.

    Example:
        >>> import torch
        >>> network = ESCN(10, 1, width=4, depth=1, lmax=1, hidden=8)
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
        mmax: int | None = None,
        between: int | None = None,
        activation: str = "gate",
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
        grid = (
            round(oversampling * (2 * lmax + 1)),
            round(oversampling * (4 * (lmax if mmax is None else mmax) + 1)),
        )
        messages = [
            StrictMessage(width, lmax, between or width, mmax, activation, grid, num_neighbors)
            for _ in range(depth)
        ]
        super().__init__(
            in_channels, out_channels, width=width, depth=depth, lmax=lmax, cutoff=cutoff, basis=basis, hidden=hidden,
            element_dim=element_dim, oversampling=oversampling, direct=direct, readout=readout, out_atoms=out_atoms,
            messages=messages, features=messages[0].num_features,
        )  # fmt: skip


@register("escn", output="label", domain="molecule", options_of=ESCN)
def escn(in_channels: int, out_channels: int, grid: Any, **options: Any) -> ESCN:
    """Spherical channels with SO(2) products in edge frames (Passaro & Zitnick 2023): strict up to the atoms' sphere grids."""
    return ESCN(in_channels, out_channels, **options)
