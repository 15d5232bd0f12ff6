"""``distribute``: a layer or network of ours that acts on the points of one process, weights replicated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from spheregeo.distributed import norms
from spheregeo.distributed.collectives import Group, group_rank, group_size, sum_over_group
from spheregeo.distributed.faces import turn_faces
from spheregeo.distributed.halo import Halo
from spheregeo.distributed.maps import PartMap, part_kind
from spheregeo.distributed.part import Shares
from spheregeo.distributed.partition import Partition
from spheregeo.grids import Grid
from spheregeo.nn import (
    AreaBatchNorm,
    AreaGroupNorm,
    ChebConv,
    DiscoConv,
    DiscoConvTranspose,
    ExactBuffers,
    GaugeConv,
    GaugeGeometry,
    GlobalPool,
    HEALPixFaceConv,
    Pool,
    Resample,
    SphereAttention,
    SphereDiffusion,
    SphereDilation,
    Unpool,
)
from spheregeo.nn.surface.statistics import FieldNorm
from spheregeo.sampling import pooling_map, unpooling_map
from spheregeo.sparse import SparseMap, TangentMap, read_points, restricted
from spheregeo.sparse.maps.base import FixedMap

T = TypeVar("T", bound=nn.Module)
GRADIENTS = ("sum", "mean", None)


def part_map(map_: FixedMap, source: Partition, target: Partition, group: Group = None) -> PartMap:
    """This process's rows of a sparse map between two partitioned sets of points; all processes of a group make theirs together.

    Args:
        map_: the whole map, on the CPU.
        source, target: owners of its source points and of its rows.
        group: the processes; None for all.

    Raises: ValueError for partitions of other sizes.
    """
    for name, partition, count in (("source", source, map_.num_source), ("target", target, map_.num_target)):
        if len(partition.owner) != count:
            raise ValueError(f"{name} has {len(partition.owner)} points and the map {count}")
    rows = target.points_of(group_rank(group))
    halo = Halo(source, read_points(map_, rows), group)
    return part_kind(map_)(halo, restricted(map_, rows, halo.points), map_.num_target)  # type: ignore[arg-type]


def work_of(map_: SparseMap | TangentMap) -> Tensor:
    """Work of each row of a sparse map, for :meth:`Partition.of`: its nonzeros. Shape: (P,) int64.

    Args:
        map_: ``layer.map`` of a :class:`~spheregeo.nn.DiscoConv`, ``layer.geometry.map`` of a :class:`~spheregeo.nn.GaugeConv`.

    Example:
        >>> from spheregeo.distributed import work_of
        >>> from spheregeo.grids import Equiangular
        >>> from spheregeo.nn import DiscoConv
        >>> work_of(DiscoConv(1, 1, Equiangular(8, 16)).map)[::16].tolist()
        [31, 27, 13, 11, 11, 13, 27, 31]
    """
    if isinstance(map_, TangentMap):
        return map_.get_buffer("indptr").diff()
    return torch.bincount(map_.pattern.coo()[0], minlength=map_.num_target)


class _Local:
    """In place of a module's rule for a constant: makes that of the whole grid and keeps this process's part.

    Plans are made at the first call, by all processes together, and kept: a change of dtype moves nothing.
    """

    def __init__(
        self, module: nn.Module, shared: Shares, rule: Callable[..., Any], whole: dict[str, Any]
    ) -> None:
        self.module, self.shared, self.rule, self.whole = module, shared, rule, whole
        self.halos: dict[str, tuple[Halo, Tensor]] = {}

    def __call__(self, name: str, dtype: torch.dtype) -> Any:
        with self._as_whole():
            made = self.rule(self.module, name, dtype)
            source: Any = getattr(self.module, "source", None) or self.module.grid
            target: Any = getattr(self.module, "target", None) or source
        if isinstance(made, Tensor):
            return self.shared.part(source).of(made.reshape(source.shape)).reshape(-1)
        if isinstance(made, GaugeGeometry):
            areas = self.shared.part(target).of(made.areas.reshape(target.shape)).reshape(-1)
            return GaugeGeometry(self._map(name, made.map, source, target), areas, None, made.same_points)  # type: ignore[arg-type]
        return self._map(name, made, source, target)

    def _map(self, name: str, made: FixedMap, source: Grid, target: Grid) -> PartMap:
        if name not in self.halos:
            rows = self.shared.part(target).index
            read = read_points(made, rows)
            self.halos[name] = Halo(self.shared.partition(source), read, self.shared.group), rows
        halo, rows = self.halos[name]
        return part_kind(made)(halo, restricted(made, rows, halo.points), made.num_target)  # type: ignore[arg-type]

    @contextmanager
    def _as_whole(self) -> Iterator[None]:
        """The module with the grids that it had."""
        now = {name: getattr(self.module, name) for name in self.whole}
        try:
            for name, value in self.whole.items():
                setattr(self.module, name, value)
            yield
        finally:
            for name, value in now.items():
                setattr(self.module, name, value)


class _SumGradients:
    """Before a forward pass: gradients of all weights will be summed over the group, those of copies too."""

    def __init__(self, group: Group, mean: bool) -> None:
        self.group, self.mean = group, mean

    def __deepcopy__(self, memo: dict[int, Any]) -> _SumGradients:
        return self

    def __call__(self, module: nn.Module, arguments: Any) -> None:
        for p in module.parameters():
            if p.requires_grad and not hasattr(p, "_summed_over_group"):
                p._summed_over_group = p.register_hook(self._total)  # type: ignore[attr-defined]

    def _total(self, g: Tensor) -> Tensor:
        total = sum_over_group(g, self.group)
        return total / group_size(self.group) if self.mean else total


# ---- what becomes of each kind of layer


def _keep_rule(module: Any) -> Callable[..., Any]:
    rule: Callable[..., Any] = type(module)._build
    return rule


def _pool(module: Any, name: str, dtype: torch.dtype) -> FixedMap:
    reduce = "mean" if module.reduce == "max" else module.reduce  # of a maximum, its points are read
    return pooling_map(module.source, reduce).to(dtype).shared()


def _unpool(module: Any, name: str, dtype: torch.dtype) -> FixedMap:
    if module.method == "linear":
        made: FixedMap = type(module)._build(module, name, dtype)
        return made
    return unpooling_map(module.source).to(dtype).shared()


def _max_pool(module: Any, shared: Shares, whole: dict[str, Any]) -> None:
    """Children of this process's coarse points, those of others in the halo."""
    coarse = shared.part(whole["target"]).index
    children = whole["target"].children()[coarse]
    children = torch.where(children < 0, children[:, :1], children)
    halo = Halo(shared.partition(whole["source"]), torch.unique(children), shared.group)
    place = torch.full((whole["source"].num_points,), -1)
    place[halo.points] = torch.arange(len(halo.points))
    module.__class__ = norms.PartMaxPool
    module.halo = halo
    module.register_buffer("children_index", place[children], persistent=False)


