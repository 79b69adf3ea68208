"""Structure factors through py4DSTEM, and reference crystals that ase and pymatgen build by their own tables."""

import warnings

import numpy as np


def amplitudes(
    lattice, positions, numbers, occupancy, k_max: float = 1.0
) -> dict[tuple[int, int, int], float]:
    """|F| by h, k, l of a crystal, as py4DSTEM has it."""
    from py4DSTEM.process.diffraction import Crystal

    crystal = Crystal(
        np.array(positions), np.array(numbers), np.array(lattice), occupancy=np.array(occupancy)
    )
    crystal.calculate_structure_factors(k_max, tol_structure_factor=-1.0)
    amplitude = np.abs(crystal.struct_factors).tolist()
    return dict(zip(map(tuple, crystal.hkl.T.astype(int).tolist()), amplitude, strict=True))


THIRD = 1 / 3
RUTILE = ((4.5937, 4.5937, 2.9587, 90, 90, 90), 136, 1, [(0, 0, 0), (0.3053, 0.3053, 0)])
HEXAGONAL = (90, 90, 120)
# lattice, space group and setting (of ase), positions and elements of the sites
CRYSTALS = {
    "Ti": ((2.9508, 2.9508, 4.6855, *HEXAGONAL), 194, 1, [(THIRD, 2 * THIRD, 0.25)], ["Ti"]),
    "Ti of pymatgen": ((2.95, 2.95, 4.68, *HEXAGONAL), 194, 1, [(THIRD, 2 * THIRD, 0.25)], ["Ti"]),
    "rutile": (*RUTILE, ["Ti", "O"]),
    "Si": ((5.4309,) * 3 + (90,) * 3, 227, 2, [(0.125,) * 3], ["Si"]),
    "Si, origin 1": ((5.4309,) * 3 + (90,) * 3, 227, 1, [(0, 0, 0)], ["Si"]),
    "Cu": ((3.615,) * 3 + (90,) * 3, 225, 1, [(0, 0, 0)], ["Cu"]),
    "primitive Cu": ((3.615 / np.sqrt(2),) * 3 + (60,) * 3, 1, 1, [(0, 0, 0)], ["Cu"]),
    "calcite": (
        (4.9896, 4.9896, 17.061, *HEXAGONAL),
        *(167, 1, [(0, 0, 0), (0, 0, 0.25), (0.2568, 0, 0.25)], ["Ca", "C", "O"]),
    ),
    "rhombohedral calcite": (
        (6.375,) * 3 + (46.076,) * 3,
        *(167, 2, [(0, 0, 0), (0.25,) * 3, (0.5068, -0.0068, 0.25)], ["Ca", "C", "O"]),
    ),
    "brucite": (
        (3.147, 3.147, 4.769, *HEXAGONAL),
        *(164, 1, [(0, 0, 0), (THIRD, 2 * THIRD, 0.2216), (THIRD, 2 * THIRD, 0.4303)], ["Mg", "O", "H"]),
    ),
    "ZrO2": (
        (5.1505, 5.2116, 5.3173, 90, 99.23, 90),
        *(14, 1, [(0.2754, 0.0395, 0.2083), (0.07, 0.3317, 0.3447), (0.4496, 0.7569, 0.4792)], ["Zr", "O", "O"]),
    ),
    "LiFePO4": (
        (10.329, 6.0065, 4.6908, 90, 90, 90),
        62,
        1,
        [(0, 0, 0), (0.28222, 0.25, 0.97472), (0.09486, 0.25, 0.4182), (0.09678, 0.25, 0.74279),
         (0.4571, 0.25, 0.20602), (0.16558, 0.04646, 0.28478)],
        ["Li", "Fe", "P", "O", "O", "O"],
    ),
}  # fmt: skip
DISORDERED = {
    "rutile with niobium": [{"Ti": 0.7, "Nb": 0.3}, {"O": 1.0}],
    "rutile with vacancies": [{"Ti": 0.95}, {"O": 0.975}],
}


def reference(name: str):
    """Lattice, positions, atomic numbers and occupancies of a crystal, built by ase or (disordered) by pymatgen."""
    import pytest

    pytest.importorskip("ase")
    pytest.importorskip("pymatgen")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name in DISORDERED:
            from pymatgen.core import Lattice, Structure

            lattice, number, _, sites = RUTILE
            structure = Structure.from_spacegroup(
                number, Lattice.from_parameters(*lattice), DISORDERED[name], sites
            )
            atoms = [
                (site.frac_coords, element.Z, share)
                for site in structure
                for element, share in site.species.items()
            ]
            positions, numbers, occupancy = zip(*atoms, strict=True)
            return lattice, positions, numbers, occupancy
        from ase.spacegroup import crystal

        lattice, number, setting, sites, elements = CRYSTALS[name]
        atoms = crystal(elements, sites, spacegroup=number, setting=setting, cellpar=lattice)
    return lattice, atoms.get_scaled_positions(), atoms.numbers, np.ones(len(atoms))
