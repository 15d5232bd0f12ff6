"""The GPU benchmark: one command, under nine minutes, a CSV of rows; blocks are skipped when less than a minute is left.

    python benchmarks/gpu.py [--output FILE] [--seconds 540] [--block NAME ...] [--dry]

Every block times its contestants in one process and in turn, and writes medians: ``triton`` and ``torch`` are engines of the
sparse backend, ``torch-harmonics`` and ``e3nn`` are peers that take part where they are installed. ``--dry`` runs all at tiny
sizes on a CPU, so that a test can see that nothing is broken; its times mean nothing.
"""

from __future__ import annotations

import argparse
import csv
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import spheregeo as sg
from spheregeo.grids import Equiangular, HEALPix

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = ("block", "case", "who", "precision", "what", "milliseconds", "peak_mib", "note")
LEAST = 60.0  # seconds that a block wants
PRECISIONS = {"float32": "highest", "high": "high", "bfloat16": "highest"}


class Run:
    """Where the run stands: device, time left, rows written so far."""

    def __init__(self, output: Path, seconds: float, dry: bool) -> None:
        self.end, self.dry, self.output = time.monotonic() + seconds, dry, output
        self.device = torch.device("cpu" if dry else "cuda")
        self.repeats = 1 if dry else 20
        self.failures = 0
        output.parent.mkdir(parents=True, exist_ok=True)
        with output.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(COLUMNS)

    def left(self) -> float:
        """Seconds until the end."""
        return self.end - time.monotonic()

    def row(self, *values: object) -> None:
        """Write and print one row."""
        row = [f"{v:.4g}" if isinstance(v, float) else str(v) for v in values]
        row += [""] * (len(COLUMNS) - len(row))
        with self.output.open("a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(row)
        print(" ".join(value for value in row if value), flush=True)

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def once(self, call: Callable[[], object]) -> float:
        """Milliseconds of one call."""
        if self.device.type != "cuda":
            begun = time.perf_counter()
            call()
            return 1e3 * (time.perf_counter() - begun)
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        torch.cuda.synchronize()
        return float(begin.elapsed_time(end))

    def compare(
        self, block: str, case: str, precision: str, what: str, calls: dict[str, Callable[[], object]]
    ) -> None:
        """Time contestants in turn; one that fails is named and left out."""
        times: dict[str, list[float]] = {}
        peaks: dict[str, float] = {}
        for who, call in calls.items():
            if self.left() < LEAST / 4:
                return
            try:
                call()  # compiles
                self.wait()
                if self.device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                    before = torch.cuda.memory_allocated()
                call()
                self.wait()
                if self.device.type == "cuda":
                    peaks[who] = (torch.cuda.max_memory_allocated() - before) / 2**20
                times[who] = []
            except Exception as error:
                self.failures += 1
                self.row(
                    block,
                    case,
                    who,
                    precision,
                    what,
                    "",
                    "",
                    f"failed: {type(error).__name__}: {error}"[:200],
                )
        for _ in range(self.repeats):
            for who in times:
                if self.left() < LEAST / 4:
                    break
                times[who].append(self.once(calls[who]))
        for who, found in times.items():
            if found:
                self.row(block, case, who, precision, what, statistics.median(found), peaks.get(who, ""))


def passes(
    layer: Callable[..., Tensor], inputs: Sequence[Tensor], leaves: Sequence[Tensor]
) -> dict[str, Callable[[], object]]:
    """Forward without autograd, and forward with backward to ``leaves``."""

    def forward() -> Tensor:
        with torch.no_grad():
            return layer(*inputs)

    def both() -> Sequence[Tensor]:
        y = layer(*inputs)
        return torch.autograd.grad(y, leaves, torch.ones_like(y), allow_unused=True)

    return {"forward": forward, "both": both}


def engines(run: Run) -> tuple[str, ...]:
    """Engines that are compared."""
    return ("torch", "cpu") if run.dry else ("triton", "torch")


def machine(run: Run) -> None:
    """Versions, bandwidth of copies, the rate of matrix products: what other rows are to be measured by."""
    versions = {
        name: getattr(sys.modules.get(name) or __import__(name), "__version__", "")
        for name in ("torch", "numpy")
    }
    if find_spec("triton"):
        import triton

        versions["triton"] = triton.__version__
    name = "CPU" if run.dry else torch.cuda.get_device_name()
    run.row("machine", name, "", "", "versions", "", "", " ".join(f"{k} {v}" for k, v in versions.items()))
    size = 1 << (12 if run.dry else 29)
    a = torch.zeros(size, device=run.device)
    b = torch.empty_like(a)
    b.copy_(a)
    took = statistics.median(run.once(lambda a=a, b=b: b.copy_(a)) for _ in range(run.repeats))
    run.row("machine", name, "copy", "float32", f"{8e-9 * size / took:.3g} TB/s", took)
    del a, b
    side = 64 if run.dry else 8192
    for precision, switch in PRECISIONS.items():
        torch.set_float32_matmul_precision(switch)
        m = torch.randn(
            side, side, device=run.device, dtype=torch.bfloat16 if precision == "bfloat16" else torch.float32
        )
        m @ m
        took = statistics.median(run.once(lambda m=m: m @ m) for _ in range(run.repeats))
        run.row("machine", name, "gemm", precision, f"{2e-9 * side**3 / took:.3g} TFLOP/s", took)
    torch.set_float32_matmul_precision("highest")


def checks(run: Run) -> None:
    """The tests that are marked for a GPU, so that what is timed is also right."""
    if run.dry:
        run.row("checks", "pytest -m gpu", "", "", "skipped: needs a CUDA device")
        return
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-n",
        "0",
        "-q",
        "-x",
        "-m",
        "gpu",
        str(ROOT / "tests" / "sparse" / "test_triton.py"),
    ]
    done = subprocess.run(
        words, capture_output=True, text=True, cwd=ROOT, timeout=min(120.0, run.left()), check=False
    )
    told = (done.stdout.strip().splitlines() or [""])[-1]
    run.failures += done.returncode != 0
    run.row("checks", "pytest -m gpu", "", "", "passed" if done.returncode == 0 else "FAILED", "", "", told)
    print(done.stdout[-3000:] if done.returncode else "", flush=True)


