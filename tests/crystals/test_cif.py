"""CIF files: every kind of file is read as what it means, or refused with the way out."""

import os
import re
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from helpers.cif import crystal_text
from helpers.damage import attempt, damages
from helpers.optional import needs_py4dstem
from helpers.structure_factors import amplitudes, reference
from microinfer.crystals.structure import load_structure
from microinfer.simulation.bloch import PatternSimulator
from microinfer.simulation.settings import PhaseConfig, SimulationConfig
from microinfer.training.config import default_config, load_config

CASES = Path(os.environ.get("MICROINFER_CASES", Path(__file__).parents[3] / "shared" / "cases")) / "cif"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="needs the shared cases")

# crystal, proper operators of the Laue class
READ = dict.fromkeys(
    ["Ti", "bom", "cr", "crlf", "duplicate_atoms", "multi", "multi_first_empty", "nonascii_utf8", "noops"],
    ("Ti", 12),
)
READ |= dict.fromkeys(
    ["noops_hall", "noops_hm", "noops_newtags", "noops_num", "p1_nothing", "p1_pymatgen", "titan_α"],
    ("Ti", 12),
)
READ |= dict.fromkeys(["x0.3333_67", "x0.333_67", "multi2#Ti", "with space"], ("Ti", 12))
READ |= dict.fromkeys(["pmg_default", "pmg_symprec"], ("Ti of pymatgen", 12))
READ |= dict.fromkeys(
    ["rutile", "aniso", "charge_reversed", "dummy_atom", "label_only_water", "lowercase", "notype"],
    ("rutile", 8),
)
READ |= dict.fromkeys(
    ["nou", "oxidation0", "uiso_question", "uppercase", "vacancy", "multi2#TiO2_rutile"], ("rutile", 8)
)
READ |= {"mixed": ("rutile with niobium", 8), "partial": ("rutile with vacancies", 8)}
READ |= dict.fromkeys(["si_fd3m_old", "si_origin2_fdm", "si_origin2_fdm_2"], ("Si", 24))
READ |= {"si_origin1": ("Si, origin 1", 24), "ase_Cu": ("Cu", 24), "ase_Cu_prim": ("primitive Cu", 24)}
READ |= dict.fromkeys(("calcite_hex_R-3c", "calcite_hex_R-3cH"), ("calcite", 6))
READ |= dict.fromkeys(("calcite_rhombo", "calcite_rhombo_R"), ("rhombohedral calcite", 6))
READ |= dict.fromkeys(("brucite_D", "brucite_H"), ("brucite", 6))
READ |= dict.fromkeys(("zro2", "zro2_noops"), ("ZrO2", 2)) | {"LiFePO4": ("LiFePO4", 4)}
REFUSED = {
    "badcell": "_cell_length_c",
    "missing_cell": "_cell_length_c",
    "contradict": r"'P 63/m m c' \(number 194\) but numbered 225 \(F m -3 m\)",
    "empty": "empty",
    "hex_gamma60": r"'P 1' \(number 1\) but numbered 194",
    "multi2": r"'Ti', 'TiO2_rutile': choose one as .*multi2\.cif#Ti",
    "notcif": "line 1",
    "occ0": r"\(0, 1\], got 0 of Ti1",
    "occ2": r"\(0, 1\], got 1\.2 of Ti1",
    "truncated": "line 39",
    "zro2_p21a_name": r"1\.71 Angstrom apart in P 1 21/a 1 .* P 1 21/c 1 .* 2\.05",
}


@needs_cases
def test_every_shared_case_is_known():
    assert {path.stem for path in CASES.glob("*.cif")} == {name.partition("#")[0] for name in READ} | set(
        REFUSED
    )


