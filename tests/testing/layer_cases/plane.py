"""Layers of images; exact under every element of the group in their own test files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import spheregeo.nn as layers
from layer_cases.common import (
    own_twin,
    part_of,
    simple,
)

part_of("nn/plane/flows/test_flow.py", "Flow InvariantNormal")
part_of(
    "nn/plane/flows/test_layers.py",
    "FlowLayer GroupActNorm GroupAutoregressive GroupCoupling GroupMix GroupResidual",
    "GroupSqueeze LipschitzConv2d Logit",
)
part_of("nn/plane/test_basis.py", "PlanarBasis")
part_of("nn/plane/test_warp.py", "AspectWarp GroupWarp HemisphereWarp LogPolarWarp PerspectiveWarp")
part_of("nn/plane/test_subsample.py", "PixelPose")
part_of("nn/plane/test_lie_graph.py", "LieGraph LieGraphEdges R2Graph S2Graph SE2Graph SO3Graph")
own_twin("nn/plane/test_group_conv.py", "GroupConv2d GroupConvTranspose2d")
own_twin("nn/plane/test_sampled.py", "SampledGroupConv2d")
own_twin("nn/plane/test_harmonic_conv.py", "HarmonicConv2d")
own_twin(
    "nn/plane/test_pde.py",
    "CakeLift FieldMix MaxPlusConv2d PlaneConvection PlaneDiffusion PlaneDilation PlaneErosion",
    "PlanePDELayer SE2Convection SE2Diffusion SE2Dilation SE2Erosion SE2PDELayer",
)
own_twin("nn/plane/test_steerable_conv.py", "LinearUpsample SteerableConv2d")
own_twin("nn/plane/test_warp.py", "Warp2d PeriodicConv2d WarpedConv2d")
own_twin("nn/plane/test_subsample.py", "CosetSubsample2d CosetUnsample2d")
own_twin(
    "nn/plane/test_rings.py",
    "GMRConv1d GMRConv2d GMRConv3d GMRConvTranspose1d GMRConvTranspose2d GMRConvTranspose3d",
)
own_twin("nn/plane/test_group_norm.py", "FieldGroupNorm2d GroupBatchNorm2d GroupDropout GroupPool")

# ---- images; exact under every element of the group in their own test files


POSE = layers.PixelPose(torch.tensor([[0, 2], [1, 3]]), torch.tensor([[1, 3], [1, 3]]), (4, 4))


def on_images(kind: type, make: Callable[[], nn.Module], channels: int, **more: Any) -> None:
    simple(
        kind,
        lambda: {"layer": make(), "inputs": torch.randn(2, channels, 4, 4), "skip": ["equivariance"], **more},
    )


on_images(layers.GMRConv2d, lambda: layers.GMRConv2d(2, 3, 3, stride=2, padding=1, form="rings"), 2)
on_images(layers.GMRConvTranspose2d, lambda: layers.GMRConvTranspose2d(2, 3, 3, stride=2, padding=1), 2)
for flat, spatial in (
    (layers.GMRConv1d, layers.GMRConv3d),
    (layers.GMRConvTranspose1d, layers.GMRConvTranspose3d),
):
    on_images(flat, lambda kind=flat: kind(2, 3, 3, padding=1), 2, inputs=torch.randn(2, 2, 5))
    simple(
        spatial,
        lambda kind=spatial: {
            "layer": kind(2, 2, 3, padding=1),
            "inputs": torch.randn(1, 2, 3, 3, 3),
            "where": (4, 4, 4),
            "equivariance": {"o3": 1e-11},
        },
    )
on_images(layers.GroupConv2d, lambda: layers.GroupConv2d("1xC8/C2 + 1x0", "1xC8/C2 + 1x0", 3, padding=1), 5)
on_images(layers.GroupConv2d, lambda: layers.GroupConv2d("1xC4 + 1x0", "1xC4 + 1x0", 3, padding=1), 5)
on_images(
    layers.GroupConvTranspose2d,
    lambda: layers.GroupConvTranspose2d("1xC4 + 1x0", "1xC4 + 1x0", 3, padding=1),
    5,
)
on_images(
    layers.SampledGroupConv2d,
    lambda: layers.SampledGroupConv2d("1xC4 + 1x0", "1xC4", 3, padding=1, epsilon=0.01),
    5,
)
on_images(layers.GroupBatchNorm2d, lambda: layers.GroupBatchNorm2d("2xC2 + 1x0"), 5)
on_images(layers.FieldGroupNorm2d, lambda: layers.FieldGroupNorm2d(2, "2xC2"), 4)
on_images(layers.GroupPool, lambda: layers.GroupPool("2xC2 + 1x0"), 5)
on_images(layers.GroupDropout, lambda: layers.GroupDropout("2xC2 + 1x0", 0.3), 5)
on_images(layers.HarmonicConv2d, lambda: layers.HarmonicConv2d("1x0 + 1x1", "1x0 + 1x1", 3), 4)
on_images(layers.SteerableConv2d, lambda: layers.SteerableConv2d("1x0 + 1x1", "1x0 + 1x1", 3), 3)
on_images(
    layers.LinearUpsample,
    lambda: layers.LinearUpsample(2),
    2,
    inputs=(torch.randn(1, 2, 2, 3), (4, 5)),
    bad_inputs=[((torch.randn(2, 4, 4), (8, 8)), "x")],
)
on_images(
    layers.CosetSubsample2d,
    lambda: layers.CosetSubsample2d(2, return_pose=False),
    3,
    bad_inputs=[(torch.randn(2, 4, 4), "x")],
)
simple(
    layers.CosetUnsample2d,
    lambda: {
        "layer": layers.CosetUnsample2d(),
        "inputs": (torch.randn(2, 3, 2, 2), POSE),
        "skip": ["equivariance"],
        "bad_inputs": [((torch.randn(2, 3, 3, 2), POSE), "y")],
        "empty_inputs": (
            torch.randn(0, 3, 2, 2),
            layers.PixelPose(POSE.rows[:0], POSE.columns[:0], POSE.size),
        ),
    },
)
WARP = layers.LogPolarWarp((3, 8), inner=0.2)
on_images(layers.Warp2d, lambda: layers.Warp2d(WARP), 2, bad_inputs=[(torch.randn(2, 4, 4), "x")])
on_images(layers.PeriodicConv2d, lambda: layers.PeriodicConv2d(2, 3, 3), 2)
on_images(layers.WarpedConv2d, lambda: layers.WarpedConv2d(2, 3, 3, warp=WARP), 2)
on_images(layers.MaxPlusConv2d, lambda: layers.MaxPlusConv2d(2, 4, 3, groups=2), 2)
on_images(layers.CakeLift, lambda: layers.CakeLift(2, 4, 3), 2)
on_images(layers.FieldMix, lambda: layers.FieldMix(2, 3, 2), 4)
on_images(layers.SE2PDELayer, lambda: layers.SE2PDELayer(1, 2, 4, 3, diffusion=True), 4)
on_images(layers.PlanePDELayer, lambda: layers.PlanePDELayer(2, 3, 3), 2)
for of_se2 in (layers.SE2Convection, layers.SE2Diffusion, layers.SE2Dilation, layers.SE2Erosion):
    on_images(of_se2, lambda kind=of_se2: kind(1, 4), 4)
for of_plane in (layers.PlaneConvection, layers.PlaneDiffusion, layers.PlaneDilation, layers.PlaneErosion):
    on_images(of_plane, lambda kind=of_plane: kind(2), 2)
