"""Models of mace-torch as networks of this package: the same function, weights in another basis.

Nothing of mace-torch is imported: modules are read by their attributes. Factors that the other library applies at each call go
into the weights; products are expressed in this package's basis of equivariant polynomials, which spans all of theirs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spheregeo.models.molecules.mace import MACE
from spheregeo.nn.space.many_body import SymmetricContraction, product_basis

__all__ = ["converted_weights", "from_mace", "mace_options"]

TABLE = 119  # size of a table of elements that holds them all
_SKIPS = {(False, False): "none", (False, True): "later", (True, True): "all"}
_SPAN = 1e-4  # of a table of products: more than that outside our basis is no equivariant polynomial


def from_mace(model: nn.Module, head: str | int | None = None, in_channels: int = TABLE) -> MACE:
    """Return the network that computes what a model of mace-torch does, in the type of its weights.

    Of a ``ScaleShiftMACE`` or ``MACE`` with interactions of the kinds "RealAgnostic", "RealAgnosticResidual", and their "Density"
    forms; with Bessel functions, perhaps Agnesi's transform, perhaps the repulsion of nuclei. Energies with those of free atoms
    are :meth:`~spheregeo.models.molecules.mace.MACE.energy`; ``forward`` gives what the model calls the interaction energy.

    Args:
        model: the model.
        head: name or number of one of several heads; all of them, as ``out_channels``, if None.
        in_channels: size of the table of elements.

    Raises: ValueError for a model with parts that this network does not have; the message names them.

    Example:
        >>> from_mace(torch.nn.Linear(1, 1))
        Traceback (most recent call last):
        ...
        ValueError: model is a Linear; expected a MACE or ScaleShiftMACE of mace-torch
    """
    _check(model)
    network = MACE(in_channels, len(_heads(model, head)), **mace_options(model))
    like = next(model.parameters())
    network = network.to(device=like.device, dtype=like.dtype)
    found = {name: value.detach() for name, value in converted_weights(model, network, head).items()}
    missing, unexpected = network.load_state_dict(found, strict=False)
    if missing or unexpected:
        raise ValueError(
            f"model lacks {missing[:3]} or has {unexpected[:3]} beyond; expected a MACE of known parts"
        )
    _set_exactly(network, found)
    return network.train(model.training)


def _set_exactly(network: MACE, found: dict[str, Tensor]) -> None:
    """Energies of free atoms keep float64, whatever the type of the weights."""
    network.atomic_energies = found["atomic_energies"].double()


def _refuse(what: str) -> ValueError:
    return ValueError(f"model {what}, which this network does not have; expected a MACE of known parts")


def _check(model: Any) -> None:
    """Raises: ValueError for a model that is no MACE, or has parts that are not known."""
    parts = (
        "interactions",
        "products",
        "readouts",
        "node_embedding",
        "radial_embedding",
        "atomic_energies_fn",
    )
    if not all(hasattr(model, part) for part in parts):
        raise ValueError(
            f"model is a {type(model).__name__}; expected a MACE or ScaleShiftMACE of mace-torch"
        )
    if hasattr(model, "joint_embedding"):
        raise _refuse("has embeddings of further features")
    if not getattr(model, "apply_cutoff", True):
        raise _refuse("puts the cutoff on weights of edges (apply_cutoff False)")
    embedding = model.radial_embedding
    if type(embedding.bessel_fn).__name__ != "BesselBasis":
        raise _refuse(f"has a {type(embedding.bessel_fn).__name__}")
    cutoff, waves = float(model.r_max), embedding.bessel_fn.bessel_weights.detach().double().cpu()
    exact = math.pi / cutoff * torch.arange(1, len(waves) + 1, dtype=torch.float64)
    if not torch.allclose(waves, exact, rtol=1e-5):
        raise _refuse("has Bessel functions of trained frequencies")
    transform = getattr(embedding, "distance_transform", None)
    if transform is not None and type(transform).__name__ != "AgnesiTransform":
        raise _refuse(f"has a {type(transform).__name__}")
    for block, product in zip(model.interactions, model.products, strict=True):
        kind = type(block).__name__
        if kind not in (
            "RealAgnosticInteractionBlock",
            "RealAgnosticResidualInteractionBlock",
            "RealAgnosticDensityInteractionBlock",
            "RealAgnosticDensityResidualInteractionBlock",
        ):
            raise _refuse(f"has a {kind}")
        if str(block.edge_irreps) != str(block.node_feats_irreps):
            raise _refuse(f"has edges of other channels ({block.edge_irreps})")
        if not hasattr(product.symmetric_contractions, "contractions"):
            raise _refuse("has products of another library (convert it to e3nn first)")
        if not hasattr(block.conv_tp_weights, "hs"):
            raise _refuse(f"has a {type(block.conv_tp_weights).__name__} of distances")
    width = _width(model)
    terms = [block.node_feats_irreps for block in model.interactions] + [
        p.linear.irreps_out for p in model.products
    ]
    terms += [block.target_irreps for block in model.interactions]
    for irreps in terms:
        if any((mul, ir.l, ir.p) != (width, l, (-1) ** l) for l, (mul, ir) in enumerate(irreps)):
            raise _refuse(f"has features {irreps}")
    if model.products[-1].linear.irreps_out.lmax > 0:
        raise _refuse("has vectors after its last interaction")
    last = model.readouts[-1]
    if type(last).__name__ != "NonLinearReadoutBlock" and len(model.interactions) > 1:
        raise _refuse(f"ends in a {type(last).__name__}")


def _width(model: Any) -> int:
    return int(model.interactions[0].node_feats_irreps[0].mul)


def _heads(model: Any, head: str | int | None) -> list[int]:
    """Numbers of the heads that are taken. Raises: ValueError for one that the model has not."""
    names = list(getattr(model, "heads", None) or ["Default"])
    if head is None:
        return list(range(len(names)))
    if isinstance(head, str) and head in names:
        return [names.index(head)]
    if isinstance(head, int) and 0 <= head < len(names):
        return [head]
    raise ValueError(f"head is {head!r}; expected one of {', '.join(map(repr, names))}, or its number")


def mace_options(model: Any) -> dict[str, Any]:
    """Return the options of the network that a model of mace-torch becomes.

    Args:
        model: the model, see :func:`from_mace`.
    """
    blocks, embedding = list(model.interactions), model.radial_embedding
    residual = ["Residual" in type(block).__name__ for block in blocks]
    density = ["Density" in type(block).__name__ for block in blocks]
    later = (residual[0], residual[-1] if len(blocks) > 1 else residual[0])
    if any(kind != later[1] for kind in residual[1:]) or later not in _SKIPS or len(set(density)) > 1:
        raise _refuse(f"has interactions of the kinds {', '.join(type(block).__name__ for block in blocks)}")
    hidden = {tuple(int(n) for n in block.conv_tp_weights.hs[1:-1]) for block in blocks}
    means = {float(block.avg_num_neighbors) for block in blocks}
    if len(hidden) > 1 or len(means) > 1:
        raise _refuse("has interactions of different sizes")
    readout = model.readouts[-1]
    wide = int(readout.hidden_irreps.dim) if hasattr(readout, "hidden_irreps") else 0
    (widths,), (mean,) = hidden, means
    return {
        "width": _width(model),
        "depth": len(blocks),
        "lmax": int(blocks[0].edge_attrs_irreps.lmax),
        "hidden_lmax": int(model.products[0].linear.irreps_out.lmax) if len(blocks) > 1 else 0,
        "correlation": [int(_contractions(product)[0].correlation) for product in model.products],
        "cutoff": float(model.r_max),
        "basis": int(embedding.out_dim),
        "hidden": list(widths),
        "power": int(embedding.cutoff_fn.p),
        "num_neighbors": mean,
        "readout_width": wide // max(1, len(_heads(model, None))),
        "skip": _SKIPS[later],
        "density": density[0],
        "transform": "agnesi" if hasattr(embedding, "distance_transform") else None,
        "repulsion": hasattr(model, "pair_repulsion_fn"),
        "elements": sorted(int(z) for z in model.atomic_numbers),
    }


def _contractions(product: Any) -> list[Any]:
    return list(product.symmetric_contractions.contractions)


def converted_weights(model: Any, network: MACE, head: str | int | None = None) -> dict[str, Tensor]:
    """Return the weights of a network, by name, as differentiable functions of those of a model of mace-torch.

    Args:
        model: the model.
        network: a network of its sizes, see :func:`from_mace`.
        head: as there.
    """
    heads, found = _heads(model, head), dict[str, Tensor]()
    numbers = [int(z) for z in model.atomic_numbers]
    order = sorted(range(len(numbers)), key=lambda k: numbers[k])
    embedding = model.node_embedding.linear
    cutoff = float(model.r_max)
    basis = math.pi / (
        cutoff * math.sqrt(cutoff)
    )  # theirs are √(2/c) sin(nπr/c)/r, ours √2 sin(nπr/c)/(πr/c)
    found["embedding.weight"] = _matrices(embedding)[0][order]
    for k, (block, product, ours) in enumerate(
        zip(model.interactions, model.products, network.blocks, strict=True)
    ):
        found |= {
            f"blocks.{k}.{name}": value
            for name, value in _interaction(block, product, ours, order, basis).items()
        }
    every, k = list(model.readouts), len(network.blocks) - 1
    for layer in range(k):
        if len(every) == k + 1:
            found[f"heads.{layer}.weight"] = _matrices(every[layer].linear)[0].T[heads]
        else:  # the last is read alone
            found[f"heads.{layer}.weight"] = found["embedding.weight"].new_zeros(len(heads), network.width)
    found |= _last_readout(every[-1], heads, len(_heads(model, None)))
    found |= _energies(model, network, heads, numbers)
    transform, repulsion = (
        getattr(model.radial_embedding, "distance_transform", None),
        getattr(model, "pair_repulsion_fn", None),
    )
    if transform is not None:
        found["basis.constants"] = torch.stack([transform.q, transform.p, transform.a])
        found["basis.covalent_radii"] = transform.covalent_radii
    if repulsion is not None:
        found["repulsion.shares"] = repulsion.c
        found["repulsion.screening"] = torch.stack([repulsion.a_exp, repulsion.a_prefactor])
        found["repulsion.covalent_radii"] = repulsion.covalent_radii
    return found


def _energies(model: Any, network: MACE, heads: Sequence[int], numbers: Sequence[int]) -> dict[str, Tensor]:
    """Scale, shift and energies of free atoms."""
    like = model.atomic_energies_fn.atomic_energies
    scaling = getattr(model, "scale_shift", None)
    every = len(_heads(model, None))
    scale = torch.ones(every).to(like) if scaling is None else torch.atleast_1d(scaling.scale).expand(every)
    shift = torch.zeros(every).to(like) if scaling is None else torch.atleast_1d(scaling.shift).expand(every)
    free = torch.atleast_2d(like)[heads]
    table = torch.zeros(len(network.rows), len(heads)).to(like.device, torch.float64)
    table[numbers] = free.T.double()
    return {"scale": scale[heads], "shift": shift[heads], "atomic_energies": table}


def _matrices(linear: Any) -> list[Tensor]:
    """The (copies in, copies out) matrix of each output irrep of an e3nn ``Linear``, its normalisation included."""
    parts: dict[int, list[tuple[int, Tensor]]] = {}
    read = 0
    for step in linear.instructions:
        size = math.prod(step.path_shape)
        matrix = linear.weight[read : read + size].view(tuple(step.path_shape)) * step.path_weight
        parts.setdefault(step.i_out, []).append((step.i_in, matrix))
        read += size
    return [torch.cat([m for _, m in sorted(parts[k], key=lambda part: part[0])]) for k in sorted(parts)]


def _activation(act: Any) -> float:
    """The constant c of an activation c SiLU. Raises: ValueError for another one."""
    x = torch.linspace(-2, 3, 6, dtype=torch.float64)
    try:
        factors = act(x) / nn.functional.silu(x)
    except Exception:
        factors = torch.zeros(2)
    if float(factors.std()) > 1e-6:
        raise _refuse("has an activation other than SiLU")
    return float(factors[0])


def _interaction(
    block: Any, product: Any, ours: Any, order: Sequence[int], basis: float
) -> dict[str, Tensor]:
    """Weights of one interaction with its product; ``basis`` is the factor between their radial functions and ours."""
    found = {
        "before.weight": _flat(_matrices(block.linear_up)),
        "after.weight": _flat(_matrices(product.linear)),
    }
    layers = [layer for name, layer in block.conv_tp_weights.named_children() if name.startswith("layer")]
    before = basis
    for k, layer in enumerate(layers[:-1]):
        scale = before / math.sqrt(layer.h_in * layer.var_in)
        found[f"radial.{2 * k}.weight"] = scale * layer.weight.T
        before = _activation(layer.act) * math.sqrt(layer.var_out)
    last = layers[-1]
    mixing = last.weight * (before / math.sqrt(last.h_in * last.var_in / last.var_out))
    found |= _convolution(block, mixing, ours)
    skip = _by_kind(block.skip_tp, order)
    found["message.weight" if ours.own is None else "own.weight"] = skip
    if ours.density is not None:
        (layer,) = [layer for name, layer in block.density_fn.named_children() if name.startswith("layer")]
        found["density.weight"] = (
            basis * layer.weight.T / math.sqrt(layer.h_in * layer.var_in / layer.var_out)
        )
    found["products.weight"] = _products(product, ours.products, order)
    return found


def _flat(matrices: Sequence[Tensor]) -> Tensor:
    return torch.cat([matrix.reshape(-1) for matrix in matrices])


def _convolution(block: Any, mixing: Tensor, ours: Any) -> dict[str, Tensor]:
    """Weights of paths and of the map after them; their edges point the other way."""
    product, conv = block.conv_tp, ours.conv
    columns, rows, read = dict[tuple[int, int, int], Tensor](), dict[tuple[int, int, int], Tensor](), 0
    after = _matrices(block.linear)
    taken = [0] * len(after)
    steps = []
    for step in product.instructions:
        l1 = product.irreps_in1[step.i_in1].ir.l
        l2, l3 = product.irreps_in2[step.i_in2].ir.l, product.irreps_out[step.i_out].ir.l
        mul = product.irreps_in1[step.i_in1].mul
        factor = (-1) ** l2 * step.path_weight / math.sqrt(2 * l3 + 1)
        columns[l1, l2, l3] = mixing[:, read : read + mul] * factor
        read += mul
        steps.append((step.i_out, (l1, l2, l3), mul))
    for _, name, mul in sorted(steps):
        l3 = name[2]
        rows[name] = after[l3][taken[l3] : taken[l3] + mul]
        taken[l3] += mul
    table, found = conv.table, {}
    names = [(table.sources[p.source].l, p.degree, table.targets[p.target].l) for p in table.paths]
    found["conv.edge_weights"] = torch.cat([columns[name] for name in names], 1) * math.sqrt(conv.edge_dim)
    mean = 1.0 if ours.density is not None else float(block.avg_num_neighbors)
    for k, t in enumerate(table.reached):
        weight = torch.cat([rows[name] for name in names if name[2] == table.targets[t].l])
        found[f"conv.weights.{k}"] = weight[None] * (math.sqrt(len(weight) * conv.num_neighbors) / mean)
    return found


def _by_kind(product: Any, order: Sequence[int]) -> Tensor:
    """The matrices of each element, (kinds, numbers), of a fully connected product with one-hot attributes."""
    parts: dict[int, Tensor] = {}
    read = 0
    for step in product.instructions:
        size = math.prod(step.path_shape)
        scale = step.path_weight / math.sqrt(
            product.irreps_out[step.i_out].ir.dim
        )  # of the product with a scalar
        weight = product.weight[read : read + size].view(tuple(step.path_shape)) * scale
        parts[step.i_out] = weight.transpose(0, 1).flatten(1)
        read += size
    return torch.cat([parts[k] for k in sorted(parts)], 1)[list(order)]


def _products(product: Any, ours: SymmetricContraction, order: Sequence[int]) -> Tensor:
    """Weights of all products in our basis, (kinds, paths, channels)."""
    lmax, parts = len(ours.irreps_in) - 1, []
    by_target = {
        int(c.U_matrix_1.ndim > 2 and (c.U_matrix_1.shape[0] - 1) // 2): c for c in _contractions(product)
    }
    for target, degree, _, count in ours.blocks:
        contraction = by_target[target]
        top = int(contraction.correlation)
        weight = contraction.weights_max if degree == top else list(contraction.weights)[top - 1 - degree]
        table = contraction.get_buffer(f"U_matrix_{degree}")
        if target == 0:
            table = table[None]
        change = _change(lmax, target, degree, table.detach().double().cpu().numpy())
        new = torch.einsum("qp,zpc->zqc", torch.from_numpy(change).to(weight), weight)
        if len(new) < len(order):  # weights that all elements share
            new = new.expand(len(order), count, -1)
        else:
            new = new[list(order)]
        parts.append(new)
    return torch.cat(parts, 1)


def _change(lmax: int, target: int, degree: int, table: np.ndarray) -> np.ndarray:
    """The matrix (our paths, their paths) of a table (2 L + 1, V, ..., V, paths) of products.

    Raises: ValueError for a table that is no table of equivariant polynomials.
    """
    basis, size = product_basis(lmax, target, degree), (lmax + 1) ** 2
    places = np.sort(np.indices((size,) * degree).reshape(degree, -1), 0)
    code = np.ravel_multi_index(tuple(places), (size,) * degree)  # of each tuple, that of its monomial
    flat = table.reshape(2 * target + 1, size**degree, -1)
    theirs = np.zeros_like(flat)
    for row in range(2 * target + 1):
        np.add.at(theirs[row], code, flat[row])
    ours = np.zeros((2 * target + 1, size**degree, basis.size))
    name = np.ravel_multi_index(tuple(basis.monomials.T), (size,) * degree)
    ours[basis.rows, name, basis.paths] = basis.values
    orders = np.maximum(np.bincount(code, minlength=size**degree), 1)[None, :, None]
    change: np.ndarray = np.einsum("mkq,mkp->qp", ours / orders, theirs, optimize=True) / (2 * target + 1)
    left = np.abs(np.einsum("mkq,qp->mkp", ours, change, optimize=True) - theirs).max(initial=0.0)
    if left > _SPAN * max(1.0, np.abs(theirs).max(initial=0.0)):
        raise ValueError(
            f"model has products (degree {degree}, L = {target}) outside the equivariant polynomials by {left:.1e}"
        )
    return change


def _last_readout(readout: Any, heads: Sequence[int], every: int) -> dict[str, Tensor]:
    """Weights of the perceptron; each head has a slice of its hidden layer."""
    first, last = _matrices(readout.linear_1)[0], _matrices(readout.linear_2)[0]
    constant = _activation(readout.non_linearity.acts[0])
    wide = first.shape[1] // every
    slices = [slice(head * wide, (head + 1) * wide) for head in heads]
    return {
        "hidden_head.weight": torch.cat([first[:, part].T for part in slices]),
        "last_head": constant
        * torch.stack([last[part, head] for part, head in zip(slices, heads, strict=True)]),
    }
