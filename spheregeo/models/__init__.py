"""Networks made of layers, each under its name: ``create(name, in_channels, out_channels, grid, **options)``."""

from __future__ import annotations

from spheregeo.models.alias import options_of, resolve
from spheregeo.models.blocks import Pointwise, ResidualBlock, make_conv, make_norm
from spheregeo.models.meshes.delta_conv import DeltaNet
from spheregeo.models.meshes.diffusion_net import DiffusionNet
from spheregeo.models.meshes.gem_cnn import GemCNN
from spheregeo.models.molecules.completion import MoleculeField
from spheregeo.models.molecules.equiformer import EquiformerV2
from spheregeo.models.molecules.escn import ESCN
from spheregeo.models.molecules.mace import MACE
from spheregeo.models.molecules.nequip import NequIP
from spheregeo.models.molecules.painn import PaiNN
from spheregeo.models.molecules.schnet import SchNet
from spheregeo.models.molecules.scn import SCN
from spheregeo.models.molecules.sphere_molecule import SphereMolecule
from spheregeo.models.molecules.steerable_molecule import SteerableMolecule
from spheregeo.models.on_grid import OnGrid
from spheregeo.models.plane.gmr_cnn import GMRCNN, GMRUNet
from spheregeo.models.plane.group_cnn import GroupCNN, GroupResNet, GroupUNet
from spheregeo.models.plane.harmonic import HarmonicCNN
from spheregeo.models.plane.image_cnn import ImageCNN, ImageUNet
from spheregeo.models.plane.lie_graph import LieGraphCNN, LieGraphUNet
from spheregeo.models.plane.pde_cnn import PDECNN
from spheregeo.models.plane.sampled_cnn import SampledGroupCNN
from spheregeo.models.plane.steerable import SteerableCNN, SteerableUNet
from spheregeo.models.plane.strided_group_cnn import StridedGroupCNN
from spheregeo.models.plane.warped_cnn import WarpedCNN
from spheregeo.models.points.pointnet import PointNet
from spheregeo.models.points.prin import PRIN
from spheregeo.models.points.risurconv import RISurConvNet, TriangleLevels
from spheregeo.models.points.sprin import SPRIN
from spheregeo.models.points.steerable_points import SteerablePoints
from spheregeo.models.points.vnn import VNDGCNN, VNPointNet
from spheregeo.models.poses.image2icosahedron import Image2Icosahedron
from spheregeo.models.poses.image2sphere import Image2Sphere
from spheregeo.models.poses.pose_cnn import PoseCNN
from spheregeo.models.poses.resnet import ResNetFeatures
from spheregeo.models.registry import (
    aliases,
    builder_of,
    create,
    domain_of,
    names,
    native_grid,
    output_of,
    outputs_of,
    register,
)
from spheregeo.models.space.cloud import CloudGraph, CloudNetwork
from spheregeo.models.space.implicit import ImplicitMolecule, ImplicitPoints
from spheregeo.models.space.molecule_graph import MoleculeGraph, join_graphs, molecule_graph, split_graph
from spheregeo.models.space.point_outputs import CloudOutputs, Encoded, PointHead
from spheregeo.models.space.readout import pooled
from spheregeo.models.space.segnn import SEGNN, SEGNNPoints
from spheregeo.models.space.tfn import TFN, TFNPoints
from spheregeo.models.sphere.baseline import PixelMLP, PlanarUNet
from spheregeo.models.sphere.classifier import DiscoClassifier, PlanarCNN
from spheregeo.models.sphere.deepsphere import DeepSphereClassifier, DeepSphereUNet
from spheregeo.models.sphere.gauge import GaugeClassifier, GaugeUNet
from spheregeo.models.sphere.healpix import HEALPixClassifier, HEALPixUNet
from spheregeo.models.sphere.icosahedral import IcosahedralBlock, IcosahedralClassifier, IcosahedralUNet
from spheregeo.models.sphere.lie_graph import LieGraphSphereClassifier, LieGraphSphereUNet
from spheregeo.models.sphere.needlets import NeedletCNN, NeedletDenoiser
from spheregeo.models.sphere.oslo import OSLO, PlanarOSLO, Rated, ScaleHyperprior
from spheregeo.models.sphere.s2cnn import S2CNNClassifier, S2CNNUNet
from spheregeo.models.sphere.sfno import SFNO, SFNOClassifier
from spheregeo.models.sphere.spin import SpinClassifier, SpinUNet
from spheregeo.models.sphere.transformer import SphericalTransformer
from spheregeo.models.sphere.unet import SphericalUNet
from spheregeo.models.voxels.gmr_voxels import GMRVoxels
from spheregeo.models.voxels.steerable_voxels import SteerableVoxels
from spheregeo.models.voxels.voxel_cnn import VoxelCNN

# (network for fields, network for labels) by alias, of the networks of this package; ``aliases()`` knows later ones too.
ALIASES = {alias: (found["field"], found["label"]) for alias, found in aliases().items()}

__all__ = [
    "ALIASES",
    "ESCN",
    "GMRCNN",
    "MACE",
    "OSLO",
    "PDECNN",
    "PRIN",
    "SCN",
    "SEGNN",
    "SFNO",
    "SPRIN",
    "TFN",
    "VNDGCNN",
    "CloudGraph",
    "CloudNetwork",
    "CloudOutputs",
    "DeepSphereClassifier",
    "DeepSphereUNet",
    "DeltaNet",
    "DiffusionNet",
    "DiscoClassifier",
    "Encoded",
    "EquiformerV2",
    "GMRUNet",
    "GMRVoxels",
    "GaugeClassifier",
    "GaugeUNet",
    "GemCNN",
    "GroupCNN",
    "GroupResNet",
    "GroupUNet",
    "HEALPixClassifier",
    "HEALPixUNet",
    "HarmonicCNN",
    "IcosahedralBlock",
    "IcosahedralClassifier",
    "IcosahedralUNet",
    "Image2Icosahedron",
    "Image2Sphere",
    "ImageCNN",
    "ImageUNet",
    "ImplicitMolecule",
    "ImplicitPoints",
    "LieGraphCNN",
    "LieGraphSphereClassifier",
    "LieGraphSphereUNet",
    "LieGraphUNet",
    "MoleculeField",
    "MoleculeGraph",
    "NeedletCNN",
    "NeedletDenoiser",
    "NequIP",
    "OnGrid",
    "PaiNN",
    "PixelMLP",
    "PlanarCNN",
    "PlanarOSLO",
    "PlanarUNet",
    "PointHead",
    "PointNet",
    "Pointwise",
    "PoseCNN",
    "RISurConvNet",
    "Rated",
    "ResNetFeatures",
    "ResidualBlock",
    "S2CNNClassifier",
    "S2CNNUNet",
    "SEGNNPoints",
    "SFNOClassifier",
    "SampledGroupCNN",
    "ScaleHyperprior",
    "SchNet",
    "SphereMolecule",
    "SphericalTransformer",
    "SphericalUNet",
    "SpinClassifier",
    "SpinUNet",
    "SteerableCNN",
    "SteerableMolecule",
    "SteerablePoints",
    "SteerableUNet",
    "SteerableVoxels",
    "StridedGroupCNN",
    "TFNPoints",
    "TriangleLevels",
    "VNPointNet",
    "VoxelCNN",
    "WarpedCNN",
    "aliases",
    "builder_of",
    "create",
    "domain_of",
    "join_graphs",
    "make_conv",
    "make_norm",
    "molecule_graph",
    "names",
    "native_grid",
    "options_of",
    "output_of",
    "outputs_of",
    "pooled",
    "register",
    "resolve",
    "split_graph",
]
