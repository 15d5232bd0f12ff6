"""Steerable blocks of few points with fixed weights, in arrays: values, and their derivatives written by hand.

A small molecule's network is hundreds of operators on a few hundred numbers each, which take microseconds to dispatch and
nanoseconds to compute. Here the same arithmetic is done by numpy between the sparse contractions. Features are lists of arrays
(N (2l + 1), copies), one for each irrep; derivatives with respect to weights there are none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from spheregeo.models.space.steerable_blocks import MessageBlock, PointBlock
from spheregeo.nn import SampleDropout
from spheregeo.nn.irreps import IrrepsGate, IrrepsLayerNorm, IrrepsLinear
from spheregeo.nn.space import RadialNetwork, SteerableConv

Array = np.ndarray
Parts = list[Array]

FEW_PRODUCTS = 1 << 18  # multiplications of a matrix product that OpenBLAS does on one thread
EDGES = 2048  # up to which dispatch takes longer than arithmetic (measured: equal from 3000 on)


def array_of(parameter: Any) -> Array:
    """A parameter's numbers, in place."""
    found: Array = parameter.detach().numpy()
    return found


def product(a: Array, b: Array) -> Array:
    """The matrix product; large ones by torch, for numpy's library would wake threads of its own for them."""
    if a.shape[0] * b.shape[0] * b.shape[1] <= FEW_PRODUCTS:
        return a @ b  # type: ignore[no-any-return]
    found: Array = torch.mm(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    return found


def sigmoid(x: Array) -> Array:
    """1/(1 + exp(-x)), without overflow."""
    y = np.tanh(0.5 * x)
    y *= 0.5
    y += 0.5
    return y


def silu(x: Array) -> tuple[Array, Array]:
    """x sigmoid(x), and its derivative."""
    s = sigmoid(x)
    y = x * s
    return y, s + y * (1.0 - s)


def supported(message: nn.Module, point: nn.Module) -> bool:
    """Return whether two blocks are made of what arrays know: no other layers, activations or methods, no dropout at work."""
    if type(message) is not MessageBlock or type(point) is not PointBlock:
        return False
    conv, gate = message.conv, message.gate
    parts: dict[type, list[Any]] = {
        IrrepsLayerNorm: [message.norm, point.norm],
        IrrepsLinear: [message.before, message.after],
    }
    parts |= {IrrepsGate: [gate], SteerableConv: [conv], RadialNetwork: [message.radial]}
    if message.skip is not None:
        parts[IrrepsLinear].append(message.skip)
    if point.copies_count:
        parts[IrrepsLinear] += [point.left, point.right, point.after]
    if any(type(layer) is not kind for kind, layers in parts.items() for layer in layers):
        return False
    pointwise: list[Any] = [*message.radial.layers, *point.mlp]
    return (
        all(type(layer) in (nn.Linear, nn.SiLU, SampleDropout) for layer in pointwise)
        and not any(m.training and m.p > 0 for m in pointwise if isinstance(m, SampleDropout))
        and (gate.act.name, gate.gate.name, gate.odd_act) == ("silu", "sigmoid", None)
        and (gate.gated is None or gate.gated.index is None)
        and conv.method in (None, "product")
        and conv.depthwise
        and (conv.chunk is None or conv.chunk >= EDGES)
        and len(conv.table.reached) == len(conv.table.targets)
    )


class Perceptron:
    """Linear layers with SiLU between them, and after the last if ``ended``."""

    def __init__(self, layers: Sequence[nn.Module], ended: bool) -> None:
        linear = [m for m in layers if isinstance(m, nn.Linear)]
        self.weights = [(array_of(m.weight).T, array_of(m.bias)) for m in linear]
        self.ended = ended

    def __call__(self, x: Array) -> tuple[Array, list[Array]]:
        """Value, and the slopes of the activations."""
        slopes = []
        for k, (weight, bias) in enumerate(self.weights):
            x = product(x, weight)
            x += bias
            if self.ended or k + 1 < len(self.weights):
                x, slope = silu(x)
                slopes.append(slope)
        return x, slopes

    def back(self, g: Array, slopes: list[Array]) -> Array:
        """Derivative with respect to the input."""
        for k in range(len(self.weights) - 1, -1, -1):
            if k < len(slopes):
                g = g * slopes[k]
            g = product(g, self.weights[k][0].T)
        return g


class Norm:
    """``IrrepsLayerNorm`` of stacks."""

    def __init__(self, layer: IrrepsLayerNorm) -> None:
        self.groups, self.count, self.eps = layer._stacks, layer.num_groups, layer.eps
        self.even = layer._even
        self.centred = layer._even if layer.num_centred else -1
        ones = [1.0] * len(layer._stacks)
        self.weights: Sequence[Any] = (
            ones if layer.weight is None else [w.numpy() for w in layer.per_copy.split(layer.weight.detach())]
        )
        self.bias = None if layer.bias is None else array_of(layer.bias)

    def __call__(self, x: Parts, points: int) -> tuple[Parts, tuple[Parts, Parts]]:
        x = list(x)
        squares: list[Any] = [0.0] * self.count
        if self.centred >= 0:
            part = x[self.centred]
            x[self.centred] = part - part.mean(1, keepdims=True)
        for (group, size), part in zip(self.groups, x, strict=True):
            rows = part.reshape(points, -1)
            squares[group] = squares[group] + np.einsum("ij,ij->i", rows, rows) / size
        scales = [1.0 / np.sqrt(square + self.eps)[:, None] for square in squares]
        out = []
        for i, (group, _) in enumerate(self.groups):
            y = (x[i].reshape(points, -1) * scales[group]).reshape(x[i].shape)
            y *= self.weights[i]
            out.append(y)
        if self.bias is not None:
            out[self.even] += self.bias
        return out, (x, scales)

    def back(self, g: Parts, kept: tuple[Parts, Parts]) -> Parts:
        x, scales = kept
        points = len(scales[0])
        weighted = [(a * w).reshape(points, -1) for a, w in zip(g, self.weights, strict=True)]
        rows = [part.reshape(points, -1) for part in x]
        along: list[Any] = [0.0] * self.count
        for (group, _), a, b in zip(self.groups, weighted, rows, strict=True):
            along[group] = along[group] + np.einsum("ij,ij->i", a, b)
        along = [a[:, None] * s**3 for a, s in zip(along, scales, strict=True)]
        out = []
        for i, (group, size) in enumerate(self.groups):
            d = weighted[i] * scales[group]
            d -= rows[i] * (along[group] / size)
            if i == self.centred:
                d -= d.mean(1, keepdims=True)
            out.append(d.reshape(x[i].shape))
        return out


class Linear:
    """``IrrepsLinear`` of stacks between irreps that all have counterparts."""

    def __init__(self, layer: IrrepsLinear) -> None:
        matrices = layer.matrices
        self.maps: list[tuple[int, Array | None, Array | None, int, int]] = []
        for place, (product, ir) in enumerate(layer._parts()):
            bias = None
            if layer.bias is not None and product.start_out == layer._bias_at:
                bias = array_of(layer.bias)
            matrix = array_of(matrices[ir]) if ir in matrices else None
            self.maps.append((layer._sources[place], matrix, bias, ir.dim, product.copies_out))
        self.inputs = len(layer.source.irs)

    def __call__(self, x: Parts, points: int) -> Parts:
        out = []
        for source, matrix, bias, d, copies in self.maps:
            y = np.zeros((points * d, copies), x[0].dtype) if matrix is None else product(x[source], matrix)
            if bias is not None:
                y += bias
            out.append(y)
        return out

    def back(self, g: Parts) -> Parts:
        out: list[Any] = [None] * self.inputs
        for (source, matrix, *_), part in zip(self.maps, g, strict=True):
            if matrix is not None:
                out[source] = product(part, matrix.T)
        return out


class Gate:
    """``IrrepsGate`` of stacks: SiLU of even scalars, sigmoids for the others."""

    def __init__(self, layer: IrrepsGate) -> None:
        self.count, self.act, self.gate = layer.num_gates, layer.act.factor, layer.gate.factor
        self.order = [] if layer.gated is None else layer.gated.copies
        self.ends = np.cumsum([0, *self.order]).tolist()

    def __call__(self, x: Parts, points: int) -> tuple[Parts, Any]:
        scalars = x[0].shape[1] - self.count
        y, slope = silu(x[0][:, :scalars])
        factor = sigmoid(x[0][:, scalars:])
        scaled = factor * self.gate
        out = [y * self.act]
        for k, part in enumerate(x[1:]):
            each = scaled[:, None, self.ends[k] : self.ends[k + 1]]
            out.append((part.reshape(points, -1, part.shape[1]) * each).reshape(part.shape))
        return out, (x, slope, factor, scaled)

    def back(self, g: Parts, kept: Any) -> Parts:
        x, slope, factor, scaled = kept
        points = len(slope)
        first = np.empty_like(x[0])
        scalars = slope.shape[1]
        np.multiply(g[0], slope * self.act, out=first[:, :scalars])
        out = [first]
        for k, (part, along) in enumerate(zip(x[1:], g[1:], strict=True)):
            here = slice(self.ends[k], self.ends[k + 1])
            shape = (points, -1, part.shape[1])
            along = along.reshape(shape)
            out.append((along * scaled[:, None, here]).reshape(part.shape))
            first[:, scalars + here.start : scalars + here.stop] = (along * part.reshape(shape)).sum(1)
        first[:, scalars:] *= factor * (1.0 - factor) * self.gate
        return out


Contract = Callable[..., Any]


class Message:
    """``MessageBlock``. ``contract`` is the sum over neighbours, as :mod:`spheregeo.models.space.small_network` gives it."""

    def __init__(self, block: MessageBlock) -> None:
        conv, radial = block.conv, block.radial
        self.norm, self.before, self.gate = Norm(block.norm), Linear(block.before), Gate(block.gate)
        self.after, self.skip = Linear(block.after), None if block.skip is None else Linear(block.skip)
        self.radial, self.bias = Perceptron(list(radial.layers), True), array_of(block.bias)
        self.coupling, self.factor = conv.coupling, conv.factor()
        self.mixes = [w.detach().reshape(-1, w.shape[2]).numpy() for w in conv.scaled_weights()]
        self.shapes = [(d, columns) for d, columns in conv.coupling.groups]
        self.shapes_in = [
            (ir.dim, n) for ir, n in zip(conv.table.sources, conv.table.source_copies, strict=True)
        ]

    def __call__(
        self, x: Parts, points: int, edge: Array, envelope: Array, contract: Contract
    ) -> tuple[Parts, Any]:
        hidden, slopes = self.radial(edge)
        features = hidden * envelope[:, None]
        y, normed = self.norm(x, points)
        planar = np.concatenate([part.ravel() for part in self.before(y, points)])
        z = parted(contract(self.coupling, self.factor, planar, features), self.shapes, points)
        mixed = [product(a, w) for a, w in zip(z, self.mixes, strict=True)]
        mixed[0] += self.bias
        gated, of_gate = self.gate(mixed, points)
        own = x if self.skip is None else self.skip(x, points)
        out = [a + b for a, b in zip(own, self.after(gated, points), strict=True)]
        return out, (hidden, slopes, features, normed, planar, of_gate, envelope)

    def back(self, g: Parts, kept: Any, contract_back: Contract, first: bool) -> tuple[Parts, Array, Array]:
        """Derivatives with respect to x (none where x is the ``first``), the edges' numbers and the envelope."""
        hidden, slopes, features, normed, planar, of_gate, envelope = kept
        points = len(normed[1][0])
        mixed = self.gate.back(self.after.back(g), of_gate)
        gz = np.concatenate([product(a, w.T).ravel() for a, w in zip(mixed, self.mixes, strict=True)])
        gx, gw = contract_back(self.coupling, self.factor, planar, features, gz, not first)
        of_edge = self.radial.back(gw * envelope[:, None], slopes)
        of_envelope = np.einsum("ij,ij->i", gw, hidden)
        if first:
            return g, of_edge, of_envelope
        inner = self.norm.back(self.before.back(parted(gx, self.shapes_in, points)), normed)
        own = g if self.skip is None else self.skip.back(g)
        return [a + b for a, b in zip(inner, own, strict=True)], of_edge, of_envelope


class Point:
    """``PointBlock``."""

    def __init__(self, block: PointBlock) -> None:
        self.norm, self.mlp = Norm(block.norm), Perceptron(list(block.mlp), False)
        self.scalars, self.count = block.scalars, block.copies_count
        if self.count:
            self.left, self.right, self.after = Linear(block.left), Linear(block.right), Linear(block.after)

    def __call__(self, x: Parts, points: int) -> tuple[Parts, Any]:
        y, normed = self.norm(x, points)
        if not self.count:
            new, slopes = self.mlp(y[0])
            return [x[0] + new], (normed, slopes)
        u, v = self.left(y[1:], points), self.right(y[1:], points)
        left, right = ([a.reshape(points, -1, a.shape[1]) for a in several] for several in (u, v))
        factors = [1 / math.sqrt(a.shape[1]) for a in left]
        products = [(a * b).sum(1) * f for a, b, f in zip(left, right, factors, strict=True)]
        both, slopes = self.mlp(np.concatenate([y[0], *products], 1))
        out, gated, gates, at = [x[0] + both[:, : self.scalars]], [], [], self.scalars
        for a in left:
            gate = both[:, None, at : at + a.shape[2]]
            at += a.shape[2]
            gated.append((a * gate).reshape(-1, a.shape[2]))
            gates.append(gate)
        out += [a + b for a, b in zip(x[1:], self.after(gated, points), strict=True)]
        return out, (normed, slopes, left, right, factors, gates)

    def back(self, g: Parts, kept: Any) -> Parts:
        if not self.count:
            normed, slopes = kept
            return [g[0] + self.norm.back([self.mlp.back(g[0], slopes)], normed)[0]]
        normed, slopes, left, right, factors, gates = kept
        of_gated = [part.reshape(a.shape) for part, a in zip(self.after.back(g[1:]), left, strict=True)]
        of_gates = [(a * b).sum(1) for a, b in zip(of_gated, left, strict=True)]
        inner = self.mlp.back(np.concatenate([g[0], *of_gates], 1), slopes)
        of_left, of_right, at = [], [], self.scalars
        for a, b, along, gate, factor in zip(left, right, of_gated, gates, factors, strict=True):
            copies = a.shape[2]
            product = inner[:, None, at : at + copies] * factor
            at += copies
            of_left.append((along * gate + product * b).reshape(-1, copies))
            of_right.append((product * a).reshape(-1, copies))
        rest = [a + b for a, b in zip(self.left.back(of_left), self.right.back(of_right), strict=True)]
        found = self.norm.back([inner[:, : self.scalars], *rest], normed)
        return [a + b for a, b in zip(g, found, strict=True)]


def parted(planar: Array, shapes: Sequence[tuple[int, int]], points: int) -> Parts:
    """Views (points d, copies) of one vector, stack after stack."""
    out, at = [], 0
    for d, copies in shapes:
        size = points * d * copies
        out.append(planar[at : at + size].reshape(points * d, copies))
        at += size
    return out
