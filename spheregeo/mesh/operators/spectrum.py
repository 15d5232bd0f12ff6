r"""Lowest eigenpairs of a surface's Laplacian, L φ = λ A φ, and the heat kernel signatures made of them."""

from __future__ import annotations

import sys
from typing import NamedTuple

import numpy as np
from scipy.linalg import eigh
from scipy.sparse import diags
from scipy.sparse.linalg import ArpackError, eigsh

from spheregeo.mesh.laplacian import Laplacian

DENSE = 300  # vertices up to which all eigenpairs are computed at once
LARGE = 20_000  # vertices from which a line on stderr says what takes long
SHIFT = -0.01  # of the inverse, in units of 1/area: below zero, where L is singular
TRIES = 5  # shifts, each ten times the one before
THIN = 1e-8  # area of a vertex of no face, in mean areas
TIE = 1e-6  # relative difference below which two eigenvalues are one


class Eigenbasis(NamedTuple):
    """Eigenvalues, ascending, and eigenvectors with Φᵀ A Φ = 1. Shape: values (k,), vectors (V, k). Units: 1/area; 1/length."""

    values: np.ndarray
    vectors: np.ndarray


def eigenbasis(laplacian: Laplacian, pairs: int) -> Eigenbasis:
    """The lowest eigenpairs; signs, and bases of degenerate eigenspaces, are arbitrary but repeat.

    Large problems are solved by shift and invert, with larger shifts where the factorisation fails.

    Args:
        laplacian: stiffness (V, V) and areas (V,); vertices without area get a little.
        pairs: how many, all V where there are fewer.

    Raises: ValueError for fewer than one pair, a surface without area, or where no shift leads to a solution.
    """
    count = len(laplacian.mass)
    total = float(laplacian.mass.sum())
    if pairs < 1 or not total > 0:
        raise ValueError(
            f"pairs is {pairs} and the area {total}; expected at least 1 pair on a surface with area"
        )
    share = laplacian.mass / total
    share = np.maximum(share, THIN * share.mean())
    # shift and invert wants a margin between the pairs asked for and those there are
    if count <= DENSE or pairs >= count - 1:
        last = min(pairs, count) - 1
        values, vectors = eigh(laplacian.matrix.toarray(), np.diag(share), subset_by_index=[0, last])
    else:
        values, vectors = _shift_and_invert(laplacian.matrix, share, pairs)
    return Eigenbasis(np.clip(values, 0, None) / total, vectors / np.sqrt(total))


def _shift_and_invert(stiffness, share: np.ndarray, pairs: int):  # type: ignore[no-untyped-def]
    count, mass = len(share), diags(share).tocsc()
    if count > LARGE:
        line = f"{pairs} eigenpairs of a surface of {count} vertices: may take a minute per 200,000 vertices"
        print(line, file=sys.stderr, flush=True)
    start = np.ones(count) + 0.1 * np.cos(np.arange(count))  # a fixed start makes the result repeat
    failure: Exception | None = None
    for k in range(TRIES):
        try:
            values, vectors = eigsh(stiffness, pairs, mass, sigma=SHIFT * 10**k, v0=start)
        except (ArpackError, RuntimeError) as error:  # no convergence, or a singular factor
            failure = error
            continue
        if np.isfinite(vectors).all():
            return values, vectors
    raise ValueError(
        f"the Laplacian of {count} vertices has no {pairs} eigenpairs that shifts up to {SHIFT * 10 ** (TRIES - 1)} find "
        f"({failure}); repair the mesh, or take its robust Laplacian"
    )


def whole_eigenspaces(basis: Eigenbasis, pairs: int) -> Eigenbasis:
    """The first pairs of a larger basis, less those of an eigenspace that the cut would go through.

    What is left spans the same functions whichever basis a degenerate eigenspace was given; one pair stays at least.

    Args:
        basis: with more than ``pairs`` pairs, or all there are.
        pairs: most pairs wanted.
    """
    values = basis.values
    if pairs < len(values):
        gaps = (
            np.diff(values[: pairs + 1]) > TIE * values[1 : pairs + 1]
        )  # whether a cut after each pair is clean
        clean = np.flatnonzero(gaps)
        pairs = int(clean[-1]) + 1 if len(clean) else pairs
    return Eigenbasis(values[:pairs], basis.vectors[:, :pairs])


def heat_kernel_signature(basis: Eigenbasis, times: np.ndarray) -> np.ndarray:
    r"""h_t(p) = sum_k exp(-lambda_k t) phi_k(p)²: how much of the heat put at p is still there after a time t.

    Args:
        basis: of the surface.
        times: (T,), in units of area.

    Shape: (T, V). Units: 1/area; divided by ``sum_k exp(-lambda_k t)``, its mean times the area is 1.
    Equivariance: no sign or basis of eigenvectors, motion, bending or reflection changes it.
    Reference: Sun, Ovsjanikov & Guibas 2009.
    """
    decay = np.exp(-basis.values * np.asarray(times, dtype=np.float64)[:, None])
    signature: np.ndarray = decay @ (basis.vectors**2).T
    return signature
