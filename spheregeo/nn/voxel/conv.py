r"""``SteerableVoxelConv``: steerable convolution of fields on voxel grids, one ``conv3d``.

    κ(x) = Σ_{k, path} w_{k,path} Σ_m √(2l+1) C^{l1 l l3}_{·m·} B_{k,l,m}(x)

Reference: Weiler et al. 2018, arXiv:1807.02547, eq. 7 and 13.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from e3nn.o3 import Irrep, Irreps
from torch import Tensor, nn
from torch.nn import functional as F

from spheregeo.checks import check_tensor
from spheregeo.harmonics import clebsch_gordan
from spheregeo.nn.exact_buffers import ExactBuffers
from spheregeo.nn.irreps.layout import as_irreps, couples, is_scalar
from spheregeo.nn.irreps.stack_layout import StackLayout
from spheregeo.nn.kept import KeptInEvaluation
from spheregeo.nn.low_pass import low_pass, pad_sides, triple, windows
from spheregeo.nn.voxel.basis import VoxelBasis


class SteerableVoxelConv(KeptInEvaluation, ExactBuffers):
    """Convolution between irreps fields on voxels whose kernel is made of Gaussian shells times harmonics.

    Args:
        irreps_in, irreps_out: e3nn irreps; channels in ``mul_ir`` order.
        kernel_size: taps along each axis, odd or even; or one for each axis.
        stride: with ``antialias`` a Gaussian low-pass (see :class:`LowPassDownsample`) goes before the sampling, and windows lie
            symmetrically whatever the size: ⌈size / stride⌉ voxels come out. Without, ``size + 2 padding − kernel_size`` must be
            a multiple of the stride, or the layer would not commute with rotations.
        antialias: whether a stride comes after a low-pass.
        padding: zeros on each side; None keeps the size, or divides it by the stride.
        rings, sigma, cutoff: see :class:`VoxelBasis`.
        spacing: length of a voxel along each axis, where they differ.
        group: ``"O3"``, or ``"SO3"``, for which parities are ignored and there are more kernels.
        bias: a learned constant on the 0e.

    Shape: (B, irreps_in.dim, D, H, W) -> (B, irreps_out.dim, D', H', W'); array axes D, H, W are x, y, z.
    Units: ``rings``, ``sigma`` and ``spacing`` in the same.
    Equivariance: the 48 rotations and reflections of the cube (24 for SO3): exact, 1e-15 in float64, stride included, where
        spacing and stride are alike on all axes. Other rotations: approximate; by 45 degrees, relative, random parameters,
        l ≤ 2, waves of 8 voxels and longer: 2 % (size 3 and 7) and 3 % (size 5), stride or not.
    Raises: ValueError for irreps without a kernel, sizes, and volumes on which the stride would break the symmetry.
    Reference: Weiler et al. 2018, arXiv:1807.02547; Cesa, Lang & Weiler 2022 (shells and their widths).

    Example:
        >>> conv = SteerableVoxelConv("1x0e", "4x0e + 2x1o", 3, padding=1)
        >>> conv(torch.randn(1, 1, 8, 8, 8)).shape
        torch.Size([1, 10, 8, 8, 8])
    """

    def __init__(
        self,
        irreps_in: str | Irreps,
        irreps_out: str | Irreps,
        kernel_size: int | Sequence[int] = 5,
        *,
        stride: int | Sequence[int] = 1,
        antialias: bool = True,
        padding: int | Sequence[int] | None = None,
        rings: Sequence[float] | None = None,
        sigma: float | Sequence[float] | None = None,
        cutoff: int | None = None,
        spacing: Sequence[float] = (1.0, 1.0, 1.0),
        group: str = "O3",
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.irreps_in, self.irreps_out = (
            as_irreps(irreps_in, "irreps_in"),
            as_irreps(irreps_out, "irreps_out"),
        )
        self.kernel_size, self.stride = triple("kernel_size", kernel_size), triple("stride", stride)
        self.spacing = tuple(float(h) for h in spacing)
        if len(self.spacing) != 3 or not all(0 < h < math.inf for h in self.spacing):
            raise ValueError(f"spacing is {spacing!r}; expected three positive lengths, one for each axis")
        if group not in ("O3", "SO3"):
            raise ValueError(f"group is {group!r}; expected 'O3' or 'SO3'")
        self.group, self.antialias = group, antialias and self.stride != (1, 1, 1)
        if self.antialias and padding is not None:
            raise ValueError(f"padding is {padding!r}; with antialias it follows from the size, leave it out")
        self.padding = None if self.antialias else self._padding(padding)
        self.inside, self.outside = StackLayout(self.irreps_in), StackLayout(self.irreps_out)
        self.basis = VoxelBasis(self.kernel_size, self.spacing, rings, sigma, cutoff)
        self.taps = math.prod(self.kernel_size)
        # sizes apart: torch.compile cannot read e3nn's irreps
        self.sizes = (self.irreps_in.dim, self.irreps_out.dim)
        self.dims = tuple([ir.dim for ir in stacks.irs] for stacks in (self.inside, self.outside))
        self.copies = [self.irreps_in.count(ir) for ir in self.inside.irs]
        self.counts: list[list[int]] = []  # basis elements from each input irrep to each output irrep
        for o, out in enumerate(self.outside.irs):
            self.counts.append([])
            for i, into in enumerate(self.inside.irs):
                elements = self._elements(into, out)
                self.counts[-1].append(len(elements))
                if len(elements):
                    self.keep(f"basis{o}_{i}", elements.flatten(1))
            if not any(self.counts[-1]):
                raise ValueError(
                    f"irreps_out has {out}, which no kernel of size {self.kernel_size} makes of irreps_in {self.irreps_in}; "
                    "take a larger kernel or cutoff, or leave it out"
                )
        self.weights = nn.ParameterList(
            torch.empty(
                sum(n * copies for n, copies in zip(counts, self.copies)),
                self.irreps_out.count(out),
            )
            for counts, out in zip(self.counts, self.outside.irs)
        )
        even = is_scalar(self.irreps_out)
        if group == "SO3":
            even = torch.cat([torch.full((mul * ir.dim,), ir.l == 0) for mul, ir in self.irreps_out])
        self.register_buffer("scalars", even.nonzero()[:, 0], persistent=False)
        self.bias = nn.Parameter(torch.zeros(int(even.sum()))) if bias and even.any() else None
        self.reset_parameters()

    def _padding(self, padding: int | Sequence[int] | None) -> tuple[int, ...]:
        if padding is not None:
            given = (padding,) * 3 if isinstance(padding, int) else tuple(padding)
            if len(given) != 3 or not all(isinstance(p, int) and p >= 0 for p in given):
                raise ValueError(f"padding is {padding!r}; expected a whole number of zero or more, or three")
            return given
        found = []
        for size, stride in zip(self.kernel_size, self.stride):
            if stride == 1 and size % 2 == 0:
                raise ValueError(
                    f"kernel_size is {self.kernel_size}; an even kernel lies between voxels and changes the size by one at "
                    "stride 1: give padding, or take an odd size"
                )
            # the second where the stride divides size − 1 rather than the size
            found.append(
                (size - stride) // 2 if size >= stride and (size - stride) % 2 == 0 else (size - 1) // 2
            )
        return tuple(found)

    def _elements(self, into: Irrep, out: Irrep) -> Tensor:
        """Kernels from one irrep to another, each of unit norm. Shape: (elements, 2 l_out + 1, 2 l_in + 1, taps)."""
        found = []
        for l in range(abs(into.l - out.l), into.l + out.l + 1):
            if couples(into, Irrep(l, (-1) ** l), out, self.group == "O3"):
                table = math.sqrt(2 * l + 1) * clebsch_gordan(into.l, l, out.l)
                found.append(torch.einsum("amb,kmt->kbat", table, self.basis.functions(l)))
        if not found:
            return torch.zeros(0, out.dim, into.dim, self.taps, dtype=torch.float64)
        return torch.cat(found)

    @property
    def num_elements(self) -> int:
        """Dimension of the space of kernels, that is, the number of weights."""
        return sum(weight.numel() for weight in self.weights)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Normal weights: independent input of unit variance gives each output irrep unit mean variance. Zero bias."""
        for out, weight in zip(self.outside.irs, self.weights):
            weight.normal_(
                std=math.sqrt(out.dim / len(weight))
            )  # elements have unit norm over 2l + 1 components
        if self.bias is not None:
            self.bias.zero_()

    def kernel(self) -> Tensor:
        """The expanded kernel. Shape: (irreps_out.dim, irreps_in.dim, *kernel_size)."""
        rows = []
        for o, (b, weight) in enumerate(zip(self.dims[1], self.weights)):
            row = []
            parts = weight.split([n * copies for n, copies in zip(self.counts[o], self.copies)])
            for i, (a, copies, part) in enumerate(zip(self.dims[0], self.copies, parts)):
                if not len(part):
                    row.append(weight.new_zeros(b * weight.shape[1], a * copies, self.taps))
                    continue
                # (elements, channels in · out) with (elements, b · a · taps)
                mix = part.view(self.counts[o][i], -1)
                block = mix.T @ self.get_buffer(f"basis{o}_{i}").to(mix.dtype)
                block = block.view(copies, weight.shape[1], b, a, self.taps)
                row.append(block.permute(2, 1, 3, 0, 4).flatten(2, 3).flatten(0, 1))
            rows.append(torch.cat(row, 1))
        whole = torch.cat(rows, 0)
        for axis, stacks in ((0, self.outside), (1, self.inside)):
            if not stacks.in_order:
                whole = whole.index_select(axis, stacks.get_buffer("inverse"))
        return whole.unflatten(2, self.kernel_size)

    def _current(self) -> Tensor:
        """The kernel, kept in evaluation until a weight changes."""
        return self.kept("kernel", self.kernel, self.weights)

    def _constant(self, like: Tensor) -> Tensor | None:
        if self.bias is None:
            return None
        zero = self.bias.new_zeros(self.sizes[1])
        return zero.index_copy(0, self.get_buffer("scalars"), self.bias).to(like.dtype)

    def _windows(self, shape: Sequence[int]) -> tuple[list[list[float]], list[int]]:
        """Low-pass taps and padding of each axis, for one size of volume."""
        return windows(shape, self.stride, self.kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        check_tensor(x)
        if x.ndim != 5 or x.shape[1] != self.sizes[0]:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (batch, {self.sizes[0]}, D, H, W)")
        kernel = self._current().to(x.dtype)
        if self.antialias:
            taps, pads = self._windows(x.shape[2:])
            x = low_pass(pad_sides(x, pads), taps)
            return F.conv3d(x, kernel, self._constant(x), self.stride)
        assert self.padding is not None
        self._check_stride(x.shape[2:])
        return F.conv3d(x, kernel, self._constant(x), self.stride, self.padding)

    def _check_stride(self, shape: Sequence[int]) -> None:
        assert self.padding is not None
        for axis, (size, stride, pad, kernel) in enumerate(
            zip(shape, self.stride, self.padding, self.kernel_size)
        ):
            room = size + 2 * pad - kernel
            if room < 0:
                raise ValueError(
                    f"x has {size} voxels along axis {axis}; expected at least {kernel - 2 * pad}"
                )
            if room % stride:
                raise ValueError(
                    f"x has {size} voxels along axis {axis}, and size + 2 padding - kernel_size = {room} is no multiple of the "
                    f"stride {stride}: windows would lie to one side and break the symmetry; use antialias=True, or "
                    f"a kernel_size that is {'even' if kernel % 2 else 'odd'}"
                )

    def export_conv3d(self, size: int | Sequence[int] | None = None) -> nn.Conv3d:
        """A plain ``Conv3d`` with the present weights; the low-pass of an anti-aliased stride is folded into its kernel.

        ``size`` is that of the volumes, which places the windows of an anti-aliased stride; other layers do not need it.
        Raises: ValueError where it is needed and missing.
        """
        with torch.no_grad():
            kernel, pads = self.kernel(), list(self.padding or ())
            if self.antialias:
                if size is None:
                    raise ValueError(
                        "size is None; expected the volumes' size, by which the stride's windows are placed"
                    )
                taps, pads = self._windows(triple("size", size))
                margin = [p for row in reversed(taps) for p in (len(row) - 1, len(row) - 1)]
                kernel = low_pass(F.pad(kernel, margin), taps)
            shape = (kernel.shape[2], kernel.shape[3], kernel.shape[4])
            padding = (pads[0], pads[1], pads[2])
            conv = nn.Conv3d(
                self.irreps_in.dim,
                self.irreps_out.dim,
                shape,
                self.stride,
                padding,
                bias=self.bias is not None,
            )
            conv = conv.to(kernel)
            conv.weight.copy_(kernel)
            constant = self._constant(kernel)
            if conv.bias is not None and constant is not None:
                conv.bias.copy_(constant)
        return conv

    def extra_repr(self) -> str:
        return (
            f"'{self.irreps_in}', '{self.irreps_out}', kernel_size={self.kernel_size}, stride={self.stride}, "
            f"antialias={self.antialias}, rings={self.basis.rings}, group={self.group}"
        )
