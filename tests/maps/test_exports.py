from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from helpers.example_maps import angles_between, assert_same_disks, disks, our_disks, random_map
from helpers.example_phases import PHASES, turn
from microinfer.crystals.phase import CellAtoms
from microinfer.maps.frames_of_reference import export_frame
from microinfer.peaks import Scan

SAME_FRAME = ["Cu", "Ti", "quartz", "P-31m", "forsterite", "triclinic"]


def exported_disks(phase, orix_phase, matrix):
    """The same reflections, in the lattice that the exported phase has."""
    hkl = phase.reflections[:, :3] @ export_frame(phase).cell.T
    reciprocal = np.linalg.inv(orix_phase.structure.lattice.base).T
    return disks(hkl, phase.reflections[:, 3], reciprocal, matrix)


@pytest.mark.parametrize("name", PHASES)
def test_operators_become_those_of_orix(name):
    phase, frame = PHASES[name], export_frame(PHASES[name])
    assert np.linalg.det(frame.rotation) == pytest.approx(1.0)
    turned = frame.rotation @ phase.operators @ frame.rotation.T
    expected = frame.symmetry[~frame.symmetry.improper.astype(bool)].to_matrix()
    assert len(expected) == len(turned)
    for operator in expected:
        assert np.abs(turned - operator).max(axis=(1, 2)).min() < 1e-6


@pytest.mark.parametrize(
    ("name", "point_group", "cell"),
    [
        ("Cu", "m-3m", np.eye(3)),
        ("ZnS", "m-3m", np.eye(3)),  # its operators are those of the Laue class
        ("quartz", "321", np.eye(3)),
        ("P-31m", "312", np.eye(3)),
        ("Li2MnO3", "2/m", [[0, 0, 1], [1, 0, 0], [0, 1, 0]]),  # orix has the two-fold axis on c
        ("calcite", "-3m", [[1, -1, 0], [0, 1, -1], [1, 1, 1]]),  # the hexagonal cell, obverse
    ],
)
def test_point_group_and_cell(name, point_group, cell):
    frame = export_frame(PHASES[name])
    assert frame.symmetry.name == point_group
    np.testing.assert_array_equal(frame.cell, cell)


def test_the_laue_class_of_a_mirror_alone_is_that_of_its_axis():
    phase = replace(PHASES["Li2MnO3"], point_group="m")
    assert export_frame(phase).symmetry.name == "2/m"


def test_a_phase_without_such_axes_is_refused():
    with pytest.raises(ValueError, match=r"'Li2MnO3'.*no cell of its lattice"):
        export_frame(PHASES["Li2MnO3"], ["m-3m"])


@pytest.mark.parametrize("name", PHASES)
@given(seed=st.integers(0, 2**16))
@settings(max_examples=5, deadline=None)
def test_orix_orientation_makes_the_same_pattern(name, seed):
    phase = PHASES[name]
    omap = random_map(name, shape=(1, 1), seed=seed, invalid=0.0)
    xmap = omap.to_orix()
    before = our_disks(phase, omap.matrix[0, 0])
    orientation = xmap.orientations[0]
    symmetry = orientation.symmetry
    assert_same_disks(before, exported_disks(phase, xmap.phases[0], orientation.to_matrix()[0]), 1e-5)
    # and so does every orientation that orix takes for the same one
    for operator in symmetry[~symmetry.improper.astype(bool)].to_matrix():
        same = operator @ orientation.to_matrix()[0]
        assert_same_disks(before, exported_disks(phase, xmap.phases[0], same), 1e-5)


@pytest.mark.parametrize("name", SAME_FRAME)
def test_frames_that_agree_keep_the_matrix(name):
    from orix.quaternion import Orientation

    omap = random_map(name, shape=(3, 4), invalid=0.0)
    xmap = omap.to_orix()
    matrix = omap.matrix.transpose(1, 0, 2, 3).reshape(-1, 3, 3).astype(float)
    expected = Orientation.from_matrix(matrix, symmetry=xmap.phases[0].point_group)
    np.testing.assert_allclose(xmap.orientations.data, expected.data, atol=1e-6)
    assert xmap.orientations.symmetry.name == expected.symmetry.name
    assert xmap.phases[0].structure.lattice.abcABG() == pytest.approx(PHASES[name].lattice)


