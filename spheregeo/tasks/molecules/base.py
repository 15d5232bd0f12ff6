"""What the tasks on molecules share: a network of atoms, losses, references of the elements, the audit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import huber_loss

from spheregeo import audit, models
from spheregeo.data.molecules.built_in import packed
from spheregeo.data.molecules.molecules import MAX_NUMBER, Molecules, symbol
from spheregeo.models.space.heads import Invariants
from spheregeo.nn import ExactBuffers
from spheregeo.tasks.base import Task
from spheregeo.tasks.checks import check_precision
from spheregeo.tasks.molecules.atoms import GraphCache

LOSSES = ("l1", "l2", "huber")


def penalty(error: Tensor, kind: str, delta: float) -> Tensor:
    """Return |e|, e², or Huber's function of errors, element by element.

    Args:
        error: the errors.
        kind: "l1", "l2" or "huber".
        delta: where Huber's function turns linear.

    Example:
        >>> penalty(torch.tensor([-2.0, 0.5]), "l1", 1.0)
        tensor([2.0000, 0.5000])
    """
    if kind == "l1":
        return error.abs()
    if kind == "l2":
        return error.square()
    return huber_loss(error, torch.zeros_like(error), reduction="none", delta=delta)


def check_loss_options(loss: str, huber_delta: float) -> None:
    """Raises: ValueError for an unknown loss, or a turning point that is not positive."""
    if loss not in LOSSES:
        raise ValueError(f"loss is {loss!r}; expected one of {', '.join(LOSSES)}")
    if not huber_delta > 0:
        raise ValueError(f"huber_delta is {huber_delta}; expected a positive number")


# What each option of a network gives, and networks that take it.
HEADS = {
    "out_vectors": ("vectors of molecules", "steerable-molecule, painn or nequip"),
    "out_atoms": ("numbers of atoms", "steerable-molecule, painn, nequip or schnet"),
}


def with_heads(name: str, out_channels: int, heads: dict[str, int], options: dict[str, Any]) -> Any:
    """Create a network for molecules with further outputs.

    Args:
        name: name of the network.
        out_channels: numbers for each molecule.
        heads: number of outputs of each further head, by the option that makes it; those of 0 are left out.
        options: other options of the network.

    Raises: ValueError where the network has no such head, and as :func:`spheregeo.models.create`.
    """
    needed = {option: count for option, count in heads.items() if count}
    try:
        return models.create(name, MAX_NUMBER + 1, out_channels, None, **options, **needed)
    except ValueError as error:
        for option in needed:
            if f"no option {option!r}" in str(error):
                what, able = HEADS[option]
                raise ValueError(
                    f"network {name!r} gives no {what}, which the targets are; choose {able}"
                ) from error
        raise


class MoleculeTask(ExactBuffers, Task):
    """Base of the tasks on molecules: network, elements of the training, neighbour lists that are kept.

    Shape: batches as :mod:`spheregeo.data.molecules.molecules` has them.
    Equivariance: that of the network; those of the package are invariant to motions and reflections.
    Raises: ValueError for atoms that the training has not seen, NaN positions, molecules without atoms.

    Args:
        out_channels: numbers that the network gives per molecule.
        network: name of a model for molecules, see ``spheregeo list models``.
        width: width of the network; its own default if None.
        depth: depth of the network; its own default if None.
        options: further options of the network, such as {"cutoff": 6.0, "readout": "mean"}.
        keep_graphs: keep the neighbours of molecules that come again.
        common: arguments of :class:`~spheregeo.tasks.Task`.
    """

    output: ClassVar[str] = "label"
    elements: Tensor

    def __init__(
        self, out_channels: int, *, network: str = "schnet", width: int | None = None, depth: int | None = None,
        options: dict[str, Any] | None = None, keep_graphs: bool = True, **common: Any,
    ) -> None:  # fmt: skip
        name = models.resolve(network, self.output, "molecule")
        own = models.options_of(name, options)
        super().__init__(
            network=name, width=width, depth=depth, options=own or None, keep_graphs=keep_graphs, **common
        )
        chosen = {**own, **{k: v for k, v in (("width", width), ("depth", depth)) if v is not None}}
        self.network: Any = with_heads(name, out_channels, self.heads_for(common), chosen)
        self.register_buffer("elements", torch.zeros(MAX_NUMBER + 1, dtype=torch.bool))
        self._graphs = GraphCache() if keep_graphs else None

    def heads_for(self, settings: dict[str, Any]) -> dict[str, int]:
        """Return the number of outputs of each further head of the network, by the option that makes it; none unless overridden.

        Args:
            settings: the subclass's own arguments.
        """
        return {}

    # ---- what the training data say

    @property
    def training_molecules(self) -> Molecules:
        """The molecules that train."""
        found = getattr(self.trainer.datamodule, "molecules", None)  # type: ignore[attr-defined]
        if found is None:
            raise ValueError(
                f"{type(self).__name__} needs data of molecules, such as G2Data or ExtXYZData, not "
                f"{type(self.trainer.datamodule).__name__}"  # type: ignore[attr-defined]
            )
        return found("train")

    @torch.no_grad()
    def on_fit_start(self) -> None:
        """Take references and scales from the training molecules, the same in every process and after every resume."""
        check_precision(
            self.trainer, ("bf16-true", "16-true"), "which rounds positions by a hundredth of an Å and more"
        )
        molecules = self.training_molecules
        self.elements.zero_()
        self.elements[molecules.elements] = True
        self.fit_scales(molecules)

    def tell(self, line: str) -> None:
        """Print a line once, whatever the number of processes."""
        if getattr(self.trainer, "is_global_zero", True):
            print(line, flush=True)

    def fit_scales(self, molecules: Molecules) -> None:
        """Set references and scales by the training molecules."""
        raise NotImplementedError

    # ---- the audit

    def audit(self) -> dict[str, Any]:
        """Measure the network on four packed clusters of the elements that it was trained with; prints a table."""
        heads = any(getattr(self.network, option, 0) for option in HEADS)
        network = Invariants(self.network) if heads else self.network
        result = audit.report_points(network.eval(), *self.clusters())
        audit.print_points(result)
        return result

    def clusters(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return positions (48, 3), numbers (48,) and batch (48,) of four packed clusters of the training's elements."""
        elements = self.elements.nonzero()[:, 0].tolist() or [1, 6, 8]
        rng = np.random.default_rng(0)
        positions = np.concatenate([packed(12, 1.5, rng) + 0.1 * rng.normal(size=(12, 3)) for _ in range(4)])
        numbers = torch.from_numpy(rng.choice(elements, 48))
        return torch.from_numpy(positions).float(), numbers, torch.arange(4).repeat_interleave(12)


def per_element(given: dict[Any, float], needed: Sequence[int], what: str) -> Tensor:
    """Return a table (119,) of values by atomic number.

    Args:
        given: values by atomic number or symbol.
        needed: atomic numbers of the elements that need a value.
        what: what the values are, for the message.

    Raises: ValueError for an element that is needed and not given.
    """
    from spheregeo.data.molecules.files import atomic_number

    table = torch.zeros(MAX_NUMBER + 1, dtype=torch.float64)
    found = set()
    for key, value in given.items():
        number = int(key) if isinstance(key, int) or str(key).isdigit() else atomic_number(str(key), what)
        table[number] = value
        found.add(number)
    missing = [symbol(z) for z in needed if z not in found]
    if missing:
        raise ValueError(
            f"{what} are given for {', '.join(symbol(z) for z in sorted(found)) or 'no element'} but the molecules also contain "
            f"{', '.join(missing)}; add them, or choose references: fit"
        )
    return table
