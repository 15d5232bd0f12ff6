"""Energies and forces: the task, its loss, its references and scale, its scores, trainings that go on from a checkpoint."""

from spheregeo.tasks.molecules.forces.scores import ForceScores
from spheregeo.tasks.molecules.forces.task import Forces

__all__ = ["ForceScores", "Forces"]
