"""QM9 and QM7: official splits by seed and hash, every layout that is in use."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from spheregeo.data import QM7Data, QM9Data, registry
from spheregeo.data.molecules import qm7, qm9
from spheregeo.data.molecules.qm7 import read_qm7
from spheregeo.data.molecules.qm9 import PROPERTIES, atom_references, official_split, read_qm9

BOHR = 0.529177210903
RAW = """3
gdb 7 1.5\t2.5\t3.5\t1.8546\t6.31\t-0.2928\t0.0687\t0.3615\t19.0002\t0.021375\t-76.404702\t-76.401867\t-76.4009\t-76.422349\t6.002
O\t0.0\t0.0\t0.1\t-0.589706
H\t0.76\t0.59\t1.5*^-6\t0.294853
H\t-0.76\t0.59\t0.0\t0.294853
1671.4\t3803.6
O\tO
InChI=1S/H2O/h1H2\tInChI=1S/H2O/h1H2
"""


@pytest.mark.parametrize(
    ("name", "sizes", "first", "digest"),
    [
        ("A", (100_000, 17_748, 13_083), [130195, 68784, 7957], "77989252ff8c8309"),
        ("B", (110_000, 10_000, 10_831), [112526, 100113, 55940], "f7b0eee126e61118"),
    ],
)
def test_official_splits(name: str, sizes: tuple[int, ...], first: list[int], digest: str) -> None:
    parts = official_split(name)
    assert tuple(len(parts[s]) for s in ("train", "val", "test")) == sizes
    assert parts["train"][:3].tolist() == first
    order = torch.cat([parts[s] for s in ("train", "val", "test")])
    assert hashlib.sha256(order.numpy().astype("<i8").tobytes()).hexdigest().startswith(digest)
    assert torch.equal(order.sort().values, torch.arange(130_831))


def test_the_card_says_the_same() -> None:
    card = registry()["qm9"]
    assert card["targets"] == {name: unit for name, (unit, *_) in PROPERTIES.items()}
    for name, (seed, train, val, digest) in qm9.SPLITS.items():
        told = card["permutations"][name]
        assert told == {"seed": seed, "of": 130_831, "cuts": [train, train + val], "sha256": digest}


def test_another_generator_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(qm9.SPLITS, "A", (1, 100_000, 17_748, "77989252ff8c8309"))
    with pytest.raises(RuntimeError, match="expected 77989252ff8c8309"):
        official_split("A")
    with pytest.raises(ValueError, match="expected one of A, B"):
        official_split("C")


def test_free_atoms_in_any_unit() -> None:
    ev, mev = atom_references("U0", "eV"), atom_references("U0", "meV")
    assert ev is not None and mev is not None and float(ev[6]) == -1029.86312267
    assert torch.allclose(mev, 1000 * ev) and atom_references("gap", "eV") is None
    heat = atom_references("Cv", "J/mol/K")
    assert heat is not None and float(heat[6]) == pytest.approx(1.5 * 8.314462618, rel=1e-3)  # 3R/2


def test_raw_files(tmp_path: Path) -> None:
    (tmp_path / "dsgdb9nsd_000007.xyz").write_text(RAW)
    found, whole = read_qm9(tmp_path)
    assert not whole and found.numbers.tolist() == [8, 1, 1] and found.names == ("dsgdb9nsd_000007",)
    assert float(found.positions[1, 2]) == 1.5e-6
    said = {"mu": 1.8546, "gap": 0.3615, "r2": 19.0002, "U0": -76.404702, "G": -76.422349, "Cv": 6.002}
    assert {name: float(found.targets[name][0]) for name in said} == said
    other = tmp_path / "dsgdb9nsd_000008.xyz"
    for text in (
        "2\ngdb 8\t1\nC\t0\t0\t0\t0\n",
        RAW.replace("3\n", "2\n", 1),  # more atoms than counted
        RAW.replace("3\n", "4\n", 1),
        RAW[: RAW.index("1671")],
        RAW.replace("O\t0.0", "O\t0,0"),
    ):
        other.write_text(text)
        with pytest.raises(ValueError, match=r"000008\.xyz is no file of QM9"):
            read_qm9(tmp_path)
    other.write_bytes(RAW.encode() + b"\xe9")
    with pytest.raises(ValueError, match=r"000008\.xyz is not UTF-8 text"):
        read_qm9(tmp_path)
    other.write_bytes(b"\xef\xbb\xbf" + RAW.replace("\n", "\r\n").encode())
    assert read_qm9(tmp_path)[0].targets["mu"].tolist() == [1.8546, 1.8546]


def test_sdf_layout_and_the_uncharacterised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records, rows = [], ["mol_id,mu,u0"]
    for k in range(5):
        atom = f"{0.0:10.4f}{float(k):10.4f}{0.0:10.4f} C   0  0"
        records.append(f"gdb_{k + 1}\n\n\n  1  0  0     0  0  0  0  0  0999 V2000\n{atom}\nM  END\n$$$$\n")
        rows.append(f"gdb_{k + 1},{k}.5,{-k}.0")
    (tmp_path / "gdb9.sdf").write_text("".join(records))
    (tmp_path / "gdb9.sdf.csv").write_text("\n".join(rows))
    monkeypatch.setattr(qm9, "WHOLE", 5)
    monkeypatch.setattr(qm9, "CHARACTERISED", 3)
    with pytest.raises(ValueError, match=r"put their list, uncharacterized\.txt, beside"):
        read_qm9(tmp_path, ["mu"])
    (tmp_path / "uncharacterized.txt").write_text("3 molecules\n=====\n  2 C#N dsC\n  5 CC 1 2\n\n")
    found, whole = read_qm9(tmp_path, ["mu", "U0"])
    assert whole and found.targets["mu"].tolist() == [0.5, 2.5, 3.5]
    assert found.batch([1])["index"].tolist() == [1]  # counted after the uncharacterised were left out
    (tmp_path / "uncharacterized.txt").write_text("2 C#N\n")
    with pytest.raises(ValueError, match="leaves 4 molecules of 5; expected 3"):
        read_qm9(tmp_path, ["mu"])


def test_no_qm9(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected gdb9\.sdf"):
        read_qm9(tmp_path)
    with pytest.raises(ValueError, match="target 'colour' is none of QM9's: mu, alpha"):
        read_qm9(tmp_path, ["colour"])


def mat(path: Path, scale: float = 1 / BOHR) -> None:
    """A qm7.mat of ten diatomics in five folds."""
    z = np.zeros((10, 23))
    z[:, :2] = [6, 8]
    r = np.zeros((10, 23, 3))
    r[:, 1, 0] = (1.1 + 0.01 * np.arange(10)) * scale
    folds = np.random.default_rng(0).permutation(10).reshape(5, 2)
    savemat(path, {"R": r, "Z": z, "T": -np.arange(10.0)[None], "P": folds, "X": np.zeros((10, 23, 23))})


def test_qm7_mat_and_its_folds(tmp_path: Path) -> None:
    mat(tmp_path / "qm7.mat")
    found, folds = read_qm7(tmp_path)
    assert folds is not None and len(folds) == 5
    assert float((found.positions[1] - found.positions[0]).norm()) == pytest.approx(1.1, rel=1e-6)
    data = QM7Data(str(tmp_path), fold=2, val=2)
    parts = {
        s: set(data.molecules(s).batch(range(len(data.molecules(s))))["index"].tolist())
        for s in ("train", "val", "test")
    }
    assert parts["test"] == set(folds[2].tolist()) and len(parts["train"]) == 6
    assert not parts["train"] & parts["val"] and set.union(*parts.values()) == set(range(10))
    mat(tmp_path / "qm7.mat", scale=1.0)  # ångströms, taken for bohr
    with pytest.raises(ValueError, match="R is in another unit"):
        read_qm7(tmp_path)


def test_a_damaged_mat_file_ends_in_a_line(tmp_path: Path) -> None:
    """A changed byte lets scipy's reader crash with the process; here it is a line that names the file."""
    mat(tmp_path / "qm7.mat")
    whole = (tmp_path / "qm7.mat").read_bytes()
    for content in (whole[:180] + b"\xff" + whole[181:], whole[:3000], b"", b"MATLAB" * 40):
        (tmp_path / "qm7.mat").write_bytes(content)
        with pytest.raises(ValueError, match=r"qm7\.mat cannot be read as (a MATLAB|the) file"):
            read_qm7(tmp_path)


