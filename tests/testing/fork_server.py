"""Programs in processes of their own that begin with other people's packages imported: a fork in place of seconds of imports.

A server imports the packages once and forks for each program. Of ours nothing is imported beforehand, so that a program
finds what it would find in a new interpreter. Where that is the question (what an import loads, what an environment variable
changes), a test starts an interpreter. So does the server itself where forks of such a process are not safe: not on Linux.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

PACKAGES = (
    *("torch", "torch._dynamo", "torch.distributed.tensor", "torch.utils.data", "torch.fx.experimental.symbolic_shapes"),
    *("numpy", "scipy.linalg", "scipy.optimize", "scipy.sparse.linalg", "scipy.spatial", "scipy.special", "scipy.signal"),
    *("numba", "e3nn.o3", "e3nn.nn", "healpy", "trimesh", "lightning.pytorch", "torchmetrics", "torchmetrics.classification"),
    *("jsonargparse", "matplotlib.pyplot", "matplotlib.figure", "ase.io", "h5py", "PIL.Image", "tqdm", "safetensors.torch"),
)  # fmt: skip
FORKS = sys.platform == "linux"
FIXED = ("OMP_", "MKL_", "MPL", "TORCH", "KMP_")  # variables that packages read when they are imported


class ForkServer:
    """Starts Python programs as ``subprocess.run`` does with captured text, in forks of one process that imported packages."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0
        self.environment = {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
        self._process: subprocess.Popen[str] | None = None
        self._started: dict[int, tuple[list[str], Path, Path]] = {}
        self._own: dict[int, subprocess.Popen[bytes]] = {}  # where nothing is forked

    def run(
        self, words: list[str], cwd: Path | None = None, timeout: float = 560.0, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run ``python WORDS`` to its end: ``start`` and ``finish``.

        Args:
            words: arguments of the interpreter: ``-W`` filters, then ``-c`` and code, ``-m`` and a module, or a file.
            cwd: folder to run in; the current one by default.
            timeout: seconds after which the program is killed.
            environment: variables beside those of this process; none that packages read when they are imported.
        """
        return self.finish(self.start(words, cwd, **environment), timeout)

    def start(self, words: list[str], cwd: Path | None = None, **environment: str) -> int:
        """Start ``python WORDS``; returns the number of its process. Arguments are those of ``run``."""
        assert not any(name.startswith(FIXED) for name in environment), environment
        out, errors = (str(self.folder / f"{self.count}.{kind}") for kind in ("out", "err"))
        self.count += 1
        place, variables = str(cwd or Path.cwd()), {**os.environ, **self.environment, **environment}
        if FORKS:
            pid: int = self._ask(words=words, cwd=place, environment=variables, files=[out, errors])["pid"]
        else:
            with open(out, "wb") as stdout, open(errors, "wb") as stderr:
                command = [sys.executable, *words]
                process = subprocess.Popen(command, cwd=place, env=variables, stdout=stdout, stderr=stderr)
            pid = process.pid
            self._own[pid] = process
        self._started[pid] = words, Path(out), Path(errors)
        return pid

    def finish(self, pid: int, timeout: float = 560.0) -> subprocess.CompletedProcess[str]:
        """Wait for the end of a program that was started."""
        words, out, errors = self._started.pop(pid)
        if pid in self._own:
            code: int | None = self._own.pop(pid).wait(timeout)
        else:
            code = self._ask(wait=pid, timeout=timeout)["code"]
        if code is None:
            raise subprocess.TimeoutExpired(words, timeout, out.read_text(), errors.read_text())
        return subprocess.CompletedProcess(words, code, out.read_text(), errors.read_text())

    def _ask(self, **request: Any) -> dict[str, Any]:
        if self._process is None:
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(
                [sys.executable, __file__],
                stdin=pipe,
                stdout=pipe,
                text=True,
                env={**os.environ, **self.environment},
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """End the server."""
        if self._process is not None:
            self._process.communicate()


def serve() -> dict[str, Any]:
    """Answer requests; return one in the process that was forked for it, and end the server's process with its input."""
    answers = os.fdopen(os.dup(1), "w")
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    while line := sys.stdin.readline():
        request: dict[str, Any] = json.loads(line)
        if "wait" in request:
            answer: dict[str, Any] = {"code": wait(request["wait"], request["timeout"])}
        elif pid := os.fork():
            answer = {"pid": pid}
        else:
            answers.close()
            return request
        print(json.dumps(answer), file=answers, flush=True)
    sys.exit()


def wait(pid: int, timeout: float) -> int | None:
    """The exit code of a child; None, and its end, after a time."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def become(request: dict[str, Any], inherited: list[str]) -> None:
    """Make this process what a new interpreter with the request's arguments would be, and run its program."""
    import runpy
    import tempfile
    import warnings

    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    for number, name in enumerate(request["files"], 1):
        with open(name, "w") as file:
            os.dup2(file.fileno(), number)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    tempfile.tempdir = None
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    if "numba" in sys.modules:
        sys.modules["numba"].config.reload_config()
    words = request["words"]
    while words[0] == "-W":
        action, _, category, module = words[1].split(":")
        warnings.filterwarnings(action, category=vars(__builtins__)[category], module=rf"{module}\Z")  # type: ignore[arg-type]
        words = words[2:]
    kind, program = (words[0], words[1]) if words[0] in ("-c", "-m") else ("", words[0])
    first = {"-c": "", "-m": os.getcwd(), "": str(Path(program).resolve().parent)}[kind]
    theirs = [place for place in request["environment"].get("PYTHONPATH", "").split(os.pathsep) if place]
    sys.path[:] = [first, *theirs, *inherited]
    importlib.invalidate_caches()
    sys.argv = [kind or program, *words[2 if kind else 1 :]]
    if kind == "-m":
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    elif kind == "-c":
        main = type(sys)("__main__")
        sys.modules["__main__"] = main
        exec(compile(program, "<string>", "exec"), vars(main))
    else:
        runpy.run_path(program, run_name="__main__")


_gates: list[int] = []


def later(words: list[str]) -> Callable[[], int]:
    """Fork now, while nothing of ours is imported, for a command line that runs later.

    Args:
        words: arguments of ``spheregeo``.

    Returns:
        a function that lets the command run to its end, without its output, and gives its exit code.
    """
    if not FORKS:
        command = [sys.executable, "-m", "spheregeo", *words]
        return lambda: subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(reading)
        _gates.append(writing)

        def now() -> int:
            os.write(writing, b".")
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

        return now
    for gate in (*_gates, writing):
        os.close(gate)
    if not os.read(reading, 1):  # the process that would have asked has ended
        os._exit(0)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    from spheregeo.cli import main

    sys.argv = ["spheregeo", *words]
    sys.exit(main(words))


if __name__ == "__main__":
    for package in PACKAGES:
        with suppress(ImportError):
            importlib.import_module(package)
    gc.collect()
    gc.freeze()  # else each program would walk all of it when it ends, and copy its pages
    paths = {os.path.abspath(place) for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place}
    here = str(Path(__file__).resolve().parent)
    become(serve(), [place for place in sys.path if place not in {here, *paths}])