def disco(run: Run) -> None:
    """DISCO at three sizes and three precisions, beside torch-harmonics, and on HEALPix."""
    sizes = [(8, 16, 4)] if run.dry else [(180, 360, 64), (360, 720, 64), (360, 720, 256)]
    for nlat, nlon, channels in sizes:
        cutoff = 3 * math.pi / (nlat - 1)
        grid = Equiangular(nlat, nlon, poles=True)
        kernel = sg.kernels.Morlet(3, 3)
        layers: dict[str, nn.Module] = {
            name: sg.nn.DiscoConv(channels, channels, grid, kernel=kernel, radius=cutoff, engine=name)
            for name in engines(run)
        }
        layers |= _torch_harmonics(nlat, nlon, channels, cutoff)
        _layers(run, "disco", f"{nlat}x{nlon} C{channels}", layers, (1, channels, nlat, nlon))
    side, channels = (2, 4) if run.dry else (128, 64)
    healpix = HEALPix(side)
    layers = {name: sg.nn.DiscoConv(channels, channels, healpix, engine=name) for name in engines(run)}
    _layers(run, "disco", f"HEALPix {side} C{channels}", layers, (1, channels, healpix.num_points))


def _torch_harmonics(nlat: int, nlon: int, channels: int, cutoff: float) -> dict[str, nn.Module]:
    if not find_spec("torch_harmonics"):
        return {}
    from torch_harmonics import DiscreteContinuousConvS2

    shape = (nlat, nlon)
    make = lambda: DiscreteContinuousConvS2(  # noqa: E731
        channels,
        channels,
        shape,
        shape,
        kernel_shape=(3, 3),
        basis_type="harmonic",
        theta_cutoff=cutoff,
        bias=False,
    )
    return {"torch-harmonics": make()}


