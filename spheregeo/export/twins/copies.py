"""Plain twins of what copies points: ``Gather`` and the frames of the icosahedron's charts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spheregeo.nn.sphere.icosahedral.padding import Padding
from spheregeo.sparse import Gather


class PlainGather(nn.Module):
    """What :class:`spheregeo.sparse.Gather` computes: sums of a few weighted points first, then one gather of all.

    Args:
        gather: the layer.

    Shape: (B, C, Q) -> (B, C, M).

    Example:
        >>> gather, x = Gather([2, -1, 0], 3, ([1], [2], [0.5])), torch.randn(1, 2, 3)
        >>> torch.equal(PlainGather(gather)(x), gather(x))
        True
    """

    def __init__(self, gather: Gather) -> None:
        super().__init__()
        self.num_source = gather.num_source
        index, empty = gather.get_buffer("index").long(), gather.get_buffer("empty")
        target, source, weight = (gather.get_buffer(name) for name in ("target", "source", "weight"))
        blank = torch.zeros(len(index), dtype=torch.bool)
        blank[empty] = True
        summed = target.unique()  # rows with extras
        terms = [
            [(int(index[row]), 1.0)] * (not bool(blank[row]))
            + [(int(q), float(w)) for q, w in zip(source[target == row], weight[target == row])]
            for row in summed.tolist()
        ]
        longest = max([1, *map(len, terms)])
        padded = [
            row + [(0, 0.0)] * (longest - len(row)) for row in [*terms, []]
        ]  # the last is the empty row
        pairs = torch.tensor(padded, dtype=torch.float64)  # (U + 1, E, 2)
        at = index.clone()
        at[blank] = self.num_source + len(summed)
        at[summed] = self.num_source + torch.arange(len(summed))
        self.register_buffer("terms", pairs[..., 0].long(), persistent=False)
        self.register_buffer("weights", pairs[..., 1].to(weight.dtype), persistent=False)
        self.register_buffer("at", at, persistent=False)
        self.needs_sums = bool(len(summed)) or bool(blank.any())

    def forward(self, x: Tensor) -> Tensor:
        if self.needs_sums:
            terms = self.get_buffer("terms")
            near = x.index_select(2, terms.flatten()).unflatten(2, terms.shape)
            x = torch.cat([x, (near * self.get_buffer("weights").to(x.dtype)).sum(3)], 2)
        return x.index_select(2, self.get_buffer("at"))


class PlainPadding(nn.Module):
    """What the icosahedron's :class:`~spheregeo.nn.sphere.icosahedral.padding.Padding` computes, as one gather.

    Args:
        padding: the layer.

    Shape: (B, C, 5, n, 2n) -> (B, 5, rows, columns, C).
    """

    def __init__(self, padding: Padding) -> None:
        super().__init__()
        tables = {
            name: padding.get_buffer(name)
            for name in ("cells", "owners", "turned", "mean_cells", "mean_of", "blank")
        }
        self.halved, self.size = padding.halved, tables["turned"].shape[1]
        # 30 n - 15 cells lie around the charts, of which a layer of stride 2 reads 15 n.
        self.n = len(tables["cells"]) // 15 if self.halved else (len(tables["cells"]) + 15) // 30
        n, top = self.n, 0 if self.halved else 1
        self.rows, self.width = n + 1 + top, 2 * n + 1 + top
        points = 5 * n * 2 * n
        at = torch.full((5, self.rows, self.width), -1)
        at[:, top : top + n, 1 : 2 * n + 1] = torch.arange(points).view(5, n, 2 * n)
        orient = torch.arange(self.size).repeat(at.numel(), 1)
        flat = at.view(-1)
        flat[tables["cells"]] = tables["owners"]
        orient[tables["cells"]] = tables["turned"]
        means = tables["mean_of"]
        flat[tables["mean_cells"]] = points + torch.arange(len(means))
        orient[tables["mean_cells"]] = torch.arange(self.size)
        flat[tables["blank"]] = points + len(means)
        self.register_buffer("mean_of", means.reshape(-1), persistent=False)
        self.register_buffer("at", (flat[:, None] * self.size + orient).reshape(-1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        b, c = x.shape[:2]
        points = x.flatten(2)  # (B, C, 5 n 2n)
        parts = [points]
        mean_of = self.get_buffer("mean_of")
        if len(mean_of):
            parts.append(points.index_select(2, mean_of).unflatten(2, (-1, 5)).mean(3))
        parts.append(torch.zeros_like(points[:, :, :1]))
        every = (
            torch.cat(parts, 2).unflatten(1, (-1, self.size)).transpose(2, 3).flatten(2)
        )  # (B, F, (points) size)
        framed = every.index_select(2, self.get_buffer("at")).unflatten(
            2, (-1, self.size)
        )  # (B, F, cells, size)
        return framed.permute(0, 2, 1, 3).reshape(b, 5, self.rows, self.width, c)
