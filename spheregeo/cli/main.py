"""The front of the command line: reads the command, imports late, turns faults into one clear line.

Nothing heavy is imported before a command needs it, so that help and lists answer at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

_ABOUT = "Segment omnidirectional images, and more, on spheres: train, score, predict, measure."
_RECIPE_HELP = "name of a recipe (see `spheregeo list recipes`) or path of a YAML file"
_MORE = (
    "Any entry of the recipe can be set here: --data.size '[64, 128]' --model.width 64 --model.network planar-unet "
    "--trainer.max_epochs 5 --trainer.devices 2 --trainer.precision bf16-mixed --seed_everything 7. "
    "`spheregeo %(prog)s RECIPE --help` lists them all."
)


def _parser() -> argparse.ArgumentParser:
    from spheregeo import __version__
    from spheregeo.cli import listing

    parser = argparse.ArgumentParser(prog="spheregeo", description=_ABOUT, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"spheregeo {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, text: str, recipe: bool = True, more: bool = False) -> argparse.ArgumentParser:
        epilog = _MORE.replace("%(prog)s", name) if more else None
        sub = commands.add_parser(name, help=text, description=text, epilog=epilog, allow_abbrev=False)
        if recipe:
            sub.add_argument("recipe", metavar="RECIPE", help=_RECIPE_HELP)
            sub.add_argument("--output", metavar="DIR", help="folder of the run (default: runs/RECIPE)")
        return sub

    fit = command("fit", "train a model", more=True)
    fit.add_argument("--resume", action="store_true", help="go on from the run's last checkpoint")
    fit.add_argument("--overwrite", action="store_true", help="replace a run that is already in the folder")
    for name, text in (("validate", "score on the validation split"), ("test", "score on the test split")):
        sub = command(name, text, more=True)
        sub.add_argument("--ckpt", metavar="FILE", help="checkpoint (default: the run's best)")
    predict = command("predict", "label a photo, a mesh, a cloud or molecules, or a folder of them")
    predict.add_argument(
        "--input",
        required=True,
        metavar="FILE_OR_DIR",
        help="2:1 panoramas, up to 4096x8192, meshes, clouds or molecules",
    )
    predict.add_argument("--ckpt", metavar="FILE", help="checkpoint (default: the run's best)")
    predict.add_argument(
        "--grid", help="work on another grid than in training, such as 'Equiangular(256, 512)'"
    )
    audit = command("audit", "measure equivariance error, cost and memory", more=True)
    audit.add_argument(
        "--ckpt", metavar="FILE", help="checkpoint (default: the run's best, else an untrained model)"
    )
    audit.add_argument("--json", metavar="FILE", help="write the table as JSON too")
    lists = command("list", "show what there is", recipe=False)
    lists.add_argument("what", choices=listing.LISTS)
    demo = command(
        "demo",
        "train a small network for each of three jobs, beside a baseline; draw a sheet",
        recipe=False,
        more=True,
    )
    demo.add_argument("--output", metavar="DIR", default="runs/demo", help="folder (default: runs/demo)")
    return parser


def _run(options: argparse.Namespace, overrides: list[str]) -> int:
    if options.command == "list":
        from spheregeo.cli import listing

        print(listing.table(options.what))
        return 0
    if options.command == "predict":
        from spheregeo.cli import predict

        predict.run(options.recipe, options.input, options.ckpt, options.output, options.grid)
        return 0
    if options.command == "demo":
        from spheregeo.cli import demo

        demo.run(options.output, overrides)
        return 0
    from spheregeo.cli import engine

    if options.command == "fit":
        engine.fit(options.recipe, options.output, options.resume, options.overwrite, overrides)
    elif options.command == "audit":
        engine.audit(options.recipe, options.ckpt, options.output, options.json, overrides)
    else:
        engine.score(options.command, options.recipe, options.ckpt, options.output, overrides)
    return 0


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
        if overrides and options.command in ("list", "predict"):
            parser.error(f"{options.command} does not know {' '.join(overrides)}")
    except SystemExit as stop:
        return int(stop.code or 0)
    try:
        if full_help:
            overrides.append("--help")
        return _run(options, overrides)
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