def _layers(run: Run, block: str, case: str, layers: dict[str, nn.Module], shape: tuple[int, ...]) -> None:
    for precision, switch in PRECISIONS.items():
        torch.set_float32_matmul_precision(switch)
        low = precision == "bfloat16"
        every: dict[str, dict[str, Callable[[], object]]] = {"forward": {}, "both": {}}
        for name, layer in layers.items():
            layer.to(run.device)
            x = torch.randn(shape, device=run.device, requires_grad=True)

            def call(x: Tensor, layer: nn.Module = layer, low: bool = low) -> Tensor:
                with torch.autocast(run.device.type, torch.bfloat16) if low else nullcontext():
                    y: Tensor = layer(x.bfloat16() if low else x)
                return y

            for what, f in passes(call, (x,), (x, *layer.parameters())).items():
                every[what][name] = f
        for what, calls in every.items():
            run.compare(block, case, precision, what, calls)
    torch.set_float32_matmul_precision("highest")


def pairs(run: Run) -> None:
    """Steerable layers by products, depthwise and in edge frames, with gradients of features and positions."""
    graphs = [(40, 200)] if run.dry else [(10_000, 200_000), (100_000, 2_000_000)]
    for points, edges in graphs:
        for lmax, channels in ((1, 4),) if run.dry else ((2, 64), (4, 64)):
            if lmax == 4 and edges > 1_000_000:
                continue
            irreps = " + ".join(f"{channels}x{l}{'eo'[l % 2]}" for l in range(lmax + 1))
            draw = torch.Generator().manual_seed(0)
            target = torch.arange(points).repeat_interleave(edges // points)
            index = torch.stack([torch.randint(0, points, (len(target),), generator=draw), target]).to(
                run.device
            )
            positions = torch.randn(points, 3, generator=draw).to(run.device).requires_grad_()
            x = (
                torch.randn(points, channels * (lmax + 1) ** 2, generator=draw)
                .to(run.device)
                .requires_grad_()
            )
            h = torch.randn(len(target), 8, generator=draw).to(run.device)
            kinds: dict[str, dict[str, Any]] = {
                "depthwise": {"edge_dim": 8, "depthwise": True, "method": "product"},
                "product": {"method": "product"},
                "so2": {"method": "so2"},
            }
            for kind, options in kinds.items():
                calls: dict[str, dict[str, Callable[[], object]]] = {"forward": {}, "both": {}}
                for name in engines(run):
                    layer = sg.nn.SteerableConv(irreps, irreps, lmax=lmax, engine=name, **options).to(
                        run.device
                    )
                    given = {"edge_features": h} if "edge_dim" in options else {}

                    call = partial(layer, edge_index=index, **given)
                    for what, f in passes(call, (x, positions), (x, positions, *layer.parameters())).items():
                        calls[what][name] = f
                for what, own in calls.items():
                    run.compare("pairs", f"{kind} l{lmax} C{channels} {edges} edges", "float32", what, own)


def others(run: Run) -> None:
    """Gauge layers, Wigner matrices, harmonics, neighbours and farthest points."""
    side, number = (2, 40) if run.dry else (64, 100_000)
    grid = HEALPix(side)
    layers: dict[str, nn.Module] = {
        name: sg.nn.GaugeConv("16x0 + 16x1 + 16x2", "16x0 + 16x1 + 16x2", grid, engine=name)
        for name in engines(run)
    }
    for layer in layers.values():
        layer.to(run.device)
    calls: dict[str, dict[str, Callable[[], object]]] = {"forward": {}, "both": {}}
    x = torch.randn(1, 80, grid.num_points, device=run.device, requires_grad=True)
    for name, layer in layers.items():
        for what, f in passes(layer, (x,), (x, *layer.parameters())).items():
            calls[what][name] = f
    for what, own in calls.items():
        run.compare("others", f"gauge HEALPix {side}", "float32", what, own)
    vectors = torch.randn(number, 3, device=run.device, requires_grad=True)
    contestants: dict[str, Callable[[Tensor], Tensor]] = {
        "spheregeo": lambda v: sg.harmonics.component_harmonics(v, 4)
    }
    if find_spec("e3nn"):
        from e3nn import o3

        contestants["e3nn"] = lambda v: o3.spherical_harmonics(list(range(5)), v, True, "component")
    for what in ("forward", "both"):
        own = {name: passes(f, (vectors,), (vectors,))[what] for name, f in contestants.items()}
        run.compare("others", f"harmonics l4 {number}", "float32", what, own)
    cloud = torch.rand(number, 3, generator=torch.Generator().manual_seed(0)).to(run.device)
    batch = torch.arange(number, device=run.device) // max(1, number // 4)
    searches = {
        "16 nearest": lambda: sg.sampling.knn_graph(cloud, 16),
        "radius": lambda: sg.sampling.radius_graph(cloud, 0.03),
        "128 farthest of 4 clouds": lambda: sg.sampling.farthest_points(cloud, 8 if run.dry else 128, batch),
    }
    for name, f in searches.items():
        run.compare("others", f"{name} of {number}", "float32", "forward", {"spheregeo": f})


def steps(run: Run) -> None:
    """Training steps of a spherical U-Net: eager, compiled, and as a CUDA graph."""
    size = (16, 32) if run.dry else (256, 512)
    network = "sphere-unet-small" if run.dry else "sphere-unet-base"
    model = sg.models.create(network, 3, 8, Equiangular(*size)).to(run.device)
    x = torch.randn(1, 3, *size, device=run.device)
    parameters = list(model.parameters())

    def step(f: Callable[[Tensor], Tensor] = model) -> None:
        y = f(x)
        for p, g in zip(parameters, torch.autograd.grad(y.square().mean(), parameters), strict=True):
            p.grad = g

    calls: dict[str, Callable[[], object]] = {"eager": step}
    if not run.dry:
        compiled = torch.compile(model)
        calls["torch.compile"] = lambda: step(compiled)
        step()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                step()
            calls["CUDA graph"] = graph.replay
        except RuntimeError as error:
            run.failures += 1
            run.row("steps", network, "CUDA graph", "float32", "step", "", "", f"failed: {error}"[:200])
    run.compare("steps", network, "float32", "step", calls)


BLOCKS: dict[str, Callable[[Run], None]] = {
    "machine": machine,
    "checks": checks,
    "disco": disco,
    "pairs": pairs,
    "others": others,
    "steps": steps,
}


def main(words: Sequence[str] | None = None) -> int:
    """Run the blocks; the exit status is 1 if anything failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--output", type=Path, default=None, help="CSV to write; by default results/gpu-NAME.csv"
    )
    parser.add_argument("--seconds", type=float, default=540.0, help="time for everything")
    parser.add_argument("--block", choices=list(BLOCKS), nargs="*", default=list(BLOCKS), help="only these")
    parser.add_argument("--dry", action="store_true", help="tiny sizes on a CPU")
    options = parser.parse_args(words)
    if not options.dry and not torch.cuda.is_available():
        print("torch sees no CUDA device; --dry runs the blocks at tiny sizes on a CPU")
        return 2
    name = "dry" if options.dry else torch.cuda.get_device_name().replace(" ", "-").lower()
    run = Run(
        options.output or Path(__file__).parent / "results" / f"gpu-{name}.csv", options.seconds, options.dry
    )
    for block in options.block:
        if run.left() < LEAST:
            run.row(block, "", "", "", "skipped: out of time")
            continue
        try:
            BLOCKS[block](run)
        except Exception as error:
            run.failures += 1
            run.row(block, "", "", "", "failed", "", "", f"{type(error).__name__}: {error}"[:300])
    return int(run.failures > 0)


if __name__ == "__main__":
    sys.exit(main())
