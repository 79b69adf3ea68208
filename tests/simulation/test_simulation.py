"""Simulated patterns against py4DSTEM itself, and the pattern library."""

import dataclasses
from pathlib import Path

import h5py
import numpy as np
import pytest

from helpers.optional import import_py4dstem, needs_py4dstem
from microinfer.crystals.structure import load_structure
from microinfer.crystals.symmetry import in_fundamental_cell, random_orientations
from microinfer.simulation import PatternLibrary, PatternSimulator, load_library, simulate_library
from microinfer.simulation.settings import PhaseConfig, SimulationConfig
from microinfer.simulation.simulate import SimulationTask, _Worker, library_tasks
from microinfer.simulation.unfinished import UnfinishedLibrary
from microinfer.training.config import Config

TINY = SimulationConfig(zone_axes=8, thicknesses=2, k_max=1.0, thickness_nm=(7.0, 70.0))
ARRAYS = ("orientation", "phase", "zone", "thickness")
DISKS = ("offsets", "qx", "qy", "intensity")


def config(**simulation) -> Config:
    return Config("tiny", (PhaseConfig("Cu"),), dataclasses.replace(TINY, **simulation))


def equal(first: PatternLibrary, second: PatternLibrary) -> bool:
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in ARRAYS) and all(
        np.array_equal(getattr(first.peaks, name), getattr(second.peaks, name)) for name in DISKS
    )


@pytest.fixture(scope="module")
def library() -> PatternLibrary:
    import_py4dstem()
    return simulate_library(config(), processes=1)


@needs_py4dstem
@pytest.mark.parametrize(("name", "k_max"), [("Cu", 1.2), ("Cu2O", 0.9)])
def test_patterns_are_those_of_py4dstem_with_every_beam(name, k_max):
    settings = dataclasses.replace(TINY, k_max=k_max, intensity_min=1e-6)
    structure = load_structure(name)
    crystal = structure.to_py4dstem()
    crystal.setup_diffraction(settings.voltage)
    crystal.calculate_structure_factors(k_max, tol_structure_factor=-1.0)
    crystal.calculate_dynamical_structure_factors(
        settings.voltage,
        settings.structure_factors,
        k_max=2 * k_max,
        thermal_sigma=settings.thermal_sigma,
        tol_structure_factor=-1.0,
    )
    simulator = PatternSimulator(structure, settings)
    thicknesses = np.array([95.0, 430.0])
    for orientation in [np.eye(3), *random_orientations(1, np.random.default_rng(3))]:
        beams = crystal.generate_diffraction_pattern(
            orientation_matrix=orientation,
            sigma_excitation_error=settings.excitation_error_sigma,
            tol_intensity=-1.0,
            k_max=k_max,
        )
        expected = crystal.generate_dynamical_diffraction_pattern(
            beams, list(thicknesses), zone_axis_cartesian=orientation[:, 2], always_return_list=True
        )
        for pattern, solution in zip(simulator.patterns(orientation, thicknesses), expected, strict=True):
            data = solution.data[
                (solution.data["h"] != 0) | (solution.data["k"] != 0) | (solution.data["l"] != 0)
            ]
            strongest = data["intensity"].max()
            q = np.stack([data["qx"], data["qy"]], axis=-1)
            distance = np.linalg.norm(pattern[:, None, :2] - q, axis=-1)
            nearest = distance.argmin(1)
            assert len(pattern) > 3
            assert len(set(nearest)) == len(pattern)
            assert distance.min(1).max() < 1e-5
            np.testing.assert_allclose(
                pattern[:, 2], data["intensity"][nearest], atol=1e-5 * strongest, rtol=0
            )
            left_out = np.delete(data["intensity"], nearest)
            assert left_out.max(initial=0.0) < 1e-5 * strongest


@needs_py4dstem
def test_disks_are_the_projected_reflections_and_the_beam_is_left_out():
    structure = load_structure("Cu")
    simulator = PatternSimulator(structure, dataclasses.replace(TINY, method="kinematic"))
    phase = structure.phase(TINY.k_max)
    orientation = random_orientations(1, np.random.default_rng(5))[0]
    first, second = simulator.patterns(orientation, np.array([50.0, 500.0]))
    np.testing.assert_array_equal(first, second)  # kinematic: no effect of thickness
    g = phase.reflections[:, :3] @ phase.reciprocal @ orientation  # rows of M.T @ g
    assert np.linalg.norm(first[:, None, :2] - g[:, :2], axis=-1).min(1).max() < 1e-4
    assert np.hypot(first[:, 0], first[:, 1]).min() > 0.3
    assert first[:, 2].min() > TINY.intensity_min * first[:, 2].max()


