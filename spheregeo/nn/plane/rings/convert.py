"""An ordinary network of convolutions with isotropic kernels in their place."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.nn.plane.rings.base import RingConv
from spheregeo.nn.plane.rings.conv import GMRConv1d, GMRConv2d, GMRConv3d
from spheregeo.nn.plane.rings.transpose import GMRConvTranspose1d, GMRConvTranspose2d, GMRConvTranspose3d

_KINDS: dict[type[nn.Module], type[RingConv]] = {
    nn.Conv1d: GMRConv1d,
    nn.Conv2d: GMRConv2d,
    nn.Conv3d: GMRConv3d,
    nn.ConvTranspose1d: GMRConvTranspose1d,
    nn.ConvTranspose2d: GMRConvTranspose2d,
    nn.ConvTranspose3d: GMRConvTranspose3d,
}


def convert_to_gmr(
    model: nn.Module,
    *,
    skip: Collection[str] = (),
    width: float = 0.85,
    antialias: bool = True,
    inplace: bool = False,
) -> nn.Module:
    """Return a network with Gaussian-mixture ring convolutions in place of its convolutions.

    Convolutions with more than one tap, or with a stride, become ring convolutions of the same arguments and output sizes, whose
    kernels are the isotropic ones nearest to the old ones; everything else stays, with its weights. Networks of convolutions,
    norms, pointwise nonlinearities and a global pool are so invariant under quarter turns and reflections; pooling by windows
    keeps this on sizes on which the windows lie symmetrically.

    Args:
        model: the network; left as it is, unless ``inplace``.
        skip: names of convolutions that stay, as ``model.named_modules()`` has them.
        width: standard deviation of the rings at the start, in spacings of the taps.
        antialias: whether strides come after a low-pass.
        inplace: whether to replace the modules of ``model`` itself.

    Raises: ValueError for a convolution that has no such form (a kernel that is not square, an unknown padding) and is not in
        ``skip``, and for names in ``skip`` that are none.

    Example:
        >>> import torch
        >>> cnn = nn.Sequential(nn.Conv2d(1, 4, 5, padding=2), nn.ReLU(), nn.Conv2d(4, 2, 3, stride=2, padding=1))
        >>> convert_to_gmr(cnn)(torch.randn(1, 1, 8, 8)).shape
        torch.Size([1, 2, 4, 4])
    """
    model = model if inplace else copy.deepcopy(model)
    unknown = sorted(set(skip) - {name for name, _ in model.named_modules()})
    if unknown:
        raise ValueError(f"skip names {', '.join(unknown)}; the model has no such module")
    made: dict[int, nn.Module] = {}  # a convolution that is used twice stays one
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if name in skip or not _is_spatial(module):
            continue
        if id(module) not in made:
            try:
                made[id(module)] = _converted(module, width, antialias)
            except ValueError as error:
                raise ValueError(
                    f"{name or 'model'}: {error}; name the convolution in skip to keep it as it is"
                ) from None
        if not name:
            return made[id(module)]
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, made[id(module)])
    return model


def _is_spatial(module: nn.Module) -> bool:
    if type(module) not in _KINDS:
        return False
    conv: Any = module
    return max(conv.kernel_size) > 1 or max(conv.stride) > 1


@torch.no_grad()
def _converted(module: nn.Module, width: float, antialias: bool) -> nn.Module:
    conv: Any = module
    kind: Any = _KINDS[type(module)]
    options: dict[str, Any] = {
        "stride": conv.stride, "padding": conv.padding, "dilation": conv.dilation, "groups": conv.groups,
        "bias": conv.bias is not None, "width": width, "antialias": antialias,
    }  # fmt: skip
    if kind.transposed:
        options["output_padding"] = conv.output_padding
    else:
        options["padding_mode"] = conv.padding_mode
    layer: Any = kind(conv.in_channels, conv.out_channels, conv.kernel_size, **options)
    layer = layer.to(conv.weight.device, conv.weight.dtype)
    layer.weight.copy_(_nearest(conv.weight, layer.masks()))
    if conv.bias is not None:
        layer.bias.copy_(conv.bias)
    for new, old in ((layer.weight, conv.weight), (layer.bias, conv.bias)):
        if old is not None:
            new.requires_grad_(old.requires_grad)
    return layer.train(conv.training)


def _nearest(kernel: Tensor, masks: Tensor) -> Tensor:
    """Weights of the mixture of masks nearest to a kernel. Shape: (O, C, k, ...), (rings, k, ...) -> (O, C, rings)."""
    rows = masks.flatten(1).double()
    return kernel.flatten(2).double() @ torch.linalg.pinv(rows)
