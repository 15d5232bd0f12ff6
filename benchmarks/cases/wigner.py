"""Wigner matrices of all degrees up to lmax for many rotation matrices, beside e3nn's; and the S2CNN, which is products of them.

Rows `edges` are the frames of edges, R r = y, as steerable convolutions need them; e3nn's then come from angles. The S2CNN is
that of Cohen et al. for spherical digits; its peers take every sum by einsum over full tables of complex harmonics and Wigner
matrices, or over one of d(β) for each degree between FFTs, as s2cnn does.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from scipy.special import sph_harm_y
from torch import Tensor, nn
from torch.nn import functional

from cases.configuration import PointConfiguration
from measure import Work
from spheregeo.grids import Equiangular
from spheregeo.groups import random_rotations
from spheregeo.harmonics import packed_wigner, unpack_wigner, wigner_d, wigner_to_y
from spheregeo.nn import NearIdentity, S2Conv, SO3Conv, SO3Integrate
from spheregeo.spectral import SO3Grid


def inputs(points: int, edges: bool) -> Tensor:
    torch.manual_seed(0)
    x = torch.randn(points, 3) if edges else random_rotations(points).float()
    return x.requires_grad_()


def ours(points: int, lmax: int, edges: bool) -> Callable[[], Work]:
    def build() -> Work:
        x = inputs(points, edges)
        return Work(lambda: wigner_to_y(x, lmax) if edges else packed_wigner(x, lmax), (x,))

    return build


def peer(points: int, lmax: int, edges: bool) -> Callable[[], Work]:
    def build() -> Work:
        from e3nn import o3

        x = inputs(points, edges)

        def of_angles(*angles: Tensor) -> Tensor:
            return torch.cat([o3.wigner_D(degree, *angles).flatten(1) for degree in range(lmax + 1)], 1)

        def forward() -> Tensor:
            if not edges:
                return of_angles(*o3.matrix_to_angles(x))
            alpha, beta = o3.xyz_to_angles(x)
            return of_angles(torch.zeros_like(alpha), -beta, -alpha)

        return Work(forward, (x,))

    return build


def agree(works: dict[str, Work]) -> None:
    """Raise unless both give the same matrices."""
    with torch.no_grad():
        difference = (works["spheregeo"].forward() - works["e3nn"].forward()).abs()
    # near its poles e3nn loses half the digits, so a few rows may stand out
    assert difference.amax(1).quantile(0.99) < 1e-3, f"matrices differ by {difference.amax(1).median()}"


def configuration(
    points: int, lmax: int, edges: bool, small: PointConfiguration | None
) -> PointConfiguration:
    builders = {"spheregeo": ours(points, lmax, edges), "e3nn": peer(points, lmax, edges)}
    space = f"{points} {'edges' if edges else 'rotations'}"
    # the frames of edges may differ by a roll
    check = None if edges else agree
    return PointConfiguration("wigner", space, f"l <= {lmax}", points, 1, builders, small, check)


# ---- the S2CNN


class S2CNN(nn.Module):
    """Channels 1, 20, 40, bandwidths b, b/3, b/5, and a linear layer on the integrals."""

    def __init__(self, bandwidth: int) -> None:
        super().__init__()
        self.one, self.two, self.three = bandwidth, bandwidth // 3, bandwidth // 5
        self.lift = S2Conv(1, 20, self.one - 1, self.two - 1)
        self.conv = SO3Conv(20, 40, self.two - 1, self.three - 1)
        self.pool, self.head = SO3Integrate(self.three - 1), nn.Linear(40, 10)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.pool(functional.relu(self.conv(functional.relu(self.lift(x))))))
        return y


class ByEinsum(S2CNN):
    """The same by complex tables: whole (rotations × coefficients), or of d(β) for each degree with FFTs over α and γ."""

    def __init__(self, bandwidth: int, ffts: bool) -> None:
        super().__init__(bandwidth)
        self.ffts = ffts
        grid, kernel = Equiangular(2 * self.one, 2 * self.one), NearIdentity()
        alpha, beta, gamma = kernel._angles()
        self.y = _harmonics(grid.colatitude, grid.longitude, self.two - 1).conj() * grid.areas[:, None]
        self.y = self.y.to(torch.complex64)
        self.psi = _harmonics(beta[..., 0].flatten(), alpha[..., 0].flatten(), self.two - 1).to(
            torch.complex64
        )
        blocks = _matrices(alpha.flatten(), beta.flatten(), gamma.flatten(), self.three - 1)
        self.filters = torch.cat([d.flatten(1) for d in blocks], 1).to(torch.complex64)
        self.weights = SO3Grid(self.two).weights.to(torch.complex64)
        self.tables = {}
        for b in (self.two, self.three):
            g = SO3Grid(b)
            if ffts:
                self.tables[b] = [d.to(torch.complex64) for d in unpack_wigner(wigner_d(g.beta, b - 1))]
                continue
            beta, alpha, gamma = (
                t.flatten() for t in torch.meshgrid(g.beta, g.alpha, g.gamma, indexing="ij")
            )
            whole = torch.cat([d.flatten(1) for d in _matrices(alpha, beta, gamma, b - 1)], 1)
            self.tables[b] = [whole.to(torch.complex64)]

    def _sizes(self, b: int) -> list[int]:
        return [2 * degree + 1 for degree in range(b)]

    def _synthesis(self, h: list[Tensor], b: int) -> Tensor:
        if not self.ffts:
            flat = torch.cat([part.flatten(2) for part in h], -1)
            return torch.einsum("bof,rf->bor", flat, self.tables[b][0].conj()).real.unflatten(
                -1, (2 * b,) * 3
            )
        spectrum = h[0].new_zeros(*h[0].shape[:2], 2 * b, 2 * b, 2 * b)
        for degree, (part, d) in enumerate(zip(h, self.tables[b], strict=True)):
            at = torch.arange(-degree, degree + 1) % (2 * b)
            spectrum[:, :, :, at[:, None], at] += torch.einsum("bomn,kmn->bokmn", part, d)
        return torch.fft.ifft2(spectrum, norm="forward").real

    def _analysis(self, x: Tensor, b: int, keep: int) -> list[Tensor]:
        scale = [size / (8 * math.pi**2) for size in self._sizes(keep)]
        z = x.to(torch.complex64) * self.weights[:, None, None]
        if not self.ffts:
            sizes = [size**2 for size in self._sizes(keep)]
            flat = torch.einsum("bir,rf->bif", z.flatten(2), self.tables[b][0][:, : sum(sizes)]).split(
                sizes, -1
            )
            return [
                s * part.unflatten(-1, (math.isqrt(n), -1))
                for s, part, n in zip(scale, flat, sizes, strict=True)
            ]
        spectrum, parts = torch.fft.fft2(z), []
        for degree in range(keep):
            at = torch.arange(-degree, degree + 1) % (2 * b)
            part = torch.einsum("bikmn,kmn->bimn", spectrum[:, :, :, at[:, None], at], self.tables[b][degree])
            parts.append(scale[degree] * part)
        return parts

    def forward(self, x: Tensor) -> Tensor:
        f = torch.einsum("bip,pl->bil", x.flatten(2).to(torch.complex64), self.y)
        psi = torch.einsum("oik,kl->oil", self.lift.weight.to(torch.complex64), self.psi)
        sizes = self._sizes(self.two)
        pairs = zip(f.split(sizes, -1), psi.split(sizes, -1), strict=True)
        y = self._synthesis([torch.einsum("bim,oin->bomn", a, p) for a, p in pairs], self.two)
        h = self._analysis(functional.relu(y + self.lift.bias[:, None, None, None]), self.two, self.three)
        psi = torch.einsum("oik,kf->oif", self.conv.weight.to(torch.complex64), self.filters).conj()
        blocks = [
            p.unflatten(-1, (math.isqrt(p.shape[-1]), -1))
            for p in psi.split([n * n for n in sizes[: self.three]], -1)
        ]
        out = [torch.einsum("bimn,oikn->bomk", a, p) for a, p in zip(h, blocks, strict=True)]
        y = functional.relu(self._synthesis(out, self.three) + self.conv.bias[:, None, None, None])
        result: Tensor = self.head(self.pool(y))
        return result


def _harmonics(theta: Tensor, phi: Tensor, lmax: int) -> Tensor:
    orders = [(degree, m) for degree in range(lmax + 1) for m in range(-degree, degree + 1)]
    return torch.stack([torch.from_numpy(sph_harm_y(*lm, theta.numpy(), phi.numpy())) for lm in orders], -1)


def _matrices(alpha: Tensor, beta: Tensor, gamma: Tensor, lmax: int) -> list[Tensor]:
    """Complex D^l of rotations. Shape: (rotations, 2l + 1, 2l + 1) for each degree."""
    found = []
    for degree, d in enumerate(unpack_wigner(wigner_d(beta, lmax))):
        m = torch.arange(-degree, degree + 1)
        left, right = torch.exp(-1j * alpha[:, None] * m), torch.exp(-1j * gamma[:, None] * m)
        found.append(left[:, :, None] * d * right[:, None])
    return found


def network(bandwidth: int, make: Callable[[int], nn.Module]) -> Callable[[], Work]:
    """Return a builder of a network on a batch of 8."""

    def build() -> Work:
        torch.manual_seed(0)
        model = make(bandwidth)
        x = torch.randn(8, 1, 2 * bandwidth, 2 * bandwidth, requires_grad=True)
        return Work(lambda: model(x), (x, *model.parameters()))

    return build


def same_numbers(works: dict[str, Work]) -> None:
    """Raise unless all give the same output, from the same seed."""
    with torch.no_grad():
        first, *others = [work.forward() for work in works.values()]
    for other in others:
        assert (other - first).abs().max() < 1e-3 * first.abs().max(), "networks differ"


def s2cnn(bandwidth: int, small: PointConfiguration | None) -> PointConfiguration:
    builders = {
        "spheregeo": network(bandwidth, S2CNN),
        "einsum": network(bandwidth, lambda b: ByEinsum(b, False)),
        "einsum and FFT": network(bandwidth, lambda b: ByEinsum(b, True)),
    }
    name, points = f"S2CNN, b = {bandwidth}", 4 * bandwidth**2
    return PointConfiguration(
        "wigner", name, "20 and 40 channels", points, 20, builders, small, same_numbers, batch=8
    )


def cases() -> list[PointConfiguration]:
    found = [
        configuration(20_000, lmax, edges, configuration(500, lmax, edges, None))
        for lmax, edges in ((2, False), (6, False), (4, True))
    ]
    return [*found, s2cnn(30, s2cnn(10, None))]
