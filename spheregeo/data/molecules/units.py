"""Units of molecular quantities by name, and one table that converts between them.

Every unit belongs to one dimension; values are converted within a dimension and never across. The factors come from
``ase.units`` (CODATA 2018), so that 1 Ha = 27.211386245988 eV everywhere.
"""

from __future__ import annotations

from functools import cache
from typing import TypeVar

CODATA = "2018"
# Spellings that people use for the names of the table.
_SPELLINGS = {
    "hartree": "Ha", "Hartree": "Ha", "Eh": "Ha", "kcal_mol": "kcal/mol", "kcalmol": "kcal/mol", "A": "Å", "Ang": "Å",
    "Angstrom": "Å", "angstrom": "Å", "bohr": "a0", "Bohr": "a0", "Debye": "D", "debye": "D", "calmolK": "cal/mol/K",
    "a02": "a0^2", "a03": "a0^3", "a0^2": "a0^2", "none": "1", "": "1",
}  # fmt: skip
_ENERGIES = ("eV", "meV", "Ha", "mHa", "kcal/mol", "kJ/mol")
Number = TypeVar("Number")


@cache
def table() -> dict[str, tuple[str, float]]:
    """Every unit's dimension and its size in the dimension's base unit (eV, Å, eV/Å, eV/Å^3, e·Å, ...)."""
    from ase.units import create_units

    u = create_units(CODATA)
    per_mol = 1 / u["mol"]
    energies = {
        "eV": 1.0, "meV": 1e-3, "Ha": u["Hartree"], "mHa": u["Hartree"] / 1000, "kcal/mol": u["kcal"] * per_mol,
        "kJ/mol": u["kJ"] * per_mol,
    }  # fmt: skip
    lengths = {"Å": 1.0, "a0": u["Bohr"], "nm": 10.0}
    units = {name: ("energy", size) for name, size in energies.items()}
    units |= {name: ("length", size) for name, size in lengths.items()}
    units |= {f"{e}/{x}": ("force", a / b) for e, a in energies.items() for x, b in lengths.items()}
    units |= {f"{e}/{x}^3": ("stress", a / b**3) for e, a in energies.items() for x, b in lengths.items()}
    units |= {"GPa": ("stress", u["GPa"]), "kbar": ("stress", u["GPa"] / 10)}
    units |= {f"{e}/atom": ("energy per atom", size) for e, size in energies.items()}
    units |= {f"{x}^2": ("area", size**2) for x, size in lengths.items()}
    units |= {f"{x}^3": ("volume", size**3) for x, size in lengths.items()}
    units |= {"D": ("dipole", u["Debye"]), "e*Å": ("dipole", 1.0), "e*a0": ("dipole", u["Bohr"])}
    units |= {
        "eV/K": ("heat capacity", 1.0),
        "cal/mol/K": ("heat capacity", u["kcal"] / 1000 * per_mol),
        "J/mol/K": ("heat capacity", u["kJ"] / 1000 * per_mol),
    }
    units |= {"GHz": ("frequency", 1.0), "cm^-1": ("wave number", 1.0), "1": ("number", 1.0)}
    return units


def unit(name: str) -> str:
    """A unit by its name in the table, given by that name or another common spelling. Raises: ValueError if unknown."""
    plain = name.strip()
    if "/" in plain and plain not in table():
        plain = "/".join(_SPELLINGS.get(part, part) for part in plain.rsplit("/", 1))
    plain = _SPELLINGS.get(plain, plain)
    if plain not in table():
        raise ValueError(f"unit is {name!r}; expected one of {', '.join(table())}")
    return plain


def dimension(name: str) -> str:
    """What a unit measures, such as "energy"."""
    return table()[unit(name)][0]


def factor(old: str, new: str) -> float:
    """What a value in the unit ``old`` is multiplied by to be in ``new``.

    Raises: ValueError for an unknown unit, or two of different dimensions.
    """
    (kind, size), (wanted, other) = table()[unit(old)], table()[unit(new)]
    if kind != wanted:
        fitting = ", ".join(n for n, (d, _) in table().items() if d == kind)
        raise ValueError(
            f"a value in {old!r} ({kind}) cannot be given in {new!r} ({wanted}); choose one of {fitting}"
        )
    return 1.0 if unit(old) == unit(new) else size / other


def unit_in_name(name: str) -> tuple[str, str | None]:
    """Quantity and unit of a column named such as "gap_Ha", "mu_D" or "U0 [eV]"; None where the name tells no unit."""
    text = name.strip()
    if text.endswith("]") and "[" in text:
        quantity, _, tail = text[:-1].rpartition("[")
        return quantity.strip(" _"), unit(tail)
    quantity, _, tail = text.rpartition("_")
    found = _SPELLINGS.get(tail, tail)
    return (quantity, found) if quantity and found in table() and found != "1" else (text, None)


# Energy of free neutral atoms, all electrons, in eV, to a per cent for any functional: tells units apart.
_FREE_ATOMS = {1: -13.6, 6: -1029.9, 7: -1485.3, 8: -2042.6, 9: -2713.5, 16: -10832.0}


def check_energy_unit(energy: float, numbers: list[int], stated: str) -> None:
    """Raises: ValueError when a total energy, all electrons, is that of its free atoms in another unit than stated.

    Where elements other than H, C, N, O, F, S occur, or the energy is counted from elsewhere, nothing can be said.
    """
    if not numbers or any(z not in _FREE_ATOMS for z in numbers) or max(numbers) < 6:
        return
    free = sum(_FREE_ATOMS[z] for z in numbers)
    size = energy * factor(stated, "eV") / free  # 1 where the unit is right
    for other in _ENERGIES:
        ratio = factor(stated, "eV") / factor(other, "eV")
        if other != unit(stated) and abs(size / ratio - 1) < 0.03 < abs(size - 1):
            raise ValueError(
                f"the energy {energy:g} is said to be in {stated}, but free atoms have {free / factor(other, 'eV'):g} "
                f"{other}: the file's unit looks like {other}; set it so"
            )
