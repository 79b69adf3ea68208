"""Random crystals, written in the styles of several programs, come back with the same structure factors."""

import warnings
from typing import NamedTuple

import gemmi
import numpy as np
import pytest
import spglib
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from microinfer.crystals.phase import lattice_basis
from microinfer.crystals.structure import load_structure

SYMBOLS = ["H", "Li", "O", "Ti", "Cu", "Zr", "La", "U"]
NUMBERS = dict(zip(SYMBOLS, [1, 3, 8, 22, 29, 40, 57, 92], strict=True))
HKL = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)


class Crystal(NamedTuple):
    """A crystal that spglib's tables made of a few sites."""

    hall_number: int
    lattice: tuple[float, ...]
    sites: list[tuple[str, tuple[float, float, float]]]
    symbols: list[str]
    positions: NDArray[np.float64]
    rotations: NDArray[np.float64]
    translations: NDArray[np.float64]


def amplitudes(positions, numbers) -> NDArray[np.float64]:
    """|F| with atomic numbers as scattering factors, relative to F(000)."""
    weights = np.asarray(numbers, np.float64)
    return np.abs(np.exp(2j * np.pi * HKL @ np.asarray(positions).T) @ weights) / weights.sum()


def symmetric_lattice(rotations, rng) -> tuple[float, ...]:
    """A random lattice that a group's rotations keep."""
    basis = np.diag(rng.uniform(0.8, 1.6, 3)) + rng.uniform(-0.25, 0.25, (3, 3))
    metric = np.mean([r.T @ basis @ basis.T @ r for r in rotations], axis=0)
    lengths = np.sqrt(np.diag(metric))
    cosines = [metric[i, j] / lengths[i] / lengths[j] for i, j in ((1, 2), (0, 2), (0, 1))]
    return (*lengths, *np.degrees(np.arccos(cosines)))


@st.composite
def crystals(draw) -> Crystal:
    hall_number = draw(st.integers(1, 530))
    found = spglib.get_symmetry_from_database(hall_number)
    rotations, translations = found["rotations"].astype(float), found["translations"]
    lattice = symmetric_lattice(rotations, np.random.default_rng(draw(st.integers(0, 2**32 - 1))))
    assume(min(lattice[3:]) > 40 and max(lattice[3:]) < 140)
    free = st.integers(0, 9999).map(lambda value: value / 1e4)
    special = st.sampled_from([0.0, 0.125, 0.25, 1 / 3, 0.5, 2 / 3, 0.75])
    sites, symbols, counts, positions = [], [], [], np.zeros((0, 3))
    for _ in range(draw(st.integers(1, 3))):
        symbol = draw(st.sampled_from(SYMBOLS))
        place = np.array(draw(st.tuples(*[st.one_of(free, special)] * 3)))
        images = np.mod(rotations @ place + translations, 1.0)
        difference = images[:, None] - images
        same = np.abs(difference - np.round(difference)).max(-1) < 1e-6
        images = images[~np.tril(same, -1).any(1)]
        positions, symbols = np.concatenate([positions, images]), symbols + [symbol] * len(images)
        sites.append((symbol, tuple(place.tolist())))
        counts.append(len(images))
    # so large that the nearest atoms touch; each site's first atom stands for its images
    assume(len(positions) <= 200)
    first = np.cumsum([0, *counts[:-1]])
    difference = positions[first][:, None] - positions
    shifts = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 1, 1, 3)
    distance = np.linalg.norm((difference - np.round(difference) + shifts) @ lattice_basis(lattice), axis=-1)
    distance[13, np.arange(len(first)), first] = np.inf  # of an atom to itself
    assume(distance.min() > 0.02)
    radii = np.array([gemmi.Element(symbol).covalent_r for symbol in symbols])
    scale = ((radii[first][:, None] + radii) / distance).max()
    volume = scale**3 * np.linalg.det(lattice_basis(lattice))
    assume(sum(max(2 * NUMBERS[s] - 1, 1) for s in symbols) * 1.66 / volume > 0.06)
    assume(max(lattice[:3]) * scale < 60)
    lattice = (*(scale * length for length in lattice[:3]), *lattice[3:])
    return Crystal(hall_number, lattice, sites, symbols, positions, rotations, translations)


def assume_no_near_symmetry(crystal: Crystal) -> None:
    """Atoms that lie near a higher symmetry are moved onto it, by 0.01 Angstrom at most."""
    cell = lattice_basis(crystal.lattice), crystal.positions, [NUMBERS[symbol] for symbol in crystal.symbols]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [spglib.get_symmetry_dataset(cell, symprec=tolerance) for tolerance in (0.02, 1e-4)]
    assume(None not in found and found[0].number == found[1].number)


def laue_rotations(rotations) -> set[bytes]:
    proper = [np.round(r * np.linalg.det(r)).astype(int) for r in rotations]
    return {rotation.tobytes() for rotation in proper}


def check(path, crystal: Crystal, tolerance: float, symmetry: str = "laue") -> None:
    structure = load_structure(path)
    assert len(structure.numbers) == len(crystal.symbols)
    np.testing.assert_allclose(structure.lattice, crystal.lattice, rtol=2e-3)
    expected = amplitudes(crystal.positions, [NUMBERS[symbol] for symbol in crystal.symbols])
    np.testing.assert_allclose(amplitudes(structure.positions, structure.numbers), expected, atol=tolerance)
    assert laue_rotations(structure.rotations) >= laue_rotations(crystal.rotations)


