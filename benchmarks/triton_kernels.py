"""What the compiler makes of the Triton engine's kernels, without a GPU: registers, spills, shared memory, instructions.

    python benchmarks/triton_kernels.py [--kernel NAME] [--markdown]

Each kernel is compiled for compute capabilities 8.0 and 9.0 as a launch with 64 channels would compile it, and the machine code
is read with the tools that come with triton. Rows go to ``benchmarks/results/kernels/triton.csv``; ``--markdown`` prints them
as a table instead.
"""

from __future__ import annotations

import argparse
import csv
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ARCHITECTURES = (80, 90)
RESULTS = Path(__file__).parent / "results" / "kernels" / "triton.csv"
COLUMNS = (
    "kernel",
    "architecture",
    "registers",
    "spills",
    "shared_bytes",
    "loads_16_byte",
    "loads",
    "tensor_core",
    "fma",
    "atomics",
)


class Case(NamedTuple):
    """A kernel as one launch specialises it: types and values of its arguments in order."""

    name: str
    kernel: Any
    types: dict[str, str]
    constants: dict[str, Any]
    unaligned: frozenset[str] = frozenset()  # numbers that are no multiples of 16
    warps: int = 4
    stages: int = 2
    aligned: bool = True  # whether features are contiguous where it reads them, so that 16 bytes go at once


def cases() -> Iterator[Case]:
    """Every kernel, features of 64 channels, 9 functions."""
    from spheregeo.sparse.engines.triton.kernels import mix, weights
    from spheregeo.sparse.engines.triton.linear import PRODUCTS
    from spheregeo.sparse.engines.triton.runtime import tiles

    csr = dict.fromkeys(("row", "begin", "start", "length", "indices"), "*i32")
    rings = dict.fromkeys(("indptr", "source", "step", "shift", "base", "stride"), "*i32")
    sizes = dict.fromkeys(("rows", "M", "P", "Q", "C", "O", "groups", "batches"), "i32")
    odd = frozenset({"groups", "batches", "rows"})
    loops = {
        "csr_mix": mix.csr_mix,
        "ring_mix": mix.ring_mix,
        "csr_weights": weights.csr_weights,
        "ring_weights": weights.ring_weights,
    }
    modes = [(kind, 0) for kind in ("ieee", "tf32x3", "tf32", "low")] + [("depthwise", 1), ("apart", 2)]
    for name, kernel in loops.items():
        for kind, mode in modes:
            if mode == 2 and name.endswith("weights"):
                continue
            product = "ieee" if mode else kind
            x = "*bf16" if kind == "low" else "*fp32"
            tensors = {"x": x, "g": x, "y": x, "w": "*fp32" if mode else x, "table": "*fp32", "sums": "*fp32"}
            own = tiles(name, product, 64, 64)
            constants = {"K": 9, "PASSES": 3, "N": 3, "MODE": mode, "WIDE": False, "PRECISION": PRODUCTS[product],
                         "BP": own.points, "BJ": own.points, "BC": own.channels, "BO": own.outputs}  # fmt: skip
            label = f"{name} {'bfloat16' if kind == 'low' else kind}"
            types = tensors | csr | rings | sizes
            yield Case(label, kernel, types, constants, odd, own.warps, aligned="csr" in name)

    yield from _pairs()
    from spheregeo.sampling.points import _farthest_triton

    whole = dict.fromkeys(("chosen", "bounds", "counts", "places", "first"), "*i64")
    types = dict.fromkeys(("points", "far", "tolerance"), "*fp64") | whole
    fixed = {"SHARE": 2.0**-10, "BLOCK": _farthest_triton.BLOCK}
    yield Case("farthest", _farthest_triton.farthest, types, fixed, warps=8, aligned=False)