def test_orix_map_is_transposed_and_complete():
    omap = random_map("Cu", "Li2MnO3", shape=(5, 4))
    assert not omap.valid.all()
    xmap = omap.to_orix()
    assert xmap.shape == (4, 5)
    assert xmap.is_in_data.all()
    assert (xmap.dx, xmap.dy, xmap.scan_unit) == (0.5, 0.5, "nm")
    assert xmap.phases.names == ["not_indexed", "Cu", "Li2MnO3"]
    assert [xmap.phases[name].point_group.name for name in ("Cu", "Li2MnO3")] == ["m-3m", "2/m"]
    np.testing.assert_array_equal(xmap.get_map_data("phase_id").T, omap.phase)
    np.testing.assert_array_equal(xmap.is_indexed.reshape(4, 5).T, omap.valid)
    rx, ry = np.indices((5, 4))
    np.testing.assert_array_equal(xmap.x, 0.5 * rx.T.ravel())
    np.testing.assert_array_equal(xmap.y, 0.5 * ry.T.ravel())


@pytest.mark.parametrize(
    ("step", "expected"),
    [("2 nm", (2.0, "nm")), ("20 Å", (2.0, "nm")), ("2 µm", (2.0, "µm")), (3, (3.0, "px"))],
)
def test_orix_gets_the_step_in_a_unit_that_it_knows(step, expected):
    xmap = random_map("Cu", scan=Scan((5, 4), step)).to_orix()
    assert (xmap.dx, xmap.scan_unit) == expected


def test_answers_and_alternatives_survive_orix_files(tmp_path):
    from orix.io import load, save

    omap = random_map("Cu", "Li2MnO3", "P-31m", shape=(5, 4), seed=21)
    save(str(tmp_path / "map.h5"), omap.to_orix())
    xmap = load(str(tmp_path / "map.h5"))
    assert xmap.rotations_per_point == 3

    def in_scan_order(values):
        return values.reshape(4, 5, *values.shape[1:]).swapaxes(0, 1)

    phase = in_scan_order(xmap.prop["rotation_phase_id"])
    matrix = in_scan_order(xmap.rotations.to_matrix())
    ranked = omap.candidates
    np.testing.assert_array_equal(phase, ranked.phase)
    for index, one in enumerate(omap.phases):
        back = export_frame(one).rotation.T @ matrix[phase == index]
        np.testing.assert_allclose(back, ranked.matrix[phase == index], atol=1e-6)
    none = phase < 0
    assert 0 < none[omap.valid].sum() < omap.valid.sum()
    np.testing.assert_allclose(matrix[none], np.broadcast_to(np.eye(3), (none.sum(), 3, 3)), atol=1e-12)
    np.testing.assert_array_equal(in_scan_order(xmap.prop["scores"]), ranked.probability)
    np.testing.assert_array_equal(in_scan_order(xmap.prop["score"]), omap.score)
    np.testing.assert_array_equal(in_scan_order(xmap.prop["confidence"]), omap.confidence)
    copper = xmap["Cu"]
    np.testing.assert_allclose(copper.orientations.data, copper.rotations[:, 0].data)


def test_phases_that_are_nowhere_stay_in_the_list():
    omap = random_map("Cu", "Ti", "quartz", shape=(2, 2), invalid=0.0, candidates=1)
    omap = omap.replace(phase=np.ones((2, 2, 1), int))
    assert omap.to_orix().phases.names == ["Cu", "Ti", "quartz"]
    omap = random_map("Cu", shape=(3, 3), invalid=1.1)
    assert omap.to_orix().phases.names == ["not_indexed", "Cu"]


