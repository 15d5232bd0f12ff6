"""``spheregeo decode``: compressed files to panoramas."""

from __future__ import annotations

import argparse

from spheregeo.cli.commands.encode import MODEL_HELP

SUMMARY = "decode a compressed panorama, or a folder of them, to PNG or npz"
OVERRIDES = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command to its parser."""
    parser.add_argument("input", metavar="FILE_OR_DIR", help="files that encode has written")
    parser.add_argument("--checkpoint", metavar="FILE", help=f"the model that wrote them: {MODEL_HELP}")
    parser.add_argument(
        "--output", metavar="FILE_OR_DIR", help="file, or folder of the files (default: beside the input)"
    )
    parser.add_argument(
        "--size", nargs=2, type=int, metavar=("H", "W"), help="rows and columns (default: those of the photo)"
    )
    parser.add_argument(
        "--to",
        choices=("png", "npz"),
        default="png",
        help="kind of file where --output names none (default: png)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")


def run(options: argparse.Namespace, overrides: list[str]) -> None:
    """Decode."""
    from spheregeo.cli.commands import coding

    coding.decode(
        options.input, options.checkpoint, options.output, options.size, f".{options.to}", overwrite=options.overwrite
    )  # fmt: skip
