"""Learnable layers, in rooms named after what their features live on.

``sphere``: signals on grids; ``surface``: tangent fields on spheres and meshes; ``irreps``: features of one point; ``space``:
points and their neighbors; ``voxel``: voxel grids; ``plane``: images. Every layer is here as well: ``nn.DiscoConv`` is
``nn.sphere.DiscoConv``.
"""

from spheregeo.nn import irreps, plane, space, sphere, surface, voxel
from spheregeo.nn.batch_norm import BatchNorm as BatchNorm
from spheregeo.nn.batch_norm import SampleDropout as SampleDropout
from spheregeo.nn.exact_buffers import ExactBuffers as ExactBuffers
from spheregeo.nn.gdn import GDN as GDN
from spheregeo.nn.irreps import IrrepsBatchNorm as IrrepsBatchNorm
from spheregeo.nn.irreps import IrrepsDropout as IrrepsDropout
from spheregeo.nn.irreps import IrrepsGate as IrrepsGate
from spheregeo.nn.irreps import IrrepsLayerNorm as IrrepsLayerNorm
from spheregeo.nn.irreps import IrrepsLinear as IrrepsLinear
from spheregeo.nn.irreps import NormActivation as NormActivation
from spheregeo.nn.irreps import SeparableSphereActivation as SeparableSphereActivation
from spheregeo.nn.irreps import SO3Activation as SO3Activation
from spheregeo.nn.irreps import SphereActivation as SphereActivation
from spheregeo.nn.irreps import SphereMLP as SphereMLP
from spheregeo.nn.irreps import SpinActivation as SpinActivation
from spheregeo.nn.irreps import SpinLinear as SpinLinear
from spheregeo.nn.irreps import SpinType as SpinType
from spheregeo.nn.low_pass import LinearUpsample as LinearUpsample
from spheregeo.nn.low_pass import LowPassDownsample as LowPassDownsample
from spheregeo.nn.norm import AreaBatchNorm as AreaBatchNorm
from spheregeo.nn.norm import AreaGroupNorm as AreaGroupNorm
from spheregeo.nn.norm import AreaInstanceNorm as AreaInstanceNorm
from spheregeo.nn.plane import AspectWarp as AspectWarp
from spheregeo.nn.plane import CakeLift as CakeLift
from spheregeo.nn.plane import CosetSubsample2d as CosetSubsample2d
from spheregeo.nn.plane import CosetUnsample2d as CosetUnsample2d
from spheregeo.nn.plane import FieldGroupNorm2d as FieldGroupNorm2d
from spheregeo.nn.plane import FieldMix as FieldMix
from spheregeo.nn.plane import Flow as Flow
from spheregeo.nn.plane import FlowLayer as FlowLayer
from spheregeo.nn.plane import GMRConv1d as GMRConv1d
from spheregeo.nn.plane import GMRConv2d as GMRConv2d
from spheregeo.nn.plane import GMRConv3d as GMRConv3d
from spheregeo.nn.plane import GMRConvTranspose1d as GMRConvTranspose1d
from spheregeo.nn.plane import GMRConvTranspose2d as GMRConvTranspose2d
from spheregeo.nn.plane import GMRConvTranspose3d as GMRConvTranspose3d
from spheregeo.nn.plane import GroupActNorm as GroupActNorm
from spheregeo.nn.plane import GroupAutoregressive as GroupAutoregressive
from spheregeo.nn.plane import GroupBatchNorm2d as GroupBatchNorm2d
from spheregeo.nn.plane import GroupConv2d as GroupConv2d
from spheregeo.nn.plane import GroupCoupling as GroupCoupling
from spheregeo.nn.plane import GroupDropout as GroupDropout
from spheregeo.nn.plane import GroupMix as GroupMix
from spheregeo.nn.plane import GroupPool as GroupPool
from spheregeo.nn.plane import GroupResidual as GroupResidual
from spheregeo.nn.plane import GroupSqueeze as GroupSqueeze
from spheregeo.nn.plane import GroupWarp as GroupWarp
from spheregeo.nn.plane import HarmonicConv2d as HarmonicConv2d
from spheregeo.nn.plane import HemisphereWarp as HemisphereWarp
from spheregeo.nn.plane import InvariantNormal as InvariantNormal
from spheregeo.nn.plane import LieGraphConv as LieGraphConv
from spheregeo.nn.plane import LieGraphPool as LieGraphPool
from spheregeo.nn.plane import LieGraphUnpool as LieGraphUnpool
from spheregeo.nn.plane import LipschitzConv2d as LipschitzConv2d
from spheregeo.nn.plane import Logit as Logit
from spheregeo.nn.plane import LogPolarWarp as LogPolarWarp
from spheregeo.nn.plane import MaxPlusConv2d as MaxPlusConv2d
from spheregeo.nn.plane import PeriodicConv2d as PeriodicConv2d
from spheregeo.nn.plane import PerspectiveWarp as PerspectiveWarp
from spheregeo.nn.plane import PixelPose as PixelPose
from spheregeo.nn.plane import PlaneConvection as PlaneConvection
from spheregeo.nn.plane import PlaneDiffusion as PlaneDiffusion
from spheregeo.nn.plane import PlaneDilation as PlaneDilation
from spheregeo.nn.plane import PlaneErosion as PlaneErosion
from spheregeo.nn.plane import PlanePDELayer as PlanePDELayer
from spheregeo.nn.plane import R2Graph as R2Graph
from spheregeo.nn.plane import S2Graph as S2Graph
from spheregeo.nn.plane import SampledGroupConv2d as SampledGroupConv2d
from spheregeo.nn.plane import SE2Convection as SE2Convection
from spheregeo.nn.plane import SE2Diffusion as SE2Diffusion
from spheregeo.nn.plane import SE2Dilation as SE2Dilation
from spheregeo.nn.plane import SE2Erosion as SE2Erosion
from spheregeo.nn.plane import SE2Graph as SE2Graph
from spheregeo.nn.plane import SE2PDELayer as SE2PDELayer
from spheregeo.nn.plane import SO3Graph as SO3Graph
from spheregeo.nn.plane import SteerableConv2d as SteerableConv2d
from spheregeo.nn.plane import Warp2d as Warp2d
from spheregeo.nn.plane import WarpedConv2d as WarpedConv2d
from spheregeo.nn.pooling import GlobalPool as GlobalPool
from spheregeo.nn.quotient import QuotientConv as QuotientConv
from spheregeo.nn.resampling import Pool as Pool
from spheregeo.nn.resampling import Resample as Resample
from spheregeo.nn.resampling import Unpool as Unpool
from spheregeo.nn.space import EdgeGeometry as EdgeGeometry
from spheregeo.nn.space import EdgeList as EdgeList
from spheregeo.nn.space import ImplicitConv as ImplicitConv
from spheregeo.nn.space import RadialBasis as RadialBasis
from spheregeo.nn.space import RadialNetwork as RadialNetwork
from spheregeo.nn.space import SO2Linear as SO2Linear
from spheregeo.nn.space import SteerableConv as SteerableConv
from spheregeo.nn.space import VectorBatchNorm as VectorBatchNorm
from spheregeo.nn.space import VectorEdgeConv as VectorEdgeConv
from spheregeo.nn.space import VectorInvariants as VectorInvariants
from spheregeo.nn.space import VectorLinear as VectorLinear
from spheregeo.nn.space import VectorLinearReLU as VectorLinearReLU
from spheregeo.nn.space import VectorMaxPool as VectorMaxPool
from spheregeo.nn.space import VectorMeanPool as VectorMeanPool
from spheregeo.nn.sphere import ChebConv as ChebConv
from spheregeo.nn.sphere import DiscoConv as DiscoConv
from spheregeo.nn.sphere import DiscoConvTranspose as DiscoConvTranspose
from spheregeo.nn.sphere import Equatorial as Equatorial
from spheregeo.nn.sphere import FromCharts as FromCharts
from spheregeo.nn.sphere import FromFaces as FromFaces
from spheregeo.nn.sphere import FullSpectrum as FullSpectrum
from spheregeo.nn.sphere import HEALPixConv as HEALPixConv
from spheregeo.nn.sphere import HEALPixFaceConv as HEALPixFaceConv
from spheregeo.nn.sphere import HEALPixHops as HEALPixHops
from spheregeo.nn.sphere import HEALPixPad as HEALPixPad
from spheregeo.nn.sphere import IcosahedralBatchNorm as IcosahedralBatchNorm
from spheregeo.nn.sphere import IcosahedralConv as IcosahedralConv
from spheregeo.nn.sphere import IcosahedralPool as IcosahedralPool
from spheregeo.nn.sphere import IcosahedralUpsample as IcosahedralUpsample
from spheregeo.nn.sphere import NearIdentity as NearIdentity
from spheregeo.nn.sphere import NeedletBlock as NeedletBlock
from spheregeo.nn.sphere import NeedletConv as NeedletConv
from spheregeo.nn.sphere import NeedletLift as NeedletLift
from spheregeo.nn.sphere import OrientationPool as OrientationPool
from spheregeo.nn.sphere import PixelShuffle as PixelShuffle
from spheregeo.nn.sphere import PixelUnshuffle as PixelUnshuffle
from spheregeo.nn.sphere import S2Conv as S2Conv
from spheregeo.nn.sphere import ScaleInvariants as ScaleInvariants
from spheregeo.nn.sphere import Shrinkage as Shrinkage
from spheregeo.nn.sphere import SO3BatchNorm as SO3BatchNorm
from spheregeo.nn.sphere import SO3Conv as SO3Conv
from spheregeo.nn.sphere import SO3Integrate as SO3Integrate
from spheregeo.nn.sphere import SO3NeedletConv as SO3NeedletConv
from spheregeo.nn.sphere import SO3SpectralPool as SO3SpectralPool
from spheregeo.nn.sphere import SO3ToS2 as SO3ToS2
from spheregeo.nn.sphere import SpectralConv as SpectralConv
from spheregeo.nn.sphere import SpectralPool as SpectralPool
from spheregeo.nn.sphere import SphereAttention as SphereAttention
from spheregeo.nn.sphere import SphereDiffusion as SphereDiffusion
from spheregeo.nn.sphere import SphereDilation as SphereDilation
from spheregeo.nn.sphere import SphereErosion as SphereErosion
from spheregeo.nn.sphere import SpinConv as SpinConv
from spheregeo.nn.sphere import ToCharts as ToCharts
from spheregeo.nn.sphere import ToFaces as ToFaces
from spheregeo.nn.sphere import ZonalConv as ZonalConv
from spheregeo.nn.surface import ClusterGeometry as ClusterGeometry
from spheregeo.nn.surface import FieldBatchNorm as FieldBatchNorm
from spheregeo.nn.surface import FieldBias as FieldBias
from spheregeo.nn.surface import FieldDropout as FieldDropout
from spheregeo.nn.surface import FieldInstanceNorm as FieldInstanceNorm
from spheregeo.nn.surface import FieldLayerNorm as FieldLayerNorm
from spheregeo.nn.surface import FieldLinear as FieldLinear
from spheregeo.nn.surface import FieldPool as FieldPool
from spheregeo.nn.surface import FieldUnpool as FieldUnpool
from spheregeo.nn.surface import GatedNonlinearity as GatedNonlinearity
from spheregeo.nn.surface import GaugeBlock as GaugeBlock
from spheregeo.nn.surface import GaugeConv as GaugeConv
from spheregeo.nn.surface import GaugeGeometry as GaugeGeometry
from spheregeo.nn.surface import NormNonlinearity as NormNonlinearity
from spheregeo.nn.surface import RegularBatchNorm as RegularBatchNorm
from spheregeo.nn.surface import RegularNonlinearity as RegularNonlinearity
from spheregeo.nn.voxel import SteerableVoxelConv as SteerableVoxelConv

ROOMS = (sphere, surface, irreps, space, voxel, plane)
__all__ = sorted(name for name, value in globals().items() if isinstance(value, type))
IcosahedralNorm = IcosahedralBatchNorm  # the former name


def __dir__() -> list[str]:
    """The rooms and the layers, without the files that the layers are written in."""
    return [*(room.__name__.rpartition(".")[2] for room in ROOMS), *__all__]
