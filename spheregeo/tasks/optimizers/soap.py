"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner, which sees correlations between the entries of a matrix.

Losses of forces hold first derivatives of a network and are far worse conditioned than those of values: there this optimiser
reaches a given error in less than half of AdamW's steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spheregeo.nn.irreps import IrrepsLinear

__all__ = ["SOAP", "MatrixBlock", "matrix_blocks"]

FIRST = (1, 2, 5)  # steps after which bases are renewed beside every tenth, while they still change much


class MatrixBlock(NamedTuple):
    """A matrix inside a parameter's values, row after row.

    Args:
        start: where it begins.
        rows: number of rows.
        columns: number of columns.

    Example:
        >>> MatrixBlock(start=0, rows=4, columns=8).columns
        8
    """

    start: int
    rows: int
    columns: int


def matrix_blocks(module: nn.Module) -> dict[Tensor, list[MatrixBlock]]:
    """The matrices in the parameters of a network that lie otherwise than their shapes say; none in tables of embeddings.

    Args:
        module: the network.

    Example:
        >>> layer = IrrepsLinear("4x0e + 2x1o", "3x0e + 2x1o")
        >>> matrix_blocks(layer)[layer.weight]
        [MatrixBlock(start=0, rows=4, columns=3), MatrixBlock(start=12, rows=2, columns=2)]
    """
    found: dict[Tensor, list[MatrixBlock]] = {}
    for part in module.modules():
        if isinstance(part, nn.Embedding):
            found[part.weight] = []
        elif isinstance(part, IrrepsLinear):
            products = [p for p in part.plan.products if p.weights >= 0]
            found[part.weight] = [MatrixBlock(p.weights, p.copies_in, p.copies_out) for p in products]
    return found