@needs_cases
@needs_py4dstem
@pytest.mark.parametrize("name", READ)
def test_shared_cases_scatter_as_their_crystal(name):
    file, _, block = name.partition("#")
    structure = load_structure(f"{CASES / file}.cif" + (f"#{block}" if block else ""))
    crystal, order = READ[name]
    assert len(structure.operators()) == order
    lattice, positions, numbers, occupancy = reference(crystal)
    np.testing.assert_allclose(structure.lattice, lattice, atol=1e-6)
    expected = amplitudes(lattice, positions, numbers, occupancy)
    found = amplitudes(structure.lattice, structure.positions, structure.numbers, structure.occupancy)
    assert found.keys() == expected.keys()
    tolerance = 2e-5 * expected[0, 0, 0]  # positions of five digits
    assert max(abs(found[hkl] - expected[hkl]) for hkl in expected) < tolerance
    assert str(structure.group.number) in structure.summary()


@needs_cases
@pytest.mark.parametrize("name", REFUSED)
def test_shared_cases_that_say_what_is_wrong(name):
    with pytest.raises(ValueError, match=rf"{name}\.cif.*{REFUSED[name]}"):
        load_structure(CASES / f"{name}.cif")


CU = "Cu Cu 0 0 0"
FCC = {"cell": (3.615,) * 3, "number": 225, "sites": [CU]}
TI = {"cell": (2.95, 2.95, 4.68, 90, 90, 120), "symbol": "P 63/m m c"}


