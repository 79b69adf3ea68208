"""Simulation of diffraction-pattern libraries, and of whole 4D-STEM scans, with py4DSTEM."""

from microinfer.simulation.bloch import PatternSimulator
from microinfer.simulation.library import PatternLibrary, load_library
from microinfer.simulation.scan import SyntheticScan, load_scan_settings, simulate_scan
from microinfer.simulation.simulate import simulate_library
from microinfer.simulation.testset import TestSets, pattern_hash, simulate_test_sets

__all__ = [
    "PatternLibrary",
    "PatternSimulator",
    "SyntheticScan",
    "TestSets",
    "load_library",
    "load_scan_settings",
    "pattern_hash",
    "simulate_library",
    "simulate_scan",
    "simulate_test_sets",
]