def _pairs() -> Iterator[Case]:
    """Loops over pairs: 64 channels of l = 2, 11 functions."""
    from spheregeo.sparse.engines.triton.kernels import pairs

    places = dict.fromkeys(("place", "paths"), "*i64") | dict.fromkeys(
        ("indptr", "source", "target", "order", "row_of"), "*i32"
    )
    sizes = dict.fromkeys(("x_row", "x_step", "a_row", "w_row", "C", "row0", "first", "last"), "i32")
    loops = (pairs.pairs_sum, pairs.pairs_back, pairs.pairs_slope, pairs.pairs_weights)
    for kernel in loops:
        for number, kind in enumerate(("none", "shared", "channel")):
            if kernel is pairs.pairs_weights and not number:
                continue
            for label, x in (("", "*fp32"), (" bfloat16", "*bf16")):
                if label and kind != "channel":
                    continue
                tensors = {
                    "x": x,
                    "g": x,
                    "z": x,
                    "gx": x,
                    "a": "*fp32",
                    "w": "*fp32",
                    "ga": "*fp32",
                    "gw": "*fp32",
                }
                constants = {"F": 11, "D": 5, "HEADS": 4 if kind == "shared" else 1, "KIND": number, "MAPPED": False,
                             "PLACED": True, "AGAIN": False, "VECTOR": True, "BF": 16, "BD": 8, "BC": 64}  # fmt: skip
                tile = {"pairs_back": 8, "pairs_weights": 1}.get(kernel.fn.__name__, 16) * 64
                odd = frozenset({"a_row", "row0", "first", "last"})
                name = f"{kernel.fn.__name__} {kind}{label}"
                wide = name.startswith(("pairs_sum channel", "pairs_slope"))
                warps = max(1, min(4, tile // 256))
                yield Case(name, kernel, tensors | places | sizes, constants, odd, warps, aligned=wide)


def compiled(case: Case, architecture: int) -> dict[str, Any]:
    """Compile a kernel and read its machine code."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature, attributes = {}, {}
    for place, name in enumerate(case.kernel.arg_names):
        signature[name] = case.types.get(name, "constexpr")
        if name in case.types and name not in case.unaligned:
            attributes[place,] = [["tt.divisibility", 16]]
    constants = {name: case.constants[name] for name, kind in signature.items() if kind == "constexpr"}
    source = ASTSource(case.kernel, signature, constants, attributes)
    options = {"num_warps": case.warps, "num_stages": case.stages}
    made = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        usage = _tool("cuobjdump", "--dump-resource-usage", file.name)
        code = _tool("nvdisasm", "-c", file.name)
    numbers = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", usage))

    def count(pattern: str) -> int:
        return len(re.findall(pattern, code))

    return {
        "kernel": case.name,
        "architecture": f"sm_{architecture}",
        "registers": int(numbers["REG"]),
        "spills": count(r"\b(?:STL|LDL)\b") + int(numbers["LOCAL"]),
        "shared_bytes": made.metadata.shared,
        "loads_16_byte": count(r"\b(?:LDG|LDGSTS)\.E\.(?:\w+\.)*128"),
        "loads": count(r"\b(?:LDG|LDGSTS)\b"),
        "tensor_core": count(r"\b(?:HMMA|HGMMA)\b"),
        "fma": count(r"\bFFMA"),
        "atomics": count(r"\b(?:ATOM|ATOMG|RED)\b"),
    }


def _tool(name: str, *arguments: str) -> str:
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name
    return subprocess.run([tool, *arguments], capture_output=True, text=True, check=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--kernel", default="", help="only those whose name contains this; nothing is written"
    )
    parser.add_argument("--markdown", action="store_true", help="print a table of what is on file")
    options = parser.parse_args()
    if options.markdown:
        with RESULTS.open() as file:
            rows = list(csv.DictReader(file))
        print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
        for row in rows:
            print("| " + " | ".join(row[c] for c in COLUMNS) + " |")
        return
    made = []
    for case in cases():
        if options.kernel in case.name:
            for architecture in ARCHITECTURES:
                made.append(compiled(case, architecture))
                print(*(f"{key}={value}" for key, value in made[-1].items()), flush=True)
    if not options.kernel:
        with RESULTS.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(made)


if __name__ == "__main__":
    main()