@pytest.mark.parametrize(
    ("crystal", "composition", "number", "said"),
    [
        # origins that the file leaves open: by the distances, by the formula
        ({"cell": (5.43,) * 3, "symbol": "F d -3 m", "sites": ["Si Si 0 0 0"]}, "Si8", 227, "F d -3 m:1.*distances"),
        ({"cell": (3.785, 3.785, 9.514), "number": 141, "sites": ["Ti Ti 0 0.25 0.375", "O O 0 0.25 0.1669"]},
         "Ti4 O8", 141, "I 41/a m d:2.*distances"),
        ({"cell": (4.27,) * 3, "symbol": "Pn-3m", "formula": "Cu2 O", "sites": [CU, "O O .25 .25 .25"]},
         "Cu4 O2", 224, "P n -3 m:2.*formula"),
        ({"cell": (8.08,) * 3, "symbol": "F d -3 m Z", "sites": ["Mg Mg .125 .125 .125", "Al Al .5 .5 .5"]},
         "Mg8 Al16", 227, ":2"),
        # settings by short names and old names, another unique axis
        ({"cell": (5.15, 5.317, 5.21, 90, 90, 99.2), "symbol": "P 21/b", "sites": ["Zr Zr .275 .208 .04"]},
         "Zr4", 14, "P1121/b"),
        ({"cell": (4.0,) * 3, "symbol": "P m 3 m", "sites": [CU]}, "Cu1", 221, "Pm-3m"),
        ({"cell": (2.95, 2.95, 4.68, 90, 90, 120), "symbol": "P6_3/mmc", "sites": ["Ti Ti .33 .67 .25"]},
         "Ti2", 194, "P63/mmc"),
        ({**FCC, "symbol": r"Fm\bar{3}m"}, "Cu4", 225, "Fm-3m"),
        ({"cell": TI["cell"], "symbol": "P 63/m 2/m 2/c", "sites": ["Ti Ti .3333 .6667 .25"]}, "Ti2", 194, "P63/mmc"),
        # operations about an origin of the file's own, with cut decimals
        ({"cell": (4.6, 5.0, 6.1, 90, 99, 90), "operations": ["x,y,z", "-x+.2468,0.5+y,.5-z", ".2468-x,-y,-Z",
          "+x,1/2-y,1/2+z"], "sites": ["Cu Cu .1234 0 0"]}, "Cu2", 14, "setting of its own"),
        # P1 as it is written by others, digits cut, partial occupancies, the identity beside the name
        ({"cell": TI["cell"], "sites": ["Ti Ti .333 .666 .25", "Ti Ti .666 .333 .75"]}, "Ti2", 194, "says nothing"),
        ({"cell": TI["cell"], "symbol": "P 63/m m c", "operations": ["x,y,z"],
          "sites": ["Ti Ti .3333 .6667 .25", "Ti Ti .6667 .3333 .75"]}, "Ti2", 194, "file says P1"),
        ({"cell": (3.6,) * 3, "columns": ["occupancy"],
          "sites": [f"{e} {e} {p} {o}" for p in ("0 0 0", "0 .5 .5", ".5 0 .5", ".5 .5 0") for e, o in
                    (("Cu", 0.6), ("Au", 0.4))]}, "Cu2.4 Au1.6", 225, "symmetry found to"),
        # sites listed again, and one site of two charges
        ({**FCC, "sites": ["Cu1 Cu 0 0 0", "Cu2 Cu 0 .5 .5"]}, "Cu4", 225, "Cu2 listed again"),
        ({**FCC, "columns": ["occupancy"], "sites": ["Fe1 Fe2+ 0 0 0 .5", "Fe2 Fe3+ 0 0 0 .5"]}, "Fe4", 225, ""),
        # labels and kinds of atoms
        ({**FCC, "cell": (7.0,) * 3, "type": False, "sites": ["CaM1 0 0 0", "Wat .25 .25 .25"]},
         "Ca4 O8", 225, "Wat taken"),
        ({**FCC, "type": False, "formula": "Ca", "cell": (5.0,) * 3, "sites": ["CA1 0 0 0"]}, "Ca4", 225, ""),
        ({**FCC, "sites": ["Cu 63Cu 0 0 0", "H1 H ? ? ?"]}, "Cu4", 225, "ignored H1"),
        ({**FCC, "cell": (5.0,) * 3, "sites": ["Pd Pd 0 0 0", "D D .5 .5 .5"]},
         "Pd4 H4", 225, "deuterium taken as hydrogen"),
        ({**FCC, "formula": "Cu H2"}, "Cu4", 225, "hydrogen is not in the list"),
        ({**FCC, "symbol": "Q 9 9"}, "Cu4", 225, "'Q 9 9' is not known and ignored"),
        ({**FCC, "columns": ["U_iso_or_equiv"], "sites": ["Cu Cu 0 0 0 0.9"]}, "Cu4", 225, "is it B.*not used"),
        ({"cell": (3.6,) * 3, "sites": [CU], "extra": "_space_group_name_H-M_ref 'F m -3 m'"}, "Cu4", 225, ""),
        ({"cell": (5, 6, 7, 90, 100, 90), "symbol": "C2:b1", "sites": [CU]}, "Cu2", 5, "C 1 2 1"),
        ({**FCC, "volume": 50}, "Cu4", 225, "_cell_volume is 50"),
        ({**FCC, "dots": True}, "Cu4", 225, ""),
        ({"cell": (3.6,) * 3, "hall": "-F 4 2 3", "sites": [CU]}, "Cu4", 225, ""),
        ({"cell": (4.5937, 4.594, 2.9587), "number": 136, "sites": ["Ti Ti 0 0 0", "O O .3053 .3053 0"]},
         "Ti2 O4", 136, "cell 4.5939 4.5939.*0.01% off"),
        ({"cell": (5.1, 5.1, 5.1), "number": 2, "sites": [CU]}, "Cu1", 2, "more symmetry than written: Pm-3m"),
    ],
)  # fmt: skip
def test_kinds_of_files(crystal, composition, number, said, tmp_path):
    path = tmp_path / "own.cif"
    path.write_text(crystal_text(**crystal))
    structure = load_structure(path)
    summary = structure.summary()
    assert structure.group.number == number
    assert f"; {composition} in the cell;" in summary
    assert re.search(said, summary)
    assert "\n" not in summary


