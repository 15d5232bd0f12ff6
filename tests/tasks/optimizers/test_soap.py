"""SOAP beside its algorithm written for one matrix, blocks inside parameters, states that are stored and restored."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spheregeo import tasks
from spheregeo.nn.irreps import IrrepsLinear
from spheregeo.tasks.optimizers import SOAP, MatrixBlock, matrix_blocks

F64 = torch.float64


def problem(rows: int = 4, columns: int = 3) -> tuple[Tensor, Any]:
    """A matrix and a loss whose Hessian mixes entries, of condition number 1e4."""
    g = torch.Generator().manual_seed(0)
    a = torch.linalg.qr(torch.randn(rows, rows, generator=g, dtype=F64))[0] * torch.logspace(
        0, -1, rows, dtype=F64
    )
    b = torch.linalg.qr(torch.randn(columns, columns, generator=g, dtype=F64))[0] * torch.logspace(
        0, -1, columns, dtype=F64
    )
    truth = torch.randn(rows, columns, generator=g, dtype=F64)
    return torch.zeros(rows, columns, dtype=F64), lambda w: (a.T @ (w - truth) @ b).square().sum()


def plain_soap(w: Tensor, loss: Any, steps: int, lr: float, every: int, decay: float) -> Tensor:
    """Algorithm 3 for one matrix, with explicit loops over bases."""
    left: Any = None
    right, ql, qr, mean, squares = left, left, left, left, left
    for t in range(1, steps + 1):
        w = w.detach().requires_grad_()
        (g,) = torch.autograd.grad(loss(w), w)
        if t == 1:
            left, right, mean, squares = g @ g.T, g.T @ g, 0 * g, 0 * g
            ql, qr = torch.linalg.eigh(left)[1], torch.linalg.eigh(right)[1]
        else:
            left, right = 0.95 * left + 0.05 * g @ g.T, 0.95 * right + 0.05 * g.T @ g
        mean = 0.95 * mean + 0.05 * g
        squares = 0.95 * squares + 0.05 * (ql.T @ g @ qr) ** 2
        step = (ql.T @ mean @ qr) / (1 - 0.95**t) / ((squares / (1 - 0.95**t)).sqrt() + 1e-8)
        w = w.detach() * (1 - lr * decay) - lr * ql @ step @ qr.T
        if t % every == 0 or t in (1, 2, 5):
            for side in (0, 1):
                products, basis = (left, ql) if side == 0 else (right, qr)
                order = sorted(range(len(basis)), key=lambda k: -float(basis[:, k] @ products @ basis[:, k]))
                basis = torch.linalg.qr(products @ basis[:, order])[0]
                if side == 0:
                    ql, squares = basis, squares[order]
                else:
                    qr, squares = basis, squares[:, order]
    return w


def run(weights: list[Tensor], loss: Any, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        loss(weights).backward()
        optimizer.step()


def test_equals_the_algorithm_for_one_matrix() -> None:
    start, loss = problem(4, 4)
    weight = nn.Parameter(start.clone())
    run([weight], lambda w: loss(w[0]), SOAP([weight], lr=0.05, every=4, weight_decay=0.1), 23)
    assert torch.allclose(weight, plain_soap(start, loss, 23, 0.05, 4, 0.1), rtol=1e-7, atol=1e-9)


def test_matrices_of_one_shape_inside_one_parameter() -> None:
    """Two matrices in one flat parameter, a third by its shape, and a vector, do not see one another."""
    start, loss = problem()
    flat, other, vector = (
        nn.Parameter(t) for t in (torch.zeros(24, dtype=F64), start.clone(), torch.ones(5, dtype=F64))
    )

    def total(w: list[Tensor]) -> Tensor:
        first, second = w[0].view(2, 4, 3)
        result: Tensor = loss(first) + 100 * loss(2 * second) + loss(w[1]) + (w[2] - 3).square().sum()
        return result

    blocks: dict[Tensor, list[MatrixBlock]] = {flat: [MatrixBlock(0, 4, 3), MatrixBlock(12, 4, 3)]}
    run([flat, other, vector], total, SOAP([flat, other, vector], lr=0.05, every=4, blocks=blocks), 15)
    alone = nn.Parameter(start.clone())
    run([alone], lambda w: loss(w[0]), SOAP([alone], lr=0.05, every=4), 15)
    assert torch.allclose(flat.view(2, 4, 3)[0], alone, rtol=1e-8) and torch.allclose(other, alone, rtol=1e-8)
    adam = nn.Parameter(torch.ones(5, dtype=F64))
    run(
        [adam], lambda w: (w[0] - 3).square().sum(), torch.optim.Adam([adam], lr=0.05, betas=(0.95, 0.95)), 15
    )
    assert torch.allclose(vector, adam, rtol=1e-6)


@pytest.mark.parametrize("largest", [256, 6, 1])
def test_needs_fewer_steps_than_adam_and_takes_a_side_that_is_too_large_as_it_is(largest: int) -> None:
    start, loss = problem(8, 6)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    run([ours], lambda w: loss(w[0]), SOAP([ours], lr=0.05, largest=largest), 150)
    run([theirs], lambda w: loss(w[0]), torch.optim.Adam([theirs], lr=0.05, betas=(0.95, 0.95)), 150)
    ratio = float(loss(ours.detach()) / loss(theirs.detach()))
    assert ratio < 0.5 if largest > 1 else abs(ratio - 1) < 1e-4


def test_goes_on_from_a_stored_state() -> None:
    start, loss = problem()
    first, second = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    whole, half = SOAP([first], lr=0.05), SOAP([second], lr=0.05)
    run([first], lambda w: loss(w[0]), whole, 14)
    run([second], lambda w: loss(w[0]), half, 7)
    third = nn.Parameter(second.detach().clone())
    rest = SOAP([third], lr=0.05)
    rest.load_state_dict(copy.deepcopy(half.state_dict()))
    run([third], lambda w: loss(w[0]), rest, 7)
    assert torch.equal(first, third)


def test_a_task_takes_it_and_knows_the_matrices_of_irreps() -> None:
    layer = IrrepsLinear("4x0e + 2x1o", "3x0e + 2x1o")
    assert matrix_blocks(layer)[layer.weight] == [MatrixBlock(0, 4, 3), MatrixBlock(12, 2, 2)]
    task = tasks.Forces(network="steerable-molecule", width=8, depth=1, optimizer="soap")
    optimizer = task.configure_optimizers()
    assert isinstance(optimizer, SOAP) and task.hparams["optimizer"] == "soap"
    held = [p for items in optimizer._matrices.values() for p, _ in items]
    held += [p for others in optimizer._others for p in others]
    assert {id(p) for p in held} == {id(p) for p in task.parameters() if p.requires_grad}
    for p in task.parameters():
        p.grad = torch.randn_like(p)
    before = [p.detach().clone() for p in task.parameters()]
    optimizer.step()
    assert all(not torch.equal(a, b) for a, b in zip(before, task.parameters(), strict=True))
    with pytest.raises(ValueError, match="optimizer is 'sgd'"):
        tasks.Forces(width=8, depth=1, optimizer="sgd")
    with pytest.raises(ValueError, match="betas"):
        SOAP(list(task.parameters()), betas=(1.0, 0.9))
