"""The steerable convolution against a plain correlation on SE(3), integrated over SO(3) by quadrature."""

from __future__ import annotations

import math

import pytest
import torch
from e3nn import o3

from spheregeo.groups import from_quaternion, random_rotations
from spheregeo.harmonics import clebsch_gordan, component_harmonics, wigner_D
from spheregeo.nn.irreps.sample_grids import rotation_grid
from spheregeo.nn.space import SteerableConv
from spheregeo.nn.space.steerable.group_convolution import (
    group_irreps,
    group_kernel,
    output_degrees,
    path_weights,
)

LMAX, FILTER = 2, 2  # of features, and of the kernel in space
CHANNELS_IN, CHANNELS_OUT = 2, 3


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def radial(r):
    """A scalar profile for every (l1, l2): any function of the distance will do."""
    return torch.exp(-0.5 * r) * (1 + r)


def random_kernel():
    """Coefficients [out, in, m2, k, n1] for all l1 of the input and l2 of the filter."""
    return {
        (l1, l2): torch.randn(CHANNELS_OUT, CHANNELS_IN, 2 * l2 + 1, 2 * l1 + 1, 2 * l1 + 1)
        for l1 in range(LMAX + 1)
        for l2 in range(FILTER + 1)
    }


def cloud():
    positions = torch.randn(4, 3)
    source, target = torch.tensor([(j, i) for i in range(4) for j in range(4) if i != j]).T
    return positions, source, target


def values(F, R):
    """F(R) of Fourier matrices {l: (..., 2l+1, 2l+1)} at rotations (S, 3, 3). Shape: (..., S)."""
    return sum(torch.einsum("...mn,smn->...s", f, wigner_D(l, R)) for l, f in F.items())


def correlation(F, kernel, positions, source, target, R):
    """out(x, R), straight from the definition. Shape: (points, out, S)."""
    q, weights = rotation_grid(
        LMAX + 1, 2 * LMAX + 1, 2 * LMAX + 1
    )  # exact for products of two functions of degree LMAX
    Q = from_quaternion(q)
    signal = values(F, Q) * weights  # (points, in, G)
    out = torch.zeros(len(positions), CHANNELS_OUT, len(R))
    for j, i in zip(source.tolist(), target.tolist()):
        offset = positions[j] - positions[i]
        for s, rotation in enumerate(R):
            inner = rotation.T @ offset
            Y = component_harmonics(inner, FILTER)
            for (l1, l2), k in kernel.items():
                D = wigner_D(l1, rotation.T @ Q)  # (G, k, n1)
                value = torch.einsum("oimkn,m,gkn->oig", k, Y[l2 * l2 : (l2 + 1) ** 2], D)
                out[i, :, s] += radial(offset.norm()) * torch.einsum("oig,ig->o", value, signal[j])
    return out


def steerable(F, weights, positions, source, target):
    """The tensor-product convolution: {l3: (points, out, m3, n3)}."""
    offset = positions[source] - positions[target]
    Y, size = component_harmonics(offset, FILTER), radial(offset.norm(dim=1))
    out = {}
    for (l1, l2), paths in weights.items():
        y = Y[:, l2 * l2 : (l2 + 1) ** 2] * size[:, None]
        for l3, w in paths.items():
            C = clebsch_gordan(l1, l2, l3)
            message = torch.einsum("abc,eian,eb,oinp->eocp", C, F[l1][source], y, w)
            empty = torch.zeros(len(positions), CHANNELS_OUT, 2 * l3 + 1, 2 * l3 + 1)
            out[l3] = out.get(l3, empty).index_add(0, target, message)
    return out


def features(positions):
    return {l: torch.randn(len(positions), CHANNELS_IN, 2 * l + 1, 2 * l + 1) for l in range(LMAX + 1)}


def test_group_convolution_is_a_steerable_convolution():
    positions, source, target = cloud()
    F, kernel, R = features(positions), random_kernel(), random_rotations(4)
    expected = correlation(F, kernel, positions, source, target, R)
    weights = {(l1, l2): path_weights(k, l1, l2) for (l1, l2), k in kernel.items()}
    out = steerable(F, weights, positions, source, target)
    assert max(out) == LMAX + FILTER
    torch.testing.assert_close(values(out, R), expected, atol=1e-10, rtol=0)
    assert float(expected.abs().mean()) > 1


