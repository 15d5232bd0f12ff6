"""Compiled code is never stale, is shared where sources are equal, and a broken cache costs time only.

A package of two files stands for ours: a function of one calls a function of the other, in processes of their own.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from spheregeo.jit import folders, njit, progress, sources

ROOT = Path(__file__).resolve().parents[2]
INNER = """
from spheregeo.jit import njit
FACTOR = 10
@njit(nogil=True)
def inner(x):
    return FACTOR * x + 1
"""
OUTER = """
import numba
from spheregeo.jit import njit
from toy.inner import inner
@njit(nogil=True)
def outer(x):
    return inner(x) + inner(x)
@numba.njit(cache=True)
def somebody_elses(x):
    return x
"""
REPORT = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from toy.outer import outer
    from toy.inner import inner
    result = outer(2)
hits = [sum(f.stats.cache_hits.values()) for f in (outer, inner)] if hasattr(outer, "stats") else None
print(result, hits, [str(w.message) for w in caught])
"""
NOT_WRITABLE = "from spheregeo.jit import folders\nfolders._writable = lambda folder: False\n"


SERVER: Any = None  # of processes that have numba imported, and nothing of ours


@pytest.fixture(autouse=True, scope="module")
def _server(programs: Any) -> None:
    global SERVER
    SERVER = programs


def start(code: str, package: Path, cache: Path, **environment: str) -> int:
    path = os.pathsep.join([str(package), str(ROOT)])
    env = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "SPHEREGEO_PROGRESS": "0"}
    number: int = SERVER.start(["-c", code], package, **env | {"NUMBA_CACHE_DIR": str(cache)} | environment)
    return number


def finish(number: int) -> str:
    ended = SERVER.finish(number, timeout=300)
    assert ended.returncode == 0 and not ended.stderr, ended.stderr
    return str(ended.stdout.strip())


def python(code: str, package: Path, cache: Path, **environment: str) -> str:
    """Run ``code`` in a process of its own and return what it printed."""
    return finish(start(code, package, cache, **environment))


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """Folder with the package ``toy``."""
    package = tmp_path / "somewhere" / "toy"
    package.mkdir(parents=True)
    for name, text in (("__init__", ""), ("inner", INNER), ("outer", OUTER)):
        (package / f"{name}.py").write_text(text)
    return package.parent


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def kept(cache: Path) -> list[Path]:
    return sorted(file for file in (cache / "spheregeo").rglob("*") if file.is_file())


@pytest.mark.parametrize(
    ("old", "new", "result"), [("x + 1", "x + 2", "44"), ("FACTOR = 10", "FACTOR = 5", "22")]
)
def test_a_change_of_an_inner_file_is_seen(toy: Path, cache: Path, old: str, new: str, result: str) -> None:
    assert python(REPORT, toy, cache) == "42 [0, 0] []"
    assert python(REPORT, toy, cache) == "42 [1, 0] []"  # the outer function holds a copy of the inner one
    inner = toy / "toy" / "inner.py"
    times = inner.stat()
    inner.write_text(inner.read_text().replace(old, new))
    os.utime(inner, ns=(times.st_atime_ns, times.st_mtime_ns))  # contents count, not times
    assert python(REPORT, toy, cache) == f"{result} [0, 0] []"
    assert python(REPORT, toy, cache) == f"{result} [1, 0] []"


def test_equal_sources_elsewhere_share_the_code(toy: Path, cache: Path, tmp_path: Path) -> None:
    python(REPORT, toy, cache)
    other = shutil.copytree(toy, tmp_path / "elsewhere")
    shutil.rmtree(toy)
    assert python(REPORT, other, cache) == "42 [1, 0] []"


def test_an_inner_loop_of_the_engine_is_seen(tmp_path: Path, cache: Path) -> None:
    shutil.copytree(ROOT / "spheregeo", tmp_path / "spheregeo", ignore=shutil.ignore_patterns("__pycache__"))
    code = """
import numpy as np
from spheregeo.sparse.engines.kernels import csr_contract
x, v, z = np.ones(10), np.ones((5, 1)), np.zeros((4, 2))
indptr, indices = np.arange(0, 25, 5), np.tile(np.arange(5), 4)
csr_contract(x, v, (indptr, indices, np.zeros(4, int), np.arange(4)), (0, 4), (5, 4), z)
print(z.sum(), sum(csr_contract.stats.cache_hits.values()))
"""
    assert python(code, tmp_path, cache) == "40.0 0"
    assert python(code, tmp_path, cache) == "40.0 1"
    product = tmp_path / "spheregeo" / "sparse" / "engines" / "kernels" / "product.py"
    text = product.read_text()
    broken = text.replace("m, count = a.shape\n", "m, count, n = a.shape[0], a.shape[1], n // 2\n")
    assert broken != text
    product.write_text(broken)
    assert python(code, tmp_path, cache) == "20.0 0"
    product.write_text(text)
    assert python(code, tmp_path, cache) == "40.0 1"


