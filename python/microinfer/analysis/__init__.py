"""Computations on scans, and on answers beside their labels."""

from microinfer.analysis.radial import RadialHistogram, phase_rings, radial_histogram

__all__ = ["RadialHistogram", "phase_rings", "radial_histogram"]
