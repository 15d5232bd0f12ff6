"""Importing is light: no optional package comes along, and it costs little more than torch, e3nn and healpy."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import pkgutil
import resource
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import spheregeo

ROOT = Path(__file__).resolve().parents[1]
# Everything that is in an extra or, as numba, imported only at the first kernel call.
OPTIONAL = (
    "ase",
    "h5py",
    "jsonargparse",
    "lightning",
    "matplotlib",
    "netCDF4",
    "numba",
    "open3d",
    "pandas",
    "PIL",
    "pooch",
    "pytorch_lightning",
    "torch_geometric",
    "torch_harmonics",
    "torch_scatter",
    "torch_sparse",
    "torchmetrics",
    "xarray",
)
# Extras that make install leaves out (triton: on other systems than Linux); a module that is about one of them may fail to
# import without it.
NOT_INSTALLED = {"open3d", "torch_scatter", "torch_sparse", "triton"}
LIGHT_ROOMS = (
    "audit",
    "data",
    "grids",
    "groups",
    "harmonics",
    "jit",
    "kernels",
    "mesh",
    "models",
    "nn",
    "sampling",
    "sparse",
)
# Rooms that stand below features of irreps, for which e3nn's own core is needed; it costs more than half of torch.
GROUND = ("grids", "groups", "harmonics", "jit", "kernels", "mesh", "sampling", "sparse")
BASELINE = "import torch, e3nn, healpy"
WITH_IRREPS = f"{BASELINE}, e3nn.o3"
TOUCH_GROUND = f"import spheregeo\nfor room in {GROUND!r}: getattr(spheregeo, room)"
TOUCH = f"import spheregeo\nfor room in {LIGHT_ROOMS!r}: getattr(spheregeo, room)"
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(spheregeo.__path__, "spheregeo.")
    if not module.name.endswith("__main__")
)


def python(code: str) -> str:
    """Run ``code`` in a fresh interpreter and return what it printed."""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=300, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def loaded_by(code: str) -> set[str]:
    """Return which optional packages are loaded after ``code``."""
    report = f"{code}\nimport json, sys\nprint(json.dumps([m for m in {OPTIONAL!r} if m in sys.modules]))"
    return set(json.loads(python(report).splitlines()[-1]))


def seconds(code: str) -> float:
    """Return the processor time of a fresh interpreter that runs ``code``; unlike wall time, others' load leaves it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        timeout=300,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


@pytest.mark.parametrize("name", MODULES)
def test_every_module_imports(name: str) -> None:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in NOT_INSTALLED:
            raise
        pytest.skip(f"{error.name} is not installed")


def test_bare_import_loads_no_optional_package_and_no_room() -> None:
    assert loaded_by("import spheregeo") == set()
    rooms = "import spheregeo, sys; print(sorted(m for m in sys.modules if m.startswith('spheregeo.')))"
    assert python(rooms).strip() == "[]"


def test_rooms_load_no_optional_package() -> None:
    # healpy imports matplotlib itself
    assert loaded_by(TOUCH) <= loaded_by(f"{BASELINE}, trimesh")


def test_ground_rooms_load_neither_irreps_nor_the_compiler() -> None:
    report = f"{TOUCH_GROUND}\nimport sys\nprint([m for m in ('e3nn.o3', 'torch._dynamo', 'triton') if m in sys.modules])"
    assert python(report).strip() == "[]"


def test_import_time() -> None:
    codes = (BASELINE, WITH_IRREPS, TOUCH_GROUND, TOUCH, "import spheregeo")
    bounds = (("import spheregeo", BASELINE, 1.5), (TOUCH_GROUND, BASELINE, 1.5), (TOUCH, WITH_IRREPS, 1.25))
    python(f"{TOUCH}\n{WITH_IRREPS}")  # fills the caches of byte code
    least = {code: seconds(code) for code in codes}
    if not all(least[touched] < most * least[base] for touched, base, most in bounds):  # disturbed, perhaps
        least = {code: min(least[code], seconds(code)) for code in codes}
    for touched, base, most in bounds:
        assert least[touched] < most * least[base], f"rooms {least[touched]:.2f} s, base {least[base]:.2f} s"


def test_unknown_room_is_named() -> None:
    with pytest.raises(AttributeError, match="'ocean'"):
        spheregeo.ocean  # noqa: B018


def public_things() -> list[tuple[str, object]]:
    """Return every class and function that a package of ours lists in ``__all__``."""
    packages = [importlib.import_module(name) for name in MODULES if (ROOT / name.replace(".", "/")).is_dir()]
    return [
        (f"{package.__name__}.{name}", getattr(package, name))
        for package in packages
        for name in getattr(package, "__all__", ())
        if not isinstance(getattr(package, name), ModuleType)
    ]


def test_rooms_say_what_is_public() -> None:
    rooms = {name for name in MODULES if name.count(".") == 1} - {"spheregeo.cli", "spheregeo.recipes"}
    silent = [name for name in sorted(rooms) if not hasattr(importlib.import_module(name), "__all__")]
    assert not silent, f"no __all__: {silent}"


def test_no_two_classes_of_one_name() -> None:
    """A public class has its name alone: no other class of the package, public or not, is called the same."""
    where: dict[str, set[str]] = {}
    for module in map(importlib.import_module, MODULES):
        for name, value in vars(module).items():
            if inspect.isclass(value) and value.__module__ == module.__name__ and value.__name__ == name:
                where.setdefault(name, set()).add(module.__name__)
    public = {name.rpartition(".")[2] for name, thing in public_things() if inspect.isclass(thing)}
    twice = {name: sorted(modules) for name, modules in where.items() if len(modules) > 1 and name in public}
    assert not twice


def test_public_names_have_docstrings() -> None:
    things = public_things()
    assert things
    bare = []
    for name, thing in things:
        if not (inspect.isclass(thing) or inspect.isroutine(thing)):
            continue
        # not the parent's text, nor the signature that dataclass writes
        text = (vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__) or ""
        if not text.strip() or text.startswith(f"{name.rsplit('.', 1)[1]}("):
            bare.append(name)
    assert not bare, f"no docstring: {bare}"


def test_modules_have_docstrings() -> None:
    files = (ROOT / "spheregeo").rglob("*.py")
    bare = [str(file) for file in files if not ast.get_docstring(ast.parse(file.read_text()))]
    assert not bare, f"no docstring: {bare}"
