"""The command line: ``spheregeo fit|validate|test|predict|audit|list|demo``."""

from __future__ import annotations

from spheregeo.cli.main import main

__all__ = ["main"]