@pytest.mark.parametrize("harm", ["truncate", "empty", "alter", "other"])
def test_damaged_files_count_as_none(toy: Path, cache: Path, harm: str) -> None:
    python(REPORT, toy, cache)
    files = kept(cache)
    assert len(files) == 2
    before = [file.read_bytes() for file in files]
    for file, data in zip(files, before, strict=True):
        middle = len(data) // 2
        file.write_bytes(
            {
                "truncate": data[:middle],
                "empty": b"",
                "alter": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
                "other": b"something else",
            }[harm]
        )
    assert python(REPORT, toy, cache) == "42 [0, 0] []"
    assert python(REPORT, toy, cache) == "42 [1, 0] []"


def test_another_functions_file_is_not_taken(toy: Path, cache: Path) -> None:
    python(REPORT.replace("outer(2)", "outer(2.5)"), toy, cache)
    float_file = next(file for file in kept(cache) if file.name.startswith("outer-"))
    python(REPORT, toy, cache)
    int_file = next(f for f in kept(cache) if f.name.startswith("outer-") and f != float_file)
    int_file.write_bytes(float_file.read_bytes())
    assert python(REPORT, toy, cache).startswith("42 [0, ")


def test_a_folder_that_cannot_be_written_costs_one_warning(toy: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    out = python(REPORT, toy, tmp_path / "file" / "cache")
    assert out.startswith("42 [0, 0] ['compiled code cannot be kept in ")
    assert out.count("compiled code") == 1 and "set NUMBA_CACHE_DIR" in out


def test_a_folder_that_became_unwritable_costs_one_warning(toy: Path, cache: Path) -> None:
    code = """
import toy.outer
from spheregeo.jit import cache_folder
cache_folder().rmdir()
cache_folder().touch()
"""
    out = python(code + REPORT, toy, cache)
    assert out.startswith("42 [0, 0] ") and "compiled code cannot be kept (" in out
    assert out.count("compiled code") == 1


def test_code_that_others_wrote_is_read(toy: Path, cache: Path) -> None:
    python(REPORT, toy, cache)
    assert python(NOT_WRITABLE + REPORT, toy, cache) == "42 [1, 0] []"


def test_processes_that_compile_at_once(toy: Path, cache: Path) -> None:
    codes = [REPORT.replace("outer(2)", f"outer({value})") for value in ("2", "2.0", "2j", "True")] * 2
    running = [start(code, toy, cache) for code in codes]
    results = [finish(number).split(" [")[0] for number in running]
    assert results == ["42", "42.0", "(2+40j)", "22"] * 2
    for code in codes[:4]:
        assert " [1, 0] []" in python(code, toy, cache)
    assert not [file for file in kept(cache) if file.name.startswith(".")]


def test_without_compilation(toy: Path, cache: Path) -> None:
    assert python(REPORT, toy, cache, NUMBA_DISABLE_JIT="1") == "42 None []"
    assert not kept(cache)


def test_functions_of_others_keep_numbas_own_cache(toy: Path, cache: Path) -> None:
    code = """
import numba
from numba.core import caching
before = list(caching.CacheImpl._locator_classes), numba.config.CACHE_DIR
from toy.outer import outer, somebody_elses
outer(2), somebody_elses(3)
print(type(somebody_elses._cache).__name__, type(outer._cache).__name__)
assert before == (list(caching.CacheImpl._locator_classes), numba.config.CACHE_DIR)
"""
    assert python(code, toy, cache) == "FunctionCache Store"
    numbas = [file for file in cache.rglob("*.nb?") if "somebody_elses" in file.name]
    assert len(numbas) == 2 and not [file for file in numbas if "spheregeo" in file.parts]


def test_choices_at_run_time_keep_code_apart(toy: Path, cache: Path) -> None:
    choose = "from spheregeo.jit import add_to_key\nadd_to_key('toy.inner', 'plain')\n"
    python(REPORT, toy, cache)
    assert python(choose + REPORT, toy, cache) == "42 [0, 0] []"
    assert python(choose + REPORT, toy, cache) == "42 [1, 0] []"
    assert python(REPORT, toy, cache) == "42 [1, 0] []"
    other = "from spheregeo.jit import add_to_key\nadd_to_key('toy.elsewhere', 'plain')\n"
    assert python(other + REPORT, toy, cache) == "42 [1, 0] []"  # no file of the function's


def test_latest_versions_stay(tmp_path: Path) -> None:
    names = [f"a.b-{i}" for i in range(folders.VERSIONS + 3)]
    for age, name in enumerate(names):
        (tmp_path / name).mkdir()
        (tmp_path / name / "code").touch()
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    for other in ("a.b.c-0", "a-0"):
        (tmp_path / other).mkdir()
        os.utime(tmp_path / other, (0, 0))
    folders.remove_old(tmp_path / names[0])
    assert {file.name for file in tmp_path.iterdir()} == {*names[: folders.VERSIONS], "a.b.c-0", "a-0"}


def test_order_of_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(folders.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(folders.sys, "platform", "linux")
    package = ROOT / "spheregeo" / "__pycache__" / "compiled"
    temporary = tmp_path / f"spheregeo-{os.getuid()}" / "compiled"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert list(folders._candidates()) == [tmp_path / "cache" / "spheregeo" / "compiled", package, temporary]
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert next(folders._candidates()) == tmp_path / "home" / ".cache" / "spheregeo" / "compiled"
    monkeypatch.setattr(folders.os.path, "expanduser", lambda path: path)  # no home
    assert list(folders._candidates()) == [package, temporary]


def test_temporary_folders_of_others_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(folders.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = tmp_path / f"spheregeo-{os.getuid()}"
    assert folders._private_temporary() == folder
    folder.chmod(0o777)
    assert folders._private_temporary() is None
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    assert folders._private_temporary() is None


def test_versions_of_compilers_count(monkeypatch: pytest.MonkeyPatch) -> None:
    import llvmlite

    sources.digest.cache_clear()
    before = sources.key_of(__name__, __file__)
    sources.digest.cache_clear()
    monkeypatch.setattr(llvmlite, "__version__", "0.0.1")
    assert sources.key_of(__name__, __file__) != before
    sources.digest.cache_clear()


def test_closures_are_compiled_and_not_kept() -> None:
    offset = 3

    @njit()
    def add(x):
        return x + offset

    assert add(1) == 4 and add.stats.cache_path is None


def test_the_option_cache_is_refused() -> None:
    with pytest.raises(TypeError, match="got the option 'cache'"):
        njit(cache=True)


def test_all_compiled_functions_are_kept_this_way() -> None:
    wrong = []
    for file in sorted((ROOT / "spheregeo").rglob("*.py")):
        if file.parent.name == "jit":
            continue
        text = file.read_text()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "numba":
                names = {alias.name for alias in node.names}
                wrong += [
                    f"{file.name}: {n}" for n in names & {"njit", "jit", "vectorize", "guvectorize", "cfunc"}
                ]
        wrong += [
            f"{file.name}: {m}" for m in re.findall(r"numba\.(?:n?jit|vectorize|guvectorize|cfunc)\b", text)
        ]
    assert not wrong, f"compiled by numba's own decorators: {wrong}"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_waits_until_the_compiler_is_free(toy: Path, cache: Path) -> None:
    code = """
import os, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
from numba.core.compiler_lock import global_compiler_lock
from toy.outer import outer
held, done = threading.Event(), []
def compile_slowly():
    with global_compiler_lock:
        held.set()
        done.append(threading.Event().wait(0.3))
thread = threading.Thread(target=compile_slowly)
thread.start()
held.wait()
child = os.fork()
if not child:
    os._exit(outer(2) if done else 1)  # compiles
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), outer(2.5))
"""
    assert python(code, toy, cache) == "42 52.0"


def test_one_line_where_compiling_takes_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = [0.0]
    monkeypatch.setattr(progress.time, "process_time", lambda: seconds[0])

    def compile_two(told: progress.Progress, folder: str | None) -> str:
        for name in ("outer", "second"):
            told.begin(name, folder)
            seconds[0] += 1
            told.begin("inner", folder)
            seconds[0] += 1.5
            told.end("inner", folder)
            told.end(name, folder)
            seconds[0] += 50  # kernels run meanwhile
        return capsys.readouterr().err

    told = progress.Progress(silent=False)
    err = compile_two(told, "/cache/version")
    assert told.functions == 4 and told.seconds == 5.0
    assert err.count("\n") == 1 and "keeping them in /cache; 1 done in 2 s, now outer" in err
    assert "for this process alone" in compile_two(progress.Progress(silent=False), None)
    assert not compile_two(progress.Progress(silent=True), None)
    quick = progress.Progress(silent=False)
    for _ in range(3):
        quick.begin("quick", None)
        seconds[0] += 0.5
        quick.end("quick", None)
    assert not capsys.readouterr().err
    failing = progress.Progress(silent=False)
    failing.begin("outer", None)
    failing.begin("fails", None)
    failing.end("outer", None)
    assert failing.functions == 1 and not failing._open
