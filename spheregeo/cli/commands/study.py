"""``spheregeo study``: many small trainings that answer one question."""

from __future__ import annotations

import argparse
import importlib
from types import ModuleType

from spheregeo.cli.studies import NAMES

SUMMARY = "train many small networks that answer one question; a table and a plot, resumed where interrupted"
OVERRIDES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a command for each study to the parser."""
    studies = parser.add_subparsers(dest="study", metavar="STUDY", required=True)
    for name in NAMES:
        module = _module(name)
        sub = studies.add_parser(name, help=module.SUMMARY, description=module.SUMMARY, allow_abbrev=False)
        module.add_arguments(sub)


def run(options: argparse.Namespace, overrides: list[str]) -> None:
    """Run a study."""
    _module(options.study).run(options, overrides)


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"spheregeo.cli.studies.{name.replace('-', '_')}")
