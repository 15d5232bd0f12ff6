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
from spheregeo.data.molecules.tables import numeric, read_npz, read_sdf, read_sdf_csv, read_table, unpad

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
        (("V2000", "V3000"), "no line of COUNTS.*expected a V3000 record"),
        (("  2  0", "  9  0"), "fewer atom lines than counted"),
        (("  2  0", "  1  0"), "1 atoms and 0 bonds are counted, but then comes '1.7000"),
        (("  2  0", "  2  1"), "'M  END' is no bond between two of its 2 atoms"),
        (("M  END", "M  END\nM  END"), "has several M  END"),
        (("M  END\n> <tag>\n7\n\n$$$$\n", ""), "ends without M  END; is the file complete"),
        (("  2  0", " -2  0"), "number of atoms is '-2'"),
        (("Cl ", "Qq "), "has an atom 'Qq'"),
    ],
)
def test_broken_sdf(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.sdf"
    path.write_text(sdf_record("a", [("C", 0, 0, 0), ("Cl", 1.7, 0, 0)]).replace(*change))
    with pytest.raises(ValueError, match=message):
        read_sdf(path)


V3000 = """water
  by hand

  0  0  0     0  0            999 V3000
M  V30 BEGIN CTAB
M  V30 COUNTS 3 2 0 0 0
M  V30 BEGIN ATOM
M  V30 1 O 0.0 0.0 0.1 0
M  V30 2 H 0.76 0.59 -
M  V30 0.0 0
M  V30 3 H -0.76 0.59 0.0 0
M  V30 END ATOM
M  V30 BEGIN BOND
M  V30 1 1 1 2
M  V30 2 1 1 3
M  V30 END BOND
M  V30 END CTAB
M  END
$$$$
"""


def test_sdf_of_long_records(tmp_path: Path) -> None:
    path = tmp_path / "mixed.sdf"
    path.write_text(V3000 + SDF + V3000)
    numbers, positions, titles = read_sdf(path)
    assert [z.tolist() for z in numbers] == [[8, 1, 1], [6, 17], [1], [8, 1, 1]]
    assert positions[3].tolist() == [[0.0, 0.0, 0.1], [0.76, 0.59, 0.0], [-0.76, 0.59, 0.0]]
    assert titles == ["water", "methane-ish", "atom", "water"]
    for text, message in (
        (V3000.replace("COUNTS 3", "COUNTS 4"), "4 atoms are counted, but it holds 3"),
        (V3000.replace("M  V30 2 1 1 3\n", ""), "2 bonds are counted, but it holds 1"),
        (V3000[:200], "ends without M  END"),
        (SDF + V3000[:200], r"record 2 \(water\) cannot be read"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=f"mixed.sdf: .*{message}"):
            read_sdf(path)


FORMS = {
    "BOM": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "trailing blanks": lambda text: text.replace("\n", "  \n").encode(),
    "blank end": lambda text: (text + "\n \n").encode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_same_text_in_other_forms_reads_the_same(form: str, tmp_path: Path) -> None:
    table = 'name,"gap\n[eV]",mu\nwater,1.5,\n"a, b",2,0.5\n'
    for name, text, read in (
        ("a.csv", table, read_table),
        ("a.sdf", SDF + V3000, lambda p: [[a.tolist() for a in part] if part else part for part in read_sdf(p)[:2]]),
        ("a.xyz", XYZ, lambda p: vars(read_extxyz(p, targets={"gap": "eV"}, forces=True))),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(text.encode())
        (tmp_path / f"other_{name}").write_bytes(FORMS[form](text))
        plain, other = read(tmp_path / name), read(tmp_path / f"other_{name}")  # type: ignore[no-untyped-call]
        assert repr(plain).replace("[eV]", "") == repr(other).replace("  \\n", "\\n").replace("[eV]", "")


def test_tables_of_other_programs(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for mark in ("\t", ";"):
        path.write_text(f"name{mark} gap \nwater{mark}1.5\n{mark}\nair{mark}\n")
        assert read_table(path) == {"name": ["water", "air"], "gap": ["1.5", ""]}
    path.write_text("gap,mu,\n1,2,\n3,4,\n")  # a comma at the end of every line
    assert read_table(path) == {"gap": ["1", "3"], "mu": ["2", "4"]}
    path.write_text("gap\n1.5\n", encoding="utf-16")
    assert read_table(path) == {"gap": ["1.5"]}
    for content, message in (
        (b"gap\n\xe9\n", "a.csv is not UTF-8 text"),
        (b"gap,gap\n1,2\n", "names the column 'gap' twice"),
        (b"gap,mu\n1,2\n3\n", "line 3 has 1 entries"),
        (b'gap\n"1\n2', "cannot be read as a CSV table"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_table(path)
    for text, message in (("1,5", "decimal commas"), ("1_0", "no target"), ("inf", "finite"), ("x", "row 2")):
        with pytest.raises(ValueError, match=f"a.csv: column 'gap' .*{message}"):
            numeric({"gap": ["1", text]}, "gap", path)
    with pytest.raises(ValueError, match=r"no column 'gpa'; .* \(did you mean 'gap'\?\)"):
        numeric({"gap": ["1"]}, "gpa", path)


FRAME = "2\nProperties=species:S:1:pos:R:3 energy=-3.0\nC 0 0 0\nO 1.1 0 0\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FRAME * 2 + FRAME[:-10], "frame 2 should have 2 atoms, but the file ends after 1"),
        (FRAME.replace("2\n", "3\n", 1) + FRAME, "frame 0 has an atom of 1 words, '2' .line 5."),
        (FRAME.replace("2\n", "1\n", 1), "frame 1 begins with 'O 1.1 0 0' .*does frame 0 have more atoms"),
        (FRAME.replace("2\n", "999999999999\n", 1), "expected its number of atoms"),
        (FRAME.replace("2\n", "99999999\n", 1), "should have 99999999 atoms, but the file ends after 2"),
        (FRAME.replace("R:3", "R:999999999"), "expected 1 to 10000 columns"),
        (FRAME.replace("R:3", "R:3:q:R:1"), "expected 5, as its second line says"),
        (FRAME.replace("0 0\n", "0 0 7\n"), "has an atom of 5 words"),
        (FRAME.replace("pos:R:3", "pos:R"), "expected triples NAME:TYPE:COLUMNS"),
        (FRAME.replace("-3.0", "-3.0 energy=-4.0"), "frame 0 gives energy twice"),
        (FRAME.replace("energy", "x" * 1_000_001), "comment line of 10"),
        (FRAME.replace("1.1", "1,1"), "frame 0: could not convert"),
        (FRAME.replace("1.1", "1e30"), "molecule 0 has coordinates .*at most 1e.06"),
    ],
)
def test_frames_that_hold_other_than_they_say(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text(FRAME)
    (tmp_path / "b.xyz").write_text(text)
    with pytest.raises(ValueError, match=rf"b\.xyz.*{message}"):
        read_extxyz(tmp_path)  # the file at fault is named among others


@pytest.mark.parametrize(
    ("lattice", "message"),
    [
        ("4 0 0 8 0 0 0 0 4", "parallel or lie in a plane"),
        ("4 0 0 0 4 0 4 4 0", "parallel or lie in a plane"),
        ("1e30 0 0 0 4 0 0 0 4", "cell vector of length 1e.30"),
        ("nan 0 0 0 4 0 0 0 4", "cell vector of length nan"),
        ("0 0 0 0 4 0 0 0 4", "cell vector of length 0"),
    ],
)
def test_cells_that_are_none(lattice: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text(FRAME.replace("energy", f'Lattice="{lattice}" energy'))
    with pytest.raises(ValueError, match=f"a.xyz: frame 0 .*{message}"):
        read_extxyz(tmp_path / "a.xyz")
    flat = FRAME.replace("energy", f'pbc="F T T" Lattice="{lattice}" energy')
    if message.startswith("cell"):
        (tmp_path / "a.xyz").write_text(flat)  # not periodic along the vector that is none
        assert len(read_extxyz(tmp_path / "a.xyz")) == 1


def test_references_that_mean_two_things(tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    choices = FRAME.replace("-3.0", "-3.0 free_energy=-3.5 other=-4")
    renamed = FRAME.replace("energy", "REF_energy")
    for text, message in (
        (
            choices,
            "frame 0 has two kinds of energy, 'energy' and 'free_energy', that differ: -3 and -3.5; choose",
        ),
        (
            FRAME + renamed,
            "energy stands under 'energy' in frame 0 but under 'REF_energy' in frame 1; .*energy_key",
        ),
        (FRAME.replace("-3.0", '"-3.0 1.0"'), r"'energy' of frame 0 is array.*expected one finite number"),
        (FRAME.replace("-3.0", "-3,5"), "expected one finite number"),
        (FRAME.replace("-3.0", "low"), "expected one finite number"),
        (FRAME.replace("-3.0", "nan"), "expected one finite number"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=f"a.xyz: .*{message}"):
            read_extxyz(path, forces=True)
    path.write_text(choices)
    for key, value in (("energy", -3.0), ("free_energy", -3.5), ("other", -4.0)):
        assert read_extxyz(path, forces=True, energy_key=key).energy.tolist() == [value]  # type: ignore[union-attr]
    path.write_text(FRAME.replace("-3.0", "-3.0 free_energy=-3.0") + FRAME)  # agree, and one key is in both
    assert read_extxyz(path, forces=True).energy.tolist() == [-3.0, -3.0]  # type: ignore[union-attr]
    both = "1\nProperties=species:S:1:pos:R:3:forces:R:3:REF_forces:R:3 energy=0\nC 0 0 0 1 0 0 2 0 0\n"
    path.write_text(both)
    with pytest.raises(ValueError, match=r"two kinds of forces, .* that differ; choose one with forces_key"):
        read_extxyz(path, forces=True)
    path.write_text(both.replace(":REF_forces:R:3", ":dipoles:R:3").replace("forces", "my_forces") + FRAME)
    assert read_extxyz(path, forces=True, forces_key="my_forces").forces[0].tolist() == [1.0, 0, 0]  # type: ignore[index]
    path.write_text(FRAME.replace("pos:R:3", "pos:R:3:F:R:3").replace("0 0\n", "0 0 1 2 3\n"))
    with pytest.raises(
        ValueError, match=r"frame 0 has no forces .*it has F, energy: name the column with forces_key"
    ):
        read_extxyz(path, forces=True)
    atom = "1\nProperties=species:S:1:pos:R:3 energy={0}{1}\nC 0 0 0\n"
    path.write_text(atom.format(-5.0, "") + atom.format(-5.0, ""))
    assert isolated_atoms(path) == {6: -5.0}
    path.write_text(atom.format(-5.0, "") + atom.format(-5.5, ""))
    with pytest.raises(ValueError, match=r"free atom C has the energies -5 and -5.5 eV"):
        isolated_atoms(path)
    # An atom that touches its own images is a crystal, not a free atom.
    cell = ' Lattice="3 0 0 0 3 0 0 0 3"'
    path.write_text(atom.format(-9.0, cell) + atom.format(-5.0, cell.replace("3", "9")))
    assert isolated_atoms(path) == {6: -5.0}


def test_vectors_and_numbers_of_atoms(tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    first = '2\nProperties=species:S:1:pos:R:3:q:R:1 mu="0 0 1.5" gap=2\nC 0 0 0 0.1\nO 1.1 0 0 -0.1\n'
    path.write_text(first + FRAME + first.replace("1.5", "2.5"))
    found = read_extxyz(path, targets={"gap": "eV", "mu": "D", "q": "1"})
    assert [found.kind(name) for name in ("gap", "mu", "q")] == ["molecule", "vector", "atom"]
    turned = found.in_units({"mu": "e*Å"}).select([2, 0])
    assert float(turned.vectors["mu"][0, 2]) == pytest.approx(2.5 * 0.20819434)
    batch = turned.batch([0, 1], ["mu", "gap", "q"])
    assert batch["target"].tolist() == [[2.0], [2.0]] and batch["vectors"].shape == (2, 1, 3)
    assert batch["atomic"].tolist() == [[0.1], [-0.1], [0.1], [-0.1]]
    assert found.vectors["mu"][1].isnan().all() and found.atomic["q"][2:4].isnan().all()
    path.write_text(first + first.replace('"0 0 1.5"', "1.5"))
    with pytest.raises(ValueError, match="'mu' is a vector in frame 0 but one number in frame 1"):
        read_extxyz(path, targets={"mu": "D"})
    with pytest.raises(ValueError, match=r"no frame has a property 'gpa'; .* \(did you mean 'gap'\?\)"):
        read_extxyz(path, targets={"gpa": "eV"})


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
    for wrong, message in (
        ({"Z": z + 0.5}, "other values than whole numbers"),
        ({"Z": z.astype(int) - 2}, "other values than whole numbers"),
        ({"Z": z.astype(str)}, "expected atomic numbers and lengths"),
        ({"id": np.array(["a"])}, r"id has shape \(1,\)"),
        ({"props": np.zeros((2, 3)), "prop_names": np.array(["gap_eV"])}, r"props has shape \(2, 3\)"),
        ({"R": r * 0}, "molecule 0 has atoms 0 and 1 at the same place"),
    ):
        np.savez(tmp_path / "b.npz", **{"Z": z, "R": r, **wrong})
        with pytest.raises(ValueError, match=rf"b\.npz.*{message}"):
            read_npz(tmp_path / "b.npz")
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
