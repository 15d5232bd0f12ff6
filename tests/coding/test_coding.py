"""Densities against scipy's, coders against entropies, files against every byte that can be lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn

from spheregeo.coding import (
    Compressed,
    FactorizedPrior,
    GaussianConditional,
    SymbolReader,
    SymbolWriter,
    at_least,
    exact_copy,
    pack,
    quantise,
    read_compressed,
    scale_table,
    unpack,
    write_compressed,
)


def test_a_bound_lets_gradients_lead_back() -> None:
    x = torch.tensor([0.5, 2.0, 0.5], requires_grad=True)
    (torch.tensor([-1.0, 1.0, 1.0]) * at_least(x, 1.0)).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [-1, 1, 0]


def test_noise_has_the_width_of_rounding() -> None:
    x = torch.linspace(-3, 3, 1001)
    assert torch.equal(quantise(x, False), x.round())
    noise = quantise(x, True) - x
    assert float(noise.abs().max()) <= 0.5 and abs(float(noise.var()) - 1 / 12) < 0.01


def test_the_prior_is_a_density_learned_by_gradients() -> None:
    torch.manual_seed(0)
    prior = FactorizedPrior(3)
    with torch.no_grad():
        for factor in prior.factors:
            factor.normal_()
    values = torch.arange(-2000.0, 2001.0).expand(3, -1)
    assert torch.allclose(prior.probability(values.double()).sum(1), torch.ones(3).double(), atol=1e-6)
    drawn = torch.randint(-4, 5, (2, 3, 5)).float()
    bits = prior(drawn)
    slow = torch.sigmoid(prior._logits(drawn[1, 2][None, None].expand(3, 1, -1) + 0.5))[2, 0]
    slow = slow - torch.sigmoid(prior._logits(drawn[1, 2][None, None].expand(3, 1, -1) - 0.5))[2, 0]
    assert torch.allclose(bits[1, 2], -slow.log2(), atol=1e-4)
    bits.sum().backward()
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in prior.parameters())


def test_a_checkpoint_keeps_the_tables_and_new_weights_make_new_ones() -> None:
    prior = FactorizedPrior(2)
    stored = prior.state_dict()
    stored["counts"][:, 64] += 5  # as a machine with another exponential might have made them
    other = FactorizedPrior(2)
    other.load_state_dict(stored)
    assert np.array_equal(np.stack(other.tables()), stored["counts"].numpy())
    with torch.no_grad():
        other.offsets[0] += 1
    assert not np.array_equal(np.stack(other.tables()), stored["counts"].numpy())


def test_the_conditional_is_a_gaussian_over_unit_intervals() -> None:
    conditional, scales = GaussianConditional(), torch.tensor([0.11, 0.7, 3.0, 40.0])
    y = torch.tensor([0.0, -2.0, 5.0, 31.0])
    expected = norm.cdf(y + 0.5, scale=scales) - norm.cdf(y - 0.5, scale=scales)
    assert np.allclose(conditional(y[None, None], scales[None, None])[0, 0], -np.log2(expected), atol=1e-4)
    table = torch.from_numpy(scale_table())
    assert conditional.indices(table).tolist() == list(range(64))
    assert conditional.indices(table * 1.05).tolist() == list(range(64))  # the step is 1.13
    assert conditional.indices(torch.tensor([0.0, 1e6])).tolist() == [0, 63]
    for k, counts in ((20, conditional.tables()[20]), (63, conditional.tables()[63])):
        n = len(counts) // 2 - 1
        q = np.arange(-n, n + 1)
        p = norm.cdf((q + 0.5) / scale_table()[k]) - norm.cdf((q - 0.5) / scale_table()[k])
        assert np.abs(counts[:-1] / 2**24 - p).max() < 1e-7


class Hyper(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 8, 3), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.layers(x)
        return result


def test_exact_evaluation_does_not_depend_on_the_order_of_sums() -> None:
    torch.manual_seed(1)
    network = Hyper()
    z = torch.randint(-20, 21, (1, 3, 9, 9)).double()
    exact = exact_copy(network, (nn.Conv2d,))
    turned = exact_copy(network, (nn.Conv2d,))
    order = torch.randperm(64)
    with torch.no_grad():
        for name in ("weight", "bias"):
            getattr(turned.layers[0], name).copy_(getattr(turned.layers[0], name)[order])
        turned.layers[2].weight.copy_(turned.layers[2].weight[:, order])
    assert torch.equal(exact(z), turned(z))
    plain = network.double().requires_grad_(False)
    error = float((exact(z) - plain(z)).abs().max() / plain(z).abs().max())
    assert 0 < error < 2e-3  # another network would not be exact, and a coarse one not this network
    # the sums of the plain one do depend on it
    plain_turned = Hyper().double().requires_grad_(False)
    plain_turned.load_state_dict(
        {
            "layers.0.weight": plain.layers[0].weight[order],
            "layers.0.bias": plain.layers[0].bias[order],
            "layers.2.weight": plain.layers[2].weight[:, order],
            "layers.2.bias": plain.layers[2].bias,
        }
    )
    assert not torch.equal(plain(z), plain_turned(z))


def test_what_is_not_exact_is_refused() -> None:
    with pytest.raises(ValueError, match=r"1\.weight' are in none of the convolutions"):
        exact_copy(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), (nn.Conv2d,))
    with pytest.raises(ValueError, match="expected at most 32768"):
        exact_copy(nn.Conv2d(32768, 1, 1), (nn.Conv2d,))


def drawn_symbols() -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    generator = np.random.default_rng(0)
    indices = generator.integers(0, 64, 20_000)
    values = np.rint(generator.normal(size=20_000) * scale_table()[indices]).astype(np.int64)
    values[[3, 77]] = 5000, -5000  # far outside every table
    return values, indices, GaussianConditional().tables()


def test_the_coder_comes_within_a_percent_of_the_entropy() -> None:
    values, indices, tables = drawn_symbols()
    writer = SymbolWriter()
    writer.add(values, indices, tables)
    content = writer.finish()
    reader = SymbolReader(content)
    assert np.array_equal(reader.take(indices, tables), values)
    inside = np.abs(values) < 5000
    scale = scale_table()[indices]
    p = norm.cdf((0.5 - np.abs(values)) / scale) - norm.cdf((-0.5 - np.abs(values)) / scale)
    assert 8 * len(content) == pytest.approx(-np.log2(p[inside]).sum(), rel=0.01)


def test_the_bytes_of_the_coder_stay_what_they_were() -> None:
    """Another version of the coder that wrote other bytes could not read earlier files."""
    tables = [np.array(row, np.int32) for row in ([3, 900, 3, 1], [50, 400, 9000, 400, 50, 7])]
    writer = SymbolWriter()
    writer.add(np.array([0, 1, -2, 0, 2, 9, -70, 0, 0, -1]), np.array([0, 0, 1, 1, 1, 1, 0, 0, 1, 1]), tables)
    assert writer.finish().hex() == GOLDEN


GOLDEN = "028c0797fec42e6c6489010c"

FILE = Compressed(
    b"12345678", "Equiangular(nlat=32, nlon=64, offset=0.0, poles=False)", (30, 60), bytes(range(40))
)


@pytest.mark.parametrize(
    "grid",
    [FILE.grid, "HEALPix(nside=512, order='ring')", "HEALPix(nside=1, order='nested')", "Icosahedral(4)"],
)
def test_files_hold_what_was_put_in(grid: str, tmp_path: Path) -> None:
    file = Compressed(FILE.digest, grid, (1000, 2000), FILE.symbols)
    assert read_compressed(write_compressed(tmp_path / "a.sgc", file)) == file
    assert len(pack(file)) < 40 + 25 + (len(grid) if "Ico" in grid else 0)


def test_no_damage_goes_unseen(tmp_path: Path) -> None:
    content = pack(FILE)
    for at in range(len(content)):
        for damaged in (content[:at], content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :]):
            with pytest.raises(ValueError, match=r"checksum|begins with|version"):
                unpack(damaged)
    (tmp_path / "cut.sgc").write_bytes(content[:-9])
    with pytest.raises(
        ValueError, match=r"cut\.sgc cannot be read as a compressed panorama: its checksum does not fit"
    ):
        read_compressed(tmp_path / "cut.sgc")
    with pytest.raises(FileNotFoundError):
        read_compressed(tmp_path / "none.sgc")
    with pytest.raises(ValueError, match="digest has 3 bytes"):
        Compressed(b"123", FILE.grid, (1, 2), b"")


def test_symbols_that_end_too_early_are_named() -> None:
    with pytest.raises(ValueError, match="expected at least 40"):
        SymbolReader(bytes([10, 1, 2]))
    with pytest.raises(ValueError, match="end within a number"):
        SymbolReader(bytes([200]))
