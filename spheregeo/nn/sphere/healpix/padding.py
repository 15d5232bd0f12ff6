"""Fields on HEALPix as images of the twelve faces, with or without a border taken from the neighbouring faces."""

from __future__ import annotations

from torch import Tensor, nn

from spheregeo.checks import check_tensor
from spheregeo.grids import HEALPix
from spheregeo.nn.sphere.healpix.faces import (
    check_grid,
    faces_map,
    from_images,
    padding_map,
    pixels_map,
    to_images,
)


class OnHEALPix(nn.Module):
    """A layer that knows its grid and checks its input."""

    def __init__(self, grid: HEALPix) -> None:
        super().__init__()
        self.grid = check_grid(grid)

    def _check_field(self, x: Tensor, channels: int | None = None) -> None:
        check_tensor(x)
        if (
            x.ndim != 3
            or x.shape[2] != self.grid.num_points
            or (channels is not None and x.shape[1] != channels)
        ):
            expected = "channels" if channels is None else channels
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected (batch, {expected}, {self.grid.num_points}), "
                f"the fields of {self.grid!r}"
            )

    def _check_faces(self, x: Tensor) -> None:
        check_tensor(x)
        n = self.grid.nside
        if x.ndim != 4 or x.shape[0] % 12 or tuple(x.shape[2:]) != (n, n):
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected (12 batch, channels, {n}, {n}), the faces of {self.grid!r}"
            )

    def extra_repr(self) -> str:
        return f"{self.grid!r}"


class ToFaces(OnHEALPix):
    """Field as images of the twelve faces, faces in the batch axis: image 12 b + f is face f of sample b.

    Row y and column x are healpy's ``pix2xyf``: from the south corner, columns go north-east, rows north-west.

    Args:
        grid: HEALPix grid, either order.

    Shape: (B, C, N) -> (12 B, C, nside, nside), channels last in memory.
    Raises: ValueError for another grid than HEALPix, or an input that is not on it.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.nn import ToFaces
        >>> ToFaces(HEALPix(4))(torch.randn(2, 3, 192)).shape
        torch.Size([24, 3, 4, 4])
    """

    def __init__(self, grid: HEALPix) -> None:
        super().__init__(grid)
        self.gather = faces_map(self.grid)

    def forward(self, x: Tensor) -> Tensor:
        self._check_field(x)
        return to_images(self.gather(x), self.grid.nside)


class FromFaces(OnHEALPix):
    """The inverse of :class:`ToFaces`.

    Args:
        grid: HEALPix grid, either order.

    Shape: (12 B, C, nside, nside) -> (B, C, N), channels last in memory.
    Raises: ValueError for another grid than HEALPix, or an input that is no faces of it.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.nn import FromFaces
        >>> FromFaces(HEALPix(4))(torch.randn(24, 3, 4, 4)).shape
        torch.Size([2, 3, 192])
    """

    def __init__(self, grid: HEALPix) -> None:
        super().__init__(grid)
        self.gather = pixels_map(self.grid)

    def forward(self, x: Tensor) -> Tensor:
        self._check_faces(x)
        result: Tensor = self.gather(from_images(x))
        return result


class HEALPixPad(OnHEALPix):
    """Images of the twelve faces with a border of ``width`` cells from their neighbours, for planar layers.

    Args:
        grid: HEALPix grid, either order.
        width: 0 to nside.
        missing: the two tiles at three-valent corners: "mean" fills them from the neighbours on both sides, averaged on
            the diagonal (:mod:`spheregeo.nn.sphere.healpix.faces`); "drop" leaves zeros.
        faces: whether the input is images of the faces, as :class:`ToFaces` gives them, in place of pixels.

    Shape: (B, C, N), or (12 B, C, nside, nside) if ``faces``, -> (12 B, C, nside + 2 width, nside + 2 width).
    Equivariance: exact under the eight rotations of the grid, up to the planar turns that they bring to the faces.
    Raises: ValueError for another grid than HEALPix, a width or rule that does not fit, or an input that is not on the grid.
    Reference: Karlbauer et al. 2024, arXiv:2311.06253.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.nn import HEALPixPad
        >>> HEALPixPad(HEALPix(4), 1)(torch.randn(2, 3, 192)).shape
        torch.Size([24, 3, 6, 6])
    """

    def __init__(self, grid: HEALPix, width: int, *, missing: str = "mean", faces: bool = False) -> None:
        super().__init__(grid)
        if missing not in ("drop", "mean"):
            raise ValueError(f"missing is {missing!r}; expected 'drop' or 'mean'")
        self.width, self.missing, self.faces = width, missing, faces
        self.gather = padding_map(self.grid, width, missing, faces)

    def forward(self, x: Tensor) -> Tensor:
        if self.faces:
            self._check_faces(x)
            x = from_images(x)
        else:
            self._check_field(x)
        return to_images(self.gather(x), self.grid.nside + 2 * self.width)

    def extra_repr(self) -> str:
        return f"{self.grid!r}, width={self.width}, missing={self.missing!r}, faces={self.faces}"