@pytest.mark.parametrize(
    ("crystal", "message"),
    [
        ({"cell": (4.27,) * 3, "symbol": "P n -3 m", "sites": [CU, "O O .25 .25 .25"]}, "two origins.*Cu2 O4 .*Cu4 O2"),
        ({**FCC, "cell": (361.5,) * 3}, "g/cm.*Angstrom"),
        ({**FCC, "cell": (0.3615,) * 3}, "g/cm.*Angstrom"),
        ({**FCC, "density": 4.0}, r"8\.93 g/cm.*_density_diffrn says 4"),
        ({**FCC, "number": 231}, "1 to 230"),
        ({**FCC, "symbol": "P m -3 m"}, r"'P m -3 m' \(number 221\) but numbered 225"),
        ({**FCC, "hall": "-P 4 2 3"}, "Hall symbol.*221.*225"),
        ({**FCC, "operations": ["x,y,z", "-x,-y,-z"]}, r"number 2 \(P-1\).*225"),
        ({**FCC, "operations": ["x,y,z", "-y,x,z"]}, "not a group"),
        ({**FCC, "operations": ["x,y,z", "x,y,2*z"]}, "no symmetry operation"),
        ({**FCC, "operations": ["x,y,z", "x,y"]}, "no symmetry operation"),
        ({**FCC, "operations": ["x,y,z", "x,y,y"]}, "changes the volume"),
        ({**FCC, "operations": ["x,y,z", "x,y,z+1/0"]}, "'1/0' is no number"),
        ({"cell": (3.6,) * 3, "symbol": "Q 9 9", "sites": [CU]}, "'Q 9 9' is not known: give its number"),
        ({"cell": (3.6,) * 3, "hall": "Q 9 9", "sites": [CU]}, "'Q 9 9' is not known: give the operations"),
        ({**FCC, "cell": (3.6, 3.6, 4.0)}, "disagree"),
        ({**FCC, "cell": (3.6, 3.6, 3.6, 90, 170, 20)}, "no unit cell"),
        ({**FCC, "cell": (1e308, 3.6, 3.6)}, ", block .*: no unit cell"),
        ({"cell": (6.375,) * 3 + (46,) * 3, "symbol": "R -3 c H", "sites": [CU]}, "R -3 c:H.*disagree"),
        ({**TI, "operations": ["x,y,z"], "sites": ["Ti Ti .3333 .6667 .25"]}, "only operation.*P 63/m m c"),
        ({"cell": (3.6,) * 3, "sites": [CU, "Cu2 Cu 0.1 0 0.0012"]}, "0.36 Angstrom apart"),
        ({**FCC, "columns": ["occupancy"], "sites": ["Fe Fe 0 0 0 .7", "Ni Ni 0 0 0 .5"]}, "sum to 1.2, above 1"),
        ({**FCC, "sites": ["M1 Si/Al 0 0 0"]}, "several elements"),
        ({**FCC, "sites": ["P1 PO4 0 0 0"]}, "'PO4' is a molecule"),
        ({**FCC, "sites": ["M1 M 0 0 0"]}, "no chemical element"),
        ({**FCC, "sites": ["Es Es 0 0 0"]}, "no chemical element that can be simulated"),
        ({**FCC, "sites": ["X X 0 0 0"]}, "no atoms; ignored: X"),
        ({**FCC, "type": False, "sites": ["CA1 0 0 0"]}, "Ca or C"),
        ({**FCC, "cell": ("3,6",) * 3}, "must be a number, got '3,6'"),
        ({**FCC, "sites": ["Cu Cu a 0 0"]}, "a coordinate of Cu must be a number"),
        ({"cell": (3.6,) * 3, "sites": [CU], "extra": "_space_group_name_Schoenflies Oh.5"}, "schoenflies alone"),
        ({**FCC, "extra": "_space_group_magn.number_BNS 225.1"}, "magnetic"),
        ({**FCC, "extra": "_symmetry_Int_Tables_number 194"}, "numbered 194 and 225"),
        ({**FCC, "extra": "_cell_length_a 4"}, "_cell_length_a stands there twice"),
    ],
)  # fmt: skip
def test_contradictions_show_both_sides(crystal, message, tmp_path):
    path = tmp_path / "own.cif"
    path.write_text(crystal_text(**crystal))
    with pytest.raises(ValueError, match=rf"own\.cif.*{message}"):
        load_structure(path)


