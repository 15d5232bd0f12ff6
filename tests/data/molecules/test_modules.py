"""Data modules of molecules: splits, batches, learning curves, built-in defaults."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from spheregeo.data import ClustersData, ExtXYZData, ForcesData, G2Data, QM9Data, SDFData, collate_molecules
from spheregeo.data.molecules.built_in import g2_molecules, metal_clusters, nuclear_repulsion
from spheregeo.data.molecules.edges import count_edges
from spheregeo.data.molecules.groups import grouped_split
from spheregeo.data.molecules.module import random_split
from spheregeo.data.pyg import from_pyg, to_pyg


def frames(path: Path, count: int = 12, atoms: bool = True) -> str:
    text = ""
    for k in range(count):
        text += f'2\nProperties=species:S:1:pos:R:3:forces:R:3 energy={-20.0 - k} gap={k}.5 pbc="F F F"\n'
        text += f"C 0 0 0 0.1 0 0\nO {1.1 + 0.01 * k} 0 0 -0.1 0 0\n"
    if atoms:
        text += "".join(
            f'1\nProperties=species:S:1:pos:R:3 energy={e} gap=0.0 pbc="F F F"\n{s} 0 0 0\n'
            for s, e in (("C", -5.0), ("O", -9.0))
        )
    path.write_text(text)
    return str(path)


def test_splits_are_disjoint_and_do_not_depend_on_the_training_size() -> None:
    whole, small = random_split(50, 5, 10, 3), random_split(50, 5, 10, 3, train=7)
    assert torch.cat(list(whole.values())).sort().values.tolist() == list(range(50))
    assert torch.equal(whole["test"], small["test"]) and torch.equal(whole["val"], small["val"])
    assert torch.equal(whole["train"][:7], small["train"])
    with pytest.raises(ValueError, match="50 molecules cannot be split"):
        random_split(50, 25, 25, 0)


def test_g2_is_what_ase_has() -> None:
    from ase.data.g2_1 import get_atomization_energy

    found = g2_molecules()
    assert len(found) == 148 and found.names is not None
    k = found.names.index("CH4")
    assert float(found.targets["atomization_energy"][k]) == pytest.approx(get_atomization_energy("CH4"))
    assert 15 < found.targets["ionization_energy"].isfinite().sum() < 148
    assert nuclear_repulsion(
        np.array([1, 1]), np.array([[0, 0, 0], [0, 0, 0.529177210903]])
    ) == pytest.approx(1)


def test_batches_come_in_an_order_of_seed_and_epoch() -> None:
    data = G2Data(batch_size=16, seed=3)
    loader = data.train_dataloader()

    def order(epoch: int) -> list[int]:
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        return torch.cat([b["index"] for b in loader]).tolist()

    first = order(0)
    assert order(1) != first and order(0) == first and sorted(first) == sorted(order(1))
    batch = next(iter(data.val_dataloader()))
    assert batch["target"].shape == (16, 2) and data.units == ["kcal/mol"] * 2
    assert set(data.molecules("test").elements) <= set(data.molecules("train").elements)
    assert data.additive == ["atomization_energy", "zpve"]


def test_units_and_targets_that_are_named_wrongly() -> None:
    data = G2Data(targets=["zpve"], units={"zpve": "meV"})
    assert data.units == ["meV"] and float(data.source.targets["zpve"].max()) > 1000
    with pytest.raises(ValueError, match="cannot be given in 'D'"):
        G2Data(targets=["zpve"], units={"zpve": "D"}).units  # noqa: B018
    with pytest.raises(ValueError, match="units name 'gap', but the targets are zpve"):
        G2Data(targets=["zpve"], units={"gap": "eV"}).units  # noqa: B018
    with pytest.raises(ValueError, match="target 'gap' is none of the data's"):
        G2Data(targets=["gap"]).units  # noqa: B018
    with pytest.raises(ValueError, match=r"'zpv' is none of the data's: .* \(did you mean 'zpve'\?\)"):
        G2Data(targets=["zpv"])
    # A recipe's units go on to hold where a run chooses other targets.
    assert G2Data(targets=["zpve"], units={"atomization_energy": "eV"}).units == ["kcal/mol"]
    with pytest.raises(ValueError, match=r"'gpa' is none of the data's: .* \(did you mean 'gap'\?\)"):
        QM9Data("nowhere", targets=["gpa"], units={"U0": "meV"})


def test_clusters_are_energies_and_forces_of_emt() -> None:
    from ase import Atoms
    from ase.calculators.emt import EMT

    found = metal_clusters(3, seed=5)
    again = metal_clusters(1, seed=5)
    assert torch.equal(found.select([0]).positions, again.positions)
    part = found.select([2])
    atoms = Atoms(part.numbers.numpy(), part.positions.numpy(), calculator=EMT())
    assert found.energy is not None and part.forces is not None
    assert float(found.energy[2]) == pytest.approx(atoms.get_potential_energy())
    assert np.allclose(part.forces, atoms.get_forces())
    data = ClustersData(train=4, val=2, test=3)
    assert [len(data.molecules(s)) for s in ("train", "val", "test")] == [4, 2, 3]
    assert data.isolated is not None and set(data.isolated) == {29, 47, 79}
    with pytest.raises(ValueError, match="sizes are"):
        metal_clusters(1, (5, 3))


def test_forces_data(tmp_path: Path) -> None:
    path = frames(tmp_path / "run.xyz")
    data = ForcesData(path, val=2, test=3)
    assert [len(data.molecules(s)) for s in ("train", "val", "test")] == [7, 2, 3]
    assert data.isolated == {6: -5.0, 8: -9.0}
    batch = next(iter(data.train_dataloader()))
    assert batch["forces"].shape == (14, 3) and batch["energy"].shape == (7,)
    other = frames(tmp_path / "test.xyz", 4, atoms=False)
    apart = ForcesData(path, test_root=other, val=2, train=5)
    assert [len(apart.molecules(s)) for s in ("train", "val", "test")] == [5, 2, 4]
    with pytest.raises(ValueError, match=r"test\.xyz is in root and in test_root"):
        ForcesData(str(tmp_path), test_root=other, val=2, train=5).molecules("test")
    (tmp_path / "apart").mkdir()
    mixed = ForcesData(other, test_root=frames(tmp_path / "apart" / "with_atoms.xyz"), val=1)
    assert int(mixed.molecules("test").counts.min()) > 1 and mixed.isolated is None
    assert ForcesData(other, val=1, test=1).isolated is None
    assert ForcesData(other, isolated=path, val=1, test=1).isolated == {6: -5.0, 8: -9.0}


def test_frames_with_energies_only(tmp_path: Path) -> None:
    text = Path(frames(tmp_path / "run.xyz")).read_text()
    bare = text.replace(":forces:R:3", "").replace(" 0.1 0 0\n", "\n").replace(" -0.1 0 0\n", "\n")
    (tmp_path / "bare.xyz").write_text(bare)
    data = ForcesData(str(tmp_path / "bare.xyz"), val=2, test=3)
    source = data.source
    assert source.forces is not None and bool(source.forces.isnan().all()) and source.energy is not None
    assert data.isolated == {6: -5.0, 8: -9.0}
    (tmp_path / "both.xyz").write_text(bare + text)
    both = ForcesData(str(tmp_path / "both.xyz"), val=2, test=3).source
    assert both.forces is not None
    assert both.forces.isnan().any(1).tolist() == [True] * 24 + [False] * 24
    with pytest.raises(ValueError, match="looked for forces_dft"):
        ForcesData(str(tmp_path / "bare.xyz"), forces_key="forces_dft").source  # noqa: B018
    (tmp_path / "twice.xyz").write_text(text + text.replace("energy=-5.0", "energy=-6.0"))
    with pytest.raises(ValueError, match=r"free atom C has the energies -5 and -6 eV"):
        ForcesData(str(tmp_path / "twice.xyz")).source  # noqa: B018


def test_a_test_of_its_own_file(tmp_path: Path) -> None:
    """Every data module of molecules is tested on another file, whose molecules keep their names; nothing of root is held out."""
    other = frames(tmp_path / "other.xyz", 6)
    root = frames(tmp_path / "root.xyz", 20, atoms=False)
    g2 = tmp_path / "g2.xyz"
    g2.write_text("2\nProperties=species:S:1:pos:R:3 zpve=3.0\nC 0 0 0\nO 1.1 0 0\n")
    sets = [
        (ExtXYZData(root, {"gap": "eV"}, test_root=other), 18, 8),
        (ForcesData(root, val=2, test_root=other), 18, 6),
        (ClustersData(train=4, val=2, test=3, test_root=other), 4, 6),
        (G2Data(targets=["zpve"], units={"zpve": "eV"}, test_root=str(g2)), 128, 1),
    ]
    for data, train, test in sets:
        assert [len(data.molecules(s)) for s in ("train", "test")] == [train, test]
        assert [data.molecules("test").name(k) for k in range(test)][:1] == ["0"]
        assert next(iter(data.test_dataloader()))["index"].tolist() == list(range(test))
    assert float(sets[3][0].molecules("test").targets["zpve"][0]) == pytest.approx(3.0 * 0.04336410, rel=1e-6)
    with pytest.raises(ValueError, match=r"root\.xyz is in root and in test_root"):
        ExtXYZData(root, {"gap": "eV"}, test_root=str(tmp_path)).molecules("test")
    one = "{0}\n\n\n  1  0  0  0  0  0  0  0  0  0999 V2000\n    0.0000    0.0000    0.0000 C   0  0\n$$$$\n"
    for name, count in (("m", 10), ("n", 4)):
        (tmp_path / f"{name}.sdf").write_text("".join(one.format(f"{name}{k}") for k in range(count)))
        (tmp_path / f"{name}.csv").write_text("gap [meV]\n" + "\n".join(map(str, range(count))))
    table = SDFData(str(tmp_path / "m.sdf"), ["gap"], units={"gap": "eV"}, test_root=str(tmp_path / "n.sdf"))
    assert table.units == ["eV"] and table.molecules("test").targets["gap"].tolist() == [
        0.0,
        0.001,
        0.002,
        0.003,
    ]
    assert table.molecules("test").names == ("n0", "n1", "n2", "n3") and len(table.molecules("train")) == 9


def test_own_files(tmp_path: Path) -> None:
    path = frames(tmp_path / "run.xyz", 20, atoms=False)
    data = ExtXYZData(path, {"width": "eV"}, columns={"width": "gap"}, units={"width": "meV"}, train_size=4)
    assert [len(data.molecules(s)) for s in ("train", "val", "test")] == [4, 2, 2]
    assert (
        data.targets == ["width"] and data.units == ["meV"] and float(data.source.targets["width"][1]) == 1500
    )
    with pytest.raises(ValueError, match="train_size is 100 but there are 16"):
        ExtXYZData(path, {"gap": "eV"}, train_size=100).molecules("train")
    with pytest.raises(ValueError, match="additive names 'mu'"):
        ExtXYZData(path, {"gap": "eV"}, additive=["mu"])
    with pytest.raises(ValueError, match="expected shares"):
        ExtXYZData(path, {"gap": "eV"}, val_share=0.5, test_share=0.5)
    with pytest.raises(ValueError, match="the checkpoint was trained with units"):
        data.load_state_dict({"targets": ["width"], "units": ["eV"]})
    atom = "{0}\n\n\n  1  0  0  0  0  0  0  0  0  0999 V2000\n    0.0000    0.0000    0.0000 C   0  0\n$$$$\n"
    (tmp_path / "m.sdf").write_text("".join(atom.format(k) for k in range(10)))
    (tmp_path / "m.csv").write_text("gap\n" + "\n".join(map(str, range(10))))
    table = SDFData(str(tmp_path / "m.sdf"), {"gap": "eV"}, additive=["gap"])
    assert table.additive == ["gap"] and len(table.molecules("train")) == 8
    (tmp_path / "m.sdf").rename(tmp_path / "X.SDF")
    (tmp_path / "m.csv").rename(tmp_path / "X.csv")
    assert len(SDFData(str(tmp_path / "X.SDF"), {"gap": "eV"}).molecules("train")) == 8


def of_systems(path: Path, words: str = "system={}", numbers: tuple[str, ...] = ("C O", "N O", "C O")) -> str:
    """Four frames of each system, whose atoms move little from frame to frame."""
    text = ""
    for k, atoms in enumerate(numbers):
        for t in range(4):
            first, second = atoms.split()
            text += (
                f"2\nProperties=species:S:1:pos:R:3:pbe_forces:R:3 energy_pbe={-1.0 - k} {words.format(k)}\n"
            )
            text += f"{first} 0 0 0 0.1 0 0\n{second} {1.1 + 0.01 * t + 3 * k} 0 0 -0.1 0 0\n"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("by, words, numbers, line", [
    ("auto", "system={}", ("C O",) * 3, "split by 'system'"),
    ("auto", "", ("C O", "N O", "C O"), "split by runs of frames"),
    ("block:4", "", ("C O",) * 3, "split by blocks of 4"),
    ("source", "source=s{}", ("C O",) * 3, "split by 'source'"),
])  # fmt: skip
def test_frames_of_one_system_stay_on_one_side(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    by: str,
    words: str,
    numbers: tuple[str, ...],
    line: str,
) -> None:
    data = ForcesData(of_systems(tmp_path / "a.xyz", words, numbers), val=4, test=4, split_by=by)
    parts = {s: {k // 4 for k in data._split[s].tolist()} for s in ("train", "val", "test")}
    assert [len(parts[s]) for s in parts] == [1, 1, 1] and len(set.union(*parts.values())) == 3
    told = capsys.readouterr().out
    assert (
        line in told and "energy from 'energy_pbe' [eV], forces from 'pbe_forces' [eV/Å], no stress" in told
    )


def test_frames_of_the_same_atoms_are_split_as_ever(tmp_path: Path) -> None:
    source = of_systems(tmp_path / "a.xyz", "config_type=c{} config_weight=0.5", ("C O",) * 3)
    data, known = ForcesData(source, val=3, test=3), {"c1": 3.0, "Default": 2.0}
    assert torch.equal(data._split["test"], random_split(12, 3, 3, 0)["test"])
    weighted = ForcesData(source, val=3, test=3, config_weights=known).source
    assert (
        weighted.weights is not None and weighted.weights[:, 0].tolist() == [1.0] * 4 + [1.5] * 4 + [1.0] * 4
    )
    batch = weighted.batch([4, 0])
    assert batch["type"].tolist() == [1, 0] and weighted.type_names == ("c0", "c1", "c2")
    back = from_pyg(to_pyg(collate_molecules([batch])))
    assert torch.equal(back["weight"], batch["weight"]) and torch.equal(back["type"], batch["type"])
    with pytest.raises(
        ValueError, match=r"config_weights names c7, but the frames have the config_type c0, c1, c2"
    ):
        ForcesData(source, val=3, test=3, config_weights={"c7": 1.0}).source  # noqa: B018
    with pytest.raises(ValueError, match="frame 0 has no 'sauce' to split by"):
        ForcesData(source, split_by="sauce").source  # noqa: B018
    with pytest.raises(ValueError, match="without one on two sides"):
        grouped_split(torch.zeros(12, dtype=torch.int64), 3, 3, 0)


def test_labels_under_other_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One name with the word is taken, two are an error that lists them; what is not read is said."""
    path, cell = tmp_path / "a.xyz", 'Lattice="4 0 0 0 4 0 0 0 4" pbc="T T T"'
    head = f"2\nProperties=species:S:1:pos:R:3:forces_pbe:R:3 {cell} energyPBE=-2.0"
    body = "\nC 0 0 0 0.1 0 0\nO 1.1 0 0 -0.1 0 0\n"
    free = f"1\nProperties=species:S:1:pos:R:3 {cell} config_type=IsolatedAtom energyPBE=-1.0\nC 0 0 0\n"
    path.write_text(
        free + 4 * (head + ' virial_pbe="32 0 0 0 32 0 0 0 32" dipole="1 2 3" energy_kinetic=3.0' + body)
    )
    data = ForcesData(str(path), val=1, test=1)
    assert data.isolated == {6: -1.0} and data.source.stress is not None
    assert torch.allclose(data.source.stress[0], -0.5 * torch.eye(3).double())
    assert (
        "stress from 'virial_pbe' [eV] as -V times it; not used: dipole, energy_kinetic"
        in capsys.readouterr().out
    )
    opposite = ForcesData(str(path), val=1, test=1, stress_sign=-1).source.stress
    assert opposite is not None and torch.allclose(opposite[0], 0.5 * torch.eye(3).double())
    with pytest.raises(ValueError, match="holds virials, which are energies, but stress_unit is 'GPa'"):
        ForcesData(str(path), stress_unit="GPa").source  # noqa: B018
    path.write_text(4 * (head + " energy_hf=-3.0" + body))
    with pytest.raises(
        ValueError, match=r"energy may stand under 'energyPBE', 'energy_hf'; .*--data.energy_key"
    ):
        ForcesData(str(path)).source  # noqa: B018
    (tmp_path / "e0.yaml").write_text("{C: -1.0, 8: -2.0}")
    known = ForcesData(
        str(path), isolated=str(tmp_path / "e0.yaml"), energy_key="energy_hf", energy_unit="Ha"
    )
    assert known.isolated is not None and known.isolated[8] == pytest.approx(-54.4227723)
    path.write_text(4 * (head + " config_type=IsolatedAtom" + body))
    with pytest.raises(ValueError, match="'IsolatedAtom' and 2 atoms; expected one"):
        ForcesData(str(path)).source  # noqa: B018


