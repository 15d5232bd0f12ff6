"""Values as plain text: their ``repr``, read back without evaluating code.

Checkpoints and recipes hold plain types only, so that ``torch.load(..., weights_only=True)`` takes them.
"""

from __future__ import annotations

import ast
from types import ModuleType
from typing import Any

from spheregeo.checks import nearest

__all__ = ["parse"]


def parse(text: str, room: ModuleType, what: str) -> Any:
    """Return the value whose ``repr`` is ``text``: a public class of ``room`` called with literals.

    Args:
        text: such as "Rings(3)".
        room: module with the classes.
        what: what the value is, for messages, such as "kernel".

    Raises: ValueError when the text is anything else.
    """
    known = ", ".join(sorted(n for n in room.__all__ if n[:1].isupper()))
    close = nearest(text.partition("(")[0].strip(), room.__all__)
    complaint = ValueError(
        f"{what} {text!r} is not understood{close}; write it as Python would print it, one of {known}"
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
