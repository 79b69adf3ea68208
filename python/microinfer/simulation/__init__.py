"""Simulation of diffraction-pattern libraries with py4DSTEM."""

from microinfer.simulation.bloch import PatternSimulator
from microinfer.simulation.library import PatternLibrary, load_library
from microinfer.simulation.simulate import simulate_library
from microinfer.simulation.structure import Structure, load_structure

__all__ = [
    "PatternLibrary",
    "PatternSimulator",
    "Structure",
    "load_library",
    "load_structure",
    "simulate_library",
]
