"""Ordinary networks of images into group-equivariant ones, and layers of ours into plain torch layers."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from spheregeo.groups import PlanarGroup, PlanarType
from spheregeo.nn.batch_norm import BatchNorm, SampleDropout
from spheregeo.nn.plane.group import (
    FieldGroupNorm2d,
    GroupBatchNorm2d,
    GroupConv2d,
    GroupConvTranspose2d,
    GroupDropout,
    GroupPool,
)

_KEEP_MODULES = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Sigmoid, nn.Tanh, nn.Hardtanh,
    nn.Hardswish, nn.Hardsigmoid, nn.Softplus, nn.Identity, nn.Dropout, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d, nn.Upsample, nn.Flatten, nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.CircularPad2d,
)  # fmt: skip
_KEEP_FUNCTIONS = (
    torch.relu, F.relu, F.leaky_relu, F.elu, F.gelu, F.silu, torch.sigmoid, torch.tanh, F.dropout, F.interpolate, F.max_pool2d,
    torch.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d, F.pad, torch.flatten, torch.mean,
)  # fmt: skip
_KEEP_METHODS = ("relu", "flatten", "mean", "contiguous", "squeeze", "view", "reshape", "relu_", "clone")
_SUMS = (operator.add, operator.iadd, torch.add, operator.mul, operator.imul, torch.mul)


@dataclass(frozen=True)
class _Fields:
    """What a value of the traced network carries: channels of the ordinary network, and fields of its twin."""

    channels: int
    type: PlanarType


def convert(
    model: nn.Module,
    group: str | PlanarGroup,
    *,
    match: str = "parameters",
    kernel_size: int | None = None,
    mode: str = "max",
) -> nn.Module:
    """Return the equivariant twin of an ordinary convolutional network: its forward pass with group layers, newly initialised.

    Convolutions become :class:`GroupConv2d` with regular fields inside, transposed ones :class:`GroupConvTranspose2d`, whose
    kernel is larger by an output padding, so that the size stays and both borders are alike; batch and group norms and dropout
    of channels those of fields. Before the first linear layer the fields are pooled over the group; a convolution whose
    channels the network returns gives trivial fields. Pointwise activations, pooling by windows, interpolation, sums and
    concatenations stay. The network is traced (``torch.fx``), so its forward pass may not depend on values.

    Args:
        model: an ordinary network of images (B, C, H, W), such as a ResNet or a U-Net; left as it is.
        group: "C4", "D4", "C8" or another C_n or D_n.
        match: "parameters" for fields as many as give the parameters of ``model``; "cost" for as many multiplications and
            additions, where channels / group size is a whole number.
        kernel_size: of convolutions with more than one tap, odd; None for that of ``model``.
        mode: "max" or "mean", of the pooling over the group.

    Equivariance: that of the layers; with strides, exact on sizes on which the windows lie alike from both borders.
    Raises: ValueError for another ``match``, a network that cannot be traced, and layers without an equivariant form, by name.
    Reference: Cohen & Welling 2016, arXiv:1602.07576, section 8.

    Example:
        >>> head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)
        >>> cnn = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), *head)
        >>> convert(cnn, "D4")(torch.randn(2, 3, 9, 9)).shape
        torch.Size([2, 10])
    """
    of = PlanarGroup.of(group)
    if match not in ("parameters", "cost"):
        raise ValueError(f"match is {match!r}; expected 'parameters' or 'cost'")
    if kernel_size is not None and (kernel_size < 1 or kernel_size % 2 == 0):
        raise ValueError(f"kernel_size is {kernel_size}; expected an odd number")
    if isinstance(model, nn.Conv2d | nn.ConvTranspose2d):  # a tracer would look into it
        alone: nn.Module = convert(nn.Sequential(model), of, match=match, kernel_size=kernel_size, mode=mode)
        return alone.get_submodule("0")
    try:
        graph = fx.Tracer().trace(model)
    except Exception as error:  # tracing runs the network's own code
        raise ValueError(f"model is a {type(model).__name__} that torch.fx cannot trace: {error}") from error

    def build(scale: float) -> nn.Module:
        return _Twin(model, graph, of, scale, kernel_size, mode).build()

    if match == "cost":
        return build(1 / of.size)
    wanted, scale = _parameters(model), of.size**-0.5
    best, off = None, float("inf")
    for _ in range(4):  # parameters grow with the square of the width, nearly
        twin = build(scale)
        found = _parameters(twin)
        if abs(found / wanted - 1) < off:
            best, off = twin, abs(found / wanted - 1)
        scale *= (wanted / found) ** 0.5
    assert best is not None
    return best


def _parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


class _Twin:
    """One construction of a twin, at one width."""

    def __init__(
        self, model: nn.Module, graph: fx.Graph, group: PlanarGroup, scale: float, kernel_size: int | None, mode: str
    ) -> None:  # fmt: skip
        self.model, self.graph, self.group, self.scale = copy.deepcopy(model), graph, group, scale
        self.kernel_size, self.mode = kernel_size, mode
        self.made: dict[str, tuple[nn.Module, _Fields | None]] = {}
        self.ends = self._ends()

    def build(self) -> nn.Module:
        values: dict[fx.Node, _Fields | None] = {}
        for node in self.graph.nodes:
            given = [values[n] for n in node.all_input_nodes]
            values[node] = self._value(node, given)
        for name, (module, _) in self.made.items():
            if not name:
                return module
            parent, _, child = name.rpartition(".")
            setattr(self.model.get_submodule(parent), child, module)
        return self.model

    def _ends(self) -> set[str]:
        """Names of the convolutions whose channels the network returns."""
        found, seen = set(), set()
        queue = [node for node in self.graph.nodes if node.op == "output"]
        while queue:
            node = queue.pop()
            if node in seen:
                continue
            seen.add(node)
            module = self.model.get_submodule(node.target) if node.op == "call_module" else None
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                found.add(node.target)
            elif not isinstance(module, nn.Linear):
                queue += node.all_input_nodes
        return found

    def _value(self, node: fx.Node, given: list[_Fields | None]) -> _Fields | None:
        fields = [value for value in given if value is not None]
        if node.op == "call_module":
            return self._module(str(node.target), fields[0] if fields else None)
        if node.target in (F.conv2d, torch.conv2d, F.conv_transpose2d):
            raise ValueError(f"{node.name} is a function with weights of its own; expected torch.nn.Conv2d")
        if node.op in ("placeholder", "get_attr", "output") or not fields:
            return None
        if node.target is getattr or node.target in ("size", "dim"):
            return None
        if node.op == "call_function" and node.target in (torch.cat, torch.concat):
            return self._joined(node, given)
        if node.target in _SUMS or node.target in ("add", "add_", "mul"):
            if any(value.type != fields[0].type for value in fields):
                raise ValueError(
                    f"{node.name} combines fields of types {', '.join(str(v.type) for v in fields)}"
                )
            return fields[0]
        if node.target in _KEEP_FUNCTIONS or (node.op == "call_method" and node.target in _KEEP_METHODS):
            return fields[0]
        raise ValueError(
            f"{node.name} ({node.target}) has no equivariant form; expected a module or function of a CNN"
        )

    def _joined(self, node: fx.Node, given: list[_Fields | None]) -> _Fields:
        axis = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
        if axis != 1 or any(value is None for value in given):
            raise ValueError(
                f"{node.name} joins along axis {axis}; expected fields of the network along axis 1"
            )
        kept = [value for value in given if value is not None]
        text = " + ".join(str(value.type) for value in kept)
        return _Fields(sum(value.channels for value in kept), PlanarType.of(text))

    def _module(self, name: str, fields: _Fields | None) -> _Fields | None:
        module = self.model.get_submodule(name)
        if name in self.made:
            replacement, out = self.made[name]
            into = getattr(replacement, "in_type", None) or getattr(replacement, "field_type", None)
            if into is not None and fields is not None and into != fields.type:
                raise ValueError(f"{name} is used twice, on fields of types '{into}' and '{fields.type}'")
            return out
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            made, out = self._conv(name, module, fields)
        elif fields is None or isinstance(module, _KEEP_MODULES):
            return fields
        elif isinstance(module, nn.Linear):
            made, out = self._linear(name, module, fields), None
        else:
            made, out = self._on_fields(name, module, fields), fields
        self.made[name] = (made.train(module.training), out)
        return out

    def _fields(self, channels: int) -> _Fields:
        return _Fields(channels, PlanarType.of(f"{max(1, round(channels * self.scale))}x{self.group}"))

    def _conv(
        self, name: str, conv: nn.Conv2d | nn.ConvTranspose2d, fields: _Fields | None
    ) -> tuple[nn.Module, _Fields]:
        into = PlanarType.of(f"{conv.in_channels}x0") if fields is None else fields.type
        out = self._fields(conv.out_channels)
        if name in self.ends:
            out = _Fields(conv.out_channels, PlanarType.of(f"{conv.out_channels}x0"))
        groups, size, padding = conv.groups, conv.kernel_size, conv.padding
        if fields is not None and groups == conv.in_channels > 1:
            groups = into.num_fields  # depthwise
        if isinstance(conv, nn.ConvTranspose2d):
            return self._transposed(name, conv, into, out, groups), out
        if self.kernel_size is not None and max(size) > 1 and not isinstance(padding, str):
            padding = tuple(
                p + d * (self.kernel_size - k) // 2 for p, d, k in zip(padding, conv.dilation, size)
            )
            size = (self.kernel_size, self.kernel_size)
        try:
            made = GroupConv2d(
                into, out.type, size, stride=conv.stride, padding=padding, dilation=conv.dilation, groups=groups,
                padding_mode=conv.padding_mode, bias=conv.bias is not None, group=self.group,
            )  # fmt: skip
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        return made.to(conv.weight), out

    def _transposed(
        self, name: str, conv: nn.ConvTranspose2d, into: PlanarType, out: _Fields, groups: int
    ) -> nn.Module:
        # pixels that are added at one border alone would break quarter turns: taps at both take their place
        more = [divmod(extra, step) for extra, step in zip(conv.output_padding, conv.dilation)]
        if any(rest for _, rest in more):
            raise ValueError(
                f"{name} has output_padding {conv.output_padding} with dilation {conv.dilation}; expected a multiple"
            )
        assert not isinstance(conv.padding, str)  # torch takes numbers alone here
        padding = conv.padding
        try:
            made = GroupConvTranspose2d(
                into, out.type, [k + m for k, (m, _) in zip(conv.kernel_size, more)], stride=conv.stride,
                padding=padding, dilation=conv.dilation, groups=groups, bias=conv.bias is not None, group=self.group,
            )  # fmt: skip
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        return made.to(conv.weight)

    def _linear(self, name: str, linear: nn.Linear, fields: _Fields) -> nn.Module:
        if linear.in_features != fields.channels:
            raise ValueError(
                f"{name} takes {linear.in_features} numbers of {fields.channels} channels; expected the channels alone: average "
                "over the image first, since places in a flattened map move with turns"
            )
        pool = GroupPool(fields.type, self.mode)
        fresh = nn.Linear(pool.num_fields, linear.out_features, linear.bias is not None).to(linear.weight)
        return nn.Sequential(nn.Unflatten(1, (pool.dim, 1, 1)), pool, nn.Flatten(1), fresh)

    def _on_fields(self, name: str, module: nn.Module, fields: _Fields) -> nn.Module:
        if isinstance(module, nn.BatchNorm2d | BatchNorm):
            norm = GroupBatchNorm2d(
                fields.type, eps=module.eps, momentum=module.momentum, affine=module.affine,
                track_running_stats=module.track_running_stats,
            )  # fmt: skip
            return norm if module.weight is None else norm.to(module.weight)
        if isinstance(module, nn.GroupNorm):
            blocks = max(g for g in range(1, module.num_groups + 1) if fields.type.num_fields % g == 0)
            blocks = blocks if len(fields.type.terms) == 1 else 1
            return FieldGroupNorm2d(blocks, fields.type, eps=module.eps, affine=module.affine)
        if isinstance(module, nn.Dropout2d):
            return GroupDropout(fields.type, module.p)
        raise ValueError(
            f"{name} is a {type(module).__name__}, which has no equivariant form; expected convolutions, batch or group norms, "
            "pointwise activations, pooling, interpolation and linear layers"
        )


def to_plain(network: nn.Module) -> nn.Module:
    """Return a copy of a network, in evaluation, with the plain torch layers that its layers' ``export()`` gives.

    Batch norms and dropout of ours become torch's own. What remains of ours is only what holds the layers together, such as
    a network's own class.

    Args:
        network: a layer or a network of such layers; left as it is.

    Raises: what a layer's own ``export()`` raises.

    Example:
        >>> network = nn.Sequential(GroupConv2d("1x0", "2xD4", 3), GroupPool("2xD4"))
        >>> [type(layer).__name__ for layer in to_plain(network)]
        ['Conv2d', 'Sequential']
    """
    network = copy.deepcopy(network).eval()
    return _plain(network)


def _plain(module: nn.Module) -> nn.Module:
    export: Callable[[], Any] | None = getattr(module, "export", None)
    if callable(export) and not isinstance(module, fx.GraphModule):
        made: nn.Module = export()
        return made.eval()
    if type(module) is BatchNorm and module.running_mean is not None:
        norm = nn.BatchNorm2d(module.num_features, module.eps, module.momentum, module.affine)
        norm.load_state_dict(module.state_dict())
        return norm.to(module.running_mean).eval()
    if type(module) is SampleDropout:
        return nn.Dropout(module.p).eval()
    for name, child in module.named_children():
        setattr(module, name, _plain(child))
    return module
