"""Whole numbers from 0 on in as few bytes as they need, seven bits in each."""

from __future__ import annotations


def write_number(content: bytearray, number: int) -> None:
    """Append a number.

    Args:
        content: what is appended to.
        number: from 0 on.
    """
    while number >= 0x80:
        content.append(number & 0x7F | 0x80)
        number >>= 7
    content.append(number)


def read_number(content: bytes, at: int) -> tuple[int, int]:
    """Return a number and the place after it.

    Args:
        content: bytes.
        at: place of the number.

    Raises: ValueError where the bytes end within the number, or it has more than 63 bits.

    Example:
        >>> content = bytearray()
        >>> write_number(content, 300)
        >>> read_number(bytes(content), 0)
        (300, 2)
    """
    number, shift = 0, 0
    while at < len(content) and shift < 63:
        number |= (content[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not content[at - 1] & 0x80:
            return number, at
    raise ValueError("the bytes end within a number")
