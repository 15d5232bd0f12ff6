"""Units by name: published factors, dimensions that do not mix."""

from __future__ import annotations

import itertools

import pytest

from spheregeo.data.molecules.units import check_energy_unit, dimension, factor, table, unit, unit_in_name


@pytest.mark.parametrize(
    ("old", "new", "value"),
    [
        ("Ha", "eV", 27.211386245988),  # CODATA 2018
        ("kcal/mol", "eV", 0.0433641042),
        ("eV", "meV", 1000.0),
        ("Ha", "kcal/mol", 627.509474),
        ("a0", "Å", 0.529177210903),
        ("a0^3", "Å^3", 0.14818471147),
        ("D", "e*Å", 0.20819433),
        ("kcal/mol/Å", "eV/Å", 0.0433641042),
        ("cal/mol/K", "J/mol/K", 4.184),
    ],
)
def test_published_factors(old: str, new: str, value: float) -> None:
    assert factor(old, new) == pytest.approx(value, rel=1e-7)
    assert factor(new, old) == pytest.approx(1 / value, rel=1e-7)


def test_dimensions_do_not_mix() -> None:
    for old, new in itertools.product(table(), table()):
        if dimension(old) == dimension(new):
            assert factor(old, new) * factor(new, old) == pytest.approx(1, rel=1e-12)
        else:
            with pytest.raises(ValueError, match="cannot be given in"):
                factor(old, new)


def test_spellings_and_names() -> None:
    assert [unit(n) for n in ("hartree", "eV/A", "kcal/mol/Ang", "Debye", "bohr")] == [
        "Ha", "eV/Å", "kcal/mol/Å", "D", "a0",
    ]  # fmt: skip
    spelt = ("hartree/bohr", "eV/Angstrom", "kcal_mol/A", "Ha/bohr", "hartree/atom", "eV/Å")
    assert [unit(n) for n in spelt] == ["Ha/a0", "eV/Å", "kcal/mol/Å", "Ha/a0", "Ha/atom", "eV/Å"]
    with pytest.raises(ValueError, match="unit is 'Wh'; expected one of eV, meV"):
        unit("Wh")
    assert unit_in_name("energy_pbe0_kcalmol") == ("energy_pbe0", "kcal/mol")
    assert unit_in_name("alpha_a03") == ("alpha", "a0^3")
    assert unit_in_name("U0 [meV]") == ("U0", "meV")
    assert unit_in_name("gap") == ("gap", None)
    with pytest.raises(ValueError, match="unit is 'furlong'"):
        unit_in_name("gap [furlong]")


def test_a_unit_that_is_clearly_another_one() -> None:
    ethanol = [6, 6, 8, 1, 1, 1, 1, 1, 1]
    check_energy_unit(-4209.5, ethanol, "eV")
    check_energy_unit(-97079.9, ethanol, "kcal/mol")
    check_energy_unit(-12.3, ethanol, "eV")  # counted from free atoms: nothing can be said
    check_energy_unit(-4209.5, [29, 29], "kcal/mol")
    for energy, stated, meant in ((-97079.9, "eV", "kcal/mol"), (-4209.5, "Ha", "eV"), (-154.7, "eV", "Ha")):
        with pytest.raises(ValueError, match=f"looks like {meant}"):
            check_energy_unit(energy, ethanol, stated)
