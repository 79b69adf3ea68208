"""Give the phases of checkpoints the atoms of their crystals, which exports write. Weights stay bit for bit.

    python benchmarks/add_atoms.py python/microinfer/data/models/*.safetensors

Phases must bear the names of built-in structures and have their cells.
"""

import sys
from dataclasses import replace

import numpy as np

import microinfer as mi
from microinfer.crystals.phase import CellAtoms, CrystalPhase
from microinfer.crystals.structure import load_structure


def main(*paths: str) -> None:
    for path in paths:
        before = mi.load_model(path)
        replace(before, phases=tuple(map(with_atoms, before.phases))).save(path)
        after = mi.load_model(path)
        assert after.weights.keys() == before.weights.keys()
        for name, values in before.weights.items():
            assert after.weights[name].dtype == values.dtype
            assert after.weights[name].tobytes() == values.tobytes(), name
        print(path, *(phase.atoms for phase in after.phases))


def with_atoms(phase: CrystalPhase) -> CrystalPhase:
    structure = load_structure(phase.name)
    np.testing.assert_allclose(structure.lattice, phase.lattice)
    return replace(phase, atoms=CellAtoms.of(structure.numbers, structure.positions, structure.occupancy))


if __name__ == "__main__":
    main(*sys.argv[1:])
