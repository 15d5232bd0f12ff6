"""Which channels of a field type belong together: in a field, among the scalars, in one function of direction."""

from __future__ import annotations

from spheregeo.groups import FieldType


def fields(field_type: FieldType) -> list[list[int]]:
    """Channels of each field."""
    return [
        list(range(start, start + term.width))
        for term, (channels, _, _) in zip(field_type.terms, field_type.blocks, strict=True)
        for start in range(channels.start, channels.stop, term.width)
    ]


def even_scalars(field_type: FieldType) -> list[int]:
    """Channels of the even scalars: those that may be shifted."""
    return [
        channel
        for term, (channels, _, order) in zip(field_type.terms, field_type.blocks, strict=True)
        if order == 0 and term.parity > 0
        for channel in range(channels.start, channels.stop)
    ]


def stacks(field_type: FieldType) -> list[tuple[tuple[int, ...], list[list[int]]]]:
    """Sets of functions with the same orders: (orders, the channels of each function in the sequence of its orders).

    Function i has the i-th field of every order that has one. Channels of a pair stand side by side.

    Raises: ValueError for odd scalars: a function of direction has no such part.
    """
    by_order: dict[int, list[list[int]]] = {}
    every = iter(fields(field_type))
    for term in field_type.terms:
        if term.parity < 0:
            raise ValueError(
                f"field type is '{field_type}'; expected no odd scalars, which are no part of a function of direction. "
                "Use NormNonlinearity or GatedNonlinearity, or leave '0o' out of this layer"
            )
        by_order.setdefault(term.order, []).extend(next(every) for _ in range(term.multiplicity))
    found: dict[tuple[int, ...], list[list[int]]] = {}
    for i in range(max(map(len, by_order.values()))):
        orders = tuple(order for order in sorted(by_order) if i < len(by_order[order]))
        found.setdefault(orders, []).append([channel for order in orders for channel in by_order[order][i]])
    return list(found.items())
