"""Running checks one after another, and what is said when some fail."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import torch
from torch import Tensor


class ComplianceError(AssertionError):
    """Some checks failed; the message names each with its figures."""


class CheckError(AssertionError):
    """One check failed; raised within a check, collected by :class:`Suite`."""


class Suite:
    """Runs named checks, collects failures and raises them together.

    Args:
        subject: what is checked, for the message.
        skip: names of checks to leave out.

    Example:
        >>> suite = Suite("a number", skip=["odd"])
        >>> suite.run("positive", lambda: "3 > 0")
        >>> suite.run("odd", lambda: "not run")
        >>> suite.finish()
        {'positive': '3 > 0'}
    """

    def __init__(self, subject: str, skip: Collection[str]) -> None:
        if isinstance(skip, str):
            raise TypeError(f"skip is {skip!r}; expected a list of names of checks")
        self.subject, self.skip = subject, set(skip)
        self.known: set[str] = set()
        self.figures: dict[str, str] = {}
        self.failures: dict[str, str] = {}

    def run(self, name: str, check: Callable[..., str], *args: Any, **options: Any) -> None:
        """Call a check, which returns its figures as text or raises."""
        self.known.add(name)
        if name in self.skip:
            return
        try:
            self.figures[name] = check(*args, **options)
        except CheckError as failure:
            self.failures[name] = str(failure)
        except Exception as error:  # what a check runs may fail in any way
            self.failures[name] = (
                f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            )

    def finish(self) -> dict[str, str]:
        """The figures of all checks that ran, by name.

        Raises: ComplianceError where some failed; ValueError for a name in ``skip`` that is no check.
        """
        unknown = sorted(self.skip - self.known)
        if unknown:
            raise ValueError(
                f"skip names {', '.join(map(repr, unknown))}; the checks are {', '.join(sorted(self.known))}"
            )
        if self.failures:
            count = len(self.failures) + len(self.figures)
            lines = [f"{self.subject}: {len(self.failures)} of {count} checks failed"]
            lines += [f"  {name}: {text}" for name, text in self.failures.items()]
            raise ComplianceError("\n".join(lines))
        return self.figures


def require(truth: Any, message: str) -> None:
    """Fail the check with ``message`` unless ``truth`` holds."""
    if not bool(truth):
        raise CheckError(message)


def distance(found: Tensor, expected: Tensor) -> float:
    """Largest absolute difference over the largest absolute value expected; infinite where either is not finite."""
    if found.shape != expected.shape:
        raise CheckError(f"shape {tuple(found.shape)}, expected {tuple(expected.shape)}")
    if not found.numel():
        return 0.0
    a, b = found.detach().cpu().to(torch.float64), expected.detach().cpu().to(torch.float64)
    gap = float((a - b).abs().max() / b.abs().max().clamp_min(torch.finfo(torch.float64).tiny))
    if float((a - b).abs().max()) == 0:
        return 0.0
    return gap if gap == gap else float("inf")


def agree(what: str, found: Iterable[Tensor], expected: Iterable[Tensor], tolerance: float) -> float:
    """The largest distance of several pairs. Raises: CheckError above the tolerance."""
    worst = 0.0
    for i, (a, b) in enumerate(zip(list(found), list(expected), strict=True)):
        gap = distance(a, b)
        require(
            gap <= tolerance, f"{what} {i} differs by {gap:.2e} relative, at most {tolerance:.0e} allowed"
        )
        worst = max(worst, gap)
    return worst
