r"""What gradient descent makes of linear networks: the direction that they learn on separable data, and its sparsity.

A linear network of depth L computes f(x) = <β, x> whatever its architecture, but the architecture decides which β the descent
finds: with an exponential loss, fully connected networks tend to the largest margin in the Euclidean norm, and full-width
convolutions over a group G to stationary points of the Schatten norm of exponent 2/L in G's Fourier basis, at margins of at
least 1.
Reference: Lawrence, Georgiev, Dienes & Kiani 2022, arXiv 2110.06084; Gunasekar, Lee, Soudry & Srebro 2018, arXiv 1806.00468.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spheregeo.checks import check_least
from spheregeo.groups import FiniteGroup, schatten_norm

__all__ = [
    "BiasReport",
    "LinearGroupNetwork",
    "bias_report",
    "descend",
    "max_margin_direction",
    "separable_data",
]

KINDS = ("group", "cyclic", "dense")


class LinearGroupNetwork(nn.Module):
    """A linear network of functions on a finite group: full-width layers, then one number.

    Args:
        group: the group, or its name.
        depth: number of layers with weights; 1 is one weight vector.
        kind: "group" for convolutions over the group, "cyclic" for ordinary circular ones over as many points, "dense" for fully
            connected layers.
        scale: standard deviation of the initial weights, times the square root of the number of elements.

    Shape: (B, group.order) -> (B,).
    Equivariance: all layers but the last, under the group ("group") or circular shifts ("cyclic"), exact.
    Raises: ValueError for a depth below 1 or another kind.

    Example:
        >>> network = LinearGroupNetwork("D4", depth=2).double()
        >>> x = torch.randn(3, 8, dtype=torch.float64)
        >>> bool(torch.allclose(network(x), x @ network.direction()))
        True
    """

    index: Tensor

    def __init__(
        self, group: str | FiniteGroup, depth: int = 2, kind: str = "group", scale: float = 0.3
    ) -> None:
        super().__init__()
        check_least(depth=(depth, 1))
        if kind not in KINDS:
            raise ValueError(f"kind is {kind!r}; expected one of {', '.join(KINDS)}")
        self.group, self.kind = FiniteGroup.of(group), kind
        n = self.group.order
        table = self.group if kind == "group" else FiniteGroup.of(f"C{n}")
        self.register_buffer("index", table.relative, persistent=False)
        inner = (n, n) if kind == "dense" else (n,)
        shapes = [inner] * (depth - 1) + [(n,)]
        self.weights = nn.ParameterList(
            [nn.Parameter(torch.randn(shape) * scale / math.sqrt(n)) for shape in shapes]
        )

    def direction(self) -> Tensor:
        """Return the vector β with f(x) = <β, x>. Shape: -> (group.order,)."""
        *inner, beta = self.weights
        for weight in reversed(inner):
            beta = beta @ (weight if self.kind == "dense" else weight[self.index])
        return beta

    def forward(self, x: Tensor) -> Tensor:
        *inner, last = self.weights
        for weight in inner:
            x = x @ (weight if self.kind == "dense" else weight[self.index]).T
        return x @ last


def separable_data(group: str | FiniteGroup, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return Gaussian functions on a group and a random sign of each; fewer samples than elements can always be separated.

    Args:
        group: the group, or its name.
        count: number of samples.
        generator: source of random numbers.

    Shape: -> (count, group.order) and (count,), float64. Raises: ValueError for as many samples as elements, or more.
    """
    order = FiniteGroup.of(group).order
    if not 1 <= count < order:
        raise ValueError(
            f"count is {count}; expected 1 … {order - 1}, fewer samples than elements of the group"
        )
    x = torch.randn(count, order, generator=generator, dtype=torch.float64)
    signs = torch.randint(0, 2, (count,), generator=generator) * 2 - 1
    return x, signs.double()


def descend(
    network: LinearGroupNetwork,
    x: Tensor,
    signs: Tensor,
    log_loss: float = -150.0,
    *,
    rate: float = 0.01,
    steps: int = 20000,
) -> int:
    """Lower the exponential loss mean(exp(−sign · f(x))) by gradient descent with steps of equal length; return their number.

    Steps in proportion to the gradient would take a time that grows with the exponential of the margin.

    Args:
        network: the network, trained in place.
        x: samples.
        signs: their labels, −1 or 1.
        log_loss: natural logarithm of the loss at which to stop.
        rate: length of a step in the space of all weights.
        steps: largest number of steps.

    Shape: x (count, group.order), signs (count,). Raises: RuntimeError where the loss is not reached.
    """
    signed, weights, reached = x * signs[:, None], list(network.parameters()), 0.0
    for step in range(steps):
        loss = torch.logsumexp(-signed @ network.direction(), 0) - math.log(len(x))
        reached = float(loss.detach())
        if reached <= log_loss:
            return step
        found = torch.autograd.grad(loss, weights)
        length = math.sqrt(sum(float(g.square().sum()) for g in found))
        with torch.no_grad():
            for weight, gradient in zip(weights, found, strict=True):
                weight.sub_(gradient, alpha=rate / max(length, 1e-300))
    raise RuntimeError(
        f"the loss is exp({reached:.1f}) after {steps} steps, above exp({log_loss:.1f}): raise rate or steps"
    )


def max_margin_direction(x: Tensor, signs: Tensor) -> Tensor:
    """Return the unit vector of the largest margin, min over samples of sign <β, x>: a linear support vector machine.

    Args:
        x: samples that can be separated by a plane through the origin.
        signs: their labels, −1 or 1.

    Shape: x (count, n), signs (count,) -> (n,). Raises: ValueError where the samples cannot be separated.
    """
    from scipy.optimize import nnls

    signed = (x * signs[:, None]).double().numpy()
    system = torch.cat([torch.from_numpy(signed).T, torch.ones(1, len(signed), dtype=torch.float64)])
    target = torch.zeros(len(system), dtype=torch.float64)
    target[-1] = 1
    # the dual problem: the residual of this least-squares fit is orthogonal to the active samples
    share, distance = nnls(system.numpy(), target.numpy())
    beta = torch.from_numpy(share @ signed)
    if distance < 1e-9:
        raise ValueError("the samples cannot be separated by a plane through the origin")
    return beta / beta.norm()


@dataclass(frozen=True)
class BiasReport:
    """Sparsity of a direction β of length 1, and its margin.

    Args:
        group_norm: Schatten norm of exponent 2/L in the group's Fourier basis.
        cyclic_norm: the same norm in the Fourier basis of the cyclic group with as many elements.
        direct_norm: norm of exponent 2/L of β's own entries.
        margin: smallest sign · <β, x> over the samples; norms divided by it are those at margin 1, which the descent makes small.
        cosine: of the angle between β and the direction of the largest margin.
    """

    group_norm: float
    cyclic_norm: float
    direct_norm: float
    margin: float
    cosine: float


def bias_report(network: LinearGroupNetwork, x: Tensor, signs: Tensor) -> BiasReport:
    """Return the norms and the margin of what a linear network has learnt.

    Args:
        network: a trained network.
        x: the samples that the network was trained on.
        signs: their labels, −1 or 1.
    """
    beta = network.direction().detach()
    beta = beta / beta.norm()
    p = 2 / len(network.weights)
    return BiasReport(
        group_norm=float(schatten_norm(beta, network.group, p)),
        cyclic_norm=float(schatten_norm(beta, f"C{network.group.order}", p)),
        direct_norm=float(beta.abs().pow(p).sum().pow(1 / p)),
        margin=float((x @ beta * signs).min()),
        cosine=float(beta @ max_margin_direction(x, signs)),
    )