def test_number_of_processes_does_not_change_the_library(library, monkeypatch):
    monkeypatch.setattr("microinfer.simulation.simulate.BLOCK", 4)  # two tasks
    assert equal(simulate_library(config(), processes=2), library)


def test_seed_makes_the_library(library):
    assert equal(simulate_library(config(), processes=1), library)
    other = simulate_library(config(seed=1), processes=1)
    assert not np.allclose(other.orientation, library.orientation)
    assert not np.allclose(other.thickness, library.thickness)


def test_labels_of_the_library(library):
    assert len(library) == 16
    assert library.peaks.scan_shape == (16, 1)
    np.testing.assert_array_equal(library.zone, np.repeat(np.arange(8), 2))
    np.testing.assert_array_equal(library.phase, 0)
    operators = library.phases[0].operators
    assert in_fundamental_cell(library.orientation[:, :, 2].astype(float), operators).all()
    np.testing.assert_allclose(np.linalg.det(library.orientation), 1.0, atol=1e-5)
    low, high = (10.0 * bound for bound in TINY.thickness_nm)
    assert np.all((library.thickness >= low) & (library.thickness <= high))
    assert len(np.unique(library.thickness)) == 16


@needs_py4dstem
def test_second_phase_has_zone_axes_of_its_own():
    two = dataclasses.replace(
        config(zone_axes=2, method="kinematic"), phases=(PhaseConfig("Cu"), PhaseConfig("Cu2O"))
    )
    library = simulate_library(two, processes=1)
    np.testing.assert_array_equal(library.phase, [0] * 4 + [1] * 4)
    np.testing.assert_array_equal(library.zone, [0, 0, 1, 1, 2, 2, 3, 3])
    assert [phase.name for phase in library.phases] == ["Cu", "Cu2O"]


