"""Layers on images, whose channels are fields of a planar group or irreps of SO(2) and O(2)."""

from spheregeo.nn.plane.conversion import convert as convert
from spheregeo.nn.plane.conversion import to_plain as to_plain
from spheregeo.nn.plane.escnn import from_escnn as from_escnn
from spheregeo.nn.plane.flows import Flow as Flow
from spheregeo.nn.plane.flows import FlowLayer as FlowLayer
from spheregeo.nn.plane.flows import GroupActNorm as GroupActNorm
from spheregeo.nn.plane.flows import GroupAutoregressive as GroupAutoregressive
from spheregeo.nn.plane.flows import GroupCoupling as GroupCoupling
from spheregeo.nn.plane.flows import GroupMix as GroupMix
from spheregeo.nn.plane.flows import GroupResidual as GroupResidual
from spheregeo.nn.plane.flows import GroupSqueeze as GroupSqueeze
from spheregeo.nn.plane.flows import InvariantNormal as InvariantNormal
from spheregeo.nn.plane.flows import LipschitzConv2d as LipschitzConv2d
from spheregeo.nn.plane.flows import Logit as Logit
from spheregeo.nn.plane.group import FieldGroupNorm2d as FieldGroupNorm2d
from spheregeo.nn.plane.group import GroupBatchNorm2d as GroupBatchNorm2d
from spheregeo.nn.plane.group import GroupConv2d as GroupConv2d
from spheregeo.nn.plane.group import GroupConvTranspose2d as GroupConvTranspose2d
from spheregeo.nn.plane.group import GroupDropout as GroupDropout
from spheregeo.nn.plane.group import GroupPool as GroupPool
from spheregeo.nn.plane.lie_graph import LieGraphConv as LieGraphConv
from spheregeo.nn.plane.lie_graph import LieGraphPool as LieGraphPool
from spheregeo.nn.plane.lie_graph import LieGraphUnpool as LieGraphUnpool
from spheregeo.nn.plane.lie_graph import R2Graph as R2Graph
from spheregeo.nn.plane.lie_graph import S2Graph as S2Graph
from spheregeo.nn.plane.lie_graph import SE2Graph as SE2Graph
from spheregeo.nn.plane.lie_graph import SO3Graph as SO3Graph
from spheregeo.nn.plane.pde import CakeLift as CakeLift
from spheregeo.nn.plane.pde import FieldMix as FieldMix
from spheregeo.nn.plane.pde import MaxPlusConv2d as MaxPlusConv2d
from spheregeo.nn.plane.pde import PlaneConvection as PlaneConvection
from spheregeo.nn.plane.pde import PlaneDiffusion as PlaneDiffusion
from spheregeo.nn.plane.pde import PlaneDilation as PlaneDilation
from spheregeo.nn.plane.pde import PlaneErosion as PlaneErosion
from spheregeo.nn.plane.pde import PlanePDELayer as PlanePDELayer
from spheregeo.nn.plane.pde import SE2Convection as SE2Convection
from spheregeo.nn.plane.pde import SE2Diffusion as SE2Diffusion
from spheregeo.nn.plane.pde import SE2Dilation as SE2Dilation
from spheregeo.nn.plane.pde import SE2Erosion as SE2Erosion
from spheregeo.nn.plane.pde import SE2PDELayer as SE2PDELayer
from spheregeo.nn.plane.rings import GMRConv1d as GMRConv1d
from spheregeo.nn.plane.rings import GMRConv2d as GMRConv2d
from spheregeo.nn.plane.rings import GMRConv3d as GMRConv3d
from spheregeo.nn.plane.rings import GMRConvTranspose1d as GMRConvTranspose1d
from spheregeo.nn.plane.rings import GMRConvTranspose2d as GMRConvTranspose2d
from spheregeo.nn.plane.rings import GMRConvTranspose3d as GMRConvTranspose3d
from spheregeo.nn.plane.rings import convert_to_gmr as convert_to_gmr
from spheregeo.nn.plane.sampled import SampledGroupConv2d as SampledGroupConv2d
from spheregeo.nn.plane.steerable import HarmonicConv2d as HarmonicConv2d
from spheregeo.nn.plane.steerable import SteerableConv2d as SteerableConv2d
from spheregeo.nn.plane.subsample import CosetSubsample2d as CosetSubsample2d
from spheregeo.nn.plane.subsample import CosetUnsample2d as CosetUnsample2d
from spheregeo.nn.plane.subsample import PixelPose as PixelPose
from spheregeo.nn.plane.subsample import coset_pixels as coset_pixels
from spheregeo.nn.plane.subsample import fit_size as fit_size
from spheregeo.nn.plane.warp import PeriodicConv2d as PeriodicConv2d
from spheregeo.nn.plane.warp import Warp2d as Warp2d
from spheregeo.nn.plane.warp import WarpedConv2d as WarpedConv2d
from spheregeo.nn.plane.warps import AspectWarp as AspectWarp
from spheregeo.nn.plane.warps import GroupWarp as GroupWarp
from spheregeo.nn.plane.warps import HemisphereWarp as HemisphereWarp
from spheregeo.nn.plane.warps import LogPolarWarp as LogPolarWarp
from spheregeo.nn.plane.warps import PerspectiveWarp as PerspectiveWarp
from spheregeo.nn.plane.warps import additivity_error as additivity_error

__all__ = sorted(
    ["convert", "fit_size", "to_plain"]
    + [name for name, value in globals().items() if isinstance(value, type)]
)


def __dir__() -> list[str]:
    """The layers, without the files that they are written in."""
    return __all__