def operation(rotation, translation, rng) -> str:
    """An operation as text, with its translation in front or behind."""
    parts = []
    for row, shift in zip(rotation, np.round(translation * 24) % 24, strict=True):
        text = "".join(("-" if v < 0 else "+") + axis for v, axis in zip(row, "xyz", strict=True) if v)
        number = {0: "", 3: "1/8", 4: "1/6", 6: "1/4", 8: "1/3", 9: "3/8", 12: "1/2", 15: "5/8", 16: "2/3",
                  18: "3/4", 20: "5/6", 21: "7/8"}[int(shift)]  # fmt: skip
        front = number + text if rng.random() < 0.5 else f"{text.removeprefix('+')}+{number}" * bool(number)
        parts.append(front or text.removeprefix("+"))
    return ("," if rng.random() < 0.5 else ", ").join(parts)


FEW = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@FEW
@given(
    crystal=crystals(),
    style=st.sampled_from(["operations", "symbol", "hall", "all"]),
    digits=st.integers(4, 8),
    seed=st.integers(0, 2**32 - 1),
)
def test_sites_with_their_symmetry(tmp_path_factory, crystal, style, digits, seed):
    rng = np.random.default_rng(seed)
    kind = spglib.get_spacegroup_type(crystal.hall_number)
    choice = f" :{kind.choice[0]}" if kind.choice[:1] in tuple("12HR") else ""
    # Cmme and Ccce with their axes exchanged have no symbols of their own
    exchanged = kind.number in (67, 68) and kind.choice.lstrip("12") in ("ba-c", "-cba", "a-cb")
    assume(not (exchanged and style in ("symbol", "all")))
    keys = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    lines = [
        "data_random",
        *(f"_cell_{k} {v:.{digits}f}" for k, v in zip(keys, crystal.lattice, strict=True)),
    ]
    if style in ("symbol", "all"):
        lines.append(f"_symmetry_space_group_name_H-M '{kind.international_full.replace('_', '')}{choice}'")
    if style in ("hall", "all"):
        lines.append(f"_space_group_name_Hall '{kind.hall_symbol}'")
    if style == "all":
        lines.append(f"_space_group_IT_number {kind.number}")
    if style in ("operations", "all"):
        lines += ["loop_", "_symmetry_equiv_pos_as_xyz"]
        operations = zip(crystal.rotations, crystal.translations, strict=True)
        lines += [f"'{operation(rotation, shift, rng)}'" for rotation, shift in operations]
    lines += ["loop_", *(f"_atom_site_{key}" for key in ("type_symbol", "fract_x", "fract_y", "fract_z"))]
    lines += [f"{symbol} {x:.{digits}f} {y:.{digits}f} {z:.{digits}f}" for symbol, (x, y, z) in crystal.sites]
    path = tmp_path_factory.mktemp("random") / "random.cif"
    path.write_text("\n".join(lines) + "\n")
    check(path, crystal, 20 * 10.0**-digits)


@FEW
@given(crystal=crystals(), program=st.sampled_from(["ase", "pymatgen"]), digits=st.integers(4, 8))
def test_atoms_without_symmetry_as_other_programs_write_them(tmp_path_factory, crystal, program, digits):
    assume_no_near_symmetry(crystal)
    path = tmp_path_factory.mktemp("random") / "random.cif"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if program == "ase":
            io, ase = pytest.importorskip("ase.io"), pytest.importorskip("ase")
            atoms = ase.Atoms(
                crystal.symbols, scaled_positions=crystal.positions, cell=crystal.lattice, pbc=True
            )
            io.write(path, atoms)
        else:
            cif, core = pytest.importorskip("pymatgen.io.cif"), pytest.importorskip("pymatgen.core")
            lattice = core.Lattice.from_parameters(*crystal.lattice)
            structure = core.Structure(lattice, crystal.symbols, crystal.positions)
            cif.CifWriter(structure, significant_figures=digits).write_file(path)
    check(path, crystal, 20 * 10.0**-digits)


@FEW
@given(crystal=crystals(), digits=st.integers(4, 8))
def test_symmetry_that_pymatgen_finds_and_writes(tmp_path_factory, crystal, digits):
    cif, core = pytest.importorskip("pymatgen.io.cif"), pytest.importorskip("pymatgen.core")
    assume_no_near_symmetry(crystal)
    path = tmp_path_factory.mktemp("random") / "random.cif"
    structure = core.Structure(
        core.Lattice.from_parameters(*crystal.lattice), crystal.symbols, crystal.positions
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            writer = cif.CifWriter(structure, symprec=1e-3, significant_figures=digits)
        except Exception:
            assume(False)
        writer.write_file(path)
        from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

        refined = SpacegroupAnalyzer(structure, symprec=1e-3).get_refined_structure()
    loaded = load_structure(path)
    assert len(loaded.numbers) == len(refined)
    expected = amplitudes(refined.frac_coords, [site.specie.Z for site in refined])
    np.testing.assert_allclose(
        amplitudes(loaded.positions, loaded.numbers), expected, atol=20 * 10.0**-digits
    )
