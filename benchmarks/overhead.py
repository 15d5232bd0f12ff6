"""CPU time of one call of layers so small that Python and dispatch are all of it; of two checkouts in turn, if a second is named.

    python benchmarks/overhead.py                       # this checkout
    python benchmarks/overhead.py --against ../before   # and another one

Each checkout has a process of its own, with one thread; the two are called in turn, round by round, so that a slow minute of the
machine hits both alike. Columns are medians over the rounds, in microseconds, and their ratio, before over now.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[1]


def layers() -> dict[str, Callable[[], Any]]:
    """Small layers by name, each as a call; parameters of all and features take part in the backward pass."""
    import torch

    import spheregeo as sg
    from spheregeo.nn import EdgeGeometry

    torch.manual_seed(0)
    grid, ball = sg.grids.Equiangular(32, 64), sg.grids.Icosahedral(1)
    field, tangent = torch.randn(1, 4, *grid.shape), torch.randn(1, 3, *ball.shape)
    disco = sg.nn.DiscoConv(4, 4, grid)
    gauge = sg.nn.GaugeConv("1x0 + 1x1", "1x0 + 1x1", ball, radius=0.8)
    features, positions = torch.randn(8, 16), torch.randn(8, 3)
    edges = torch.stack([torch.randint(0, 8, (20,)), torch.randint(0, 8, (20,)).sort().values])
    geometry = EdgeGeometry.of(positions, edges)
    steerable = sg.nn.SteerableConv("4x0e + 4x1o", "4x0e + 4x1o", lmax=1)
    resample = sg.nn.Resample(ball, grid)
    molecule = sg.models.create("steerable-molecule", 10, 1, None).eval().requires_grad_(False)
    atoms, numbers, owner = (
        1.7 * torch.randn(9, 3),
        torch.randint(1, 9, (9,)),
        torch.zeros(9, dtype=torch.int64),
    )
    graph = molecule.neighbors(atoms, owner)
    inputs = [t.requires_grad_() for t in (field, tangent, features, atoms)]
    return {
        "DiscoConv, 32 x 64, 4 channels": lambda: disco(inputs[0]),
        "GaugeConv, 42 points": lambda: gauge(inputs[1]),
        "SteerableConv, 20 edges": lambda: steerable(inputs[2], positions, edges),
        "SteerableConv, 20 edges, shared geometry": lambda: steerable(inputs[2], geometry),
        "Resample, 42 points to 32 x 64": lambda: resample(inputs[1]),
        "steerable-molecule, 9 atoms, fixed weights": lambda: molecule(inputs[3], numbers, owner, graph, 1),
    }


def work(calls: int) -> None:
    """Answer each line on the standard input with one round of timings."""
    import torch

    torch.set_num_threads(1)
    made = layers()

    def forward(call: Callable[[], Any]) -> None:
        with torch.no_grad():
            call()

    def both(call: Callable[[], Any]) -> None:
        y = call()
        y.backward(y.detach())

    for _ in sys.stdin:
        found = {}
        for name, call in made.items():
            for kind, run in (("forward", forward), ("forward and backward", both)):
                for _ in range(3):
                    run(call)
                start = time.process_time()
                for _ in range(calls):
                    run(call)
                found[f"{name}: {kind}"] = 1e6 * (time.process_time() - start) / calls
        print(json.dumps(found), flush=True)


def start(checkout: Path, calls: int) -> subprocess.Popen[str]:
    """A process that measures a checkout."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    command = [sys.executable, __file__, "--worker", "--calls", str(calls)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = {**os.environ, **threads, "PYTHONPATH": str(checkout)}
    return subprocess.Popen(command, env=environment, cwd=checkout, **pipes)


def ask(worker: subprocess.Popen[str]) -> dict[str, float]:
    """One round of a worker."""
    pipes: tuple[IO[str], IO[str]] = (worker.stdin, worker.stdout)  # type: ignore[assignment]
    print("go", file=pipes[0], flush=True)
    line = pipes[1].readline()
    if not line:
        raise SystemExit(f"a worker ended with exit status {worker.wait()}")
    found: dict[str, float] = json.loads(line)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, help="another checkout of the project")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--calls", type=int, default=200, help="calls a round")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.calls)
        return
    checkouts = [ROOT, *([arguments.against.resolve()] if arguments.against else [])]
    workers = [start(checkout, arguments.calls) for checkout in checkouts]
    for worker in workers:
        ask(worker)  # compiles, fills caches
    rounds = [[ask(worker) for worker in workers] for _ in range(arguments.rounds)]
    print(
        f"{'microseconds of CPU time for one call':<66}{'now':>8}"
        + ("  before   ratio" if arguments.against else "")
    )
    for name in rounds[0][0]:
        now, *before = (statistics.median(r[i][name] for r in rounds) for i in range(len(workers)))
        compared = f"{before[0]:8.0f}{before[0] / now:8.2f}" if before else ""
        print(f"{name:<66}{now:8.0f}{compared}")


if __name__ == "__main__":
    main()