def test_a_reader_that_crashes_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mat(tmp_path / "qm7.mat")
    for code, message in (
        ("import os; os.abort()", "crashed .signal 6."),
        ("while True: pass", "within 1 s"),
    ):
        monkeypatch.setattr(qm7, "_LOAD", code)
        monkeypatch.setattr(qm7, "_PATIENCE", 1.0)
        with pytest.raises(ValueError, match=rf"qm7\.mat cannot be read as a MATLAB file: .*{message}"):
            read_qm7(tmp_path)


def test_folds_want_the_original_file(tmp_path: Path) -> None:
    z, r = np.array([[6, 8]] * 9), np.zeros((9, 2, 3))
    r[:, 1] = 1.1
    np.savez(tmp_path / "a.npz", Z=z, R=r, energy_pbe0_kcalmol=np.arange(9.0))
    with pytest.raises(ValueError, match=r"holds no folds; they are in qm7\.mat"):
        QM7Data(str(tmp_path), fold=0).molecules("test")
    data = QM7Data(str(tmp_path), train=5, val=2)
    assert [len(data.molecules(s)) for s in ("train", "val", "test")] == [5, 2, 2]
    with pytest.raises(ValueError, match="9 molecules leave none for the test"):
        QM7Data(str(tmp_path)).molecules("train")
    with pytest.raises(ValueError, match="fold is 5"):
        QM7Data(str(tmp_path), fold=5)
    with pytest.raises(FileNotFoundError, match="neither"):
        QM7Data(str(tmp_path / "none")).molecules("train")


