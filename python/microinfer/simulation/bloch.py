"""Patterns of one crystal with py4DSTEM's Bloch waves, or kinematic."""

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.index_grid import complete_k_max
from microinfer.crystals.phase import lattice_basis
from microinfer.crystals.structure import Structure
from microinfer.simulation.settings import SimulationConfig


class PatternSimulator:
    """Simulates the Bragg disks of one structure at any orientation.

    Parameters
    ----------
    structure : Structure
        The crystal.
    config : SimulationConfig
        Voltage, structure factors, cuts.
    """

    def __init__(self, structure: Structure, config: SimulationConfig) -> None:
        self.structure, self.config = structure, config
        self._centring = structure.centring
        self._crystal = structure.to_py4dstem()
        self._crystal.setup_diffraction(config.voltage)
        basis = lattice_basis(structure.lattice)
        self._crystal.calculate_structure_factors(
            complete_k_max(basis, config.k_max), tol_structure_factor=-1.0
        )
        if config.method == "bloch":
            self._crystal.calculate_dynamical_structure_factors(
                config.voltage,
                config.structure_factors,
                # twice k_max, so that every beam couples to every other
                k_max=complete_k_max(basis, 2.0 * config.k_max, dynamical=True),
                thermal_sigma=structure.thermal_sigma(config.thermal_sigma),
                tol_structure_factor=-1.0,
                recompute_kinematic_structure_factors=False,
            )

    def patterns(
        self, orientation: NDArray[np.float64], thicknesses: NDArray[np.float64]
    ) -> list[NDArray[np.float32]]:
        """Simulate one orientation at several thicknesses.

        One Bloch-wave solution serves all thicknesses. The direct beam and disks weaker than
        ``intensity_min`` of the strongest are left out.

        Parameters
        ----------
        orientation : ndarray, shape (3, 3)
            Rotation matrix in py4DSTEM's convention.
        thicknesses : ndarray, shape (T,)
            In Angstrom.

        Returns
        -------
        list of ndarray of float32, shape (n, 3)
            qx, qy in 1/Angstrom and the intensity, for each thickness.
        """
        return [self._disks(data) for data in self.beams(orientation, thicknesses)]

    def beams(
        self, orientation: NDArray[np.float64], thicknesses: NDArray[np.float64]
    ) -> list[NDArray[np.void]]:
        """All beams of one orientation at several thicknesses, the direct one and the weakest too.

        Parameters
        ----------
        orientation, thicknesses : ndarray
            As in `patterns`.

        Returns
        -------
        list of structured ndarray
            h, k, l, qx, qy (1/Angstrom) and intensity, for each thickness. Of Bloch waves the intensities are shares of
            the incident electrons, which absorption takes some of.
        """
        beams = self._crystal.generate_diffraction_pattern(
            orientation_matrix=orientation,
            sigma_excitation_error=self.config.excitation_error_sigma,
            tol_intensity=self.config.beam_intensity_min,
            k_max=self.config.k_max,
        )
        hkl = np.stack([beams.data["h"], beams.data["k"], beams.data["l"]], axis=-1)
        # Beams that the centring forbids couple to none of the others: leaving them out is exact.
        phase = hkl @ self._centring.T
        beams.data = beams.data[np.all(np.abs(phase - np.round(phase)) < 1e-4, axis=1)]
        if self.config.method == "bloch":
            solutions = self._crystal.generate_dynamical_diffraction_pattern(
                beams, list(thicknesses), zone_axis_cartesian=orientation[:, 2], always_return_list=True
            )
        else:
            solutions = [beams] * len(thicknesses)
        return [solution.data for solution in solutions]

    def _disks(self, data: NDArray[np.void]) -> NDArray[np.float32]:
        diffracted = (data["h"] != 0) | (data["k"] != 0) | (data["l"] != 0)
        disks = np.stack([data["qx"], data["qy"], data["intensity"]], axis=-1)[diffracted]
        if len(disks):
            disks = disks[disks[:, 2] > self.config.intensity_min * disks[:, 2].max()]
        return np.asarray(disks, np.float32)
