"""Audits of networks that give distributions of rotations."""

from __future__ import annotations

from spheregeo.audit.poses.report import measure_poses, print_poses, report_poses

__all__ = ["measure_poses", "print_poses", "report_poses"]
