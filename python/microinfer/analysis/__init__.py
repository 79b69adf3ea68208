"""Looking at a scan before and after it is mapped."""

from microinfer.analysis.radial import RadialHistogram, phase_rings, radial_histogram

__all__ = ["RadialHistogram", "phase_rings", "radial_histogram"]
