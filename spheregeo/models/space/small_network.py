"""A steerable network of a small system with fixed weights as one operator of the edges' vectors and harmonics."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spheregeo.models.space.small_blocks import (
    EDGES,
    Array,
    Message,
    Parts,
    Point,
    array_of,
    parted,
    supported,
)
from spheregeo.nn.space import EdgeGeometry
from spheregeo.sparse import Pairs

NEAR = 0.2  # π r/cutoff below which the waves' slopes lose digits: plain operations know a series
ENVELOPE = 6


class SmallNetwork:
    """Message and point blocks in turn, of one set of weights.

    Args:
        network: with ``embedding``, ``elements``, ``basis``, ``messages``, ``points``, ``lmax`` and ``cutoff``.
    """

    def __init__(self, network: Any) -> None:
        self.cutoff, self.count, self.lmax = network.cutoff, network.basis.count, network.lmax
        self.embedding = array_of(network.embedding.weight)
        self.elements = None if network.elements is None else array_of(network.elements.weight)
        self.messages = [Message(block) for block in network.messages]
        self.points = [Point(block) for block in network.points]
        self.shapes = [(ir.dim, mul) for mul, ir in network.irreps]

    def values(
        self, vectors: Tensor, harmonics: Tensor, pairs: Pairs, target: Tensor, numbers: Tensor
    ) -> tuple[Tensor, Any]:
        """Features, planar, and what their derivative needs."""
        r, kinds = vectors.numpy(), numbers.numpy()
        lengths, wide = np.sqrt(np.einsum("ij,ij->i", r, r, dtype=np.float64)), r.dtype
        t = lengths / self.cutoff
        angles = np.multiply.outer(math.pi * t, np.arange(1, self.count + 1))
        waves = np.sin(angles) * (math.sqrt(2) / (math.pi * t))[:, None]
        bounded, p = np.minimum(t, 1.0), ENVELOPE
        fifth = bounded ** (p - 1)
        envelope = 1 - fifth * bounded * (
            (p + 1) * (p + 2) / 2 - bounded * (p * (p + 2) - bounded * (p * (p + 1) / 2))
        )
        edge, weights = waves.astype(wide), envelope.astype(wide)
        if self.elements is not None:
            ends = self.elements[kinds]
            edge = np.concatenate([edge, ends[pairs.sources.numpy()], ends[target.numpy()]], 1)

        def contract(coupling: Any, factor: Tensor, x: Array, w: Array) -> Array:
            arguments = (torch.from_numpy(x), harmonics, torch.from_numpy(w), factor, None)
            found: Array = coupling.partials(pairs, arguments, ("g",))[0].numpy()
            return found

        points, kept = len(kinds), []
        x: Parts = [self.embedding[kinds]]
        for message, point in zip(self.messages, self.points, strict=True):
            x, of_message = message(x, points, edge, weights, contract)
            x, of_point = point(x, points)
            kept.append((of_message, of_point))
        out = torch.from_numpy(np.concatenate([part.ravel() for part in x]))
        return out, (pairs, harmonics, lengths, angles, waves, fifth, kept, points)

    def knows(self, vectors: Tensor, numbers: Tensor) -> bool:
        """Return whether elements have rows in the tables, and edges are neither tiny nor endless."""
        low, high = numbers.aminmax()
        if int(low) < 0 or int(high) >= len(self.embedding):
            return False
        least, most = vectors.square().sum(1).aminmax()
        return float(least) > (NEAR * self.cutoff / math.pi) ** 2 and math.isfinite(float(most))

    def gradients(self, g: Tensor, vectors: Tensor, kept: Any) -> tuple[Tensor, Tensor]:
        """Derivatives with respect to the edges' vectors, at fixed harmonics, and to the harmonics."""
        pairs, harmonics, lengths, angles, waves, fifth, blocks, points = kept
        of_harmonics: list[Tensor] = []

        def contract_back(
            coupling: Any, factor: Tensor, x: Array, w: Array, gz: Array, wanted: bool
        ) -> tuple[Array | None, Array]:
            arguments = (torch.from_numpy(x), harmonics, torch.from_numpy(w), factor, torch.from_numpy(gz))
            gy, gw, *gx = coupling.partials(pairs, arguments, ("y", "w", "x") if wanted else ("y", "w"))
            of_harmonics.append(gy)
            return (gx[0].numpy() if gx else None), gw.numpy()

        x = parted(g.contiguous().numpy(), self.shapes, points)
        of_waves: Any = 0.0
        of_envelope: Any = 0.0
        for k in range(len(blocks) - 1, -1, -1):
            x = self.points[k].back(x, blocks[k][1])
            x, of_edge, along = self.messages[k].back(x, blocks[k][0], contract_back, k == 0)
            of_waves, of_envelope = of_waves + of_edge[:, : self.count], of_envelope + along
        t, p = lengths / self.cutoff, ENVELOPE
        slope = math.sqrt(2) * np.cos(angles) * np.arange(1, self.count + 1) - waves
        of_t = np.einsum("ij,ij->i", of_waves, slope) / t
        bounded = np.minimum(t, 1.0)
        # the envelope's slope: -p (p + 1) (p + 2)/2 t^(p - 1) (1 - t)²
        of_t -= of_envelope * (p * (p + 1) * (p + 2) / 2) * fifth * np.square(1 - bounded)
        radial = torch.from_numpy(of_t / (lengths * self.cutoff)).to(vectors.dtype)
        total = of_harmonics[0]
        for more in of_harmonics[1:]:
            total = total + more
        return vectors * radial[:, None], total


