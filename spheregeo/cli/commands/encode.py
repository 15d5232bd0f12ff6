"""``spheregeo encode``: panoramas to compressed files."""

from __future__ import annotations

import argparse

SUMMARY = "compress a panorama, or a folder of them, with a trained model of compress-sphere"
OVERRIDES = False
MODEL_HELP = "checkpoint, folder of a run or exported model (default: the best of runs/compress-sphere)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command to its parser."""
    parser.add_argument("input", metavar="FILE_OR_DIR", help="2:1 panoramas, up to 4096x8192")
    parser.add_argument("--checkpoint", metavar="FILE", help=MODEL_HELP)
    parser.add_argument(
        "--output",
        metavar="FILE_OR_DIR",
        help="file, or folder of the files (default: beside the photos, as NAME.sgc)",
    )
    parser.add_argument(
        "--grid",
        help="grid of the coding, such as 'HEALPix(256, \"nested\")' (default: about as many points as pixels)",
    )
    parser.add_argument("--check", action="store_true", help="decode each file again and print its WS-PSNR")
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")


def run(options: argparse.Namespace, overrides: list[str]) -> None:
    """Encode."""
    from spheregeo.cli.commands import coding

    coding.encode(
        options.input, options.checkpoint, options.output, options.grid, check=options.check, overwrite=options.overwrite
    )  # fmt: skip
