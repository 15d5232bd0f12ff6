"""Flows on the sphere: exact solutions, what is conserved, turned planets; the generated weather that is made of them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from spheregeo.data import BarotropicVorticity, ShallowWater, ShallowWaterData
from spheregeo.data.common import generator
from spheregeo.data.fields.generated import random_vorticity
from spheregeo.groups.rotations import random_rotations
from spheregeo.spectral import rotate_coefficients

DAY = 86400.0


def random_state(flow: ShallowWater, seed: int = 0, speed: float = 15.0) -> Tensor:
    return flow.balanced(random_vorticity(flow.lmax, speed, np.random.default_rng(seed)))


@pytest.mark.parametrize("axis", [(0.0, 0.0, 1.0), (1.0, 0.0, 1.0)])
def test_steady_zonal_flow_stays(axis: tuple[float, float, float]) -> None:
    """Williamson's test case 2, along the equator and at 45 degrees to it: height and wind of the formulas, for a day."""
    flow = ShallowWater(8, depth=2998.0, axis=axis)
    unit = torch.tensor(axis).double() / math.hypot(*axis)
    speed = 2 * math.pi * flow.radius / (12 * DAY)
    sine = (flow.grid.points @ unit).reshape(flow.grid.shape)
    state = flow.balanced(flow._analyse(2 * speed / flow.radius * sine))
    depth, winds = flow.fields(state)
    slope = (flow.radius * flow.rotation * speed + speed**2 / 2) / flow.gravity
    assert (depth - (flow.depth - slope * (sine**2 - 1 / 3))).abs().max() < 1e-7
    assert winds.norm(dim=0).max() < speed + 1e-9
    cross = torch.linalg.cross(unit.expand_as(flow.grid.points), flow.grid.points) * speed
    want = torch.einsum("nkc,nc->kn", flow.grid.frames, cross).reshape(winds.shape)
    assert (winds - want).abs().max() < 1e-9
    later, blown = flow.fields(flow.integrate(state, DAY, flow.longest_step))
    assert (later - depth).abs().max() < 1e-6 and (blown - winds).abs().max() < 1e-7


def test_rossby_waves_travel_with_their_speed() -> None:
    """Harmonics of one degree are exact: in the barotropic equation the pattern turns westward by 2 Omega / (l (l + 1))."""
    flow, degree, order = BarotropicVorticity(9), 5, 4
    start = torch.zeros(flow.num_coefficients, dtype=torch.float64)
    start[degree * degree + degree + order], start[degree * degree + degree] = 1e-5, 2e-5
    after = flow.integrate(start, 2 * DAY, 1800.0)
    angle = -order * 2 * flow.rotation / (degree * (degree + 1)) * 2 * DAY
    want = start.clone()
    want[degree * degree + degree + order] = 1e-5 * math.cos(angle)
    want[degree * degree + degree - order] = 1e-5 * math.sin(angle)
    assert (after - want).abs().max() < 1e-11 * 5 and abs(math.sin(angle)) > 0.1


def test_gravity_waves_swing_with_their_frequency() -> None:
    """A small bump on a planet at rest: h_l oscillates by cos(sqrt(g H l (l + 1)) t / a)."""
    flow, place = ShallowWater(6, rotation=0.0), 3 * 3 + 3 + 2
    state = torch.zeros(3, flow.num_coefficients, dtype=torch.float64)
    state[2, 0], state[2, place] = flow.depth * math.sqrt(4 * math.pi), 1e-3
    after = flow.integrate(state, 20000.0, 200.0)
    frequency = math.sqrt(flow.gravity * flow.depth * 12) / flow.radius
    assert float(after[2, place]) == pytest.approx(1e-3 * math.cos(frequency * 20000.0), abs=1e-8)


def test_barotropic_flow_keeps_energy_and_enstrophy() -> None:
    flow = BarotropicVorticity(10)
    state = random_vorticity(10, 15.0, np.random.default_rng(1))
    energy, enstrophy = flow.energy(state), flow.enstrophy(state)
    assert float(energy) == pytest.approx(15.0**2 / 2, rel=1e-9)
    state = flow.integrate(state, DAY, 1200.0)
    assert abs(flow.energy(state) / energy - 1) < 1e-7 and abs(flow.enstrophy(state) / enstrophy - 1) < 1e-6


