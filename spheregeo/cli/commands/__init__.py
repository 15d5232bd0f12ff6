"""The commands, one module each: ``SUMMARY``, ``OVERRIDES``, ``add_arguments(parser)`` and ``run(options, overrides)``.

A new command is a new module here and its name in ``NAMES``. Nothing heavy is imported before ``run``, so that help answers at
once. ``OVERRIDES`` tells whether further options, such as ``--model.width 64``, are entries of the recipe.
"""

from __future__ import annotations

import argparse
import importlib
import keyword
from types import ModuleType

NAMES = (
    "new",
    "fit",
    "validate",
    "test",
    "predict",
    "simulate",
    "relax",
    "encode",
    "decode",
    "audit",
    "export",
    "import",
    "check",
    "list",
    "demo",
    "warmup",
    "study",
    "completion",
)

_ABOUT = "Segment omnidirectional images, and more, on spheres: train, score, predict, measure."
_MORE = (
    "Any entry of the recipe can be set here: --data.size '[64, 128]' --model.width 64 --model.network planar-unet "
    "--trainer.max_epochs 5 --trainer.devices 2 --trainer.precision bf16-mixed --seed_everything 7. "
    "`spheregeo %(prog)s RECIPE --help` lists them all."
)
RECIPE_HELP = "name of a recipe (see `spheregeo list recipes`) or path of a YAML file"


def module_of(name: str) -> ModuleType:
    """Return the module of a command.

    Args:
        name: one of ``NAMES``.
    """
    module = f"{name}_" if keyword.iskeyword(name) else name
    return importlib.import_module(f"spheregeo.cli.commands.{module}")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    from spheregeo import __version__

    parser = argparse.ArgumentParser(prog="spheregeo", description=_ABOUT, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"spheregeo {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    group = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in NAMES:
        command = module_of(name)
        epilog = _MORE.replace("%(prog)s", name) if command.OVERRIDES else None
        text: str = command.SUMMARY
        sub = group.add_parser(name, help=text, description=text, epilog=epilog, allow_abbrev=False)
        command.add_arguments(sub)
    return parser


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of commands that work on a recipe and its run: ``RECIPE`` and ``--output``.

    Args:
        parser: parser of the command.
    """
    parser.add_argument("recipe", metavar="RECIPE", help=RECIPE_HELP)
    parser.add_argument("--output", metavar="DIR", help="folder of the run (default: runs/RECIPE)")
    add_trust(parser)


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add ``--trust-recipe``, for commands that read a recipe.

    Args:
        parser: parser of the command.
    """
    parser.add_argument(
        "--trust-recipe",
        action="store_true",
        help="let the recipe run code from outside spheregeo, torch and lightning, such as a task of your own",
    )


def add_checkpoint(parser: argparse.ArgumentParser, fallback: str = "the run's best") -> None:
    """Add ``--ckpt``, the checkpoint that a command works on.

    Args:
        parser: parser of the command.
        fallback: which checkpoint it is when none is given.
    """
    parser.add_argument("--ckpt", metavar="FILE", help=f"checkpoint (default: {fallback})")