@needs_py4dstem
def test_a_place_that_cannot_be_written_is_found_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr("microinfer.simulation.simulate.simulate_tasks", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(OSError, match=r"folder .*missing does not exist"):
        simulate_library(config(), tmp_path / "missing" / "library.h5")


def test_some_zone_axes_of_a_library_alone(library):
    tasks = [
        SimulationTask(task.phase, task.orientations[[zone]], task.thicknesses[[zone]])
        for task in library_tasks(config())
        for zone in range(len(task.orientations))
    ]
    some = simulate_library(config(), tasks=[tasks[2], tasks[5]], processes=1)
    there = np.flatnonzero(np.isin(library.zone, [2, 5]))
    assert np.array_equal(some.orientation, library.orientation[there])
    for mine, place in enumerate(there):
        assert np.array_equal(some.peaks.pattern(mine, 0), library.peaks.pattern(int(place), 0))
    with pytest.raises(ValueError, match="not both"):
        simulate_library(config(), "library.h5", tasks=tasks)


@pytest.mark.parametrize("sampling", ["random", "standard_triangle"])
def test_a_library_that_was_interrupted_is_the_same(library, tmp_path, monkeypatch, sampling):
    monkeypatch.setattr("microinfer.simulation.simulate.BLOCK", 1)
    settings = config(sampling=sampling, zone_axis_step=15.0, method="kinematic")
    whole = simulate_library(settings, processes=1)
    path, call, calls = tmp_path / "library.h5", _Worker.__call__, []

    def interrupted(worker, task):
        calls.append(task.orientations)
        if len(calls) in (3, 6):
            raise KeyboardInterrupt
        return call(worker, task)

    monkeypatch.setattr(_Worker, "__call__", interrupted)
    for resume in (False, True):
        with pytest.raises(KeyboardInterrupt):
            simulate_library(settings, path, resume=resume, processes=1)
        assert [file.name for file in tmp_path.iterdir()] == ["library.h5.part"]
    with pytest.raises(
        FileExistsError, match=r"holds unfinished work: resume it \(--resume\), or remove the file"
    ):
        simulate_library(settings, path, processes=1)
    with pytest.raises(
        ValueError, match=r"library\.h5\.part was begun with other settings: k_max 1\.0, now 1\.1"
    ):
        simulate_library(
            dataclasses.replace(settings, simulation=dataclasses.replace(settings.simulation, k_max=1.1)),
            path,
            resume=True,
            processes=1,
        )
    finished = simulate_library(settings, path, resume=True, processes=1)
    assert len(calls) == len(library_tasks(settings)) + 2  # none twice but for those that were interrupted
    for copy in (finished, load_library(path)):
        assert equal(copy, whole)
        assert copy.phases[0].to_dict() == whole.phases[0].to_dict()
        assert copy.simulation == whole.simulation
        np.testing.assert_array_equal(copy.in_plane_bound, whole.in_plane_bound)
    assert [file.name for file in tmp_path.iterdir()] == ["library.h5"]
    with pytest.raises(FileNotFoundError, match="nothing to resume"):
        simulate_library(settings, path, resume=True, processes=1)


@needs_py4dstem
def test_a_process_that_is_killed_as_it_writes_leaves_what_it_wrote_before(tmp_path, monkeypatch):
    monkeypatch.setattr("microinfer.simulation.simulate.BLOCK", 1)
    monkeypatch.setattr("microinfer.simulation.unfinished.SECONDS", 0.0)
    settings = config(method="kinematic")
    whole, path, kept = simulate_library(settings, processes=1), tmp_path / "library.h5", tmp_path / "kept"
    write, call, calls = UnfinishedLibrary.write, _Worker.__call__, []

    def killed(unfinished):
        write(unfinished)
        if unfinished.tasks == 5:
            content = (tmp_path / "library.h5.part").read_bytes()
            kept.write_bytes(content[:-7])  # the last record is not whole
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(UnfinishedLibrary, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            simulate_library(settings, path, processes=1)
    kept.replace(tmp_path / "library.h5.part")
    monkeypatch.setattr(_Worker, "__call__", lambda worker, task: calls.append(task) or call(worker, task))
    assert equal(simulate_library(settings, path, resume=True, processes=1), whole)
    assert len(calls) == 8 - 4


@needs_py4dstem
def test_an_unfinished_library_of_another_crystal_or_none_is_refused(tmp_path, monkeypatch):
    settings, path = config(method="kinematic"), tmp_path / "library.h5"
    with monkeypatch.context() as patched:
        patched.setattr("microinfer.simulation.simulate._phases", broken)
        with pytest.raises(RuntimeError, match="broken"):
            simulate_library(settings, path, processes=1)
    with pytest.raises(
        ValueError, match=r"library\.h5\.part was begun with other settings: crystals 'Cu \w+', now"
    ):
        simulate_library(settings.for_structures("Cu2O"), path, resume=True, processes=1)
    (tmp_path / "library.h5.part").write_text("no HDF5")
    with pytest.raises(
        ValueError, match=r"library\.h5\.part is not an unfinished microinfer pattern library"
    ):
        simulate_library(settings, path, resume=True, processes=1)


def broken(*arguments):
    raise RuntimeError("broken")


def test_packages_are_missed_before_the_work(monkeypatch):
    monkeypatch.setattr("microinfer.extras.find_spec", lambda name: None)
    with pytest.raises(
        ImportError, match=r'simulation needs py4DSTEM: .*pip install -c constraints.txt "py4DSTEM'
    ):
        simulate_library(config())


def test_library_round_trip(library, tmp_path):
    path = tmp_path / "library.h5"
    library.save(path)
    copy = load_library(path)
    assert equal(copy, library)
    assert copy.simulation == library.simulation
    assert copy.phases[0].to_dict() == library.phases[0].to_dict()
    assert [file.name for file in tmp_path.iterdir()] == ["library.h5"]


@pytest.mark.parametrize("damage", ["foreign", "text", "newer", "incomplete"])
def test_files_that_are_no_library_are_refused(library, tmp_path, damage):
    path: Path = tmp_path / "other.h5"
    library.save(path)
    if damage == "text":
        path.write_text("no HDF5")
    else:
        with h5py.File(path, "a") as file:
            if damage == "foreign":
                del file.attrs["format"]
            elif damage == "newer":
                file.attrs["version"] = 4
            else:
                del file["qx"]
    with pytest.raises(ValueError, match=r"other\.h5"):
        load_library(path)