def test_phases_have_their_space_groups_and_distinct_colours():
    phases = random_map(*PHASES, shape=(4, 4), candidates=1).to_orix().phases
    groups = [
        None if phase.space_group is None else phase.space_group.number
        for _, phase in phases
        if phase.name in PHASES
    ]
    # without one: F-43m and P-31m, from which orix would derive other rotations than those that count
    assert dict(zip(PHASES, groups, strict=True)) == {
        "Cu": 225,
        "Cu primitive": 225,
        "ZnS": None,
        "Ti": 194,
        "quartz": 152,
        "P-31m": None,
        "calcite": 167,
        "Li2MnO3": 12,
        "forsterite": 62,
        "triclinic": 2,
    }
    colors = [phase.color for _, phase in phases]
    assert len(set(colors)) == len(colors)


@pytest.mark.parametrize(
    ("symbol", "number"),
    [
        ("P2_1/n", 14),
        ("P21/n", 14),
        ("C2/m", 12),
        ("I12/m1", 12),
        ("P112/m", 10),
        ("", None),
        ("nonsense", None),
    ],
)
def test_symbols_of_any_setting_are_known(symbol, number):
    phase = replace(PHASES["Li2MnO3"], space_group=symbol)
    group = random_map("Li2MnO3").replace(phases=(phase,)).to_orix().phases[0].space_group
    assert (None if group is None else group.number) == number


@pytest.mark.parametrize("name", ["Cu", "Cu primitive", "Ti", "calcite", "Li2MnO3"])
def test_exported_atoms_are_those_of_the_crystal(name):
    positions = np.array([[0.0, 0.0, 0.0], [1 / 3, 2 / 3, 0.25], [0.1, 0.95, 0.6]])
    phase = replace(PHASES[name], atoms=CellAtoms.of([29, 22, 92], positions, [1.0, 0.5, 0.25]))
    frame, structure = (
        export_frame(phase),
        random_map(name).replace(phases=(phase,)).to_orix().phases[0].structure,
    )
    volume = round(np.linalg.det(frame.cell))
    assert len(structure) == 3 * volume
    assert [(atom.element, atom.occupancy) for atom in structure[::volume]] == [
        ("Cu", 1.0),
        ("Ti", 0.5),
        ("U", 0.25),
    ]
    # all different, and each a lattice translation of the CIF's cell away from its atom
    assert len({tuple(np.round(atom.xyz, 6)) for atom in structure}) == len(structure)
    for atom in structure:
        assert (atom.xyz > -1e-8).all()
        assert (atom.xyz < 1).all()
        element = ["Cu", "Ti", "U"].index(atom.element)
        shift = (atom.xyz_cartn @ frame.rotation) @ np.linalg.inv(phase.basis) - positions[element]
        np.testing.assert_allclose(shift, np.rint(shift), atol=1e-6)


def test_phases_without_atoms_have_none():
    assert len(random_map("Cu").to_orix().phases[0].structure) == 0


def test_ang_round_trip(tmp_path, capsys):
    from orix.io import load

    omap = random_map("Cu", "Li2MnO3", "P-31m", shape=(6, 5), seed=4)
    omap.to_ang(tmp_path / "map.ang")
    xmap, expected = load(tmp_path / "map.ang"), omap.to_orix()
    assert xmap.shape == (5, 6)
    assert xmap.dx == xmap.dy == 5e-4
    assert xmap.scan_unit == "um"
    phase = xmap.get_map_data("phase_id").T
    np.testing.assert_array_equal(np.where(omap.valid, phase - 1, -1), omap.phase)
    valid = expected.is_indexed
    turned = angles_between(xmap.rotations.to_matrix()[valid], expected.rotations[:, 0].to_matrix()[valid])
    assert turned.max() < 2e-3  # five decimals
    np.testing.assert_allclose(xmap.prop["ci"][valid], expected.prop["confidence"][valid], atol=1e-5)
    for index, name in enumerate(("Cu", "Li2MnO3", "P-31m")):
        read, written = xmap.phases[index + 1], expected.phases[index]
        np.testing.assert_allclose(
            read.structure.lattice.abcABG(), written.structure.lattice.abcABG(), atol=1e-3
        )
        assert read.structure.title.split("-")[0] == name.split("-")[0]
        proper = written.point_group[~written.point_group.improper.astype(bool)]
        assert read.point_group.size == proper.size
        np.testing.assert_allclose(read.point_group.outer(proper).unique().size, proper.size)