def test_mass_is_kept_to_the_last_bit_and_energy_to_the_step() -> None:
    """Of large scales alone, so that products beyond the largest degree, which the method drops, play no part."""
    drifts = []
    for damping, factor in ((0.0, 1.0), (0.0, 0.5), (1 / (6 * 3600.0), 1.0)):
        flow = ShallowWater(10, damping=damping)
        vorticity = random_vorticity(10, 15.0, np.random.default_rng(0))
        vorticity[25:] = 0
        state = flow.balanced(vorticity)
        after = flow.integrate(state, DAY, flow.longest_step * factor)
        assert torch.equal(after[2, 0], state[2, 0])
        assert float(flow.mass(after)) == pytest.approx(flow.depth, rel=1e-14)
        drifts.append(float(flow.energy(after) / flow.energy(state) - 1))
    assert abs(drifts[0]) < 1e-4 and abs(drifts[1]) < abs(drifts[0]) / 16  # a method of fourth order
    assert -2e-2 < drifts[2] < -abs(drifts[0])


def test_balance_has_no_tendency_of_divergence() -> None:
    flow = ShallowWater(10)
    state = random_state(flow)
    unbalanced = state.clone()
    unbalanced[2, 1:] = 0
    tendencies = [flow.tendency(s)[1].norm() for s in (state, unbalanced)]
    # only products beyond the largest degree are left
    assert tendencies[0] < 1e-9 * tendencies[1]


def test_turned_states_on_a_turned_planet_stay_turned() -> None:
    flow, turn = ShallowWater(8), random_rotations(1, torch.Generator().manual_seed(3))[0]
    state = random_state(flow)
    want = rotate_coefficients(flow.integrate(state, 4 * 3600.0, flow.longest_step), turn)
    other = ShallowWater(8, axis=turn[:, 2].tolist())
    got = other.integrate(rotate_coefficients(state, turn), 4 * 3600.0, flow.longest_step)
    assert ((got - want).norm(dim=-1) / want.norm(dim=-1)).max() < 1e-9


def test_faults_are_named() -> None:
    with pytest.raises(ValueError, match="lmax is 1"):
        ShallowWater(1)
    with pytest.raises(ValueError, match="depth is 0"):
        ShallowWater(5, depth=0)
    with pytest.raises(ValueError, match="axis is"):
        BarotropicVorticity(5, axis=(0, 0, 0))
    flow = ShallowWater(6)
    with pytest.raises(ValueError, match=r"no longer finite.*shorter steps"):
        flow.integrate(random_state(flow), 400 * flow.longest_step, 4 * flow.longest_step)


# ---- generated weather


def tiny(**options: object) -> ShallowWaterData:
    given = {
        "train": 2,
        "val": 1,
        "test": 1,
        "frames": 3,
        "lmax": 7,
        "size": (8, 16),
        "test_steps": 2,
        "batch_size": 2,
    }
    return ShallowWaterData(**{**given, **options})  # type: ignore[arg-type]


def test_trajectories_depend_on_seed_and_number_and_are_kept(tmp_path: Path) -> None:
    data = tiny(cache_dir=str(tmp_path))
    first = data.series("train")[1].values
    assert len(list(tmp_path.glob("shallow-water-*.npz"))) == 1
    again = tiny(cache_dir=str(tmp_path)).series("train")[1].values
    assert torch.equal(first, again)
    torch.testing.assert_close(tiny(train=3).series("train")[1].values, first, rtol=1e-4, atol=1e-3)
    assert not torch.allclose(tiny(seed=1).series("train")[1].values, first, atol=1.0)
    wind = data.fields.outputs[1]
    assert 8 < wind.scale < 13 and wind.mean == 0 and data.fields.hours == 6  # 15 m/s over two components
    kept = next(tmp_path.glob("*.npz"))
    kept.write_bytes(kept.read_bytes()[:100])  # torn by a crash: made anew
    assert torch.equal(tiny(cache_dir=str(tmp_path)).series("train")[1].values, first)


def test_turned_tests_are_the_upright_ones_turned() -> None:
    upright, turned = tiny(lmax=3), tiny(lmax=3, rotate_test=2)
    a, b = upright.series("test"), turned.series("test")
    assert len(b) == 2 * len(a) and turned.dataset("test")[1]["target"].shape == (2, 3, 8, 16)
    turn = list(random_rotations(2, generator(0)))
    areas = upright.grid.areas.reshape(8, 16)
    for one, rotation in zip(b, turn, strict=True):
        # the Coriolis parameter is that of the turned axis; means of squares are as before
        axis = rotation[:, 2]
        want = (2 * upright.rotation * upright.grid.points @ axis).reshape(8, 16)
        torch.testing.assert_close(one.values[0, 3].double(), want, rtol=1e-5, atol=1e-9)
        for part in (slice(0, 1), slice(1, 3)):
            means = [
                (v[:, part].double().square().sum(1) * areas).sum((1, 2)) for v in (a[0].values, one.values)
            ]
            torch.testing.assert_close(means[0], means[1], rtol=2e-4, atol=0)
    assert torch.equal(turned.series("train")[0].values, upright.series("train")[0].values)