MAPS: dict[type[nn.Module], Callable[..., Any] | None] = {
    DiscoConv: None,
    DiscoConvTranspose: None,
    GaugeConv: None,
    SphereAttention: None,
    ChebConv: None,
    SphereDiffusion: None,
    SphereDilation: None,
    Resample: None,
    Pool: _pool,
    Unpool: _unpool,
}
"""Layers that stand on one map, and what makes their whole map where that is not their own rule."""

TURNED: dict[type[nn.Module], type[nn.Module]] = {
    AreaBatchNorm: norms.PartAreaBatchNorm,
    AreaGroupNorm: norms.PartAreaGroupNorm,
    FieldNorm: norms.PartFieldNorm,
    GlobalPool: norms.PartGlobalPool,
    nn.GroupNorm: norms.PartGroupNorm,
}
"""Layers that take means over all points, and the classes that they become."""

AT_POINTS = ("height",)
"""Constants of networks, given by value, with a number for each point."""


def distribute(
    module: T,
    partition: Partition,
    group: Group = None,
    *,
    gradients: str | None = "sum",
    partitions: Sequence[Partition] = (),
) -> T:
    """Turn a layer or network into one that acts on the points of this process, in place; all processes do so together.

    Its fields are those of :class:`Part`; weights keep their names and values, so that checkpoints serve both. Build the network
    with the same weights everywhere (one seed, or a checkpoint) before. A module around it that is given to DDP needs
    ``broadcast_buffers=False``: processes hold different geometry.

    Args:
        module: DISCO, gauge and attention layers, resampling, pooling and norms, and networks of these.
        partition: owners of the points of the input's grid. Points of other grids follow by :meth:`Partition.on`.
        group: the processes that share the points; None for all.
        gradients: what becomes of the gradients of weights. "sum": they are summed over the group, for processes that each hold a
            part of the loss; "mean": for processes that all hold the whole loss, by :func:`sum_over_group`; None leaves them to
            :func:`sum_gradients` or to DDP, which takes the mean.
        partitions: owners of the points of further grids, where they are not to follow.

    Returns the module.
    Raises: TypeError for a layer that cannot be split; ValueError for a group of another size.

    Example:
        >>> import torch
        >>> from spheregeo.distributed import Partition, distribute
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.nn import DiscoConv
        >>> layer = distribute(DiscoConv(2, 3, HEALPix(1)), Partition.of(HEALPix(1), 1))  # of one process
        >>> layer(torch.randn(1, 2, 12)).shape
        torch.Size([1, 3, 12])
    """
    if gradients not in GRADIENTS:
        raise ValueError(f"gradients is {gradients!r}; expected 'sum', 'mean' or None")
    if partition.grid is None:
        raise ValueError("partition has no grid; expected that of a grid or mesh")
    if group_size(group) != partition.parts:
        raise ValueError(f"partition has {partition.parts} parts and the group {group_size(group)} processes")
    given = {p.grid: p for p in (partition, *partitions)}
    shared = Shares(given, partition, group)  # type: ignore[arg-type]
    parts = list(module.modules())
    inner = {
        id(child) for part in parts if isinstance(part, (FixedMap, GaugeGeometry)) for child in part.modules()
    }
    for part in parts:
        if id(part) not in inner:
            _turn(part, shared)
    # DDP would send the first process's geometry to all
    lasting = set(module.state_dict(keep_vars=True))
    module._ddp_params_and_buffers_to_ignore = [  # type: ignore[assignment]
        name for name, _ in module.named_buffers() if name not in lasting
    ]
    if gradients is not None and group_size(group) > 1:
        module.register_forward_pre_hook(_SumGradients(group, gradients == "mean"))
    return module


