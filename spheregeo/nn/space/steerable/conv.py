r"""``SteerableConv``: the convolution of irreps features over points in space, one layer for three ways of evaluating it.

    y_i = n^{-1/2} sum_{j -> i} sum_h phi_h(ij) sum_paths W_{h, path}  C^{l1 l2 l3} ( x_j^{l1} ⊗ Y^{l2}(r_ij) )

With the edge's numbers phi_h = 1 this is the tensor-product convolution with shared weights; with phi the hidden layer of a
radial network and W its last one, it has a weight matrix for every edge, which is never formed: products are summed over
neighbours first and mixed once a point. ``depthwise`` keeps channels apart on edges, with weights
sum_h phi_h V_{h, path, channel}, and mixes them afterwards.
"""

from __future__ import annotations

import math
import warnings
from itertools import pairwise
from typing import Any

import torch
from e3nn.o3 import FullyConnectedTensorProduct, Irreps
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from spheregeo.autograd import is_watched
from spheregeo.deprecation import renamed_arguments
from spheregeo.nn.irreps.layout import as_irreps, check_features, join_rows, places_of, split_rows
from spheregeo.nn.irreps.stacks import Features, Stacks, check_stacks, terms_of
from spheregeo.nn.kept import KeptInEvaluation
from spheregeo.nn.space.geometry import EdgeGeometry, EdgeList, edge_inputs
from spheregeo.nn.space.steerable.paths import coupling_of, path_table
from spheregeo.nn.space.steerable.so2 import FrameRotations, SO2Maps, so2_convolution
from spheregeo.nn.space.steerable.tensor import tensor_convolution
from spheregeo.nn.space.steerable.unrolled import unrolled_convolution, written_out
from spheregeo.sparse import Pairs

METHODS = ("product", "so2", "tensor", "unrolled")