@pytest.mark.parametrize(("names", "unindexed"), [(["Cu"], -1), (["Cu", "Ti"], 0)])
def test_ang_conventions(tmp_path, names, unindexed):
    omap = random_map(*names, shape=(6, 5), seed=2)
    omap.to_ang(tmp_path / "map.ang")
    header = [line for line in (tmp_path / "map.ang").read_text().split("\n") if line.startswith("#")]
    assert [line.split()[-1] for line in header if line.startswith("# MaterialName")] == names[::-1]
    symmetries = [line.split()[-1] for line in header if line.startswith("# Symmetry")]
    assert symmetries == {1: ["43"], 2: ["62", "43"]}[len(names)]
    assert sum(line.startswith("# SCANID: microinfer") and line.endswith("in µm") for line in header) == 1

    table = np.loadtxt(tmp_path / "map.ang")
    assert table.shape == (30, 10)
    valid = omap.valid.T.ravel()
    np.testing.assert_allclose(table[~valid, :3], 4 * np.pi, atol=1e-5)
    np.testing.assert_array_equal(table[~valid, 5:], [[0, -1, unindexed, 0, 180]] * np.sum(~valid))
    np.testing.assert_array_equal(table[valid, 7], omap.phase.T.ravel()[valid] + 1)
    matrix = omap.matrix.transpose(1, 0, 2, 3).reshape(-1, 3, 3)[valid].astype(float)
    bunge = Rotation.from_matrix(np.swapaxes(matrix, 1, 2)).as_euler("ZXZ")
    np.testing.assert_allclose(table[valid, :3], np.mod(bunge, 2 * np.pi), atol=1e-5)
    np.testing.assert_allclose(table[:6, 3], 5e-4 * np.arange(6))
    np.testing.assert_allclose(table[:6, 4], 0.0)


def test_ang_limits_are_stated(tmp_path):
    with pytest.raises(ValueError, match="two scan rows"):
        random_map("Cu", shape=(1, 4)).to_ang(tmp_path / "map.ang")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", ["ang", "ctf"])
@pytest.mark.parametrize(
    ("step", "micrometres", "columns"),
    [("2 nm", 0.002, 3), ("20 Å", 0.002, 3), ("1.234 nm", 1.234e-3, 400), ("0.3 Å", 3e-5, 3), (2.5, 2.5, 3)],
)
def test_orix_reads_steps_in_micrometres(tmp_path, step, micrometres, columns, suffix):
    from orix.io import load

    shape = (4, columns)
    omap = random_map("Cu", shape=shape, scan=Scan(shape, step), invalid=0.0, candidates=1)
    getattr(omap, f"to_{suffix}")(tmp_path / f"map.{suffix}")
    xmap = load(tmp_path / f"map.{suffix}")
    assert xmap.scan_unit == "um"
    assert xmap.shape == (columns, 4)
    assert (xmap.dx, xmap.dy) == pytest.approx((micrometres, micrometres), rel=1e-6)
    rx, ry = np.indices(shape)
    np.testing.assert_allclose(xmap.x, micrometres * rx.T.ravel(), atol=1e-8)
    np.testing.assert_allclose(xmap.y, micrometres * ry.T.ravel(), atol=1e-8)
    matrix = xmap.rotations.to_matrix().reshape(columns, 4, 3, 3).swapaxes(0, 1)
    assert angles_between(matrix, omap.matrix).max() < 2e-3
    if suffix == "ang":
        header = (tmp_path / "map.ang").read_text().split("# XSTEP: ")[1].split("\n")[0]
        assert float(header) == pytest.approx(micrometres, rel=1e-6)