@pytest.mark.realdata
def test_a_hundred_molecules_of_qm9(real_data: Path) -> None:
    path = str(real_data / "qm9_c7h10o2" / "qm9_reduced_100.xyz")
    data = QM9Data(path, targets=list(PROPERTIES), units={"U0": "meV"}, official="random", train=60, val=20)
    assert len(data.molecules("test")) == 20 and dict(zip(data.targets, data.units))["U0"] == "meV"
    table = atom_references("U0", "meV")
    assert table is not None
    source = data.source
    free = torch.stack([table[m].sum() for m in source.numbers.split(source.counts.tolist())])
    bound = (source.targets["U0"] - free) / source.counts / 1000
    assert bool(((bound < -1) & (bound > -8)).all())
    gap = source.targets["lumo"] - source.targets["homo"]
    assert float((gap - source.targets["gap"]).abs().max()) < 0.004  # eV; four digits in hartree
    with pytest.raises(ValueError, match=r"holds 100 molecules, but split B is of the 130,831"):
        QM9Data(path).molecules("train")


@pytest.mark.realdata
def test_isomers_and_qm7(real_data: Path) -> None:
    isomers = QM9Data(
        str(real_data / "qm9_c7h10o2" / "qm9iso_train.npz"), targets=["gap"], official="random", train=4000
    )
    assert [len(isomers.molecules(s)) for s in ("train", "val", "test")] == [4000, 100, 495]
    assert isomers.units == ["eV"]
    small = QM7Data(str(real_data / "qm7"), train_size=100)
    assert [len(small.molecules(s)) for s in ("train", "val", "test")] == [100, 100, 501]
    whole = QM7Data(str(real_data / "qm7"))
    assert torch.equal(whole.molecules("test").index, small.molecules("test").index)
    assert torch.equal(whole.molecules("train").index[:100], small.molecules("train").index)
