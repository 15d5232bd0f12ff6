"""Layers of DiffusionNet: learned diffusion, gradient features, and the blocks made of them."""

from spheregeo.nn.surface.diffusion.block import DiffusionBlock
from spheregeo.nn.surface.diffusion.features import GradientFeatures
from spheregeo.nn.surface.diffusion.heat import LearnedDiffusion

__all__ = ["DiffusionBlock", "GradientFeatures", "LearnedDiffusion"]
