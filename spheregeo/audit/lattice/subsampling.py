"""Does subsampling keep a network exactly equivariant to quarter turns and reflections? Which layer breaks it, at which sizes?

A layer with stride commutes with a reversal of its input if its windows are their own mirror image: in a convolution
(i + 2p - d(k - 1) - 1) mod s = 0 along each axis of i pixels. One pixel more or less decides.
Reference: Edixhoven, Lengyel & van Gemert 2023.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.audit.equivariance import declared_channels
from spheregeo.audit.lattice.trace import TracedStep, trace
from spheregeo.nn.plane.subsample import fit_size

REACH = 40  # pixels that nearby sizes may differ by
SHOWN = 3  # nearby sizes on each side


@dataclass(frozen=True)
class Layer:
    """One operation of a network that reads pixels of its input.

    Args:
        module: path of the module that calls the operation.
        operation: the operation and its geometry.
        size, out: rows and columns of its input and output.
        rows, columns: whether the order of rows, or of columns, may be reversed.
        turns: whether quarter turns commute with the operation.
        why: why not; "" where everything commutes.
    """

    module: str
    operation: str
    size: tuple[int, int]
    out: tuple[int, int]
    rows: bool
    columns: bool
    turns: bool
    why: str

    @property
    def exact(self) -> bool:
        """Whether quarter turns and reflections commute with the operation."""
        return self.rows and self.columns and self.turns


@dataclass(frozen=True)
class SubsamplingReport:
    """What subsampling leaves of a network's symmetry at one size of image; ``print`` shows a table.

    Args:
        size: rows and columns of the image.
        layers: operations that read pixels, in their order.
        heights, widths: sizes near the image's with which every layer's rows, or columns, are their own mirror image.
        unknown: operations that are not judged.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 2, 3, stride=2, padding=1), nn.MaxPool2d(3, 2, 1))
        >>> found = subsampling(net, 28)
        >>> found.exact, found.first.module, found.heights
        (False, '0', (17, 21, 25, 29, 33, 37))
    """

    size: tuple[int, int]
    layers: tuple[Layer, ...]
    heights: tuple[int, ...]
    widths: tuple[int, ...]
    unknown: tuple[str, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether subsampling keeps quarter turns and reflections exact."""
        return all(layer.exact for layer in self.layers)

    @property
    def reflections(self) -> bool:
        """Whether subsampling keeps reflections of rows and columns, and half turns, exact."""
        return all(layer.rows and layer.columns for layer in self.layers)

    @property
    def first(self) -> Layer | None:
        """The first layer that breaks the symmetry; None where none does."""
        return next((layer for layer in self.layers if not layer.exact), None)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers and texts."""
        return {"exact": self.exact, "reflections": self.reflections, **asdict(self)}

    def __str__(self) -> str:
        rows, columns = self.size
        kept = (
            "exact"
            if self.exact
            else "reflections exact, quarter turns not"
            if self.reflections
            else "not exact"
        )
        lines = [f"{rows} × {columns}: {kept}"]
        if self.first is not None:
            where = self.first.module or "the network"
            lines.append(f"first layer that breaks it: {where}, {self.first.operation}: {self.first.why}")
        for name, found in (("heights", self.heights), ("widths", self.widths)):
            lines.append(f"exact {name} nearby: {', '.join(map(str, found)) if found else 'none'}")
        if self.unknown:
            lines.append(f"not judged: {', '.join(self.unknown)}")
        table = [
            (layer.module or "network", layer.operation, "×".join(map(str, layer.size)), "×".join(map(str, layer.out)),
             "exact" if layer.exact else layer.why)
            for layer in self.layers if layer.size != layer.out or not layer.exact
        ]  # fmt: skip
        widths = [max((len(row[k]) for row in table), default=0) for k in range(4)]
        for row in table:
            cells = [f"{cell:<{w}}" for cell, w in zip(row[:4], widths, strict=True)]
            lines.append(f"  {'  '.join(cells)}  {row[4]}")
        return "\n".join(lines)


def subsampling(
    model: nn.Module, size: int | tuple[int, int], *, channels: int | None = None, reach: int = REACH
) -> SubsamplingReport:
    """Return whether subsampling keeps a network exactly equivariant to quarter turns and reflections of images of a size.

    Args:
        model: network of images (B, channels, H, W), called as ``model(x)``; a copy is walked, in evaluation mode.
        size: rows and columns of the images, or one number for both.
        channels: of the images; those that the network or its first layer declares if None.
        reach: pixels that nearby exact sizes may differ by.

    Convolutions, transposed convolutions, pools, interpolation, padding, slices and pixel shuffles are judged, whether modules or
    functions call them; a module whose attribute ``exact_subsampling`` is true counts as exact. What weights do is not looked at:
    kernels are taken to turn with the group, and :func:`spheregeo.audit.measure_equivariance` measures whether they do.

    Raises: ValueError for sizes below 1, TypeError for what is no module, and what the network raises at this size.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is {type(model).__name__}, expected a torch module")
    rows, columns = (size, size) if isinstance(size, int) else size
    if min(rows, columns) < 1:
        raise ValueError(f"size is {(rows, columns)}, expected at least 1 pixel")
    walk = _Walk(model, channels)
    steps = walk(rows, columns)
    turned = steps if rows == columns else walk(columns, rows)
    layers = []
    for k, step in enumerate(steps):
        same = k < len(turned) and len(turned) == len(steps) and step.turns_into(turned[k])
        mirrors = [step.mirrors(axis) for axis in (0, 1)]
        why = step.why() or ("" if same else "rows and columns are not treated alike")
        layers.append(
            Layer(step.module, step.describe(), step.size, step.out, mirrors[0], mirrors[1], same and all(mirrors), why)
        )  # fmt: skip
    return SubsamplingReport(
        (rows, columns), tuple(layers), walk.nearby(rows, 0, reach), walk.nearby(columns, 1, reach), tuple(walk.unknown)
    )  # fmt: skip