def test_nothing_of_a_file_is_run(tmp_path):
    path, trace = tmp_path / "own.cif", tmp_path / "trace"
    path.write_text(crystal_text(**FCC, operations=["x,y,z", f"__import__('os').mkdir('{trace}'),y,z"]))
    with pytest.raises(ValueError, match=r"own\.cif.*no symmetry operation"):
        load_structure(path)
    assert not trace.exists()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("count", [400, pytest.param(10_000, marks=pytest.mark.slow)])
def test_a_damaged_file_is_refused_by_its_name_or_read(tmp_path, count):
    path = tmp_path / "own.cif"
    for number, crystal in enumerate(({**FCC, "sites": [CU]}, {**TI, "sites": ["Ti Ti .3333 .6667 .25"]})):
        for data in damages(crystal_text(**crystal).encode(), count // 2, seed=number):
            path.write_bytes(data)
            read = attempt(load_structure, path)
            assert str(path) in read if isinstance(read, str) else read.summary()


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(encoding, end, tmp_path):
    path = tmp_path / "own.cif"
    text = crystal_text(**FCC, extra="_publ_author_name 'Müller, Å.'")
    path.write_bytes(text.replace("\n", end).encode(encoding))
    assert len(load_structure(path).numbers) == 4


@pytest.mark.parametrize(
    "data", [b"", b" \n", b"\x89PNG\r\n\x1a\n\0\0", b"data_a\n", b"data_a\nloop_\n_a 1 2\n_b"]
)
def test_what_is_no_crystal_is_refused(data, tmp_path):
    path = tmp_path / "own.cif"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"own\.cif"):
        load_structure(path)
    with pytest.raises(FileNotFoundError, match="missing"):
        load_structure(tmp_path / "missing.cif#Ti")


def test_blocks_are_chosen_by_name(tmp_path):
    path = tmp_path / "two.cif"
    second = crystal_text(cell=(4.08,) * 3, number=225, sites=["Au Au 0 0 0"]).replace(
        "data_own", "data_gold"
    )
    path.write_text("data_global\n_journal_year 2001\n" + crystal_text(**FCC) + second)
    with pytest.raises(ValueError, match=r"'own', 'gold': choose one as .*two\.cif#own"):
        load_structure(path)
    with pytest.raises(ValueError, match=r"no block 'silver'; its blocks are 'global', 'own', 'gold'"):
        load_structure(f"{path}#silver")
    with pytest.raises(ValueError, match=r"no atoms .* in 'global'"):
        load_structure(f"{path}#global")
    structure = load_structure(f"{path}#Gold")
    assert (structure.name, structure.numbers.tolist()) == ("Gold", [79] * 4)
    assert PhaseConfig(f"{path}#gold").display_name == "gold"
    assert default_config(f"{path}#gold").name == "gold"
    (tmp_path / "own.toml").write_text('name = "own"\n[[phases]]\nstructure = "two.cif#gold"\n')
    assert load_structure(load_config(tmp_path / "own.toml").phases[0].structure).numbers[0] == 79
    hashed = tmp_path / "run#3.cif"
    hashed.write_text(crystal_text(**FCC))
    assert load_structure(hashed).name == "run#3"


def test_symmetry_as_written(tmp_path):
    path = tmp_path / "own.cif"
    path.write_text(crystal_text(cell=TI["cell"], sites=["Ti Ti .3333 .6667 .25", "Ti Ti .6667 .3333 .75"]))
    structure = load_structure(path)
    assert [len(structure.operators(symmetry)) for symmetry in ("laue", "point_group", "as_written")] == [
        12,
        12,
        1,
    ]
    assert structure.space_group == "P63/mmc"
    assert structure.written.symbol == "P1"
    assert structure.summary("as_written").endswith("used as written: P1")
    with pytest.raises(ValueError, match="'as_written'"):
        PhaseConfig("Cu", symmetry="none")


