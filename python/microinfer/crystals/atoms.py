"""Atoms of a unit cell: sites and operations become atoms, each once and exactly as symmetric as the group says."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from microinfer.crystals.cif import CrystalBlock
from microinfer.crystals.phase import CellAtoms, lattice_basis
from microinfer.crystals.sites import Site


class Pair(NamedTuple):
    """Two neighbouring atoms, their distance in Angstrom, and that in units of the sum of their covalent radii."""

    first: str
    second: str
    distance: float
    ratio: float


@dataclass(frozen=True, eq=False)
class Atoms:
    """All atoms of a unit cell.

    Attributes
    ----------
    basis : ndarray, shape (3, 3)
        Lattice vectors as rows, in Angstrom.
    positions : ndarray, shape (A, 3)
        Fractional coordinates.
    numbers, occupancy, displacement : ndarray, shape (A,)
        Atomic numbers, occupancies, mean square displacements in Angstrom^2.
    labels : tuple of str
        The site of each atom.
    notes : tuple of str
        What was found listed twice.
    """

    basis: NDArray[np.float64]
    positions: NDArray[np.float64]
    numbers: NDArray[np.int64]
    occupancy: NDArray[np.float64]
    displacement: NDArray[np.float64]
    labels: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def composition(self) -> str:
        """Numbers of atoms by element."""
        return CellAtoms.of(self.numbers, self.positions, self.occupancy).formula

    def points(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Positions, each once, shape (P, 3), and the kind of what sits there, shape (P,)."""
        first, member = self._sharing()
        kinds: dict[tuple[tuple[int, float], ...], int] = {}
        held = [
            tuple(
                sorted(
                    (int(self.numbers[i]), round(float(self.occupancy[i]), 4))
                    for i in np.flatnonzero(member == point)
                )
            )
            for point in range(len(first))
        ]
        return self.positions[first], np.array([kinds.setdefault(entry, len(kinds)) for entry in held])

    def _sharing(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First atom at each position, and each atom's position."""
        member = np.full(len(self.positions), -1)
        first: list[int] = []
        for index in range(len(member)):
            if member[index] < 0:
                distance = _distances(self.positions - self.positions[index], self.basis)
                member[(distance < _SAME) & (member < 0)] = len(first)
                first.append(index)
        return np.array(first), member

    def symmetrised(self, operations: NDArray[np.float64]) -> "Atoms":
        """Return the atoms moved onto the symmetry of a group that was found in them."""
        from scipy.spatial import cKDTree

        first, member = self._sharing()
        points = np.mod(self.positions[first], 1.0) % 1.0  # a second time: the first may give 1
        _, kinds = self.points()
        shift = np.zeros_like(points)
        trees = {
            kind: (np.flatnonzero(kinds == kind), cKDTree(points[kinds == kind], boxsize=1.0))
            for kind in set(kinds)
        }
        for operation in operations:
            images = np.mod(points @ operation[:, :3].T + operation[:, 3], 1.0) % 1.0
            for rows, tree in trees.values():
                target = rows[tree.query(images[rows])[1]]
                step = images[rows] - points[target]
                shift[target] += step - np.round(step)
        return replace(self, positions=_wrapped((points + shift / len(operations))[member]))

    def nearest(self) -> Pair:
        """The two atoms that are nearest for their kinds, of those that can both be there."""
        import gemmi
        from scipy.spatial import cKDTree

        cells = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
        inside = np.mod(self.positions, 1.0)
        copies = (inside[None] + cells[:, None]).reshape(-1, 3) @ self.basis
        owner = np.tile(np.arange(len(inside)), len(cells))
        radii = np.array([gemmi.Element(int(number)).covalent_r for number in self.numbers])
        tree = cKDTree(copies)
        best = Pair(self.labels[0], self.labels[0], np.inf, np.inf)
        for index, near in enumerate(tree.query_ball_point(inside @ self.basis, 3.0 * radii.max())):
            others = np.array(near)
            distance = np.linalg.norm(copies[others] - inside[index] @ self.basis, axis=1)
            both = self.occupancy[owner[others]] + self.occupancy[index] > 1.01
            both &= distance > _SAME
            if both.any():
                ratio = distance[both] / (radii[owner[others[both]]] + radii[index])
                at = int(np.argmin(ratio))
                if ratio[at] < best.ratio:
                    other = self.labels[owner[others[both][at]]]
                    best = Pair(self.labels[index], other, float(distance[both][at]), float(ratio[at]))
        return best

    def same_amplitudes(self, other: "Atoms") -> bool:
        """Whether two sets of atoms in the same cell scatter alike, atomic numbers as scattering factors."""
        indices = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
        first, second = (
            np.abs(np.exp(2j * np.pi * indices @ atoms.positions.T) @ (atoms.numbers * atoms.occupancy))
            for atoms in (self, other)
        )
        return bool(np.allclose(first, second, atol=0.01 * first.max()))


def expand(
    block: CrystalBlock, operations: NDArray[np.float64], basis: NDArray[np.float64], tolerance: float
) -> Atoms:
    """All atoms that sites and operations give.

    Images of a site within the tolerance are one atom, on the special position; sites that are images of each other
    are one, where they hold the same; sites of different elements or charges share their position.

    Parameters
    ----------
    block : CrystalBlock
        The sites.
    operations : ndarray, shape (N, 3, 4)
        Those of the space group.
    basis : ndarray, shape (3, 3)
        Lattice vectors as rows, in Angstrom.
    tolerance : float
        In Angstrom.

    Raises
    ------
    ValueError
        If sites that share a position fill it more than once.
    """
    kept: list[tuple[Site, NDArray[np.float64]]] = []
    twice: list[str] = []
    for site in block.sites:
        images = orbit(np.array(site.position), operations, basis, tolerance)
        merged = False
        for other, theirs in kept:
            distance = _distances(theirs - np.array(site.position), basis)
            if distance.min() >= tolerance:
                continue
            images = theirs  # the same position, exactly
            if other.number == site.number and _is_listed_twice(site, other):
                twice.append(site.label)
                merged = True
                break
        if not merged:
            kept.append((site, images))
    atoms = Atoms(
        basis=basis,
        positions=np.concatenate([images for _, images in kept]),
        numbers=np.repeat([site.number for site, _ in kept], [len(images) for _, images in kept]),
        occupancy=np.repeat([site.occupancy for site, _ in kept], [len(images) for _, images in kept]),
        displacement=np.repeat([site.displacement for site, _ in kept], [len(images) for _, images in kept]),
        labels=tuple(site.label for site, images in kept for _ in images),
        notes=(f"{', '.join(twice)} listed again, as images of other sites",) if twice else (),
    )
    _refuse_overfull(block, atoms)
    return atoms


def orbit(
    position: NDArray[np.float64],
    operations: NDArray[np.float64],
    basis: NDArray[np.float64],
    tolerance: float,
) -> NDArray[np.float64]:
    """All images of a position, each once and sorted; the position moves onto the special one within the tolerance.

    Parameters
    ----------
    position : ndarray, shape (3,)
        Fractional coordinates.
    operations : ndarray, shape (N, 3, 4)
        Those of the space group.
    basis : ndarray, shape (3, 3)
        Lattice vectors as rows, in Angstrom.
    tolerance : float
        In Angstrom.

    Returns
    -------
    ndarray of float64, shape (M, 3)
        Fractional coordinates in [0, 1).
    """
    for _ in range(8):
        step = operations[:, :, :3] @ position + operations[:, :, 3] - position
        step -= np.round(step)
        keeping = np.linalg.norm(step @ basis, axis=1) < tolerance
        move = step[keeping].mean(axis=0)
        position = position + move
        if np.abs(move).max() < 1e-13:
            break
    images = _wrapped(operations[:, :, :3] @ position + operations[:, :, 3])
    keys = np.mod(np.round(images, 5), 1.0)
    _, first = np.unique(keys, axis=0, return_index=True)
    return np.asarray(images[first])


def symmetric_lattice(
    lattice: tuple[float, float, float, float, float, float], rotations: NDArray[np.float64]
) -> tuple[float, float, float, float, float, float]:
    """Lattice parameters made exactly as symmetric as a group's rotations (on fractional coordinates) are."""
    basis = lattice_basis(lattice)
    metric = basis @ basis.T
    mean = (rotations.transpose(0, 2, 1) @ metric @ rotations).mean(axis=0)
    if np.abs(mean - metric).max() < 1e-9 * metric.max():
        return lattice
    a, b, c = np.sqrt(np.diag(mean))
    cosines = mean[1, 2] / (b * c), mean[0, 2] / (a * c), mean[0, 1] / (a * b)
    alpha, beta, gamma = np.round(np.degrees(np.arccos(cosines)), 10)
    return float(a), float(b), float(c), float(alpha), float(beta), float(gamma)


def density(numbers: NDArray[np.int64], occupancy: NDArray[np.float64], volume: float) -> float:
    """Density in g/cm^3 of atoms in a cell of a volume in Angstrom^3."""
    import gemmi

    weights = np.array([gemmi.Element(int(number)).weight for number in numbers])
    return float(weights @ occupancy) / volume * 1.66053907


def _is_listed_twice(site: Site, other: Site) -> bool:
    """Whether a site at another's position, or an image of it, is that site again, and not the rest of its filling."""
    if site.kind.lower() != other.kind.lower() or abs(site.occupancy - other.occupancy) > 1e-6:
        return False
    same_place = np.allclose(np.mod(np.subtract(site.position, other.position) + 0.5, 1.0), 0.5, atol=1e-3)
    return not same_place or site.label == other.label or site.occupancy > 0.5


def _refuse_overfull(block: CrystalBlock, atoms: Atoms) -> None:
    first, member = atoms._sharing()
    for point in range(len(first)):
        here = np.flatnonzero(member == point)
        total = atoms.occupancy[here].sum()
        if total > 1.01:
            shares = ", ".join(f"{atoms.labels[index]} {atoms.occupancy[index]:g}" for index in here)
            raise ValueError(
                f"{block.source}: the occupancies of one position sum to {total:.3g}, above 1: {shares}; correct them"
            )


def _distances(difference: NDArray[np.float64], basis: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lengths in Angstrom of fractional differences modulo the lattice, where they are short."""
    return np.asarray(np.linalg.norm((difference - np.round(difference)) @ basis, axis=-1))


def _wrapped(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fractional coordinates in [0, 1), those just below 1 taken to 0."""
    wrapped = np.mod(positions, 1.0)
    near = np.round(wrapped * 24) / 24
    wrapped = np.where(np.abs(wrapped - near) < 1e-12, near, wrapped)
    return np.asarray(np.where(wrapped > 1.0 - 1e-9, 0.0, wrapped) + 0.0)


_SAME = 1e-3
"""Atoms nearer than this, in Angstrom, are at one position."""