@pytest.mark.parametrize("suffix", ["ang", "ctf"])
def test_an_export_is_replaced_only_where_that_is_asked_for(tmp_path, suffix):
    omap, path = random_map("Cu"), tmp_path / f"map.{suffix}"
    write = getattr(omap, f"to_{suffix}")
    write(path)
    whole = path.read_text()
    path.write_text("precious")
    with pytest.raises(
        FileExistsError, match=rf"the \.{suffix} file is there already; overwrite=True replaces it"
    ):
        write(path)
    assert path.read_text() == "precious"
    write(path, overwrite=True)
    assert path.read_text() == whole
    with pytest.raises(
        ValueError, match=rf"map\.txt: the name of the \.{suffix} file must end in \.{suffix}"
    ):
        write(tmp_path / "map.txt")
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def hkl_matrix(table):
    """Orientations of a .ctf table in HKL's crystal frame."""
    return Rotation.from_euler("ZXZ", table[:, 5:8], degrees=True).inv().as_matrix()


@pytest.mark.parametrize(
    ("name", "laue", "turn_to_hkl"),
    [
        ("Cu", 11, np.eye(3)),
        ("Ti", 9, turn([0, 0, -1], 12)),
        ("quartz", 7, turn([0, 0, -1], 12)),
        ("forsterite", 3, np.eye(3)),
    ],
)
def test_ctf_is_in_hkl_frame(tmp_path, name, laue, turn_to_hkl):
    omap = random_map(name, shape=(4, 5), seed=7)
    omap.to_ctf(tmp_path / "map.ctf")
    lines = (tmp_path / "map.ctf").read_text().split("\n")
    assert lines[0] == "Channel Text File"
    assert {"XCells\t4", "YCells\t5", "XStep\t0.0005", "YStep\t0.0005"} <= set(lines)
    parameters = lines[lines.index("Phases\t1") + 1].split("\t")
    assert parameters[2:5] == [name, str(laue), "0"]
    table = np.loadtxt(lines[lines.index("Phases\t1") + 3 :])
    valid = omap.valid.T.ravel()
    np.testing.assert_array_equal(table[:, 0], valid)
    np.testing.assert_array_equal(table[~valid, 4], 3)
    np.testing.assert_array_equal(table[:, 9], np.rint(255 * omap.confidence.T.ravel()))
    np.testing.assert_allclose(table[:5, 1], 5e-4 * np.array([0, 1, 2, 3, 0]))
    matrix = omap.matrix.transpose(1, 0, 2, 3).reshape(-1, 3, 3)
    assert angles_between(hkl_matrix(table)[valid], (turn_to_hkl @ matrix)[valid]).max() < 1e-4


@pytest.mark.parametrize("name", PHASES)
def test_ctf_makes_the_same_pattern_in_hkl_frame(tmp_path, name):
    phase = PHASES[name]
    omap = random_map(name, shape=(1, 3), invalid=0.0, seed=8)
    omap.to_ctf(tmp_path / "map.ctf")
    lines = (tmp_path / "map.ctf").read_text().split("\n")
    first = lines.index("Phases\t1") + 1
    numbers = lines[first].split("\t")
    a, b, c, alpha, beta, gamma = (float(x) for x in ";".join(numbers[:2]).split(";"))
    matrix = hkl_matrix(np.loadtxt(lines[first + 2 :]))
    # HKL: c along z, a* along x, from the file's lattice constants alone
    ca, cb, cg = np.cos(np.deg2rad([alpha, beta, gamma]))
    metric = np.outer([a, b, c], [a, b, c]) * [[1, cg, cb], [cg, 1, ca], [cb, ca, 1]]
    lower = np.linalg.cholesky(
        metric[::-1, ::-1]
    )  # rows c, b, a: c on the first axis, b in the plane of the first two
    basis = lower[::-1, ::-1]
    laue = {1: "-1", 2: "2/m", 3: "mmm", 7: "-3m", 9: "6/mmm", 11: "m-3m"}[int(numbers[3])]
    hkl = phase.reflections[:, :3] @ export_frame(phase, [laue]).cell.T
    for index in range(3):
        before = our_disks(phase, omap.matrix[0, index])
        after = disks(hkl, phase.reflections[:, 3], np.linalg.inv(basis).T, matrix[index])
        assert_same_disks(before, after, 2e-4)