@needs_py4dstem
def test_phase_as_written(tmp_path):
    path = tmp_path / "own.cif"
    path.write_text(crystal_text(cell=(3.6,) * 3, sites=[CU]))
    phase = load_structure(path).phase(1.0, "as_written")
    assert (phase.space_group, phase.point_group, len(phase.operators)) == ("P1", "1", 1)


def test_displacement_factors(tmp_path):
    path = tmp_path / "own.cif"

    def sigma(**crystal):
        path.write_text(crystal_text(cell=(4.6, 4.6, 2.96), number=136, **crystal))
        return load_structure(path).thermal_sigma(0.08)

    sites = ["Ti Ti 0 0 0", "O O .305 .305 0"]
    assert sigma(sites=sites) == {22: 0.08, 8: 0.08}
    given = sigma(columns=["U_iso_or_equiv"], sites=[f"{sites[0]} 0.0049", f"{sites[1]} ?"])
    assert given == pytest.approx({22: 0.07, 8: 0.08})
    given = sigma(columns=["B_iso_or_equiv"], sites=[f"{sites[0]} {8 * np.pi**2 * 0.0036}", f"{sites[1]} 0"])
    assert given == pytest.approx({22: 0.06, 8: 0.08})
    tensor = [
        "_atom_site_aniso_label",
        *(f"_atom_site_aniso_U_{ij}" for ij in ("11", "22", "33", "12", "13", "23")),
    ]
    text = "\n".join(["loop_", *tensor, "Ti .0064 .0064 .0147 0 0 0", "O ? ? ? ? ? ?"])
    assert sigma(sites=sites, extra=text) == pytest.approx({22: np.sqrt(0.0275 / 3), 8: 0.08})
    # in a hexagonal cell U12 = U11 / 2 is isotropic in the plane
    path.write_text(
        crystal_text(
            **TI,
            sites=["Ti Ti .3333 .6667 .25"],
            extra="\n".join(["loop_", *tensor, "Ti .01 .01 .01 .005 0 0"]),
        )
    )
    structure = load_structure(path)
    assert structure.thermal_sigma(0.08) == pytest.approx({22: 0.1})
    assert "displacements of the file: Ti 0.100" in structure.summary()


@needs_py4dstem
def test_displacement_factors_are_simulated(tmp_path):
    def strongest(displacement):
        path = tmp_path / "own.cif"
        path.write_text(
            crystal_text(**FCC | {"columns": ["U_iso_or_equiv"], "sites": [f"{CU} {displacement}"]})
        )
        config = SimulationConfig(k_max=0.8)
        disks = PatternSimulator(load_structure(path), config).patterns(np.eye(3), np.array([100.0]))[0]
        return np.sort(disks[:, 2])[::-1][:4].mean()

    unknown, same, larger = strongest("?"), strongest(0.08**2), strongest(0.2**2)
    assert unknown == pytest.approx(same)
    assert abs(larger - same) > 0.02 * same


@needs_py4dstem
def test_operators_are_exact_symmetry_of_rounded_files(tmp_path):
    path = tmp_path / "own.cif"
    path.write_text(
        crystal_text(
            cell=(4.759, 4.7592, 12.991, 90, 90.01, 120),
            sites=["Al Al .333 .667 .0187", "Al Al .667 .333 .9813", "O O .306 .0003 .25", "O O .694 0 .75",
                   "O O 0 .306 .25", "O O 0 .694 .75", "O O .694 .694 .25", "O O .306 .306 .75"],
        )
    )  # fmt: skip
    structure = load_structure(path)
    phase = structure.phase(1.2)
    assert len(phase.operators) > 2
    amplitude = {tuple(hkl): f for *hkl, f in phase.reflections.tolist()}
    g = phase.reflections[:, :3] @ phase.reciprocal
    for operator in phase.operators:
        image = g @ operator.T @ phase.basis.T
        np.testing.assert_allclose(image, np.round(image), atol=1e-6)
        mapped = [amplitude[tuple(hkl)] for hkl in (np.round(image) + 0.0).tolist()]
        np.testing.assert_allclose(mapped, phase.reflections[:, 3], rtol=1e-4, atol=1e-6)


