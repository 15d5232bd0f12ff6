"""``spheregeo export``: a trained model as files for other places."""

from __future__ import annotations

import argparse

from spheregeo.cli.commands import add_trust

SUMMARY = "write a trained model as safetensors with a card, a torch.export program, ONNX, or a compiled force field"
OVERRIDES = False
KINDS = ("safetensors", "torch-export", "onnx", "aot-inductor")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command to its parser."""
    parser.add_argument(
        "run",
        metavar="RUN",
        help="folder of a run, recipe with a run in runs/, checkpoint, or exported model",
    )
    parser.add_argument("--to", choices=KINDS, default=KINDS[0], help="kind of file (default: safetensors)")
    parser.add_argument("--output", metavar="DIR", required=True, help="folder of the model, new or empty")
    parser.add_argument(
        "--license", metavar="ID", help="licence of the weights as the hub writes it, such as mit"
    )
    parser.add_argument("--about", metavar="TEXT", help="what the model does, for its card")
    parser.add_argument("--not-for", metavar="TEXT", help="what the model is not for, for its card")
    parser.add_argument(
        "--dtype",
        choices=("float32", "float16", "bfloat16", "float64"),
        help="type of the weights in safetensors, or of the computation in aot-inductor (there float64 if not given)",
    )
    add_trust(parser)
    parser.add_argument(
        "--no-audit", action="store_true", help="do not measure the equivariance error for the card"
    )


def run(options: argparse.Namespace, overrides: list[str]) -> None:
    """Export."""
    from spheregeo.cli import export

    facts = {"license": options.license, "about": options.about, "not_for": options.not_for}
    given = {name: value for name, value in facts.items() if value is not None}
    export.run(options.run, options.to, options.output, options.dtype, not options.no_audit, given)