def test_batches_by_edges() -> None:
    """All molecules come once in each epoch, no batch has more edges than allowed, and their number is that of every epoch."""
    data = ClustersData(train=40, val=5, test=5, batch_size=12, max_edges=200, edge_cutoff=3.5)
    loader, edges = data.train_dataloader(), count_edges(data.molecules("train"), 3.5)
    one = data.molecules("train").positions[: int(data.molecules("train").counts[0])]
    assert int(edges[0]) == int((torch.cdist(one, one) < 3.5).sum()) - len(one)
    index = data.molecules("train").index
    assert index is not None
    orders = []
    for epoch in range(3):
        loader.batch_sampler.sampler.set_epoch(epoch)  # type: ignore[union-attr]
        batches = [batch["index"].tolist() for batch in loader]
        assert len(batches) == len(loader)
        sums = [sum(int(edges[index.tolist().index(k)]) for k in batch) for batch in batches]
        assert max(sums) <= 200 and max(map(len, batches)) <= 12
        assert sorted(k for batch in batches for k in batch) == sorted(index.tolist())
        orders.append(batches)
    assert orders[0] != orders[1] and sum(sums) / len(sums) > 140
    assert [k for batch in data.val_dataloader() for k in batch["index"].tolist()] == list(range(5, 10))
    assert (
        max(len(b["index"]) for b in ClustersData(train=4, val=1, test=1, max_edges=1).train_dataloader())
        == 1
    )
    with pytest.raises(ValueError, match="edge_cutoff is 0"):
        ClustersData(edge_cutoff=0.0)
