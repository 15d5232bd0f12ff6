"""The compiled Legendre stage beside the portable one: values, derivatives, rings left out, threads, ways of compiling."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from spheregeo.grids import GaussLegendre, HEALPix
from spheregeo.spectral import SHT, InverseSHT
from spheregeo.spectral.engines import portable
from spheregeo.spectral.legendre import Legendre, triangle

pytest.importorskip("numba")
from spheregeo.spectral.engines import cpu

ROOT = Path(__file__).resolve().parents[2]


def structure(lmax: int, rings: int, spin: int, poles: bool = False) -> Legendre:
    theta = torch.linspace(0, torch.pi, rings, dtype=torch.float64)
    if not poles:
        theta = (torch.arange(rings, dtype=torch.float64) + 0.5) * torch.pi / rings
    return Legendre(lmax, theta, spin)


@pytest.mark.parametrize("spin", [0, 1, 3])
@pytest.mark.parametrize(
    ("lmax", "rings", "poles"), [(0, 1, False), (2, 7, True), (40, 64, False), (97, 71, True)]
)
@pytest.mark.parametrize("columns", [1, 2, 6, 38])
def test_both_directions_give_what_the_portable_engine_gives(lmax, rings, poles, spin, columns):
    s = structure(lmax, rings, spin, poles)
    a, f = torch.randn(s.size, columns).double(), torch.randn(lmax + 1, rings, columns).double()
    for found, expected in (
        (cpu.synthesis(s, a), portable.synthesis(s, a)),
        (cpu.analysis(s, f), portable.analysis(s, f)),
    ):
        assert found.shape == expected.shape
        assert (found - expected).abs().max() <= 3e-14 * max(1, lmax) * expected.abs().max()
    for single, double in (
        (cpu.synthesis(s, a.float()), cpu.synthesis(s, a.float().double())),
        (cpu.analysis(s, f.float()), cpu.analysis(s, f.float().double())),
    ):
        assert torch.equal(single, double.float())  # sums are in float64


@pytest.mark.parametrize("spin", [0, 2])
@pytest.mark.parametrize(("lmax", "rings"), [(2100, 6), (500, 140)])
def test_rings_where_functions_begin_late(lmax, rings, spin):
    s = structure(lmax, rings, spin)
    first = cpu._plan(s)[7]
    assert rings == 6 or first[300, 0] > first[300, 1]
    degree = triangle(s.lmax)[0]
    generator = torch.Generator().manual_seed(1)
    a = torch.randn(s.size, 1, generator=generator, dtype=torch.float64) * (degree >= spin)[:, None]
    f = torch.randn(lmax + 1, rings, 1, generator=generator, dtype=torch.float64)
    expected = portable.synthesis(s, a)
    values, sums = cpu.synthesis(s, a), cpu.analysis(s, f)
    assert values[lmax * 3 // 4, 0] == 0 and abs(expected[lmax * 3 // 4, 0]) < 1e-40  # left out
    assert (values - expected).abs().max() < 1e-10 * expected.abs().max()
    assert abs((values * f).sum() - (a * sums).sum()) < 1e-12 * values.norm() * f.norm()


@pytest.mark.parametrize(("grid", "lmax"), [(GaussLegendre(25, 50), 24), (HEALPix(8), 16)], ids=str)
@pytest.mark.parametrize("spin", [0, 2])
def test_modules_and_their_gradients_do_not_depend_on_the_engine(grid, lmax, spin):
    parts = (2,) if spin else ()
    for make, shape in ((SHT, grid.shape), (InverseSHT, ((lmax + 1) ** 2,))):
        found = []
        for engine in ("cpu", "portable"):
            generator = torch.Generator().manual_seed(2)
            x = torch.randn(3, *parts, *shape, generator=generator, dtype=torch.float64, requires_grad=True)
            y = make(grid, lmax, spin, engine=engine)(x)
            weight = torch.randn(y.shape, generator=generator, dtype=torch.float64)
            (gradient,) = torch.autograd.grad((y * weight).sum(), x)
            found.append((y.detach(), gradient))
        for ours, theirs in zip(*found, strict=True):
            assert theirs.abs().max() > 0 and (ours - theirs).abs().max() < 1e-12 * theirs.abs().max()


def test_sums_do_not_depend_on_the_number_of_threads():
    s = structure(60, 61, 0)
    a, f = torch.randn(s.size, 70), torch.randn(61, 61, 70)
    before, found = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append((cpu.synthesis(s, a), cpu.analysis(s, f)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


def outputs() -> list[np.ndarray]:
    out = []
    for spin in (0, 1):
        s = structure(9, 7, spin)
        for columns in (1, 8):
            a = torch.arange(s.size * columns, dtype=torch.float64).view(s.size, columns).sin()
            values = cpu.synthesis(s, a)
            out += [values.numpy(), cpu.analysis(s, values).numpy()]
    return out


@pytest.mark.parametrize(
    "environment",
    [{"NUMBA_DISABLE_JIT": "1"}, pytest.param({"SPHEREGEO_TILES": "0"}, marks=pytest.mark.slow)],
    ids=str,
)
def test_plain_loops_give_what_tiles_give(environment, tmp_path):
    code = "import sys, numpy; from tests.spectral.test_engines import outputs; numpy.savez(sys.argv[1], *outputs())"
    command = [sys.executable, "-c", code, str(tmp_path / "out.npz")]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    subprocess.run(command, env=env, cwd=ROOT, check=True, timeout=600)
    with np.load(tmp_path / "out.npz") as arrays:
        found = [arrays[name] for name in arrays]
    assert len(found) == 8
    for ours, theirs in zip(outputs(), found, strict=True):
        assert np.abs(ours).max() > 0 and np.abs(ours - theirs).max() < 1e-13 * np.abs(ours).max()


def _in_child(connection, engine, x) -> None:
    torch.set_num_threads(1)
    try:
        connection.send(SHT(GaussLegendre(6, 12), 5, engine=engine)(x).numpy())
    except ValueError as error:
        connection.send(str(error))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system has no fork")
def test_forked_processes_leave_the_compiled_loops_that_their_parent_has_used():
    context = multiprocessing.get_context("fork")
    x = torch.randn(2, 6, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    expected = SHT(GaussLegendre(6, 12), 5)(x)  # the plan is kept, and its pool of threads in use
    SHT(GaussLegendre(6, 12), 5, engine="cpu")(x)
    found = {}
    for engine in (None, "cpu"):
        ours, theirs = context.Pipe()
        process = context.Process(target=_in_child, args=(theirs, engine, x))
        process.start()
        assert ours.poll(60), "the child hangs"
        found[engine] = ours.recv()
        process.join()
    assert np.abs(found[None] - expected.numpy()).max() < 1e-13
    assert "a forked process must not enter" in found["cpu"]