@pytest.mark.parametrize(("name", "off"), [("Cu", 0.0), ("Ti", 30.0), ("calcite", 30.0), ("Li2MnO3", 19.2)])
def test_orix_reads_ctf_without_turning_the_frame(tmp_path, name, off):
    from orix.io import load

    omap = random_map(name, shape=(4, 5), seed=9)
    omap.to_ctf(tmp_path / "map.ctf")
    xmap, expected = load(tmp_path / "map.ctf"), omap.to_orix()
    assert xmap.shape == (5, 4)
    np.testing.assert_array_equal(xmap.is_indexed, expected.is_indexed)
    assert xmap.phases[1].point_group.laue.name == expected.phases[0].point_group.laue.name
    valid = expected.is_indexed
    apart = angles_between(xmap.rotations.to_matrix()[valid], expected.rotations[:, 0].to_matrix()[valid])
    np.testing.assert_allclose(apart, off, atol=1e-3)


@pytest.mark.parametrize("name", ["Cu", "Ti", "quartz", "calcite", "Li2MnO3"])
def test_ctf_for_orix(tmp_path, name):
    from orix.io import load

    omap = random_map(name, shape=(4, 5), seed=9)
    omap.to_ctf(tmp_path / "map.ctf", frame="orix")
    xmap, expected = load(tmp_path / "map.ctf"), omap.to_orix()
    valid = expected.is_indexed
    apart = angles_between(xmap.rotations.to_matrix()[valid], expected.rotations[:, 0].to_matrix()[valid])
    np.testing.assert_allclose(apart, 0.0, atol=1e-3)


def test_ctf_says_how_its_axes_lie(tmp_path):
    omap = random_map("Ti", shape=(4, 5))
    for options, text in (
        ({}, "X along a*, Z along c (HKL, MTEX)"),
        ({"frame": "orix"}, "X along a, Z along c* (orix)"),
    ):
        omap.to_ctf(tmp_path / "map.ctf", overwrite=True, **options)
        lines = (tmp_path / "map.ctf").read_text().split("\n")
        assert lines[2].startswith("Author\tmicroinfer ")
        assert lines[2].endswith(f"crystal axes of the Euler angles: {text}")
    with pytest.raises(ValueError, match="frame must be one of hkl, orix, got 'mtex'"):
        omap.to_ctf(tmp_path / "map.ctf", frame="mtex", overwrite=True)


def test_ctf_of_several_phases_and_none(tmp_path):
    omap = random_map("Cu", "Ti", shape=(4, 5), seed=3)
    omap.to_ctf(tmp_path / "map.ctf")
    lines = (tmp_path / "map.ctf").read_text().split("\n")
    table = np.loadtxt(lines[lines.index("Phases\t2") + 4 :])
    np.testing.assert_array_equal(table[:, 0], omap.phase.T.ravel() + 1)
    random_map("Cu", invalid=1.1).to_ctf(tmp_path / "none.ctf")
    lines = (tmp_path / "none.ctf").read_text().split("\n")
    assert not np.loadtxt(lines[lines.index("Phases\t1") + 3 :])[:, [0, 5, 6, 7]].any()


def test_gimbal_lock_is_no_obstacle(tmp_path):
    from orix.io import load

    exact = np.array([turn([0, 0, 1], order) for order in (1, 3, 5, 7, 9, 11)])
    exact[3:] = turn([1, 0, 0], 2) @ exact[3:]
    omap = random_map("Cu", shape=(2, 3), invalid=0.0, candidates=1)
    omap = omap.replace(matrix=exact.reshape(2, 3, 1, 3, 3))
    for suffix in ("ang", "ctf"):
        getattr(omap, f"to_{suffix}")(tmp_path / f"map.{suffix}")
        matrix = load(tmp_path / f"map.{suffix}").rotations.to_matrix().reshape(3, 2, 3, 3)
        assert angles_between(matrix.transpose(1, 0, 2, 3), omap.matrix).max() < 2e-3