class _Walk:
    """Steps of a network's passes at several sizes."""

    def __init__(self, model: nn.Module, channels: int | None) -> None:
        self.model = copy.deepcopy(model).eval()
        self.channels = declared_channels(model) if channels is None else channels
        self.like = next((p for p in self.model.parameters() if p.is_floating_point()), torch.empty(0))
        self.unknown: list[str] = []
        self.mirrored: dict[int, tuple[bool, bool]] = {}

    def __call__(self, rows: int, columns: int) -> list[TracedStep]:
        x = torch.zeros(1, self.channels, rows, columns, dtype=self.like.dtype, device=self.like.device)
        found = trace(self.model, x)
        self.unknown += [name for name in found.unknown if name not in self.unknown]
        return found.steps

    def is_mirrored(self, size: int, axis: int) -> bool:
        """Whether all layers may have an axis reversed in square images of a size; False where the network takes none such."""
        if size not in self.mirrored:
            try:
                steps = self(size, size)
                self.mirrored[size] = (all(s.mirrors(0) for s in steps), all(s.mirrors(1) for s in steps))
            except (RuntimeError, ValueError, AssertionError):  # as networks refuse sizes
                self.mirrored[size] = (False, False)
        return self.mirrored[size][axis]

    def nearby(self, size: int, axis: int, reach: int) -> tuple[int, ...]:
        """The nearest exact sizes, ``size`` itself and at most ``SHOWN`` on each side."""
        found = [size] if self.is_mirrored(size, axis) else []
        for side in (-1, 1):
            near = (size + side * step for step in range(1, reach + 1) if size + side * step > 0)
            for _ in range(SHOWN):
                found += [n for n in [next((n for n in near if self.is_mirrored(n, axis)), 0)] if n]
        return tuple(sorted(found))


class ExactSize(nn.Module):
    """Bring images to the nearest size with which a network subsamples exactly, evaluate the network, and undo it for fields.

    Args:
        model: network of images.
        how: "pad" or "crop".
        channels: of the images; as for :func:`subsampling`.
        reach: pixels that the size may change by.

    Both ends of an axis get or lose equal numbers of pixels. Where no exact size differs by an even number, neighbouring pixels
    are averaged first, see :func:`spheregeo.nn.plane.fit_size`: padding at one end alone would shift the image against the
    centre of rotation. Outputs as large as the changed image come back at the image's own size, all others as they are.

    Shape: (B, C, H, W) -> as the network's.
    Equivariance: exact under quarter turns and reflections, if the network's layers are.
    Raises: ValueError for another word than "pad" and "crop"; at the first call, for a network with no exact size nearby.

    Example:
        >>> net = ExactSize(nn.Conv2d(1, 2, 3, stride=2, padding=1))
        >>> net.target(28, 33), net(torch.zeros(1, 1, 28, 33)).shape[-2:]
        ((29, 33), torch.Size([15, 17]))
    """

    def __init__(
        self, model: nn.Module, how: str = "pad", *, channels: int | None = None, reach: int = REACH
    ) -> None:
        super().__init__()
        if how not in ("pad", "crop"):
            raise ValueError(f"how is {how!r}, expected 'pad' or 'crop'")
        self.model = model
        self.how, self.channels, self.reach = how, channels, reach
        self._known: dict[tuple[int, int], tuple[int, int]] = {}

    def target(self, rows: int, columns: int) -> tuple[int, int]:
        """Return the size that images of a size are brought to.

        Args:
            rows, columns: of the image.

        Raises: ValueError where no size within reach is exact.
        """
        if (rows, columns) not in self._known:
            walk = _Walk(self.model, self.channels)
            self._known[rows, columns] = (self._nearest(walk, rows, 0), self._nearest(walk, columns, 1))
        return self._known[rows, columns]

    def _nearest(self, walk: _Walk, size: int, axis: int) -> int:
        sign = 1 if self.how == "pad" else -1
        steps = sorted(range(self.reach + 1), key=lambda step: (step % 2, step))  # even numbers first
        for step in steps:
            if size + sign * step > 0 and walk.is_mirrored(size + sign * step, axis):
                return size + sign * step
        raise ValueError(
            f"no {('height', 'width')[axis]} within {self.reach} pixels of {size} is exact for {type(self.model).__name__}"
        )

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate the network on the image at its exact size.

        Args:
            x: images.
        """
        size = (int(x.shape[-2]), int(x.shape[-1]))
        target = self.target(*size)
        out: Tensor = self.model(fit_size(x, target))
        return fit_size(out, size) if out.ndim > 2 and tuple(out.shape[-2:]) == target else out

    def extra_repr(self) -> str:
        """What images are padded or cropped by."""
        return f"how={self.how!r}"


def pad_to_exact(model: nn.Module, **options: Any) -> ExactSize:
    """Return a network that pads its images to the nearest size with which it subsamples exactly, see :class:`ExactSize`."""
    return ExactSize(model, "pad", **options)


def crop_to_exact(model: nn.Module, **options: Any) -> ExactSize:
    """Return a network that crops its images to the nearest size with which it subsamples exactly, see :class:`ExactSize`."""
    return ExactSize(model, "crop", **options)
