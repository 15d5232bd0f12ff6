"""The front of the command line: reads the command, imports late, turns faults into one clear line.

Nothing heavy is imported before a command needs it, so that help and lists answer at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from spheregeo.cli import commands

_ABOUT = "Segment omnidirectional images, and more, on spheres: train, score, predict, measure."
_MORE = (
    "Any entry of the recipe can be set here: --data.size '[64, 128]' --model.width 64 --model.network planar-unet "
    "--trainer.max_epochs 5 --trainer.devices 2 --trainer.precision bf16-mixed --seed_everything 7. "
    "`spheregeo %(prog)s RECIPE --help` lists them all."
)


def _parser() -> argparse.ArgumentParser:
    from spheregeo import __version__

    parser = argparse.ArgumentParser(prog="spheregeo", description=_ABOUT, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"spheregeo {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    group = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in commands.NAMES:
        command = commands.module_of(name)
        epilog = _MORE.replace("%(prog)s", name) if command.OVERRIDES else None
        text: str = command.SUMMARY
        sub = group.add_parser(name, help=text, description=text, epilog=epilog, allow_abbrev=False)
        command.add_arguments(sub)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 2 for a fault of input, data or machine."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    traceback = "--traceback" in argv  # may stand anywhere
    argv = [a for a in argv if a != "--traceback"]
    parser = _parser()
    # `fit RECIPE --help` asks for the recipe's own options, which only the engine knows.
    asks_recipe = len(argv) > 2 and argv[0] in ("fit", "validate", "test") and not argv[1].startswith("-")
    full_help = asks_recipe and ("--help" in argv or "-h" in argv)
    try:
        if full_help:
            argv = [a for a in argv if a not in ("-h", "--help")]
        options, overrides = parser.parse_known_args(argv)
        command = commands.module_of(options.command)
        if overrides and not command.OVERRIDES:
            parser.error(f"{options.command} does not know {' '.join(overrides)}")
    except SystemExit as stop:
        return int(stop.code or 0)
    try:
        if full_help:
            overrides.append("--help")
        command.run(options, overrides)
        return 0
    except KeyboardInterrupt:
        print("spheregeo: interrupted", file=sys.stderr)
        return 130
    except SystemExit as stop:
        return int(stop.code or 0)
    except BrokenPipeError:
        # The reader of our output went away (`| head`); what is left to flush has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        from spheregeo.cli.faults import explain

        line = explain(error)
        if traceback or line is None:
            raise
        print(f"spheregeo: error: {line}", file=sys.stderr)
        return 2
