"""Slabs, stresses, tags and fixed atoms: generated, read from files, written and read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spheregeo.data import Molecules, SlabsData, collate_molecules, from_pyg, read_extxyz, to_pyg

SMALL: dict[str, Any] = {"train": 2, "val": 1, "test": 1, "frames": 3, "size": (1, 1, 2)}
CELL = 'Lattice="2 0 0 0 3 0 0 0 4" pbc="T T T"'
SIX = "0.1 0.2 0.3 0.04 0.05 0.06"
NINE = "0.1 0.06 0.05 0.06 0.2 0.04 0.05 0.04 0.3"
MATRIX = np.array([[0.1, 0.06, 0.05], [0.06, 0.2, 0.04], [0.05, 0.04, 0.3]])


def test_generated_slabs(tmp_path: Path) -> None:
    data = SlabsData(**SMALL, cache_dir=str(tmp_path))
    train, test = data.molecules("train"), data.molecules("test")
    assert not {str(n).split(":")[0] for n in train.names or ()} & {
        str(n).split(":")[0] for n in test.names or ()
    }
    assert (
        test.tags is not None
        and test.fixed is not None
        and test.stress is not None
        and test.forces is not None
    )
    first, last = data.relaxations("test")[0]
    assert (first, last) == (0, len(test) - 1)
    one = test.select([last])
    assert one.forces is not None and one.fixed is not None and one.tags is not None
    assert float(one.forces[~one.fixed].norm(dim=1).max()) <= 0.02 + 1e-9
    assert one.tags.tolist() == [0, 1, 2] and one.fixed.tolist() == [True, False, False]
    held = one.fixed.nonzero()[:, 0]
    assert torch.equal(one.positions[held], test.select([first]).positions[held])
    free = data.isolated
    assert free is not None and free[29] == pytest.approx(3.51)
    # a file that an earlier run left gives the same numbers
    again = SlabsData(**SMALL, seed=0, cache_dir=str(tmp_path))
    (stored,) = tmp_path.glob("slabs-*.xyz")
    found, _ = again._stored(stored) or (None, None)
    assert isinstance(found, Molecules) and found.names == data.source.names
    for name in ("positions", "energy", "forces", "stress", "cell"):
        assert torch.allclose(getattr(found, name), getattr(data.source, name), atol=1e-7), name
    assert torch.equal(found.fixed, data.source.fixed) and torch.equal(found.tags, data.source.tags)  # type: ignore[arg-type]
    for options, message in (
        ({"metals": ["Fe"]}, "metals is"), ({"energy": "free"}, "energy is 'free'"), ({"size": (2, 2, 1)}, "size is"),
        ({"strain": 0.3}, "strain is 0.3"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            SlabsData(**{**SMALL, **options})


def test_labels_of_stress_are_the_numeric_derivative_and_adsorption_energies_differ_by_a_constant() -> None:
    from ase import Atoms
    from ase.calculators.emt import EMT

    total, adsorption = (SlabsData(**SMALL, energy=kind) for kind in ("total", "adsorption"))
    assert adsorption.isolated is None
    one, other = total.molecules("test"), adsorption.molecules("test")
    assert (
        one.energy is not None
        and other.energy is not None
        and one.cell is not None
        and one.stress is not None
    )
    assert float((one.energy - other.energy).std()) < 1e-12 < abs(float((one.energy - other.energy)[0]))
    atoms = Atoms(one.numbers[:3].numpy(), one.positions[:3].numpy(), cell=one.cell[0].numpy(), pbc=[1, 1, 0])
    h, strain = 1e-5, np.zeros((3, 3))
    strain[0, 1] = strain[1, 0] = h / 2
    energies = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.set_cell(atoms.cell[:] @ (np.eye(3) + sign * strain), scale_atoms=True)
        moved.calc = EMT()
        energies.append(moved.get_potential_energy())
    numeric = (energies[0] - energies[1]) / (2 * h) / atoms.get_volume()
    assert float(one.stress[0, 0, 1]) == pytest.approx(numeric, abs=1e-6)


def read(path: Path, comment: str, **options: Any) -> Molecules:
    path.write_text(f"1\nProperties=species:S:1:pos:R:3:forces:R:3 energy=-1.0 {comment}\nCu 0 0 0 0 0 0\n")
    return read_extxyz(path, forces=True, **options)


@pytest.mark.parametrize("text, options, size", [
    (f'stress="{NINE}"', {}, 1.0),
    (f'REF_stress="{SIX}"', {}, 1.0),
    (f'virial="{NINE}"', {}, -1 / 24),
    (f'stress="{NINE}"', {"stress_unit": "GPa"}, 1 / 160.21766208),
    (f'stress="{NINE}"', {"energy_unit": "kcal/mol"}, 0.0433641),
    (f'mine="{NINE}" stress="{" ".join(["7"] * 9)}"', {"stress_key": "mine"}, 1.0),
])  # fmt: skip
def test_stress_in_files(tmp_path: Path, text: str, options: dict[str, Any], size: float) -> None:
    """Six numbers are xx, yy, zz, yz, xz, xy; a virial is -V times the stress."""
    found = read(tmp_path / "a.xyz", f"{CELL} {text}", **options)
    assert found.stress is not None
    assert np.allclose(found.stress[0].numpy(), size * MATRIX, rtol=1e-5)
    assert found.batch([0])["stress"].shape == (1, 3, 3)


@pytest.mark.parametrize("text, message", [
    (f'{CELL} REF_stress="1 2 3"', "expected six finite numbers"),
    (f'{CELL} REF_stress="1 2 3 4 5 6 7 8 9"', "not symmetric"),
    (f'{CELL} stress="{NINE}" virial="{NINE}"', "two kinds of stress"),
    (f'stress="{NINE}"', "has no volume"),
    (f'virial="{NINE}"', "has no volume"),
])  # fmt: skip
def test_stresses_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "a.xyz", text)


def test_unknown_stresses_and_other_trips(tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    frame = f"1\nProperties=species:S:1:pos:R:3:forces:R:3:tags:I:1:move_mask:L:1 energy=-1.0 {CELL}"
    path.write_text(f'{frame} stress="{NINE}"\nCu 0 0 0 0 0 0 1 F\n{frame}\nCu 0 0 0 0 0 0 2 T\n')
    found = read_extxyz(path, forces=True)
    assert found.stress is not None and found.stress.isnan().flatten(1).all(1).tolist() == [False, True]
    assert found.tags is not None and found.tags.tolist() == [1, 2]
    assert found.fixed is not None and found.fixed.tolist() == [True, False]
    batch = collate_molecules([found.batch([1]), found.batch([0])])
    assert batch["tags"].tolist() == [2, 1] and batch["fixed"].tolist() == [False, True]
    back = from_pyg(to_pyg(batch))
    assert all(torch.equal(back[k].nan_to_num(), batch[k].nan_to_num()) for k in ("stress", "tags", "fixed"))
    assert back["fixed"].dtype == torch.bool and back["tags"].dtype == torch.int64


def test_an_ase_database(tmp_path: Path) -> None:
    """The rows of a database are the frames of an extended XYZ file of the same systems."""
    from ase.db import connect
    from ase.io import write

    from spheregeo.data import ForcesData, read_ase_db
    from spheregeo.data.molecules.periodic.slabs import SlabRecipe, relaxed_slabs

    frames, _, _ = relaxed_slabs(range(2), SlabRecipe(size=(1, 1, 2)), 2, 0)
    base = connect(tmp_path / "a.db")
    for k, frame in enumerate(frames):
        base.write(frame, mine=-7.5 - k)
    write(tmp_path / "a.xyz", frames, format="extxyz")
    rows, others = read_ase_db(tmp_path / "a.db", forces=True), read_extxyz(tmp_path / "a.xyz", forces=True)
    assert rows.names == ("1", "2", "3", "4")
    for name in ("numbers", "positions", "energy", "forces", "stress", "tags", "fixed", "cell", "pbc"):
        assert torch.allclose(getattr(rows, name).double(), getattr(others, name).double(), atol=1e-7), name
    other = read_ase_db(tmp_path / "a.db", forces=True, energy_key="mine")
    assert other.energy is not None and other.energy.tolist() == [-7.5, -8.5, -9.5, -10.5]
    (tmp_path / "a.xyz").unlink()
    data = ForcesData(str(tmp_path), val=1, test=1)
    assert [len(data.molecules(part)) for part in ("train", "val", "test")] == [2, 1, 1]
    (tmp_path / "b.db").write_bytes(b"SQLite format 3\x00" + b"\x01" * 50)
    (tmp_path / "c.db").write_text("no database")
    for name in ("b", "c"):
        with pytest.raises(ValueError, match=rf"{name}\.db"):
            read_ase_db(tmp_path / f"{name}.db", forces=True)
    with pytest.raises(FileNotFoundError):
        read_ase_db(tmp_path / "d.db")


def lmdb_of(path: Path, records: list[bytes]) -> None:
    import pickle

    lmdb = pytest.importorskip("lmdb")
    with lmdb.open(str(path), subdir=False, map_size=2**24) as store, store.begin(write=True) as transaction:
        for k, content in enumerate(records):
            transaction.put(str(k).encode(), content)
        transaction.put(b"length", pickle.dumps(len(records)))


def record(sid: int, **more: Any) -> bytes:
    """A record as those sets have it: a pickled Data of PyTorch Geometric."""
    import pickle

    data = pytest.importorskip("torch_geometric").data.Data(
        pos=torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 1.5 + 0.1 * sid]]), cell=10 * torch.eye(3)[None], natoms=2,
        atomic_numbers=torch.tensor([29.0, 8.0]), tags=torch.tensor([0, 2]), fixed=torch.tensor([1.0, 0.0]), sid=sid, fid=0,
        y=-1.0 - sid, force=torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]), **more,
    )  # fmt: skip
    return pickle.dumps(data, protocol=-1)


def test_records_of_the_open_catalyst_sets(tmp_path: Path) -> None:
    from spheregeo.data import OC20Data, read_oc20

    lmdb_of(tmp_path / "data.0000.lmdb", [record(k // 2) for k in range(8)])
    lmdb_of(tmp_path / "data.0001.lmdb", [record(4)])
    with pytest.raises(ValueError, match="holds pickles, which may run code"):
        read_oc20(tmp_path)
    found, systems = read_oc20(tmp_path, trust_pickles=True)
    assert systems.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4] and len(found) == 9
    assert found.energy is not None and found.energy.tolist() == [-1.0 - k for k in systems.tolist()]
    assert found.tags is not None and found.tags[:2].tolist() == [0, 2]
    assert found.fixed is not None and found.fixed[:2].tolist() == [True, False]
    assert found.pbc is not None and bool(found.pbc.all()) and found.forces is not None
    assert found.numbers[:2].tolist() == [29, 8] and found.forces[1].tolist() == [0, 0, -1]
    data = OC20Data(str(tmp_path), trust_pickles=True, val=1, test=2)
    parts = [{round(float(e)) for e in data.molecules(part).energy} for part in ("train", "val", "test")]  # type: ignore[union-attr]
    assert [len(p) for p in parts] == [2, 1, 2] and len(set.union(*parts)) == 5
    with pytest.raises(ValueError, match="5 systems cannot be split"):
        OC20Data(str(tmp_path), trust_pickles=True, val=4, test=1).molecules("train")
    with pytest.raises(FileNotFoundError, match="expected the files of an Open Catalyst set"):
        read_oc20(tmp_path / "nothing", trust_pickles=True)


class Harm:
    """What a stranger's pickle may hold."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


def test_records_run_nothing(tmp_path: Path) -> None:
    import io
    import pickle

    from spheregeo.data import read_oc20

    class Nested:
        """A tensor's numbers, which plain unpickling reads with torch.load and so runs what is inside."""

        def __reduce__(self) -> tuple[Any, ...]:
            content = io.BytesIO()
            torch.save(Harm(tmp_path / "nested"), content)
            return torch.storage._load_from_bytes, (content.getvalue(),)

    for k, harm in enumerate(
        (pickle.dumps(Harm(tmp_path / "harm")), pickle.dumps(Nested()), record(0)[:-20], b"no pickle")
    ):
        path = tmp_path / f"{k}.lmdb"
        lmdb_of(path, [harm])
        with pytest.raises(ValueError, match=rf"{k}\.lmdb"):
            read_oc20(path, trust_pickles=True)
    assert not (tmp_path / "harm").exists() and not (tmp_path / "nested").exists()
    (tmp_path / "9.lmdb").write_bytes(b"no lmdb" * 1000)
    with pytest.raises(ValueError, match=r"9\.lmdb"):
        read_oc20(tmp_path / "9.lmdb", trust_pickles=True)
