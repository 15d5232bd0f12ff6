"""Time spheregeo's layers beside their peers and keep the rows in a CSV for each kind of machine.

Each configuration is timed in one fresh process with all its libraries called in turn; memory is measured in a fresh process for
each library. See README.md in this folder for what the columns mean.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--case", action="append", help="name of a case; may be given more than once (default: all)"
    )
    parser.add_argument("--grid", default="", help="only configurations whose grid contains this text")
    parser.add_argument("--kernel", default="", help="only configurations whose kernel contains this text")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=21, help="calls of each library; the median is kept")
    parser.add_argument("--out", type=Path, help="result file (default: results/<machine>.csv)")
    parser.add_argument(
        "--no-memory", action="store_true", help="leave out the processes that measure memory"
    )
    parser.add_argument("--list", action="store_true", help="list the configurations and stop")
    parser.add_argument("--child", nargs=3, metavar=("WHAT", "NAME", "INDEX"), help=argparse.SUPPRESS)
    return parser.parse_args()


def child(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure one thing in this process."""
    import torch

    from cases import load
    from measure import interleave, peak_mib

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    what, name, index = arguments.child
    configuration = load(name)[int(index)]
    if what == "time":
        works = {library: build() for library, build in configuration.builders.items()}
        if configuration.check:
            configuration.check(works)
        timings = interleave(list(works.values()), arguments.repeats)
        found: dict[str, Any] = {library: vars(t) for library, t in zip(works, timings, strict=True)}
        found["nnz"] = configuration.count()
        return found

    import psutil

    small = configuration.small.builders[what]()  # loads libraries and compiles, outside the count
    small.both()
    with torch.no_grad():
        small.forward()
    base = psutil.Process().memory_info().rss
    made = []
    start = time.perf_counter()
    build_mib = peak_mib(lambda: made.append(configuration.builders[what]()), base)
    build_s = time.perf_counter() - start

    def train() -> None:
        made[0].both()
        made[0].both()

    return {"build_s": build_s, "build_mib": build_mib, "peak_mib": peak_mib(train, base)}


def in_a_fresh_process(arguments: argparse.Namespace, what: str, name: str, index: int) -> dict[str, Any]:
    threads = str(arguments.threads)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "NUMBA_NUM_THREADS": threads,
    }
    command = [sys.executable, str(HERE / "run.py"), "--child", what, name, str(index)]
    command += ["--threads", threads, "--repeats", str(arguments.repeats)]
    run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if run.returncode:
        raise SystemExit(f"{name} configuration {index} ({what}) failed with exit status {run.returncode}")
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


def rows_of(arguments: argparse.Namespace, name: str, index: int, configuration: Any) -> list[dict[str, str]]:
    """Measure one configuration; one row for each library, ours first."""
    from table import COLUMNS, cpu, machine, versions

    timed = in_a_fresh_process(arguments, "time", name, index)
    nnz = timed.pop("nnz")
    for library in timed:
        if not arguments.no_memory:
            timed[library] |= in_a_fresh_process(arguments, library, name, index)
    ours = timed["spheregeo"]
    rows = []
    for library, found in timed.items():
        numbers: dict[str, float | None] = dict(found)
        numbers["pixels"], numbers["nnz"] = configuration.pixels, nnz
        per_second = 1e6 * found["both_ms"] / configuration.batch
        numbers["ns_per_pixel"] = per_second / configuration.pixels
        numbers["ns_per_nonzero"] = per_second / nnz if nnz else None
        if "peak_mib" in found:
            numbers["bytes_per_pixel"] = (
                found["peak_mib"] * 2**20 / configuration.pixels / configuration.batch
            )
        if library == "spheregeo" and len(timed) > 1:
            peer = next(other for key, other in timed.items() if key != "spheregeo")
            numbers["time_ratio"] = peer["both_ms"] / ours["both_ms"]
            if "peak_mib" in peer:
                numbers["memory_ratio"] = peer["peak_mib"] / max(ours["peak_mib"], 0.1)
        row = dict.fromkeys(COLUMNS, "") | versions() | configuration.labels()
        row |= {"date": datetime.date.today().isoformat(), "machine": machine(), "cpu": cpu()}
        row |= {"threads": str(arguments.threads), "library": library}
        row |= {
            key: f"{value:.4g}" if isinstance(value, float) else str(value)
            for key, value in numbers.items()
            if value
        }
        rows.append(row)
    return rows


def main() -> None:
    arguments = parse()
    if arguments.child:
        print(json.dumps(child(arguments)))
        return
    from cases import load, names
    from table import machine, merge, show

    unknown = set(arguments.case or []) - set(names())
    if unknown:
        raise SystemExit(f"unknown case {', '.join(sorted(unknown))}; there are {', '.join(names())}")
    out = arguments.out or HERE / "results" / f"{machine()}.csv"
    for name in arguments.case or names():
        for index, configuration in enumerate(load(name)):
            labels = configuration.labels()
            if arguments.grid not in labels["grid"] or arguments.kernel not in labels["kernel"]:
                continue
            line = (
                " ".join(labels[key] for key in ("case", "grid", "kernel", "dtype"))
                + f" C={labels['channels']}"
            )
            print(f"{line}: {', '.join(configuration.builders)}", flush=True)
            if arguments.list:
                continue
            rows = rows_of(arguments, name, index, configuration)
            changes = merge(out, rows)  # after each configuration: a stopped run keeps what it has
            print(show(rows), *(f"changed: {change}" for change in changes), "", sep="\n", flush=True)
    if not arguments.list:
        print(f"rows are in {out}")


if __name__ == "__main__":
    main()