def test_steerable_convolution_is_a_group_convolution():
    """The other way: any path weights have a kernel on the group."""
    positions, source, target = cloud()
    F, R = features(positions), random_rotations(3)
    weights = {
        (l1, l2): {
            l3: torch.randn(CHANNELS_OUT, CHANNELS_IN, 2 * l1 + 1, 2 * l3 + 1)
            for l3 in output_degrees(l1, l2)
        }
        for l1 in range(LMAX + 1)
        for l2 in range(FILTER + 1)
    }
    kernel = {(l1, l2): group_kernel(w, l1, l2) for (l1, l2), w in weights.items()}
    out = steerable(F, weights, positions, source, target)
    expected = correlation(F, kernel, positions, source, target, R)
    torch.testing.assert_close(values(out, R), expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("l1, l2", [(0, 0), (1, 0), (0, 2), (1, 1), (2, 3), (4, 2)])
def test_conversions_are_inverse_to_each_other(l1, l2):
    kernel = torch.randn(2, 2 * l2 + 1, 2 * l1 + 1, 2 * l1 + 1)
    weights = path_weights(kernel, l1, l2)
    assert sum(w[0].numel() for w in weights.values()) == kernel[0].numel()
    torch.testing.assert_close(group_kernel(weights, l1, l2), kernel, atol=1e-12, rtol=0)
    again = path_weights(group_kernel(weights, l1, l2), l1, l2)
    for l3, w in weights.items():
        torch.testing.assert_close(again[l3], w, atol=1e-12, rtol=0)


def test_weights_serve_e3nn_tensor_product():
    """One channel, one edge: e3nn's product over copies n, with its path coefficients divided out, gives the same."""
    l1, l2, l3 = 2, 1, 2
    w = path_weights(torch.randn(2 * l2 + 1, 2 * l1 + 1, 2 * l1 + 1), l1, l2)[l3]
    product = o3.TensorProduct(
        f"{2 * l1 + 1}x{l1}e",
        f"1x{l2}e",
        f"{2 * l3 + 1}x{l3}e",
        [(0, 0, 0, "uvw", True)],
        path_normalization="none",
    )
    F, r = torch.randn(2 * l1 + 1, 2 * l1 + 1), torch.randn(3)  # (m1, n1)
    y = component_harmonics(r, l2)[l2 * l2 :]
    product.weight.data = w.flatten()
    theirs = product(F.T.flatten(), y).view(2 * l3 + 1, 2 * l3 + 1).T  # copies come first in e3nn's layout
    coefficient = math.sqrt(2 * l3 + 1)  # component normalisation of the output
    ours = torch.einsum("abc,an,b,np->cp", clebsch_gordan(l1, l2, l3), F, y, w)
    torch.testing.assert_close(theirs / coefficient, ours, atol=1e-12, rtol=0)


def test_irreps_of_group_features():
    assert str(group_irreps(3, 2)) == "3x0e+9x1e+15x2e"


def test_faults_name_what_came():
    with pytest.raises(ValueError, match=r"expected \(\.\.\., 5, 3, 3\)"):
        path_weights(torch.zeros(3, 3, 3), 1, 2)
    with pytest.raises(ValueError, match="weights is empty"):
        group_kernel({}, 1, 1)
    with pytest.raises(ValueError, match="weights of degree 3"):
        group_kernel({3: torch.zeros(3, 7)}, 1, 1)
    with pytest.raises(ValueError, match="lmax -1"):
        group_irreps(1, -1)


def test_the_layer_itself_with_converted_weights():
    """``SteerableConv`` on group features is the correlation; parities only tell even from odd filters, whose sum is wanted."""
    positions, source, target = cloud()
    F, kernel, R = features(positions), random_kernel(), random_rotations(3)
    expected = correlation(F, kernel, positions, source, target, R)
    top = LMAX + FILTER
    out = [(CHANNELS_OUT * (2 * l + 1), (l, p)) for l in range(top + 1) for p in (1, -1)]
    irreps_out = o3.Irreps(out)
    conv = SteerableConv(group_irreps(CHANNELS_IN, LMAX), irreps_out, lmax=FILTER, edge_dim=1)
    weight_of = dict(zip(conv.table.reached, conv.weights))
    with torch.no_grad():
        for path in conv.table.paths:
            l1, l3 = conv.table.sources[path.source].l, conv.table.targets[path.target].l
            w = path_weights(kernel[l1, path.degree], l1, path.degree)[l3]  # (out, in, n1, n3)
            scale = math.sqrt((2 * l3 + 1) / conv.table.rows[path.target])  # e3nn's path coefficient
            rows = w.permute(1, 2, 0, 3).reshape(path.copies, -1) / scale
            weight_of[path.target][0, path.row : path.row + path.copies] = rows
    x = torch.cat([F[l].transpose(2, 3).flatten(1) for l in range(LMAX + 1)], 1)  # copies (c, n), then m
    size = radial((positions[source] - positions[target]).norm(dim=1))[:, None]
    y = conv(x, positions, torch.stack([source, target]), edge_features=size)
    found = {}
    for (_, ir), part in zip(irreps_out, irreps_out.slices()):
        block = y[:, part].unflatten(1, (CHANNELS_OUT, ir.dim, ir.dim)).transpose(2, 3)
        found[ir.l] = found.get(ir.l, 0) + block
    torch.testing.assert_close(values(found, R), expected, atol=1e-10, rtol=0)