@needs_py4dstem
def test_built_in_structures_stay_as_the_shipped_models_know_them():
    fcc = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2
    copper, oxide = load_structure("Cu"), load_structure("Cu2O")
    np.testing.assert_array_equal(copper.positions, fcc)
    np.testing.assert_array_equal(
        oxide.positions, np.concatenate([np.mod(0.25 + fcc, 1.0), [[0, 0, 0], [0.5] * 3]])
    )
    assert (copper.space_group, oxide.space_group) == ("Fm-3m", "Pn-3m")
    assert (copper.lattice[0], oxide.lattice[0]) == (3.615, 4.2696)
    np.testing.assert_array_equal(copper.centring, fcc)


@needs_py4dstem
@pytest.mark.parametrize("first", range(1, 99, 14))
def test_elements_scatter_as_ase_says(first, tmp_path):
    io, atoms = pytest.importorskip("ase.io"), pytest.importorskip("ase")
    numbers = list(range(first, min(first + 14, 99)))
    # atoms far apart, without symmetry, as many as fit into 14 steps along a
    positions = [(row / 14 + 0.013, 0.1 * (row % 3), 0.07 * (row % 5)) for row in range(len(numbers))]
    crystal = atoms.Atoms(numbers, scaled_positions=positions, cell=(63, 6, 5), pbc=True)
    path = tmp_path / "elements.cif"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        io.write(path, crystal)
    structure = load_structure(path)
    assert Counter(structure.numbers.tolist()) == Counter(numbers)
    ours = amplitudes(structure.lattice, structure.positions, structure.numbers, structure.occupancy, 0.3)
    theirs = amplitudes(crystal.cell.cellpar(), positions, numbers, [1.0] * len(numbers), 0.3)
    assert max(abs(ours[hkl] - theirs[hkl]) for hkl in theirs) < 1e-5 * theirs[0, 0, 0]


@needs_py4dstem
def test_no_reflection_and_no_coupling_of_an_oblique_cell_is_missing(tmp_path):
    path, k_max = tmp_path / "own.cif", 0.6
    missed = 0
    for cell in ((5.0, 4.2, 12.0, 90, 128, 90), (6.0, 7.0, 5.0, 80, 85, 140)):
        path.write_text(crystal_text(cell=cell, symbol="P -1", sites=["U U 0.1 0.2 0.3"]))
        structure = load_structure(path)
        phase = structure.phase(k_max)
        indices = np.stack(np.meshgrid(*[np.arange(-24, 25)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
        length = np.linalg.norm(indices @ phase.reciprocal, axis=1)
        wanted = {tuple(hkl) for hkl in indices[length <= k_max].tolist()}
        simulator = PatternSimulator(structure, SimulationConfig(k_max=k_max, structure_factors="Lobato"))
        assert {
            tuple(hkl) for hkl in indices[length <= 2 * k_max].tolist()
        } <= simulator._crystal.Ug_dict.keys()
        assert wanted <= {tuple(hkl) for hkl in simulator._crystal.hkl.T.tolist()}
        amplitude = amplitudes(
            structure.lattice, structure.positions, structure.numbers, structure.occupancy, k_max + 0.3
        )
        strong = {hkl for hkl in wanted if amplitude[hkl] > 1e-3} - {(0, 0, 0)}
        found = {tuple(hkl) for hkl in phase.reflections[:, :3].tolist()}
        assert strong <= found <= wanted
        crystal = structure.to_py4dstem()
        crystal.calculate_structure_factors(k_max, tol_structure_factor=-1.0)
        missed += len(wanted) - crystal.hkl.shape[1]
    assert missed > 0  # by py4DSTEM alone
