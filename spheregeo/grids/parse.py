"""Values as plain text: their ``repr``, read back without evaluating code.

Checkpoints and recipes hold plain types only, so that ``torch.load(..., weights_only=True)`` takes them.
"""

from __future__ import annotations

import ast
from types import ModuleType
from typing import Any


def parse(text: str, room: ModuleType, what: str) -> Any:
    """The value whose ``repr`` is ``text``: a public class of ``room`` called with literals.

    Raises: ValueError when it is anything else; ``what`` names it there.
    """
    known = ", ".join(sorted(n for n in room.__all__ if n[:1].isupper()))
    complaint = ValueError(
        f"{what} {text!r} is not understood; write it as Python would print it, one of {known}"
    )
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
            raise complaint
        kind = getattr(room, call.func.id) if call.func.id in room.__all__ else None
        if not isinstance(kind, type):
            raise complaint
        args = [ast.literal_eval(a) for a in call.args]
        kwargs = {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg is not None}
    except (SyntaxError, ValueError) as error:
        raise complaint from error
    try:
        return kind(*args, **kwargs)
    except TypeError as error:
        raise ValueError(f"{what} {text!r}: {error}") from error


def parse_grid(text: str) -> Any:
    """The grid whose ``repr`` is ``text``, for example ``HEALPix(nside=8, order='ring')``.

    Raises: ValueError when the text is no grid with literal arguments.
    """
    from spheregeo import grids

    return parse(text, grids, "grid")
