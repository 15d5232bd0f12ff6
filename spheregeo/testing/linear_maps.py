r"""Linear layers against all linear maps that their symmetry allows, found numerically.

A linear map A between two representations is equivariant if P_out(g) A = A P_in(g) for the generators g of a group. The
null space of these equations holds every map there is, so a layer's maps must lie in it, and a layer that loses no freedom
spans it.
Reference: Kondor & Trivedi 2018, arXiv 1802.03690.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from spheregeo.audit import randomise
from spheregeo.testing.report import CheckError, require

Action = Callable[[Tensor], Tensor]


def matrix_of(function: Action, shape: Sequence[int]) -> Tensor:
    """Return the matrix of the linear part of a function of features, by its values on unit features and on zero.

    Args:
        function: function of a batch (B, *shape), linear up to a constant.
        shape: shape of the features of one sample.

    Shape: -> (numbers that go out, numbers that come in), float64.
    """
    size = int(torch.tensor(list(shape)).prod())
    units = torch.cat([torch.eye(size, dtype=torch.float64), torch.zeros(1, size, dtype=torch.float64)])
    with torch.no_grad():
        images = function(units.reshape(-1, *shape)).reshape(size + 1, -1)
    return (images[:-1] - images[-1]).T.contiguous()


def equivariant_maps(
    acts_in: Sequence[Tensor], acts_out: Sequence[Tensor], support: Tensor | None = None
) -> Tensor:
    """Return an orthonormal basis of all matrices A with P_out A = A P_in for each pair of matrices of the generators.

    Args:
        acts_in: matrices of the generators on what comes in.
        acts_out: matrices of the generators on what goes out, in the order of ``acts_in``.
        support: entries of A that may differ from zero, such as the taps of a small kernel; all if None.

    Shape: acts_in (n, n) each, acts_out (m, m) each, support (m, n) bool -> (dimension, m, n) float64.
    Raises: ValueError for lists of different lengths, or none.
    """
    if len(acts_in) != len(acts_out) or not len(acts_in):
        raise ValueError(
            f"acts_in has {len(acts_in)} matrices and acts_out {len(acts_out)}; expected as many, one or more"
        )
    n, m = len(acts_in[0]), len(acts_out[0])
    allowed = torch.ones(m, n, dtype=torch.bool) if support is None else support
    kept = allowed.flatten().nonzero().flatten()
    normal = torch.zeros(len(kept), len(kept), dtype=torch.float64)
    for into, out in zip(acts_in, acts_out, strict=True):
        # row by row of A: vec(P_out A − A P_in)
        left = torch.kron(out.double(), torch.eye(n, dtype=torch.float64))
        right = torch.kron(torch.eye(m, dtype=torch.float64), into.double().T.contiguous())
        equations = (left - right)[:, kept]
        normal += equations.T @ equations
    values, vectors = torch.linalg.eigh(normal)
    found = vectors[:, values < 1e-10 * max(1.0, float(values[-1:].max()) if len(kept) else 1.0)]
    basis = torch.zeros(found.shape[1], m * n, dtype=torch.float64)
    basis[:, kept] = found.T
    return basis.reshape(-1, m, n)


def check_linear_layer(
    layer: nn.Module,
    shape: Sequence[int],
    acts_in: Sequence[Action],
    acts_out: Sequence[Action],
    *,
    support: Tensor | None = None,
    complete: bool = True,
    tolerance: float = 1e-10,
    seed: int = 0,
) -> dict[str, float]:
    """Check that a layer's linear maps are equivariant, and that they are all that there are.

    The layer is drawn at random again and again; its maps must lie in the space of all equivariant maps, and span it.

    Args:
        layer: a layer that is linear in its input, up to a bias, and in its weights; left as it is.
        shape: shape of one sample's features.
        acts_in: functions that act as the generators of the group on a batch of what comes in.
        acts_out: functions that act as the generators on what goes out, in the order of ``acts_in``.
        support: entries of the matrix that the layer may use, as for :func:`equivariant_maps`.
        complete: whether the layer has to span all equivariant maps.
        tolerance: largest part of a map outside the space, relative to the map.
        seed: of the draws.

    Returns:
        ``dimension`` of the space of equivariant maps, ``rank`` of the layer's own maps, and the largest ``residual``.

    Raises: CheckError, an ``AssertionError``, where maps lie outside, or are too few.

    Example:
        >>> from spheregeo.nn import QuotientConv
        >>> conv = QuotientConv("C4", 1, 1)
        >>> roll = lambda x: x.roll(1, 1)
        >>> found = check_linear_layer(conv, (4,), [roll], [roll])
        >>> found["dimension"], found["rank"]
        (4, 4)
    """
    layer = copy.deepcopy(layer).double().eval()
    generator = torch.Generator().manual_seed(seed)
    first = matrix_of(layer, shape)
    with torch.no_grad():
        out_shape = layer(torch.zeros(1, *shape, dtype=torch.float64)).shape[1:]
    into = [matrix_of(act, shape) for act in acts_in]
    out = [matrix_of(act, out_shape) for act in acts_out]
    space = equivariant_maps(into, out, support).flatten(1)
    residual, drawn = 0.0, []
    for _ in range(len(space) + 3):
        randomise(layer, generator)
        drawn.append(matrix_of(layer, shape).flatten())
        outside = drawn[-1] - (space @ drawn[-1]) @ space
        residual = max(residual, float(outside.norm() / drawn[-1].norm().clamp_min(1e-300)))
    require(
        residual <= tolerance,
        f"{type(layer).__name__} has maps outside the {len(space)} equivariant ones: residual {residual:.2e}, at most "
        f"{tolerance:.0e} allowed",
    )
    values = torch.linalg.svdvals(torch.stack(drawn))
    rank = int((values > 1e-9 * values[0]).sum()) if first.numel() else 0
    if complete and rank != len(space):
        raise CheckError(f"{type(layer).__name__} spans {rank} of {len(space)} equivariant maps")
    return {"dimension": len(space), "rank": rank, "residual": residual}
