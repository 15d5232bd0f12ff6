"""Molecules as flat tensors, and the files they come from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from spheregeo.data.molecules.files import (
    from_frames,
    isolated_atoms,
    read_extxyz,
    read_frames,
)
from spheregeo.data.molecules.molecules import Molecules, composition, fit_references, ranges
from spheregeo.data.molecules.tables import read_npz, read_sdf, read_sdf_csv, unpad

WATER = np.array([[0.0, 0.0, 0.0], [0.76, 0.59, 0.0], [-0.76, 0.59, 0.0]])


def three() -> Molecules:
    return Molecules.of(
        [[8, 1, 1], [1], [6, 8]],
        [WATER, [[0.0, 0, 0]], [[0.0, 0, 0], [1.1, 0, 0]]],
        {"gap": [1.0, np.nan, 3.0]},
        {"gap": "Ha"},
        energy=[1.0, 2.0, 3.0],
        forces=[np.ones((3, 3)), np.zeros((1, 3)), 2 * np.ones((2, 3))],
        names=("water", "atom", "carbon monoxide"),
    )


def test_batch_is_the_molecules_end_to_end() -> None:
    batch = three().batch([2, 0, 0], ["gap"])
    assert batch["numbers"].tolist() == [6, 8, 8, 1, 1, 8, 1, 1]
    assert batch["batch"].tolist() == [0, 0, 1, 1, 1, 2, 2, 2]
    assert batch["index"].tolist() == [2, 0, 0]
    assert torch.equal(batch["positions"][2:5], torch.from_numpy(WATER))
    assert batch["target"].tolist() == [[3.0], [1.0], [1.0]]
    assert batch["energy"].tolist() == [3.0, 1.0, 1.0]
    assert batch["forces"][:2].eq(2).all() and batch["forces"][2:].eq(1).all()
    assert "cell" not in batch


def test_a_part_keeps_the_numbers_of_the_source() -> None:
    part = three().select([2, 1])
    assert [part.name(k) for k in range(2)] == ["carbon monoxide", "atom"]
    assert part.select([1]).batch([0])["index"].tolist() == [1]
    assert three().elements == [1, 6, 8]
    with pytest.raises(ValueError, match="are chosen of 3 molecules"):
        three().select([3])


def test_ranges_by_a_loop() -> None:
    start, count = torch.tensor([5, 0, 9, 2]), torch.tensor([2, 0, 1, 3])
    expected = [k for s, c in zip(start.tolist(), count.tolist()) for k in range(s, s + c)]
    assert ranges(start, count).tolist() == expected


@pytest.mark.parametrize(
    ("numbers", "positions", "message"),
    [
        ([[]], [np.zeros((0, 3))], "molecule 0 has no atoms"),
        ([], [], "there are no molecules"),
        ([[6, 0]], [np.eye(3)[:2]], "atomic number 0; expected 1"),
        ([[6, 119]], [np.eye(3)[:2]], "atomic number 119"),
        (
            [[1], [6, 8]],
            [[[0, 0, 0]], [[0, 0, np.nan], [1, 1, 1]]],
            r"molecule 1 has coordinates .* at atom 0",
        ),
        (
            [[1], [6, 8]],
            [[[0, 0, 0]], [[1, 1, 1], [1, 1, 1.001]]],
            "molecule 1 has atoms 0 and 1 at the same",
        ),
        ([[6, 8]], [np.zeros((3, 3))], "differ in their numbers of atoms"),
    ],
)
def test_what_is_no_molecule_is_refused(numbers: list, positions: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Molecules.of(numbers, positions)


def test_equal_places_in_different_molecules_are_fine() -> None:
    assert len(Molecules.of([[6], [6]], [np.zeros((1, 3))] * 2)) == 2


def test_units_by_name() -> None:
    found = three().in_units({"gap": "meV"})
    assert found.units == {"gap": "meV"}
    assert float(found.targets["gap"][0]) == pytest.approx(27211.386245988, rel=1e-10)
    with pytest.raises(ValueError, match="cannot be given in 'D'"):
        three().in_units({"gap": "D"})
    with pytest.raises(ValueError, match="the targets are gap"):
        three().in_units({"homo": "eV"})


def test_references_are_the_least_squares() -> None:
    rng = np.random.default_rng(0)
    numbers = [rng.choice([1, 6, 8], rng.integers(1, 9)) for _ in range(40)]
    molecules = Molecules.of(numbers, [3.0 * np.arange(3 * len(z)).reshape(-1, 3) for z in numbers])
    true = torch.zeros(119, dtype=torch.float64)
    true[[1, 6, 8]] = torch.tensor([-0.5, -38.0, -75.0], dtype=torch.float64)
    owner = torch.repeat_interleave(torch.arange(40), molecules.counts)
    counts = composition(molecules.numbers, owner, 40)
    assert torch.equal(counts.sum(1).long(), molecules.counts)
    values = counts @ true
    values[3] = torch.nan  # an unknown value says nothing
    assert torch.allclose(fit_references(molecules, values), true, atol=1e-9)
    # All molecules alike: the sum is right, the parts are the smallest ones.
    alike = Molecules.of([[8, 1, 1]] * 4, [WATER] * 4)
    table = fit_references(alike, torch.full((4,), -76.0, dtype=torch.float64))
    assert float(table[8] + 2 * table[1]) == pytest.approx(-76.0)


XYZ = """2
Properties=species:S:1:pos:R:3:forces:R:3 energy=-3.0 gap=0.5 tag=first pbc="F F F"
C 0.0 0.0 0.0 0.1 0.0 0.0
O 1.1 0.0 0.0 -0.1 0.0 0.0
1
Properties=species:S:1:pos:R:3 energy=-1.0 gap=0.25 pbc="F F F"
O 0.0 0.0 0.0
"""


def test_extended_xyz(tmp_path: Path) -> None:
    path = tmp_path / "two.xyz"
    path.write_text(XYZ)
    found = read_extxyz(path, targets={"g": "Ha"}, columns={"g": "gap"}, forces=True, energy_unit="kcal/mol")
    assert found.numbers.tolist() == [6, 8, 8]
    assert found.targets["g"].tolist() == [0.5, 0.25] and found.units == {"g": "Ha"}
    assert found.energy is not None and found.forces is not None
    assert float(found.energy[0]) == pytest.approx(-3.0 * 0.04336410, rel=1e-6)
    assert float(found.forces[0, 0]) == pytest.approx(0.1 * 0.04336410, rel=1e-6)
    assert found.forces[2].eq(0).all()  # a free atom's, which the file leaves out
    assert isolated_atoms(path) == {8: -1.0}
    with pytest.raises(ValueError, match=r"no frame has a property 'homo'.*energy, forces, gap, tag"):
        read_extxyz(path, targets={"homo": "eV"})
    with pytest.raises(ValueError, match="expected one number"):
        read_extxyz(path, targets={"tag": "eV"})
    with pytest.raises(ValueError, match=r"frame 0 has no energy \(looked for E_dft\)"):
        read_extxyz(path, forces=True, energy_key="E_dft")
    with pytest.raises(ValueError, match="name the column with forces_key"):
        read_extxyz(path, forces=True, forces_key="F_dft")
    with pytest.raises(ValueError, match="unit is 'furlong'"):
        read_extxyz(path, targets={"gap": "furlong"})


def test_periodic_frames(tmp_path: Path) -> None:
    from ase import Atoms

    cell = np.diag([4.0, 5.0, 6.0])
    found = from_frames(
        [Atoms("Cu", [[0, 0, 0]], cell=cell, pbc=[True, True, False]), Atoms("Cu2", [[0, 0, 0], [0, 0, 2]])]
    )
    batch = found.batch([1, 0])
    assert torch.equal(batch["cell"][1], torch.from_numpy(cell))
    assert batch["pbc"].tolist() == [[False] * 3, [True, True, False]]
    assert "cell" not in found.batch([1])
    with pytest.raises(ValueError, match="along a cell vector of length 0"):
        from_frames([Atoms("Cu", [[0, 0, 0]], pbc=True)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2\n\nC 0 0 0\nXx 1 0 0\n", "Xx"),
        ("3\n\nC 0 0 0\n", "cannot be read as extended XYZ"),
        ("", "holds no molecule|cannot be read"),
        ("1\n\nX 0 0 0\n", "atomic number 0"),
        ("1\n\nC 0 nan 0\n", "expected finite numbers"),
    ],
)
def test_broken_xyz(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.xyz"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_extxyz(path)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected an extended XYZ file"):
        read_frames(tmp_path / "none.xyz")
    with pytest.raises(FileNotFoundError, match=r"holds no \.xyz"):
        read_extxyz(tmp_path)


def sdf_record(title: str, atoms: list[tuple[str, float, float, float]]) -> str:
    lines = [title, "  made by hand", "", f"{len(atoms):3d}  0  0  0  0  0  0  0  0  0999 V2000"]
    lines += [f"{x:10.4f}{y:10.4f}{z:10.4f} {s:<3} 0  0  0  0" for s, x, y, z in atoms]
    return "\n".join([*lines, "M  END", "> <tag>", "7", "", "$$$$", ""])


SDF = sdf_record("methane-ish", [("C", 0, 0, 0), ("Cl", 1.7, 0, 0)]) + sdf_record(
    "atom", [("H", -1.25, 2, 3)]
)


def test_sdf_and_table(tmp_path: Path) -> None:
    (tmp_path / "two.sdf").write_text(SDF)
    (tmp_path / "two.csv").write_text("id,gap,mu\na,0.5,1.25\nb,,2.5\n")
    numbers, positions, titles = read_sdf(tmp_path / "two.sdf")
    assert [z.tolist() for z in numbers] == [[6, 17], [1]] and titles == ["methane-ish", "atom"]
    assert positions[1].tolist() == [[-1.25, 2.0, 3.0]]
    found = read_sdf_csv(
        tmp_path / "two.sdf", tmp_path / "two.csv", {"gap": "Ha", "dipole": "D"}, {"dipole": "mu"}
    )
    assert found.targets["dipole"].tolist() == [1.25, 2.5]
    assert found.targets["gap"][0] == 0.5 and found.targets["gap"].isnan().tolist() == [False, True]
    assert found.names == ("methane-ish", "atom")
    with pytest.raises(ValueError, match="no column 'homo'; its columns are id, gap, mu"):
        read_sdf_csv(tmp_path / "two.sdf", tmp_path / "two.csv", {"homo": "Ha"})
    with pytest.raises(ValueError, match="column 'id' is no target"):
        read_sdf_csv(tmp_path / "two.sdf", tmp_path / "two.csv", {"id": "Ha"})
    (tmp_path / "two.csv").write_text("gap\n1\n2\n3\n")
    with pytest.raises(ValueError, match=r"has 3 rows but .* has 2 molecules"):
        read_sdf_csv(tmp_path / "two.sdf", tmp_path / "two.csv", {"gap": "Ha"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("V2000", "V3000"), "format V3000"),
        (("  2  0", "  9  0"), "fewer atom lines than counted"),
        (("Cl ", "Qq "), "has an atom 'Qq'"),
    ],
)
def test_broken_sdf(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.sdf"
    path.write_text(sdf_record("a", [("C", 0, 0, 0), ("Cl", 1.7, 0, 0)]).replace(*change))
    with pytest.raises(ValueError, match=message):
        read_sdf(path)


def test_padded_arrays(tmp_path: Path) -> None:
    z = np.array([[6, 8, 0], [8, 1, 1]], np.uint8)
    r = np.stack([np.pad(np.array([[0, 0, 0], [1.1, 0, 0]]), ((0, 1), (0, 0))), WATER])
    np.savez(
        tmp_path / "a.npz", Z=z, R=r, gap_Ha=np.array([1.0, 2.0]), secret=np.zeros(2), id=np.array(["a", "b"])
    )
    found = read_npz(tmp_path / "a.npz")
    assert found.counts.tolist() == [2, 3] and found.units == {"gap": "Ha"} and found.names == ("a", "b")
    with pytest.raises(ValueError, match=r"expected \(molecules, atoms\)"):
        unpad(z, r[:, :2])
    np.savez(tmp_path / "twice.npz", Z=z, R=r, gap_Ha=np.array([1.0, 2.0]), gap_eV=np.array([27.2, 54.4]))
    with pytest.raises(ValueError, match="'gap' in Ha and in eV; expected each target once"):
        read_npz(tmp_path / "twice.npz")
    np.savez(tmp_path / "b.npz", Z=z)
    with pytest.raises(ValueError, match="expected Z"):
        read_npz(tmp_path / "b.npz")


@pytest.mark.realdata
def test_real_files(real_data: Path) -> None:
    small = read_extxyz(
        real_data / "small_molecules",
        targets={"formation": "eV/atom"},
        columns={"formation": "dft_formation_energy_per_atom_in_eV"},
    )
    assert len(small) == 985 and bool(small.targets["formation"].isfinite().all())
    isomers = read_npz(real_data / "qm9_c7h10o2" / "qm9iso_train.npz")
    assert len(isomers) == 4595 and isomers.counts.eq(19).all() and isomers.units["gap"] == "Ha"
    gap = isomers.targets["lumo"] - isomers.targets["homo"]
    assert float((gap - isomers.targets["gap"]).abs().max()) < 2e-5  # the files' last digit


@pytest.mark.realdata
def test_forces_of_real_files_and_their_units(real_data: Path) -> None:
    folder = real_data / "md_forces"
    sets = {
        name: read_extxyz(folder / file, forces=True)
        for name, file in (("3BPA", "3BPA/train_300K.xyz"), ("ethanol", "ethanol/train.xyz"))
    }
    assert [len(m) for m in sets.values()] == [500, 1000]
    for molecules, file in zip(sets.values(), ("3BPA/iso_atoms.xyz", "ethanol/isolated_atoms.xyz")):
        free = isolated_atoms(folder / file)
        assert molecules.energy is not None and molecules.forces is not None
        sums = [sum(free[z] for z in m.tolist()) for m in molecules.numbers.split(molecules.counts.tolist())]
        bound = (molecules.energy - torch.tensor(sums)) / molecules.counts
        assert bool(((bound < -2) & (bound > -8)).all())  # a few eV an atom
        net = molecules.forces.reshape(len(molecules), -1, 3).sum(1)
        assert float(net.abs().max()) < 0.02
    path = folder / "md17_ethanol" / "ethanol_reduced_100.xyz"
    with pytest.raises(ValueError, match="the file's unit looks like kcal/mol"):
        read_extxyz(path, forces=True)
    with pytest.raises(ValueError, match="the file's unit looks like eV"):
        read_extxyz(folder / "ethanol" / "train.xyz", forces=True, energy_unit="kcal/mol")
    other = read_extxyz(path, forces=True, energy_unit="kcal/mol")
    assert other.energy is not None and sets["ethanol"].energy is not None
    assert float((other.energy.mean() - sets["ethanol"].energy.mean()).abs()) < 2