class SteerableConv(KeptInEvaluation):
    r"""Convolution of O(3) features over the edges of a graph in space.

    Args:
        irreps_in: features of the source points, e3nn irreps such as "32x0e + 32x1o".
        irreps_out: features of the target points.
        lmax: highest degree of the edges' harmonics; kernels beyond it are left out.
        edge_dim: H, how many numbers each edge brings (such as the hidden layer of a radial network); None for none.
        depthwise: channels stay apart on edges and are mixed at points; needs ``edge_dim``.
        num_neighbors: mean number n of neighbors, a constant that sets the size of the output.
        method: "product" (aggregate products, mix once a point; compiled on CPUs), "so2" (rotate every edge onto the polar
            axis, where the product is a small matrix for each order m), "tensor" (e3nn's tensor product, the slow twin) or
            "unrolled" (every product of two numbers written out: slow as it stands, and what ``torch.compile`` makes the least of
            for small systems; of depthwise layers and those without ``edge_dim``). All have the same weights and give the same
            result; None takes "product" on CPUs and "so2" elsewhere.
        engine: name of an engine of the sparse backend, see :func:`spheregeo.sparse.engines`, for sums over neighbors and
            rotations of edges; None for the first that runs. Methods of plain torch have no use for one.
        mmax: of "so2": orders beyond it are left out of the product. Exactly equivariant, another set of maps.
        chunk: edges done at a time, computed again in the backward pass, for graphs that do not fit memory.

    Shape:
        ``conv(x, positions, edge_index, edge_features)`` or ``conv(x, geometry, edge_features)``: x (N_s, irreps_in.dim),
        positions (N, 3) or (sources, targets), edge_index (2, E) source -> target, edge_features (E, H) ->
        (N_t, irreps_out.dim). Layout mul_ir. Edge features are in the order of edge_index, or of the geometry's edges:
        sorted by target.

    Equivariance: O(3), translations and permutations of points exact, to rounding: 1e-14 (float64), 1e-6 (float32). Methods agree
        to 1e-13 (float64). A target without edges gets zero; an edge of length zero contributes its l2 = 0 part.

    Raises:
        ValueError: irreps that cannot be reached at all, edge features missing or too many, shapes that do not fit.

    Reference: Thomas et al. 2018, arXiv:1802.08219, eq. 3; Passaro & Zitnick 2023, arXiv:2302.03655 ("so2"); e3nn's
        ``FullyConnectedTensorProduct`` (normalisation "component", "element").

    Example:
        >>> conv = SteerableConv("8x0e + 4x1o", "8x0e + 4x1o", lmax=2)
        >>> x, positions = torch.randn(4, 20), torch.randn(4, 3)
        >>> edge_index = torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2]])
        >>> conv(x, positions, edge_index).shape
        torch.Size([4, 20])
    """

    @renamed_arguments(degree="num_neighbors")
    def __init__(
        self,
        irreps_in: str | Irreps,
        irreps_out: str | Irreps,
        *,
        lmax: int,
        edge_dim: int | None = None,
        depthwise: bool = False,
        num_neighbors: float = 1.0,
        method: str | None = None,
        engine: str | None = None,
        mmax: int | None = None,
        chunk: int | None = None,
    ) -> None:
        super().__init__()
        if engine in METHODS:
            warnings.warn(
                f"engine={engine!r} is called method={engine!r} now, and engine= chooses an engine of the sparse backend; "
                "the former meaning will go in 0.3",
                DeprecationWarning,
                stacklevel=3,  # past the wrapper of renamed arguments
            )
            method, engine = engine if method is None else method, None
        self.irreps_in, self.irreps_out = (
            as_irreps(irreps_in, "irreps_in"),
            as_irreps(irreps_out, "irreps_out"),
        )
        self._check(lmax, edge_dim, num_neighbors, chunk)
        self._check_method(method, engine, depthwise, mmax, edge_dim)
        if depthwise and edge_dim is None:
            raise ValueError("depthwise convolutions take their weights from the edges: give edge_dim")
        self.lmax, self.edge_dim, self.depthwise = lmax, edge_dim, depthwise
        self.num_neighbors = float(num_neighbors)
        self.method, self.mmax, self.chunk = method, mmax, chunk
        self.table = path_table(self.irreps_in, self.irreps_out, lmax)
        if not self.table.paths:
            raise ValueError(
                f"irreps_out is {self.irreps_out}, nothing of which products of {self.irreps_in} with harmonics up to degree "
                f"{lmax} reach; check parities"
            )
        heads = 1 if edge_dim is None or depthwise else edge_dim
        kind = "factored" if depthwise else None if edge_dim is None else "shared"
        self._written = written_out(self.table) if method == "unrolled" else None
        self._terms = terms_of(self.irreps_in), terms_of(self.irreps_out)
        self._places = places_of(self.irreps_in), places_of(self.irreps_out)
        self.coupling = coupling_of(self.table, kind, heads, engine)
        self.so2 = None if depthwise else SO2Maps(self.table, mmax)
        self.engine = self.coupling.engine
        self.rotations = None if depthwise else FrameRotations(self.table, engine)
        # (H, rows, copies): of a head's products, path after path, into each reached output stack
        self.weights = nn.ParameterList(
            torch.empty(heads, self.table.rows[t], self.table.target_copies[t]) for t in self.table.reached
        )
        self.edge_weights = nn.Parameter(torch.empty(edge_dim, self.coupling.width)) if depthwise else None  # type: ignore[arg-type]
        self._many = self._neighbors_for_products()
        self.reset_parameters()

    def _check(self, lmax: int, edge_dim: int | None, num_neighbors: float, chunk: int | None) -> None:
        if lmax < 0:
            raise ValueError(f"lmax is {lmax}; expected zero or more")
        for name, value in (("edge_dim", edge_dim), ("chunk", chunk)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected at least 1, or None")
        if not (num_neighbors > 0 and math.isfinite(num_neighbors)):
            raise ValueError(f"num_neighbors is {num_neighbors}; expected a positive number, their mean")

    def _check_method(
        self, method: str | None, engine: str | None, depthwise: bool, mmax: int | None, edge_dim: int | None
    ) -> None:
        if method is not None and method not in METHODS:
            raise ValueError(f"method is {method!r}; expected one of {', '.join(METHODS)}, or None")
        if mmax is not None and (method != "so2" or mmax < 0):
            raise ValueError(f"mmax is {mmax} with method={method!r}; it needs method='so2' and zero or more")
        if method == "so2" and depthwise:
            raise ValueError(
                "method 'so2' mixes channels on edges; depthwise convolutions take 'product' or 'tensor'"
            )
        if method == "unrolled" and not depthwise and edge_dim is not None:
            raise ValueError(
                "method 'unrolled' mixes no channels on edges; take 'product', or depthwise=True"
            )
        if method in ("tensor", "unrolled") and engine not in (None, "auto"):
            raise ValueError(f"engine is {engine!r}, but method {method!r} is plain torch; expected None")

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw weights anew from N(0, 1): with unit components and edge features, every output component has unit variance."""
        for weight in self.weights:
            weight.normal_()
        if self.edge_weights is not None:
            self.edge_weights.normal_()

    def forward(
        self,
        x: Features,
        positions: Tensor | tuple[Tensor, Tensor] | EdgeGeometry,
        edge_index: Tensor | EdgeList | None = None,
        edge_features: Tensor | None = None,
    ) -> Features:
        geometry, edge_features = edge_inputs(positions, edge_index, edge_features, self._check_features)
        if isinstance(x, Stacks):
            check_stacks(x, self._terms[0])
            return Stacks.of(self._convolved(x, geometry, edge_features), self._terms[1])
        check_features(x, self.irreps_in)
        if x.ndim != 2:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (sources, {self.irreps_in.dim})")
        stacks = Stacks.of(split_rows(x, self._places[0]), self._terms[0])
        return join_rows(self._convolved(stacks, geometry, edge_features), self._places[1])

    def _check_features(self, edge_features: Tensor | None, num_edges: int) -> None:
        if self.edge_dim is None and edge_features is not None:
            raise ValueError("edge_features are given to a layer without edge_dim; build it with edge_dim=")
        if self.edge_dim is not None and (
            edge_features is None or tuple(edge_features.shape) != (num_edges, self.edge_dim)
        ):
            found = None if edge_features is None else tuple(edge_features.shape)
            raise ValueError(f"edge_features has shape {found}; expected ({num_edges}, {self.edge_dim})")

    def _convolved(self, x: Stacks, geometry: EdgeGeometry, edge_features: Tensor | None) -> list[Tensor]:
        """All output stacks (N_t, 2l + 1, copies), zero where no product reaches one."""
        like, vectors = x.parts[0], geometry.vectors
        if tuple(x.shape) != (geometry.num_source,):
            raise ValueError(
                f"x has {tuple(x.shape)} points; expected ({geometry.num_source},), the sources of the edges"
            )
        if like.dtype != vectors.dtype and torch.float64 in (like.dtype, vectors.dtype):
            raise ValueError(f"x is {like.dtype} but positions are {vectors.dtype}; expected one type")
        method = self.method or self._cheaper(like, geometry)
        if method == "so2":
            assert self.so2 is not None and self.rotations is not None
            weights = self.scaled_weights()
            parts = so2_convolution(self.so2, self.rotations, weights, x, geometry, edge_features)
        elif method == "tensor":
            weights, factor = self.scaled_weights(), self.factor()
            parts = tensor_convolution(self.table, weights, factor, x.parts, geometry, edge_features)
        elif method == "unrolled":
            assert self._written is not None
            weights, pair, factor = [w[0] for w in self.scaled_weights()], edge_features, self.factor()
            if pair is not None and factor is not None:
                pair = pair @ factor
            harmonics = geometry.harmonics(self.lmax)
            parts = unrolled_convolution(self._written, weights, x.parts, harmonics, geometry, pair)
        elif self.chunk is not None and geometry.num_edges > self.chunk:
            parts = self._in_chunks(x.planar(), geometry, edge_features)
        else:
            pairs = geometry.edges.pairs
            parts = self._products(x.planar(), geometry.harmonics(self.lmax), pairs, edge_features)
        if len(parts) == len(self._terms[1]):
            return parts
        found = dict(zip(self.table.reached, parts, strict=True))
        return [
            found[t] if t in found else like.new_zeros(geometry.num_target, 2 * l + 1, copies)
            for t, (l, _, copies) in enumerate(self._terms[1])
        ]

    # ---- methods

    def _cheaper(self, like: Tensor, geometry: EdgeGeometry) -> str:
        """The method with fewer multiplications; on the CPU, where loops are compiled, and for compilers always "product"."""
        if like.device.type == "cpu" or self.depthwise or is_watched():
            return "product"
        return "product" if geometry.num_edges >= self._many * geometry.num_target else "so2"

    def _neighbors_for_products(self) -> float:
        """From how many edges a target on "product" takes fewer multiplications than "so2": it mixes channels once a target."""
        table, heads = self.table, 1 if self.edge_dim is None or self.depthwise else self.edge_dim
        sources, targets = table.sources, table.targets
        pair = sum(targets[p.target].dim * (sources[p.source].dim + heads) * p.copies for p in table.paths)
        point = sum(targets[t].dim * heads * table.rows[t] * table.target_copies[t] for t in table.reached)
        turned = sum(ir.dim**2 * copies for ir, copies in zip(sources, table.source_copies, strict=True))
        turned += sum(targets[t].dim ** 2 * table.target_copies[t] for t in table.reached)
        mixed = {
            (p.source, p.target): heads
            * (1 + 2 * min(sources[p.source].l, targets[p.target].l))
            * table.source_copies[p.source]
            * table.target_copies[p.target]
            for p in table.paths
        }
        saved = turned + sum(mixed.values()) - pair
        return point / saved if saved > 0 else math.inf

    def unroll(self) -> bool:
        """Take method "unrolled" from now on, where the layer has it and no method was asked for; returns whether it does."""
        if self.method is None and (self.depthwise or self.edge_dim is None):
            self.method, self._written = "unrolled", written_out(self.table)
        return self.method == "unrolled"

    def scaled_weights(self) -> list[Tensor]:
        """Weights (H, rows, copies) times the constants that keep variances: 1/√(rows H n)."""
        return [w / math.sqrt(w.shape[0] * w.shape[1] * self.num_neighbors) for w in self.weights]

    def factor(self) -> Tensor | None:
        """Matrix (H, channels of all paths) from edge features to the weights of depthwise paths; None for other layers."""
        return None if self.edge_weights is None else self.edge_weights / math.sqrt(self.edge_dim or 1)

    def _products(
        self, x: Tensor, harmonics: Tensor, pairs: Pairs, edge_features: Tensor | None
    ) -> list[Tensor]:
        learned = list(self.weights)
        factor = None
        if self.edge_weights is not None:
            learned.append(self.edge_weights)
            factor = self.kept("factor", self.factor, learned)
        z = self.coupling(x, harmonics, pairs, edge_features, factor)
        parts = self.coupling.split(z, pairs.num_target)
        dtype = z.dtype
        matrices = self.kept(dtype, lambda: self._matrices(dtype), learned)
        return [part @ matrix for part, matrix in zip(parts, matrices, strict=True)]

    def _matrices(self, dtype: torch.dtype) -> list[Tensor]:
        """Scaled weights that mix what products of a target have, (H · rows, copies) each."""
        return [w.flatten(0, 1).to(dtype) for w in self.scaled_weights()]

    def _in_chunks(self, x: Tensor, geometry: EdgeGeometry, edge_features: Tensor | None) -> list[Tensor]:
        """Targets a few at a time; what their edges need is computed again in the backward pass."""
        from spheregeo.harmonics import component_harmonics

        pairs, chunk = geometry.edges.pairs, self.chunk or 1
        counts = pairs.indptr.diff()
        order = torch.arange(pairs.num_target, device=counts.device) if pairs.order is None else pairs.order
        ends = counts[order].cumsum(0)
        stops = torch.searchsorted(
            ends, torch.arange(chunk, geometry.num_edges + chunk, chunk, device=ends.device)
        )
        stops = (stops + 1).clamp_max(pairs.num_target)
        stops[-1] = pairs.num_target  # targets without edges may follow the last edge
        bounds = [0, *torch.unique(stops).tolist()]

        def some(
            x: Tensor, vectors: Tensor, features: Tensor | None, source: Tensor, target: Tensor, count: int
        ) -> Any:
            part = Pairs.of(source, target, pairs.num_source, count)
            return tuple(self._products(x, component_harmonics(vectors, self.lmax), part, features))

        found = []
        for first, last in pairwise(bounds):
            rows = order[first:last]
            local = torch.repeat_interleave(torch.arange(last - first, device=rows.device), counts[rows])
            begins = counts[rows].cumsum(0) - counts[rows]
            edge = pairs.indptr[rows][local] + torch.arange(len(local), device=rows.device) - begins[local]
            features = None if edge_features is None else edge_features[edge]
            arguments = (x, geometry.vectors[edge], features, pairs.sources[edge], local, last - first)
            found.append(checkpoint(some, *arguments, use_reentrant=False))
        back = torch.empty_like(order).index_copy(0, order, torch.arange(len(order), device=order.device))
        return [torch.cat(parts).index_select(0, back) for parts in zip(*found, strict=True)]

    # ---- exchange

    @torch.no_grad()
    def load_e3nn(self, product: FullyConnectedTensorProduct) -> SteerableConv:
        """Take the weights of an e3nn tensor product of the same features with harmonics up to lmax; returns self.

        Raises: ValueError for other irreps, or a layer with ``edge_dim``.
        """
        for _, weight, theirs, factor in self._matched(product):
            weight.copy_(theirs / factor)
        return self

    @torch.no_grad()
    def to_e3nn(self) -> FullyConnectedTensorProduct:
        """An e3nn tensor product of features with harmonics up to lmax: its messages, summed over edges, are this layer's output.

        Raises: ValueError for a layer with ``edge_dim``, or irreps in another order than e3nn's products keep.
        """
        before, dtype = torch.get_default_dtype(), self.weights[0].dtype
        torch.set_default_dtype(dtype)  # in which e3nn makes its constants
        try:
            harmonics = Irreps.spherical_harmonics(self.lmax)
            product = FullyConnectedTensorProduct(self.irreps_in, harmonics, self.irreps_out).to(
                self.weights[0]
            )
        finally:
            torch.set_default_dtype(before)
        for _, weight, theirs, factor in self._matched(product):
            theirs.copy_(weight * factor)
        return product

    def _matched(self, product: FullyConnectedTensorProduct) -> list[tuple[int, Tensor, Tensor, float]]:
        """(stack, our part, their part, factor) of every product: theirs = ours * factor gives the same map."""
        harmonics = Irreps.spherical_harmonics(self.lmax)
        if self.edge_dim is not None:
            raise ValueError("edge_dim is set; only a layer with shared weights is an e3nn tensor product")
        given = (Irreps(product.irreps_in1), Irreps(product.irreps_in2), Irreps(product.irreps_out))
        expected = (self.irreps_in, harmonics, self.irreps_out)
        if given != expected:
            raise ValueError(f"product is of {given}; expected {expected}")
        reached = {t: k for k, t in enumerate(self.table.reached)}
        row = {(p.source, p.degree, p.target): p.row for p in self.table.paths}
        sources, targets = list(self.table.sources), list(self.table.targets)
        found, read = [], 0
        for ins in product.instructions:
            ir_in, ir_out = given[0][ins.i_in1].ir, given[2][ins.i_out].ir
            size = math.prod(ins.path_shape)
            theirs = product.weight[read : read + size].view(ins.path_shape[0], ins.path_shape[2])
            read += size
            t, s = targets.index(ir_out), sources.index(ir_in)
            first = row[s, ins.i_in2, t] + sum(m for m, ir in given[0][: ins.i_in1] if ir == ir_in)
            column = sum(m for m, ir in given[2][: ins.i_out] if ir == ir_out)
            weight = self.weights[reached[t]]
            ours = weight[0, first : first + ins.path_shape[0], column : column + ins.path_shape[2]]
            scale = math.sqrt((2 * ir_out.l + 1) / (weight.shape[1] * self.num_neighbors))
            found.append((t, ours, theirs, scale / ins.path_weight))
        return found

    def extra_repr(self) -> str:
        text = f"'{self.irreps_in}', '{self.irreps_out}', lmax={self.lmax}, edge_dim={self.edge_dim}, depthwise={self.depthwise}"
        return text if self.method is None else f"{text}, method={self.method!r}"
