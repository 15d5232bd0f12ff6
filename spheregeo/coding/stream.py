"""Whole numbers to bytes and back by a range coder, each with the table that its index names.

What reader and writer share are tables of counts and indices, whole numbers both, so that bytes written on one machine are
read on any other. The coder itself is constriction's; values outside a table are coded as its escape and follow in full.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spheregeo.coding.numbers import read_number, write_number

Whole = NDArray[np.int64]
_MISSING = (
    "coding files needs the package constriction; install it with: pip install 'spheregeo[compression]'"
)


def _constriction() -> Any:
    try:
        import constriction
    except ImportError as error:
        raise ImportError(_MISSING) from error
    return constriction.stream


def _model(counts: NDArray[np.int32]) -> Any:
    # sums and quotients of whole numbers below 2^53: the coder's own rounding is alike everywhere
    return _constriction().model.Categorical(counts.astype(np.float64), perfect=False)


class SymbolWriter:
    """Bytes of whole numbers.

    Raises: ImportError without the package constriction.

    Example:
        >>> import numpy as np
        >>> from spheregeo.coding import SymbolReader, SymbolWriter
        >>> tables, indices = [np.array([1, 6, 1, 1], np.int32)], np.zeros(4, np.int64)
        >>> writer = SymbolWriter()
        >>> writer.add(np.array([0, -1, 70, 0]), indices, tables)
        >>> SymbolReader(writer.finish()).take(indices, tables).tolist()
        [0, -1, 70, 0]
    """

    def __init__(self) -> None:
        self._encoder = _constriction().queue.RangeEncoder()
        self._beyond = bytearray()

    def add(self, values: Whole, indices: Whole, tables: Sequence[NDArray[np.int32]]) -> None:
        """Code values, table after table.

        Args:
            values: whole numbers (n,).
            indices: number of each value's table (n,).
            tables: counts of -k ... k and of the escape, (2 k + 2,) each.
        """
        for index in np.unique(indices):
            table, own = tables[index], values[indices == index]
            reach = len(table) // 2 - 1
            inside = np.abs(own) <= reach
            self._encoder.encode(
                np.where(inside, own + reach, len(table) - 1).astype(np.int32), _model(table)
            )
            for value in own[~inside].tolist():
                write_number(self._beyond, 2 * (abs(value) - reach - 1) + (value < 0))

    def finish(self) -> bytes:
        """Return the bytes of all values added."""
        words = self._encoder.get_compressed().astype("<u4").tobytes()
        head = bytearray()
        write_number(head, len(words) // 4)
        return bytes(head) + words + bytes(self._beyond)


class SymbolReader:
    """Whole numbers of bytes that a :class:`SymbolWriter` made.

    Args:
        content: the bytes.

    Raises: ValueError for bytes that end too early; ImportError without the package constriction.

    Example:
        >>> import numpy as np
        >>> from spheregeo.coding import SymbolReader, SymbolWriter
        >>> writer, table = SymbolWriter(), np.array([1, 6, 1, 1], np.int32)
        >>> writer.add(np.array([0, 1]), np.zeros(2, np.int64), [table])
        >>> SymbolReader(writer.finish()).take(np.zeros(2, np.int64), [table]).tolist()
        [0, 1]
    """

    def __init__(self, content: bytes) -> None:
        count, start = read_number(content, 0)
        self._at = start + 4 * count
        if self._at > len(content):
            raise ValueError(
                f"there are {len(content) - start} bytes of symbols; expected at least {4 * count}"
            )
        self._content = content
        words = np.frombuffer(content, "<u4", count, start).astype(np.uint32)
        self._decoder = _constriction().queue.RangeDecoder(words)

    def take(self, indices: Whole, tables: Sequence[NDArray[np.int32]]) -> Whole:
        """Return the next values, in the order in which they were added.

        Args:
            indices: number of each value's table (n,).
            tables: as the writer had them.

        Shape: -> (n,) int64.
        """
        values = np.empty(len(indices), np.int64)
        for index in np.unique(indices):
            table, chosen = tables[index], np.flatnonzero(indices == index)
            reach = len(table) // 2 - 1
            own = self._decoder.decode(_model(table), len(chosen)).astype(np.int64) - reach
            for k in np.flatnonzero(own > reach):
                number, self._at = read_number(self._content, self._at)
                own[k] = (number // 2 + reach + 1) * (-1 if number % 2 else 1)
            values[chosen] = own
        return values