class _Small(torch.autograd.Function):
    """Features of the atoms of a small system, planar; differentiated again by plain operations."""

    @staticmethod
    def forward(
        vectors: Tensor, harmonics: Tensor, small: SmallNetwork, plain: Callable[..., Tensor], pairs: Pairs,
        target: Tensor, numbers: Tensor,
    ) -> Any:  # fmt: skip
        with np.errstate(all="ignore"):  # what is not finite passes in silence, as through plain operations
            return small.values(vectors.detach(), harmonics.detach(), pairs, target, numbers)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        vectors, harmonics, ctx.small, ctx.plain, *_ = inputs
        ctx.save_for_backward(vectors, harmonics)
        ctx.kept = output[1]

    @staticmethod
    def backward(ctx: Any, g: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors
        if torch.is_grad_enabled():  # differentiated again
            inputs = tuple(
                x.view_as(x) for x in inputs
            )  # harmonics are functions of the vectors, views are not
            found = torch.autograd.grad(ctx.plain(*inputs), inputs, g, create_graph=True)
        else:
            with np.errstate(all="ignore"):
                found = ctx.small.gradients(g, inputs[0].detach(), ctx.kept)
        return *found, None, None, None, None, None


class Kept:
    """A :class:`SmallNetwork` as long as the weights stay; copies of a network start without one."""

    def __init__(self) -> None:
        self.key: Any = None
        self.small: SmallNetwork | None = None

    def __reduce__(self) -> tuple[type[Kept], tuple[()]]:
        return Kept, ()

    def of(self, network: nn.Module, dtype: torch.dtype) -> SmallNetwork | None:
        """The network in arrays; None where its weights are to be learned, of another type, or modules have hooks."""
        key: list[Any] = []
        learning, stack = torch.is_grad_enabled(), [network]
        while stack:
            module = stack.pop()
            if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
                return None
            for p in module._parameters.values():
                if p is None:
                    continue
                if (learning and p.requires_grad) or p.dtype is not dtype or type(p) is not nn.Parameter:
                    return None
                if p.is_inference():
                    return None
                key += (p._version, p.data_ptr())
            key.append(module.training)
            stack += [m for m in module._modules.values() if m is not None]
        if self.key != key:
            with torch.inference_mode(False), torch.no_grad():
                network_of: Any = network
                blocks = zip(network_of.messages, network_of.points, strict=True)
                self.small = None if not all(supported(*pair) for pair in blocks) else SmallNetwork(network)
            self.key = key
        return self.small


def small_features(
    kept: Kept, network: nn.Module, geometry: EdgeGeometry, numbers: Tensor, plain: Callable[..., Tensor]
) -> Tensor | None:
    """Planar features of the atoms by one operator, or None where plain operations are to find them.

    Args:
        kept: where the arrays of the weights are kept.
        network: the network, see :class:`SmallNetwork`.
        geometry: of the edges.
        numbers: of the atoms.
        plain: from vectors and harmonics to the features, planar; its derivatives are those of higher order.

    Shape: (atoms · dim,).
    """
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return None  # before sizes are looked at, which exporters may keep open
    vectors = geometry.vectors
    if not 0 < len(vectors) <= EDGES or type(vectors) is not Tensor or vectors.device.type != "cpu":
        return None
    if vectors.dtype not in (torch.float32, torch.float64) or torch.is_autocast_enabled("cpu"):
        return None
    if numbers.shape != (geometry.num_source,) or numbers.dtype is not torch.int64:
        return None
    small = kept.of(network, vectors.dtype)
    if small is None or not small.knows(vectors.detach(), numbers):
        return None
    harmonics = geometry.harmonics(small.lmax)
    edges = geometry.edges
    found: Tensor = _Small.apply(vectors, harmonics, small, plain, edges.pairs, edges.target, numbers)[0]
    return found
