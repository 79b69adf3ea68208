"""Simulation of diffraction-pattern libraries with py4DSTEM."""

from microinfer.simulation.bloch import PatternSimulator
from microinfer.simulation.library import PatternLibrary, load_library
from microinfer.simulation.simulate import simulate_library
from microinfer.simulation.testset import TestSets, pattern_hash, simulate_test_sets

__all__ = [
    "PatternLibrary",
    "PatternSimulator",
    "TestSets",
    "load_library",
    "pattern_hash",
    "simulate_library",
    "simulate_test_sets",
]