def block_of(parameter: Tensor) -> list[MatrixBlock]:
    """The matrix that a parameter of two axes or more is: first or last axes taken together, whichever is closer to a square."""
    if parameter.ndim < 2 or not parameter.numel():
        return []
    total = parameter.numel()
    rows = min((parameter.shape[0], total // parameter.shape[-1]), key=lambda n: max(n, total // n))
    return [MatrixBlock(0, rows, total // rows)]


class SOAP(torch.optim.Optimizer):
    """Adam in the eigenbases of the running means of G Gᵀ and Gᵀ G, G the gradient of a matrix; plain Adam for what is no matrix.

    Matrices of one shape are done together.

    Args:
        params: the parameters, or groups of them, as torch's optimisers take them.
        lr: learning rate.
        betas: decays of the running means of gradients, and of their squares and G Gᵀ.
        eps: added to roots of mean squares.
        weight_decay: decoupled from the gradient, as in AdamW.
        every: steps between two renewals of the bases, by one QR iteration each.
        largest: rows or columns beyond which a side of a matrix keeps its own basis.
        blocks: the matrices of parameters that lie otherwise than their shapes say, see :func:`matrix_blocks`.

    Raises: ValueError for a learning rate, decays or sizes out of range.
    Reference: Vyas et al. 2024, arXiv:2409.11321, algorithm 3.

    Example:
        >>> weight = nn.Parameter(torch.randn(4, 3))
        >>> optimizer = SOAP([weight], lr=1e-2)
        >>> weight.square().sum().backward()
        >>> optimizer.step()
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 3e-3,
        *,
        betas: tuple[float, float] = (0.95, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        every: int = 10,
        largest: int = 256,
        blocks: Mapping[Tensor, Sequence[MatrixBlock]] | None = None,
    ) -> None:
        if lr < 0 or eps <= 0 or weight_decay < 0 or not all(0 <= b < 1 for b in betas):
            raise ValueError(
                f"lr is {lr}, betas {betas}, eps {eps}, weight_decay {weight_decay}; expected lr and weight_decay of 0 or more, "
                "0 <= betas < 1, eps > 0"
            )
        if every < 1 or largest < 1:
            raise ValueError(f"every is {every} and largest {largest}; expected 1 or more")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self.every, self.largest = every, largest
        known = blocks or {}
        # by rows, columns and group: the parameters and where in them the matrices begin
        self._matrices: dict[tuple[int, int, int], list[tuple[Tensor, int]]] = {}
        self._others: list[list[Tensor]] = []
        for number, group in enumerate(self.param_groups):
            others = []
            for parameter in group["params"]:
                found = known[parameter] if parameter in known else block_of(parameter)
                if sum(b.rows * b.columns for b in found) != parameter.numel():
                    others.append(parameter)
                    continue
                for block in found:
                    of = self._matrices.setdefault((block.rows, block.columns, number), [])
                    of.append((parameter, block.start))
            self._others.append(others)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Change the parameters by their gradients.

        Args:
            closure: called first, with gradients on; computes them and returns the loss.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        state: dict[Any, Any] = self.state  # under names: matrices of several parameters share a tensor
        number = state["steps"] = state.get("steps", 0) + 1
        for (rows, columns, place), items in self._matrices.items():
            self._step_matrices(
                f"{place}: {rows} x {columns}", rows, columns, items, self.param_groups[place], number
            )
        for place, others in enumerate(self._others):
            if others:
                self._step_others(f"{place}: others", others, self.param_groups[place], number)
        return loss

    def _step_matrices(
        self,
        key: str,
        rows: int,
        columns: int,
        items: list[tuple[Tensor, int]],
        group: dict[str, Any],
        number: int,
    ) -> None:
        first, second = group["betas"]
        size = rows * columns
        like = items[0][0]
        grads = [like.new_zeros(()).expand(rows, columns) if p.grad is None else
                 p.grad.reshape(-1)[at : at + size].view(rows, columns) for p, at in items]  # fmt: skip
        g = torch.stack(grads)
        state: dict[Any, Any] = self.state
        kept: dict[str, Tensor] | None = state.get(key)
        if kept is None:
            kept = state[key] = {"mean": torch.zeros_like(g), "squares": torch.zeros_like(g)}
            for side, products in (("left", g @ g.mT), ("right", g.mT @ g)):
                if products.shape[1] <= self.largest:
                    kept[side] = products
                    kept[f"{side}_basis"] = torch.linalg.eigh(products)[1]
        else:
            for side in ("left", "right"):
                if side in kept:
                    kept[side].lerp_(g @ g.mT if side == "left" else g.mT @ g, 1 - second)
        left, right = kept.get("left_basis"), kept.get("right_basis")
        turned = _turned(g, left, right)
        kept["mean"].lerp_(g, 1 - first)
        kept["squares"].mul_(second).addcmul_(turned, turned, value=1 - second)
        root = (kept["squares"] / (1 - second**number)).sqrt_().add_(group["eps"])
        change = _turned(kept["mean"], left, right).div_(root)
        if left is not None:
            change = left @ change
        if right is not None:
            change = change @ right.mT
        rate, decay = group["lr"], 1 - group["lr"] * group["weight_decay"]
        for (p, at), part in zip(items, change, strict=True):
            values = p.view(-1)[at : at + size].view(rows, columns)
            if decay != 1:
                values.mul_(decay)
            values.sub_(part, alpha=rate / (1 - first**number))
        if number % self.every == 0 or number in FIRST:
            self._renew(kept)

    @staticmethod
    def _renew(kept: dict[str, Tensor]) -> None:
        """Bases by one QR iteration each, largest eigenvalues first; mean squares follow the order of the directions."""
        for side, axis in (("left", 1), ("right", 2)):
            if side not in kept:
                continue
            products, basis = kept[side], kept[f"{side}_basis"]
            sizes = (basis * (products @ basis)).sum(1)
            order = sizes.argsort(dim=1, descending=True, stable=True)
            basis = basis.gather(2, order[:, None].expand_as(basis))
            index = order[:, :, None] if axis == 1 else order[:, None]
            kept["squares"] = kept["squares"].gather(axis, index.expand_as(kept["squares"]))
            kept[f"{side}_basis"] = torch.linalg.qr(products @ basis)[0]

    def _step_others(self, key: str, others: list[Tensor], group: dict[str, Any], number: int) -> None:
        first, second = group["betas"]
        state: dict[Any, Any] = self.state
        if key not in state:
            state[key] = {name: [torch.zeros_like(p) for p in others] for name in ("mean", "squares")}
        mean, squares = state[key]["mean"], state[key]["squares"]
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in others]
        torch._foreach_lerp_(mean, grads, 1 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, grads, grads, 1 - second)
        roots = torch._foreach_sqrt(squares)
        torch._foreach_div_(roots, (1 - second**number) ** 0.5)
        torch._foreach_add_(roots, group["eps"])
        if group["weight_decay"]:
            torch._foreach_mul_(others, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_addcdiv_(others, mean, roots, -group["lr"] / (1 - first**number))


def _turned(x: Tensor, left: Tensor | None, right: Tensor | None) -> Tensor:
    """Matrices in the bases of their rows and columns, where there are such."""
    if left is not None:
        x = left.mT @ x
    if right is not None:
        x = x @ right
    return x.clone() if left is None and right is None else x