def _turn(module: nn.Module, shared: Shares) -> None:
    """Make one module act on this process's points."""
    whole = {name: value for name, value in vars(module).items() if _grids(value)}
    if isinstance(module, HEALPixFaceConv):
        turn_faces(module, shared)
        return
    kind = next((kind for kind in MAPS if isinstance(module, kind)), None)
    mean = next((kind for kind in TURNED if isinstance(module, kind)), None)
    if kind is None and mean is None:
        _check_divisible(module, whole)
    local = {name: _replaced(value, shared) for name, value in whole.items()}
    if kind is not None or mean is not None:
        given = None if kind is None else MAPS[kind]
        if whole and isinstance(module, ExactBuffers):
            rule = _keep_rule(module) if given is None else given
            vars(module)["_build"] = _Local(module, shared, rule, whole)
    if mean is not None:
        module.__class__ = TURNED[mean]
        module.shares = shared  # type: ignore[assignment]
    for name, value in local.items():
        setattr(module, name, value)
    if isinstance(module, Pool) and module.reduce == "max":
        vars(module).pop("_build")
        _max_pool(module, shared, whole)
    elif isinstance(module, SphereDilation):  # whose map holds no numbers that depend on a dtype
        source, target = (shared.partition(whole[name]) for name in ("source", "target"))
        module.map = part_map(module.map, source, target, shared.group)  # type: ignore[assignment]
    elif isinstance(module, ExactBuffers):
        _rebuild(module, shared, whole, given=kind is not None and MAPS[kind] is not None)


def _rebuild(module: ExactBuffers, shared: Shares, whole: dict[str, Any], given: bool) -> None:
    """Take the constants anew, in their dtype and on their device."""
    sources = vars(module).get("_sources", {})
    if given and "map" not in sources:
        module.keep("map")
    for name in module.rules():
        module.rebuild(name)
    for name in AT_POINTS:
        if name in sources and "grid" in whole:
            like = module.get_buffer(name)
            sources[name] = shared.part(whole["grid"]).of(sources[name])
            module.register_buffer(name, sources[name].to(like), persistent=False)


def _grids(value: Any) -> bool:
    """Whether an attribute is a grid or several."""
    if isinstance(value, (tuple, list)):
        return bool(value) and all(isinstance(v, Grid) for v in value)
    return isinstance(value, Grid)


def _replaced(value: Any, shared: Shares) -> Any:
    if isinstance(value, (tuple, list)):
        return type(value)(shared.part(v) for v in value)
    return shared.part(value)


def _check_divisible(module: nn.Module, whole: dict[str, Any]) -> None:
    """Raises: TypeError for a layer that holds geometry which is not known how to split."""
    geometric = any(isinstance(child, (FixedMap, GaugeGeometry)) for child in module.children())
    rules = module.rules() if isinstance(module, ExactBuffers) else []
    layer = type(module).__module__.startswith("spheregeo.nn.") and whole
    if geometric or rules or layer:
        known = sorted(kind.__name__ for kind in (*MAPS, *TURNED))
        raise TypeError(
            f"{type(module).__name__} holds geometry that distribute cannot split; expected layers among {', '.join(known)}, "
            "and networks of those and of pointwise layers"
        )
