"""The front of the command line: reads the command, imports late, turns faults into one clear line.

Nothing heavy is imported before a command needs it, so that help and lists answer at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from spheregeo.cli import commands

_ASKS = ("-h", "--help", "--help-all", "--data.help", "--model.help", "--trainer.help", "--print-recipe")


def _asks(argv: list[str]) -> bool:
    """Whether a call is ``COMMAND RECIPE`` with ``--help``, ``--help-all`` or ``--print-recipe``."""
    known = len(argv) > 2 and argv[0] in commands.NAMES and not argv[1].startswith("-")
    return known and commands.module_of(argv[0]).OVERRIDES and any(word in _ASKS for word in argv)


def _answer(argv: list[str]) -> str:
    """Return what such a call asks for."""
    from spheregeo import recipes
    from spheregeo.cli import options

    front = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    commands.module_of(argv[0]).add_arguments(front)
    recipe = recipes.find(argv[1])
    _, overrides = front.parse_known_args([word for word in argv[1:] if word not in _ASKS])
    if "--print-recipe" in argv:
        return options.recipe_text(recipe, overrides).rstrip()
    everything = not {"-h", "--help"} & set(argv)
    rows = [
        (f"{', '.join(action.option_strings)} {action.metavar or ''}".strip(), action.help or "")
        for action in front._actions
        if action.option_strings
    ]
    return options.help_text(argv[0], recipe, everything, overrides, rows)


def _check(recipe: str, overrides: list[str]) -> None:
    """Check the names of all options before anything heavy is imported. Raises: ValueError for one that does not exist."""
    from spheregeo import recipes
    from spheregeo.cli.options import check

    check(recipes.find(recipe), overrides)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    The code is 0, or 2 for a fault of input, data or machine, or 130 and 143 for a run ended by SIGINT and by SIGTERM.
    """
    argv = list(sys.argv[1:] if arguments is None else arguments)
    traceback = "--traceback" in argv  # may stand anywhere
    argv = [a for a in argv if a != "--traceback"]
    if _asks(argv):
        return _ended(lambda: print(_answer(argv)), traceback)
    parser = commands.make_parser()
    try:
        options, overrides = parser.parse_known_args(argv)
        command = commands.module_of(options.command)
        if overrides and not command.OVERRIDES:
            parser.error(f"{options.command} does not know {' '.join(overrides)}")
    except SystemExit as stop:
        return int(stop.code or 0)
    if command.OVERRIDES and hasattr(options, "recipe"):
        code = _ended(lambda: _check(options.recipe, overrides), traceback)
        if code:
            return code
    if options.command in ("list", "demo"):  # a demonstration's runs are processes of their own
        return _ended(lambda: command.run(options, overrides), traceback)
    from spheregeo.cli.runs.stop import stoppable
    from spheregeo.cli.trust import trusting

    with trusting(getattr(options, "trust_recipe", False)):
        return _ended(lambda: command.run(options, overrides), traceback, stoppable())


def _ended(
    run: Callable[[], None], traceback: bool, around: AbstractContextManager[None] | None = None
) -> int:
    """Run a command and return its exit code; whatever the user can mend or has asked for is one line."""
    from spheregeo.cli.faults import explain, stopped
    from spheregeo.cli.runs.process import is_first_process

    try:
        with around or nullcontext():
            try:
                run()
                return 0
            except BaseException as error:
                stop = stopped(error)
                if stop is not None and not traceback:
                    line, code = stop
                    if is_first_process():
                        print(f"spheregeo: {line}", file=sys.stderr)
                    return code
                raise
    except SystemExit as stop_code:
        return int(stop_code.code or 0)
    except BrokenPipeError:
        # The reader of our output went away (`| head`); what is left to flush has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        explained = explain(error)
        if traceback or explained is None:
            raise
        print(f"spheregeo: error: {explained}", file=sys.stderr)
        return 2
