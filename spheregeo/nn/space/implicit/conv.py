r"""``ImplicitConv``: convolution of points whose kernel is an equivariant network of the offset and of edge attributes.

    y_i = (mean or scaled sum over pairs j -> i) κ(x_j − x_i, a_ij) f_j + b,    κ(g r, g a) = ρ_out(g) κ(r, a) ρ_in(g)⁻¹

Reference: Zhdanov, Hoffmann & Cesa 2023, arXiv:2212.06096, eq. 4 and section 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from spheregeo.autograd import is_watched
from spheregeo.checks import check_tensor
from spheregeo.deprecation import renamed_arguments
from spheregeo.harmonics import wigner_D
from spheregeo.nn.exact_buffers import ExactBuffers
from spheregeo.nn.feature_cover import check_epsilon
from spheregeo.nn.irreps.layout import EVEN, as_irreps, couples, is_scalar, join_rows, places_of, split_rows
from spheregeo.nn.irreps.stacks import Features, Stacks, check_stacks, terms_of
from spheregeo.nn.space.geometry import EdgeGeometry, EdgeList, edge_inputs
from spheregeo.nn.space.implicit.contraction import KernelCoupling
from spheregeo.nn.space.implicit.cover import EdgeCover, Sectors, Shared, edge_cover
from spheregeo.nn.space.implicit.gated_kernel import GatedNetwork, reachable
from spheregeo.nn.space.implicit.product_kernel import ProductNetwork
from spheregeo.nn.space.implicit.regular_kernel import RegularCoupling, RegularNetwork, finite_group
from spheregeo.sparse import Pairs, check_engine

NONLINEARITIES = ("gate", "product", "regular")


class ImplicitConv(nn.Module):
    """Convolution of irreps features on points with a kernel given by an equivariant MLP.

    Args:
        irreps_in, irreps_out: e3nn irreps such as ``"16x0e + 16x1o"``; ``mul_ir`` layout.
        hidden: copies of each hidden irrep (for finite groups: functions on the group) in the kernel network.
        attributes: irreps of what else the kernel may depend on, one row an edge; bonds as ``"4x0e"``, spins as ``"1x1e"``.
        group: ``"O3"``, ``"SO3"`` (parities are then ignored), ``"tetrahedral"``, ``"octahedral"``, ``"icosahedral"``, ``"Cn"``,
            ``"Dn"`` (axes as in :mod:`spheregeo.groups`), or the matrices of a finite group, reflections among them or not.
        layers: hidden layers of the network.
        nonlinearity: ``"gate"``: a scalar network gates harmonics, which is every kernel there is where attributes are scalars;
            ``"product"``: tensor products with offset and attributes, for any attributes; ``"regular"``: pointwise on the
            elements of a finite group. None takes the first that fits.
        lmax: largest degree within the kernel; None for all that irreps_in ⊗ irreps_out has. A finite group's kernel has no
            degrees; there it is that of the offset's harmonics, at least 2 by default.
        radius: unit of length of the kernel, such as the graph's cut-off.
        sigma: first width of the Gaussian shell, in radii; learned, one for each copy.
        envelope: whether kernels end smoothly (twice differentiable) at the radius, for forces.
        num_radial: radial functions that enter the network.
        reduce: ``"mean"`` over neighbors (none: 0), or ``"sum"`` divided by √num_neighbors.
        num_neighbors: mean number of neighbors, a constant that sets the size of sums.
        bias: a learned constant on what the group leaves fixed: the 0e, for O(3).
        chunk: pairs at a time, computed again backward; None for all at once.
        epsilon: how much edges may differ that share one evaluation of the kernel network, in radii: in length for O3 and SO3, in
            the vector carried into a sector of space for a finite group, each number of the attributes alike. A cell's member
            stands for it, and the network's gradient flows to that member. 0 evaluates the network at every edge.
        engine: name of an engine of the sparse backend, see :func:`spheregeo.sparse.engines`; None for the first that runs.

    Shape:
        ``conv(x, positions, edge_index, attributes)`` or ``conv(x, geometry, attributes)``: x (N_s, irreps_in.dim), positions
        (N, 3) or (sources, targets), edge_index (2, E) source -> target in any order, attributes (E, attributes.dim) in that
        order, or in that of the geometry's edges -> (N_t, irreps_out.dim).
    Units: positions and ``radius`` in the same.
    Equivariance: the group, and translations: exact; measured 2e-15 in float64 and 7e-7 in float32, relative, all parameters
        random, for O3, SO3, octahedral and icosahedral. With ``epsilon``, up to edges that rounding moves to another cell or,
        on a mirror between sectors, to another sector; edges of all graphs of a batch share cells.
    Raises: ValueError for irreps, groups, choices or inputs that do not fit; a kernel that must be zero.
    Reference: Zhdanov, Hoffmann & Cesa 2023, arXiv:2212.06096; evaluation order: You et al. 2021, arXiv:2102.12093.

    Example:
        >>> conv = ImplicitConv("8x0e + 4x1o", "8x0e + 4x1o")
        >>> x, positions = torch.randn(4, 20), torch.randn(4, 3)
        >>> edge_index = torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2]])
        >>> conv(x, positions, edge_index).shape
        torch.Size([4, 20])
    """

    network: GatedNetwork | ProductNetwork | RegularNetwork
    coupling: KernelCoupling | RegularCoupling

    @renamed_arguments(degree="num_neighbors", aggregation="reduce")
    def __init__(
        self,
        irreps_in: str | Irreps,
        irreps_out: str | Irreps,
        *,
        hidden: int = 8,
        attributes: str | Irreps | None = None,
        group: str | Tensor = "O3",
        layers: int = 2,
        nonlinearity: str | None = None,
        lmax: int | None = None,
        radius: float = 1.0,
        sigma: float = 0.5,
        envelope: bool = False,
        num_radial: int = 8,
        reduce: str = "mean",
        num_neighbors: float = 1.0,
        bias: bool = True,
        chunk: int | None = None,
        epsilon: float = 0.0,
        engine: str | None = None,
    ) -> None:
        super().__init__()
        self.irreps_in, self.irreps_out = (
            as_irreps(irreps_in, "irreps_in"),
            as_irreps(irreps_out, "irreps_out"),
        )
        self.attributes = None if attributes is None else as_irreps(attributes, "attributes")
        self._terms = terms_of(self.irreps_in), terms_of(self.irreps_out)
        self._places = places_of(self.irreps_in), places_of(self.irreps_out)
        # sizes apart: torch.compile cannot read e3nn's irreps
        size = 0 if self.attributes is None else self.attributes.dim
        self.sizes = (self.irreps_in.dim, self.irreps_out.dim, size)
        for name, value in (
            ("hidden", hidden),
            ("layers", layers),
            ("num_radial", num_radial),
            ("chunk", chunk),
        ):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} is {value!r}; expected a whole number of at least 1")
        for name, size in (("radius", radius), ("sigma", sigma), ("num_neighbors", num_neighbors)):
            if not (0 < size < math.inf):
                raise ValueError(f"{name} is {size}; expected a positive number")
        if reduce not in ("mean", "sum"):
            raise ValueError(f"reduce is {reduce!r}; expected 'mean' or 'sum'")
        if lmax is not None and lmax < 0:
            raise ValueError(f"lmax is {lmax}; expected zero or more")
        self.reduce, self.num_neighbors, self.chunk = reduce, num_neighbors, chunk
        self.epsilon = check_epsilon(epsilon)
        self.sectors: Sectors | None = None
        self.engine = check_engine(engine)
        self.group = group if isinstance(group, str) else f"{len(group)} matrices"
        self.radius = radius
        continuous = isinstance(group, str) and group in ("O3", "SO3")
        self.nonlinearity = self._choose(nonlinearity, continuous, group == "SO3")
        top = max(ir.l for _, ir in self.irreps_in) + max(ir.l for _, ir in self.irreps_out)
        top = max(top, 0 if continuous else 2) if lmax is None else min(top, lmax) if continuous else lmax
        shell: dict[str, Any] = {
            "radius": radius,
            "sigma": sigma,
            "envelope": envelope,
            "num_radial": num_radial,
        }
        parity = group != "SO3"
        if continuous:
            types = reachable(self.attributes, top, parity)
            if self.nonlinearity == "gate":
                types = [t for t in types if self._needed(t, parity)]
            self.coupling = KernelCoupling(self.irreps_in, self.irreps_out, types, hidden, parity)
            if self.nonlinearity == "gate":
                self.network = GatedNetwork([t.l for t in types], self.attributes, hidden, layers, **shell)
            else:
                if epsilon:
                    raise ValueError(
                        f"epsilon is {epsilon}; expected 0 for nonlinearity 'product': edges with attributes that turn have no "
                        f"common frame under {self.group}; scalar attributes or a finite group have"
                    )
                self.network = ProductNetwork(types, self.attributes, hidden, layers, parity, **shell)
            self.sums = self.coupling.fused(self.engine) if self.nonlinearity == "gate" else None
            fixed = torch.eye(self.irreps_out.dim, dtype=torch.float64)
            fixed = fixed[is_scalar(self.irreps_out)] if parity else fixed[_degree_zero(self.irreps_out)]
        else:
            matrices = finite_group(group)
            self.network = RegularNetwork(matrices, top, self.attributes, hidden, layers, **shell)
            self.coupling = RegularCoupling(matrices, self.irreps_in, self.irreps_out, hidden)
            if epsilon:
                self.sectors = Sectors(matrices, self.attributes)
            mean = wigner_D(self.irreps_out, matrices).mean(0)  # projects on what the group leaves fixed
            values, vectors = torch.linalg.eigh((mean + mean.T) / 2)
            fixed = vectors[:, values > 0.5].T
        self.fixed = _Fixed(fixed) if bias and len(fixed) else None

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw network and last layer anew; widths as at first, no bias."""
        self.network.reset_parameters()
        self.coupling.reset_parameters()
        if self.fixed is not None:
            self.fixed.bias.zero_()

    def _choose(self, nonlinearity: str | None, continuous: bool, proper: bool) -> str:
        scalars = all(ir.l == 0 and (proper or ir == EVEN) for _, ir in self.attributes or ())
        fitting = (["gate"] if scalars else []) + ["product"] if continuous else ["regular"]
        if nonlinearity is None:
            return fitting[0]
        if nonlinearity not in NONLINEARITIES:
            raise ValueError(f"nonlinearity is {nonlinearity!r}; expected one of {', '.join(NONLINEARITIES)}")
        if nonlinearity not in fitting:
            raise ValueError(
                f"nonlinearity is {nonlinearity!r}; expected {' or '.join(map(repr, fitting))} for group {self.group} and "
                f"attributes {self.attributes}"
            )
        return nonlinearity

    def _needed(self, ir: Any, parity: bool) -> bool:
        return any(couples(a, ir, b, parity) for _, a in self.irreps_in for _, b in self.irreps_out)

    def forward(
        self,
        x: Features,
        positions: Tensor | tuple[Tensor, Tensor] | EdgeGeometry,
        edge_index: Tensor | EdgeList | None = None,
        attributes: Tensor | None = None,
    ) -> Features:
        geometry, attributes = edge_inputs(positions, edge_index, attributes, self._check_attributes)
        if isinstance(x, Stacks):
            check_stacks(x, self._terms[0])
            return Stacks.of(self._convolved(x, geometry, attributes), self._terms[1])
        check_tensor(x)
        if x.ndim != 2 or x.shape[1] != self.sizes[0]:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected ({geometry.num_source}, {self.sizes[0]}), a row for each source"
            )
        stacks = Stacks.of(split_rows(x, self._places[0]), self._terms[0])
        return join_rows(self._convolved(stacks, geometry, attributes), self._places[1])

    def _convolved(self, x: Stacks, geometry: EdgeGeometry, attributes: Tensor | None) -> list[Tensor]:
        """All output stacks, (N_t, 2l + 1, copies)."""
        if tuple(x.shape) != (geometry.num_source,):
            raise ValueError(
                f"x has {tuple(x.shape)} points; expected ({geometry.num_source},), the sources of the edges"
            )
        pairs, vectors = geometry.edges.pairs, geometry.vectors
        given = torch.promote_types(x.parts[0].dtype, vectors.dtype)
        learned = next(self.network.parameters()).dtype
        if given != learned and torch.float64 in (given, learned):
            raise ValueError(f"x and positions are {given} but the weights {learned}; expected one type")
        dtype = torch.promote_types(given, learned)
        attributes = None if attributes is None else attributes.to(dtype)
        with torch.autocast(vectors.device.type, enabled=False):
            vectors = vectors.to(dtype)
            shared = self._shared(geometry, vectors, attributes) if self.epsilon and len(vectors) else None
            parts = self._messages([part.to(dtype) for part in x.parts], vectors, attributes, pairs, shared)
            if self.reduce == "mean":
                count = pairs.indptr.diff().clamp(min=1)[:, None, None].to(dtype)
                parts = [part / count for part in parts]
            else:
                parts = [part / math.sqrt(self.num_neighbors) for part in parts]
            if self.fixed is not None:
                constant = split_rows(self.fixed().to(dtype), self._places[1])
                parts = [part + c for part, c in zip(parts, constant, strict=True)]
        return [part.to(given) for part in parts]

    def _check_attributes(self, attributes: Tensor | None, edges: int) -> None:
        size = self.sizes[2]
        if (attributes is None) != (size == 0):
            expected = "None: the layer was built without" if size == 0 else f"({edges}, {size})"
            given = None if attributes is None else tuple(attributes.shape)
            raise ValueError(f"attributes is {given}; expected {expected}")
        if attributes is not None and attributes.shape != (edges, size):
            raise ValueError(
                f"attributes has shape {tuple(attributes.shape)}; expected ({edges}, {size}), one row for each edge"
            )

    def cover(self, geometry: EdgeGeometry, attributes: Tensor | None = None) -> EdgeCover:
        """Return which edges share an evaluation of the kernel network; without attributes the geometry keeps it for all layers.

        Args:
            geometry: the edges.
            attributes: of the edges, in their order.

        Shape: E edges, attributes (E, attributes.dim).
        """
        self._check_attributes(attributes, geometry.num_edges)
        sectors, watched = self.sectors, is_watched()
        key = (self.epsilon, self.radius, None if sectors is None else sectors.key)
        keeps = attributes is None and not watched
        if keeps and key in geometry.covers:
            found: EdgeCover = geometry.covers[key]
            return found
        # compilers know shapes, not the number of clusters
        made = edge_cover(
            geometry.vectors, attributes, self.epsilon, radius=self.radius, sectors=sectors, all_kept=watched
        )
        if keeps:
            geometry.covers[key] = made
        return made

    def _shared(self, geometry: EdgeGeometry, vectors: Tensor, attributes: Tensor | None) -> Shared:
        """Values of the kernel network at the edges that stand for the others."""
        kept, which, element = self.cover(geometry, attributes)
        vectors = vectors.index_select(0, kept)
        attributes = None if attributes is None else attributes.index_select(0, kept)
        if isinstance(self.network, GatedNetwork):
            return Shared(self.network.gates(vectors, attributes), which, None)
        assert self.sectors is not None and element is not None
        inside = self.sectors.inside(vectors, attributes, element.index_select(0, kept))
        return Shared(self.network(*inside), which, element)

    def _messages(
        self,
        x: Sequence[Tensor],
        vectors: Tensor,
        attributes: Tensor | None,
        pairs: Pairs,
        shared: Shared | None,
    ) -> list[Tensor]:
        count, indptr = len(pairs.sources), pairs.indptr
        if self.chunk is None or count <= self.chunk:
            return self._sums(x, vectors, attributes, pairs, shared)
        out = [x[0].new_zeros(pairs.num_target, 2 * l + 1, copies) for l, _, copies in self._terms[1]]
        for begin in range(0, count, self.chunk):
            end = min(begin + self.chunk, count)
            # targets with pairs from begin to end, the first and last perhaps not with all of theirs
            first = int(torch.searchsorted(indptr, begin, right=True)) - 1
            last = int(torch.searchsorted(indptr, end))
            within = indptr[first : last + 1].clamp(begin, end) - begin
            parts = checkpoint(
                self._sums,
                x,
                vectors[begin:end],
                None if attributes is None else attributes[begin:end],
                Pairs(within, pairs.sources[begin:end], pairs.num_source),
                None if shared is None else shared.rows(begin, end),
                use_reentrant=False,
                preserve_rng_state=False,
            )
            for total, part in zip(out, parts, strict=True):
                total[first:last] += part
        return out

    def _sums(
        self,
        x: Sequence[Tensor],
        vectors: Tensor,
        attributes: Tensor | None,
        pairs: Pairs,
        shared: Shared | None,
    ) -> list[Tensor]:
        """Kernels applied and summed over each target's pairs, none of them formed."""
        if isinstance(self.network, GatedNetwork):
            assert isinstance(self.coupling, KernelCoupling) and self.sums is not None
            if shared is None:
                h, y = self.network(vectors, attributes)
            else:
                h, y = shared.values.index_select(0, shared.which), self.network.turning(vectors)
            return self.coupling.gated(self.sums, x, h, y, pairs)
        if shared is None or self.sectors is None:
            return self.coupling.general(x, self.network(vectors, attributes), pairs, self.engine)
        return self.coupling.general(x, self.sectors.permuted(shared), pairs, self.engine)

    def kernel(self, vectors: Tensor, attributes: Tensor | None = None) -> Tensor:
        """The kernel's matrices, one an offset: the slow twin, and for looking at.

        Shape: vectors (E, 3), attributes (E, attributes.dim) -> (E, irreps_out.dim, irreps_in.dim).
        Equivariance: κ(g r, g a) = ρ_out(g) κ(r, a) ρ_in(g)⁻¹.
        """
        if vectors.ndim != 2 or vectors.shape[1] != 3:
            raise ValueError(f"vectors has shape {tuple(vectors.shape)}; expected (E, 3)")
        self._check_attributes(attributes, len(vectors))
        return self.coupling.kernel(self.hidden_values(vectors, attributes))

    def hidden_values(self, vectors: Tensor, attributes: Tensor | None) -> Tensor:
        """Values of the last hidden layer, in which the kernel is linear.

        Shape: (E, D, hidden), or (E, hidden, G) for a finite group.
        """
        if isinstance(self.network, GatedNetwork):
            h, y = self.network(vectors, attributes)
            return y[:, :, None] * h[:, None]
        return self.network(vectors, attributes)

    def extra_repr(self) -> str:
        return (
            f"'{self.irreps_in}', '{self.irreps_out}', attributes={str(self.attributes or None)!r}, group={self.group}, "
            f"nonlinearity={self.nonlinearity!r}, hidden={self.network.hidden}, radius={self.radius}, "
            f"reduce={self.reduce!r}, chunk={self.chunk}"
            + (f", epsilon={self.epsilon}" if self.epsilon else "")
        )


class _Fixed(ExactBuffers):
    """A learned constant within a subspace. Shape: rows (n, dim) orthonormal -> (dim,)."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.keep("rows", rows)
        self.bias = nn.Parameter(torch.zeros(len(rows)))

    def forward(self) -> Tensor:
        return self.bias @ self.get_buffer("rows").to(self.bias.dtype)


def _degree_zero(irreps: Irreps) -> Tensor:
    return torch.cat([torch.full((mul * ir.dim,), ir.l == 0) for mul, ir in irreps])
