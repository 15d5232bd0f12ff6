"""``spheregeo completion``: the script with which a shell completes the command line, made by shtab from the parser."""

from __future__ import annotations

import argparse
from typing import Any

SUMMARY = "print the script with which a shell completes commands, options and recipes"
OVERRIDES = False
_FUNCTION = "_spheregeo_recipe"
SHELLS = ("bash", "zsh", "tcsh")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command to its parser."""
    parser.add_argument(
        "shell", choices=SHELLS, help='for bash: eval "$(spheregeo completion bash)" in ~/.bashrc'
    )


def run(options: argparse.Namespace, overrides: list[str]) -> None:
    """Print the script."""
    print(script(options.shell))


def script(shell: str) -> str:
    """Return the completion script of a shell.

    Args:
        shell: "bash", "zsh" or "tcsh".

    Raises: ImportError without the package shtab.

    Example:
        >>> "classify-points" in script("bash")
        True
    """
    try:
        import shtab
    except ImportError as error:
        raise ImportError("completion needs the package shtab: pip install shtab") from error
    from spheregeo import recipes
    from spheregeo.cli.commands import make_parser

    names = " ".join(recipes.names())
    parser = make_parser()
    for action in _actions(parser):
        if action.dest == "recipe":
            action.complete = {"bash": _FUNCTION, "zsh": f"({names})"}  # type: ignore[attr-defined]
        elif action.metavar in ("DIR", "FOLDER"):
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        elif action.metavar in ("FILE", "FILE_OR_DIR", "FILE_OR_RUN"):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    words = f'{_FUNCTION}() {{ compgen -W "{names}" -- "$1"; compgen -f -X "!*.y*ml" -- "$1"; }}'
    preamble: Any = {"bash": words}  # by shell, which shtab's types do not say
    found: str = shtab.complete(parser, shell=shell, preamble=preamble)
    return found


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """All arguments of a parser and of its commands."""
    found = []
    for action in parser._actions:
        found.append(action)
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                found += _actions(command)
    return found
