r"""``HarmonicConv2d``: complex features of rotation order 0 … M, and filters that are circular harmonics.

    W(r, φ) = R(r) exp(i(μφ + β)),    μ = order out − order in

A turn of the image by a multiplies a response of order m by exp(ima). A negative order is the conjugate angular function; real
and imaginary parts make one real convolution with blocks [Re W, −Im W; Im W, Re W].
Reference: Worrall, Garbin, Turmukhambetov & Brostow 2017, arXiv:1612.04642.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from spheregeo.groups import FieldType, Term
from spheregeo.nn.plane.basis import PlanarBasis, TapBasis
from spheregeo.nn.plane.expanded import ExpandedConv2d


class HarmonicConv2d(ExpandedConv2d):
    """Convolution of harmonic networks: streams of complex features by rotation order, filters of learned profile and phase.

    Streams are text such as ``"8x0 + 8x1"``, 8 complex features of order 0 and 8 of order 1; each takes two channels, real part
    and imaginary part side by side. Norms and nonlinearities act on magnitudes, which :attr:`magnitudes` describes:
    ``FieldBatchNorm(conv.magnitudes)`` and ``NormNonlinearity(conv.magnitudes, "relu")``.

    These are half of the kernels of :class:`SteerableConv2d`, those that do not conjugate.

    Args:
        in_streams, out_streams: number of complex features of each order of rotation.
        kernel_size: taps along each side.
        real_input: whether the input, of order 0 alone, is real: an image, one channel for each feature.
        stride: step of the output; with ``antialias`` behind a Gaussian low-pass, so that ⌈size / stride⌉ pixels come out.
        antialias: whether a stride comes after a low-pass.
        padding: pixels on each side; "same" keeps the size, or divides it by the stride.
        padding_mode: ``"zeros"``, ``"reflect"``, ``"replicate"`` or ``"circular"``.
        bias: a learned complex constant on each feature of order 0.
        basis: profiles of the filters; None for ``PlanarBasis(kernel_size)``. A basis of larger tolerance has more.

    Shape: (B, 2 features in, H, W), or (B, features in, H, W) with ``real_input`` -> (B, 2 features out, H', W').
    Equivariance: quarter turns: exact (1e-15 in float64), an anti-aliased stride included. Other turns: a response of order m
        turns by m times the angle with relative error 1e-3 to 1e-2 (two layers, kernel size 5, smooth images).
    Raises: ValueError for streams that no filter reaches, real input of higher order, and images of other channels.
    Reference: Worrall, Garbin, Turmukhambetov & Brostow 2017, arXiv:1612.04642, section 4.

    Example:
        >>> first, second = HarmonicConv2d("1x0", "4x0 + 4x1", real_input=True), HarmonicConv2d("4x0 + 4x1", "2x1")
        >>> second(first(torch.randn(1, 1, 9, 9))).shape
        torch.Size([1, 4, 9, 9])
    """

    def __init__(
        self,
        in_streams: str | FieldType,
        out_streams: str | FieldType,
        kernel_size: int = 5,
        *,
        real_input: bool = False,
        stride: int = 1,
        antialias: bool = True,
        padding: int | str = "same",
        padding_mode: str = "zeros",
        bias: bool = True,
        basis: TapBasis | None = None,
    ) -> None:
        into, out = FieldType.of(in_streams), FieldType.of(out_streams)
        if real_input and into.max_order:
            raise ValueError(f"in_streams is '{into}' with real_input; expected order 0 alone, such as '3x0'")
        sizes = (into.num_fields * (1 if real_input else 2), out.num_fields * 2)
        super().__init__(sizes, kernel_size, stride, antialias, padding, padding_mode)
        self.in_streams, self.out_streams, self.real_input = into, out, real_input
        self.basis: TapBasis = PlanarBasis(kernel_size) if basis is None else basis
        if self.basis.size != kernel_size:
            raise ValueError(f"basis has size {self.basis.size}; expected kernel_size {kernel_size}")
        self._inside = [(term.multiplicity, term.order) for term in into.terms]
        self._outside = [(term.multiplicity, term.order) for term in out.terms]
        self.profiles, self.phases = nn.ParameterList(), nn.ParameterList()
        # for each pair of streams with a filter: (stream out, stream in, rings)
        self._pairs: list[tuple[int, int, int]] = []
        for o, (number, order) in enumerate(self._outside):
            for i, (copies, before) in enumerate(self._inside):
                rings = self.basis.count(order - before)
                if rings:
                    self._pairs.append((o, i, rings))
                    phase = (order - before) * self.basis.angles()
                    waves = self.basis.profiles(order - before)[:, None] * torch.stack(
                        [torch.cos(phase), torch.sin(phase)]
                    )
                    self.keep(f"waves{o}_{i}", waves.flatten(1))
                    self.profiles.append(torch.empty(number, copies, rings))
                    self.phases.append(torch.empty(number, copies))
            if not any(pair[0] == o for pair in self._pairs):
                raise ValueError(
                    f"out_streams '{out}' has order {order}, to which no filter of size {kernel_size} leads from '{into}' "
                    f"(orders of filters up to {self.basis.top}); take a larger kernel, or a basis of larger tolerance"
                )
        place, shifted = 0, []
        for number, order in self._outside:
            shifted += list(range(place, place + 2 * number)) if order == 0 else []
            place += 2 * number
        self.register_buffer("shifted", torch.tensor(shifted, dtype=torch.int64), persistent=False)
        self.bias = nn.Parameter(torch.empty(len(shifted))) if bias and shifted else None
        self.reset_parameters()

    @property
    def magnitudes(self) -> FieldType:
        """The output as pairs of channels, for norms and nonlinearities that act on magnitudes."""
        return FieldType([Term(self.out_streams.num_fields, 1)])

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Normal profiles: independent input of unit variance gives output of unit variance. Any phase, zero bias."""
        for k, (o, _, _) in enumerate(self._pairs):
            total = sum(self._inside[i][0] * rings for q, i, rings in self._pairs if q == o)
            # a complex feature is two channels that both reach each channel of the output, with half of the filter's energy
            self.profiles[k].normal_(std=math.sqrt((2.0 if self.real_input else 1.0) / total))
            self.phases[k].uniform_(-math.pi, math.pi)
        if self.bias is not None:
            self.bias.zero_()

    def kernel(self) -> Tensor:
        """The expanded kernel, real. Shape: (2 features out, channels in, kernel_size, kernel_size)."""
        taps = self.kernel_size**2
        rows: list[list[Tensor]] = [[] for _ in self._outside]
        pairs = {(o, i): k for k, (o, i, _) in enumerate(self._pairs)}
        for o, (number, _) in enumerate(self._outside):
            for i, (copies, _) in enumerate(self._inside):
                width = copies if self.real_input else 2 * copies
                if (o, i) not in pairs:
                    rows[o].append(self.profiles[0].new_zeros(number * 2, width, taps))
                    continue
                profile, phase = self.profiles[pairs[o, i]], self.phases[pairs[o, i]]
                waves = self.get_buffer(f"waves{o}_{i}").to(profile.dtype)
                # R exp(iμφ), then turned by the phase. Shape: (out, in, 2, taps)
                plain = (profile.flatten(0, 1) @ waves).view(number, copies, 2, taps)
                cos, sin = torch.cos(phase)[..., None], torch.sin(phase)[..., None]
                real = cos * plain[:, :, 0] - sin * plain[:, :, 1]
                imag = sin * plain[:, :, 0] + cos * plain[:, :, 1]
                columns = [torch.stack([real, imag], 1)]  # (out, 2, in, taps)
                if not self.real_input:
                    columns.append(torch.stack([-imag, real], 1))
                rows[o].append(torch.stack(columns, 3).view(number * 2, width, taps))
        whole = torch.cat([torch.cat(row, 1) for row in rows])
        return whole.unflatten(2, (self.kernel_size, self.kernel_size))

    def constant(self) -> Tensor | None:
        if self.bias is None:
            return None
        return self.bias.new_zeros(self.sizes[1]).index_copy(0, self.get_buffer("shifted"), self.bias)

    def extra_repr(self) -> str:
        real = ", real_input=True" if self.real_input else ""
        return f"'{self.in_streams}', '{self.out_streams}'{real}, {super().extra_repr()}"
